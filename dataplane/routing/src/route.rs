//! Routes: from a request's head to what is done with it.

use crate::condition::Condition;
use crate::decode::{message, unpack};
use crate::limits::{Limiters, RouteLimits, is_limit};
use crate::redirect;
use crate::suffixes::Suffixes;
use crate::{Asked, Cors, Fault, Forward, Mutation, Redirect, Rejection};
use api::envoy::envoy::config::core::v3::{DataSource, data_source::Specifier};
use api::envoy::envoy::config::route::v3 as proto;
use api::envoy::envoy::extensions::filters::http::{cors::v3::CorsPolicy, fault::v3::HttpFault};
use api::envoy::google::protobuf::Any;
use prost::Message;
use prost::bytes::Bytes;
use proto::{route::Action as ProtoAction, virtual_host::TlsRequirementType};
use std::collections::{HashMap, hash_map::Entry};
use std::sync::Arc;

/// The routes of one listener or port, by authority.
#[derive(Debug, Clone, Default)]
pub struct RouteTable {
    /// Its name.
    pub name: Arc<str>,
    exact: HashMap<Box<str>, Routes>,
    /// `*.example.com`, without the star.
    suffixes: Suffixes<Routes>,
    everything: Option<Routes>,
    ignores_port: bool,
}

/// A `RouteConfiguration` whose virtual hosts are still encoded: thousands of them, decoded all at once, would take many
/// times the room of what is kept. Its other fields are not looked at.
#[derive(Clone, PartialEq, Message)]
struct Outline {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(bytes = "bytes", repeated, tag = "2")]
    virtual_hosts: Vec<Bytes>,
    #[prost(bool, tag = "14")]
    ignores_port: bool,
    #[prost(map = "string, message", tag = "16")]
    typed_per_filter_config: HashMap<String, Any>,
}

/// The routes of one virtual host.
#[derive(Debug, Clone)]
struct Routes {
    all: Arc<[Arc<Route>]>,
    /// Where requests in the clear go instead.
    to_https: Option<Arc<Route>>,
}

/// A route.
#[derive(Debug)]
pub struct Route {
    /// Its name.
    pub name: Box<str>,
    condition: Condition,
    /// What happens to the request's fields.
    pub request: Mutation,
    /// What happens to the answer's fields.
    pub response: Mutation,
    /// What goes wrong on purpose.
    pub fault: Option<Box<Fault>>,
    /// Which other origins may ask.
    pub cors: Option<Box<Cors>>,
    /// What it says of rate limits.
    pub(crate) limits: RouteLimits,
    /// Whether the upstream is told how often the request was tried (`x-envoy-attempt-count`).
    pub counts_attempts: bool,
    /// What is done with requests that match.
    pub action: Action,
}

/// What is done with a request.
#[derive(Debug)]
pub enum Action {
    /// It goes to an upstream.
    Forward(Forward),
    /// The client is sent elsewhere.
    Redirect(Redirect),
    /// It is answered here.
    Answer(Answer),
}

/// An answer of the proxy itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The status.
    pub status: u16,
    /// The body; none if empty.
    pub body: Arc<[u8]>,
}

// === impl RouteTable ===

impl RouteTable {
    pub(crate) fn parse(resource: &xds::Resource, limiters: &Limiters) -> Result<Self, Rejection> {
        let outline: Outline = message(resource)?;
        let (mut table, above) =
            Self::begin(&outline.name, outline.ignores_port, &outline.typed_per_filter_config, limiters)?;
        for host in outline.virtual_hosts {
            let host = proto::VirtualHost::decode(host).map_err(|error| Rejection::new(&resource.name, error))?;
            table.add_host(&host, &above, limiters)?;
        }
        Ok(table)
    }

    pub(crate) fn from_proto(config: &proto::RouteConfiguration, limiters: &Limiters) -> Result<Self, Rejection> {
        let configs = &config.typed_per_filter_config;
        let (mut table, above) = Self::begin(&config.name, config.ignore_port_in_host_matching, configs, limiters)?;
        for host in &config.virtual_hosts {
            table.add_host(host, &above, limiters)?;
        }
        Ok(table)
    }

