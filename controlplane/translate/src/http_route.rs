//! From an HTTP route of a VirtualService, or the want of one, to Envoy's routes.

use crate::headers::{self, Mutations};
use crate::matches::{Audience, applies, everything, regex_of, route_match};
use crate::scope::Scope;
use crate::table::Route;
use crate::value::{fraction_at_runtime, number, time};
use crate::{cluster, filter_config, hash, retry};
use api::envoy::envoy::config::core::v3::{DataSource, data_source};
use api::envoy::envoy::config::route::v3 as envoy;
use api::envoy::envoy::r#type::matcher::v3::RegexMatchAndSubstitute;
use config::{
    Destination, DirectResponse, HttpAction, HttpMatch, HttpRoute, Redirect, RedirectPath, RedirectPort, Split,
    VirtualService,
};
use envoy::redirect_action::{PathRewriteSpecifier, RedirectResponseCode, SchemeRewriteSpecifier};
use envoy::route::Action;
use envoy::route_action::{ClusterNotFoundResponseCode, ClusterSpecifier, HostRewriteSpecifier, RequestMirrorPolicy};
use envoy::weighted_cluster::ClusterWeight;
use model::{Port, Service};
use std::time::Duration;

/// What requests to `port` of `service` meet that nobody routes: the service itself.
pub(crate) fn default(scope: &Scope<'_>, service: &Service, port: &Port) -> Route {
    let policy = scope.policy_of(service, port.number, None);
    let action = envoy::RouteAction {
        timeout: time(Duration::ZERO),
        retry_policy: retry::policy(scope.intent.mesh.retries.as_ref()),
        hash_policy: hash::policy(&policy).into_iter().collect(),
        cluster_specifier: Some(ClusterSpecifier::Cluster(cluster::outbound_name(service, port))),
        ..Default::default()
    };
    Route {
        name: "default".to_owned(),
        matches: Some(everything()),
        action: Some(Action::Route(action)),
        ..Default::default()
    }
}

/// The routes of `service` for requests of `audience` to `port`; what follows one that takes everything is left out.
pub(crate) fn routes(scope: &Scope<'_>, service: &VirtualService, port: u16, audience: Audience<'_>) -> Vec<Route> {
    let mut routes = Vec::new();
    for route in &service.http {
        let of = |matches: Option<&HttpMatch>| self::route(scope, route, matches, port);
        if route.matches.is_empty() {
            routes.extend(of(None));
            return routes;
        }
        let applying = route.matches.iter().filter(|matches| applies(scope, matches, port, audience));
        routes.extend(applying.filter_map(|matches| of(Some(matches))));
    }
    routes
}

fn route(scope: &Scope<'_>, route: &HttpRoute, matches: Option<&HttpMatch>, port: u16) -> Option<Route> {
    let mut mutations = headers::mutations(&route.headers);
    let action = match &route.action {
        HttpAction::Route(splits) => Action::Route(forward(scope, route, splits, port, &mut mutations)),
        HttpAction::Redirect(to) => Action::Redirect(redirect(to, port)),
        HttpAction::Answer(answer) => Action::DirectResponse(direct(answer)),
        // The delegate's routes stand in its place already.
        HttpAction::Delegate { .. } => return None,
    };
    let condition = matches.map(|matches| matches.name.as_str()).unwrap_or_default();
    let name = match (route.name.as_str(), condition) {
        (name, "") | ("", name) => name.to_owned(),
        (name, condition) => format!("{name}.{condition}"),
    };
    Some(Route {
        name,
        matches: Some(matches.map_or_else(everything, route_match)),
        request_headers_to_add: mutations.request.add,
        request_headers_to_remove: mutations.request.remove,
        response_headers_to_add: mutations.response.add,
        response_headers_to_remove: mutations.response.remove,
        by_filter: filter_config::by_filter(route),
        stat_prefix: matches.and_then(|matches| matches.stat_prefix.clone()).unwrap_or_default(),
        action: Some(action),
    })
}

fn forward(
    scope: &Scope<'_>,
    route: &HttpRoute,
    splits: &[Split],
    port: u16,
    mutations: &mut Mutations,
) -> envoy::RouteAction {
    let rewrite = route.rewrite.clone().unwrap_or_default();
    let weighed: Vec<&Split> = splits.iter().filter(|split| split.weight > 0).collect();
    let specifier = match &weighed[..] {
        [only] => {
            join(mutations, headers::mutations(&only.headers));
            ClusterSpecifier::Cluster(upstream(scope, &only.destination, port))
        }
        several => ClusterSpecifier::WeightedClusters(envoy::WeightedCluster {
            clusters: several.iter().map(|split| weight(scope, split, port)).collect(),
            ..Default::default()
        }),
    };
    let mut hash_policy = Vec::new();
    for split in &weighed {
        let of = |destination: &Destination| {
            let service = scope.service(&destination.host)?;
            let port = port_of(destination, Some(service), port);
            hash::policy(&scope.policy_of(service, port, destination.subset.as_deref()))
        };
        hash_policy.extend(of(&split.destination).filter(|policy| !hash_policy.contains(policy)));
    }
    let regex_rewrite = rewrite.regex.map(|(pattern, substitution)| replacement(&pattern, substitution));
    let unknown = if route.unknown_is_500 {
        ClusterNotFoundResponseCode::InternalServerError
    } else {
        ClusterNotFoundResponseCode::ServiceUnavailable
    };
    let authority = rewrite.authority.or(mutations.authority.take());
    envoy::RouteAction {
        timeout: time(route.timeout.unwrap_or_default()),
        retry_policy: retry::policy(route.retries.as_ref().or(scope.intent.mesh.retries.as_ref())),
        prefix_rewrite: rewrite.uri.unwrap_or_default(),
        regex_rewrite,
        host_rewrite_specifier: authority.map(HostRewriteSpecifier::HostRewriteLiteral),
        request_mirror_policies: mirrors(scope, route, port),
        hash_policy,
        cluster_specifier: Some(specifier),
        cluster_not_found_response_code: unknown.into(),
        ..Default::default()
    }
}

