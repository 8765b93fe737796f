//! What filters before found out about a request, such as the claims of its token; and conditions on it.

use crate::text_match::TextMatch;
use api::envoy::envoy::r#type::matcher::v3::{self as proto, list_matcher, metadata_matcher, value_matcher};
use std::collections::BTreeMap;

/// What was found out, by filter.
pub type Metadata = BTreeMap<Box<str>, Datum>;

/// Something that was found out; JSON's kinds of values.
#[derive(Debug, Clone, PartialEq)]
pub enum Datum {
    /// Nothing.
    Null,
    /// Yes or no.
    Bool(bool),
    /// A number.
    Number(f64),
    /// A text.
    Text(Box<str>),
    /// Several.
    List(Vec<Datum>),
    /// Several with names.
    Fields(BTreeMap<Box<str>, Datum>),
}

/// A condition on what was found out.
#[derive(Debug, Clone)]
pub(crate) struct MetadataTest {
    filter: Box<str>,
    path: Vec<Box<str>>,
    wanted: ValueTest,
    inverted: bool,
}

#[derive(Debug, Clone)]
enum ValueTest {
    Null,
    Bool(bool),
    Text(TextMatch),
    Present(bool),
    ListWith(Box<ValueTest>),
    Some(Vec<ValueTest>),
}

/// Lists of lists; deeper ones are refused.
const DEEPEST: usize = 8;

// === impl MetadataTest ===

impl MetadataTest {
    pub(crate) fn parse(matcher: &proto::MetadataMatcher) -> Result<Self, String> {
        let key = |segment: &metadata_matcher::PathSegment| match &segment.segment {
            Some(metadata_matcher::path_segment::Segment::Key(key)) => Ok(key.as_str().into()),
            None => Err("metadata: a path of keys is expected".to_owned()),
        };
        let value = matcher.value.as_ref().ok_or("metadata: a value is expected")?;
        Ok(Self {
            filter: matcher.filter.as_str().into(),
            path: matcher.path.iter().map(key).collect::<Result<_, _>>()?,
            wanted: ValueTest::parse(value, 0)?,
            inverted: matcher.invert,
        })
    }

    pub(crate) fn holds(&self, metadata: Option<&Metadata>) -> bool {
        let found = metadata.and_then(|all| all.get(&self.filter));
        let at = self.path.iter().try_fold(found, |at, key| match at {
            Some(Datum::Fields(fields)) => Some(fields.get(key)),
            _ => None,
        });
        self.wanted.holds(at.flatten()) != self.inverted
    }
}

// === impl ValueTest ===

impl ValueTest {
    fn parse(matcher: &proto::ValueMatcher, depth: usize) -> Result<Self, String> {
        use value_matcher::MatchPattern;
        if depth > DEEPEST {
            return Err(format!("metadata: values at most {DEEPEST} within each other are accepted"));
        }
        Ok(match &matcher.match_pattern {
            Some(MatchPattern::NullMatch(_)) => Self::Null,
            Some(MatchPattern::BoolMatch(wanted)) => Self::Bool(*wanted),
            Some(MatchPattern::StringMatch(matcher)) => Self::Text(TextMatch::parse(matcher)?),
            Some(MatchPattern::PresentMatch(wanted)) => Self::Present(*wanted),
            Some(MatchPattern::ListMatch(list)) => match &list.match_pattern {
                Some(list_matcher::MatchPattern::OneOf(one)) => Self::ListWith(Box::new(Self::parse(one, depth + 1)?)),
                None => return Err("metadata: list_match: one_of is expected".into()),
            },
            Some(MatchPattern::OrMatch(all)) => {
                Self::Some(all.value_matchers.iter().map(|one| Self::parse(one, depth + 1)).collect::<Result<_, _>>()?)
            }
            other => return Err(format!("metadata: the value {other:?} is not accepted")),
        })
    }

    fn holds(&self, found: Option<&Datum>) -> bool {
        match (self, found) {
            (Self::Present(wanted), found) => *wanted == found.is_some(),
            (Self::Some(all), found) => all.iter().any(|one| one.holds(found)),
            (Self::Null, Some(Datum::Null)) => true,
            (Self::Bool(wanted), Some(Datum::Bool(found))) => wanted == found,
            (Self::Text(wanted), Some(Datum::Text(found))) => wanted.matches(found),
            (Self::ListWith(wanted), Some(Datum::List(found))) => found.iter().any(|one| wanted.holds(Some(one))),
            _ => false,
        }
    }
}
