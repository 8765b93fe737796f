//! The stores that the suite runs against, each in a folder and on a port of its own.

use etcd_client::Client;
use isthmus_store::embedded::{Server, Settings};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// A running store.
pub(crate) struct Target {
    /// `http://127.0.0.1:PORT`.
    pub(crate) endpoint: String,
    running: Running,
    /// Removed with the target.
    _folder: TempDir,
}

enum Running {
    Embedded { shutdown: CancellationToken, task: JoinHandle<()> },
    Etcd(Child),
}

/// Starts the embedded server with ordinary settings.
pub(crate) async fn embedded() -> Target {
    embedded_with(Settings::default()).await
}

/// Starts the embedded server; address and folder are the test's.
pub(crate) async fn embedded_with(settings: Settings) -> Target {
    let folder = tempfile::tempdir().expect("a folder");
    let listen = "127.0.0.1:0".parse().expect("an address");
    let settings = Settings { listen, data: folder.path().to_owned(), ..settings };
    let shutdown = CancellationToken::new();
    let server = Server::bind(settings, shutdown.clone()).await.expect("a server");
    let endpoint = format!("http://{}", server.address().expect("an address"));
    let task = tokio::spawn(async move { server.run().await.expect("served") });
    Target { endpoint, running: Running::Embedded { shutdown, task }, _folder: folder }
}

/// Starts Debian's etcd.
///
/// Who builds these tests wants etcd: its absence is a failure, never a silent pass.
#[allow(dead_code, reason = "only the tests against etcd start it")]
pub(crate) async fn etcd() -> Target {
    let folder = tempfile::tempdir().expect("a folder");
    let [client, peer] = free_ports();
    let child = Command::new("etcd")
        .args(["--data-dir".as_ref(), folder.path().as_os_str()])
        .args(["--listen-client-urls", &client, "--advertise-client-urls", &client])
        .args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer])
        .args(["--initial-cluster", &format!("default={peer}"), "--log-level", "error"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("etcd is not installed: install Debian's etcd-server, or test without the feature etcd-tests");
    let target = Target { endpoint: client, running: Running::Etcd(child), _folder: folder };
    let deadline = Instant::now() + super::PATIENCE;
    loop {
        let mut probe = target.client().await;
        let alive = tokio::time::timeout(Duration::from_secs(1), probe.get("probe", None)).await;
        if matches!(alive, Ok(Ok(_))) {
            return target;
        }
        assert!(Instant::now() < deadline, "etcd does not answer");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Two ports that were free a moment ago; etcd cannot tell us what port it bound.
fn free_ports() -> [String; 2] {
    let sockets = [(); 2].map(|()| std::net::TcpListener::bind("127.0.0.1:0").expect("a port"));
    sockets.map(|socket| format!("http://{}", socket.local_addr().expect("an address")))
}

// === impl Target ===

impl Target {
    /// A client of it.
    pub(crate) async fn client(&self) -> Client {
        Client::connect([&self.endpoint], None).await.expect("a client")
    }

    /// Stops it in good order.
    pub(crate) async fn stop(mut self) {
        match &mut self.running {
            Running::Embedded { shutdown, task } => {
                shutdown.cancel();
                tokio::time::timeout(super::PATIENCE, task).await.expect("stops in time").expect("stops");
            }
            Running::Etcd(_) => {}
        }
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        match &mut self.running {
            Running::Embedded { shutdown, .. } => shutdown.cancel(),
            Running::Etcd(child) => {
                // It may have ended already; then there is nothing to do.
                let _ = child.kill();
                let _ = child.wait();
            }
        }
    }
}
