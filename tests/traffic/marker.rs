//! How it is known that a caller's proxy follows a case's resources: something that came with them can be asked for.

use crate::call::Client;
use crate::fixture::until;
use crate::service::{EDGE, NAMESPACE};
use bytes::Bytes;
use http::{Request, header};
use http_body_util::Full;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

const PORT: u16 = 9080;
const DEADLINE: Duration = Duration::from_secs(20);
/// The instance that stands behind the marker.
pub const INSTANCE: &str = "marker-v1";
/// Where the gateway answers for the marker.
const AT_GATEWAY: u16 = 19080;

/// The resources that stay: the host that the marker is for, with an application at `address`, and where the gateway
/// at `gateway` answers for it.
pub fn base(address: IpAddr, gateway: IpAddr) -> String {
    format!(
        "{}---\napiVersion: networking.istio.io/v1\nkind: Gateway\nmetadata: {{name: marker, namespace: {EDGE}}}\n\
         spec:\n  selector: {{istio: ingressgateway}}\n  servers:\n  \
         - {{port: {{number: {AT_GATEWAY}, name: marker, protocol: HTTP}}, bind: {gateway}, hosts: ['*']}}\n",
        service("marker", &host("marker"), address)
    )
}

/// The resources that come with case `number`.
pub fn resources(number: usize) -> String {
    format!(
        "---\napiVersion: networking.istio.io/v1\nkind: VirtualService\n\
         metadata: {{name: marker, namespace: {NAMESPACE}}}\nspec:\n  hosts: [{}]\n  \
         gateways: [mesh, {EDGE}/marker]\n  http:\n  \
         - directResponse: {{status: 200, body: {{string: '{number}'}}}}\n",
        host("marker")
    )
}

/// Waits until the proxy at `mesh` follows the resources of case `number`.
///
/// # Errors
/// If it does not in time.
pub async fn settled(mesh: IpAddr, number: usize) -> anyhow::Result<()> {
    settled_at(SocketAddr::new(mesh, PORT), number).await
}

/// As [`settled`], for the gateway at `gateway`.
///
/// # Errors
/// If it does not in time.
pub async fn gateway_settled(gateway: IpAddr, number: usize) -> anyhow::Result<()> {
    settled_at(SocketAddr::new(gateway, AT_GATEWAY), number).await
}

async fn settled_at(at: SocketAddr, number: usize) -> anyhow::Result<()> {
    let mut client = Client::new(at, false);
    until("the proxy follows the case's resources", DEADLINE, async || {
        let reply = client.send(request()).await?;
        let is_there = reply.status == 200 && reply.body == number.to_string();
        if is_there { Ok(()) } else { Err(format!("{} {}", reply.status, reply.body)) }
    })
    .await
}

/// What asks for the marker: the answer's body is the number of the configuration that is followed.
pub fn request() -> Request<Full<Bytes>> {
    let request = Request::get("/").header(header::HOST, host("marker")).body(Full::new(Bytes::new()));
    request.expect("a request")
}

fn host(name: &str) -> String {
    format!("{name}.{NAMESPACE}.svc.cluster.local")
}

fn service(name: &str, host: &str, address: IpAddr) -> String {
    format!(
        "---\napiVersion: networking.istio.io/v1\nkind: ServiceEntry\n\
         metadata: {{name: {name}, namespace: {NAMESPACE}}}\nspec:\n  hosts: [{host}]\n  location: MESH_INTERNAL\n  \
         resolution: STATIC\n  ports: [{{number: {PORT}, name: http, protocol: HTTP}}]\n  \
         endpoints: [{{address: {address}}}]\n"
    )
}
