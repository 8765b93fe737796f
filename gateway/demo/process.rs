//! Child processes that are kept alive: what dies is started again, what is stopped stays stopped.
//!
//! A child's standard input is a pipe that we hold: should we be killed, the children read its end and leave too.

use anyhow::Context;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, AtomicU32, Ordering};
use std::time::{Duration, Instant};
use tokio::process::{Child, Command};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

const FIRST_BACKOFF: Duration = Duration::from_millis(50);
const LAST_BACKOFF: Duration = Duration::from_secs(2);
/// A child that lived this long has recovered: the next restart is quick again.
const RECOVERED: Duration = Duration::from_secs(5);
/// How long a child may take to leave after SIGTERM.
const GRACE: Duration = Duration::from_secs(10);

/// Starts children of our own binary and keeps them running.
pub struct Supervisor {
    binary: PathBuf,
    logs: PathBuf,
    children: BTreeMap<String, Arc<Status>>,
    tasks: TaskTracker,
    shutdown: CancellationToken,
}

#[derive(Default)]
struct Status {
    pid: AtomicI32,
    starts: AtomicU32,
}

impl Supervisor {
    /// A supervisor of processes of this very binary, writing each child's output to `logs/NAME.log`.
    ///
    /// # Errors
    /// If the path of the running binary is not known.
    pub fn new(logs: &Path) -> anyhow::Result<Self> {
        Ok(Self {
            binary: std::env::current_exe().context("the path of this binary")?,
            logs: logs.to_owned(),
            children: BTreeMap::new(),
            tasks: TaskTracker::new(),
            shutdown: CancellationToken::new(),
        })
    }

    /// Starts `isthmus ARGS` under `name` and keeps it running until [`Supervisor::stop`].
    ///
    /// # Errors
    /// If it cannot be started the first time.
    pub fn start(&mut self, name: &str, args: Vec<String>) -> anyhow::Result<()> {
        let log = self.logs.join(format!("{name}.log"));
        let status = Arc::new(Status::default());
        let launch = Launch { binary: self.binary.clone(), args, log, status: status.clone() };
        let first = launch.spawn().with_context(|| format!("start {name}"))?;
        self.children.insert(name.to_owned(), status);
        self.tasks.spawn(launch.keep_alive(first, self.shutdown.clone()));
        Ok(())
    }

    /// Kills a child as `kill -9` would. It will be started again.
    ///
    /// # Errors
    /// If there is no such child, or it is just being restarted.
    pub fn kill(&self, name: &str) -> anyhow::Result<()> {
        let pid = self.pid(name).with_context(|| format!("{name} is not running"))?;
        kill(Pid::from_raw(pid), Signal::SIGKILL).with_context(|| format!("kill -9 {name} ({pid})"))
    }

    /// The child's process id, if it runs.
    pub fn pid(&self, name: &str) -> Option<i32> {
        self.children.get(name).map(|status| status.pid.load(Ordering::Acquire)).filter(|pid| *pid > 0)
    }

    /// How often the child was started.
    pub fn starts(&self, name: &str) -> u32 {
        self.children.get(name).map_or(0, |status| status.starts.load(Ordering::Acquire))
    }

    /// The names of all children.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.children.keys().map(String::as_str)
    }

    /// Ends all children, first asking, then not asking, and waits until they are gone.
    pub async fn stop(self) {
        self.shutdown.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }
}

struct Launch {
    binary: PathBuf,
    args: Vec<String>,
    log: PathBuf,
    status: Arc<Status>,
}

impl Launch {
    fn spawn(&self) -> anyhow::Result<Child> {
        let log = File::options().create(true).append(true).open(&self.log)?;
        let child = Command::new(&self.binary)
            .arg("--exit-with-stdin")
            .args(&self.args)
            // Its own group: Ctrl-C at the terminal is for us, who then end the children in order.
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()?;
        self.status.pid.store(child.id().map_or(0, u32::cast_signed), Ordering::Release);
        self.status.starts.fetch_add(1, Ordering::AcqRel);
        Ok(child)
    }

    async fn keep_alive(self, first: Child, shutdown: CancellationToken) {
        let mut child = Some(first);
        let mut backoff = FIRST_BACKOFF;
        loop {
            let started = Instant::now();
            if let Some(running) = &mut child {
                // Waiting for a child closes its standard input; held here, it stays open for as long as it runs.
                let _open = running.stdin.take();
                tokio::select! {
                    _ = running.wait() => {}
                    () = shutdown.cancelled() => return self.end(running).await,
                }
            }
            self.status.pid.store(0, Ordering::Release);
            backoff = if started.elapsed() > RECOVERED { FIRST_BACKOFF } else { (backoff * 2).min(LAST_BACKOFF) };
            tokio::select! {
                () = tokio::time::sleep(backoff) => {}
                () = shutdown.cancelled() => return,
            }
            child = self.spawn().ok();
        }
    }

    async fn end(&self, child: &mut Child) {
        if let Some(pid) = child.id() {
            // It may have gone by itself in this moment.
            let _ = kill(Pid::from_raw(pid.cast_signed()), Signal::SIGTERM);
        }
        if tokio::time::timeout(GRACE, child.wait()).await.is_err() {
            let _ = child.kill().await;
        }
        self.status.pid.store(0, Ordering::Release);
    }
}