fn replacement(pattern: &str, substitution: String) -> RegexMatchAndSubstitute {
    RegexMatchAndSubstitute { pattern: Some(regex_of(pattern)), substitution }
}

/// A route's only destination has no place of its own for its operations: they follow the route's. Of two authorities
/// the route's counts, as it does where there are several destinations (Istio's rule).
fn join(into: &mut Mutations, from: Mutations) {
    into.request.add.extend(from.request.add);
    into.request.remove.extend(from.request.remove);
    into.response.add.extend(from.response.add);
    into.response.remove.extend(from.response.remove);
    into.authority = into.authority.take().or(from.authority);
}

fn weight(scope: &Scope<'_>, split: &Split, port: u16) -> ClusterWeight {
    let mutations = headers::mutations(&split.headers);
    ClusterWeight {
        name: upstream(scope, &split.destination, port),
        weight: number(split.weight),
        request_headers_to_add: mutations.request.add,
        request_headers_to_remove: mutations.request.remove,
        response_headers_to_add: mutations.response.add,
        response_headers_to_remove: mutations.response.remove,
        host_rewrite_specifier: mutations
            .authority
            .map(envoy::weighted_cluster::cluster_weight::HostRewriteSpecifier::HostRewriteLiteral),
        ..Default::default()
    }
}

fn mirrors(scope: &Scope<'_>, route: &HttpRoute, port: u16) -> Vec<RequestMirrorPolicy> {
    let shown = route.mirrors.iter().filter(|mirror| mirror.share.0 > 0);
    let policy = |mirror: &config::Mirror| RequestMirrorPolicy {
        cluster: upstream(scope, &mirror.destination, port),
        runtime_fraction: fraction_at_runtime(mirror.share),
        ..Default::default()
    };
    shown.map(policy).collect()
}

/// The upstream's name for `destination` of requests to `port`. Of a service that nobody declared none will be known:
/// requests are answered 503 then, as in Istio.
pub(crate) fn upstream(scope: &Scope<'_>, destination: &Destination, port: u16) -> String {
    let port = port_of(destination, scope.service(&destination.host), port);
    cluster::subset_name(&destination.host, port, destination.subset.as_deref().unwrap_or_default())
}

/// The port that `destination` names, else the service's only one, else the one that was asked for.
fn port_of(destination: &Destination, service: Option<&Service>, asked: u16) -> u16 {
    let only = service.and_then(|service| match &service.ports[..] {
        [only] => Some(only.number),
        _ => None,
    });
    destination.port.or(only).unwrap_or(asked)
}

fn redirect(to: &Redirect, port: u16) -> envoy::RedirectAction {
    let code = match to.status {
        302 => RedirectResponseCode::Found,
        303 => RedirectResponseCode::SeeOther,
        307 => RedirectResponseCode::TemporaryRedirect,
        308 => RedirectResponseCode::PermanentRedirect,
        _ => RedirectResponseCode::MovedPermanently,
    };
    let wanted = match to.port {
        RedirectPort::OfScheme => 0,
        RedirectPort::OfRequest => port,
        RedirectPort::Number(number) => number,
    };
    // Where no scheme is said it is the listener's: 443 is then that of HTTPS.
    let is_usual = matches!((to.scheme.as_deref(), wanted), (None | Some("http"), 80) | (None | Some("https"), 443));
    envoy::RedirectAction {
        host_redirect: to.authority.clone().unwrap_or_default(),
        port_redirect: if is_usual { 0 } else { wanted.into() },
        response_code: code.into(),
        scheme_rewrite_specifier: to.scheme.clone().map(SchemeRewriteSpecifier::SchemeRedirect),
        path_rewrite_specifier: to.path.as_ref().map(|path| match path {
            RedirectPath::Whole(path) => PathRewriteSpecifier::PathRedirect(path.clone()),
            RedirectPath::Prefix(prefix) => PathRewriteSpecifier::PrefixRewrite(prefix.clone()),
            RedirectPath::Pattern(pattern, substitution) => {
                PathRewriteSpecifier::RegexRewrite(replacement(pattern, substitution.clone()))
            }
        }),
        ..Default::default()
    }
}

fn direct(answer: &DirectResponse) -> envoy::DirectResponseAction {
    let body = (!answer.body.is_empty()).then(|| DataSource {
        specifier: Some(data_source::Specifier::InlineBytes(answer.body.clone())),
        ..Default::default()
    });
    envoy::DirectResponseAction { status: answer.status.into(), body, ..Default::default() }
}
