//! The control plane, wired: one TLS port for proxies, certificates and gateways.

use crate::push::{Keys, Pusher};
use crate::report::Reports;
use crate::{ControlPlaneError, Metrics, Settings, State, certificate};
use api::isthmus::gateway_reports_server::GatewayReportsServer;
use api::istio::ca::istio_certificate_service_server::IstioCertificateServiceServer;
use ca::{Authority, CertificateService, TokenKey};
use config::FetchedKeys;
use identity::{ClientAuth, Expected, grpc, server_config};
use model::Cluster;
use registry::Registry;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::service::InterceptorLayer;
use tonic::transport::Server;

/// What a control plane works with, opened by whoever starts it.
pub struct Parts {
    /// The own cluster.
    pub cluster: Cluster,
    /// What exists.
    pub registry: Registry,
    /// The authority of the own trust domain.
    pub authority: Arc<Authority>,
    /// The key of workload tokens.
    pub tokens: Arc<TokenKey>,
}

/// A running control plane. It ends at the shutdown that it was started with.
pub struct ControlPlane {
    address: SocketAddr,
    state: State,
    tasks: TaskTracker,
}

/// The greatest certificate request.
const MAX_REQUEST_BYTES: usize = 64 << 10;
/// Streams on one connection: a proxy has one for xDS, one for each request for a certificate.
const MAX_STREAMS: u32 = 64;
/// A connection silent for this long is asked whether it still lives.
const KEEPALIVE: Duration = Duration::from_secs(10);

// === impl ControlPlane ===

impl ControlPlane {
    /// Starts a control plane on `listener`: TLS 1.3, a client certificate of the own trust domain optional, because a
    /// workload asks for its first one with a token. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// If the authority cannot give the control plane its own certificate.
    pub fn start(
        listener: TcpListener,
        parts: Parts,
        settings: &Settings,
        metrics: Metrics,
        shutdown: &CancellationToken,
    ) -> Result<Self, ControlPlaneError> {
        let Parts { cluster, registry, authority, tokens } = parts;
        let address = listener.local_addr()?;
        let life = Duration::from_secs(settings.certificate_seconds);
        let identity = certificate::identity(&cluster, &authority, life)?;
        let tls = server_config(&identity, ClientAuth::Optional, Expected::Any, &[b"h2"]);
        let incoming = grpc::incoming_with(listener, tls, &settings.incoming, shutdown.clone());

        let certificates = CertificateService::new(authority.clone(), tokens, metrics.authority.clone());
        let events = registry.gateway_events.clone();
        let (wanted, known) = (watch::Sender::default(), watch::Sender::new(FetchedKeys::default()));
        let keys = Keys { wanted, known: known.subscribe() };
        let (limits, counted) = (settings.keys.clone(), metrics.keys.clone());
        let fetching = keys::keep(limits, keys.wanted.subscribe(), known, counted, shutdown.clone());
        let pusher = Pusher::new(registry, keys, settings, metrics);
        let state = State { proxies: pusher.proxies.clone(), errors: pusher.errors.subscribe() };
        let reports = Reports::new(cluster.clone(), settings.reports.clone(), events, shutdown.clone());
        let xds = xds::Server::new(state.proxies.clone(), settings.xds.clone()).until(shutdown.clone());
        let routes = Server::builder()
            .http2_keepalive_interval(Some(KEEPALIVE))
            .http2_keepalive_timeout(Some(KEEPALIVE))
            .max_concurrent_streams(Some(MAX_STREAMS))
            .layer(InterceptorLayer::new(grpc::identify))
            .add_service(xds.into_service())
            .add_service(IstioCertificateServiceServer::new(certificates).max_decoding_message_size(MAX_REQUEST_BYTES))
            .add_service(
                GatewayReportsServer::new(reports).max_decoding_message_size(settings.reports.max_message_bytes),
            );
        let serving = routes.serve_with_incoming_shutdown(incoming, shutdown.clone().cancelled_owned());

        let tasks = TaskTracker::new();
        tasks.spawn(fetching);
        tasks.spawn(pusher.run(shutdown.clone()));
        tasks.spawn(certificate::renew(cluster, authority, life, identity, shutdown.clone()));
        tasks.spawn(serve(serving, Duration::from_millis(settings.drain_ms), shutdown.clone()));
        tasks.close();
        tracing::info!(%address, "the control plane listens");
        Ok(Self { address, state, tasks })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What it can be asked about itself.
    pub fn state(&self) -> State {
        self.state.clone()
    }

    /// Returns when all has ended, after shutdown.
    pub async fn stopped(&self) {
        self.tasks.wait().await;
    }
}

/// Serves until shutdown; requests that are open then have `drain` to end.
async fn serve(
    serving: impl Future<Output = Result<(), tonic::transport::Error>>,
    drain: Duration,
    shutdown: CancellationToken,
) {
    let cut = async {
        shutdown.cancelled().await;
        tokio::time::sleep(drain).await;
    };
    tokio::select! {
        ended = serving => if let Err(error) = ended {
            tracing::error!(%error, "the control plane's port is closed");
        },
        () = cut => tracing::warn!("requests that were open at shutdown were cut"),
    }
}
