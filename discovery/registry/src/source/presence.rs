//! A control plane's sign of life, for as long as it runs: the others take care of its workloads when it is gone.

use federation::election::next_epoch;
use identity::RegistryKey;
use model::Cluster;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use store::{Key, Lease, Payload, Position, Record, Store, StoreError};
use tokio_util::sync::CancellationToken;

/// How long the sign outlives its control plane.
const LIFE: Duration = Duration::from_secs(10);
/// How long to wait before what the store refused is tried again.
const RETRY: Duration = Duration::from_secs(1);

/// Keeps the sign of life of the control plane `name` in the store until `shutdown`.
pub(crate) async fn run(
    (cluster, name): (Cluster, String),
    key: Arc<RegistryKey>,
    store: Store,
    shutdown: CancellationToken,
) {
    let stay = async {
        let mut epoch = 0;
        loop {
            let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
            epoch = next_epoch(epoch, now);
            match sign(&cluster, &name, &key, &store, epoch).await {
                Ok(lease) => lease.lost().await,
                Err(error) => {
                    tracing::debug!(%error, "the sign of life is not written; it will be tried again");
                    tokio::time::sleep(RETRY).await;
                }
            }
        }
    };
    tokio::select! {
        () = stay => {}
        () = shutdown.cancelled() => {}
    }
}

async fn sign(
    cluster: &Cluster,
    name: &str,
    key: &RegistryKey,
    store: &Store,
    epoch: u64,
) -> Result<Lease, StoreError> {
    let refuse = |message: String| StoreError::Unavailable { operation: "sign of life", message };
    let record = Record {
        key: Key::controller(cluster.id.clone(), name).map_err(|error| refuse(error.to_string()))?,
        uid: cluster.uid.clone(),
        position: Position { epoch, sequence: 0 },
        payload: Payload::Controller { name: name.to_owned() },
    };
    let value = record.encode(key).map_err(|error| refuse(error.to_string()))?;
    let lease = store.lease(LIFE).await?;
    store.put_leased(&record.key.to_string(), value, lease.id()).await?;
    Ok(lease)
}
