//! What the server refuses, and what it bears: hand-made streams over loopback.

use crate::mesh::{Mesh, identity, node, snapshot, until};
use api::envoy::envoy::config::core::v3::Node as ProtoNode;
use api::envoy::envoy::service::discovery::v3::aggregated_discovery_service_client::AggregatedDiscoveryServiceClient;
use api::envoy::envoy::service::discovery::v3::{DeltaDiscoveryRequest, DeltaDiscoveryResponse};
use isthmus_xds::type_url::{CLUSTER, ENDPOINT};
use isthmus_xds::{Mode, Resource, ServerSettings, Snapshot};
use std::time::{Duration, Instant};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Endpoint;
use tonic::{Code, Status, Streaming};

fn ask(node: Option<ProtoNode>, type_url: &str) -> DeltaDiscoveryRequest {
    DeltaDiscoveryRequest { node, type_url: type_url.into(), ..DeltaDiscoveryRequest::default() }
}

type Stream = (mpsc::Sender<DeltaDiscoveryRequest>, Streaming<DeltaDiscoveryResponse>);

async fn stream(mesh: &Mesh, first: DeltaDiscoveryRequest) -> Result<Stream, Status> {
    let (requests, receiver) = mpsc::channel(1024);
    requests.try_send(first).expect("there is room");
    let mut client = AggregatedDiscoveryServiceClient::new(mesh.channel().await);
    let responses = client.delta_aggregated_resources(ReceiverStream::new(receiver)).await?.into_inner();
    Ok((requests, responses))
}

