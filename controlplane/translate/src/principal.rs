//! Who asks, and what the request says of itself, as Envoy's RBAC asks it.

use crate::authorization::Purpose;
use crate::matches::regex_of;
use crate::scope::Scope;
use crate::stream::range;
use crate::text::{any_of_list, either, escaped, metadata, metadata_text, text};
use api::envoy::envoy::config::rbac::v3 as envoy;
use api::envoy::envoy::config::route::v3::{HeaderMatcher, header_matcher::HeaderMatchSpecifier};
use api::envoy::envoy::r#type::matcher::v3::{StringMatcher, string_matcher::MatchPattern};
use config::{AccessCondition, AccessRule, AccessSource, Listed, TextPattern};
use envoy::principal::{Authenticated, Identifier, Set};
use model::Namespace;

/// The names of the proxy's own trust domain.
pub(crate) struct Domains {
    own: Vec<String>,
}

/// What stands for the own trust domain, whatever its name is (Istio's rule).
const OWN: &str = "cluster.local";
const SCHEME: &str = "spiffe://";
/// The filter that looks at tokens, and the key under which it keeps their claims.
pub(crate) const TOKENS: &str = "envoy.filters.http.jwt_authn";
pub(crate) const PAYLOAD: &str = "payload";

/// The principals of which the caller must be one; none if the rule cannot be met.
pub(crate) fn principals(rule: &AccessRule, purpose: Purpose, domains: &Domains) -> Option<Vec<envoy::Principal>> {
    let further = rule.when.iter().map(|condition| of_condition(condition, purpose, domains));
    let further: Vec<Identifier> = further.collect::<Option<Vec<_>>>()?.concat();
    let nothing = [AccessSource::default()];
    let sources = if rule.from.is_empty() { &nothing[..] } else { &rule.from[..] };
    let one = |source: &AccessSource| {
        let mut all = of_source(source, purpose, domains)?;
        all.extend(further.iter().cloned());
        Some(principal(every(all)))
    };
    sources.iter().map(one).collect()
}

fn of_source(source: &AccessSource, purpose: Purpose, domains: &Domains) -> Option<Vec<Identifier>> {
    let tokens = &source.request_principals;
    let mut all = both(&source.principals, |wanted| domains.principal(wanted));
    all.extend(both(&source.namespaces, namespace));
    all.extend(both(&source.service_accounts, account));
    all.extend(both(&source.trust_domains, |wanted| domains.domain(wanted)));
    all.extend(both(&source.ip_blocks, |block| Identifier::DirectRemoteIp(range(block))));
    all.extend(both(&source.remote_ip_blocks, |block| Identifier::RemoteIp(range(block))));
    all.extend(purpose.of_request(!tokens.is_empty(), || both(tokens, token))?);
    Some(all)
}

/// What `condition` says of who asks; nothing if it says something else. None if it cannot be met.
fn of_condition(condition: &AccessCondition, purpose: Purpose, domains: &Domains) -> Option<Vec<Identifier>> {
    match condition {
        AccessCondition::SourceIp(blocks) => Some(both(blocks, |block| Identifier::DirectRemoteIp(range(block)))),
        AccessCondition::RemoteIp(blocks) => Some(both(blocks, |block| Identifier::RemoteIp(range(block)))),
        AccessCondition::SourceNamespace(names) => Some(both(names, namespace)),
        AccessCondition::SourcePrincipal(names) => Some(both(names, |wanted| domains.principal(wanted))),
        AccessCondition::SourceAccount(accounts) => Some(both(accounts, account)),
        AccessCondition::SourceTrustDomain(names) => Some(both(names, |wanted| domains.domain(wanted))),
        AccessCondition::Header(name, values) => purpose.of_request(true, || header(name, values, purpose)),
        AccessCondition::RequestPrincipal(names) => purpose.of_request(true, || both(names, token)),
        AccessCondition::Claim(path, values) => purpose.of_request(true, || both(values, |wanted| claim(path, wanted))),
        AccessCondition::DestinationIp(_)
        | AccessCondition::DestinationPort(_)
        | AccessCondition::ServerName(_)
        | AccessCondition::Metadata { .. } => Some(Vec::new()),
    }
}

