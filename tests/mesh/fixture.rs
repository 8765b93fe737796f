//! Two clusters, running: the demo's plan, each of its processes as a task.

use clap::Parser;
use http::HeaderMap;
use isthmus::bookshop::{self, Bookshop, PORT, Title};
use isthmus::demo::layout::Layout;
use isthmus::demo::plan::Plan;
use isthmus::demo::{self, resources};
use isthmus::http_client::{Client, Reply};
use isthmus::settings::{GatewayProcess, SidecarProcess};
use isthmus::{role, settings};
use std::collections::BTreeMap;
use std::fmt::Display;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use tempfile::TempDir;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// How long anything may take that is not bound by a promise.
pub const PATIENCE: Duration = Duration::from_secs(30);
const POLL: Duration = Duration::from_millis(20);

/// Two clusters that run.
pub struct Mesh {
    pub layout: Layout,
    home: TempDir,
    tasks: BTreeMap<String, Task>,
    plan: Plan,
}

struct Task {
    shutdown: CancellationToken,
    handle: JoinHandle<anyhow::Result<()>>,
}

#[derive(Parser)]
struct DemoLine {
    #[command(flatten)]
    demo: demo::Options,
}

#[derive(Parser)]
struct Application {
    #[command(flatten)]
    bookshop: Bookshop,
}

impl Mesh {
    /// Starts both clusters in 127.`range`.0.0/16; returns as soon as everything is begun.
    pub fn start(range: u8) -> Self {
        // Every test calls this; the first call counts.
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let home = tempfile::tempdir().expect("a temporary folder");
        let layout = Layout::new(range);
        let options = DemoLine::parse_from(["mesh"]).demo;
        let plan = Plan::prepare(home.path(), &layout, &options).expect("a plan");
        let tasks = plan.processes.iter().map(|(name, args)| (name.clone(), Task::start(args))).collect();
        Self { layout, home, tasks, plan }
    }

    /// Starts one more sidecar.
    pub fn add(&mut self, name: &str, settings: SidecarProcess) {
        let shutdown = CancellationToken::new();
        let handle = tokio::spawn(role::sidecar(settings, shutdown.clone()));
        self.tasks.insert(name.to_owned(), Task { shutdown, handle });
    }

    /// Starts one more gateway.
    pub fn add_gateway(&mut self, name: &str, settings: GatewayProcess) {
        let shutdown = CancellationToken::new();
        let handle = tokio::spawn(role::gateway(settings, shutdown.clone()));
        self.tasks.insert(name.to_owned(), Task { shutdown, handle });
    }

    /// Ends one role as SIGTERM would, and waits for its end.
    pub async fn stop(&mut self, name: &str) {
        let task = self.tasks.remove(name).unwrap_or_else(|| panic!("{name} does not run"));
        task.stop(name).await;
    }

    /// Ends everything; the time that it took.
    pub async fn stop_all(mut self) -> Duration {
        let began = Instant::now();
        for task in self.tasks.values() {
            task.shutdown.cancel();
        }
        for (name, task) in std::mem::take(&mut self.tasks) {
            task.stop(&name).await;
        }
        began.elapsed()
    }

    /// East's resource files.
    pub fn east_resources(&self) -> PathBuf {
        self.plan.resources("east")
    }

    /// Offers a service of east to `consumer`, or to nobody.
    pub fn offer(&self, title: Title, consumer: Option<&str>) {
        let written = resources::write_service(&self.east_resources(), self.layout.east(), title, consumer);
        written.expect("the file is written");
    }

    /// Asks for a service through a sidecar's outbound listener, over a new connection.
    pub async fn ask(&self, mesh: SocketAddr, service: &str) -> anyhow::Result<Reply> {
        let host = format!("{service}.bookinfo.svc.cluster.local:{PORT}");
        Client::new(mesh, PATIENCE).get(&host, "/", &HeaderMap::new()).await
    }

    /// Asks in west until the answer is 200, and returns it as JSON.
    pub async fn answer(&self, service: &str) -> serde_json::Value {
        let mesh = self.layout.west_mesh();
        until(&format!("{service} answers"), PATIENCE, async || {
            let reply = self.ask(mesh, service).await.map_err(|error| format!("{error:#}"))?;
            if reply.status != 200 {
                return Err(format!("{}: {}", reply.status, String::from_utf8_lossy(&reply.body)));
            }
            serde_json::from_slice(&reply.body).map_err(|error| error.to_string())
        })
        .await
    }

    /// What `isthmus inspect` shows of a process.
    pub async fn inspect(&self, admin: SocketAddr, view: &str) -> String {
        self.get(admin, &format!("/inspect/{view}")).await
    }

    /// What a process's own HTTP server answers.
    pub async fn get(&self, address: SocketAddr, path: &str) -> String {
        let reply = Client::new(address, PATIENCE).get(&address.to_string(), path, &HeaderMap::new()).await;
        String::from_utf8_lossy(&reply.expect("the process answers").body).into_owned()
    }

    /// The folder that holds everything.
    pub fn home(&self) -> &Path {
        self.home.path()
    }
}

impl Task {
    /// Runs what `isthmus ARGS` would run.
    fn start(args: &[String]) -> Self {
        let shutdown = CancellationToken::new();
        let config = || PathBuf::from(args.last().expect("a settings file"));
        let until = shutdown.clone();
        let handle = match args[0].as_str() {
            "store" => tokio::spawn(role::store(settings::read(&config()).expect("settings"), until)),
            "controlplane" => tokio::spawn(role::control_plane(settings::read(&config()).expect("settings"), until)),
            "gateway" => tokio::spawn(role::gateway(settings::read(&config()).expect("settings"), until)),
            "sidecar" => tokio::spawn(role::sidecar(settings::read(&config()).expect("settings"), until)),
            "bookshop" => tokio::spawn(bookshop::run(Application::parse_from(args).bookshop, until)),
            other => panic!("the plan has an unknown role {other}"),
        };
        Self { shutdown, handle }
    }

    async fn stop(self, name: &str) {
        self.shutdown.cancel();
        let ended = tokio::time::timeout(PATIENCE, self.handle).await;
        let ended = ended.unwrap_or_else(|_| panic!("{name} did not end within {PATIENCE:?}"));
        ended.expect("no role panics").unwrap_or_else(|error| panic!("{name}: {error:#}"));
    }
}

/// Repeats `attempt` until it succeeds; panics with its last error after `deadline`.
pub async fn until<T, E: Display>(what: &str, deadline: Duration, mut attempt: impl AsyncFnMut() -> Result<T, E>) -> T {
    let began = Instant::now();
    loop {
        match attempt().await {
            Ok(value) => return value,
            Err(error) => assert!(began.elapsed() < deadline, "{what}: not within {deadline:?}: {error}"),
        }
        tokio::time::sleep(POLL).await;
    }
}
