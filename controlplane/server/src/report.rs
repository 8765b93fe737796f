//! The gateways' reports: each own gateway keeps one stream, and is taken for gone a while after it ended.
//!
//! ```text
//! stream opens -> who is it? -> report ... report -> registry
//! stream ends  -> grace -> no newer stream of that gateway? -> gone
//! ```

use crate::ReportSettings;
use crate::certificate::SYSTEM_NAMESPACE;
use api::isthmus::gateway_reports_server::GatewayReports;
use api::isthmus::{GatewayReport, PeerReport, ReportAck, peer_report};
use identity::grpc;
use model::{Cluster, ClusterId, Path, WorkloadIdentity};
use registry::GatewayEvent;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming};

/// Takes the reports of the own cluster's gateways. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Reports {
    cluster: Arc<Cluster>,
    settings: Arc<ReportSettings>,
    events: mpsc::Sender<GatewayEvent>,
    /// The newest stream of each gateway.
    newest: Arc<Mutex<Newest>>,
    shutdown: CancellationToken,
}

#[derive(Default)]
struct Newest {
    opened: u64,
    streams: BTreeMap<Arc<str>, u64>,
}

/// What one stream is known by.
struct Session {
    reports: Reports,
    number: u64,
    name: Option<Arc<str>>,
}

/// Acknowledgements that wait for a slow gateway.
const QUEUE: usize = 4;
const MAX_NAME: usize = 253;

// === impl Reports ===

impl Reports {
    pub(crate) fn new(
        cluster: Cluster,
        settings: ReportSettings,
        events: mpsc::Sender<GatewayEvent>,
        shutdown: CancellationToken,
    ) -> Self {
        let (cluster, settings) = (Arc::new(cluster), Arc::new(settings));
        Self { cluster, settings, events, newest: Arc::default(), shutdown }
    }

    /// Whether `peer` is one of this cluster's gateways.
    fn admit(&self, peer: Option<&WorkloadIdentity>) -> Result<(), Status> {
        let peer = peer.ok_or_else(|| Status::unauthenticated("reports need a client certificate"))?;
        let account = format!("gateway-{}", self.cluster.id);
        let is_gateway = peer.trust_domain == self.cluster.trust_domain
            && peer.namespace.as_str() == SYSTEM_NAMESPACE
            && *peer.service_account == *account;
        if is_gateway {
            return Ok(());
        }
        Err(Status::permission_denied(format!("{peer} is not ns/{SYSTEM_NAMESPACE}/sa/{account} of this cluster")))
    }

    fn newest(&self) -> MutexGuard<'_, Newest> {
        self.newest.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[tonic::async_trait]
impl GatewayReports for Reports {
    type ReportStream = ReceiverStream<Result<ReportAck, Status>>;

    async fn report(&self, request: Request<Streaming<GatewayReport>>) -> Result<Response<Self::ReportStream>, Status> {
        self.admit(grpc::peer(&request))?;
        let (acks, stream) = mpsc::channel(QUEUE);
        let number = {
            let mut newest = self.newest();
            newest.opened += 1;
            newest.opened
        };
        let session = Session { reports: self.clone(), number, name: None };
        tokio::spawn(session.run(request.into_inner(), acks));
        Ok(Response::new(ReceiverStream::new(stream)))
    }
}

// === impl Session ===

impl Session {
    async fn run(mut self, mut inbound: Streaming<GatewayReport>, acks: mpsc::Sender<Result<ReportAck, Status>>) {
        let shutdown = self.reports.shutdown.clone();
        let ended = tokio::select! {
            ended = self.listen(&mut inbound, &acks) => ended,
            () = shutdown.cancelled() => Err(Status::unavailable("the control plane stops")),
        };
        if let Err(status) = ended {
            tracing::info!(gateway = self.name.as_deref(), %status, "a gateway's stream ends");
            // A gateway that is gone does not hear why.
            let _ = acks.try_send(Err(status));
        }
        drop(acks);
        self.leave(&shutdown).await;
    }

