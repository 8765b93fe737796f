//! RateLimit (`networking.isthmus.io/v1alpha1`): how many requests a proxy lets by.

use crate::{Selector, StringMatch, labels};
use model::Namespace;
use resource::{Document, Field, Node, Position, ResourceError, Source};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// One RateLimit resource.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RateLimit {
    /// Its namespace: it is for proxies there, or anywhere if this is the root namespace.
    pub namespace: Namespace,
    /// Its name.
    pub name: String,
    /// Where it stands.
    pub position: Position,
    /// The labels that a proxy's workload must bear; any if empty.
    pub selector: Selector,
    /// Whose requests.
    pub context: LimitContext,
    /// The port on which they come, to the listener or, of a workload, to the workload; any if absent.
    pub port: Option<u16>,
    /// For all requests together; no limit if absent.
    pub bucket: Option<TokenBucket>,
    /// For some of them.
    pub rules: Vec<LimitRule>,
    /// The status of the answer to a request for which there is no token.
    pub status: u16,
    /// Whether answers say what is left (`x-ratelimit-limit`, `-remaining`, `-reset`).
    pub shows: bool,
    /// Whether a refused request is told when to come again (`retry-after`).
    pub tells_when: bool,
    /// What the answer to a refused request gets.
    pub response_headers: BTreeMap<String, String>,
    /// Whether it is only counted what would be refused.
    pub dry_run: bool,
}

/// Whose requests a limit is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LimitContext {
    /// Those to a workload.
    #[default]
    Inbound,
    /// Those from a workload.
    Outbound,
    /// Those through a gateway.
    Gateway,
}

/// Tokens: each request takes one, and time brings them back evenly.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TokenBucket {
    /// The most there are.
    pub most: u32,
    /// How many come in each interval.
    pub per_fill: u32,
    /// The interval.
    pub interval: Duration,
}

/// A limit for the requests that meet all of its conditions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LimitRule {
    /// Its name; unique within the resource.
    pub name: String,
    /// The methods; any if empty.
    pub methods: Vec<String>,
    /// The hosts, full, short or `*.DOMAIN`; any if empty.
    pub hosts: Vec<String>,
    /// The path, without the query.
    pub path: Option<StringMatch>,
    /// Header fields; those without a condition must be there.
    pub headers: BTreeMap<String, Option<StringMatch>>,
    /// The name of the route that the request takes.
    pub route: Option<String>,
    /// Who asks; anybody if it is absent.
    pub from: Option<LimitSource>,
    /// What has a bucket of its own for each of its values.
    pub per: BTreeSet<LimitKey>,
    /// The tokens.
    pub bucket: TokenBucket,
}

/// Who asks, by certificate: what one of these names.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LimitSource {
    /// `TRUST_DOMAIN/ns/NAMESPACE/sa/ACCOUNT`.
    pub principals: Vec<String>,
    /// Namespaces.
    pub namespaces: Vec<Namespace>,
    /// Service accounts with their namespaces.
    pub accounts: Vec<(Namespace, String)>,
}

/// What tells requests apart.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum LimitKey {
    /// Who asks, by certificate; all who show none are one.
    Source,
    /// The address that asks.
    Address,
    /// The value of a header field; a request without it is not limited.
    Header(String),
}

const FIELDS: &[&str] = &[
    "selector",
    "context",
    "port",
    "bucket",
    "rules",
    "status",
    "rateLimitHeaders",
    "retryAfter",
    "responseHeaders",
    "dryRun",
];
const RULE: &[&str] = &["name", "match", "from", "per", "bucket"];
const MATCH: &[&str] = &["methods", "hosts", "path", "headers", "route"];
/// Envoy's shortest interval.
const SHORTEST: Duration = Duration::from_millis(50);
const MOST_RULES: usize = 64;

