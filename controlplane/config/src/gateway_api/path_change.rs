//! Changes of the path and the host: RequestRedirect and URLRewrite.

use super::object::{choice, chosen};
use crate::{HttpMatch, Redirect, RedirectPath, RedirectPort, Rewrite, StringMatch};
use model::Host;
use resource::{Field, ResourceError};

/// A redirection, before it is known which beginning of a path was matched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Redirection {
    scheme: Option<String>,
    host: Option<String>,
    path: Option<PathChange>,
    port: Option<u16>,
    status: u16,
}

/// A rewrite, likewise.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct UrlRewrite {
    host: Option<String>,
    path: Option<PathChange>,
}

/// What a path becomes.
#[derive(Debug, Clone, PartialEq, Eq)]
enum PathChange {
    /// This.
    Whole(String),
    /// The matched beginning becomes this, whole segments of it.
    Prefix(String),
}

const STATUSES: [u32; 5] = [301, 302, 303, 307, 308];
const LONGEST: usize = 1024;

// === impl Redirection ===

impl Redirection {
    pub(super) fn read(at: &Field<'_>) -> Result<Self, ResourceError> {
        let fields = at.fields(&["scheme", "hostname", "path", "port", "statusCode"])?;
        let scheme = choice(&fields.get("scheme"), &[("http", Some("http")), ("https", Some("https"))], None)?;
        let code = fields.get("statusCode");
        let wanted = "301, 302, 303, 307 or 308";
        let status = code.integer(0..=399, wanted)?.unwrap_or(302);
        if !STATUSES.contains(&status) {
            return Err(code.refuse(wanted));
        }
        Ok(Self {
            scheme: scheme.map(str::to_owned),
            host: host(&fields.get("hostname"))?,
            path: PathChange::read(&fields.get("path"))?,
            port: fields.get("port").port()?,
            status: u16::try_from(status).unwrap_or(302),
        })
    }

    /// Whether it wants to know the beginning of the path that was matched.
    pub(super) fn needs_prefix(&self) -> bool {
        matches!(self.path, Some(PathChange::Prefix(_)))
    }

    /// Where requests are sent that met `matches`. Without a port it is the scheme's if one is said, else the
    /// listener's.
    pub(super) fn redirect(&self, matches: &HttpMatch) -> Redirect {
        let port = match (self.port, &self.scheme) {
            (Some(port), _) => RedirectPort::Number(port),
            (None, Some(_)) => RedirectPort::OfScheme,
            (None, None) => RedirectPort::OfRequest,
        };
        let path = self.path.as_ref().and_then(|path| match path.of(matches) {
            Changed::Nothing => None,
            Changed::Whole(whole) => Some(RedirectPath::Whole(whole)),
            Changed::Prefix(prefix) => Some(RedirectPath::Prefix(prefix)),
            Changed::Pattern(pattern, substitution) => Some(RedirectPath::Pattern(pattern, substitution)),
        });
        Redirect { path, authority: self.host.clone(), port, scheme: self.scheme.clone(), status: self.status }
    }
}

// === impl UrlRewrite ===

impl UrlRewrite {
    pub(super) fn read(at: &Field<'_>) -> Result<Self, ResourceError> {
        let fields = at.fields(&["hostname", "path"])?;
        Ok(Self { host: host(&fields.get("hostname"))?, path: PathChange::read(&fields.get("path"))? })
    }

    /// Whether it wants to know the beginning of the path that was matched.
    pub(super) fn needs_prefix(&self) -> bool {
        matches!(self.path, Some(PathChange::Prefix(_)))
    }

    /// What becomes of requests that met `matches`.
    pub(super) fn rewrite(&self, matches: &HttpMatch) -> Rewrite {
        let mut rewrite = Rewrite { authority: self.host.clone(), ..Rewrite::default() };
        match self.path.as_ref().map_or(Changed::Nothing, |path| path.of(matches)) {
            Changed::Nothing => {}
            Changed::Whole(whole) => rewrite.regex = Some(("/.*".to_owned(), substitution(&whole))),
            Changed::Prefix(prefix) => rewrite.uri = Some(prefix),
            Changed::Pattern(pattern, substitution) => rewrite.regex = Some((pattern, substitution)),
        }
        rewrite
    }
}

/// What a change comes to for one condition.
enum Changed {
    Nothing,
    Whole(String),
    /// What was matched becomes this.
    Prefix(String),
    /// What matches the expression becomes this.
    Pattern(String, String),
}

// === impl PathChange ===

impl PathChange {
    fn read(at: &Field<'_>) -> Result<Option<Self>, ResourceError> {
        if !at.is_present() {
            return Ok(None);
        }
        let fields = at.fields(&["type", "replaceFullPath", "replacePrefixMatch"])?;
        let types = [("ReplaceFullPath", true), ("ReplacePrefixMatch", false)];
        let is_whole = chosen(&fields.get("type"), &types)?;
        let (own, other) = if is_whole { (1, 2) } else { (2, 1) };
        let names = ["type", "replaceFullPath", "replacePrefixMatch"];
        let (own, other) = (fields.get(names[own]), fields.get(names[other]));
        if other.is_present() {
            return Err(other.refuse("nothing here: the type is another"));
        }
        let text = own.required_text()?;
        if text.len() > LONGEST || text.contains(char::is_control) || text.contains(['?', '#']) {
            return Err(own.refuse(format!("a path of at most {LONGEST} characters, without '?' and '#'")));
        }
        if !text.starts_with('/') && (is_whole || !text.is_empty()) {
            return Err(own.refuse("a path that begins with '/'"));
        }
        Ok(Some(if is_whole { Self::Whole(text.to_owned()) } else { Self::Prefix(text.to_owned()) }))
    }

    /// For requests that met `matches`. A segment must not run into the next one, nor an empty one come about.
    fn of(&self, matches: &HttpMatch) -> Changed {
        let prefix = match self {
            Self::Whole(whole) => return Changed::Whole(whole.clone()),
            Self::Prefix(prefix) => prefix.trim_end_matches('/'),
        };
        let matched = match &matches.uri {
            Some(StringMatch::Prefix(matched)) => matched.trim_end_matches('/'),
            _ => "",
        };
        match (matched, prefix) {
            ("", "") => Changed::Nothing,
            ("", prefix) => Changed::Pattern("^/".to_owned(), substitution(&format!("{prefix}/"))),
            (matched, "") => Changed::Pattern(format!("^{}/*", regex::escape(matched)), "/".to_owned()),
            (_, prefix) => Changed::Prefix(prefix.to_owned()),
        }
    }
}

/// `text` as it is, in the place of what an expression matched.
fn substitution(text: &str) -> String {
    text.replace('\\', "\\\\")
}

fn host(at: &Field<'_>) -> Result<Option<String>, ResourceError> {
    match at.parse::<Host>()? {
        Some(host) if host.is_wildcard() => Err(at.refuse("a host name without '*'")),
        host => Ok(host.map(|host| host.to_string())),
    }
}
