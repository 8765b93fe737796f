//! From RequestAuthentications to Envoy's filter of tokens, which stands before the policies that ask what tokens say.
//!
//! ```text
//! one rule: its token, or none; several: the token of one, or for each its token or none. Whatever is brought must hold.
//! ```
//!
//! Keys are inline: the control plane fetches them. Where it has none, the filter is to get them from where nothing is, and
//! tokens of that rule hold nowhere.

use crate::any::any;
use crate::cluster::BLACK_HOLE;
use crate::principal::{PAYLOAD, TOKENS};
use crate::value::milliseconds;
use api::envoy::envoy::config::core::v3 as core;
use api::envoy::envoy::config::route::v3 as route;
use api::envoy::envoy::extensions::filters::http::jwt_authn::v3 as envoy;
use api::envoy::envoy::extensions::filters::network::http_connection_manager::v3 as http;
use api::envoy::google::protobuf::Empty;
use config::{FetchedKeys, JwtRule};
use envoy::jwt_provider::{JwksSourceSpecifier, NormalizePayload};
use envoy::jwt_requirement::RequiresType;
use envoy::requirement_rule::RequirementType;
use prost::Name;
use std::collections::BTreeMap;

/// Envoy's filter with ordered maps: the same on the wire, but equal values have equal bytes. Field numbers are those of
/// `envoy.extensions.filters.http.jwt_authn.v3`.
#[derive(Clone, PartialEq, prost::Message)]
struct JwtAuthentication {
    #[prost(btree_map = "string, message", tag = "1")]
    providers: BTreeMap<String, envoy::JwtProvider>,
    #[prost(message, repeated, tag = "2")]
    rules: Vec<envoy::RequirementRule>,
    #[prost(bool, tag = "4")]
    bypass_cors_preflight: bool,
}

impl Name for JwtAuthentication {
    const NAME: &'static str = "JwtAuthentication";
    const PACKAGE: &'static str = "envoy.extensions.filters.http.jwt_authn.v3";
    fn type_url() -> String {
        format!("type.googleapis.com/{}", Self::full_name())
    }
}

/// The claims that are lists with spaces between, whatever a rule says (Istio's).
const DELIMITED: [&str; 2] = ["scope", "permission"];
const FETCH_MS: u32 = 1000;

/// The filter that looks at the tokens of `rules`; none if there are none. `routes` says whether routes are chosen by claims.
pub(crate) fn filter(rules: &[&JwtRule], fetched: &FetchedKeys, routes: bool) -> Option<http::HttpFilter> {
    let named: Vec<(String, &JwtRule)> =
        rules.iter().enumerate().map(|(index, rule)| (format!("origins-{index}"), *rule)).collect();
    let requires = requirement(&named)?;
    let provider = |(name, rule): &(String, &JwtRule)| (name.clone(), provider(rule, fetched, routes));
    let config = JwtAuthentication {
        providers: named.iter().map(provider).collect(),
        rules: vec![envoy::RequirementRule {
            r#match: Some(route::RouteMatch {
                path_specifier: Some(route::route_match::PathSpecifier::Prefix("/".to_owned())),
                ..Default::default()
            }),
            requirement_type: Some(RequirementType::Requires(requires)),
        }],
        bypass_cors_preflight: true,
    };
    let config = http::http_filter::ConfigType::TypedConfig(any(&config));
    Some(http::HttpFilter { name: TOKENS.to_owned(), config_type: Some(config), ..Default::default() })
}

fn requirement(named: &[(String, &JwtRule)]) -> Option<envoy::JwtRequirement> {
    let of = |(name, _): &(String, &JwtRule)| kind(RequiresType::ProviderName(name.clone()));
    let each = |one: &(String, &JwtRule)| {
        let missing = (!one.1.required).then(|| kind(RequiresType::AllowMissing(Empty {})));
        missing.map_or_else(|| of(one), |missing| some(vec![of(one), missing]))
    };
    match named {
        [] => None,
        [only] => Some(each(only)),
        several => {
            let all = envoy::JwtRequirementAndList { requirements: several.iter().map(each).collect() };
            let all = kind(RequiresType::RequiresAll(all));
            // Where several stand at one place, a token of one is none of another: one is enough, unless others must come.
            let must = several.iter().filter(|(_, rule)| rule.required).count();
            let is_enough = |(_, rule): &&(String, &JwtRule)| must == 0 || (must == 1 && rule.required);
            Some(some(several.iter().filter(is_enough).map(of).chain([all]).collect()))
        }
    }
}

fn some(requirements: Vec<envoy::JwtRequirement>) -> envoy::JwtRequirement {
    kind(RequiresType::RequiresAny(envoy::JwtRequirementOrList { requirements }))
}

fn kind(requires: RequiresType) -> envoy::JwtRequirement {
    envoy::JwtRequirement { requires_type: Some(requires) }
}

fn provider(rule: &JwtRule, fetched: &FetchedKeys, routes: bool) -> envoy::JwtProvider {
    let delimited = DELIMITED.iter().map(ToString::to_string).chain(rule.space_delimited.iter().cloned());
    let header =
        |(name, prefix): &(String, String)| envoy::JwtHeader { name: name.clone(), value_prefix: prefix.clone() };
    let claim = |(header, claim): &(String, String)| envoy::JwtClaimToHeader {
        header_name: header.clone(),
        claim_name: claim.clone(),
        ..Default::default()
    };
    envoy::JwtProvider {
        issuer: rule.issuer.clone().unwrap_or_default(),
        audiences: rule.audiences.clone(),
        forward: rule.forward,
        from_headers: rule.from_headers.iter().map(header).collect(),
        from_params: rule.from_params.clone(),
        from_cookies: rule.from_cookies.clone(),
        forward_payload_header: rule.payload_header.clone().unwrap_or_default(),
        claim_to_headers: rule.claim_headers.iter().map(claim).collect(),
        payload_in_metadata: PAYLOAD.to_owned(),
        normalize_payload_in_metadata: Some(NormalizePayload { space_delimited_claims: delimited.collect() }),
        clear_route_cache: routes,
        jwks_source_specifier: Some(match fetched.of(&rule.keys) {
            Some(keys) => JwksSourceSpecifier::LocalJwks(core::DataSource {
                specifier: Some(core::data_source::Specifier::InlineString(keys.to_owned())),
                ..Default::default()
            }),
            None => JwksSourceSpecifier::RemoteJwks(nowhere()),
        }),
        ..Default::default()
    }
}

/// From where no keys ever come.
fn nowhere() -> envoy::RemoteJwks {
    let upstream = core::http_uri::HttpUpstreamType::Cluster(BLACK_HOLE.to_owned());
    let uri = core::HttpUri {
        uri: "http://nowhere.invalid/".to_owned(),
        timeout: milliseconds(FETCH_MS),
        http_upstream_type: Some(upstream),
    };
    envoy::RemoteJwks { http_uri: Some(uri), cache_duration: None, async_fetch: None, retry_policy: None }
}
