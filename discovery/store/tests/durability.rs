//! What the embedded server promises of the disk: acknowledged is kept, across kill -9 and a full disk.
//!
//! The server runs in a child process: this very test binary, asked for [`the_child_serves`] alone.

use etcd_client::{Client, GetOptions};
use isthmus_store::embedded::{Server, Settings};
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::{Duration, Instant};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

const FOLDER: &str = "ISTHMUS_STORE_TEST_FOLDER";
const READY: &str = "serving at ";
const PATIENCE: Duration = Duration::from_secs(30);

struct Server9 {
    child: Child,
    input: ChildStdin,
    endpoint: String,
}

/// Not a test of its own: the server that the others kill.
#[test]
#[ignore = "runs only as a child of the other tests"]
fn the_child_serves() {
    let Some(folder) = std::env::var_os(FOLDER) else { return };
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let listen = "127.0.0.1:0".parse().expect("an address");
        let settings = Settings { listen, data: folder.into(), ..Settings::default() };
        let server = Server::bind(settings, CancellationToken::new()).await.expect("a server");
        println!("{READY}{}", server.address().expect("an address"));
        // A line on the input lifts the limit on file sizes: the disk has room again.
        std::thread::spawn(|| {
            let mut line = String::new();
            if std::io::stdin().read_line(&mut line).is_ok_and(|read| read > 0) {
                use nix::sys::resource::{Resource, getrlimit, setrlimit};
                let (_, hard) = getrlimit(Resource::RLIMIT_FSIZE).expect("a limit");
                setrlimit(Resource::RLIMIT_FSIZE, hard, hard).expect("no limit");
            }
        });
        server.run().await.expect("served");
    });
}

/// Starts a server in `folder`, whose files may grow to `kibibytes` if given.
fn start(folder: &Path, kibibytes: Option<u32>) -> Server9 {
    let own = std::env::current_exe().expect("this binary");
    let arguments = ["--exact", "the_child_serves", "--ignored", "--nocapture"];
    let mut command = match kibibytes {
        // A write beyond the limit then fails with EFBIG instead of ending the process.
        Some(limit) => {
            let mut shell = Command::new("bash");
            shell.args(["-c", &format!("trap '' XFSZ; ulimit -S -f {limit}; exec \"$@\""), "bash"]).arg(own);
            shell
        }
        None => Command::new(own),
    };
    command.args(arguments).env(FOLDER, folder).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn().expect("a child");
    let input = child.stdin.take().expect("its input");
    let output = BufReader::new(child.stdout.take().expect("its output"));
    let address =
        output.lines().map_while(Result::ok).find_map(|line| line.split_once(READY).map(|at| at.1.to_owned()));
    let endpoint = format!("http://{}", address.expect("the child serves"));
    Server9 { child, input, endpoint }
}

impl Server9 {
    async fn client(&self) -> Client {
        Client::connect([&self.endpoint], None).await.expect("a client")
    }

    fn kill(&mut self) {
        // SIGKILL: nothing is flushed on the way out.
        self.child.kill().expect("a kill");
        self.child.wait().expect("an end");
    }
}

impl Drop for Server9 {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Writes until the server dies; what was acknowledged, with its revision.
async fn write(client: Client, writer: usize, round: usize) -> BTreeMap<String, i64> {
    let mut acknowledged = BTreeMap::new();
    for n in 0.. {
        let key = format!("r{round}/w{writer}/{n:06}");
        let value = vec![b'x'; 200];
        match timeout(PATIENCE, client.kv_client().put(key.as_str(), value, None)).await {
            Ok(Ok(response)) => acknowledged.insert(key, response.header().expect("a header").revision()),
            _ => break,
        };
    }
    acknowledged
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_acknowledged_survives_kill_9() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut kept: BTreeMap<String, i64> = BTreeMap::new();
    for round in 0..5 {
        let mut server = start(folder.path(), None);
        let client = server.client().await;
        check(&client, &kept).await;
        let writers: Vec<_> = (0..8).map(|writer| tokio::spawn(write(client.clone(), writer, round))).collect();
        tokio::time::sleep(Duration::from_millis(300 + 90 * round as u64)).await;
        server.kill();
        let before = kept.len();
        for writer in writers {
            kept.extend(writer.await.expect("a writer"));
        }
        assert!(kept.len() > before + 20, "round {round}: only {} writes", kept.len() - before);
    }
    let server = start(folder.path(), None);
    check(&server.client().await, &kept).await;
}

/// Every acknowledged key is there, at the revision that was told; no two writes share one.
async fn check(client: &Client, kept: &BTreeMap<String, i64>) {
    let options = GetOptions::new().with_prefix().with_keys_only();
    let got = timeout(PATIENCE, client.kv_client().get("r", Some(options))).await.expect("in time").expect("a list");
    let found: BTreeMap<&str, i64> =
        got.kvs().iter().map(|kv| (kv.key_str().expect("text"), kv.mod_revision())).collect();
    for (key, revision) in kept {
        assert_eq!(found.get(key.as_str()), Some(revision), "{key}");
    }
    let mut revisions: Vec<i64> = found.values().copied().collect();
    revisions.sort_unstable();
    revisions.dedup();
    assert_eq!(revisions.len(), found.len(), "each write has its own revision");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_refuses_writes_serves_reads_and_recovers() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut server = start(folder.path(), Some(4096));
    let client = server.client().await;
    let mut acknowledged = 0;
    let mut kv = client.kv_client();
    let refusal = loop {
        let put = kv.put(format!("k{acknowledged:05}"), vec![b'x'; 16 * 1024], None);
        match timeout(PATIENCE, put).await.expect("in time") {
            Ok(_) => acknowledged += 1,
            Err(error) => break error,
        }
        assert!(acknowledged < 1000, "the disk does not fill");
    };
    let etcd_client::Error::GRpcStatus(status) = refusal else { panic!("{refusal}") };
    assert_eq!(status.code(), tonic::Code::ResourceExhausted, "{status}");
    assert!(acknowledged > 10);
    let count = Some(GetOptions::new().with_prefix().with_count_only());
    let got =
        timeout(PATIENCE, client.kv_client().get("k", count.clone())).await.expect("in time").expect("reads go on");
    assert_eq!(got.count(), acknowledged);
    server.input.write_all(b"room\n").expect("a line");
    let deadline = Instant::now() + PATIENCE;
    while let Err(error) = client.kv_client().put("after", "x", None).await {
        assert!(Instant::now() < deadline, "still refused: {error}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let got = client.kv_client().get("k", count).await.expect("a count");
    assert_eq!(got.count(), acknowledged);
    server.kill();
    let server = start(folder.path(), None);
    let got = server.client().await.kv_client().get("after", None).await.expect("a get");
    assert_eq!(got.count(), 1);
}
