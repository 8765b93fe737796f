//! What a route does beside forwarding, or to what it forwards: redirect, answer, rewrite.

use crate::{exclusive, string_match};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use resource::{Field, ResourceError};

/// The client is sent elsewhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Redirect {
    /// The path there; that of the request if absent.
    pub path: Option<RedirectPath>,
    /// The authority there; that of the request if absent.
    pub authority: Option<String>,
    /// The port there.
    pub port: RedirectPort,
    /// The scheme there; that of the request if absent.
    pub scheme: Option<String>,
    /// The status: 301, 302, 303, 307 or 308.
    pub status: u16,
}

/// The path that a client is sent to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RedirectPath {
    /// This one.
    Whole(String),
    /// That of the request, with the matched prefix replaced.
    Prefix(String),
    /// That of the request, with what matches the expression replaced (`\1` for its groups).
    Pattern(String, String),
}

/// The port that a client is sent to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum RedirectPort {
    /// That of the scheme.
    #[default]
    OfScheme,
    /// The one that was asked for.
    OfRequest,
    /// This one.
    Number(u16),
}

/// An answer of the proxy itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DirectResponse {
    /// The status.
    pub status: u16,
    /// The body; none if empty.
    pub body: Vec<u8>,
}

/// What the upstream gets instead of what was asked for.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Rewrite {
    /// The path, or the part of it that was matched by its beginning.
    pub uri: Option<String>,
    /// The authority.
    pub authority: Option<String>,
    /// A regular expression for the path, and what takes the place of what it matches (`\1` for its groups).
    pub regex: Option<(String, String)>,
}

const REDIRECT: &[&str] = &["uri", "prefixRewrite", "authority", "port", "derivePort", "scheme", "redirectCode"];
const CODES: [u32; 5] = [301, 302, 303, 307, 308];
/// The longest body of an answer, in bytes: Envoy's limit is 4096 unless told otherwise; Istio tells it 1 MiB.
const LONGEST_BODY: usize = 1 << 20;

// === impl Redirect ===

impl Redirect {
    pub(crate) fn read(at: &Field<'_>) -> Result<Option<Self>, ResourceError> {
        if !at.is_present() {
            return Ok(None);
        }
        let fields = at.fields(REDIRECT)?;
        exclusive(&fields, &["uri", "prefixRewrite"])?;
        exclusive(&fields, &["port", "derivePort"])?;
        let text = |name| non_empty(&fields.get(name));
        let path = match text("prefixRewrite")? {
            Some(prefix) => Some(RedirectPath::Prefix(prefix)),
            None => text("uri")?.map(RedirectPath::Whole),
        };
        let (derive, code) = (fields.get("derivePort"), fields.get("redirectCode"));
        let port = match (fields.get("port").port()?, derive.text()?) {
            (Some(number), _) => RedirectPort::Number(number),
            (None, None | Some("FROM_PROTOCOL_DEFAULT")) => RedirectPort::OfScheme,
            (None, Some("FROM_REQUEST_PORT")) => RedirectPort::OfRequest,
            (None, Some(_)) => return Err(derive.refuse("FROM_PROTOCOL_DEFAULT or FROM_REQUEST_PORT")),
        };
        let wanted = "301, 302, 303, 307 or 308";
        let status = code.integer(0..=399, wanted)?.filter(|code| *code != 0).unwrap_or(301);
        if !CODES.contains(&status) {
            return Err(code.refuse(wanted));
        }
        let scheme = fields.get("scheme");
        if scheme.text()?.is_some_and(|text| !matches!(text, "" | "http" | "https")) {
            return Err(scheme.refuse("http or https"));
        }
        let (authority, scheme) = (text("authority")?, text("scheme")?);
        let ported = fields.get("port").is_present() || derive.is_present();
        if path.is_none() && authority.is_none() && scheme.is_none() && !ported {
            return Err(at.refuse("one of uri, prefixRewrite, authority, scheme, port and derivePort"));
        }
        Ok(Some(Self { path, authority, port, scheme, status: u16::try_from(status).unwrap_or(301) }))
    }
}

// === impl DirectResponse ===

impl DirectResponse {
    pub(crate) fn read(at: &Field<'_>) -> Result<Option<Self>, ResourceError> {
        if !at.is_present() {
            return Ok(None);
        }
        let fields = at.fields(&["status", "body"])?;
        let status = fields.get("status");
        let code = status.integer(200..=599, "an HTTP status, 200 to 599")?;
        let code = code.ok_or_else(|| status.refuse("an HTTP status, 200 to 599"))?;
        let body = fields.get("body").fields(&["string", "bytes"])?;
        exclusive(&body, &["string", "bytes"])?;
        let bytes = body.get("bytes");
        let content = match bytes.text()? {
            Some(text) => STANDARD.decode(text).map_err(|_| bytes.refuse("base64"))?,
            None => body.get("string").text()?.unwrap_or_default().as_bytes().to_vec(),
        };
        if content.len() > LONGEST_BODY {
            return Err(fields.get("body").refuse(format!("at most {LONGEST_BODY} bytes")));
        }
        Ok(Some(Self { status: u16::try_from(code).unwrap_or(500), body: content }))
    }
}

// === impl Rewrite ===

impl Rewrite {
    pub(crate) fn read(at: &Field<'_>) -> Result<Option<Self>, ResourceError> {
        if !at.is_present() {
            return Ok(None);
        }
        let fields = at.fields(&["uri", "authority", "uriRegexRewrite"])?;
        exclusive(&fields, &["uri", "uriRegexRewrite"])?;
        let regex = fields.get("uriRegexRewrite");
        let parts = regex.fields(&["match", "rewrite"])?;
        let pattern = parts.get("match");
        let regex = match pattern.text()? {
            Some(text) => {
                let pattern = string_match::regex(&pattern, text)?;
                Some((pattern, parts.get("rewrite").text()?.unwrap_or_default().to_owned()))
            }
            None if regex.is_present() => return Err(pattern.refuse("a regular expression; this field is required")),
            None => None,
        };
        let text = |name| non_empty(&fields.get(name));
        let rewrite = Self { uri: text("uri")?, authority: text("authority")?, regex };
        if rewrite == Self::default() {
            return Err(at.refuse("one of uri, authority and uriRegexRewrite"));
        }
        Ok(Some(rewrite))
    }
}

fn non_empty(at: &Field<'_>) -> Result<Option<String>, ResourceError> {
    let text = at.text()?.filter(|text| !text.is_empty());
    if text.is_some_and(|text| text.contains(char::is_control)) {
        return Err(at.refuse("a text without control characters"));
    }
    Ok(text.map(str::to_owned))
}