fn both<T>(listed: &Listed<T>, one: impl Fn(&T) -> Identifier) -> Vec<Identifier> {
    let any = |all: &[T]| match all {
        [] => None,
        [only] => Some(one(only)),
        several => Some(some(several.iter().map(&one).collect())),
    };
    any(&listed.wanted).into_iter().chain(any(&listed.unwanted).map(not)).collect()
}

fn every(mut all: Vec<Identifier>) -> Identifier {
    match (all.len(), all.pop()) {
        (1, Some(only)) => only,
        (_, Some(last)) => Identifier::AndIds(set(all.into_iter().chain([last]))),
        (_, None) => Identifier::Any(true),
    }
}

fn some(all: Vec<Identifier>) -> Identifier {
    Identifier::OrIds(set(all.into_iter()))
}

fn set(all: impl Iterator<Item = Identifier>) -> Set {
    Set { ids: all.map(principal).collect() }
}

fn not(one: Identifier) -> Identifier {
    Identifier::NotId(Box::new(principal(one)))
}

fn principal(identifier: Identifier) -> envoy::Principal {
    envoy::Principal { identifier: Some(identifier) }
}

fn identity(pattern: MatchPattern) -> Identifier {
    let name = StringMatcher { match_pattern: Some(pattern), ignore_case: false };
    Identifier::Authenticated(Authenticated { principal_name: Some(name) })
}

/// By an expression over the whole identity; literals in it are escaped.
fn shaped(regex: &str) -> Identifier {
    identity(MatchPattern::SafeRegex(regex_of(&format!("{SCHEME}{regex}"))))
}

/// `wanted` as an expression for one segment of an identity.
fn segment(wanted: &TextPattern) -> String {
    match wanted {
        TextPattern::Any => "[^/]+".to_owned(),
        TextPattern::Exact(text) => escaped(text),
        TextPattern::Prefix(text) => format!("{}[^/]*", escaped(text)),
        TextPattern::Suffix(text) => format!("[^/]*{}", escaped(text)),
    }
}

fn namespace(wanted: &TextPattern) -> Identifier {
    shaped(&format!("[^/]+/ns/{}/sa/[^/]+", segment(wanted)))
}

fn account((namespace, account): &(Namespace, String)) -> Identifier {
    shaped(&format!("[^/]+/ns/{}/sa/{}", escaped(namespace.as_str()), escaped(account)))
}

/// A token's `ISSUER/SUBJECT`; issuers have slashes of their own, subjects have none.
fn token(wanted: &TextPattern) -> Identifier {
    let of = |issuer: &TextPattern, subject: &TextPattern| {
        Identifier::AndIds(set([claim(&["iss"], issuer), claim(&["sub"], subject)].into_iter()))
    };
    let part = |text: &str, make: fn(String) -> TextPattern| match text {
        "" => TextPattern::Any,
        text => make(text.to_owned()),
    };
    match wanted {
        TextPattern::Any => of(&TextPattern::Any, &TextPattern::Any),
        TextPattern::Exact(text) => match text.rsplit_once('/') {
            Some((issuer, subject)) => {
                of(&TextPattern::Exact(issuer.to_owned()), &TextPattern::Exact(subject.to_owned()))
            }
            None => not(Identifier::Any(true)),
        },
        TextPattern::Prefix(text) => match text.rsplit_once('/') {
            Some((issuer, subject)) => some(vec![
                of(&TextPattern::Exact(issuer.to_owned()), &part(subject, TextPattern::Prefix)),
                of(&TextPattern::Prefix(text.clone()), &TextPattern::Any),
            ]),
            None => of(&TextPattern::Prefix(text.clone()), &TextPattern::Any),
        },
        TextPattern::Suffix(text) => match text.rsplit_once('/') {
            Some((issuer, subject)) => of(&part(issuer, TextPattern::Suffix), &TextPattern::Exact(subject.to_owned())),
            None => of(&TextPattern::Any, &TextPattern::Suffix(text.clone())),
        },
    }
}

/// A claim that is `wanted`, or a list that has it.
fn claim(path: &[impl AsRef<str>], wanted: &TextPattern) -> Identifier {
    let path: Vec<String> =
        std::iter::once(PAYLOAD.to_owned()).chain(path.iter().map(|part| part.as_ref().to_owned())).collect();
    let value = either(metadata_text(wanted), any_of_list(metadata_text(wanted)));
    Identifier::SourcedMetadata(metadata(TOKENS, &path, value))
}