    /// A table without virtual hosts, and what it says of rate limits for all of them.
    fn begin(
        name: &str,
        ignores_port: bool,
        configs: &HashMap<String, Any>,
        limiters: &Limiters,
    ) -> Result<(Self, RouteLimits), Rejection> {
        let table = Self { name: name.into(), ignores_port, ..Self::default() };
        let for_all = RouteLimits::parse(name, &[], configs.iter(), &RouteLimits::default(), limiters);
        Ok((table, for_all.map_err(|reason| Rejection::new(name, reason))?))
    }

    fn add_host(
        &mut self,
        host: &proto::VirtualHost,
        above: &RouteLimits,
        limiters: &Limiters,
    ) -> Result<(), Rejection> {
        let name = self.name.clone();
        let reject = |reason: String| Rejection::new(&name, format!("virtual host {:?}: {reason}", host.name));
        let place = format!("{name}/{}", host.name);
        let configs = host.typed_per_filter_config.iter();
        let of_host = RouteLimits::parse(&place, &host.rate_limits, configs, above, limiters).map_err(reject)?;
        let parse = |(index, route): (usize, &proto::Route)| {
            let forwarding = match &route.action {
                Some(ProtoAction::Route(action)) => &action.rate_limits[..],
                _ => &[],
            };
            let place = format!("{place}/{}/{index}", route.name);
            let configs = route.typed_per_filter_config.iter();
            let limits = RouteLimits::parse(&place, forwarding, configs, &of_host, limiters)?;
            Ok(Arc::new(Route::parse(route, host.include_request_attempt_count, limits)?))
        };
        let all = host.routes.iter().enumerate().map(parse).collect::<Result<_, String>>().map_err(reject)?;
        let to_https = match host.require_tls() {
            TlsRequirementType::None => None,
            TlsRequirementType::All | TlsRequirementType::ExternalOnly => Some(Arc::new(Route::to_https())),
        };
        let routes = Routes { all, to_https };
        for domain in &host.domains {
            if !self.add(domain, &routes) {
                return Err(reject(format!("domain {domain:?} stands twice")));
            }
        }
        Ok(())
    }

    fn add(&mut self, domain: &str, routes: &Routes) -> bool {
        let domain = domain.to_ascii_lowercase();
        match domain.strip_prefix('*') {
            Some("") => self.everything.replace(routes.clone()).is_none(),
            Some(suffix) => match self.suffixes.entry(suffix) {
                Entry::Occupied(_) => false,
                Entry::Vacant(vacant) => {
                    vacant.insert(routes.clone());
                    true
                }
            },
            None => self.exact.insert(domain.into(), routes.clone()).is_none(),
        }
    }

    /// The first route that a request meets the conditions of; none if there is none.
    pub fn route(&self, asked: &Asked<'_>) -> Option<&Arc<Route>> {
        let authority = if self.ignores_port { redirect::split(asked.authority).0 } else { asked.authority };
        let routes = self.virtual_host(authority)?;
        if asked.scheme != "https"
            && let Some(elsewhere) = &routes.to_https
        {
            return Some(elsewhere);
        }
        routes.all.iter().find(|route| route.condition.matches(asked))
    }

    fn virtual_host(&self, authority: &str) -> Option<&Routes> {
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
        self.suffixes.find(authority).map(|(_, routes)| routes).or(self.everything.as_ref())
    }

    /// Every domain with its routes, in no order.
    pub fn domains(&self) -> impl Iterator<Item = (String, &[Arc<Route>])> {
        let exact = self.exact.iter().map(|(domain, routes)| (domain.to_string(), &*routes.all));
        let suffixes = self.suffixes.iter().map(|(suffix, routes)| (format!("*{suffix}"), &*routes.all));
        let everything = self.everything.iter().map(|routes| ("*".to_owned(), &*routes.all));
        exact.chain(suffixes).chain(everything)
    }

