//! A real Envoy takes all that proxies are told, and carries a request with it.
//!
//! Needs Envoy's binary: `ENVOY=/usr/local/bin/envoy cargo test -p isthmus-controlplane -- --ignored`.

use crate::rig::{DOMAIN, Plane, until};
use api::envoy::envoy::config::core::v3::{DataSource, data_source::Specifier};
use api::envoy::envoy::extensions::transport_sockets::tls::v3::{Secret, TlsCertificate, secret};
use api::envoy::envoy::service::discovery::v3::{
    DeltaDiscoveryRequest, DeltaDiscoveryResponse, DiscoveryRequest, DiscoveryResponse,
};
use api::envoy::envoy::service::secret::v3::secret_discovery_service_server::{
    SecretDiscoveryService, SecretDiscoveryServiceServer,
};
use api::envoy::google::protobuf::Any;
use identity::Identity;
use prost::{Message, Name};
use std::net::SocketAddr;
use std::pin::Pin;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::{Child, Command};
use tokio_stream::wrappers::TcpListenerStream;
use tokio_stream::{Stream, StreamExt};
use tonic::{Request, Response, Status, Streaming};

/// Gives a proxy its own certificate, as an agent does.
struct Agent(Identity);

type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

struct Envoy {
    admin: SocketAddr,
    process: Child,
}

#[tonic::async_trait]
impl SecretDiscoveryService for Agent {
    type DeltaSecretsStream = Answers<DeltaDiscoveryResponse>;
    type StreamSecretsStream = Answers<DiscoveryResponse>;

    async fn delta_secrets(
        &self,
        _: Request<Streaming<DeltaDiscoveryRequest>>,
    ) -> Result<Response<Self::DeltaSecretsStream>, Status> {
        Err(Status::unimplemented("state of the world only"))
    }

    async fn stream_secrets(
        &self,
        _: Request<Streaming<DiscoveryRequest>>,
    ) -> Result<Response<Self::StreamSecretsStream>, Status> {
        let certificate = self.0.certificate();
        let inline =
            |pem: String| DataSource { specifier: Some(Specifier::InlineString(pem)), ..DataSource::default() };
        let secret = Secret {
            name: "default".into(),
            r#type: Some(secret::Type::TlsCertificate(TlsCertificate {
                certificate_chain: Some(inline(certificate.chain_pem())),
                private_key: Some(inline(certificate.key_pem())),
                ..TlsCertificate::default()
            })),
        };
        let response = DiscoveryResponse {
            version_info: "1".into(),
            nonce: "1".into(),
            type_url: Secret::type_url(),
            resources: vec![Any { type_url: Secret::type_url(), value: secret.encode_to_vec() }],
            ..DiscoveryResponse::default()
        };
        Ok(Response::new(Box::pin(tokio_stream::once(Ok(response)).chain(tokio_stream::pending()))))
    }

    async fn fetch_secrets(&self, _: Request<DiscoveryRequest>) -> Result<Response<DiscoveryResponse>, Status> {
        Err(Status::unimplemented("streams only"))
    }
}

/// An address that was free a moment ago.
async fn free() -> SocketAddr {
    listener().await.local_addr().expect("bound")
}

async fn listener() -> TcpListener {
    TcpListener::bind("127.0.0.1:0").await.expect("a port")
}

async fn agent(identity: &Identity) -> SocketAddr {
    let listener = listener().await;
    let address = listener.local_addr().expect("bound");
    let service = SecretDiscoveryServiceServer::new(Agent(identity.clone()));
    let server = tonic::transport::Server::builder().add_service(service);
    tokio::spawn(server.serve_with_incoming(TcpListenerStream::new(listener)));
    address
}

/// An application that answers with the request's head.
async fn application() -> SocketAddr {
    let listener = listener().await;
    let address = listener.local_addr().expect("bound");
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut head = vec![0; 16 << 10];
                let count = stream.read(&mut head).await.unwrap_or_default();
                let body = String::from_utf8_lossy(&head[..count]).into_owned();
                let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len());
                // A caller that left does not want the answer.
                let _ = stream.write_all(answer.as_bytes()).await;
            });
        }
    });
    address
}

