//! The embedded server: a single node of etcd's v3 API, as far as Isthmus uses it, kept in redb.
//!
//! ```text
//! gRPC ─ kv, lease, watch, maintenance ─▶ engine ─ queue ─▶ writer ─ redb commit (fsync) ─▶ answers and watches
//! ```
//! It is not a distributed engine. It binds loopback, unless it is given mutual TLS; then a certificate of cluster A
//! writes nothing but A's prefix.

mod apply;
mod caller;
mod disk;
mod engine;
mod fault;
mod kv;
mod lease;
mod leases;
mod listen;
mod maintenance;
mod scrub;
mod settings;
mod span;
mod tls;
mod transaction;
mod view;
mod watch;
mod writer;

pub(crate) use settings::seconds;
pub use settings::{Member, Settings, Tls};

use crate::StoreError;
use caller::Access;
use engine::Engine;
use etcd_client::proto::{PbKvServer, PbLeaseServer, PbMaintenanceServer, PbWatchServer};
use std::net::SocketAddr;
use std::thread::JoinHandle;
use std::time::Duration;
use tls::Trust;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// How often an idle connection is asked whether it lives, and how long it may take to answer.
const KEEP_ALIVE: (Duration, Duration) = (Duration::from_secs(30), Duration::from_secs(10));
/// The most calls that one connection may have open, watches included.
const STREAMS: u32 = 4096;

/// How long clients may take to go at shutdown, and the writer to end after them.
const GRACE: Duration = Duration::from_secs(5);

/// A bound server whose database is open.
pub struct Server {
    listener: TcpListener,
    trust: Option<Trust>,
    engine: Engine,
    writer: JoinHandle<()>,
    shutdown: CancellationToken,
}

/// Binds and serves until `shutdown`.
///
/// Errors: an address that is not loopback without TLS, a port in use, a database that cannot be opened.
pub async fn serve(settings: Settings, shutdown: CancellationToken) -> Result<(), StoreError> {
    Server::bind(settings, shutdown).await?.run().await
}

// === impl Server ===

impl Server {
    /// Opens the database and binds the address, in that order, so that a bound server answers.
    pub async fn bind(settings: Settings, shutdown: CancellationToken) -> Result<Self, StoreError> {
        let address = settings.listen;
        if settings.tls.is_none() && !address.ip().is_loopback() {
            return Err(StoreError::Exposed { address });
        }
        let trust = settings.tls.as_ref().map(Trust::load).transpose()?;
        let access = trust.as_ref().map_or(Access::Loopback, |trust| Access::Members(trust.members.clone()));
        // The services end after the connections are told to, so that no answer is cut short.
        let services = shutdown.child_token();
        let opened = tokio::task::spawn_blocking(move || Engine::start(settings, access, services)).await;
        let (engine, writer) = opened
            .map_err(|error| StoreError::Database(error.to_string()))?
            .map_err(|fault| StoreError::Database(fault.to_string()))?;
        let listener = TcpListener::bind(address).await.map_err(|source| StoreError::Bind { address, source })?;
        Ok(Self { listener, trust, engine, writer, shutdown })
    }

    /// The address that was bound; of use when the port was 0.
    pub fn address(&self) -> Result<SocketAddr, StoreError> {
        let address = self.engine.settings.listen;
        self.listener.local_addr().map_err(|source| StoreError::Bind { address, source })
    }

    /// Serves until shutdown; returns when everything acknowledged is on disk and the database is closed.
    pub async fn run(self) -> Result<(), StoreError> {
        let Self { listener, trust, engine, writer, shutdown } = self;
        let clocks = TaskTracker::new();
        clocks.spawn(engine.clone().expire_leases());
        clocks.spawn(engine.clone().compact());
        let tls = trust.as_ref().map(Trust::server_config);
        if let (Some(files), Some(trust)) = (engine.settings.tls.clone(), trust) {
            clocks.spawn(tls::follow(files, trust.identity, shutdown.clone()));
        }
        clocks.close();
        let bytes = engine.settings.request_bytes * 2;
        let connections = listen::accept(listener, tls, shutdown.clone());
        let serving = tonic::transport::Server::builder()
            .http2_keepalive_interval(Some(KEEP_ALIVE.0))
            .http2_keepalive_timeout(Some(KEEP_ALIVE.1))
            .max_concurrent_streams(STREAMS)
            .add_service(PbKvServer::new(kv::Kv(engine.clone())).max_decoding_message_size(bytes))
            .add_service(PbLeaseServer::new(lease::Lease(engine.clone())))
            .add_service(PbWatchServer::new(watch::Watch(engine.clone())))
            .add_service(PbMaintenanceServer::new(maintenance::Maintenance(engine.clone())))
            .serve_with_incoming_shutdown(connections, shutdown.cancelled());
        let served = tokio::select! {
            served = serving => served,
            // Clients that do not go are left.
            () = async { shutdown.cancelled().await; tokio::time::sleep(GRACE).await } => Ok(()),
        };
        shutdown.cancel();
        clocks.wait().await;
        drop(engine);
        let joined = tokio::time::timeout(GRACE, tokio::task::spawn_blocking(move || writer.join())).await;
        served.map_err(|error| StoreError::Serve(error.to_string()))?;
        match joined {
            Ok(Ok(Ok(()))) => Ok(()),
            Err(_) => Err(StoreError::Database("a client keeps the database open".into())),
            _ => Err(StoreError::Database("the writer broke off".into())),
        }
    }
}
