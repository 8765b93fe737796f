//! A signed record: what one cluster tells the others under one key.
//!
//! ```text
//! Record ──encode──▶ body {key, uid, position, payload} ──sign──▶ SignedRecord ──▶ store
//! store ──▶ SignedRecord ──verify the exact bytes──▶ body ──key, uid, payload are what they must be──▶ Record
//! ```
//! The key lies inside the signed bytes, so that a value copied to another key does not verify there.

mod payload;
mod workload;

pub use workload::{Workload, WorkloadHealth};

use crate::Key;
use api::isthmus::{RecordBody, SignedRecord};
use federation::high_water::{Position, Positioned};
use identity::{RegistryKey, RegistryPublicKey};
use model::{ClusterUid, Invalid, ServiceExport};
use prost::Message;
use std::hash::{DefaultHasher, Hasher};
use std::net::{Ipv4Addr, Ipv6Addr};

/// The largest record that is written or believed, in bytes.
pub const RECORD_BYTES: usize = 16 * 1024;

/// One record, validated.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Where it lies.
    pub key: Key,
    /// The cluster that wrote it.
    pub uid: ClusterUid,
    /// When, relative to all its others.
    pub position: Position,
    /// What it says.
    pub payload: Payload,
}

/// What a record says.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(clippy::large_enum_variant, reason = "records are handled one by one, and not kept in this form")]
pub enum Payload {
    /// A service on offer.
    Service(ServiceExport),
    /// The service that was on offer here, or the workload that was registered, is gone.
    Tombstone,
    /// A gateway runs.
    Alive {
        /// Its name.
        gateway: String,
        /// `host:port` each, where it takes QUIC from peers.
        addresses: Vec<String>,
    },
    /// Addresses allocated to a host.
    Address {
        /// The host.
        host: model::Host,
        /// Its IPv4 address.
        ipv4: Ipv4Addr,
        /// Its IPv6 address.
        ipv6: Ipv6Addr,
    },
    /// A workload that registered itself.
    Workload(Workload),
    /// A control plane runs.
    Controller {
        /// Its name.
        name: String,
    },
}

/// Why a value in the store is not believed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    /// Larger than a record may be.
    #[error("the record has {0} bytes; at most {RECORD_BYTES} are accepted")]
    TooLarge(usize),
    /// Not a record: truncated, or something else.
    #[error("the value is not a record: {0}")]
    Malformed(String),
    /// Not signed by the cluster that owns the key.
    #[error("the signature is not the owner's")]
    BadSignature,
    /// Signed, but for another key.
    #[error("the record was written for {written:?}")]
    WrongKey {
        /// The key in the signed bytes, cut to 256 characters.
        written: String,
    },
    /// Written by a cluster of another UID: an earlier or later one of the same name.
    #[error("the record was written by the cluster with UID {0:?}")]
    WrongCluster(String),
    /// What it says is not accepted, or not under such a key.
    #[error(transparent)]
    Invalid(#[from] Invalid),
}

// === impl Payload ===

impl Payload {
    /// Tells two payloads apart; equal ones have equal digests within a process.
    pub fn digest(&self) -> u64 {
        let body = RecordBody { payload: Some(self.to_proto()), ..RecordBody::default() };
        let mut hasher = DefaultHasher::new();
        hasher.write(&body.encode_to_vec());
        hasher.finish()
    }
}

// === impl Record ===

impl Record {
    /// The value to store: signed by `key`, the registry key of the record's cluster. Fails when it would be larger than
    /// [`RECORD_BYTES`].
    pub fn encode(&self, key: &RegistryKey) -> Result<Vec<u8>, RecordError> {
        let body = RecordBody {
            key: self.key.to_string(),
            cluster_uid: self.uid.to_string(),
            epoch: self.position.epoch,
            sequence: self.position.sequence,
            payload: Some(self.payload.to_proto()),
        }
        .encode_to_vec();
        let signature = key.sign(&body).to_vec();
        let value = SignedRecord { body, signature }.encode_to_vec();
        if value.len() > RECORD_BYTES {
            return Err(RecordError::TooLarge(value.len()));
        }
        Ok(value)
    }

    /// Reads the `value` found under `key`, which must be signed by `owner_key` and say that the cluster `owner` wrote
    /// it for exactly this key. Fields that this version does not know are passed over.
    pub fn decode(
        key: &str,
        value: &[u8],
        owner: &ClusterUid,
        owner_key: &RegistryPublicKey,
    ) -> Result<Self, RecordError> {
        if value.len() > RECORD_BYTES {
            return Err(RecordError::TooLarge(value.len()));
        }
        let signed = SignedRecord::decode(value).map_err(|error| RecordError::Malformed(error.to_string()))?;
        if owner_key.verify(&signed.body, &signed.signature).is_err() {
            return Err(RecordError::BadSignature);
        }
        let body =
            RecordBody::decode(signed.body.as_slice()).map_err(|error| RecordError::Malformed(error.to_string()))?;
        if body.key != key {
            return Err(RecordError::WrongKey { written: body.key.chars().take(256).collect() });
        }
        if body.cluster_uid != owner.as_str() {
            return Err(RecordError::WrongCluster(body.cluster_uid.chars().take(256).collect()));
        }
        let key: Key = key.parse()?;
        let payload = body.payload.ok_or_else(|| RecordError::Malformed("it has no payload that is known".into()))?;
        let payload = Payload::from_proto(payload, &key.kind)?;
        let position = Position { epoch: body.epoch, sequence: body.sequence };
        Ok(Self { key, uid: owner.clone(), position, payload })
    }
}

impl Positioned for Record {
    type Key = Key;

    fn key(&self) -> &Key {
        &self.key
    }

    fn position(&self) -> Position {
        self.position
    }

    fn digest(&self) -> u64 {
        self.payload.digest()
    }
}
