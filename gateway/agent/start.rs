//! How Envoy is started and ended: what the agent's settings say, and otherwise the control plane, as MeshConfig's
//! `defaultConfig` and ProxyConfigs tell it.

use api::istio::mesh::ProxyConfig;
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::sync::watch;

/// How Envoy is started and ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Start {
    /// Worker threads; one for each core if 0.
    pub workers: u32,
    /// Variables of its environment, beside the agent's own.
    pub environment: BTreeMap<String, String>,
    /// How long the connections of a listener that is gone may go on.
    pub drain: Duration,
    /// How long connections may go on once Envoy is to end.
    pub last_drain: Duration,
}

/// Istio's worker threads, where nobody says how many.
const WORKERS: u32 = 2;
/// Istio's times, where nobody says others.
const DRAIN: Duration = Duration::from_secs(45);
const LAST_DRAIN: Duration = Duration::from_secs(5);

// === impl Start ===

impl Start {
    /// By what the control plane `told`; the agent's own settings go before it.
    pub fn new(told: Option<&ProxyConfig>, workers: Option<u32>, environment: &BTreeMap<String, String>) -> Self {
        let nothing = ProxyConfig::default();
        let told = told.unwrap_or(&nothing);
        let mut all = told.proxy_metadata.clone();
        all.extend(environment.clone());
        let of_mesh = told.concurrency.and_then(|count| u32::try_from(count).ok());
        let time =
            |told: Option<_>, otherwise| told.and_then(|time| Duration::try_from(time).ok()).unwrap_or(otherwise);
        Self {
            workers: workers.or(of_mesh).unwrap_or(WORKERS),
            environment: all,
            drain: time(told.drain_duration, DRAIN),
            last_drain: time(told.termination_drain_duration, LAST_DRAIN),
        }
    }
}

/// What the control plane tells, waited for at most for `patience`: without it Envoy starts all the same.
pub async fn told(mut come: watch::Receiver<Option<ProxyConfig>>, patience: Duration) -> Option<ProxyConfig> {
    let told = tokio::time::timeout(patience, come.wait_for(Option::is_some)).await;
    match told {
        Ok(Ok(told)) => told.clone(),
        Ok(Err(_)) | Err(_) => {
            tracing::warn!(
                ?patience,
                "the control plane did not tell in time how Envoy is started: by the settings alone"
            );
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_nearest_goes_before() {
        let variables =
            |of: &[(&str, &str)]| of.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
        let silent = Start::new(None, None, &BTreeMap::new());
        let usual = Start { workers: 2, environment: variables(&[]), drain: DRAIN, last_drain: LAST_DRAIN };
        assert_eq!(silent, usual);
        let told = ProxyConfig {
            concurrency: Some(4),
            proxy_metadata: variables(&[("A", "mesh"), ("B", "mesh")]),
            drain_duration: Duration::from_secs(7).try_into().ok(),
            termination_drain_duration: Duration::from_millis(1500).try_into().ok(),
        };
        let start = Start::new(Some(&told), None, &variables(&[("A", "own")]));
        assert_eq!(start.workers, 4);
        assert_eq!(start.environment, variables(&[("A", "own"), ("B", "mesh")]));
        assert_eq!((start.drain, start.last_drain), (Duration::from_secs(7), Duration::from_millis(1500)));
        assert_eq!(Start::new(Some(&told), Some(0), &BTreeMap::new()).workers, 0);
    }
}
