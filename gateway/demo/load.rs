//! A steady stream of requests, and what became of each.

use crate::http_client::Client;
use http::HeaderMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

const REQUEST_DEADLINE: Duration = Duration::from_secs(5);

/// Where the requests go, how many connections carry them, and how many are sent a second in all.
#[derive(Debug, Clone)]
pub struct Load {
    /// The address to connect to.
    pub address: SocketAddr,
    /// The Host header.
    pub host: String,
    /// The path.
    pub path: String,
    /// Keep-alive connections.
    pub connections: u32,
    /// Requests a second over all connections.
    pub rate: u32,
}

/// One request.
#[derive(Debug, Clone)]
pub struct Shot {
    /// When it was sent.
    pub at: Instant,
    /// How long it took.
    pub took: Duration,
    /// Nothing, or what went wrong.
    pub failure: Option<String>,
}

/// A load under way.
pub struct Running {
    tasks: JoinSet<Vec<Shot>>,
    stop: CancellationToken,
}

// === impl Load ===

impl Load {
    /// Begins to send.
    pub fn start(&self) -> Running {
        let stop = CancellationToken::new();
        let mut tasks = JoinSet::new();
        for connection in 0..self.connections {
            tasks.spawn(self.clone().shoot(connection, stop.clone()));
        }
        Running { tasks, stop }
    }

    async fn shoot(self, connection: u32, stop: CancellationToken) -> Vec<Shot> {
        let period = Duration::from_secs(1) * self.connections / self.rate;
        let offset = period * connection / self.connections;
        let mut ticks = tokio::time::interval_at(tokio::time::Instant::now() + offset, period);
        let mut client = Client::new(self.address, REQUEST_DEADLINE);
        let none = HeaderMap::new();
        let mut shots = Vec::new();
        loop {
            tokio::select! {
                () = stop.cancelled() => return shots,
                _ = ticks.tick() => {}
            }
            let at = Instant::now();
            let failure = match client.get(&self.host, &self.path, &none).await {
                Ok(reply) if reply.status == 200 => None,
                Ok(reply) => Some(format!("{} {}", reply.status, String::from_utf8_lossy(&reply.body))),
                Err(error) => Some(format!("{error:#}")),
            };
            shots.push(Shot { at, took: at.elapsed(), failure });
        }
    }
}

// === impl Running ===

impl Running {
    /// Stops sending and returns all requests in the order they were sent.
    pub async fn stop(mut self) -> Vec<Shot> {
        self.stop.cancel();
        let mut shots = Vec::new();
        while let Some(done) = self.tasks.join_next().await {
            shots.extend(done.unwrap_or_default());
        }
        shots.sort_by_key(|shot| shot.at);
        shots
    }
}

/// The `percent`-th percentile of how long the successful ones took.
pub fn percentile(shots: &[Shot], percent: usize) -> Duration {
    let mut times: Vec<Duration> = shots.iter().filter(|shot| shot.failure.is_none()).map(|shot| shot.took).collect();
    times.sort_unstable();
    times.get((times.len() * percent / 100).min(times.len().saturating_sub(1))).copied().unwrap_or_default()
}