/// A field's values: of one that stands several times, or has a list, each element counts where that is the safe side.
fn header(name: &str, values: &Listed<TextPattern>, purpose: Purpose) -> Vec<Identifier> {
    let any = |wanted: &[TextPattern], is_broad: bool| match wanted {
        [] => None,
        wanted => Some(some(wanted.iter().flat_map(|one| field(name, one, is_broad)).collect())),
    };
    let wanted = any(&values.wanted, purpose.is_broad());
    wanted.into_iter().chain(any(&values.unwanted, !purpose.is_broad()).map(not)).collect()
}

fn field(name: &str, wanted: &TextPattern, is_broad: bool) -> Vec<Identifier> {
    let with = |specifier: HeaderMatchSpecifier| {
        Identifier::Header(HeaderMatcher {
            name: name.to_owned(),
            header_match_specifier: Some(specifier),
            ..Default::default()
        })
    };
    let Some(whole) = text("", wanted) else { return vec![with(HeaderMatchSpecifier::PresentMatch(true))] };
    let mut all = vec![with(HeaderMatchSpecifier::StringMatch(whole))];
    if is_broad && !name.starts_with(':') {
        let element = match wanted {
            TextPattern::Any => ".*".to_owned(),
            TextPattern::Exact(text) => format!("(?:.*,)?[ \\t]*{}[ \\t]*(?:,.*)?", escaped(text)),
            TextPattern::Prefix(text) => format!("(?:.*,)?[ \\t]*{}.*", escaped(text)),
            TextPattern::Suffix(text) => format!(".*{}[ \\t]*(?:,.*)?", escaped(text)),
        };
        let pattern = MatchPattern::SafeRegex(regex_of(&element));
        let matcher = StringMatcher { match_pattern: Some(pattern), ignore_case: false };
        all.push(with(HeaderMatchSpecifier::StringMatch(matcher)));
    }
    all
}

// === impl Domains ===

impl Domains {
    pub(crate) fn of(scope: &Scope<'_>) -> Self {
        let aliases = scope.intent.mesh.trust_domain_aliases.iter().map(ToString::to_string);
        Self { own: std::iter::once(scope.identity.trust_domain.to_string()).chain(aliases).collect() }
    }

    /// An identity without its scheme. Whoever names one of the own domain's names means all of them.
    fn principal(&self, wanted: &TextPattern) -> Identifier {
        let one = |text: &str| match wanted {
            TextPattern::Any => identity(MatchPattern::Prefix(SCHEME.to_owned())),
            TextPattern::Exact(_) => identity(MatchPattern::Exact(format!("{SCHEME}{text}"))),
            TextPattern::Prefix(_) => identity(MatchPattern::Prefix(format!("{SCHEME}{text}"))),
            TextPattern::Suffix(_) => identity(MatchPattern::Suffix(text.to_owned())),
        };
        let literal = wanted.literal();
        let (TextPattern::Exact(_) | TextPattern::Prefix(_), Some((domain, rest))) = (wanted, literal.split_once('/'))
        else {
            return one(literal);
        };
        if !self.is_own(domain) {
            return one(literal);
        }
        some(self.own.iter().map(|own| one(&format!("{own}/{rest}"))).collect())
    }

    fn domain(&self, wanted: &TextPattern) -> Identifier {
        let one = |domain: &str| identity(MatchPattern::Prefix(format!("{SCHEME}{domain}/")));
        match wanted {
            TextPattern::Any => identity(MatchPattern::Prefix(SCHEME.to_owned())),
            TextPattern::Exact(domain) if self.is_own(domain) => some(self.own.iter().map(|own| one(own)).collect()),
            TextPattern::Exact(domain) => one(domain),
            TextPattern::Prefix(start) => identity(MatchPattern::Prefix(format!("{SCHEME}{start}"))),
            TextPattern::Suffix(_) => shaped(&format!("{}/.*", segment(wanted))),
        }
    }

    fn is_own(&self, domain: &str) -> bool {
        domain == OWN || self.own.iter().any(|own| own == domain)
    }
}
