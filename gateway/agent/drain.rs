//! Has Envoy let its connections end, by its admin interface.

use crate::http_client::Client;
use http::Method;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::time::{interval, timeout};

/// Envoy's own address, which it listens on for its statistics as well.
#[derive(Debug, Clone, Copy)]
pub struct Admin {
    /// Where it is asked.
    pub address: SocketAddr,
    /// Where it shows its statistics to Prometheus.
    pub metrics: SocketAddr,
}

/// How long an answer may take.
const ANSWER: Duration = Duration::from_secs(1);
/// How often it is asked whether all have gone.
const ASKED: Duration = Duration::from_millis(100);
/// Callers are told to go, and none is taken any more; the workload's own connections go on.
const DRAIN: &str = "/drain_listeners?inboundonly&graceful&skip_exit";
const CONNECTIONS: &str = "/stats?filter=^listener\\..*downstream_cx_active$";

// === impl Admin ===

impl Admin {
    /// Has callers go, and returns when none is left, or after `patience`. An Envoy that does not answer has none.
    pub async fn drain(&self, patience: Duration) {
        let mut client = Client::new(self.address, ANSWER);
        let host = self.address.to_string();
        match client.send(Method::POST, &host, DRAIN, &http::HeaderMap::new()).await {
            Ok(reply) if reply.status == 200 => {}
            Ok(reply) => return tracing::warn!(status = reply.status, "Envoy does not drain"),
            Err(error) => return tracing::warn!(%error, "Envoy does not drain"),
        }
        let all_gone = async {
            let mut asks = interval(ASKED);
            loop {
                asks.tick().await;
                match client.get(&host, CONNECTIONS, &http::HeaderMap::new()).await {
                    Ok(reply) if self.connections(&String::from_utf8_lossy(&reply.body)) > 0 => {}
                    Ok(_) | Err(_) => return,
                }
            }
        };
        if timeout(patience, all_gone).await.is_err() {
            tracing::info!(?patience, "connections left after the drain are cut");
        }
    }

    /// The open connections in `stats`: those to Envoy itself do not count, nor do a listener's once more by worker.
    fn connections(&self, stats: &str) -> u64 {
        let own = format!("listener.{}.", self.metrics.to_string().replace(':', "_"));
        let counts =
            |name: &str| !name.starts_with("listener.admin.") && !name.starts_with(&own) && !name.contains(".worker_");
        let lines = stats.lines().filter_map(|line| line.split_once(": "));
        lines.filter(|(name, _)| counts(name)).filter_map(|(_, count)| count.trim().parse::<u64>().ok()).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_to_envoy_itself_do_not_count() {
        let at = |port: u16| SocketAddr::from(([127, 0, 0, 1], port));
        let admin = Admin { address: at(15000), metrics: at(15090) };
        let stats = "listener.0.0.0.0_15006.downstream_cx_active: 2\n\
                     listener.0.0.0.0_15006.worker_0.downstream_cx_active: 2\n\
                     listener.127.0.0.1_15090.downstream_cx_active: 1\n\
                     listener.admin.downstream_cx_active: 1\n\
                     listener.10.0.0.1_80.downstream_cx_active: 3\n";
        assert_eq!(admin.connections(stats), 5);
    }
}
