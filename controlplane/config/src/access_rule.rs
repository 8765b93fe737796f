//! A rule of an AuthorizationPolicy: who asks, what for, and under which conditions.

use crate::access_condition::{AccessCondition, account, block, pattern};
use crate::{Listed, TextPattern, exclusive};
use ipnet::IpNet;
use model::Namespace;
use resource::{Field, Fields, ResourceError};

/// It is met if one of `from` is (or there is none), one of `to` (or there is none), and all of `when`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct AccessRule {
    /// Who asks.
    pub from: Vec<AccessSource>,
    /// What for.
    pub to: Vec<AccessOperation>,
    /// What else must hold.
    pub when: Vec<AccessCondition>,
}

/// Who asks: all that is said must hold.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct AccessSource {
    /// By certificate: `TRUST_DOMAIN/ns/NAMESPACE/sa/ACCOUNT`.
    pub principals: Listed<TextPattern>,
    /// By token: `ISSUER/SUBJECT`.
    pub request_principals: Listed<TextPattern>,
    /// The namespace, by certificate.
    pub namespaces: Listed<TextPattern>,
    /// The service account and its namespace, by certificate.
    pub service_accounts: Listed<(Namespace, String)>,
    /// The trust domain, by certificate.
    pub trust_domains: Listed<TextPattern>,
    /// The address that connects.
    pub ip_blocks: Listed<IpNet>,
    /// The address that asks, as the proxies before tell it.
    pub remote_ip_blocks: Listed<IpNet>,
}

/// What is asked for: all that is said must hold.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct AccessOperation {
    /// The host; with or without a port, case does not matter.
    pub hosts: Listed<TextPattern>,
    /// The port of the workload.
    pub ports: Listed<u16>,
    /// The method.
    pub methods: Listed<TextPattern>,
    /// The path without the query.
    pub paths: Listed<PathPattern>,
}

/// A condition on a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PathPattern {
    /// As other texts.
    Text(TextPattern),
    /// Segments, of which some are left open.
    Template(Vec<PathSegment>),
}

/// A segment of a template.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PathSegment {
    /// This one.
    Literal(String),
    /// `{*}`: any one that is not empty.
    One,
    /// `{**}`: any number of them.
    Rest,
}

/// A list and its opposite.
const SOURCE: &[&str] = &[
    "principals",
    "notPrincipals",
    "requestPrincipals",
    "notRequestPrincipals",
    "namespaces",
    "notNamespaces",
    "serviceAccounts",
    "notServiceAccounts",
    "trustDomains",
    "notTrustDomains",
    "ipBlocks",
    "notIpBlocks",
    "remoteIpBlocks",
    "notRemoteIpBlocks",
];
const OPERATION: &[&str] = &["hosts", "notHosts", "ports", "notPorts", "methods", "notMethods", "paths", "notPaths"];
const MOST: usize = 512;

// === impl AccessRule ===

impl AccessRule {
    /// The rule at `at`; a namespace that is not said is `own`.
    pub(crate) fn read(at: &Field<'_>, own: &Namespace) -> Result<Self, ResourceError> {
        let fields = at.clone().require("a rule; {} is one for everything")?.fields(&["from", "to", "when"])?;
        let from = listed(&fields.get("from"), |item| {
            AccessSource::read(&item.fields(&["source"])?.get("source").require("a source")?, own)
        });
        let to = listed(&fields.get("to"), |item| {
            AccessOperation::read(&item.fields(&["operation"])?.get("operation").require("an operation")?)
        });
        let when = listed(&fields.get("when"), |item| AccessCondition::read(item, own));
        Ok(Self { from: from?, to: to?, when: when? })
    }
}

/// The items of a list that is not empty if it is there: an empty one would say "any" where it seems to say "none".
fn listed<T>(at: &Field<'_>, read: impl Fn(&Field<'_>) -> Result<T, ResourceError>) -> Result<Vec<T>, ResourceError> {
    let items = at.items()?;
    if items.len() > MOST || (at.is_present() && items.is_empty()) {
        return Err(at.refuse(format!("a list of 1 to {MOST} items")));
    }
    items.iter().map(read).collect()
}

