//! When a route is taken: conditions on the path, the header fields and the query.

use crate::Asked;
use crate::authorization::MetadataTest;
use crate::text_match::{TextMatch, whole};
use api::envoy::envoy::config::route::v3 as proto;
use http::{HeaderMap, HeaderName};
use proto::header_matcher::HeaderMatchSpecifier;
use proto::query_parameter_matcher::QueryParameterMatchSpecifier;
use proto::route_match::PathSpecifier;
use regex::Regex;
use std::borrow::Cow;

/// Conditions that must all hold.
#[derive(Debug, Clone)]
pub(crate) struct Condition {
    pub(crate) path: PathMatch,
    ignore_case: bool,
    fields: Vec<FieldMatch>,
    query: Vec<QueryMatch>,
    found_out: Vec<MetadataTest>,
}

/// A condition on the path, without the query.
#[derive(Debug, Clone)]
pub(crate) enum PathMatch {
    Prefix(Box<str>),
    /// A prefix that ends where a segment does.
    Segments(Box<str>),
    Exact(Box<str>),
    Regex(Regex),
}

/// A condition on a field.
#[derive(Debug, Clone)]
pub(crate) struct FieldMatch {
    name: FieldName,
    /// None: it is there.
    wanted: Option<TextMatch>,
    inverted: bool,
    missing_is_empty: bool,
}

/// Which field; those of a request's line count as some.
#[derive(Debug, Clone)]
pub(crate) enum FieldName {
    Field(HeaderName),
    Method,
    Authority,
    Scheme,
    Path,
}

/// A condition on a parameter of the query.
#[derive(Debug, Clone)]
pub(crate) struct QueryMatch {
    name: Box<str>,
    /// None: it is there.
    wanted: Option<TextMatch>,
}

// === impl Condition ===

impl Condition {
    /// Holds for every request.
    pub(crate) fn everything() -> Self {
        Self {
            path: PathMatch::Prefix("/".into()),
            ignore_case: false,
            fields: Vec::new(),
            query: Vec::new(),
            found_out: Vec::new(),
        }
    }

    pub(crate) fn parse(matches: &proto::RouteMatch) -> Result<Self, String> {
        if matches.runtime_fraction.is_some() || matches.grpc.is_some() || !matches.cookies.is_empty() {
            return Err("match: by path, headers and query_parameters is accepted".into());
        }
        let ignore_case = matches.case_sensitive.as_ref().is_some_and(|flag| !flag.value);
        let folded =
            |text: &str| -> Box<str> { if ignore_case { text.to_ascii_lowercase().into() } else { text.into() } };
        let path = match &matches.path_specifier {
            Some(PathSpecifier::Prefix(prefix)) => PathMatch::Prefix(folded(prefix)),
            Some(PathSpecifier::PathSeparatedPrefix(prefix)) => PathMatch::Segments(folded(prefix)),
            Some(PathSpecifier::Path(path)) => PathMatch::Exact(folded(path)),
            Some(PathSpecifier::SafeRegex(matcher)) => PathMatch::Regex(whole(&matcher.regex)?),
            _ => return Err("match: prefix, path_separated_prefix, path or safe_regex is accepted".into()),
        };
        Ok(Self {
            path,
            ignore_case,
            fields: matches.headers.iter().map(FieldMatch::parse).collect::<Result<_, _>>()?,
            query: matches.query_parameters.iter().map(QueryMatch::parse).collect::<Result<_, _>>()?,
            found_out: matches.dynamic_metadata.iter().map(MetadataTest::parse).collect::<Result<_, _>>()?,
        })
    }

    pub(crate) fn matches(&self, asked: &Asked<'_>) -> bool {
        self.path.matches(&self.folded(asked.path()))
            && self.fields.iter().all(|field| field.matches(asked))
            && self.query.iter().all(|parameter| parameter.matches(asked.query()))
            && self.found_out.iter().all(|test| test.holds(asked.metadata))
    }

    /// How many bytes of `path` were matched: what a rewrite replaces.
    pub(crate) fn matched(&self, path: &str) -> usize {
        match &self.path {
            PathMatch::Prefix(prefix) | PathMatch::Segments(prefix) => prefix.len().min(path.len()),
            PathMatch::Exact(_) | PathMatch::Regex(_) => path.len(),
        }
    }

    fn folded<'a>(&self, path: &'a str) -> Cow<'a, str> {
        if self.ignore_case && path.bytes().any(|byte| byte.is_ascii_uppercase()) {
            Cow::Owned(path.to_ascii_lowercase())
        } else {
            Cow::Borrowed(path)
        }
    }
}

