//! From a RateLimit to Envoy's `local_ratelimit`: one filter of requests for each, before all others.
//!
//! A request is told apart by descriptors: the rule whose conditions it meets, then what has a bucket of its own for each
//! value. Who asks is what the handshake proved: that ends `x-forwarded-client-cert` before any filter reads it.

use crate::any::any;
use crate::matches::{regex_of, string_matcher};
use crate::text::escaped;
use crate::value::{flag, fraction_at_runtime, number, time};
use api::envoy::envoy::config::core::v3::header_value_option::HeaderAppendAction;
use api::envoy::envoy::config::core::v3::{HeaderValue, HeaderValueOption, TypedExtensionConfig};
use api::envoy::envoy::config::route::v3 as route;
use api::envoy::envoy::extensions::common::ratelimit::v3 as common;
use api::envoy::envoy::extensions::filters::http::local_ratelimit::v3::LocalRateLimit;
use api::envoy::envoy::extensions::filters::network::http_connection_manager::v3 as http;
use api::envoy::envoy::extensions::rate_limit_descriptors::expr::v3 as expr;
use api::envoy::envoy::r#type::matcher::v3::{StringMatcher, string_matcher::MatchPattern};
use api::envoy::envoy::r#type::v3::{HttpStatus, TokenBucket};
use common::rate_limit_descriptor::Entry;
use config::{LimitContext, LimitKey, LimitRule, LimitSource, Percentage, RateLimit, StringMatch};
use envoyfilter::{Context, Patch};
use expr::descriptor::ExprSpecifier;
use model::Namespace;
use prost::Message;
use rate_limit::Action;
use rate_limit::action::{self, ActionSpecifier};
use route::{HeaderMatcher, RateLimit as Recipe, header_matcher::HeaderMatchSpecifier, rate_limit};

/// Who asks, as Envoy's CEL tells it.
const PRINCIPAL: &str = "has(connection.uri_san_peer_certificate) ? connection.uri_san_peer_certificate : 'unknown'";
const ROUTE: &str = "xds.route_name";
/// How many values have buckets of their own, for each rule.
const MOST_VALUES: u32 = 1000;
const CLIENT_CERTIFICATE: &str = "x-forwarded-client-cert";

/// The patch that makes a proxy honour `limit`.
pub(crate) fn patch(limit: &RateLimit) -> Patch {
    let filter = http::HttpFilter {
        name: format!("envoy.filters.http.local_ratelimit.{}.{}", limit.namespace, limit.name),
        config_type: Some(http::http_filter::ConfigType::TypedConfig(any(&settings(limit)))),
        ..Default::default()
    };
    let context = match limit.context {
        LimitContext::Inbound => Context::Inbound,
        LimitContext::Outbound => Context::Outbound,
        LimitContext::Gateway => Context::Gateway,
    };
    Patch::http_filter(context, limit.port, filter.encode_to_vec().into(), &limit.position)
}

fn settings(limit: &RateLimit) -> LocalRateLimit {
    let enforced = if limit.dry_run { Percentage::NONE } else { Percentage::ALL };
    let header = |(key, value): (&String, &String)| HeaderValueOption {
        header: Some(HeaderValue { key: key.clone(), value: value.clone(), ..Default::default() }),
        append_action: HeaderAppendAction::OverwriteIfExistsOrAdd.into(),
        ..Default::default()
    };
    LocalRateLimit {
        stat_prefix: format!("{}.{}", limit.namespace, limit.name),
        status: Some(HttpStatus { code: limit.status.into() }),
        token_bucket: limit.bucket.map(bucket),
        filter_enabled: fraction_at_runtime(Percentage::ALL),
        filter_enforced: fraction_at_runtime(enforced),
        response_headers_to_add: limit.response_headers.iter().map(header).collect(),
        descriptors: limit.rules.iter().map(descriptor).collect(),
        rate_limits: limit.rules.iter().map(|rule| recipe(rule, &limit.namespace)).collect(),
        enable_x_ratelimit_headers: if limit.shows {
            common::XRateLimitHeadersRfcVersion::DraftVersion03.into()
        } else {
            common::XRateLimitHeadersRfcVersion::Off.into()
        },
        always_consume_default_token_bucket: flag(true),
        max_dynamic_descriptors: number(MOST_VALUES),
        enable_retry_after_header: limit.tells_when,
        ..Default::default()
    }
}

fn bucket(bucket: config::TokenBucket) -> TokenBucket {
    TokenBucket {
        max_tokens: bucket.most,
        tokens_per_fill: number(bucket.per_fill),
        fill_interval: time(bucket.interval),
    }
}

/// The bucket of a rule: the values that are left open have one each.
fn descriptor(rule: &LimitRule) -> common::LocalRateLimitDescriptor {
    let entry = |key: &str, value: &str| Entry { key: key.to_owned(), value: value.to_owned() };
    let route = rule.route.iter().map(|name| entry("route", name));
    let open = rule.per.iter().map(|key| entry(&key_of(key), ""));
    common::LocalRateLimitDescriptor {
        entries: std::iter::once(entry("rule", &rule.name)).chain(route).chain(open).collect(),
        token_bucket: Some(bucket(rule.bucket)),
        ..Default::default()
    }
}

