//! The workloads that are connected to this control plane and registered themselves with it.

use crate::Controller;
use crate::status::WorkloadStatus;
use model::{Address, Namespace};
use resource::{Document, HEALTH_CHECKED, Metadata, Position, Resource, WorkloadEntry};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use store::{Workload, WorkloadHealth};
use tokio::sync::Notify;

/// Which workload: its namespace and name.
pub(crate) type Id = (Namespace, String);

/// Where workloads register themselves, and what is known of those that did. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Registrations(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    controller: Option<Controller>,
    live: Mutex<BTreeMap<Id, Live>>,
    changed: Notify,
}

/// A workload that is connected here.
#[derive(Debug)]
struct Live {
    workload: Workload,
    streams: usize,
}

/// More workloads than may be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0} workloads have registered here, and no more may")]
pub struct TooMany(pub usize);

// === impl Registrations ===

impl Registrations {
    pub(crate) fn new(controller: Option<Controller>) -> Self {
        Self(Arc::new(Inner { controller, live: Mutex::default(), changed: Notify::new() }))
    }

    /// The name under which this process takes registrations; none if it does not.
    pub fn controller(&self) -> Option<&str> {
        self.0.controller.as_ref().map(|controller| controller.name.as_str())
    }

    /// The workload has connected, once more if it is connected already.
    ///
    /// # Errors
    /// If it is new, and as many are connected as may be.
    pub fn connect(&self, workload: Workload) -> Result<(), TooMany> {
        let most = self.0.controller.as_ref().map_or(0, |controller| controller.most);
        let mut live = self.live();
        let id = (workload.namespace.clone(), workload.name.clone());
        let is_full = live.len() >= most;
        match live.get_mut(&id) {
            Some(known) => {
                // Its health is its own to report, on whichever connection.
                let health = match (&known.workload.health, &workload.health) {
                    (WorkloadHealth::Unchecked, new) | (_, new @ WorkloadHealth::Unchecked) => new.clone(),
                    (reported, _) => reported.clone(),
                };
                known.workload = Workload { health, ..workload };
                known.streams += 1;
            }
            None if is_full => return Err(TooMany(most)),
            None => {
                live.insert(id, Live { workload, streams: 1 });
            }
        }
        drop(live);
        self.0.changed.notify_one();
        Ok(())
    }

    /// The connected workload says how it is.
    pub fn report(&self, namespace: &Namespace, name: &str, health: WorkloadHealth) {
        if let Some(known) = self.live().get_mut(&(namespace.clone(), name.to_owned())) {
            known.workload.health = health;
        }
        self.0.changed.notify_one();
    }

    /// A connection of the workload's has ended.
    pub fn disconnect(&self, namespace: &Namespace, name: &str) {
        let id = (namespace.clone(), name.to_owned());
        let mut live = self.live();
        if let Some(known) = live.get_mut(&id) {
            known.streams = known.streams.saturating_sub(1);
            if known.streams == 0 {
                live.remove(&id);
            }
        }
        drop(live);
        self.0.changed.notify_one();
    }

    /// The workload is connected to another control plane by now.
    pub(crate) fn yield_to_another(&self, id: &Id) {
        self.live().remove(id);
    }

    /// Returns when something has happened.
    pub(crate) async fn changed(&self) {
        self.0.changed.notified().await;
    }

    /// The workloads that are connected here.
    pub(crate) fn all(&self) -> BTreeMap<Id, Workload> {
        self.live().iter().map(|(id, live)| (id.clone(), live.workload.clone())).collect()
    }

    fn live(&self) -> MutexGuard<'_, BTreeMap<Id, Live>> {
        self.0.live.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The annotations of a workload that registered itself (Istio's).
const GROUP: &str = "istio.io/autoRegistrationGroup";
const CONTROLLER: &str = "istio.io/workloadController";

/// The WorkloadEntry that somebody might have written for `workload`.
pub(crate) fn document(workload: &Workload) -> Document {
    let mut annotations = workload.annotations.clone();
    annotations.insert(GROUP.to_owned(), workload.group.clone());
    annotations.insert(CONTROLLER.to_owned(), workload.controller.clone());
    if workload.health != WorkloadHealth::Unchecked {
        annotations.insert(HEALTH_CHECKED.to_owned(), "true".to_owned());
    }
    let entry = WorkloadEntry {
        address: Some(Address::Ip(workload.address)),
        ports: workload.ports.clone(),
        labels: workload.labels.clone(),
        network: workload.network.clone(),
        locality: Some(workload.locality.clone()),
        weight: workload.weight,
        service_account: Some(workload.service_account.clone()),
        unhealthy: workload.health.complaint(),
    };
    let file = format!("registered workload {}/{}", workload.namespace, workload.name);
    Document {
        api_version: "networking.istio.io/v1".to_owned(),
        kind: "WorkloadEntry".to_owned(),
        metadata: Metadata {
            name: workload.name.clone(),
            namespace: workload.namespace.clone(),
            labels: workload.labels.clone(),
            annotations,
            created: None,
        },
        position: Position { file: file.into(), line: 0, column: 0 },
        resource: Resource::WorkloadEntry(entry),
    }
}

impl From<&Workload> for WorkloadStatus {
    fn from(workload: &Workload) -> Self {
        Self {
            name: format!("{}/{}", workload.namespace, workload.name),
            group: workload.group.clone(),
            address: workload.address,
            controller: workload.controller.clone(),
            connected: workload.disconnected_at == 0,
            unhealthy: workload.health.complaint(),
        }
    }
}
