//! VirtualServices that hand parts of their routes to others: joined once, so that nobody else knows of it.

use crate::{Fault, GatewayName, HeaderOperations, HttpAction, HttpMatch, HttpRoute, StringMatch, VirtualService};
use model::Namespace;
use resource::Warning;
use std::collections::BTreeMap;

/// `services` with every delegation replaced by the routes of the one that it names. Those without hosts are gone
/// then. Each delegation that leads nowhere is a warning, and its route is left out.
pub(crate) fn joined(
    services: impl IntoIterator<Item = VirtualService>,
    warnings: &mut Vec<Warning>,
) -> Vec<VirtualService> {
    let (roots, parts): (Vec<_>, Vec<_>) = services.into_iter().partition(|service| !service.hosts.is_empty());
    let parts: BTreeMap<(&Namespace, &str), &VirtualService> =
        parts.iter().map(|part| ((&part.namespace, part.name.as_str()), part)).collect();
    let mut joined = Vec::new();
    for mut root in roots {
        let mut http = Vec::new();
        for route in std::mem::take(&mut root.http) {
            let HttpAction::Delegate { namespace, name } = &route.action else {
                http.push(route);
                continue;
            };
            match parts.get(&(namespace, name.as_str())).filter(|part| part.export_to.includes(&root.namespace)) {
                Some(part) => {
                    for leaf in &part.http {
                        match join(&root, &route, leaf) {
                            Some(joint) => http.push(joint),
                            None => warnings.push(contradiction(part, &leaf.name, &root)),
                        }
                    }
                }
                None => warnings.push(missing(&root, namespace, name)),
            }
        }
        root.http = http;
        joined.push(root);
    }
    joined
}

fn missing(root: &VirtualService, namespace: &Namespace, name: &str) -> Warning {
    Warning {
        position: root.position.clone(),
        path: "spec.http.delegate".to_owned(),
        message: format!("no VirtualService {namespace}/{name} without hosts is seen here: the route is left out"),
    }
}

fn contradiction(part: &VirtualService, route: &str, root: &VirtualService) -> Warning {
    let (namespace, name) = (&root.namespace, &root.name);
    let message = format!("the conditions of route {route:?} do not lie within those of {namespace}/{name}: left out");
    Warning { position: part.position.clone(), path: "spec.http.match".to_owned(), message }
}

/// `leaf` under the conditions of `root`; nothing if the two contradict each other. What the leaf says goes before
/// what the root says (Istio's rule).
fn join(of: &VirtualService, root: &HttpRoute, leaf: &HttpRoute) -> Option<HttpRoute> {
    let matches = matches(of, &root.matches, &leaf.matches)?;
    let nothing = HeaderOperations::default();
    Some(HttpRoute {
        name: joint_name(&root.name, &leaf.name),
        matches,
        action: leaf.action.clone(),
        rewrite: leaf.rewrite.clone().or_else(|| root.rewrite.clone()),
        timeout: leaf.timeout.or(root.timeout),
        retries: leaf.retries.clone().or_else(|| root.retries.clone()),
        fault: if leaf.fault == Fault::default() { root.fault.clone() } else { leaf.fault.clone() },
        mirrors: if leaf.mirrors.is_empty() { root.mirrors.clone() } else { leaf.mirrors.clone() },
        cors: leaf.cors.clone().or_else(|| root.cors.clone()),
        headers: if leaf.headers == nothing { root.headers.clone() } else { leaf.headers.clone() },
        unknown_is_500: leaf.unknown_is_500,
    })
}

/// Every pair of conditions that can hold together; none if one of the leaf's lies within none of the root's.
fn matches(of: &VirtualService, root: &[HttpMatch], leaf: &[HttpMatch]) -> Option<Vec<HttpMatch>> {
    let anything = [HttpMatch { gateways: of.gateways.clone(), ..HttpMatch::default() }];
    if root.is_empty() && leaf.is_empty() {
        return Some(Vec::new());
    }
    let root = if root.is_empty() { &anything[..] } else { root };
    let leaf = if leaf.is_empty() { &[HttpMatch::default()][..] } else { leaf };
    let mut pairs = Vec::new();
    for other in leaf {
        let before = pairs.len();
        pairs.extend(root.iter().filter_map(|one| both(one, other)));
        if pairs.len() == before {
            return None;
        }
    }
    Some(pairs)
}

