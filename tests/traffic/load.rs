//! Requests at a steady rate, and a tally of what came back.

use crate::call::Client;
use bytes::Bytes;
use futures_util::future::join_all;
use http::{Request, header};
use http_body_util::Full;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::task::JoinHandle;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

/// Requests that are being sent.
pub struct Load {
    stop: CancellationToken,
    tally: Arc<Mutex<Tally>>,
    workers: JoinHandle<()>,
    began: Instant,
}

/// What came back.
#[derive(Debug, Clone, Default)]
pub struct Tally {
    pub answered: usize,
    /// By the instance that answered.
    pub instances: BTreeMap<String, usize>,
    pub failed: usize,
    /// The first failures.
    pub failures: Vec<String>,
}

/// How many connections share the load.
const CONNECTIONS: u32 = 20;
/// How many failures are told one by one.
const TOLD: usize = 5;

// === impl Load ===

impl Load {
    /// Sends `rate` requests each second for `authority` to the proxy at `at`.
    pub fn start(at: SocketAddr, authority: &'static str, rate: u32) -> Self {
        let (stop, tally) = (CancellationToken::new(), Arc::<Mutex<Tally>>::default());
        let pause = Duration::from_secs(1) * CONNECTIONS / rate;
        let workers = (0..CONNECTIONS).map(|_| work(at, authority, pause, tally.clone(), stop.clone()));
        let all = join_all(workers.collect::<Vec<_>>());
        let workers = tokio::spawn(async move { drop(all.await) });
        Self { stop, tally, workers, began: Instant::now() }
    }

    /// The tally since the last look, which begins anew.
    pub fn take(&self) -> Tally {
        std::mem::take(&mut *self.tally.lock().expect("nobody panics while holding it"))
    }

    /// How many have been answered since the last look.
    pub fn answered(&self) -> usize {
        self.tally.lock().expect("nobody panics while holding it").answered
    }

    /// Ends it; the tally since the last look, and how long all took.
    pub async fn stop(self) -> (Tally, Duration) {
        let took = self.began.elapsed();
        self.stop.cancel();
        let _ = self.workers.await;
        let tally = self.tally.lock().expect("nobody panics while holding it").clone();
        (tally, took)
    }
}

async fn work(
    at: SocketAddr,
    authority: &'static str,
    pause: Duration,
    tally: Arc<Mutex<Tally>>,
    stop: CancellationToken,
) {
    let mut client = Client::new(at, false);
    let mut ticks = tokio::time::interval(pause);
    // Who is late catches up: the rate is what is promised.
    ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = ticks.tick() => {}
        }
        let request = Request::get("/").header(header::HOST, authority).body(Full::new(Bytes::new()));
        let reply = client.send(request.expect("a request")).await;
        tally.lock().expect("nobody panics while holding it").note(reply);
    }
}

// === impl Tally ===

impl Tally {
    fn note(&mut self, reply: Result<crate::call::Reply, String>) {
        let failure = match reply {
            Ok(reply) if reply.status == 200 => {
                self.answered += 1;
                let instance = reply.headers.get("x-instance").map(|name| String::from_utf8_lossy(name.as_bytes()));
                *self.instances.entry(instance.unwrap_or_default().into_owned()).or_default() += 1;
                return;
            }
            Ok(reply) => format!("{} {:?} {:?}", reply.status, reply.headers, reply.body),
            Err(error) => error,
        };
        self.failed += 1;
        if self.failures.len() < TOLD {
            self.failures.push(failure);
        }
    }
}