/// The list `name` of `fields` and its opposite `notName`.
fn both<T>(
    fields: &Fields<'_>,
    name: &str,
    read: impl Fn(&Field<'_>) -> Result<T, ResourceError>,
) -> Result<Listed<T>, ResourceError> {
    let (first, rest) = name.split_at(1);
    let opposite = format!("not{}{rest}", first.to_ascii_uppercase());
    Listed::read(&fields.get(name), &fields.get(&opposite), read)
}

// === impl AccessSource ===

impl AccessSource {
    fn read(at: &Field<'_>, own: &Namespace) -> Result<Self, ResourceError> {
        let fields = at.fields(SOURCE)?;
        for name in ["serviceAccounts", "notServiceAccounts"] {
            for other in ["principals", "notPrincipals", "namespaces", "notNamespaces"] {
                exclusive(&fields, &[name, other])?;
            }
        }
        let read = Self {
            principals: both(&fields, "principals", TextPattern::read)?,
            request_principals: both(&fields, "requestPrincipals", TextPattern::read)?,
            namespaces: both(&fields, "namespaces", |item| pattern(item, "-", "a namespace"))?,
            service_accounts: both(&fields, "serviceAccounts", |item| account(item, own))?,
            trust_domains: both(&fields, "trustDomains", |item| pattern(item, "-._", "a trust domain"))?,
            ip_blocks: both(&fields, "ipBlocks", block)?,
            remote_ip_blocks: both(&fields, "remoteIpBlocks", block)?,
        };
        for name in ["serviceAccounts", "notServiceAccounts"] {
            if fields.get(name).items()?.len() > 16 {
                return Err(fields.get(name).refuse("at most 16 items"));
            }
        }
        if read == Self::default() { Err(at.refuse(format!("one or more of {}", SOURCE.join(", ")))) } else { Ok(read) }
    }
}

// === impl AccessOperation ===

impl AccessOperation {
    fn read(at: &Field<'_>) -> Result<Self, ResourceError> {
        let fields = at.fields(OPERATION)?;
        let read = Self {
            hosts: both(&fields, "hosts", TextPattern::read)?,
            ports: both(&fields, "ports", port)?,
            methods: both(&fields, "methods", TextPattern::read)?,
            paths: both(&fields, "paths", PathPattern::read)?,
        };
        if read == Self::default() {
            return Err(at.refuse(format!("one or more of {}", OPERATION.join(", "))));
        }
        Ok(read)
    }
}

/// A port, which Istio has as a text.
pub(crate) fn port(at: &Field<'_>) -> Result<u16, ResourceError> {
    let refuse = || at.refuse("a port number in quotes, \"1\" to \"65535\"");
    let text = at.text().map_err(|_| refuse())?.unwrap_or_default();
    let is_plain = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|port| is_plain && *port != 0).ok_or_else(refuse)
}

// === impl PathPattern ===

impl PathPattern {
    fn read(at: &Field<'_>) -> Result<Self, ResourceError> {
        let text = at.required_text()?;
        if !text.contains(['{', '}']) {
            return Ok(Self::Text(TextPattern::read(at)?));
        }
        let refuse = || {
            at.refuse("a path of which whole segments are {*}, and a last of these {**}, e.g. /a/{*}/b/{**}; no other '*', '{' and '}'")
        };
        let Some(path) = text.strip_prefix('/') else { return Err(refuse()) };
        let mut segments = Vec::new();
        for segment in path.split('/') {
            let is_over = segments.contains(&PathSegment::Rest);
            segments.push(match segment {
                "{*}" | "{**}" if is_over => return Err(refuse()),
                "{*}" => PathSegment::One,
                "{**}" => PathSegment::Rest,
                other if other.contains(['*', '{', '}']) => return Err(refuse()),
                other => PathSegment::Literal(other.to_owned()),
            });
        }
        Ok(Self::Template(segments))
    }
}