fn both(root: &HttpMatch, leaf: &HttpMatch) -> Option<HttpMatch> {
    let text = |one: &Option<StringMatch>, other: &Option<StringMatch>| narrower(one.as_ref(), other.as_ref()).ok();
    let is_split = |one: &Option<u16>, other: &Option<u16>| one.is_some() && other.is_some() && one != other;
    if is_split(&root.port, &leaf.port) || contradicts(&root.source_labels, &leaf.source_labels) {
        return None;
    }
    if root.ignore_uri_case != leaf.ignore_uri_case {
        return None;
    }
    if root.source_namespace.is_some()
        && leaf.source_namespace.is_some()
        && root.source_namespace != leaf.source_namespace
    {
        return None;
    }
    let mut source_labels = root.source_labels.clone();
    source_labels.extend(leaf.source_labels.clone());
    let gateways: Vec<GatewayName> = match (&root.gateways[..], &leaf.gateways[..]) {
        (root, []) => root.to_vec(),
        ([], leaf) => leaf.to_vec(),
        (root, leaf) => leaf.iter().filter(|name| root.contains(name)).cloned().collect(),
    };
    if gateways.is_empty() && !(root.gateways.is_empty() && leaf.gateways.is_empty()) {
        return None;
    }
    Some(HttpMatch {
        name: joint_name(&root.name, &leaf.name),
        uri: text(&root.uri, &leaf.uri)?,
        ignore_uri_case: leaf.ignore_uri_case,
        whole_segments: leaf.whole_segments,
        scheme: text(&root.scheme, &leaf.scheme)?,
        method: text(&root.method, &leaf.method)?,
        authority: text(&root.authority, &leaf.authority)?,
        headers: all(&root.headers, &leaf.headers, narrower).ok()?,
        without_headers: all(&root.without_headers, &leaf.without_headers, wider).ok()?,
        query: all(&root.query, &leaf.query, narrower).ok()?,
        port: root.port.or(leaf.port),
        source_labels,
        source_namespace: root.source_namespace.clone().or_else(|| leaf.source_namespace.clone()),
        gateways,
        stat_prefix: leaf.stat_prefix.clone().or_else(|| root.stat_prefix.clone()),
    })
}

/// Istio's: the root's and the leaf's, joined by a dash.
fn joint_name(root: &str, leaf: &str) -> String {
    match (root, leaf) {
        ("", name) | (name, "") => name.to_owned(),
        (root, leaf) => format!("{root}-{leaf}"),
    }
}

type Conditions = BTreeMap<String, Option<StringMatch>>;
type Joint = fn(Option<&StringMatch>, Option<&StringMatch>) -> Result<Option<StringMatch>, Contradiction>;

/// Two conditions that cannot hold together.
struct Contradiction;

/// The conditions of both, and `joint` of those that are on the same name.
fn all(root: &Conditions, leaf: &Conditions, joint: Joint) -> Result<Conditions, Contradiction> {
    let mut all = root.clone();
    for (name, condition) in leaf {
        let condition = match root.get(name) {
            Some(first) => joint(first.as_ref(), condition.as_ref())?,
            None => condition.clone(),
        };
        all.insert(name.clone(), condition);
    }
    Ok(all)
}

/// The narrower of two conditions, of which the leaf's must lie within the root's.
///
/// # Errors
/// If it does not, as with two expressions, which nobody can compare.
fn narrower(root: Option<&StringMatch>, leaf: Option<&StringMatch>) -> Result<Option<StringMatch>, Contradiction> {
    use StringMatch::{Exact, Prefix};
    match (root, leaf) {
        (None, other) | (other, None) => Ok(other.cloned()),
        (Some(root), Some(leaf)) => {
            let fits = match (root, leaf) {
                (Exact(root), Exact(leaf)) => root == leaf,
                (Prefix(root), Exact(leaf) | Prefix(leaf)) => leaf.starts_with(root.as_str()),
                _ => root == leaf,
            };
            if fits { Ok(Some(leaf.clone())) } else { Err(Contradiction) }
        }
    }
}

/// As [`narrower`], of two conditions that must not hold: there the leaf's leaves less over if it is the wider one.
fn wider(root: Option<&StringMatch>, leaf: Option<&StringMatch>) -> Result<Option<StringMatch>, Contradiction> {
    let Some(leaf) = leaf else { return Ok(None) };
    let root = root.ok_or(Contradiction)?;
    narrower(Some(leaf), Some(root)).map(|_| Some(leaf.clone()))
}

fn contradicts(root: &BTreeMap<String, String>, leaf: &BTreeMap<String, String>) -> bool {
    leaf.iter().any(|(key, value)| root.get(key).is_some_and(|other| other != value))
}
