//! A lease that is kept alive by a task, and says when it could not be.

use crate::backoff::Backoff;
use crate::{Store, StoreError};
use etcd_client::{LeaseGrantOptions, LeaseKeepAliveStream, LeaseKeeper};
use std::time::Duration;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::{CancellationToken, DropGuard};

/// A lease in the store. It is renewed until it is dropped; then it ends by itself.
#[derive(Debug)]
pub struct Lease {
    id: i64,
    lost: CancellationToken,
    store: Store,
    _renewal: DropGuard,
}

/// Why a lease is not renewed any more.
enum End {
    /// The store does not know it.
    Gone,
    /// The stream broke; another may do.
    Broken,
}

// === impl Store ===

impl Store {
    /// A new lease of `ttl`, at least a second, renewed every third of that.
    pub async fn lease(&self, ttl: Duration) -> Result<Lease, StoreError> {
        let seconds = i64::try_from(ttl.as_secs()).unwrap_or(i64::MAX).max(1);
        // Our own id makes the call repeatable: an attempt whose answer was lost is recognised by it.
        let id = rand::random_range(1..i64::MAX);
        let granted = Instant::now();
        let options = LeaseGrantOptions::new().with_id(id);
        let options = &options;
        let grant = self
            .call("grant", |client| async move { client.lease_client().grant(seconds, Some(options.clone())).await });
        match grant.await {
            Ok(_) => {}
            Err(StoreError::Refused { message, .. }) if message.contains("lease already exists") => {}
            Err(error) => return Err(error),
        }
        let lost = CancellationToken::new();
        let stop = CancellationToken::new();
        let ttl = Duration::from_secs(seconds.unsigned_abs());
        tokio::spawn(renew(self.clone(), id, ttl, granted, lost.clone(), stop.clone()));
        Ok(Lease { id, lost, store: self.clone(), _renewal: stop.drop_guard() })
    }
}

// === impl Lease ===

impl Lease {
    /// Its id.
    pub fn id(&self) -> i64 {
        self.id
    }

    /// Whether it may have ended: the store said so, or could not be asked for as long as it lasts.
    pub fn is_lost(&self) -> bool {
        self.lost.is_cancelled()
    }

    /// Waits until [`Lease::is_lost`].
    pub async fn lost(&self) {
        self.lost.cancelled().await;
    }

    pub(crate) fn give_up(&self) {
        self.lost.cancel();
    }

    /// Ends it now, with its keys.
    pub async fn revoke(self) -> Result<(), StoreError> {
        let id = self.id;
        let revoked = self.store.call("revoke", |client| async move { client.lease_client().revoke(id).await }).await;
        match revoked {
            Ok(_) => Ok(()),
            Err(StoreError::Refused { message, .. }) if message.contains("lease not found") => Ok(()),
            Err(error) => Err(error),
        }
    }
}

/// Renews until told to stop, or the lease is lost.
async fn renew(
    store: Store,
    id: i64,
    ttl: Duration,
    granted: Instant,
    lost: CancellationToken,
    stop: CancellationToken,
) {
    let renewal = async {
        let mut until = granted + ttl;
        let mut pauses = Backoff::new(store.settings.shortest_pause, ttl / 6);
        loop {
            match keep_alive(&store, id, ttl, &mut until, &mut pauses).await {
                End::Gone => return,
                End::Broken if Instant::now() >= until => return,
                End::Broken => sleep(pauses.next()).await,
            }
        }
    };
    tokio::select! {
        () = renewal => lost.cancel(),
        () = stop.cancelled() => {}
        () = lost.cancelled() => {}
    }
}

/// Renews on one stream for as long as it works. `until` is when the lease ends if it is not renewed again: counted from
/// when a renewal was sent, because the store counts from later.
async fn keep_alive(store: &Store, id: i64, ttl: Duration, until: &mut Instant, pauses: &mut Backoff) -> End {
    let patience = store.settings.attempt_timeout.min(ttl / 3).max(Duration::from_millis(100));
    let sent = Instant::now();
    let member = store.members.asked();
    let (mut keeper, mut answers) = match timeout(patience, member.client.lease_client().keep_alive(id)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(etcd_client::Error::LeaseKeepAliveError(_))) => return End::Gone,
        Ok(Err(_)) | Err(_) => {
            store.members.leave(&member);
            return End::Broken;
        }
    };
    *until = sent + ttl;
    pauses.reset();
    loop {
        sleep(ttl / 3).await;
        let sent = Instant::now();
        match timeout(patience, once(&mut keeper, &mut answers)).await {
            Ok(Ok(ttl_left)) if ttl_left > 0 => *until = sent + ttl,
            Ok(Ok(_)) => return End::Gone,
            Ok(Err(())) | Err(_) => {
                store.members.leave(&member);
                return End::Broken;
            }
        }
    }
}

async fn once(keeper: &mut LeaseKeeper, answers: &mut LeaseKeepAliveStream) -> Result<i64, ()> {
    keeper.keep_alive().await.map_err(|_| ())?;
    let answer = answers.message().await.map_err(|_| ())?;
    answer.map(|answer| answer.ttl()).ok_or(())
}
