//! DestinationRule: how a service is spoken to, and the subsets of its endpoints.

use crate::destination::complete;
use crate::{HostPattern, Named, Selector, TrafficPolicy, labels};
use model::{Host, Namespace, Visibility};
use resource::{Document, Field, Node, Position, ResourceError, Source, Warning};
use std::collections::BTreeMap;

/// One DestinationRule resource.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DestinationRule {
    /// Its namespace.
    pub namespace: Namespace,
    /// Its name.
    pub name: String,
    /// Where it stands.
    pub position: Position,
    /// The services that it is for; perhaps a wildcard.
    pub host: Host,
    /// How they are spoken to.
    pub policy: TrafficPolicy,
    /// Parts of their endpoints, each with a name that is its own.
    pub subsets: Vec<Subset>,
    /// Whose workloads it is for.
    pub export_to: Visibility,
    /// The workloads of its namespace that it is for; all if absent.
    pub workload_selector: Option<Selector>,
}

/// A part of a service's endpoints.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subset {
    /// Its name.
    pub name: String,
    /// The labels that its endpoints bear.
    pub labels: BTreeMap<String, String>,
    /// How it is spoken to, where it differs from the rest.
    pub policy: TrafficPolicy,
}

const FIELDS: &[&str] = &["host", "trafficPolicy", "subsets", "exportTo", "workloadSelector"];

/// The DestinationRule that `document` holds in its raw `spec`.
pub(crate) fn read(document: &Document, spec: &Node, source: &mut Source) -> Result<DestinationRule, ResourceError> {
    let at = Field::new(&document.position.file, "spec", spec).require("a DestinationRule's fields")?;
    let fields = at.fields(FIELDS)?;
    let namespace = &document.metadata.namespace;
    let selector = labels(&fields.get("workloadSelector").fields(&["matchLabels"])?.get("matchLabels"))?;
    let rule = DestinationRule {
        namespace: namespace.clone(),
        name: document.metadata.name.clone(),
        position: document.position.clone(),
        host: complete(&fields.get("host"), namespace)?,
        policy: TrafficPolicy::read(&fields.get("trafficPolicy"), source)?,
        subsets: subsets(&fields.get("subsets"), source)?,
        export_to: fields.get("exportTo").visibility(namespace)?.unwrap_or_default(),
        workload_selector: Some(selector).filter(|selector| !selector.is_empty()),
    };
    if rule.workload_selector.is_none() && rule.credentials().next().is_some() {
        source
            .warn(&at, "credentialName holds for gateways; sidecars follow it only in a rule with a workloadSelector");
    }
    Ok(rule)
}

/// Rules for the same host and the same workloads as one: the subsets of all, and the first policy that says anything
/// (Istio's rule). A subset that stands twice is a warning, and its first form counts.
pub(crate) fn merged(
    rules: impl IntoIterator<Item = DestinationRule>,
    warnings: &mut Vec<Warning>,
) -> Vec<DestinationRule> {
    let mut merged: Vec<DestinationRule> = Vec::new();
    let mut places: BTreeMap<_, Vec<usize>> = BTreeMap::new();
    for rule in rules {
        let alike =
            places.entry((rule.namespace.clone(), rule.host.clone(), rule.workload_selector.clone())).or_default();
        let Some(first) = alike.iter().copied().find(|first| merged[*first].export_to == rule.export_to) else {
            alike.push(merged.len());
            merged.push(rule);
            continue;
        };
        let first = &mut merged[first];
        if first.policy == TrafficPolicy::default() {
            first.policy = rule.policy;
        }
        for subset in rule.subsets {
            if first.subset(&subset.name).is_none() {
                first.subsets.push(subset);
                continue;
            }
            let message =
                format!("{}/{} has a subset {} of this host already", first.namespace, first.name, subset.name);
            warnings.push(Warning { position: rule.position.clone(), path: "spec.subsets".to_owned(), message });
        }
    }
    merged
}

fn subsets(at: &Field<'_>, source: &mut Source) -> Result<Vec<Subset>, ResourceError> {
    let mut subsets: Vec<Subset> = Vec::new();
    for item in at.items()? {
        let fields = item.fields(&["name", "labels", "trafficPolicy"])?;
        let name = fields.get("name");
        let text = name.required_text()?;
        let legal = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
        if text.is_empty() || text.len() > 63 || !text.bytes().all(legal) {
            return Err(name.refuse("1 to 63 letters, digits, '-', '_' and '.'"));
        }
        if subsets.iter().any(|subset| subset.name == text) {
            return Err(name.refuse("each subset's name once"));
        }
        subsets.push(Subset {
            name: text.to_owned(),
            labels: labels(&fields.get("labels"))?,
            policy: TrafficPolicy::read(&fields.get("trafficPolicy"), source)?,
        });
    }
    Ok(subsets)
}

// === impl DestinationRule ===

impl DestinationRule {
    /// The subset of this name.
    pub fn subset(&self, name: &str) -> Option<&Subset> {
        self.subsets.iter().find(|subset| subset.name == name)
    }

    /// The names of the secrets from which TLS towards the service takes certificates and roots.
    pub fn credentials(&self) -> impl Iterator<Item = &str> {
        self.policies().filter_map(|port| port.tls.as_ref()?.credential.as_deref())
    }

    /// Whether it has zones share requests anywhere.
    pub(crate) fn shares_zones(&self) -> bool {
        let mut balancers = self.policies().filter_map(|port| port.load_balancer.as_ref());
        balancers.any(|balancer| balancer.zones.is_some())
    }

    fn policies(&self) -> impl Iterator<Item = &crate::PortPolicy> {
        let policies = std::iter::once(&self.policy).chain(self.subsets.iter().map(|subset| &subset.policy));
        policies.flat_map(|policy| std::iter::once(&policy.general).chain(policy.ports.values()))
    }
}

impl Named for DestinationRule {
    fn hosts(&self) -> impl Iterator<Item = HostPattern> {
        [HostPattern::Host(self.host.clone())].into_iter()
    }

    /// It is looked for in its own namespace, whoever may follow it.
    fn places(&self) -> Visibility {
        Visibility::Namespaces([self.namespace.clone()].into())
    }
}
