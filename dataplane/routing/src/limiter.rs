//! Local rate limits: which bucket a request takes from, and what becomes of it when that is empty (Envoy's
//! `envoy.filters.http.local_ratelimit`).
//!
//! ```text
//! request -> recipes -> descriptors -> their buckets, all of them -> the bucket for everything -> passed | refused
//! ```

use crate::Mutation;
use crate::bucket::{Bucket, Level};
use crate::decode::duration;
use crate::descriptor::{Descriptor, Limited, Recipe};
use api::envoy::envoy::config::core::v3::RuntimeFractionalPercent;
use api::envoy::envoy::extensions::common::ratelimit::v3 as common;
use api::envoy::envoy::extensions::filters::http::local_ratelimit::v3::LocalRateLimit;
use api::envoy::envoy::r#type::v3::{TokenBucket, fractional_percent::DenominatorType};
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

/// One rate limit with its buckets.
#[derive(Debug)]
pub struct Limiter {
    /// What its counters are called.
    pub name: Box<str>,
    /// The status of a refused request.
    pub status: u16,
    /// Whether gRPC is told that a resource is exhausted, and not that the service is unavailable.
    pub as_exhausted: bool,
    /// What a refused request's answer gets.
    pub response: Mutation,
    /// What a request gets that would have been refused, but is let by.
    pub unenforced: Mutation,
    /// Whether answers say what is left (`x-ratelimit-*`).
    pub shows: bool,
    /// Whether a refused request is told when to come again (`retry-after`).
    pub tells_when: bool,
    enabled: Share,
    enforced: Share,
    stage: u32,
    recipes: Vec<Recipe>,
    otherwise: Option<Bucket>,
    /// Whether a request that a descriptor speaks of takes from `otherwise` as well.
    both: bool,
    buckets: HashMap<Descriptor, Bucket>,
    open: Vec<Open>,
    most_open: usize,
}

/// What a rate limit says of one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ruling {
    /// It does not speak of it.
    Silent,
    /// There were tokens.
    Passed(Option<Level>),
    /// There were none, but it is only watched.
    Unenforced,
    /// There were none.
    Refused(Level),
}

/// A key, and its value unless that is left open.
type OpenEntry = (Box<str>, Option<Box<str>>);

/// A descriptor with values left open: each value has a bucket of its own.
#[derive(Debug)]
struct Open {
    /// Keys with the values that they must have.
    entries: Vec<OpenEntry>,
    bucket: TokenBucket,
    buckets: RwLock<HashMap<Descriptor, Arc<Used>>>,
    /// Counts what is used, for who was used last.
    clock: AtomicU64,
}

#[derive(Debug)]
struct Used {
    bucket: Bucket,
    last: AtomicU64,
}

/// A share of requests: so many of so many.
#[derive(Debug, Clone, Copy)]
struct Share(u64, u64);

/// How many values of an open descriptor have buckets, unless it says otherwise: Envoy's.
const MOST_OPEN: u32 = 20;
const TOO_MANY: u16 = 429;

// === impl Limiter ===

impl Limiter {
    pub(crate) fn parse(limit: &LocalRateLimit) -> Result<Self, String> {
        if limit.local_cluster_rate_limit.is_some() || limit.local_rate_limit_per_downstream_connection {
            return Err(
                "local_cluster_rate_limit and local_rate_limit_per_downstream_connection are not accepted".into()
            );
        }
        let status = limit.status.as_ref().and_then(|status| u16::try_from(status.code).ok());
        let (mut buckets, mut open) = (HashMap::new(), Vec::new());
        for one in &limit.descriptors {
            let settings = one.token_bucket.ok_or("descriptors: token_bucket is expected")?;
            let made = bucket(&settings)?;
            if one.entries.iter().all(|entry| !entry.value.is_empty()) {
                let key = one.entries.iter().map(|entry| (entry.key.as_str().into(), entry.value.as_str().into()));
                buckets.insert(key.collect(), made);
            } else {
                open.push(Open::new(one, settings));
            }
        }
        let most_open = limit.max_dynamic_descriptors.as_ref().map_or(MOST_OPEN, |most| most.value.max(1));
        Ok(Self {
            name: limit.stat_prefix.as_str().into(),
            status: status.filter(|status| (400..600).contains(status)).unwrap_or(TOO_MANY),
            as_exhausted: limit.rate_limited_as_resource_exhausted,
            response: Mutation::parse(&limit.response_headers_to_add, &[])?,
            unenforced: Mutation::parse(&limit.request_headers_to_add_when_not_enforced, &[])?,
            shows: limit.enable_x_ratelimit_headers() == common::XRateLimitHeadersRfcVersion::DraftVersion03,
            tells_when: limit.enable_retry_after_header,
            enabled: Share::parse(limit.filter_enabled.as_ref()),
            enforced: Share::parse(limit.filter_enforced.as_ref()),
            stage: limit.stage,
            recipes: limit.rate_limits.iter().map(Recipe::parse).collect::<Result<_, _>>()?,
            otherwise: limit.token_bucket.as_ref().map(bucket).transpose()?,
            both: limit.always_consume_default_token_bucket.as_ref().is_none_or(|both| both.value),
            buckets,
            open,
            most_open: usize::try_from(most_open).unwrap_or(usize::MAX),
        })
    }

