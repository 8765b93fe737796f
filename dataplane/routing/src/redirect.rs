//! A client is sent elsewhere.

use crate::Asked;
use crate::condition::Condition;
use crate::rewrite::Rewrite;
use api::envoy::envoy::config::route::v3 as proto;
use proto::redirect_action::{PathRewriteSpecifier, RedirectResponseCode, SchemeRewriteSpecifier};

/// Where a client is sent.
#[derive(Debug, Clone)]
pub struct Redirect {
    /// The status of the answer.
    pub status: u16,
    scheme: Option<Box<str>>,
    host: Option<Box<str>>,
    port: Option<u16>,
    path: Option<Rewrite>,
    strips_query: bool,
}

// === impl Redirect ===

impl Redirect {
    /// To the same place over TLS, for good.
    pub(crate) fn to_https() -> Self {
        Self { status: 301, scheme: Some("https".into()), host: None, port: None, path: None, strips_query: false }
    }

    pub(crate) fn parse(action: &proto::RedirectAction) -> Result<Self, String> {
        let scheme = match &action.scheme_rewrite_specifier {
            Some(SchemeRewriteSpecifier::HttpsRedirect(true)) => Some("https".into()),
            Some(SchemeRewriteSpecifier::SchemeRedirect(scheme)) => Some(scheme.as_str().into()),
            _ => None,
        };
        let path = match &action.path_rewrite_specifier {
            None => None,
            Some(PathRewriteSpecifier::PathRedirect(path) | PathRewriteSpecifier::PathRewrite(path)) => {
                Some(Rewrite::Whole(path.as_str().into()))
            }
            Some(PathRewriteSpecifier::PrefixRewrite(prefix)) => Some(Rewrite::Matched(prefix.as_str().into())),
            Some(PathRewriteSpecifier::RegexRewrite(rewrite)) => Some(Rewrite::regex(rewrite)?),
        };
        let status = match action.response_code() {
            RedirectResponseCode::MovedPermanently => 301,
            RedirectResponseCode::Found => 302,
            RedirectResponseCode::SeeOther => 303,
            RedirectResponseCode::TemporaryRedirect => 307,
            RedirectResponseCode::PermanentRedirect => 308,
        };
        let host = Some(action.host_redirect.as_str()).filter(|host| !host.is_empty()).map(Into::into);
        let port = u16::try_from(action.port_redirect).ok().filter(|port| *port != 0);
        Ok(Self { status, scheme, host, port, path, strips_query: action.strip_query })
    }

    /// The `Location` for a request that met `condition`.
    pub(crate) fn location(&self, asked: &Asked<'_>, condition: &Condition) -> String {
        let scheme = self.scheme.as_deref().unwrap_or(asked.scheme);
        let (host, port) = split(asked.authority);
        // A port that is usual for the scheme that is left behind would be wrong for the new one.
        let was_usual = matches!((asked.scheme, port), ("http", Some("80")) | ("https", Some("443")));
        let kept = port.filter(|_| self.host.is_none() && !(was_usual && scheme != asked.scheme));
        let host = self.host.as_deref().unwrap_or(host);
        let port = self.port.map(|port| format!(":{port}")).or_else(|| kept.map(|port| format!(":{port}")));
        let target = match &self.path {
            // A path of its own query replaces both.
            Some(Rewrite::Whole(path)) if path.contains('?') => path.to_string(),
            Some(rewrite) => rewrite.apply(asked.target, condition),
            None => asked.target.to_owned(),
        };
        let target = if self.strips_query { target.split('?').next().unwrap_or_default().to_owned() } else { target };
        format!("{scheme}://{host}{}{target}", port.unwrap_or_default())
    }
}

/// An authority's host, and its port if it has one.
pub(crate) fn split(authority: &str) -> (&str, Option<&str>) {
    match authority.rsplit_once(':') {
        Some((host, port)) if !host.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit()) => (host, Some(port)),
        _ => (authority, None),
    }
}