/// How a stream ends that begins with `requests`.
async fn end_of(mesh: &Mesh, requests: Vec<DeltaDiscoveryRequest>) -> Status {
    let mut requests = requests.into_iter();
    let (sender, mut responses) = match stream(mesh, requests.next().expect("at least one")).await {
        Ok(stream) => stream,
        Err(status) => return status,
    };
    for request in requests {
        // The server may have ended the stream already.
        let _ = sender.send(request).await;
    }
    let ended = async {
        loop {
            match responses.message().await {
                Ok(Some(_)) => {}
                Ok(None) => panic!("the stream ended without a reason"),
                Err(status) => return status,
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(10), ended).await.expect("the server ends the stream")
}

#[tokio::test]
async fn who_is_nobody_is_refused() {
    let mesh = Mesh::start_for(Snapshot::default(), ServerSettings::default(), None).await;
    let status = end_of(&mesh, vec![ask(Some(node().to_proto()), CLUSTER)]).await;
    assert_eq!(status.code(), Code::Unauthenticated);
}

#[tokio::test]
async fn bad_streams_end_with_their_reason() {
    let settings = ServerSettings {
        first_request_timeout_ms: 200,
        max_requests_per_second: 100,
        max_subscriptions: 10,
        ..ServerSettings::default()
    };
    let mesh = Mesh::start(Snapshot::default(), settings).await;
    let good = || ask(Some(node().to_proto()), CLUSTER);
    let lie = |change: fn(&mut isthmus_xds::Node)| {
        let mut liar = node();
        change(&mut liar);
        ask(Some(liar.to_proto()), CLUSTER)
    };
    let other_namespace = lie(|node| {
        node.namespace = "other".parse().expect("valid");
        node.id = "sidecar~127.0.0.1~reviews-1.other~other.svc.cluster.local".into();
    });
    let long_id = lie(|node| node.id = "x".repeat(1 << 20));
    let mut many = ask(None, ENDPOINT);
    many.resource_names_subscribe = (0..11).map(|n| n.to_string()).collect();
    let mut faked = ask(None, CLUSTER);
    faked.type_url = ENDPOINT.into();
    faked.initial_resource_versions = (0..11).map(|n| (n.to_string(), "1".into())).collect();
    let mut huge = ask(None, ENDPOINT);
    huge.resource_names_subscribe = vec!["x".repeat(5 << 20)];
    let second_node = lie(|node| node.id = "sidecar~127.0.0.1~reviews-2.bookinfo~bookinfo.svc.cluster.local".into());
    let cases = [
        ("no node", vec![ask(None, CLUSTER)], Code::InvalidArgument),
        ("an empty node", vec![ask(Some(ProtoNode::default()), CLUSTER)], Code::InvalidArgument),
        ("an id of 1 MiB", vec![long_id], Code::InvalidArgument),
        ("another's namespace", vec![other_namespace], Code::PermissionDenied),
        ("another's account", vec![lie(|node| node.service_account = "ratings".into())], Code::PermissionDenied),
        ("no account", vec![lie(|node| node.service_account = String::new())], Code::PermissionDenied),
        ("a node that changes", vec![good(), second_node], Code::InvalidArgument),
        ("a debug type", vec![good(), ask(None, "istio.io/debug/syncz")], Code::PermissionDenied),
        ("too many names", vec![good(), many], Code::ResourceExhausted),
        ("too many versions", vec![good(), faked], Code::ResourceExhausted),
        ("a message of 5 MiB", vec![good(), huge], Code::OutOfRange),
        ("a flood", std::iter::repeat_with(good).take(200).collect(), Code::ResourceExhausted),
    ];
    for (what, requests, code) in cases {
        let status = end_of(&mesh, requests).await;
        assert_eq!(status.code(), code, "{what}: {status}");
    }
}

#[tokio::test]
async fn a_silent_client_is_not_waited_for() {
    let settings = ServerSettings { first_request_timeout_ms: 100, ..ServerSettings::default() };
    let mesh = Mesh::start(Snapshot::default(), settings).await;
    let (_requests, receiver) = mpsc::channel(1);
    let mut client = AggregatedDiscoveryServiceClient::new(mesh.channel().await);
    let opened = client.delta_aggregated_resources(ReceiverStream::<DeltaDiscoveryRequest>::new(receiver)).await;
    let status = opened.expect("opened").into_inner().message().await.expect_err("ended");
    assert_eq!(status.code(), Code::DeadlineExceeded);
}

#[tokio::test]
async fn unknown_types_and_nonces_do_no_harm() {
    let mesh = Mesh::start(snapshot(&[(CLUSTER, "a", "1")]), ServerSettings::default()).await;
    let (requests, mut responses) =
        stream(&mesh, ask(Some(node().to_proto()), "type.googleapis.com/../x")).await.expect("opened");
    let mut stale = ask(None, CLUSTER);
    stale.response_nonce = "12345".into();
    for request in [ask(None, ""), ask(None, "istio.v1.HealthInformation"), stale] {
        requests.send(request).await.expect("the stream stays");
    }
    let response = responses.message().await.expect("the stream stays").expect("an answer");
    assert_eq!((response.type_url.as_str(), response.resources.len()), (CLUSTER, 1));
    assert_eq!(mesh.acks() + mesh.nacks(), 0);
}

#[tokio::test]
async fn the_fourth_stream_of_a_proxy_ends_the_first() {
    let mesh = Mesh::start(snapshot(&[(CLUSTER, "a", "1")]), ServerSettings::default()).await;
    let mut streams = Vec::new();
    for _ in 0..4 {
        let (requests, mut responses) = stream(&mesh, ask(Some(node().to_proto()), CLUSTER)).await.expect("opened");
        responses.message().await.expect("served").expect("an answer");
        streams.push((requests, responses));
    }
    let status = streams[0].1.message().await.expect_err("ended");
    assert_eq!(status.code(), Code::Unavailable);
    mesh.publish(snapshot(&[(CLUSTER, "a", "2")]));
    for (_, responses) in &mut streams[1..] {
        responses.message().await.expect("still served").expect("an answer");
    }
    drop(streams);
    until("all ends are told", || mesh.seen.lock().expect("not poisoned").closed == 4).await;
}

#[tokio::test]
async fn a_client_that_does_not_read_delays_nobody_and_is_cut() {
    assert_eq!(identity().namespace, node().namespace);
    let settings = ServerSettings { write_timeout_ms: 400, queue: 1, ..ServerSettings::default() };
    let big = |version: u8| {
        let mut big = Snapshot::default();
        for n in 0..8 {
            let mut body = vec![10, 2, b'c', b'0' + n, 0xfa, 0x3e, 0xc0, 0x84, 0x3d]; // the name, then field 1007
            body.extend(vec![version; 1_000_000]);
            big.insert(CLUSTER, Resource::from_body(format!("c{n}"), body.into()));
        }
        big
    };
    let mesh = Mesh::start(big(0), settings).await;
    let endpoint = Endpoint::from_shared(format!("http://{}", mesh.address)).expect("a valid URI");
    let channel = endpoint.initial_stream_window_size(65_535).connect().await.expect("connected");
    let (requests, receiver) = mpsc::channel(4);
    requests.try_send(ask(Some(node().to_proto()), CLUSTER)).expect("there is room");
    let mut slow = AggregatedDiscoveryServiceClient::new(channel).max_decoding_message_size(64 << 20);
    let stuck = slow.delta_aggregated_resources(ReceiverStream::new(receiver)).await.expect("opened");

    let quick = mesh.client(Mode::Delta);
    until("the quick one is served", || quick.holds(&big(0))).await;
    for version in 1..4 {
        let begun = Instant::now();
        mesh.publish(big(version));
        until("the quick one is served", || quick.holds(&big(version))).await;
        assert!(begun.elapsed() < Duration::from_secs(5));
    }
    until("the slow one is cut", || mesh.seen.lock().expect("not poisoned").closed == 1).await;
    let mut responses = stuck.into_inner();
    let status = loop {
        match responses.message().await {
            Ok(message) => assert!(message.is_some(), "the reason is told"),
            Err(status) => break status,
        }
    };
    assert_eq!(status.code(), Code::Unavailable, "{status}");
    quick.stop().await;
}
