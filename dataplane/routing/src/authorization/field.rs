//! A condition on a header field of which nobody may get rid by sending the field twice.

use super::test::Truth;
use crate::Asked;
use crate::condition::FieldName;
use crate::text_match::TextMatch;
use api::envoy::envoy::config::route::v3 as proto;
use http::HeaderMap;
use proto::header_matcher::HeaderMatchSpecifier;

/// A condition on a field.
#[derive(Debug, Clone)]
pub(super) struct FieldTest {
    name: FieldName,
    /// None: it is there.
    wanted: Option<TextMatch>,
    inverted: bool,
    missing_is_empty: bool,
    /// Of a field that stands several times: whether one of its values must be right, or all of them.
    is_broad: bool,
}

// === impl FieldTest ===

impl FieldTest {
    pub(super) fn parse(matcher: &proto::HeaderMatcher, is_broad: bool) -> Result<Self, String> {
        let (wanted, absent) = match &matcher.header_match_specifier {
            None | Some(HeaderMatchSpecifier::PresentMatch(true)) => (None, false),
            Some(HeaderMatchSpecifier::PresentMatch(false)) => (None, true),
            Some(HeaderMatchSpecifier::StringMatch(matcher)) => (Some(TextMatch::parse(matcher)?), false),
            Some(_) => {
                return Err(format!("header {:?}: present_match or string_match is accepted", matcher.name));
            }
        };
        let inverted = matcher.invert_match != absent;
        Ok(Self {
            name: FieldName::parse(&matcher.name)?,
            wanted,
            inverted,
            missing_is_empty: matcher.treat_missing_header_as_empty,
            is_broad: is_broad != inverted,
        })
    }

    pub(super) fn truth(&self, asked: &Asked<'_>) -> Truth {
        let holds = match &self.wanted {
            None => self.name.is_there(asked).into(),
            Some(wanted) => match &self.name {
                FieldName::Field(name) => self.of_field(wanted, asked.headers, name),
                FieldName::Method => wanted.matches(asked.method.as_str()).into(),
                FieldName::Authority => wanted.matches(asked.authority).into(),
                FieldName::Scheme => wanted.matches(asked.scheme).into(),
                FieldName::Path => wanted.matches(asked.target).into(),
            },
        };
        if self.inverted { holds.not() } else { holds }
    }

    /// Where one right value is enough, all of them joined by commas may be it too (Envoy's way).
    fn of_field(&self, wanted: &TextMatch, headers: &HeaderMap, name: &http::HeaderName) -> Truth {
        let values = headers.get_all(name);
        let mut lines = values.iter().map(|value| Truth::from(wanted.matches_bytes(value.as_bytes())));
        let Some(first) = lines.next() else { return (self.missing_is_empty && wanted.matches("")).into() };
        if !self.is_broad {
            return lines.fold(first, |all, line| all.and(|| line));
        }
        let mut none = lines.fold(first.not(), |none, line| none.and(|| line.not()));
        if none != Truth::No && values.iter().nth(1).is_some() {
            let all: Vec<&[u8]> = values.iter().map(http::HeaderValue::as_bytes).collect();
            none = none.and(|| Truth::from(wanted.matches_bytes(&all.join(&b','))).not());
        }
        none.not()
    }
}
