//! From the rules of a route to those of a VirtualService, in the order in which they count.

use super::backend::{Backend, nowhere};
use super::http_match::Rank;
use super::http_route::HttpRule;
use super::route::{Route, RouteKind, Rules};
use super::{Known, Place};
use crate::{DirectResponse, Fault, HttpAction, HttpMatch, HttpRoute, Mirror, Split};
use model::Namespace;
use resource::Warning;
use std::cmp::Reverse;

/// One condition of a rule with what is done then.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    rank: Rank,
    /// When its route was made: the older goes before, and one of unknown age last.
    created: (bool, Option<String>),
    owner: (Namespace, String),
    order: (usize, usize),
    pub(super) route: HttpRoute,
}

/// What the rules of a route come to.
#[derive(Debug, Clone)]
pub(super) struct Lowered<'a> {
    pub(super) route: &'a Route,
    /// For requests.
    pub(super) http: Vec<Entry>,
    /// For connections: where they go.
    pub(super) stream: Vec<Split>,
}

/// What answers where there is nowhere to go; gRPC makes UNAVAILABLE of it.
const NOWHERE: u16 = 500;
const NOWHERE_GRPC: u16 = 503;

// === impl Lowered ===

impl<'a> Lowered<'a> {
    /// `route` with its references resolved; those that cannot be are warnings.
    pub(super) fn of(route: &'a Route, known: &Known, warnings: &mut Vec<Warning>) -> Self {
        let (mut http, mut stream) = (Vec::new(), Vec::new());
        match &route.rules {
            Rules::Http(rules) => {
                for (index, rule) in rules.iter().enumerate() {
                    http.extend(entries(route, index, rule, known, warnings));
                }
            }
            Rules::Stream(rules) => {
                let splits: Vec<Vec<Split>> = rules
                    .iter()
                    .map(|rule| {
                        let splits = splits(route, &rule.backends, known, warnings);
                        if splits.is_empty() {
                            warnings.push(no_backends(&rule.place, "connections are closed"));
                        }
                        splits
                    })
                    .collect();
                stream = splits.into_iter().next().filter(|splits| !splits.is_empty()).unwrap_or_else(|| {
                    vec![Split { destination: nowhere(), weight: 1, headers: crate::HeaderOperations::default() }]
                });
            }
        }
        Self { route, http, stream }
    }
}

/// `entries` as they count.
pub(super) fn sorted(mut entries: Vec<Entry>) -> Vec<HttpRoute> {
    entries.sort_by(|one, other| {
        let key = |entry: &Entry| (Reverse(entry.rank), entry.created.clone(), entry.owner.clone(), entry.order);
        key(one).cmp(&key(other))
    });
    entries.into_iter().map(|entry| entry.route).collect()
}

fn splits(route: &Route, backends: &[Backend], known: &Known, warnings: &mut Vec<Warning>) -> Vec<Split> {
    Backend::splits(backends, route.kind.name(), &route.namespace, known, warnings)
}

fn no_backends(place: &Place, then: &str) -> Warning {
    place.unmet("ResolvedRefs", "BackendNotFound", format!("there are no backends with a weight above 0: {then}"))
}

fn entries(route: &Route, index: usize, rule: &HttpRule, known: &Known, warnings: &mut Vec<Warning>) -> Vec<Entry> {
    let splits = splits(route, &rule.backends, known, warnings);
    let mut mirrors = Vec::new();
    for (target, share) in &rule.filters.mirrors {
        match target.resolve(route.kind.name(), &route.namespace, known) {
            Ok(destination) => mirrors.push(Mirror { destination, share: *share }),
            Err(warning) => warnings.push(warning),
        }
    }
    if splits.is_empty() && rule.filters.redirect.is_none() && rule.filters.unknown.is_none() {
        warnings.push(no_backends(&rule.place, "requests are answered 500"));
    }
    let name = match rule.name.as_str() {
        "" => format!("{}.{}.{index}", route.namespace, route.name),
        name => format!("{}.{}.{name}", route.namespace, route.name),
    };
    let entry = |(number, matches): (usize, &HttpMatch)| Entry {
        rank: Rank::of(matches),
        created: (route.created.is_none(), route.created.clone()),
        owner: (route.namespace.clone(), route.name.clone()),
        order: (index, number),
        route: http_route(route.kind, &name, rule, matches, &splits, &mirrors),
    };
    rule.matches.iter().enumerate().map(entry).collect()
}

fn http_route(
    kind: RouteKind,
    name: &str,
    rule: &HttpRule,
    matches: &HttpMatch,
    splits: &[Split],
    mirrors: &[Mirror],
) -> HttpRoute {
    let filters = &rule.filters;
    let status = if kind == RouteKind::Grpc { NOWHERE_GRPC } else { NOWHERE };
    let action = match &filters.redirect {
        _ if filters.unknown.is_some() => HttpAction::Answer(DirectResponse { status, body: Vec::new() }),
        Some(redirect) => HttpAction::Redirect(redirect.redirect(matches)),
        None if splits.is_empty() => HttpAction::Answer(DirectResponse { status, body: Vec::new() }),
        None => HttpAction::Route(splits.to_vec()),
    };
    let forwards = matches!(action, HttpAction::Route(_));
    HttpRoute {
        name: name.to_owned(),
        matches: vec![matches.clone()],
        action,
        rewrite: filters.rewrite.as_ref().filter(|_| forwards).map(|rewrite| rewrite.rewrite(matches)),
        timeout: rule.timeout.filter(|_| forwards),
        retries: rule.retries.clone().filter(|_| forwards),
        fault: Fault::default(),
        mirrors: if forwards { mirrors.to_vec() } else { Vec::new() },
        cors: filters.cors.clone(),
        headers: filters.headers.clone(),
        unknown_is_500: kind == RouteKind::Http,
    }
}
