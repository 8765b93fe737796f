//! Which pages of other origins may ask (the Fetch standard's CORS protocol).

use crate::{StringMatch, header_operations};
use resource::{Field, ResourceError, Source};
use std::time::Duration;

/// A CORS policy.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CorsPolicy {
    /// The origins that may ask.
    pub origins: Vec<StringMatch>,
    /// The methods that they may use.
    pub methods: Vec<String>,
    /// The header fields that they may send.
    pub headers: Vec<String>,
    /// The header fields that they may read.
    pub exposed: Vec<String>,
    /// How long a browser may remember this.
    pub max_age: Option<Duration>,
    /// Whether they may send cookies and the like; not said if absent.
    pub credentials: Option<bool>,
    /// Whether a preflight request of an origin that may not ask goes to the upstream.
    pub forwards_unmatched: bool,
}

const FIELDS: &[&str] = &[
    "allowOrigin",
    "allowOrigins",
    "allowMethods",
    "allowHeaders",
    "exposeHeaders",
    "maxAge",
    "allowCredentials",
    "unmatchedPreflights",
];

// === impl CorsPolicy ===

impl CorsPolicy {
    pub(crate) fn read(at: &Field<'_>, source: &mut Source) -> Result<Option<Self>, ResourceError> {
        if !at.is_present() {
            return Ok(None);
        }
        let fields = at.fields(FIELDS)?;
        let unmatched = fields.get("unmatchedPreflights");
        let forwards_unmatched = match unmatched.text()? {
            None | Some("UNSPECIFIED" | "FORWARD") => true,
            Some("IGNORE") => false,
            Some(_) => return Err(unmatched.refuse("UNSPECIFIED, FORWARD or IGNORE")),
        };
        let texts = |name: &str| tokens(&fields.get(name));
        let max_age = fields.get("maxAge");
        if max_age.duration(Duration::ZERO)?.is_some_and(|time| time.subsec_nanos() != 0) {
            return Err(max_age.refuse("whole seconds"));
        }
        Ok(Some(Self {
            origins: origins(&fields.get("allowOrigins"), &fields.get("allowOrigin"), source)?,
            methods: texts("allowMethods")?,
            headers: texts("allowHeaders")?,
            exposed: texts("exposeHeaders")?,
            max_age: max_age.duration(Duration::from_millis(1))?,
            credentials: fields.get("allowCredentials").boolean()?,
            forwards_unmatched,
        }))
    }
}

/// Methods or names of header fields; both are tokens (RFC 9110, section 5.6.2), as `*` is.
fn tokens(at: &Field<'_>) -> Result<Vec<String>, ResourceError> {
    for item in at.items()? {
        if !header_operations::is_token(item.required_text()?) {
            return Err(item.refuse("a token: letters, digits and !#$%&'*+-.^_`|~"));
        }
    }
    at.text_items()
}

/// `allowOrigins`, or else the older `allowOrigin`, whose `*` is all.
fn origins(at: &Field<'_>, older: &Field<'_>, source: &mut Source) -> Result<Vec<StringMatch>, ResourceError> {
    let mut origins = Vec::new();
    for item in at.items()? {
        let origin = StringMatch::read(&item)?;
        origins.push(origin.ok_or_else(|| item.refuse("one of exact, prefix and regex"))?);
    }
    if origins.is_empty() && older.is_present() {
        source.warn(older, "deprecated: allowOrigins takes its place");
        let all = |text: &String| if text == "*" { ".*".to_owned() } else { regex::escape(text) };
        origins = older.text_items()?.iter().map(|text| StringMatch::Regex(all(text))).collect();
    }
    Ok(origins)
}
