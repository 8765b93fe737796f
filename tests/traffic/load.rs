//! Requests at a steady rate, and a tally of what came back.

use crate::call::{Client, Reply};
use crate::marker;
use bytes::Bytes;
use futures_util::future::join_all;
use http::{Request, header};
use http_body_util::Full;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::task::JoinHandle;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

/// Requests that are being sent.
pub struct Load {
    stop: CancellationToken,
    tally: Arc<Mutex<Tally>>,
    step: Arc<AtomicUsize>,
    workers: JoinHandle<()>,
    began: Instant,
}

/// What came back.
#[derive(Debug, Clone, Default)]
pub struct Tally {
    /// How many of the step's requests.
    pub answered: usize,
    /// The step's requests, by the instance that answered.
    pub instances: BTreeMap<String, usize>,
    pub failed: usize,
    /// The first failures.
    pub failures: Vec<String>,
}

/// One connection that shares in the load.
struct Worker {
    client: Client<'static>,
    authority: &'static str,
    /// The number of the marker that its connection has been answered with, as the step wants.
    follows: usize,
    /// Which connection that was: another may lead to another of the proxy's threads.
    followed_on: usize,
    tally: Arc<Mutex<Tally>>,
    step: Arc<AtomicUsize>,
}

/// All requests count, whatever they follow.
pub const NO_STEP: usize = 0;
/// How many connections share the load.
const CONNECTIONS: u32 = 20;
/// How many failures are told one by one.
const TOLD: usize = 5;

// === impl Load ===

impl Load {
    /// Sends `rate` requests each second for `authority` to the proxy at `at`, in the step `step` (see [`Load::step`]);
    /// each connection begins once it follows that.
    pub fn start(at: SocketAddr, authority: &'static str, rate: u32, step: usize) -> Self {
        let (stop, tally) = (CancellationToken::new(), Arc::<Mutex<Tally>>::default());
        let step = Arc::new(AtomicUsize::new(step));
        let pause = Duration::from_secs(1) * CONNECTIONS / rate;
        let worker = || {
            let client = Client::new(at, false);
            Worker { client, authority, follows: NO_STEP, followed_on: 0, tally: tally.clone(), step: step.clone() }
        };
        let workers: Vec<_> = (0..CONNECTIONS).map(|_| worker().work(pause, stop.clone())).collect();
        let workers = tokio::spawn(async move { drop(join_all(workers).await) });
        Self { stop, tally, step, workers, began: Instant::now() }
    }

    /// Begins a step, and its tally with it: from now on only requests count that follow the configuration with the marker `number`: each connection asks for
    /// the marker first, because a proxy's threads do not follow at the same moment.
    pub fn step(&self, number: usize) {
        let mut tally = self.tally.lock().expect("nobody panics while holding it");
        self.step.store(number, Ordering::Relaxed);
        tally.begin();
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

// === impl Worker ===

impl Worker {
    async fn work(mut self, pause: Duration, stop: CancellationToken) {
        let mut ticks = tokio::time::interval(pause);
        // Who is late catches up: the rate is what is promised.
        ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                _ = ticks.tick() => {}
            }
            let step = self.step.load(Ordering::Relaxed);
            self.follow(step).await;
            if self.follows == NO_STEP && step != NO_STEP {
                continue;
            }
            let request = Request::get("/").header(header::HOST, self.authority).body(Full::new(Bytes::new()));
            let reply = self.client.send(request.expect("a request")).await;
            let mut tally = self.tally.lock().expect("nobody panics while holding it");
            // Under the lock, so that nothing of the step before comes into a tally that has begun.
            tally.note(reply, self.is_at(self.step.load(Ordering::Relaxed)));
        }
    }

    /// Whether the connection is known to follow what `step` wants.
    fn is_at(&self, step: usize) -> bool {
        self.follows == step && (step == NO_STEP || self.followed_on == self.client.opened())
    }

    /// Asks for the marker, if it is not known to be the step's.
    async fn follow(&mut self, step: usize) {
        if self.is_at(step) {
            return;
        }
        if let Ok(reply) = self.client.send(marker::request()).await
            && reply.status == 200
            && reply.body == step.to_string()
        {
            (self.follows, self.followed_on) = (step, self.client.opened());
        }
    }
}

// === impl Tally ===

impl Tally {
    /// Counts anew; failures stay.
    fn begin(&mut self) {
        self.answered = 0;
        self.instances.clear();
    }

    fn note(&mut self, reply: Result<Reply, String>, counts: bool) {
        let failure = match reply {
            Ok(reply) if reply.status == 200 && !counts => return,
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
