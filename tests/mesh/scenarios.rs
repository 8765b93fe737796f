//! What the two clusters do for each other, and refuse.

use crate::fixture::{Mesh, PATIENCE, until};
use isthmus::bookshop::Title;
use rustls::pki_types::ServerName;
use std::collections::BTreeSet;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

/// What is promised: a withdrawn export is refused within this time. Tests wait three times as long.
const WITHDRAWAL: Duration = Duration::from_secs(2);
/// How long a process may take to leave.
const LEAVING: Duration = Duration::from_secs(10);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_crosses_with_its_identity_and_everything_ends_at_shutdown() {
    let mut mesh = Mesh::start(61);
    let body = mesh.answer("details").await;
    assert_eq!(body["served"]["cluster"], "east");
    assert_eq!(body["served"]["caller"], "spiffe://west.example/ns/bookinfo/sa/bookinfo-productpage");

    let details = SocketAddr::new(mesh.layout.east().workloads[0].address, 15090);
    until("the server's sidecar counts by service", PATIENCE, async || {
        let metrics = mesh.get(details, "/metrics").await;
        let counted = metrics.lines().any(|line| {
            line.starts_with("istio_requests_total{reporter=\"destination\"")
                && line.contains("source_principal=\"spiffe://west.example/ns/bookinfo/sa/bookinfo-productpage\"")
                && line.contains("destination_service=\"details.bookinfo.svc.cluster.local\"")
        });
        if counted { Ok(()) } else { Err(metrics) }
    })
    .await;

    let mut seen = BTreeSet::new();
    let began = Instant::now();
    while seen.len() < 3 {
        assert!(began.elapsed() < PATIENCE, "only {seen:?} answered");
        seen.insert(mesh.answer("reviews").await["served"]["by"].to_string());
    }

    // Either gateway of either side may go; what is left carries on.
    for gateway in ["west-gateway-1", "east-gateway-2"] {
        mesh.stop(gateway).await;
        mesh.answer("details").await;
    }

    let ports: Vec<SocketAddr> = mesh.layout.clusters.iter().flat_map(|cluster| cluster.ports()).collect();
    let took = mesh.stop_all().await;
    assert!(took < LEAVING, "leaving took {took:?}");
    for port in ports {
        TcpListener::bind(port).unwrap_or_else(|error| panic!("{port} is still taken: {error}"));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_what_is_exported_can_be_reached_and_withdrawing_counts_at_once() {
    let mesh = Mesh::start(62);
    mesh.answer("details").await;
    let (west, gateway) = (mesh.layout.west_mesh(), SocketAddr::new(mesh.layout.west().gateways[0].1, 15443));

    // Through west's gateway, with the server name in hand: an exported service's sidecar answers the hello (and is
    // not trusted by this client), a service that is not exported resets.
    let details = "outbound_.9080_._.details.bookinfo.svc.cluster.local";
    let hidden = "outbound_.9080_._.hidden.bookinfo.svc.cluster.local";
    assert!(is_answered(&hello(gateway, details).await), "an exported service's hello is not answered");
    assert!(!is_answered(&hello(gateway, hidden).await), "a service that nobody exports answered");

    mesh.offer(Title::Details, None);
    let changed = Instant::now();
    until("details is refused", WITHDRAWAL * 3, async || match mesh.ask(west, "details").await {
        Ok(reply) if reply.status == 200 => Err("it answered"),
        _ => Ok(()),
    })
    .await;
    println!("refused {:?} after the file changed", changed.elapsed());
    until("the gateway refuses details", WITHDRAWAL * 3, async || {
        if is_answered(&hello(gateway, details).await) { Err("it answered") } else { Ok(()) }
    })
    .await;
    // What is exported to another cluster is none of west's business.
    mesh.offer(Title::Details, Some("north"));
    mesh.answer("reviews").await;
    assert_ne!(mesh.ask(west, "details").await.expect("the sidecar answers").status, 200);

    mesh.offer(Title::Details, Some("west"));
    mesh.answer("details").await;
    mesh.stop_all().await;
}

/// A gateway carries TLS that it cannot read, and where callers come in the clear there is none.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_port_in_the_clear_is_offered_to_no_other_cluster() {
    let mesh = Mesh::start(65);
    mesh.answer("details").await;
    let west = mesh.layout.west_mesh();
    let file = mesh.east_resources().join("peers.yaml");
    let policy = |mode: &str| {
        let text = format!(
            "apiVersion: security.istio.io/v1\nkind: PeerAuthentication\nmetadata: {{name: a, namespace: bookinfo}}\n\
             spec: {{mtls: {{mode: {mode}}}}}\n"
        );
        std::fs::write(&file, text).expect("the file is written");
    };
    policy("DISABLE");
    until("details is not offered", PATIENCE, async || {
        let gateway = SocketAddr::new(mesh.layout.west().control_plane, 15000);
        match (mesh.ask(west, "details").await, mesh.inspect(gateway, "catalog").await) {
            (Ok(reply), _) if reply.status == 200 => Err("it answered"),
            (_, catalog) if catalog.contains("details.bookinfo.svc.cluster.local") => Err("it is known"),
            _ => Ok(()),
        }
    })
    .await;
    policy("STRICT");
    assert_eq!(mesh.answer("details").await["served"]["cluster"], "east");
    mesh.stop_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_malformed_file_is_named_and_what_it_last_said_well_stays() {
    let mesh = Mesh::start(63);
    mesh.answer("details").await;
    let file = mesh.east_resources().join("details.yaml");
    std::fs::write(
        &file,
        "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {name: details}\nspec:\n  hosts: [details\n",
    )
    .expect("the file is written");
    let admin = SocketAddr::new(mesh.layout.east().control_plane, 15000);
    until("the mistake is shown", PATIENCE, async || {
        let status = mesh.inspect(admin, "registry").await;
        if status.contains("details.yaml") { Ok(()) } else { Err(status) }
    })
    .await;
    assert_eq!(mesh.answer("details").await["served"]["cluster"], "east");

    mesh.offer(Title::Details, Some("west"));
    until("the mistake is forgotten", PATIENCE, async || {
        let status = mesh.inspect(admin, "registry").await;
        if status.contains("details.yaml") { Err(status) } else { Ok(()) }
    })
    .await;
    mesh.answer("details").await;
    mesh.stop_all().await;
}

/// Says hello to a gateway as a TLS client that trusts nobody.
async fn hello(gateway: SocketAddr, name: &'static str) -> io::Result<()> {
    let config =
        rustls::ClientConfig::builder().with_root_certificates(rustls::RootCertStore::empty()).with_no_client_auth();
    let tcp = TcpStream::connect(gateway).await?;
    let name = ServerName::try_from(name).expect("a server name");
    TlsConnector::from(Arc::new(config)).connect(name, tcp).await.map(drop)
}

/// Whether there was an answer, even though this client does not like it.
fn is_answered(outcome: &io::Result<()>) -> bool {
    match outcome {
        Ok(()) => true,
        Err(error) => error.get_ref().is_some_and(|cause| cause.is::<rustls::Error>()),
    }
}
