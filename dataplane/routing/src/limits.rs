//! The rate limits of a listener and its routes, and the buckets that outlive a swap of the table.

use crate::decode::unpack;
use crate::descriptor::{Limited, Recipe};
use crate::limiter::{Limiter, Ruling};
use crate::{HttpHandler, Policies, Route};
use api::envoy::envoy::config::route::v3::RateLimit;
use api::envoy::envoy::extensions::filters::http::local_ratelimit::v3::LocalRateLimit;
use api::envoy::google::protobuf::Any;
use prost::Name;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

/// Every rate limit that a table in use has, by where it stands and what it says: one that is said again, unchanged, keeps
/// its tokens.
#[derive(Debug, Default)]
pub(crate) struct Limiters(Mutex<HashMap<Key, Weak<Limiter>>>);

/// Where a rate limit stands, and its settings encoded.
type Key = (Box<str>, Vec<u8>);

/// Rate limits by the names of their filters.
pub(crate) type ByFilter = Vec<(Box<str>, Arc<Limiter>)>;

/// What a route says of rate limits.
#[derive(Debug, Clone, Default)]
pub(crate) struct RouteLimits {
    /// In place of the listener's own.
    limiters: ByFilter,
    recipes: Arc<[Recipe]>,
}

/// How many are known before it is looked which are gone.
const FORGET_ABOVE: usize = 256;

// === impl Limiters ===

impl Limiters {
    /// The rate limit that `config` holds, if it is one, at `place`.
    pub(crate) fn read(&self, place: &str, config: &Any) -> Option<Result<Arc<Limiter>, String>> {
        if !is_limit(config) {
            return None;
        }
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (place.into(), config.value.clone());
        if let Some(limiter) = known.get(&key).and_then(Weak::upgrade) {
            return Some(Ok(limiter));
        }
        let limit = unpack::<LocalRateLimit>(config)?.map_err(|error| error.to_string());
        let limiter = match limit.and_then(|limit| Limiter::parse(&limit)) {
            Ok(limiter) => Arc::new(limiter),
            Err(reason) => return Some(Err(format!("local_ratelimit: {reason}"))),
        };
        if known.len() >= FORGET_ABOVE {
            known.retain(|_, limiter| limiter.strong_count() > 0);
        }
        known.insert(key, Arc::downgrade(&limiter));
        Some(Ok(limiter))
    }
}

/// Whether `config` is a local rate limit's.
pub(crate) fn is_limit(config: &Any) -> bool {
    config.type_url.ends_with(&format!("/{}", LocalRateLimit::full_name()))
}

// === impl RouteLimits ===

impl RouteLimits {
    /// What `limits` and `configs` say at `place`, beneath `above`: a route counts before its host, and a host before the
    /// whole table (Envoy's rule).
    pub(crate) fn parse<'a>(
        place: &str,
        limits: &[RateLimit],
        configs: impl Iterator<Item = (&'a String, &'a Any)>,
        above: &Self,
        limiters: &Limiters,
    ) -> Result<Self, String> {
        let mut found = ByFilter::new();
        for (filter, config) in configs {
            if Policies::is_of_route(config) {
                return Err(format!("typed_per_filter_config: {filter:?}: rbac is accepted in listeners alone"));
            }
            if let Some(limiter) = limiters.read(&format!("{place}/{filter}"), config) {
                found.push((filter.as_str().into(), limiter?));
            }
        }
        for (filter, limiter) in &above.limiters {
            if found.iter().all(|(known, _)| known != filter) {
                found.push((filter.clone(), limiter.clone()));
            }
        }
        let own: Arc<[Recipe]> = limits.iter().map(Recipe::parse).collect::<Result<_, _>>()?;
        Ok(Self { limiters: found, recipes: if own.is_empty() { above.recipes.clone() } else { own } })
    }

    fn of<'a>(&'a self, filter: &str) -> Option<&'a Arc<Limiter>> {
        self.limiters.iter().find(|(name, _)| **name == *filter).map(|(_, limiter)| limiter)
    }
}

// === impl HttpHandler ===

impl HttpHandler {
    /// Whether any request is limited.
    pub fn is_limited(&self) -> bool {
        !self.limits.is_empty()
    }

    /// What its rate limits say of a request that takes `route` at `now` (since any fixed moment), in their order, to the
    /// first that refuses it. `draw` gives random numbers.
    pub fn rulings<'a>(
        &'a self,
        route: &'a Route,
        request: &Limited<'_>,
        now: Duration,
        mut draw: impl FnMut() -> u64,
    ) -> Vec<(&'a Limiter, Ruling)> {
        let mut rulings = Vec::new();
        for (filter, own) in &self.limits {
            let Some(limiter) = route.limits.of(filter).or(own.as_ref()) else { continue };
            let ruling = limiter.rule(request, &route.limits.recipes, now, &mut draw);
            rulings.push((&**limiter, ruling));
            if matches!(ruling, Ruling::Refused(_)) {
                break;
            }
        }
        rulings
    }
}