async fn get(at: SocketAddr, host: &str, path: &str) -> String {
    let Ok(mut stream) = TcpStream::connect(at).await else { return String::new() };
    let request = format!("GET {path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n");
    let mut answer = Vec::new();
    if stream.write_all(request.as_bytes()).await.is_ok() {
        // What came before the connection broke is worth looking at.
        let _ = stream.read_to_end(&mut answer).await;
    }
    String::from_utf8_lossy(&answer).into_owned()
}

fn json(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n"))
}

impl Envoy {
    async fn start(plane: &Plane, identity: &Identity, interception: &str) -> Self {
        let admin = free().await;
        let (sds, xds) = (agent(identity).await, plane.address());
        let certificate = identity.certificate();
        let (chain, key, root) = (json(&certificate.chain_pem()), json(&certificate.key_pem()), json(&plane.root));
        let h2 = r#""typed_extension_protocol_options": {"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
            "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
            "explicit_http_config": {"http2_protocol_options": {}}}}"#;
        let endpoint = |name: &str, at: SocketAddr| {
            format!(
                r#""name": "{name}", "connect_timeout": "5s", "load_assignment": {{"cluster_name": "{name}", "endpoints": [
                {{"lb_endpoints": [{{"endpoint": {{"address": {{"socket_address":
                {{"address": "{}", "port_value": {}}}}}}}}}]}}]}}, {h2}"#,
                at.ip(),
                at.port()
            )
        };
        let bootstrap = format!(
            r#"{{"admin": {{"address": {{"socket_address": {{"address": "127.0.0.1", "port_value": {admin_port}}}}}}},
            "node": {{"id": "sidecar~127.0.0.1~reviews-1.shop~shop.svc.cluster.local", "cluster": "reviews.shop", "metadata": {{
              "NAMESPACE": "shop", "SERVICE_ACCOUNT": "reviews", "CLUSTER_ID": "east", "INTERCEPTION_MODE": "{interception}"}}}},
            "dynamic_resources": {{
              "ads_config": {{"api_type": "DELTA_GRPC", "transport_api_version": "V3", "set_node_on_first_message_only": true,
                "grpc_services": [{{"envoy_grpc": {{"cluster_name": "xds-grpc"}}}}]}},
              "cds_config": {{"ads": {{}}, "resource_api_version": "V3", "initial_fetch_timeout": "0s"}},
              "lds_config": {{"ads": {{}}, "resource_api_version": "V3", "initial_fetch_timeout": "0s"}}}},
            "static_resources": {{"clusters": [
              {{{sds}}},
              {{{xds}, "transport_socket": {{"name": "envoy.transport_sockets.tls", "typed_config": {{
                "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext",
                "sni": "controlplane", "common_tls_context": {{
                "tls_params": {{"tls_minimum_protocol_version": "TLSv1_3", "tls_maximum_protocol_version": "TLSv1_3"}},
                "alpn_protocols": ["h2"],
                "tls_certificates": [{{"certificate_chain": {{"inline_string": {chain}}}, "private_key": {{"inline_string": {key}}}}}],
                "validation_context": {{"trusted_ca": {{"inline_string": {root}}}, "match_typed_subject_alt_names": [
                  {{"san_type": "URI", "matcher": {{"exact": "spiffe://{DOMAIN}/ns/isthmus-system/sa/controlplane"}}}}]}}}}}}}}}}
            ]}}}}"#,
            admin_port = admin.port(),
            sds = endpoint("sds-grpc", sds),
            xds = endpoint("xds-grpc", xds),
        );
        let file = plane.directory.path().join(format!("envoy-{}.json", admin.port()));
        std::fs::write(&file, bootstrap).expect("written");
        let binary = std::env::var("ENVOY").expect("ENVOY names the binary");
        let process = Command::new(binary)
            .args(["--use-dynamic-base-id", "--concurrency", "1", "--log-level", "warning", "-c"])
            .arg(file)
            .kill_on_drop(true)
            .spawn()
            .expect("Envoy starts");
        Self { admin, process }
    }

    async fn statistic(&self, name: &str) -> Option<u64> {
        let answer = get(self.admin, "localhost", &format!("/stats?filter=^{name}$")).await;
        answer.lines().find_map(|line| line.strip_prefix(&format!("{name}: "))?.trim().parse().ok())
    }

    /// Waits until all is taken in and nothing was rejected; the names of the listeners.
    async fn settled(&self) -> String {
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(30);
        loop {
            let ready = get(self.admin, "localhost", "/ready").await.contains("LIVE");
            let warming = self.statistic("listener_manager.total_listeners_warming").await;
            let clusters = self.statistic("cluster_manager.warming_clusters").await;
            if ready && warming == Some(0) && clusters == Some(0) {
                break;
            }
            let stats = || get(self.admin, "localhost", "/stats?filter=warming|rejected");
            assert!(std::time::Instant::now() < deadline, "{}", stats().await);
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
        let rejected = get(self.admin, "localhost", "/stats?filter=update_rejected").await;
        let bad: Vec<_> =
            rejected.lines().filter(|line| line.contains("rejected: ") && !line.ends_with(": 0")).collect();
        assert!(bad.is_empty(), "{bad:?}");
        get(self.admin, "localhost", "/listeners").await
    }

    async fn stop(mut self) {
        self.process.kill().await.expect("it was running");
    }
}