// === impl PathMatch ===

impl PathMatch {
    fn matches(&self, path: &str) -> bool {
        match self {
            Self::Prefix(prefix) => path.starts_with(&**prefix),
            Self::Segments(prefix) => {
                path.strip_prefix(&**prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
            }
            Self::Exact(exact) => path == &**exact,
            Self::Regex(regex) => regex.is_match(path),
        }
    }
}

// === impl FieldMatch ===

impl FieldMatch {
    pub(crate) fn parse(matcher: &proto::HeaderMatcher) -> Result<Self, String> {
        let mut inverted = matcher.invert_match;
        let wanted = match &matcher.header_match_specifier {
            None => None,
            Some(HeaderMatchSpecifier::PresentMatch(present)) => {
                inverted ^= !present;
                None
            }
            Some(HeaderMatchSpecifier::StringMatch(matcher)) => Some(TextMatch::parse(matcher)?),
            Some(_) => return Err("headers: string_match or present_match is accepted".into()),
        };
        let name = FieldName::parse(&matcher.name)?;
        Ok(Self { name, wanted, inverted, missing_is_empty: matcher.treat_missing_header_as_empty })
    }

    pub(crate) fn matches(&self, asked: &Asked<'_>) -> bool {
        let Some(wanted) = &self.wanted else { return self.name.is_there(asked) != self.inverted };
        if !self.name.is_there(asked) {
            return self.missing_is_empty && wanted.matches("") != self.inverted;
        }
        self.name.any(asked, |value| wanted.matches(value)) != self.inverted
    }
}

// === impl FieldName ===

impl FieldName {
    pub(crate) fn parse(name: &str) -> Result<Self, String> {
        Ok(match name {
            ":method" => Self::Method,
            ":authority" | "host" => Self::Authority,
            ":scheme" => Self::Scheme,
            ":path" => Self::Path,
            name => Self::Field(name.parse().map_err(|_| format!("headers: {name:?} is no field's name"))?),
        })
    }

    pub(crate) fn is_there(&self, asked: &Asked<'_>) -> bool {
        match self {
            Self::Field(name) => asked.headers.contains_key(name),
            _ => true,
        }
    }

    /// Whether one of the field's values is `right`: each counts for itself, as in Envoy, so that nobody gets by a
    /// condition by sending the field twice.
    fn any(&self, asked: &Asked<'_>, right: impl Fn(&str) -> bool) -> bool {
        match self {
            Self::Field(name) => {
                asked.headers.get_all(name).iter().any(|value| right(&String::from_utf8_lossy(value.as_bytes())))
            }
            Self::Method => right(asked.method.as_str()),
            Self::Authority => right(asked.authority),
            Self::Scheme => right(asked.scheme),
            Self::Path => right(asked.target),
        }
    }
}

/// A field's value; the values of one that stands several times are joined by commas (RFC 9110, section 5.3).
pub(crate) fn joined<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<Cow<'a, str>> {
    let mut values = headers.get_all(name).iter().map(|value| String::from_utf8_lossy(value.as_bytes()));
    let first = values.next()?;
    Some(values.fold(first, |joined, value| Cow::Owned(format!("{joined},{value}"))))
}

// === impl QueryMatch ===

impl QueryMatch {
    pub(crate) fn parse(matcher: &proto::QueryParameterMatcher) -> Result<Self, String> {
        let wanted = match &matcher.query_parameter_match_specifier {
            None | Some(QueryParameterMatchSpecifier::PresentMatch(true)) => None,
            Some(QueryParameterMatchSpecifier::PresentMatch(false)) => {
                return Err("query_parameters: present_match false is not accepted".into());
            }
            Some(QueryParameterMatchSpecifier::StringMatch(matcher)) => Some(TextMatch::parse(matcher)?),
        };
        Ok(Self { name: matcher.name.as_str().into(), wanted })
    }

    pub(crate) fn matches(&self, query: &str) -> bool {
        let value = parameter(query, &self.name);
        value.is_some_and(|value| self.wanted.as_ref().is_none_or(|wanted| wanted.matches(&value)))
    }
}

/// The first value of a query's parameter, decoded.
pub(crate) fn parameter<'a>(query: &'a str, name: &str) -> Option<Cow<'a, str>> {
    form_urlencoded::parse(query.as_bytes()).find(|(key, _)| key == name).map(|(_, value)| value)
}