/// How the descriptor of a rule is made of a request.
fn recipe(rule: &LimitRule, own: &Namespace) -> Recipe {
    let action = |specifier: ActionSpecifier| Action { action_specifier: Some(specifier) };
    let headers = conditions(rule, own);
    let named = if headers.is_empty() {
        let (key, value) = ("rule".to_owned(), rule.name.clone());
        ActionSpecifier::GenericKey(action::GenericKey {
            descriptor_key: key,
            descriptor_value: value,
            ..Default::default()
        })
    } else {
        ActionSpecifier::HeaderValueMatch(action::HeaderValueMatch {
            descriptor_key: "rule".to_owned(),
            descriptor_value: rule.name.clone(),
            expect_match: flag(true),
            headers,
            ..Default::default()
        })
    };
    let route = rule.route.iter().map(|_| expression("route", ROUTE));
    let open = rule.per.iter().map(|key| match key {
        LimitKey::Source => expression(&key_of(key), PRINCIPAL),
        LimitKey::Address => ActionSpecifier::RemoteAddress(action::RemoteAddress {}),
        LimitKey::Header(name) => ActionSpecifier::RequestHeaders(action::RequestHeaders {
            header_name: name.clone(),
            descriptor_key: key_of(key),
            skip_if_absent: false,
        }),
    });
    Recipe { actions: std::iter::once(named).chain(route).chain(open).map(action).collect(), ..Default::default() }
}

fn key_of(key: &LimitKey) -> String {
    match key {
        LimitKey::Source => "source".to_owned(),
        LimitKey::Address => "remote_address".to_owned(),
        LimitKey::Header(name) => format!("header:{name}"),
    }
}

fn expression(key: &str, text: &str) -> ActionSpecifier {
    let descriptor = expr::Descriptor {
        descriptor_key: key.to_owned(),
        skip_if_error: false,
        expr_specifier: Some(ExprSpecifier::Text(text.to_owned())),
    };
    ActionSpecifier::Extension(TypedExtensionConfig {
        name: "envoy.rate_limit_descriptors.expr".to_owned(),
        typed_config: Some(any(&descriptor)),
    })
}

/// All that must hold of a request.
fn conditions(rule: &LimitRule, own: &Namespace) -> Vec<HeaderMatcher> {
    let mut conditions = Vec::new();
    if !rule.methods.is_empty() {
        conditions.push(matching(":method", &rule.methods.join("|")));
    }
    if !rule.hosts.is_empty() {
        let hosts: Vec<String> = rule.hosts.iter().map(|host| host_pattern(host, own)).collect();
        conditions.push(matching(":authority", &format!("({})(:[0-9]+)?", hosts.join("|"))));
    }
    match &rule.path {
        Some(StringMatch::Prefix(prefix)) => {
            conditions.push(field(":path", string_matcher(&StringMatch::Prefix(prefix.clone()))));
        }
        // The field holds the query as well.
        Some(StringMatch::Exact(path)) => conditions.push(matching(":path", &format!("{}(\\?.*)?", escaped(path)))),
        Some(StringMatch::Regex(regex)) => conditions.push(matching(":path", &format!("({regex})(\\?.*)?"))),
        None => {}
    }
    for (name, wanted) in &rule.headers {
        conditions.push(match wanted {
            Some(wanted) => field(name, string_matcher(wanted)),
            None => HeaderMatcher {
                name: name.clone(),
                header_match_specifier: Some(HeaderMatchSpecifier::PresentMatch(true)),
                ..Default::default()
            },
        });
    }
    if let Some(from) = &rule.from {
        // The whole field must match, and no identity has a slash more: only the end of the field can be meant.
        conditions.push(matching(CLIENT_CERTIFICATE, &format!("(.*;)?URI=spiffe://({})", callers(from))));
    }
    conditions
}

/// An expression for the identities of `from`, without `spiffe://`.
fn callers(from: &LimitSource) -> String {
    let principals = from.principals.iter().map(|principal| escaped(principal));
    let namespaces = from.namespaces.iter().map(|namespace| format!("[^/;]+/ns/{namespace}/sa/[^/;]+"));
    let accounts = from.accounts.iter();
    let accounts = accounts.map(|(namespace, account)| format!("[^/;]+/ns/{namespace}/sa/{}", escaped(account)));
    principals.chain(namespaces).chain(accounts).collect::<Vec<_>>().join("|")
}

/// `*.DOMAIN`, a full name, or one that Kubernetes completes in the namespace `own`.
fn host_pattern(host: &str, own: &Namespace) -> String {
    if let Some(suffix) = host.strip_prefix('*') {
        return format!("[^:]+{}", escaped(suffix));
    }
    let local = host.strip_suffix(".svc.cluster.local").and_then(|host| host.split_once('.'));
    match local {
        Some((name, namespace)) if namespace != own.as_str() => {
            format!("{}\\.{namespace}(\\.svc(\\.cluster\\.local)?)?", escaped(name))
        }
        _ if host.contains('.') && local.is_none() => escaped(host),
        _ => format!("{}(\\.{own}(\\.svc(\\.cluster\\.local)?)?)?", escaped(local.map_or(host, |(name, _)| name))),
    }
}

fn matching(name: &str, regex: &str) -> HeaderMatcher {
    let pattern = MatchPattern::SafeRegex(regex_of(regex));
    field(name, StringMatcher { match_pattern: Some(pattern), ..Default::default() })
}

fn field(name: &str, matcher: StringMatcher) -> HeaderMatcher {
    HeaderMatcher {
        name: name.to_owned(),
        header_match_specifier: Some(HeaderMatchSpecifier::StringMatch(matcher)),
        ..Default::default()
    }
}