/// The RateLimit that `document` holds in its raw `spec`.
pub(crate) fn read(document: &Document, spec: &Node, source: &mut Source) -> Result<RateLimit, ResourceError> {
    let at = Field::new(&document.position.file, "spec", spec).require("a RateLimit's fields")?;
    let fields = at.fields(FIELDS)?;
    let context = context(&fields.get("context"))?;
    let status = fields.get("status").integer(400..=599, "an HTTP status, 400 to 599")?;
    let tells_when = fields.get("retryAfter");
    if tells_when.boolean()? == Some(true) && status.is_some_and(|status| status != 429) {
        return Err(tells_when.refuse("nothing beside another status than 429"));
    }
    let flag = |name: &str| Ok::<_, ResourceError>(fields.get(name).boolean()?.unwrap_or(false));
    let bucket = Some(fields.get("bucket")).filter(Field::is_present).map(|at| TokenBucket::read(&at)).transpose()?;
    let rules = rules(&fields.get("rules"), context, &document.metadata.namespace)?;
    if bucket.is_none() && rules.is_empty() {
        source.warn(&at, "neither a bucket nor a rule: it limits nothing");
    }
    Ok(RateLimit {
        namespace: document.metadata.namespace.clone(),
        name: document.metadata.name.clone(),
        position: document.position.clone(),
        selector: labels(&fields.get("selector").fields(&["matchLabels"])?.get("matchLabels"))?,
        context,
        port: fields.get("port").port()?,
        bucket,
        rules,
        status: status.and_then(|status| u16::try_from(status).ok()).unwrap_or(429),
        shows: flag("rateLimitHeaders")?,
        tells_when: flag("retryAfter")?,
        response_headers: response_headers(&fields.get("responseHeaders"))?,
        dry_run: flag("dryRun")?,
    })
}

fn context(at: &Field<'_>) -> Result<LimitContext, ResourceError> {
    match at.text()? {
        None | Some("INBOUND") => Ok(LimitContext::Inbound),
        Some("OUTBOUND") => Ok(LimitContext::Outbound),
        Some("GATEWAY") => Ok(LimitContext::Gateway),
        Some(_) => Err(at.refuse("INBOUND, OUTBOUND or GATEWAY")),
    }
}

fn response_headers(at: &Field<'_>) -> Result<BTreeMap<String, String>, ResourceError> {
    for (name, member) in at.members()? {
        header_name(name, &member)?;
        let value = member.required_text()?;
        if value.is_empty() || value.contains(|c: char| c.is_control() || c == '%') {
            return Err(member.refuse("a field's value, without control characters and '%'"));
        }
    }
    if at.members()?.len() > 10 {
        return Err(at.refuse("at most 10 header fields"));
    }
    at.texts()
}

fn header_name(name: &str, at: &Field<'_>) -> Result<String, ResourceError> {
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    if name.is_empty() || !name.bytes().all(legal) {
        return Err(at.refuse("a header field's name: letters, digits, '-', '_' and '.'"));
    }
    Ok(name.to_ascii_lowercase())
}

fn rules(at: &Field<'_>, context: LimitContext, own: &Namespace) -> Result<Vec<LimitRule>, ResourceError> {
    let mut rules: Vec<LimitRule> = Vec::new();
    for item in at.items()? {
        let rule = LimitRule::read(&item, rules.len(), context, own)?;
        if rules.iter().any(|other| other.name == rule.name) {
            return Err(item.fields(RULE)?.get("name").refuse("each rule's name once"));
        }
        rules.push(rule);
    }
    if rules.len() > MOST_RULES { Err(at.refuse(format!("at most {MOST_RULES} rules"))) } else { Ok(rules) }
}

// === impl TokenBucket ===

impl TokenBucket {
    fn read(at: &Field<'_>) -> Result<Self, ResourceError> {
        let fields = at.clone().require("a bucket")?.fields(&["maxTokens", "tokensPerFill", "fillInterval"])?;
        let most = fields.get("maxTokens").require("the most tokens, 1 or more")?;
        let most = most.integer(1..=u32::MAX, "a number of tokens, 1 or more")?.unwrap_or(1);
        let per_fill = fields.get("tokensPerFill").integer(1..=u32::MAX, "a number of tokens, 1 or more")?;
        let interval = fields.get("fillInterval").require("a time, e.g. 60s")?;
        let interval = interval.duration(SHORTEST)?.unwrap_or(SHORTEST);
        Ok(Self { most, per_fill: per_fill.unwrap_or(most), interval })
    }
}

// === impl LimitRule ===

