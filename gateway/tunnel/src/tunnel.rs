//! One QUIC connection to, or from, a gateway of a peer, and whether it still gets through.
//!
//! ```text
//! packets sent, none received for max(3 PTO, 300 ms) ─▶ suspect: no new streams
//!                                        for 2.5 times that ─▶ closed: all its streams are reset
//! ```

use crate::refusal::Refusal;
use quinn::{Connection, ConnectionStats};
use std::time::{Duration, Instant};
use tokio::sync::watch;

const LOOK: Duration = Duration::from_millis(50);
const LEAST_PATIENCE: Duration = Duration::from_millis(300);
/// What a peer may wait before it acknowledges (RFC 9000, max_ack_delay).
const ACK_DELAY: Duration = Duration::from_millis(25);

/// A connection, and what is known of its path.
#[derive(Debug, Clone)]
pub struct Tunnel {
    pub(crate) connection: Connection,
    suspect: watch::Receiver<bool>,
}

/// Watches what comes back.
struct Watchdog {
    received: u64,
    sent: u64,
    unanswered: Option<Instant>,
}

/// What the watchdog makes of the moment.
#[derive(Debug, PartialEq, Eq)]
enum Finding {
    Fine,
    Suspect,
    Lost,
}

// === impl Tunnel ===

impl Tunnel {
    /// Takes a connection and watches it from now on. The connection is closed when all of this tunnel's clones, and its
    /// streams, are gone.
    pub(crate) fn new(connection: Connection) -> Self {
        let (sender, suspect) = watch::channel(false);
        tokio::spawn(watch_over(connection.clone(), sender));
        Self { connection, suspect }
    }

    /// Whether new streams may go through it.
    pub fn is_usable(&self) -> bool {
        !*self.suspect.borrow() && self.connection.close_reason().is_none()
    }

    /// Returns once the tunnel is suspect, or closed.
    pub async fn lost(&self) {
        let mut suspect = self.suspect.clone();
        // An error means that the watch has ended, with the connection.
        let _ = suspect.wait_for(|suspect| *suspect).await;
    }

    /// quinn's counters.
    pub fn stats(&self) -> ConnectionStats {
        self.connection.stats()
    }
}

async fn watch_over(connection: Connection, suspect: watch::Sender<bool>) {
    let mut watchdog = Watchdog { received: 0, sent: 0, unanswered: None };
    // A clock that stands still while this process does: our own pauses are not the peer's silence.
    let (mut clock, mut last) = (Instant::now(), Instant::now());
    loop {
        tokio::select! {
            _ = connection.closed() => break,
            () = suspect.closed() => return,
            () = tokio::time::sleep(LOOK) => {}
        }
        clock += last.elapsed().min(2 * LOOK);
        last = Instant::now();
        let stats = connection.stats();
        let finding = watchdog.look(stats.udp_rx.datagrams, stats.udp_tx.datagrams, patience(stats.path.rtt), clock);
        suspect.send_if_modified(|suspect| {
            std::mem::replace(suspect, finding != Finding::Fine) != (finding != Finding::Fine)
        });
        if finding == Finding::Lost {
            connection.close(Refusal::Unreachable.code(), b"no answer");
        }
    }
    suspect.send_replace(true);
}

/// max(3 PTO, 300 ms); a probe timeout (RFC 9002, 6.2.1) taken as one and a half round trips and the delay of an ACK.
fn patience(rtt: Duration) -> Duration {
    (3 * (rtt + rtt / 2 + ACK_DELAY)).max(LEAST_PATIENCE)
}

// === impl Watchdog ===

impl Watchdog {
    fn look(&mut self, received: u64, sent: u64, patience: Duration, now: Instant) -> Finding {
        if received != self.received {
            (self.received, self.sent, self.unanswered) = (received, sent, None);
            return Finding::Fine;
        }
        if sent != self.sent && self.unanswered.is_none() {
            self.unanswered = Some(now);
        }
        match self.unanswered.map(|since| now.saturating_duration_since(since)) {
            Some(silence) if silence > patience * 5 / 2 => Finding::Lost,
            Some(silence) if silence > patience => Finding::Suspect,
            _ => Finding::Fine,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn silence_is_judged_only_after_something_was_sent() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let patience = Duration::from_millis(300);
        let mut watchdog = Watchdog { received: 0, sent: 0, unanswered: None };
        assert_eq!(watchdog.look(1, 1, patience, at(0)), Finding::Fine);
        assert_eq!(watchdog.look(1, 1, patience, at(5000)), Finding::Fine, "nothing was asked");
        assert_eq!(watchdog.look(1, 2, patience, at(5050)), Finding::Fine);
        assert_eq!(watchdog.look(1, 3, patience, at(5351)), Finding::Suspect);
        assert_eq!(watchdog.look(2, 3, patience, at(5400)), Finding::Fine, "an answer clears it");
        assert_eq!(watchdog.look(2, 4, patience, at(5450)), Finding::Fine);
        assert_eq!(watchdog.look(2, 5, patience, at(6201)), Finding::Lost);
    }
}