    /// Takes the tokens of `request` at `now` (since any fixed moment); `of_route` are the route's recipes, which count
    /// where it has none of its own. `draw` gives random numbers.
    pub(crate) fn rule(
        &self,
        request: &Limited<'_>,
        of_route: &[Recipe],
        now: Duration,
        mut draw: impl FnMut() -> u64,
    ) -> Ruling {
        if !self.enabled.holds(&mut draw) {
            return Ruling::Silent;
        }
        let ruling = self.take(request, of_route, now);
        match ruling {
            Ruling::Refused(_) if !self.enforced.holds(&mut draw) => Ruling::Unenforced,
            ruling => ruling,
        }
    }

    fn take(&self, request: &Limited<'_>, of_route: &[Recipe], now: Duration) -> Ruling {
        let own = &self.recipes[..];
        let recipes = if own.is_empty() { of_route } else { own };
        let recipes = recipes.iter().filter(|recipe| !own.is_empty() || recipe.stage == self.stage);
        // What is left in the bucket that fills most slowly is what an answer tells.
        let (mut spoken, mut strictest) = (false, None::<Level>);
        for descriptor in recipes.filter_map(|recipe| recipe.descriptor(request)) {
            let taken = match self.buckets.get(&descriptor) {
                Some(bucket) => Some((bucket.take(now), bucket.level(now))),
                None => self.open.iter().find_map(|open| open.take(&descriptor, self.most_open, now)),
            };
            let Some((passed, level)) = taken else { continue };
            if !passed {
                return Ruling::Refused(level);
            }
            spoken = true;
            if strictest.is_none_or(|known| level.remaining < known.remaining) {
                strictest = Some(level);
            }
        }
        if let Some(bucket) = self.otherwise.as_ref().filter(|_| self.both || !spoken) {
            if !bucket.take(now) {
                return Ruling::Refused(bucket.level(now));
            }
            strictest = strictest.or_else(|| Some(bucket.level(now)));
        }
        Ruling::Passed(strictest)
    }
}

fn bucket(settings: &TokenBucket) -> Result<Bucket, String> {
    let interval = duration(settings.fill_interval.as_ref()).filter(|interval| !interval.is_zero());
    let interval = interval.ok_or("token_bucket: a fill_interval greater than 0 is expected")?;
    let per_fill = settings.tokens_per_fill.as_ref().map_or(1, |tokens| tokens.value);
    if per_fill == 0 {
        return Err("token_bucket: tokens_per_fill: 1 or more is expected".into());
    }
    Ok(Bucket::new(settings.max_tokens, per_fill, interval))
}

// === impl Open ===

impl Open {
    fn new(descriptor: &common::LocalRateLimitDescriptor, bucket: TokenBucket) -> Self {
        let value = |value: &str| (!value.is_empty()).then(|| value.into());
        Self {
            entries: descriptor.entries.iter().map(|one| (one.key.as_str().into(), value(&one.value))).collect(),
            bucket,
            buckets: RwLock::default(),
            clock: AtomicU64::new(0),
        }
    }

    /// Takes from the bucket of `descriptor`, if it is one of these; whether there was a token, and what is left.
    fn take(&self, descriptor: &Descriptor, most: usize, now: Duration) -> Option<(bool, Level)> {
        let fits = |(wanted, is): (&OpenEntry, &(Box<str>, Box<str>))| {
            wanted.0 == is.0 && wanted.1.as_ref().is_none_or(|value| *value == is.1)
        };
        if self.entries.len() != descriptor.len() || !self.entries.iter().zip(descriptor).all(fits) {
            return None;
        }
        let known = self.buckets.read().unwrap_or_else(PoisonError::into_inner).get(descriptor).cloned();
        let used = match known {
            Some(used) => used,
            None => self.begin(descriptor, most)?,
        };
        used.last.store(self.clock.fetch_add(1, Ordering::Relaxed), Ordering::Relaxed);
        Some((used.bucket.take(now), used.bucket.level(now)))
    }

    /// A bucket for a value that is new; the one that was used longest ago makes room.
    fn begin(&self, descriptor: &Descriptor, most: usize) -> Option<Arc<Used>> {
        let mut buckets = self.buckets.write().unwrap_or_else(PoisonError::into_inner);
        if buckets.len() >= most && !buckets.contains_key(descriptor) {
            let oldest = buckets.iter().min_by_key(|(_, used)| used.last.load(Ordering::Relaxed));
            let oldest = oldest.map(|(descriptor, _)| descriptor.clone());
            oldest.and_then(|oldest| buckets.remove(&oldest));
        }
        if let Some(known) = buckets.get(descriptor) {
            return Some(known.clone());
        }
        // The settings made a bucket before.
        let used = Arc::new(Used { bucket: bucket(&self.bucket).ok()?, last: AtomicU64::new(0) });
        buckets.insert(descriptor.clone(), used.clone());
        Some(used)
    }
}

// === impl Share ===

impl Share {
    /// None of them if nothing is said: Envoy's rule.
    fn parse(share: Option<&RuntimeFractionalPercent>) -> Self {
        let Some(value) = share.and_then(|share| share.default_value.as_ref()) else { return Self(0, 1) };
        let of = match value.denominator() {
            DenominatorType::Hundred => 100,
            DenominatorType::TenThousand => 10_000,
            DenominatorType::Million => 1_000_000,
        };
        Self(value.numerator.into(), of)
    }

    fn holds(self, draw: &mut impl FnMut() -> u64) -> bool {
        self.0 >= self.1 || (self.0 > 0 && draw() % self.1 < self.0)
    }
}