impl LimitRule {
    fn read(at: &Field<'_>, index: usize, context: LimitContext, own: &Namespace) -> Result<Self, ResourceError> {
        let fields = at.fields(RULE)?;
        let matches = fields.get("match").fields(MATCH)?;
        let name = fields.get("name").text()?.filter(|name| !name.is_empty());
        let mut headers = BTreeMap::new();
        for (name, member) in matches.get("headers").members()? {
            headers.insert(header_name(name, &member)?, StringMatch::read(&member)?);
        }
        let from = fields.get("from");
        let per = fields.get("per");
        let read = Self {
            name: name.map_or_else(|| format!("rule-{}", index + 1), str::to_owned),
            methods: methods(&matches.get("methods"))?,
            hosts: hosts(&matches.get("hosts"))?,
            path: StringMatch::read_path(&matches.get("path"))?,
            headers,
            route: matches.get("route").text()?.filter(|name| !name.is_empty()).map(str::to_owned),
            from: if from.is_present() { Some(LimitSource::read(&from, own)?) } else { None },
            per: per.items()?.iter().map(LimitKey::read).collect::<Result<_, _>>()?,
            bucket: TokenBucket::read(&fields.get("bucket"))?,
        };
        if context != LimitContext::Inbound && read.from.is_some() {
            return Err(from.refuse("nothing: only those who ask a workload show the mesh's certificates (INBOUND)"));
        }
        if context != LimitContext::Inbound && read.per.contains(&LimitKey::Source) {
            return Err(per.refuse("no source: only those who ask a workload show the mesh's certificates (INBOUND)"));
        }
        Ok(read)
    }
}

fn methods(at: &Field<'_>) -> Result<Vec<String>, ResourceError> {
    let legal =
        |method: &str| !method.is_empty() && method.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'-');
    for item in at.items()? {
        if !legal(item.required_text()?) {
            return Err(item.refuse("a method in capitals, e.g. GET"));
        }
    }
    at.text_items()
}

fn hosts(at: &Field<'_>) -> Result<Vec<String>, ResourceError> {
    for item in at.items()? {
        item.required::<model::Host>()?;
    }
    Ok(at.text_items()?.iter().map(|host| host.to_ascii_lowercase()).collect())
}

// === impl LimitSource ===

impl LimitSource {
    /// Who asks; service accounts without a namespace are those of `own`.
    fn read(at: &Field<'_>, own: &Namespace) -> Result<Self, ResourceError> {
        let fields = at.fields(&["principals", "namespaces", "serviceAccounts"])?;
        let mut read = Self::default();
        for item in fields.get("principals").items()? {
            let text = item.required_text()?;
            let parts: Vec<&str> = text.split('/').collect();
            match parts[..] {
                [domain, "ns", namespace, "sa", account] if ![domain, namespace, account].contains(&"") => {
                    read.principals.push(text.to_owned());
                }
                _ => return Err(item.refuse("TRUST_DOMAIN/ns/NAMESPACE/sa/ACCOUNT")),
            }
        }
        for item in fields.get("namespaces").items()? {
            read.namespaces.push(item.required()?);
        }
        for item in fields.get("serviceAccounts").items()? {
            let text = item.required_text()?;
            let refuse = || item.refuse("ACCOUNT or NAMESPACE/ACCOUNT");
            let (namespace, account) = match text.split_once('/') {
                Some((namespace, account)) => (namespace.parse().map_err(|_| refuse())?, account),
                None => (own.clone(), text),
            };
            if account.is_empty() || account.contains('/') {
                return Err(refuse());
            }
            read.accounts.push((namespace, account.to_owned()));
        }
        if read == Self::default() {
            return Err(at.refuse("one or more of principals, namespaces and serviceAccounts"));
        }
        Ok(read)
    }
}

// === impl LimitKey ===

impl LimitKey {
    fn read(at: &Field<'_>) -> Result<Self, ResourceError> {
        const EXPECTED: &str = "SOURCE, ADDRESS or header:NAME";
        match at.required_text()? {
            "SOURCE" => Ok(Self::Source),
            "ADDRESS" => Ok(Self::Address),
            text => {
                let name = text.strip_prefix("header:").ok_or_else(|| at.refuse(EXPECTED))?;
                Ok(Self::Header(header_name(name, at)?))
            }
        }
    }
}