fn entry(name: &str, body: &str) -> String {
    format!(
        "---\napiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {{name: {name}, namespace: shop}}\nspec:\n  \
         hosts: ['{name}']\n{body}"
    )
}

/// Services of every protocol and way of finding endpoints.
fn services() -> String {
    let mesh = "  location: MESH_INTERNAL\n  resolution: STATIC\n  addresses: [240.240.1.1]\n  endpoints:\n  - address: 10.0.0.1\n    serviceAccount: x\n    labels: {security.istio.io/tlsMode: istio}\n  - address: 'fd00::1'\n  ports:\n";
    let ports = [("HTTP", 80), ("HTTP2", 81), ("GRPC", 82), ("TCP", 83), ("TLS", 84), ("HTTPS", 85)];
    let port =
        |(protocol, number): (&str, u16)| format!("  - {{number: {number}, name: p{number}, protocol: {protocol}}}\n");
    let ports = ports.map(port).concat();
    let undeclared = "  - {number: 86, name: undeclared}\n";
    [
        entry("all.shop.svc.cluster.local", &format!("{mesh}{ports}{undeclared}")),
        entry("dns.example.com", "  resolution: DNS\n  ports:\n  - {number: 443, name: tls, protocol: TLS}\n"),
        entry(
            "one.example.com",
            "  resolution: DNS_ROUND_ROBIN\n  ports:\n  - {number: 80, name: http, protocol: HTTP}\n  endpoints:\n  - address: a.example.com\n",
        ),
        entry("'*.wild.example.com'", "  resolution: NONE\n  ports:\n  - {number: 80, name: http, protocol: HTTP}\n")
            .replace("''", "'")
            .replace("name: '*.wild.example.com'", "name: wild"),
    ]
    .concat()
}

/// Services that no single address tells: ranges, wildcards, bytes to anywhere.
const SHARED: &str = "apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: ranges, namespace: shop}
spec:
  hosts: [ranges.example.com]
  addresses: [10.1.0.0/16, '2001:db8::/32']
  ports: [{number: 80, name: tcp, protocol: TCP}, {number: 81, name: any}, {number: 443, name: tls, protocol: TLS}]
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: anywhere, namespace: shop}
spec:
  hosts: ['*.example.net']
  ports: [{number: 5432, name: tcp, protocol: TCP}, {number: 81, name: any}]
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: wild, namespace: shop}
spec:
  hosts: ['*.example.org']
  resolution: DYNAMIC_DNS
  ports: [{number: 80, name: http, protocol: HTTP}, {number: 443, name: tls, protocol: TLS}]
