//! The further conditions of an AuthorizationPolicy's rule: an attribute, and the values that it must or must not have
//! (<https://istio.io/latest/docs/reference/config/security/conditions/>).

use crate::access_rule::port;
use crate::{Listed, TextPattern};
use ipnet::IpNet;
use model::Namespace;
use resource::{Field, ResourceError};
use std::net::IpAddr;

/// A condition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AccessCondition {
    /// `request.headers[NAME]`, in lower case.
    Header(String, Listed<TextPattern>),
    /// `source.ip`.
    SourceIp(Listed<IpNet>),
    /// `remote.ip`.
    RemoteIp(Listed<IpNet>),
    /// `source.namespace`.
    SourceNamespace(Listed<TextPattern>),
    /// `source.principal`.
    SourcePrincipal(Listed<TextPattern>),
    /// `source.serviceAccount`.
    SourceAccount(Listed<(Namespace, String)>),
    /// `source.trustDomain`.
    SourceTrustDomain(Listed<TextPattern>),
    /// `request.auth.principal`.
    RequestPrincipal(Listed<TextPattern>),
    /// `request.auth.audiences`, `request.auth.presenter` and `request.auth.claims[A][B]`: a claim of a token.
    Claim(Vec<String>, Listed<TextPattern>),
    /// `destination.ip`.
    DestinationIp(Listed<IpNet>),
    /// `destination.port`.
    DestinationPort(Listed<u16>),
    /// `connection.sni`.
    ServerName(Listed<TextPattern>),
    /// `experimental.envoy.filters.FILTER[KEY]`: what a filter of Envoy's found out.
    Metadata {
        /// The filter's name.
        filter: String,
        /// The key.
        key: String,
        /// Its values.
        values: Listed<MetadataPattern>,
    },
}

/// A value that a filter found out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MetadataPattern {
    /// A text.
    Text(TextPattern),
    /// `[VALUE]`: a list that has such a text.
    ListWith(TextPattern),
}

const KEYS: &str = "request.headers[NAME], source.ip, remote.ip, source.namespace, source.principal, \
                    source.serviceAccount, source.trustDomain, request.auth.principal, request.auth.audiences, \
                    request.auth.presenter, request.auth.claims[NAME], destination.ip, destination.port, \
                    connection.sni or experimental.envoy.filters.NAME[KEY]";
const FILTERS: &str = "experimental.";

// === impl AccessCondition ===

impl AccessCondition {
    /// The condition at `at`; a namespace that is not said is `own`.
    pub(crate) fn read(at: &Field<'_>, own: &Namespace) -> Result<Self, ResourceError> {
        let fields = at.fields(&["key", "values", "notValues"])?;
        let (key, values, not_values) = (fields.get("key"), fields.get("values"), fields.get("notValues"));
        let name = key.required_text()?;
        if !values.is_present() && !not_values.is_present() {
            return Err(at.refuse("values, notValues or both"));
        }
        let texts = || Listed::read(&values, &not_values, TextPattern::read);
        let blocks = || Listed::read(&values, &not_values, block);
        let claim = |name: &str| Ok::<_, ResourceError>(Self::Claim(vec![name.to_owned()], texts()?));
        let domains = || Listed::read(&values, &not_values, |item| pattern(item, "-._", "a trust domain"));
        match name {
            "source.ip" => Ok(Self::SourceIp(blocks()?)),
            "remote.ip" => Ok(Self::RemoteIp(blocks()?)),
            "source.namespace" => {
                let names = Listed::read(&values, &not_values, |item| pattern(item, "-", "a namespace"));
                Ok(Self::SourceNamespace(names?))
            }
            "source.principal" => Ok(Self::SourcePrincipal(texts()?)),
            "source.serviceAccount" => {
                Ok(Self::SourceAccount(Listed::read(&values, &not_values, |item| account(item, own))?))
            }
            "source.trustDomain" => Ok(Self::SourceTrustDomain(domains()?)),
            "request.auth.principal" => Ok(Self::RequestPrincipal(texts()?)),
            "request.auth.audiences" => claim("aud"),
            "request.auth.presenter" => claim("azp"),
            "destination.ip" => Ok(Self::DestinationIp(blocks()?)),
            "destination.port" => Ok(Self::DestinationPort(Listed::read(&values, &not_values, port)?)),
            "connection.sni" => Ok(Self::ServerName(texts()?)),
            _ => {
                let (before, keys) = bracketed(name).ok_or_else(|| key.refuse(KEYS))?;
                match (before, &keys[..]) {
                    ("request.headers", [header]) => Ok(Self::Header(field_name(header, &key)?, texts()?)),
                    ("request.auth.claims", [_, ..]) => {
                        Ok(Self::Claim(keys.iter().map(|&part| part.to_owned()).collect(), texts()?))
                    }
                    (filter, [one]) if filter.starts_with("experimental.envoy.filters.") => Ok(Self::Metadata {
                        filter: filter.trim_start_matches(FILTERS).to_owned(),
                        key: (*one).to_owned(),
                        values: Listed::read(&values, &not_values, MetadataPattern::read)?,
                    }),
                    _ => Err(key.refuse(KEYS)),
                }
            }
        }
    }
}

