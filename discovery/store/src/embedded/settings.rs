//! What the embedded server is started with.

use model::{ClusterId, TrustDomain};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

/// The embedded server's settings.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct Settings {
    /// Where to listen. Anything but loopback wants [`Settings::tls`]. Default 127.0.0.1:2379; port 0 lets the system choose.
    pub listen: SocketAddr,
    /// The folder of the database, made if absent. Default `/var/lib/isthmus/store`.
    pub data: PathBuf,
    /// How many bytes all kept versions of all keys may take together (their keys twice, their values, and 96 bytes
    /// each). Above it Put and Grant fail with etcd's NOSPACE error until history is compacted. Default 2 GiB.
    pub quota_bytes: u64,
    /// How much history is kept for watches that resume, in seconds. Default 3600.
    #[serde(with = "seconds")]
    pub compaction: Duration,
    /// How often a watch that asked for it is told that nothing happened, in seconds. Default 10.
    #[serde(with = "seconds")]
    pub progress: Duration,
    /// How long a write may wait for the disk, in seconds. Default 10.
    #[serde(with = "seconds")]
    pub write_timeout: Duration,
    /// The largest request, in bytes. Default 1.5 MiB, as etcd's.
    pub request_bytes: usize,
    /// The most operations in one branch of a transaction. Default 128, as etcd's.
    pub transaction_operations: usize,
    /// The most writes that share one fsync. Default 256.
    pub batch: usize,
    /// The most writes that wait for the disk. Default 1024.
    pub queue: usize,
    /// Mutual TLS; none on loopback.
    pub tls: Option<Tls>,
}

/// Mutual TLS: what the server shows, and who may come.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Tls {
    /// The server's certificate chain, PEM file. Beside its one SPIFFE id it bears the DNS name or IP address by which
    /// clients call it.
    pub certificate: PathBuf,
    /// Its private key, PEM file.
    pub key: PathBuf,
    /// The clusters that may come, by name.
    pub clusters: BTreeMap<String, Member>,
}

/// A cluster that may read everything and write its own prefix.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Member {
    /// The trust domain of its gateways and control planes.
    pub trust_domain: String,
    /// The roots of that trust domain, PEM file.
    pub roots: PathBuf,
}

/// A [`Member`] with its name, read and checked.
#[derive(Debug, Clone)]
pub(super) struct KnownMember {
    pub(super) cluster: ClusterId,
    pub(super) trust_domain: TrustDomain,
}

// === impl Settings ===

impl Default for Settings {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 2379)),
            data: PathBuf::from("/var/lib/isthmus/store"),
            quota_bytes: 2 << 30,
            compaction: Duration::from_hours(1),
            progress: Duration::from_secs(10),
            write_timeout: Duration::from_secs(10),
            request_bytes: 3 << 19,
            transaction_operations: 128,
            batch: 256,
            queue: 1024,
            tls: None,
        }
    }
}

/// Durations as a number of seconds.
pub(crate) mod seconds {
    use serde::{Deserialize, Deserializer, Serializer, de};
    use std::time::Duration;

    pub(crate) fn serialize<S: Serializer>(value: &Duration, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_f64(value.as_secs_f64())
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Duration, D::Error> {
        let seconds = f64::deserialize(from)?;
        Duration::try_from_secs_f64(seconds)
            .map_err(|_| de::Error::custom(format!("{seconds}: a number of seconds, 0 or more, is wanted")))
    }
}
