//! Routes that are never taken, and conditions that an earlier route takes already.

use crate::index::World;
use crate::{Message, code};
use config::{GatewayName, HostPattern, HttpAction, HttpMatch, HttpRoute, StreamMatch, StringMatch, VirtualService};
use std::collections::BTreeMap;

pub(super) fn check(world: &World<'_>, messages: &mut Vec<Message>) {
    for service in &world.intent.virtual_services {
        let http: Vec<Vec<HttpMatch>> = service.http.iter().map(matches).collect();
        // What a delegate does not take goes on to the routes that follow.
        let takes: Vec<bool> =
            service.http.iter().map(|route| !matches!(route.action, HttpAction::Delegate { .. })).collect();
        Routes { world, service, field: "http" }.check(&http, &takes, &|a, b| takes_all(service, a, b), messages);

        let tcp: Vec<Vec<StreamMatch>> = service.tcp.iter().map(|route| or_any(&route.matches)).collect();
        let all = vec![true; tcp.len()];
        Routes { world, service, field: "tcp" }.check(&tcp, &all, &|a, b| takes_stream(service, a, b), messages);

        let tls: Vec<_> = service.tls.iter().map(|route| route.matches.clone()).collect();
        let all = vec![true; tls.len()];
        let covers = |a: &config::TlsMatch, b: &config::TlsMatch| {
            let is_named = |name: &HostPattern| {
                a.server_names.iter().any(|other| name.narrower(other).is_some_and(|it| it == name))
            };
            b.server_names.iter().all(is_named) && takes_stream(service, &a.stream, &b.stream)
        };
        Routes { world, service, field: "tls" }.check(&tls, &all, &covers, messages);
    }
}

/// The routes of one protocol.
struct Routes<'a> {
    world: &'a World<'a>,
    service: &'a VirtualService,
    field: &'static str,
}

impl Routes<'_> {
    /// `covers` says whether the first condition holds wherever the second does.
    fn check<T>(
        &self,
        routes: &[Vec<T>],
        takes: &[bool],
        covers: &dyn Fn(&T, &T) -> bool,
        messages: &mut Vec<Message>,
    ) {
        for (i, conditions) in routes.iter().enumerate() {
            let earlier = |condition: &T| {
                let is_taken = |j: &usize| takes[*j] && routes[*j].iter().any(|other| covers(other, condition));
                (0..i).find(is_taken)
            };
            let taken: Vec<Option<usize>> = conditions.iter().map(earlier).collect();
            if taken.iter().all(Option::is_some) {
                let by = taken.iter().flatten().max().copied().unwrap_or_default();
                let text = format!(
                    "VirtualService rule {} not used (rule {} and those before it take all that it matches).",
                    self.name(i),
                    self.name(by)
                );
                self.say(code::UNREACHABLE, format!("spec.{}[{i}]", self.field), text, messages);
                continue;
            }
            for (k, by) in taken.iter().enumerate() {
                let Some(by) = by else { continue };
                let text = format!(
                    "VirtualService rule {} match #{k} is not used (duplicate/overlapping match in rule {}).",
                    self.name(i),
                    self.name(*by)
                );
                self.say(code::INEFFECTIVE, format!("spec.{}[{i}].match[{k}]", self.field), text, messages);
            }
        }
    }

    fn name(&self, i: usize) -> String {
        match self.service.http.get(i).filter(|route| self.field == "http" && !route.name.is_empty()) {
            Some(route) => format!("{:?}", route.name),
            None => format!("#{i}"),
        }
    }

    fn say(&self, code: &'static crate::Code, path: String, text: String, messages: &mut Vec<Message>) {
        let whose = ("VirtualService", &self.service.namespace, self.service.name.as_str());
        messages.extend(self.world.say(code, whose, path, text));
    }
}

fn matches(route: &HttpRoute) -> Vec<HttpMatch> {
    or_any(&route.matches)
}

/// The conditions; one that always holds if there are none.
fn or_any<T: Clone + Default>(conditions: &[T]) -> Vec<T> {
    if conditions.is_empty() { vec![T::default()] } else { conditions.to_vec() }
}

/// Whether `a` holds wherever `b` does.
fn takes_all(of: &VirtualService, a: &HttpMatch, b: &HttpMatch) -> bool {
    let texts = [(&a.scheme, &b.scheme), (&a.method, &b.method), (&a.authority, &b.authority)];
    takes_path(a, b)
        && texts.iter().all(|(a, b)| takes_text(a.as_ref(), b.as_ref()))
        && takes_named(&a.headers, &b.headers)
        && takes_named(&a.query, &b.query)
        && a.without_headers.iter().all(|(name, condition)| b.without_headers.get(name) == Some(condition))
        && a.port.is_none_or(|port| b.port == Some(port))
        && takes_source(of, (&a.source_labels, &a.gateways), (&b.source_labels, &b.gateways))
        && (a.source_namespace.is_none() || a.source_namespace == b.source_namespace)
}

fn takes_path(a: &HttpMatch, b: &HttpMatch) -> bool {
    // Every path begins so.
    if matches!(&a.uri, Some(StringMatch::Prefix(prefix)) if prefix == "/" || prefix.is_empty()) {
        return true;
    }
    a.uri.is_none() || (a.ignore_uri_case == b.ignore_uri_case && takes_text(a.uri.as_ref(), b.uri.as_ref()))
}

fn takes_text(a: Option<&StringMatch>, b: Option<&StringMatch>) -> bool {
    match (a, b) {
        (None, _) => true,
        (Some(_), None) => false,
        (Some(StringMatch::Prefix(a)), Some(StringMatch::Exact(b) | StringMatch::Prefix(b))) => {
            b.starts_with(a.as_str())
        }
        (Some(a), Some(b)) => a == b,
    }
}

type Conditions = BTreeMap<String, Option<StringMatch>>;

fn takes_named(a: &Conditions, b: &Conditions) -> bool {
    a.iter().all(|(name, a)| b.get(name).is_some_and(|b| takes_text(a.as_ref(), b.as_ref())))
}

type Source<'a> = (&'a BTreeMap<String, String>, &'a [GatewayName]);

fn takes_source(of: &VirtualService, a: Source<'_>, b: Source<'_>) -> bool {
    let of_all = |names: &'_ [GatewayName]| if names.is_empty() { of.gateways.clone() } else { names.to_vec() };
    let known = of_all(a.1);
    a.0.iter().all(|(key, value)| b.0.get(key) == Some(value)) && of_all(b.1).iter().all(|name| known.contains(name))
}

fn takes_stream(of: &VirtualService, a: &StreamMatch, b: &StreamMatch) -> bool {
    let is_within = |net: &ipnet::IpNet| a.destinations.iter().any(|other| other.contains(net));
    (a.destinations.is_empty() || (!b.destinations.is_empty() && b.destinations.iter().all(is_within)))
        && a.source.is_none_or(|a| b.source.is_some_and(|b| a.contains(&b)))
        && a.port.is_none_or(|port| b.port == Some(port))
        && takes_source(of, (&a.source_labels, &a.gateways), (&b.source_labels, &b.gateways))
        && (a.source_namespace.is_none() || a.source_namespace == b.source_namespace)
}
