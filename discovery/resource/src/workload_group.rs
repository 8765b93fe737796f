//! WorkloadGroup: the template of many workloads that are alike.

use crate::{Field, ResourceError, Source, WorkloadEntry, workload_entry};
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
}

const TIMES: [&str; 5] =
    ["initialDelaySeconds", "timeoutSeconds", "periodSeconds", "successThreshold", "failureThreshold"];
const METHODS: [(&str, &[&str]); 4] = [
    ("httpGet", &["path", "port", "host", "scheme", "httpHeaders"]),
    ("tcpSocket", &["host", "port"]),
    ("exec", &["command"]),
    ("grpc", &["port", "service"]),
];

pub(crate) fn read(at: &Field<'_>, namespace: &Namespace, source: &mut Source) -> Result<WorkloadGroup, ResourceError> {
    let fields = at.fields(&["metadata", "template", "probe"])?;
    let metadata = fields.get("metadata").fields(&["labels", "annotations"])?;
    let template = fields.get("template").require("what the workloads share; this field is required")?;
    probe(&fields.get("probe"), source)?;
    source.warn(at, "workloads do not register themselves yet: write a WorkloadEntry for each");
    Ok(WorkloadGroup {
        template: workload_entry::template(&template, namespace)?,
        labels: workload_entry::labels(&metadata.get("labels"))?,
        annotations: metadata.get("annotations").texts()?,
    })
}

/// Checks the health probe; it is not run.
fn probe(at: &Field<'_>, source: &mut Source) -> Result<(), ResourceError> {
    if !at.is_present() {
        return Ok(());
    }
    let names: Vec<&str> = TIMES.into_iter().chain(METHODS.map(|(name, _)| name)).collect();
    let fields = at.fields(&names)?;
    for time in TIMES {
        fields.get(time).integer(0..=i32::MAX as u32, "a number, 0 to 2147483647")?;
    }
    let methods: Vec<_> = METHODS.iter().filter(|(name, _)| fields.get(name).is_present()).collect();
    if methods.len() > 1 {
        return Err(fields.get(methods[1].0).refuse("one of httpGet, tcpSocket, exec and grpc, not several"));
    }
    for (name, members) in methods {
        fields.get(name).fields(members)?.get("port").port()?;
    }
    source.warn(at, "the probe is not run: the workloads count as healthy");
    Ok(())
}