    async fn listen(
        &mut self,
        inbound: &mut Streaming<GatewayReport>,
        acks: &mpsc::Sender<Result<ReportAck, Status>>,
    ) -> Result<(), Status> {
        while let Some(report) = inbound.message().await? {
            let event = self.read(&report)?;
            let stopped = |_| Status::unavailable("the registry stops");
            self.reports.events.send(event).await.map_err(stopped)?;
            if acks.send(Ok(ReportAck {})).await.is_err() {
                return Ok(());
            }
        }
        Ok(())
    }

    fn read(&mut self, report: &GatewayReport) -> Result<GatewayEvent, Status> {
        let settings = self.reports.settings.clone();
        let refuse = |field: &str, value: &str, expected: &str| {
            let value: String = value.chars().take(256).collect();
            Status::invalid_argument(format!("{field}: {value:?} is not accepted: {expected}"))
        };
        if report.addresses.len() > settings.max_addresses || report.peers.len() > settings.max_peers {
            return Err(Status::resource_exhausted(format!(
                "a report has at most {} addresses and {} peers",
                settings.max_addresses, settings.max_peers
            )));
        }
        let address = |text: &String| -> Result<SocketAddr, Status> {
            let parsed = text.parse().ok().filter(|at: &SocketAddr| at.port() != 0 && !at.ip().is_unspecified());
            parsed.ok_or_else(|| refuse("addresses", text, "IP:PORT that the sidecars can connect to"))
        };
        let addresses = report.addresses.iter().map(address).collect::<Result<Vec<_>, _>>()?;
        let path = |peer: &PeerReport| -> Result<(ClusterId, Path), Status> {
            let id = peer.cluster.parse().map_err(|_| refuse("peers.cluster", &peer.cluster, "a cluster's name"))?;
            Ok((id, path(peer.state())))
        };
        let paths = report.peers.iter().map(path).collect::<Result<BTreeMap<_, _>, _>>()?;
        let name = self.claim(&report.gateway)?;
        Ok(GatewayEvent::Reported { name, addresses, paths })
    }

    /// This stream now speaks for the gateway of that name.
    fn claim(&mut self, name: &str) -> Result<Arc<str>, Status> {
        if let Some(own) = &self.name {
            let same = **own == *name;
            return if same { Ok(own.clone()) } else { Err(Status::invalid_argument("gateway: the name changed")) };
        }
        if name.is_empty() || name.len() > MAX_NAME || name.chars().any(char::is_control) {
            return Err(Status::invalid_argument(format!("gateway: a name of 1 to {MAX_NAME} bytes is expected")));
        }
        let mut newest = self.reports.newest();
        if newest.streams.len() >= self.reports.settings.max_gateways && !newest.streams.contains_key(name) {
            return Err(Status::resource_exhausted("there are too many gateways"));
        }
        let name: Arc<str> = name.into();
        newest.streams.insert(name.clone(), self.number);
        drop(newest);
        self.name = Some(name.clone());
        Ok(name)
    }

    /// After the grace, the gateway is gone, unless it has come back on another stream.
    async fn leave(self, shutdown: &CancellationToken) {
        let Some(name) = self.name else { return };
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = tokio::time::sleep(Duration::from_millis(self.reports.settings.grace_ms)) => {}
        }
        let is_newest = {
            let mut newest = self.reports.newest();
            let is_newest = newest.streams.get(&name) == Some(&self.number);
            if is_newest {
                newest.streams.remove(&name);
            }
            is_newest
        };
        if is_newest {
            tracing::warn!(gateway = &*name, "a gateway is gone");
            // The registry may have ended meanwhile: then nobody asks any more.
            let _ = self.reports.events.send(GatewayEvent::Gone { name }).await;
        }
    }
}

fn path(state: peer_report::State) -> Path {
    match state {
        peer_report::State::Unknown => Path::Unknown,
        peer_report::State::Connected => Path::Connected,
        peer_report::State::Unreachable => Path::Unreachable,
    }
}
