//! Replaces a certificate at half of its life, and keeps the old one for as long as that fails.
//!
//! ```text
//! wait for half ─▶ ask, by certificate (or, once that has expired, by token) ─▶ swap ─▶ again
//!                    └─ failed: wait, longer each time, at most 150 s ─┘
//! ```

use crate::ca_client::reissue;
use crate::{CaClient, Identity, IdentityError, WorkloadCertificate, enroll};
use rand::RngExt;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;
use std::time::{Duration, SystemTime};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// The clock is looked at this often: a machine that slept wakes up with less life left than a timer believes.
const LOOK: Duration = Duration::from_secs(30);
/// A token longer than this is not one.
const MAX_TOKEN: usize = 16 << 10;

/// When to renew.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct RenewalSettings {
    /// The first wait after a failure, in milliseconds; it doubles with each failure. Default 1000.
    pub first_retry_ms: u64,
    /// The longest wait after a failure, in milliseconds. Default 150 000.
    pub last_retry_ms: u64,
}

/// What renewal needs.
#[derive(Debug, Clone)]
pub struct Renewal {
    /// Whose certificate is replaced.
    pub identity: Identity,
    /// Who grants it.
    pub ca: CaClient,
    /// A file with a bearer token, read when the certificate has already expired. None: nothing helps then.
    pub token_file: Option<PathBuf>,
    /// When to renew.
    pub settings: RenewalSettings,
}

/// How renewal fares, for metrics and status.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RenewalState {
    /// The end of the certificate in use.
    pub not_after: SystemTime,
    /// Certificates obtained.
    pub renewals: u64,
    /// Attempts that failed, ever.
    pub failures: u64,
    /// Why the last attempt failed; none after a success.
    pub last_error: Option<String>,
}

// === impl RenewalSettings ===

impl Default for RenewalSettings {
    fn default() -> Self {
        Self { first_retry_ms: 1000, last_retry_ms: 150_000 }
    }
}

/// Starts renewing until `shutdown`, and tells how it fares. Must be called within a tokio runtime.
pub fn renew(renewal: Renewal, shutdown: CancellationToken) -> watch::Receiver<RenewalState> {
    let (state, receiver) = watch::channel(RenewalState {
        not_after: renewal.identity.certificate().not_after,
        renewals: 0,
        failures: 0,
        last_error: None,
    });
    tokio::spawn(async move {
        tokio::select! {
            () = shutdown.cancelled() => {}
            () = renewal.run(&state) => {}
        }
    });
    receiver
}

// === impl Renewal ===

impl Renewal {
    async fn run(self, state: &watch::Sender<RenewalState>) {
        let mut failed = 0;
        let mut due = half_of(&self.identity.certificate(), SystemTime::now());
        loop {
            sleep_until(due).await;
            match self.attempt().await {
                Ok(certificate) => {
                    failed = 0;
                    due = half_of(&certificate, SystemTime::now());
                    let not_after = certificate.not_after;
                    self.identity.set_certificate(certificate);
                    state.send_modify(|state| {
                        state.not_after = not_after;
                        state.renewals += 1;
                        state.last_error = None;
                    });
                }
                Err(error) => {
                    let pause = self.settings.pause(failed, rand::rng().random());
                    tracing::warn!(%error, ?pause, "the certificate could not be renewed");
                    failed = failed.saturating_add(1);
                    due = SystemTime::now() + pause;
                    state.send_modify(|state| {
                        state.failures += 1;
                        state.last_error = Some(error.to_string());
                    });
                }
            }
        }
    }

    async fn attempt(&self) -> Result<WorkloadCertificate, IdentityError> {
        let expired = self.identity.certificate().not_after <= SystemTime::now();
        match &self.token_file {
            Some(path) if expired => {
                let token = read_token(path).await?;
                enroll(&self.ca, &self.identity.bundles(), &self.identity.id(), &token).await
            }
            _ => reissue(&self.ca, &self.identity).await,
        }
    }
}

// === impl RenewalSettings ===

impl RenewalSettings {
    /// How long to wait after `failed` failures before; `chance` is in [0, 1), and takes up to half of it away.
    fn pause(&self, failed: u32, chance: f64) -> Duration {
        let longest = self.last_retry_ms.min(150_000);
        let doubled = self.first_retry_ms.max(10).saturating_mul(1 << failed.min(30)).min(longest);
        Duration::from_millis(doubled).mul_f64(1.0 - chance.clamp(0.0, 1.0) / 2.0)
    }
}

/// Half of what is left of a certificate's life, more or less a hundredth, and at least a second.
fn half_of(certificate: &WorkloadCertificate, now: SystemTime) -> SystemTime {
    let left = certificate.not_after.duration_since(now).unwrap_or_default();
    let share = 0.5 + rand::rng().random_range(-0.005..0.005);
    now + left.mul_f64(share).max(Duration::from_secs(1))
}

async fn sleep_until(due: SystemTime) {
    while let Ok(left) = due.duration_since(SystemTime::now()) {
        if left.is_zero() {
            return;
        }
        tokio::time::sleep(left.min(LOOK)).await;
    }
}

async fn read_token(path: &PathBuf) -> Result<String, IdentityError> {
    let refuse = |reason: String| IdentityError::NoCredential(path.display().to_string(), reason);
    let token = tokio::fs::read_to_string(path).await.map_err(|error| refuse(error.to_string()))?;
    match token.trim() {
        "" => Err(refuse("it is empty".to_owned())),
        text if text.len() > MAX_TOKEN => Err(refuse(format!("it is longer than {MAX_TOKEN} bytes"))),
        text => Ok(text.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_longest_and_lose_at_most_half() {
        let settings = RenewalSettings::default();
        assert_eq!(settings.pause(0, 0.0), Duration::from_secs(1));
        assert_eq!(settings.pause(3, 0.0), Duration::from_secs(8));
        assert_eq!(settings.pause(3, 1.0), Duration::from_secs(4));
        for failed in [8, 31, u32::MAX] {
            assert_eq!(settings.pause(failed, 0.0), Duration::from_secs(150), "{failed}");
        }
    }
}
