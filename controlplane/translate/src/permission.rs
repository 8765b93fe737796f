//! What is asked for, and what else is known of the connection, as Envoy's RBAC asks it.

use crate::authorization::Purpose;
use crate::matches::regex_of;
use crate::stream::range;
use crate::text::{any_of_list, escaped, metadata_text, text};
use api::envoy::envoy::config::rbac::v3 as envoy;
use api::envoy::envoy::config::route::v3::{HeaderMatcher, header_matcher::HeaderMatchSpecifier};
use api::envoy::envoy::r#type::matcher::v3 as matcher;
use config::{
    AccessCondition, AccessOperation, AccessRule, Listed, MetadataPattern, PathPattern, PathSegment, TextPattern,
};
use envoy::permission::{Rule, Set};
use matcher::string_matcher::MatchPattern;
use matcher::{PathMatcher, StringMatcher};

/// The permissions of which one must be given; none if the rule cannot be met.
pub(crate) fn permissions(rule: &AccessRule, purpose: Purpose) -> Option<Vec<envoy::Permission>> {
    let further: Vec<Rule> = rule.when.iter().filter_map(of_condition).collect();
    let nothing = [AccessOperation::default()];
    let operations = if rule.to.is_empty() { &nothing[..] } else { &rule.to[..] };
    let one = |operation: &AccessOperation| {
        let mut all = of_operation(operation, purpose)?;
        all.extend(further.iter().cloned());
        Some(permission(every(all)))
    };
    operations.iter().map(one).collect()
}

fn of_operation(operation: &AccessOperation, purpose: Purpose) -> Option<Vec<Rule>> {
    let AccessOperation { hosts, ports, methods, paths } = operation;
    let mut all = Vec::new();
    all.extend(purpose.of_request(!hosts.is_empty(), || both(hosts, host))?);
    all.extend(purpose.of_request(!methods.is_empty(), || both(methods, method))?);
    all.extend(purpose.of_request(!paths.is_empty(), || both(paths, path))?);
    all.extend(both(ports, |port| Rule::DestinationPort((*port).into())));
    Some(all)
}

fn of_condition(condition: &AccessCondition) -> Option<Rule> {
    Some(every(match condition {
        AccessCondition::DestinationIp(blocks) => both(blocks, |block| Rule::DestinationIp(range(block))),
        AccessCondition::DestinationPort(ports) => both(ports, |port| Rule::DestinationPort((*port).into())),
        AccessCondition::ServerName(names) => both(names, |name| match text("", name) {
            Some(wanted) => Rule::RequestedServerName(wanted),
            None => not(Rule::RequestedServerName(exact(""))),
        }),
        AccessCondition::Metadata { filter, key, values } => both(values, |value| {
            let value = match value {
                MetadataPattern::Text(wanted) => metadata_text(wanted),
                MetadataPattern::ListWith(wanted) => any_of_list(metadata_text(wanted)),
            };
            Rule::SourcedMetadata(crate::text::metadata(filter, std::slice::from_ref(key), value))
        }),
        _ => return None,
    }))
}

/// One of the wanted and none of the unwanted.
fn both<T>(listed: &Listed<T>, one: impl Fn(&T) -> Rule) -> Vec<Rule> {
    let any = |all: &[T]| match all {
        [] => None,
        [only] => Some(one(only)),
        several => Some(Rule::OrRules(set(several.iter().map(&one)))),
    };
    any(&listed.wanted).into_iter().chain(any(&listed.unwanted).map(not)).collect()
}

fn every(mut all: Vec<Rule>) -> Rule {
    match (all.len(), all.pop()) {
        (1, Some(only)) => only,
        (_, Some(last)) => Rule::AndRules(set(all.into_iter().chain([last]))),
        (_, None) => Rule::Any(true),
    }
}

fn set(rules: impl Iterator<Item = Rule>) -> Set {
    Set { rules: rules.map(permission).collect() }
}

fn not(rule: Rule) -> Rule {
    Rule::NotRule(Box::new(permission(rule)))
}

fn permission(rule: Rule) -> envoy::Permission {
    envoy::Permission { rule: Some(rule) }
}

fn exact(text: &str) -> StringMatcher {
    StringMatcher { match_pattern: Some(MatchPattern::Exact(text.to_owned())), ignore_case: false }
}

fn method(wanted: &TextPattern) -> Rule {
    field(":method", text("", wanted))
}

/// A host is the same with or without a port and a last dot, and in any case of letters.
fn host(wanted: &TextPattern) -> Rule {
    let matching = |pattern: MatchPattern| {
        field(":authority", Some(StringMatcher { match_pattern: Some(pattern), ignore_case: true }))
    };
    match wanted {
        TextPattern::Any => field(":authority", None),
        TextPattern::Prefix(start) => matching(MatchPattern::Prefix(start.clone())),
        // Who names a port means that port.
        TextPattern::Exact(host) if host.contains(':') => matching(MatchPattern::Exact(host.clone())),
        TextPattern::Suffix(end) if end.contains(':') => matching(MatchPattern::Suffix(end.clone())),
        TextPattern::Exact(host) => {
            let host = host.trim_end_matches('.');
            let names = [
                MatchPattern::Exact(host.to_owned()),
                MatchPattern::Exact(format!("{host}.")),
                MatchPattern::Prefix(format!("{host}:")),
                MatchPattern::Prefix(format!("{host}.:")),
            ];
            Rule::OrRules(set(names.into_iter().map(matching)))
        }
        TextPattern::Suffix(end) => {
            let names = format!("(?i:.*{})\\.?(?::[0-9]*)?", escaped(end.trim_end_matches('.')));
            let pattern = MatchPattern::SafeRegex(regex_of(&names));
            field(":authority", Some(StringMatcher { match_pattern: Some(pattern), ignore_case: false }))
        }
    }
}

fn path(wanted: &PathPattern) -> Rule {
    let matcher = match wanted {
        PathPattern::Text(wanted) => text("", wanted),
        PathPattern::Template(segments) => {
            let regex: String = segments
                .iter()
                .map(|segment| match segment {
                    PathSegment::Literal(text) => format!("/{}", escaped(text)),
                    PathSegment::One => "/[^/]+".to_owned(),
                    PathSegment::Rest => "/.*".to_owned(),
                })
                .collect();
            let pattern = MatchPattern::SafeRegex(regex_of(&regex));
            Some(StringMatcher { match_pattern: Some(pattern), ignore_case: false })
        }
    };
    match matcher {
        Some(matcher) => Rule::UrlPath(PathMatcher { rule: Some(matcher::path_matcher::Rule::Path(matcher)) }),
        None => Rule::Any(true),
    }
}

/// A field that is there, and like `wanted` if that says something.
fn field(name: &str, wanted: Option<StringMatcher>) -> Rule {
    let specifier = wanted.map_or(HeaderMatchSpecifier::PresentMatch(true), HeaderMatchSpecifier::StringMatch);
    Rule::Header(HeaderMatcher { name: name.to_owned(), header_match_specifier: Some(specifier), ..Default::default() })
}