";

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Envoy's binary in $ENVOY"]
async fn envoy_takes_what_a_redirected_proxy_is_told() {
    let own = crate::rig::service_entry("reviews", "127.0.0.1", 9080);
    let plane = Plane::start(&[("all.yaml", &services()), ("own.yaml", &own), ("shared.yaml", SHARED)]).await;
    let identity = plane.enrol("shop", "reviews").await;
    let envoy = Envoy::start(&plane, &identity, "REDIRECT").await;
    let listeners = envoy.settled().await;
    let known = ["virtualOutbound", "virtualInbound", "0.0.0.0_80", "0.0.0.0_82", "240.240.1.1_83", "240.240.1.1_86"];
    for name in known.into_iter().chain(["0.0.0.0_81", "0.0.0.0_443", "0.0.0.0_5432"]) {
        assert!(listeners.contains(name), "{name} is not among\n{listeners}");
    }
    envoy.stop().await;
    plane.stop().await;
}

/// One service behind a sidecar that calls itself: out by one listener, in by the other.
fn mirror(protocol: &str, account: &str, outbound: SocketAddr, inbound: SocketAddr, app: SocketAddr) -> String {
    let ports = format!("protocol: {protocol}\n    targetPort: {}", inbound.port());
    let entry = crate::rig::service_entry("reviews", "127.0.0.1", outbound.port())
        .replace("protocol: HTTP", &ports)
        .replace("serviceAccount: reviews", &format!("serviceAccount: {account}"));
    format!(
        "{entry}---
apiVersion: networking.istio.io/v1
kind: Sidecar
metadata: {{name: reviews, namespace: shop}}
spec:
  ingress:
  - port: {{number: {inbound_port}, name: in, protocol: {ingress}}}
    bind: 127.0.0.1
    defaultEndpoint: 127.0.0.1:{app_port}
  egress:
  - port: {{number: {outbound_port}, name: out, protocol: {protocol}}}
    bind: 127.0.0.1
    hosts: ['*/*']
",
        ingress = if protocol == "TCP" { "TCP" } else { "HTTP" },
        inbound_port = inbound.port(),
        outbound_port = outbound.port(),
        app_port = app.port(),
    )
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Envoy's binary in $ENVOY"]
async fn envoy_carries_a_request_with_mutual_tls_from_one_listener_to_the_other() {
    let (outbound, inbound, app) = (free().await, free().await, application().await);
    for protocol in ["HTTP", "HTTP2", "TCP"] {
        let files = mirror(protocol, "reviews", outbound, inbound, app);
        let plane = Plane::start(&[("all.yaml", &files), ("others.yaml", &services())]).await;
        let identity = plane.enrol("shop", "reviews").await;
        let envoy = Envoy::start(&plane, &identity, "NONE").await;
        envoy.settled().await;
        let answer = get(outbound, "reviews.shop", "/a//b/../c").await;
        assert!(answer.starts_with("HTTP/1.1 200"), "{protocol}: {answer}");
        if protocol != "TCP" {
            assert!(answer.contains("GET /a/c "), "{answer}");
            assert!(answer.contains(&format!("URI=spiffe://{DOMAIN}/ns/shop/sa/reviews")), "{answer}");
        }
        let handshakes = format!("listener.127.0.0.1_{}.ssl.handshake", inbound.port());
        assert_eq!(envoy.statistic(&handshakes).await, Some(1), "{protocol}: the request went by mTLS");
        let direct = get(inbound, "reviews.shop", "/").await;
        assert!(direct.starts_with("HTTP/1.1 200"), "in the clear is permitted: {direct}");
        envoy.stop().await;
        until("the control plane sees it leave", || plane.running.state().proxies().is_empty()).await;
        plane.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Envoy's binary in $ENVOY"]
async fn envoy_refuses_an_answer_from_anybody_else() {
    let (outbound, inbound, app) = (free().await, free().await, application().await);
    let plane = Plane::start(&[("all.yaml", &mirror("HTTP", "vault", outbound, inbound, app))]).await;
    let identity = plane.enrol("shop", "reviews").await;
    let envoy = Envoy::start(&plane, &identity, "NONE").await;
    envoy.settled().await;
    let answer = get(outbound, "reviews.shop", "/").await;
    assert!(answer.starts_with("HTTP/1.1 503"), "reviews is not vault: {answer}");
    envoy.stop().await;
    plane.stop().await;
}
