//! Routes: from a request's authority and path to an upstream, or to an answer of our own.

use crate::Rejection;
use crate::decode::{duration, message};
use api::envoy::envoy::config::route::v3 as proto;
use proto::{route::Action as ProtoAction, route_action::ClusterSpecifier, route_match::PathSpecifier};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

/// The routes of one listener or port, by authority.
#[derive(Debug, Clone, Default)]
pub struct RouteTable {
    /// Its name.
    pub name: Arc<str>,
    exact: HashMap<Box<str>, Arc<[Route]>>,
    /// `*.example.com`, without the star; the longest first.
    suffixes: Vec<(Box<str>, Arc<[Route]>)>,
    everything: Option<Arc<[Route]>>,
}

/// A route.
#[derive(Debug, Clone)]
pub(crate) struct Route {
    path: PathMatch,
    /// What is done with requests that match.
    pub(crate) action: Action,
}

/// What is done with a request.
#[derive(Debug, Clone)]
pub enum Action {
    /// It goes to an upstream.
    Forward(Arc<Forward>),
    /// It is answered here, with this status.
    Answer(u16),
}

/// How a request is forwarded.
#[derive(Debug, Clone)]
pub struct Forward {
    /// The upstream's name.
    pub upstream: Arc<str>,
    /// How long the whole request may take; for ever if absent.
    pub timeout: Option<Duration>,
    /// When it is tried again.
    pub retries: RetryPolicy,
}

/// When a request is tried again (`retry_on`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RetryPolicy {
    /// How often beyond the first time.
    pub attempts: u32,
    /// No connection could be made.
    pub on_connect_failure: bool,
    /// The upstream refused before it began (`REFUSED_STREAM`, GOAWAY).
    pub on_refused_stream: bool,
    /// gRPC status UNAVAILABLE in the headers.
    pub on_unavailable: bool,
    /// gRPC status CANCELLED in the headers.
    pub on_cancelled: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum PathMatch {
    Prefix(Box<str>),
    Exact(Box<str>),
}

// === impl RouteTable ===

impl RouteTable {
    pub(crate) fn parse(resource: &xds::Resource) -> Result<Self, Rejection> {
        Self::from_proto(&message(resource)?)
    }

    pub(crate) fn from_proto(config: &proto::RouteConfiguration) -> Result<Self, Rejection> {
        let mut table = Self { name: config.name.as_str().into(), ..Self::default() };
        for host in &config.virtual_hosts {
            let reject =
                |reason: String| Rejection::new(&config.name, format!("virtual host {:?}: {reason}", host.name));
            let routes: Arc<[Route]> =
                host.routes.iter().map(Route::parse).collect::<Result<_, _>>().map_err(reject)?;
            for domain in &host.domains {
                if !table.add(domain, &routes) {
                    return Err(reject(format!("domain {domain:?} stands twice")));
                }
            }
        }
        table.suffixes.sort_by_key(|(suffix, _)| std::cmp::Reverse(suffix.len()));
        Ok(table)
    }

    fn add(&mut self, domain: &str, routes: &Arc<[Route]>) -> bool {
        let domain = domain.to_ascii_lowercase();
        match domain.strip_prefix('*') {
            Some("") => self.everything.replace(routes.clone()).is_none(),
            Some(suffix) => {
                let twice = self.suffixes.iter().any(|(known, _)| **known == *suffix);
                self.suffixes.push((suffix.into(), routes.clone()));
                !twice
            }
            None => self.exact.insert(domain.into(), routes.clone()).is_none(),
        }
    }

    /// What is done with a request of `authority` (host, perhaps with a port) for `path` (with or without a query).
    /// Nothing if no route matches.
    pub fn route(&self, authority: &str, path: &str) -> Option<&Action> {
        let path = path.split(['?', '#']).next().unwrap_or_default();
        let routes = self.virtual_host(authority)?;
        routes.iter().find(|route| route.path.matches(path)).map(|route| &route.action)
    }

