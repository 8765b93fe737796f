//! Tells the own control plane, over one long stream, where this gateway listens and how it reaches each peer.

use api::isthmus::gateway_reports_client::GatewayReportsClient;
use api::isthmus::peer_report::State;
use api::isthmus::{GatewayReport, PeerReport};
use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tonic::Status;
use tonic::transport::Channel;
use tunnel::PeerSet;

/// How often a report is sent.
const PERIOD: Duration = Duration::from_secs(1);
const FIRST_BACKOFF: Duration = Duration::from_millis(50);
const LAST_BACKOFF: Duration = Duration::from_secs(2);
const CONNECT: Duration = Duration::from_secs(5);
/// Failures in a row, with no tunnel up, after which a peer counts as unreachable.
const FAILURES: u64 = 3;

/// Who reports what.
pub(crate) struct Reporter {
    pub(crate) gateway: Arc<str>,
    pub(crate) addresses: Vec<SocketAddr>,
    pub(crate) peers: PeerSet,
}

// === impl Reporter ===

impl Reporter {
    /// Reports for as long as the future is polled, connecting anew whenever the stream breaks.
    pub(crate) async fn run<C, F, E>(self, mut connect: C)
    where
        C: FnMut() -> F,
        F: Future<Output = Result<Channel, E>>,
        E: std::fmt::Display,
    {
        let mut backoff = FIRST_BACKOFF;
        loop {
            match tokio::time::timeout(CONNECT, connect()).await {
                Ok(Ok(channel)) => {
                    let ended = self.stream(channel).await;
                    tracing::debug!(ended = ?ended.err(), "the report's stream ended");
                    backoff = FIRST_BACKOFF;
                }
                Ok(Err(error)) => tracing::debug!(%error, "the control plane cannot be told"),
                Err(_) => tracing::debug!("the control plane does not answer"),
            }
            tokio::time::sleep(backoff.mul_f64(rand::random_range(0.5..1.0))).await;
            backoff = (backoff * 2).min(LAST_BACKOFF);
        }
    }

    async fn stream(&self, channel: Channel) -> Result<(), Status> {
        let (sender, mut receiver) = mpsc::channel(1);
        let reports = futures_util::stream::poll_fn(move |cx| receiver.poll_recv(cx));
        let mut client = GatewayReportsClient::new(channel);
        let send = async {
            let mut ticks = tokio::time::interval(PERIOD);
            loop {
                ticks.tick().await;
                if sender.send(self.report()).await.is_err() {
                    return;
                }
            }
        };
        let answers = async {
            let mut answers = client.report(reports).await?.into_inner();
            while answers.message().await?.is_some() {}
            Ok(())
        };
        tokio::select! {
            () = send => Ok(()),
            ended = answers => ended,
        }
    }

    fn report(&self) -> GatewayReport {
        GatewayReport {
            gateway: self.gateway.to_string(),
            addresses: self.addresses.iter().map(ToString::to_string).collect(),
            peers: self.peers.clusters().map(|cluster| self.peer(cluster)).collect(),
        }
    }

    fn peer(&self, cluster: &model::ClusterId) -> PeerReport {
        let path = self.peers.path(cluster);
        let state = match path {
            path if path.connected > 0 => State::Connected,
            path if path.gateways > 0 && path.failures >= FAILURES => State::Unreachable,
            _ => State::Unknown,
        };
        PeerReport {
            cluster: cluster.to_string(),
            state: state.into(),
            transport: "quic".to_owned(),
            rtt_micros: u64::try_from(path.rtt.as_micros()).unwrap_or(u64::MAX),
            lost_packets: path.lost,
            sent_packets: path.sent,
        }
    }
}
