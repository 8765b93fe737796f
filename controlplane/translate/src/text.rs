//! Texts and values as Envoy's matchers have them, from AuthorizationPolicies' patterns: a literal stays one.

use api::envoy::envoy::config::rbac::v3::{MetadataSource, SourcedMetadata};
use api::envoy::envoy::r#type::matcher::v3::{
    ListMatcher, MetadataMatcher, OrMatcher, StringMatcher, ValueMatcher, list_matcher, metadata_matcher,
    string_matcher::MatchPattern, value_matcher,
};
use config::TextPattern;

/// `wanted` behind `before`; none if anything will do.
pub(crate) fn text(before: &str, wanted: &TextPattern) -> Option<StringMatcher> {
    let pattern = match wanted {
        TextPattern::Any => return None,
        TextPattern::Exact(text) => MatchPattern::Exact(format!("{before}{text}")),
        TextPattern::Prefix(text) => MatchPattern::Prefix(format!("{before}{text}")),
        TextPattern::Suffix(text) => MatchPattern::Suffix(text.clone()),
    };
    Some(StringMatcher { match_pattern: Some(pattern), ignore_case: false })
}

/// A value that is a text like `wanted`.
pub(crate) fn metadata_text(wanted: &TextPattern) -> ValueMatcher {
    let pattern = match text("", wanted) {
        Some(wanted) => value_matcher::MatchPattern::StringMatch(wanted),
        None => value_matcher::MatchPattern::PresentMatch(true),
    };
    ValueMatcher { match_pattern: Some(pattern) }
}

/// A list of which one item is like `wanted`.
pub(crate) fn any_of_list(wanted: ValueMatcher) -> ValueMatcher {
    let one = list_matcher::MatchPattern::OneOf(Box::new(wanted));
    let list = Box::new(ListMatcher { match_pattern: Some(one) });
    ValueMatcher { match_pattern: Some(value_matcher::MatchPattern::ListMatch(list)) }
}

/// A value that is like one of two.
pub(crate) fn either(one: ValueMatcher, other: ValueMatcher) -> ValueMatcher {
    let both = OrMatcher { value_matchers: vec![one, other] };
    ValueMatcher { match_pattern: Some(value_matcher::MatchPattern::OrMatch(both)) }
}

/// What `filter` found out under `path`, wherever it is asked.
pub(crate) fn metadata(filter: &str, path: &[String], value: ValueMatcher) -> SourcedMetadata {
    SourcedMetadata {
        metadata_matcher: Some(found_out(filter, path, value)),
        metadata_source: MetadataSource::Dynamic.into(),
    }
}

/// What `filter` found out under `path`.
pub(crate) fn found_out(filter: &str, path: &[String], value: ValueMatcher) -> MetadataMatcher {
    let segment = |key: &String| metadata_matcher::PathSegment {
        segment: Some(metadata_matcher::path_segment::Segment::Key(key.clone())),
    };
    MetadataMatcher {
        filter: filter.to_owned(),
        path: path.iter().map(segment).collect(),
        value: Some(value),
        invert: false,
    }
}

/// `text` as an expression that matches it alone (RE2's syntax).
pub(crate) fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        if !c.is_ascii_alphanumeric() && !"-_/ ~:@%&=,;<>".contains(c) && c.is_ascii() {
            escaped.push('\\');
        }
        escaped.push(c);
    }
    escaped
}
