//! What a registry is started with.

use crate::RegistryError;
use identity::{RegistryKey, RegistryPublicKey};
use model::{Cluster, ClusterId, ClusterUid, TrustBundle, TrustDomain};
use resource::{Document, ResourceError};
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// What a registry is started with.
#[derive(Clone)]
pub struct Settings {
    /// The own cluster.
    pub cluster: Cluster,
    /// The key that signs what this cluster writes to the store.
    pub registry_key: Arc<RegistryKey>,
    /// The directory of `*.yaml` and `*.yml` files that say what exists here.
    pub directory: PathBuf,
    /// The peers.
    pub peers: Vec<PeerSettings>,
    /// The roots of the own trust domain.
    pub own_bundle: TrustBundle,
    /// How long no gateway of a peer may be alive in the store before the peer is suspect. 15 s.
    pub suspect_after: Duration,
    /// How long both signals of a peer must be lost before what it offered is forgotten, and how long an address stays
    /// taken after its host is gone. 1 hour.
    pub forget_after: Duration,
    /// What files and peers may ask of us.
    pub limits: Limits,
    /// What else must hold of a file's documents, for kinds that the registry does not know; a file of which it does
    /// not hold is not taken in.
    pub check: Check,
    /// That workloads register themselves with this process; not if absent.
    pub controller: Option<Controller>,
}

/// How workloads register themselves with a control plane.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Controller {
    /// Its name, never used by another, nor by itself before a restart: 1 to 253 of a-z, A-Z, 0-9, `-`, `_` and `.`.
    pub name: String,
    /// How long a workload stays registered once it is connected to no control plane.
    pub grace: Duration,
    /// How long a workload stays registered whose control plane is gone without a word.
    pub orphan: Duration,
    /// How many workloads may be connected here.
    pub most: usize,
}

/// What is wrong with documents, if anything is.
pub type Check = Arc<dyn Fn(&[Document]) -> Result<(), Vec<ResourceError>> + Send + Sync>;

/// One peer, as the operator admitted it.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct PeerSettings {
    /// Its name, e.g. `west`.
    pub cluster: String,
    /// Its unique id.
    pub uid: String,
    /// The trust domain of its workloads.
    pub trust_domain: String,
    /// The roots of its trust domain: PEM.
    pub roots: String,
    /// The public half of its registry key: base64.
    pub registry_key: String,
}

/// What files and peers may ask of us.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "camelCase")]
pub struct Limits {
    /// What one file may ask.
    pub file: resource::Limits,
    /// How many files the directory may have. 10 000.
    pub files: usize,
    /// How many services one peer may offer. 5 000.
    pub services_per_peer: usize,
    /// How many gateways one peer may have. 64.
    pub gateways_per_peer: usize,
}

/// One peer, checked.
#[derive(Debug, Clone)]
pub(crate) struct PeerKeys {
    pub(crate) cluster: Cluster,
    pub(crate) bundle: TrustBundle,
    pub(crate) registry_key: RegistryPublicKey,
}

// === impl Limits ===

impl Default for Limits {
    fn default() -> Self {
        Self { file: resource::Limits::default(), files: 10_000, services_per_peer: 5_000, gateways_per_peer: 64 }
    }
}

// === impl Settings ===

impl Settings {
    /// Settings without peers, with the default limits, and with nothing else to check.
    pub fn new(cluster: Cluster, registry_key: Arc<RegistryKey>, directory: PathBuf, own_bundle: TrustBundle) -> Self {
        Self {
            cluster,
            registry_key,
            directory,
            peers: Vec::new(),
            own_bundle,
            suspect_after: Duration::from_secs(15),
            forget_after: Duration::from_hours(1),
            limits: Limits::default(),
            check: Arc::new(|_| Ok(())),
            controller: None,
        }
    }

    /// The peers, checked: each name, UID and trust domain stands for one cluster.
    pub(crate) fn peer_keys(&self) -> Result<BTreeMap<ClusterId, PeerKeys>, RegistryError> {
        let mut peers = BTreeMap::new();
        let mut uids = BTreeSet::from([self.cluster.uid.clone()]);
        let mut domains = BTreeSet::from([self.cluster.trust_domain.clone()]);
        for settings in &self.peers {
            let peer = PeerKeys::new(settings)?;
            let id = peer.cluster.id.clone();
            let twice = |field| Err(RegistryError::PeerTwice { peer: id.to_string(), field });
            if !uids.insert(peer.cluster.uid.clone()) {
                return twice("uid");
            }
            if !domains.insert(peer.cluster.trust_domain.clone()) {
                return twice("trustDomain");
            }
            if id == self.cluster.id || peers.insert(id.clone(), peer).is_some() {
                return twice("cluster");
            }
        }
        Ok(peers)
    }
}

// === impl PeerKeys ===

impl PeerKeys {
    fn new(settings: &PeerSettings) -> Result<Self, RegistryError> {
        let refuse = |field, expected: String| RegistryError::Peer { peer: settings.cluster.clone(), field, expected };
        let id = settings.cluster.parse().map_err(|e: model::Invalid| refuse("cluster", e.to_string()))?;
        let uid: ClusterUid = settings.uid.parse().map_err(|e: model::Invalid| refuse("uid", e.to_string()))?;
        let domain: Result<TrustDomain, model::Invalid> = settings.trust_domain.parse();
        let trust_domain = domain.map_err(|e| refuse("trustDomain", e.to_string()))?;
        let bundle = TrustBundle { trust_domain: trust_domain.clone(), pem: settings.roots.as_str().into() };
        identity::Bundles::new([&bundle]).map_err(|e| refuse("roots", e.to_string()))?;
        let registry_key = settings.registry_key.parse();
        let registry_key = registry_key.map_err(|e| refuse("registryKey", format!("{e}")))?;
        Ok(Self { cluster: Cluster { id, uid, trust_domain }, bundle, registry_key })
    }
}
