//! Waiting, with a deadline.

use anyhow::anyhow;
use std::fmt::Display;
use std::time::{Duration, Instant};

const POLL: Duration = Duration::from_millis(20);

/// Repeats `attempt` until it succeeds; its last error after `deadline`.
///
/// # Errors
/// If it does not succeed in time.
pub async fn until<T, E: Display>(
    what: &str,
    deadline: Duration,
    mut attempt: impl AsyncFnMut() -> Result<T, E>,
) -> anyhow::Result<T> {
    let began = Instant::now();
    loop {
        match attempt().await {
            Ok(value) => return Ok(value),
            Err(error) if began.elapsed() > deadline => {
                return Err(anyhow!("{what}: not within {deadline:?}: {error}"));
            }
            Err(_) => tokio::time::sleep(POLL).await,
        }
    }
}
