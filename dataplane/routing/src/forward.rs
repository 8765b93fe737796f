//! A request is forwarded: to which upstream, how changed, for how long, with whose copy.

use crate::condition::Condition;
use crate::decode::duration;
use crate::fault::Fraction;
use crate::hash::{self, Alike, Key};
use crate::rewrite::Rewrite;
use crate::{Asked, Mutation, RetryPolicy};
use api::envoy::envoy::config::route::v3 as proto;
use proto::route_action::{ClusterNotFoundResponseCode, ClusterSpecifier, HostRewriteSpecifier};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

/// How a request is forwarded.
#[derive(Debug, Clone)]
pub struct Forward {
    targets: Vec<Target>,
    /// The sum of the targets' weights.
    total: u64,
    /// How long the whole request may take; for ever if absent.
    pub timeout: Option<Duration>,
    /// When it is tried again.
    pub retries: RetryPolicy,
    /// The status of requests for an upstream that nobody knows.
    pub unknown: u16,
    authority: Option<Box<str>>,
    rewrite: Option<Rewrite>,
    mirrors: Vec<(Arc<str>, Fraction)>,
    keys: Vec<Key>,
}

/// An upstream of a route.
#[derive(Debug, Clone)]
pub struct Target {
    /// Its name.
    pub upstream: Arc<str>,
    /// What happens to the request's fields if it goes there.
    pub request: Mutation,
    /// What happens to the answer's fields if it comes from there.
    pub response: Mutation,
    authority: Option<Box<str>>,
    weight: u64,
}

// === impl Forward ===

impl Forward {
    pub(crate) fn parse(action: &proto::RouteAction) -> Result<Self, String> {
        let targets = match &action.cluster_specifier {
            Some(ClusterSpecifier::Cluster(upstream)) => vec![Target::only(upstream)],
            Some(ClusterSpecifier::WeightedClusters(weighted)) => {
                weighted.clusters.iter().map(Target::parse).collect::<Result<Vec<_>, _>>()?
            }
            _ => return Err("route: cluster or weighted_clusters is accepted".into()),
        };
        let total = targets.iter().map(|target| target.weight).sum();
        if total == 0 {
            return Err("weighted_clusters: a sum of weights greater than 0 is expected".into());
        }
        let authority = match &action.host_rewrite_specifier {
            None => None,
            Some(HostRewriteSpecifier::HostRewriteLiteral(host)) => Some(host.as_str().into()),
            Some(_) => return Err("route: host_rewrite_literal is accepted".into()),
        };
        let rewrite = match (&action.regex_rewrite, action.prefix_rewrite.as_str()) {
            (Some(rewrite), _) => Some(Rewrite::regex(rewrite)?),
            (None, "") => None,
            (None, prefix) => Some(Rewrite::Matched(prefix.into())),
        };
        let mirror = |policy: &proto::route_action::RequestMirrorPolicy| {
            let share = policy.runtime_fraction.as_ref().and_then(|fraction| fraction.default_value.as_ref());
            (Arc::from(policy.cluster.as_str()), Fraction::parse(share))
        };
        Ok(Self {
            targets,
            total,
            timeout: duration(action.timeout.as_ref()).filter(|timeout| !timeout.is_zero()),
            retries: action.retry_policy.as_ref().map(RetryPolicy::parse).unwrap_or_default(),
            unknown: match action.cluster_not_found_response_code() {
                ClusterNotFoundResponseCode::ServiceUnavailable => 503,
                ClusterNotFoundResponseCode::NotFound => 404,
                ClusterNotFoundResponseCode::InternalServerError => 500,
            },
            authority,
            rewrite,
            mirrors: action.request_mirror_policies.iter().map(mirror).collect(),
            keys: action.hash_policy.iter().map(Key::parse).collect::<Result<_, _>>()?,
        })
    }

    /// The targets.
    pub fn targets(&self) -> &[Target] {
        &self.targets
    }

    /// One of the targets by weight, `draw` being by chance.
    pub fn target(&self, draw: u64) -> &Target {
        let mut left = draw % self.total;
        let is_it = |target: &&Target| {
            let found = left < target.weight;
            left = left.saturating_sub(target.weight);
            found
        };
        self.targets.iter().find(is_it).unwrap_or(&self.targets[0])
    }

    /// The upstreams that get a copy of this request, `draw` being by chance.
    pub fn mirrors(&self, mut draw: impl FnMut() -> u64) -> impl Iterator<Item = &Arc<str>> {
        self.mirrors.iter().filter(move |(_, share)| share.includes(draw())).map(|(upstream, _)| upstream)
    }

    /// The upstreams that may get copies.
    pub(crate) fn mirrored(&self) -> impl Iterator<Item = &Arc<str>> {
        self.mirrors.iter().map(|(upstream, _)| upstream)
    }

    /// The authority that the upstream gets instead of the caller's.
    pub fn authority<'a>(&'a self, target: &'a Target) -> Option<&'a str> {
        self.authority.as_deref().or(target.authority.as_deref())
    }

    /// The path and query that the upstream gets instead of the caller's.
    pub(crate) fn rewritten(&self, target: &str, condition: &Condition) -> Option<String> {
        self.rewrite.as_ref().map(|rewrite| rewrite.apply(target, condition))
    }

    /// What the request is alike in with others; `source` is where it comes from.
    pub fn alike(&self, asked: &Asked<'_>, source: impl FnOnce() -> IpAddr, draw: impl FnMut() -> u64) -> Alike {
        if self.keys.is_empty() { Alike::default() } else { hash::alike(&self.keys, asked, source(), draw) }
    }
}

// === impl Target ===

impl Target {
    fn only(upstream: &str) -> Self {
        Self {
            upstream: upstream.into(),
            request: Mutation::default(),
            response: Mutation::default(),
            authority: None,
            weight: 1,
        }
    }

    fn parse(cluster: &proto::weighted_cluster::ClusterWeight) -> Result<Self, String> {
        use proto::weighted_cluster::cluster_weight::HostRewriteSpecifier::HostRewriteLiteral;
        let authority = cluster.host_rewrite_specifier.as_ref().map(|HostRewriteLiteral(host)| host.as_str().into());
        Ok(Self {
            upstream: cluster.name.as_str().into(),
            request: Mutation::parse(&cluster.request_headers_to_add, &cluster.request_headers_to_remove)?,
            response: Mutation::parse(&cluster.response_headers_to_add, &cluster.response_headers_to_remove)?,
            authority,
            weight: cluster.weight.as_ref().map_or(0, |weight| weight.value.into()),
        })
    }
}