/// `NAME[A][B]` in its parts; none of them is empty.
fn bracketed(text: &str) -> Option<(&str, Vec<&str>)> {
    let (name, rest) = text.strip_suffix(']')?.split_once('[')?;
    let keys: Vec<&str> = rest.split("][").collect();
    let legal = |key: &&str| !key.is_empty() && !key.contains(['[', ']']);
    (!name.is_empty() && keys.iter().all(legal)).then_some((name, keys))
}

/// A header field's name; names are the same in all cases.
fn field_name(name: &str, at: &Field<'_>) -> Result<String, ResourceError> {
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    let rest = name.strip_prefix(':').unwrap_or(name);
    if rest.is_empty() || !rest.bytes().all(legal) {
        return Err(at.refuse("request.headers[NAME] with a header field's name"));
    }
    Ok(name.to_ascii_lowercase())
}

/// A pattern of names that consist of a-z, 0-9 and `others`.
pub(crate) fn pattern(at: &Field<'_>, others: &str, what: &str) -> Result<TextPattern, ResourceError> {
    let read = TextPattern::read(at)?;
    let legal = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || others.contains(c);
    if read.literal().chars().all(legal) { Ok(read) } else { Err(at.refuse(format!("{what}, or a pattern of one"))) }
}

/// `NAMESPACE/ACCOUNT`, or `ACCOUNT` of the namespace `own`.
pub(crate) fn account(at: &Field<'_>, own: &Namespace) -> Result<(Namespace, String), ResourceError> {
    let refuse = || at.refuse("ACCOUNT or NAMESPACE/ACCOUNT, without '*', at most 320 characters");
    let text = at.required_text()?;
    let (namespace, account) = match text.split_once('/') {
        Some((namespace, account)) => (namespace.parse().map_err(|_| refuse())?, account),
        None => (own.clone(), text),
    };
    let legal = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-.".contains(&byte);
    if account.is_empty() || text.len() > 320 || !account.bytes().all(legal) {
        return Err(refuse());
    }
    Ok((namespace, account.to_owned()))
}

/// An address or a range of them; an IPv4 address in IPv6's clothes is the IPv4 address.
pub(crate) fn block(at: &Field<'_>) -> Result<IpNet, ResourceError> {
    let refuse = || at.refuse("an IP address or a range, e.g. 10.1.2.3, 10.1.0.0/16 or 2001:db8::/32");
    let text = at.required_text()?;
    let net = match text.parse::<IpAddr>() {
        Ok(address) => IpNet::from(address.to_canonical()),
        Err(_) => text.parse().map_err(|_| refuse())?,
    };
    let mapped = match net {
        IpNet::V6(range) => range.network().to_ipv4_mapped().zip(range.prefix_len().checked_sub(96)),
        IpNet::V4(_) => None,
    };
    match mapped {
        Some((address, length)) => IpNet::new(address.into(), length).map_err(|_| refuse()),
        None => Ok(net.trunc()),
    }
}

// === impl MetadataPattern ===

impl MetadataPattern {
    fn read(at: &Field<'_>) -> Result<Self, ResourceError> {
        let text = at.required_text()?;
        let Some(inside) = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) else {
            return Ok(Self::Text(TextPattern::read(at)?));
        };
        let legal = |text: &str| !text.is_empty() && !text.contains('*');
        match (inside.strip_prefix('*'), inside.strip_suffix('*')) {
            (Some(""), _) => Ok(Self::ListWith(TextPattern::Any)),
            (Some(end), _) if legal(end) => Ok(Self::ListWith(TextPattern::Suffix(end.to_owned()))),
            (None, Some(start)) if legal(start) => Ok(Self::ListWith(TextPattern::Prefix(start.to_owned()))),
            (None, None) if legal(inside) => Ok(Self::ListWith(TextPattern::Exact(inside.to_owned()))),
            _ => Err(at.refuse("a text, TEXT*, *TEXT or *, or one of these in brackets for a list that has it")),
        }
    }
}
