//! WorkloadGroup: the template of many workloads that are alike.

use crate::{Field, Probe, ResourceError, Source, WorkloadEntry, probe, workload_entry};
use model::Namespace;
use std::collections::BTreeMap;

/// A group of workloads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkloadGroup {
    /// What its members share.
    pub template: WorkloadEntry,
    /// Labels for the WorkloadEntry of each member.
    pub labels: BTreeMap<String, String>,
    /// Annotations for the WorkloadEntry of each member.
    pub annotations: BTreeMap<String, String>,
    /// How each member's health is found out; members count as healthy if absent.
    pub probe: Option<Probe>,
}

/// The service account of a member, where the template names none (Kubernetes' own).
const ACCOUNT: &str = "default";

pub(crate) fn read(at: &Field<'_>, namespace: &Namespace, source: &mut Source) -> Result<WorkloadGroup, ResourceError> {
    let fields = at.fields(&["metadata", "template", "probe"])?;
    let metadata = fields.get("metadata").fields(&["labels", "annotations"])?;
    let template = fields.get("template").require("what the workloads share; this field is required")?;
    if template.any_field("address").is_present() {
        source.warn(&template.any_field("address"), "not used: each workload has an address of its own");
    }
    Ok(WorkloadGroup {
        template: workload_entry::template(&template, namespace)?,
        labels: workload_entry::labels(&metadata.get("labels"))?,
        annotations: metadata.get("annotations").texts()?,
        probe: probe::read(&fields.get("probe"), source)?,
    })
}

// === impl WorkloadGroup ===

impl WorkloadGroup {
    /// The service account that a member's certificate shows.
    pub fn service_account(&self) -> &str {
        self.template.service_account.as_deref().unwrap_or(ACCOUNT)
    }

    /// The labels of a member: those of the template, of the group's metadata, which win, and of `own`, which say what
    /// these leave open. In Istio the member's own win; here a workload cannot take itself for another's kind.
    pub fn labels_of(&self, own: &BTreeMap<String, String>) -> BTreeMap<String, String> {
        let mut labels = own.clone();
        labels.extend(self.template.labels.clone());
        labels.extend(self.labels.clone());
        labels
    }
}