    /// The upstreams that it names.
    pub fn upstreams(&self) -> impl Iterator<Item = &Arc<str>> {
        let hosts = self.exact.values().chain(self.suffixes.iter().map(|(_, routes)| routes)).chain(&self.everything);
        hosts
            .flat_map(|routes| routes.all.iter())
            .filter_map(|route| route.forward())
            .flat_map(|forward| forward.targets().iter().map(|target| &target.upstream).chain(forward.mirrored()))
    }
}

// === impl Route ===

impl Route {
    /// The way to the same place over TLS.
    fn to_https() -> Self {
        Self {
            name: "https-redirect".into(),
            condition: Condition::everything(),
            request: Mutation::default(),
            response: Mutation::default(),
            fault: None,
            cors: None,
            limits: RouteLimits::default(),
            counts_attempts: false,
            action: Action::Redirect(Redirect::to_https()),
        }
    }

    fn parse(route: &proto::Route, counts_attempts: bool, limits: RouteLimits) -> Result<Self, String> {
        let action = match &route.action {
            Some(ProtoAction::Route(action)) => Action::Forward(Forward::parse(action)?),
            Some(ProtoAction::Redirect(action)) => Action::Redirect(Redirect::parse(action)?),
            Some(ProtoAction::DirectResponse(answer)) => Action::Answer(Answer::parse(answer)?),
            _ => return Err("action: route, redirect or direct_response is accepted".into()),
        };
        let (mut fault, mut cors) = (None, None);
        for (filter, config) in &route.typed_per_filter_config {
            let wrong = |error: prost::DecodeError| format!("typed_per_filter_config: {filter}: {error}");
            if let Some(found) = unpack::<HttpFault>(config) {
                fault = Some(Box::new(Fault::parse(&found.map_err(wrong)?)?));
            } else if let Some(found) = unpack::<CorsPolicy>(config) {
                cors = Some(Box::new(Cors::parse(&found.map_err(wrong)?)?));
            } else if !is_limit(config) {
                let known = "fault, cors and local_ratelimit are";
                return Err(format!("typed_per_filter_config: {filter:?} is not known: {known}"));
            }
        }
        Ok(Self {
            name: route.name.as_str().into(),
            condition: Condition::parse(route.r#match.as_ref().ok_or("match is expected")?)?,
            request: Mutation::parse(&route.request_headers_to_add, &route.request_headers_to_remove)?,
            response: Mutation::parse(&route.response_headers_to_add, &route.response_headers_to_remove)?,
            fault,
            cors,
            limits,
            counts_attempts,
            action,
        })
    }

    /// How it forwards, if it does.
    pub fn forward(&self) -> Option<&Forward> {
        match &self.action {
            Action::Forward(forward) => Some(forward),
            _ => None,
        }
    }

    /// Where the client is sent if `redirect` is this route's.
    pub fn location(&self, redirect: &Redirect, asked: &Asked<'_>) -> String {
        redirect.location(asked, &self.condition)
    }

    /// The path and query that the upstream gets instead of `target`.
    pub fn rewritten(&self, target: &str) -> Option<String> {
        self.forward()?.rewritten(target, &self.condition)
    }
}

// === impl Answer ===

impl Answer {
    fn parse(answer: &proto::DirectResponseAction) -> Result<Self, String> {
        let status = u16::try_from(answer.status).ok().filter(|status| (200..600).contains(status));
        let body = match &answer.body {
            None => Arc::default(),
            Some(DataSource { specifier: Some(Specifier::InlineBytes(bytes)), .. }) => bytes.as_slice().into(),
            Some(DataSource { specifier: Some(Specifier::InlineString(text)), .. }) => text.as_bytes().into(),
            Some(_) => return Err("direct_response: inline_bytes or inline_string is accepted".into()),
        };
        Ok(Self { status: status.ok_or_else(|| format!("direct_response: status {} is none", answer.status))?, body })
    }
}
