//! What is counted: Istio's metrics, from both sides.

use crate::app::{App, exchange, get};
use crate::mesh::{HOST, Mesh, eventually, spiffe};
use model::Protocol;

#[tokio::test]
async fn both_sides_count_a_request_with_its_two_ends() {
    let app = App::saying("12345").await;
    let pair = Mesh::new().pair(Protocol::Http, app.address).await;
    assert_eq!(get(pair.entry, HOST).await.0, 200);
    let (caller, server) = (spiffe("caller"), spiffe("server"));
    let source = [
        ("reporter", "source"),
        ("source_workload", "caller-1"),
        ("source_workload_namespace", "shop"),
        ("source_app", "caller"),
        ("source_canonical_service", "caller"),
        ("source_principal", &caller),
        ("source_cluster", "east"),
        ("destination_workload", "echo-1"),
        ("destination_app", "echo"),
        ("destination_version", "v1"),
        ("destination_principal", &server),
        ("destination_service", HOST),
        ("destination_service_name", "echo"),
        ("destination_service_namespace", "shop"),
        ("destination_cluster", "east"),
        ("request_protocol", "http"),
        ("response_code", "200"),
        ("response_flags", "-"),
    ];
    let destination = [
        ("reporter", "destination"),
        ("source_principal", &*caller),
        ("source_workload_namespace", "shop"),
        ("destination_workload", "server-1"),
        ("destination_principal", &server),
        ("destination_app", "server"),
        ("connection_security_policy", "mutual_tls"),
        ("request_protocol", "http"),
        ("response_code", "200"),
        ("response_flags", "-"),
    ];
    for (running, labels) in [(&pair.client, &source[..]), (&pair.server, &destination[..])] {
        let value = |name: &str| running.metric(name, labels);
        eventually("counted", async || value("istio_requests_total") == 1).await;
        assert_eq!(running.metric("istio_requests_total", &[]), 1);
        assert_eq!(value("istio_request_duration_milliseconds_count"), 1);
        assert_eq!(value("istio_response_bytes_sum"), 5);
        assert_eq!(value("istio_request_bytes_sum"), 0);
    }
}

#[tokio::test]
async fn a_caller_in_the_clear_is_unknown() {
    let app = App::saying("hi").await;
    let pair = Mesh::new().pair(Protocol::Http, app.address).await;
    assert_eq!(get(pair.inbound, HOST).await.0, 200);
    let labels = [("source_principal", "unknown"), ("connection_security_policy", "none"), ("response_code", "200")];
    eventually("counted", async || pair.server.metric("istio_requests_total", &labels) == 1).await;
}

#[tokio::test]
async fn what_goes_nowhere_is_counted_too() {
    let app = App::saying("hi").await;
    let pair = Mesh::new().pair(Protocol::Http, app.address).await;
    assert_eq!(get(pair.entry, "nobody.example").await.0, 502);
    let labels = [("reporter", "source"), ("response_code", "502"), ("response_flags", "-")];
    assert_eq!(pair.client.metric("istio_requests_total", &labels), 1);
}

#[tokio::test]
async fn bodies_are_counted_however_they_come() {
    let app = App::echoing().await;
    let pair = Mesh::new().pair(Protocol::Http, app.address).await;
    let head = format!("POST / HTTP/1.1\r\nHost: {HOST}\r\nConnection: close\r\n");
    exchange(pair.entry, &format!("{head}Content-Length: 5\r\n\r\nhello")).await;
    exchange(pair.entry, &format!("{head}Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n4\r\ndefg\r\n0\r\n\r\n")).await;
    for running in [&pair.client, &pair.server] {
        eventually("counted", async || running.metric("istio_requests_total", &[]) == 2).await;
        assert_eq!(running.metric("istio_request_bytes_sum", &[]), 12);
    }
}