    fn virtual_host(&self, authority: &str) -> Option<&[Route]> {
        if let Some(routes) = self.exact.get(authority) {
            return Some(routes);
        }
        // Almost all are lower case already, and cost nothing here.
        let lower;
        let authority = if authority.bytes().any(|b| b.is_ascii_uppercase()) {
            lower = authority.to_ascii_lowercase();
            if let Some(routes) = self.exact.get(lower.as_str()) {
                return Some(routes);
            }
            &lower
        } else {
            authority
        };
        let suffix =
            self.suffixes.iter().find(|(suffix, _)| authority.len() > suffix.len() && authority.ends_with(&**suffix));
        suffix.map(|(_, routes)| &**routes).or(self.everything.as_deref())
    }

    /// Every domain with what is done for its first route, in no order.
    pub fn domains(&self) -> impl Iterator<Item = (String, &Action)> {
        let exact = self.exact.iter().map(|(domain, routes)| (domain.to_string(), routes));
        let suffixes = self.suffixes.iter().map(|(suffix, routes)| (format!("*{suffix}"), routes));
        let everything = self.everything.iter().map(|routes| ("*".to_owned(), routes));
        let all = exact.chain(suffixes).chain(everything);
        all.filter_map(|(domain, routes)| Some((domain, &routes.first()?.action)))
    }

    /// The upstreams that it names.
    pub fn upstreams(&self) -> impl Iterator<Item = &Arc<str>> {
        let hosts = self.exact.values().chain(self.suffixes.iter().map(|(_, routes)| routes)).chain(&self.everything);
        hosts.flat_map(|routes| routes.iter()).filter_map(|route| match &route.action {
            Action::Forward(forward) => Some(&forward.upstream),
            Action::Answer(_) => None,
        })
    }
}

// === impl Route ===

impl Route {
    fn parse(route: &proto::Route) -> Result<Self, String> {
        let matches = route.r#match.as_ref().ok_or("match is expected")?;
        if !matches.headers.is_empty() || !matches.query_parameters.is_empty() {
            return Err("match: by path is accepted".into());
        }
        let path = match &matches.path_specifier {
            Some(PathSpecifier::Prefix(prefix)) => PathMatch::Prefix(prefix.as_str().into()),
            Some(PathSpecifier::Path(path)) => PathMatch::Exact(path.as_str().into()),
            _ => return Err("match: prefix or path is accepted".into()),
        };
        let action = match &route.action {
            Some(ProtoAction::Route(action)) => Action::Forward(Arc::new(Forward::parse(action)?)),
            Some(ProtoAction::DirectResponse(answer)) => {
                let status = u16::try_from(answer.status).ok().filter(|status| (200..600).contains(status));
                Action::Answer(status.ok_or_else(|| format!("direct_response: status {} is none", answer.status))?)
            }
            _ => return Err("action: route or direct_response is accepted".into()),
        };
        Ok(Self { path, action })
    }
}

// === impl Forward ===

impl Forward {
    fn parse(action: &proto::RouteAction) -> Result<Self, String> {
        let Some(ClusterSpecifier::Cluster(upstream)) = &action.cluster_specifier else {
            return Err("route: cluster is accepted".into());
        };
        Ok(Self {
            upstream: upstream.as_str().into(),
            timeout: duration(action.timeout.as_ref()).filter(|timeout| !timeout.is_zero()),
            retries: action.retry_policy.as_ref().map(RetryPolicy::parse).unwrap_or_default(),
        })
    }
}

// === impl RetryPolicy ===

impl RetryPolicy {
    fn parse(policy: &proto::RetryPolicy) -> Self {
        let on = |condition: &str| policy.retry_on.split(',').any(|one| one.trim() == condition);
        Self {
            attempts: policy.num_retries.as_ref().map_or(1, |retries| retries.value),
            on_connect_failure: on("connect-failure"),
            on_refused_stream: on("refused-stream"),
            on_unavailable: on("unavailable"),
            on_cancelled: on("cancelled"),
        }
    }
}

// === impl PathMatch ===

impl PathMatch {
    fn matches(&self, path: &str) -> bool {
        match self {
            Self::Prefix(prefix) => path.starts_with(&**prefix),
            Self::Exact(exact) => path == &**exact,
        }
    }
}
