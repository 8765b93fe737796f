//! From the conditions of a route to Envoy's.

use crate::principal::{PAYLOAD, TOKENS};
use crate::scope::Scope;
use crate::text::{any_of_list, either, found_out};
use crate::value::flag;
use api::envoy::envoy::config::route::v3 as envoy;
use api::envoy::envoy::r#type::matcher::v3::{
    MetadataMatcher, RegexMatcher, StringMatcher, ValueMatcher, string_matcher::MatchPattern,
    value_matcher::MatchPattern as ValuePattern,
};
use config::{CLAIMS, Gateway, GatewayName, HttpMatch, StringMatch};
use envoy::header_matcher::HeaderMatchSpecifier;
use envoy::query_parameter_matcher::QueryParameterMatchSpecifier;
use envoy::route_match::PathSpecifier;
use std::collections::BTreeMap;

/// Whose requests are routed.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Audience<'a> {
    /// A sidecar's workload's.
    Mesh,
    /// Those that come in by this gateway.
    Gateway(&'a Gateway),
}

/// Whether requests of this proxy to `port` can meet `matches` at all.
pub(crate) fn applies(scope: &Scope<'_>, matches: &HttpMatch, port: u16, audience: Audience<'_>) -> bool {
    matches.port.is_none_or(|wanted| wanted == port)
        && audience.is_meant(scope, &matches.gateways, &matches.source_labels, matches.source_namespace.as_ref())
}

// === impl Audience ===

impl Audience<'_> {
    /// Whether a condition on gateways, and on the labels and namespace of who asks, can hold.
    pub(crate) fn is_meant(
        self,
        scope: &Scope<'_>,
        gateways: &[GatewayName],
        labels: &BTreeMap<String, String>,
        namespace: Option<&model::Namespace>,
    ) -> bool {
        let is_from = || {
            labels.iter().all(|(key, value)| scope.node.labels.get(key) == Some(value))
                && namespace.is_none_or(|wanted| *wanted == scope.node.namespace)
        };
        match self {
            Self::Mesh => (gateways.is_empty() || gateways.contains(&GatewayName::Mesh)) && is_from(),
            // Who asks a gateway is no workload: a condition that names the gateway looks no further (Istio's rule).
            Self::Gateway(_) if gateways.is_empty() => is_from(),
            Self::Gateway(gateway) => gateway.is_named(gateways),
        }
    }
}

/// Everything.
pub(crate) fn everything() -> envoy::RouteMatch {
    envoy::RouteMatch { path_specifier: Some(PathSpecifier::Prefix("/".to_owned())), ..Default::default() }
}

/// `matches` as Envoy has it.
pub(crate) fn route_match(matches: &HttpMatch) -> envoy::RouteMatch {
    let path = match &matches.uri {
        None => PathSpecifier::Prefix("/".to_owned()),
        Some(StringMatch::Exact(path)) => PathSpecifier::Path(path.clone()),
        Some(StringMatch::Prefix(prefix)) if matches.whole_segments => segments(prefix),
        Some(StringMatch::Prefix(prefix)) => PathSpecifier::Prefix(prefix.clone()),
        Some(StringMatch::Regex(regex)) if matches.ignore_uri_case => {
            PathSpecifier::SafeRegex(regex_of(&format!("(?i){regex}")))
        }
        Some(StringMatch::Regex(regex)) => PathSpecifier::SafeRegex(regex_of(regex)),
    };
    let pseudo = [(":method", &matches.method), (":authority", &matches.authority), (":scheme", &matches.scheme)];
    let is_field = |(name, _): &(&String, &Option<StringMatch>)| !name.starts_with(CLAIMS);
    let wanted = matches.headers.iter().filter(is_field);
    let mut headers: Vec<_> = wanted.map(|(name, wanted)| header(name, wanted.as_ref())).collect();
    let unwanted = matches.without_headers.iter().filter(is_field);
    headers.extend(unwanted.map(|(name, wanted)| without(name, wanted.as_ref())));
    let claims = |all: &BTreeMap<String, Option<StringMatch>>, invert: bool| -> Vec<MetadataMatcher> {
        let claims = all.iter().filter_map(|(name, wanted)| Some((name.strip_prefix(CLAIMS)?, wanted)));
        claims.map(|(path, wanted)| MetadataMatcher { invert, ..claim(path, wanted.as_ref()) }).collect()
    };
    headers.extend(pseudo.into_iter().filter_map(|(name, wanted)| Some(header(name, Some(wanted.as_ref()?)))));
    envoy::RouteMatch {
        path_specifier: Some(path),
        case_sensitive: matches.ignore_uri_case.then(|| flag(false)).flatten(),
        headers,
        query_parameters: matches.query.iter().map(|(name, wanted)| query(name, wanted.as_ref())).collect(),
        dynamic_metadata: [claims(&matches.headers, false), claims(&matches.without_headers, true)].concat(),
        ..Default::default()
    }
}

/// A claim, `[A][B]`, that is `wanted`, or a list that has it.
fn claim(path: &str, wanted: Option<&StringMatch>) -> MetadataMatcher {
    let keys = path.trim_start_matches('[').trim_end_matches(']').split("][").map(str::to_owned);
    let path: Vec<String> = std::iter::once(PAYLOAD.to_owned()).chain(keys).collect();
    let value = |pattern| ValueMatcher { match_pattern: Some(pattern) };
    let value = match wanted {
        None => value(ValuePattern::PresentMatch(true)),
        Some(wanted) => {
            let one = value(ValuePattern::StringMatch(string_matcher(wanted)));
            either(one.clone(), any_of_list(one))
        }
    };
    found_out(TOKENS, &path, value)
}

/// Envoy wants a prefix of whole segments without the last slash, and `/` alone in the usual form.
fn segments(prefix: &str) -> PathSpecifier {
    match prefix.trim_end_matches('/') {
        "" => PathSpecifier::Prefix("/".to_owned()),
        prefix => PathSpecifier::PathSeparatedPrefix(prefix.to_owned()),
    }
}

fn header(name: &str, wanted: Option<&StringMatch>) -> envoy::HeaderMatcher {
    let specifier = match wanted {
        None => HeaderMatchSpecifier::PresentMatch(true),
        Some(wanted) => HeaderMatchSpecifier::StringMatch(string_matcher(wanted)),
    };
    envoy::HeaderMatcher { name: name.to_owned(), header_match_specifier: Some(specifier), ..Default::default() }
}

/// A field that is not there does not match, whatever the condition.
fn without(name: &str, wanted: Option<&StringMatch>) -> envoy::HeaderMatcher {
    envoy::HeaderMatcher { invert_match: true, treat_missing_header_as_empty: wanted.is_some(), ..header(name, wanted) }
}

fn query(name: &str, wanted: Option<&StringMatch>) -> envoy::QueryParameterMatcher {
    let specifier = match wanted {
        None => QueryParameterMatchSpecifier::PresentMatch(true),
        Some(wanted) => QueryParameterMatchSpecifier::StringMatch(string_matcher(wanted)),
    };
    envoy::QueryParameterMatcher { name: name.to_owned(), query_parameter_match_specifier: Some(specifier) }
}

/// `wanted` as Envoy has it.
pub(crate) fn string_matcher(wanted: &StringMatch) -> StringMatcher {
    let pattern = match wanted {
        StringMatch::Exact(text) => MatchPattern::Exact(text.clone()),
        StringMatch::Prefix(text) => MatchPattern::Prefix(text.clone()),
        StringMatch::Regex(regex) => MatchPattern::SafeRegex(regex_of(regex)),
    };
    StringMatcher { match_pattern: Some(pattern), ..Default::default() }
}

/// A regular expression as Envoy has it.
pub(crate) fn regex_of(regex: &str) -> RegexMatcher {
    RegexMatcher { regex: regex.to_owned(), engine_type: None }
}
