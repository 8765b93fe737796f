//! What the own gateways report, and who may.

use crate::rig::{Plane, until};
use api::isthmus::gateway_reports_client::GatewayReportsClient;
use api::isthmus::{GatewayReport, PeerReport, peer_report::State};
use isthmus_controlplane::{ReportSettings, Settings};
use model::Path;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;
use tonic::{Code, Status};

fn report(gateway: &str, address: &str, state: State) -> GatewayReport {
    let peer = PeerReport { cluster: "west".into(), state: state.into(), ..PeerReport::default() };
    GatewayReport { gateway: gateway.into(), addresses: vec![address.into()], peers: vec![peer] }
}

/// Opens a stream with a first report; where further ones go.
async fn open(channel: Channel, first: GatewayReport) -> (mpsc::Sender<GatewayReport>, Result<(), Status>) {
    let (reports, queue) = mpsc::channel(4);
    reports.send(first).await.expect("there is room");
    let mut client = GatewayReportsClient::new(channel);
    let told = match client.report(ReceiverStream::new(queue)).await {
        Ok(acks) => acks.into_inner().message().await.map(|_| ()),
        Err(status) => Err(status),
    };
    (reports, told)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_reports_comes_back_and_goes() {
    let reports = ReportSettings { grace_ms: 200, ..ReportSettings::default() };
    let plane = Plane::start_with(&[], &Settings { reports, ..Settings::default() }).await;
    let gateway = plane.enrol("isthmus-system", "gateway-east").await;
    let (first, told) = open(plane.channel(&gateway).await, report("g1", "10.0.0.1:15443", State::Connected)).await;
    told.expect("acknowledged");
    let state = plane.running.state();
    let path = || state.catalog().gateways.get("g1").and_then(|g| g.paths.values().next().copied());
    until("the gateway is known", || path() == Some(Path::Connected)).await;
    first.send(report("g1", "10.0.0.1:15443", State::Unreachable)).await.expect("open");
    until("its path is lost", || path() == Some(Path::Unreachable)).await;
    // Another stream takes over before the first has ended: nothing is lost.
    let (second, told) = open(plane.channel(&gateway).await, report("g1", "10.0.0.1:15443", State::Connected)).await;
    told.expect("acknowledged");
    drop(first);
    let until_over = std::time::Instant::now() + std::time::Duration::from_millis(600);
    until("the grace is over", || {
        assert!(state.catalog().gateways.contains_key("g1"));
        std::time::Instant::now() > until_over
    })
    .await;
    drop(second);
    until("it is gone", || state.catalog().gateways.is_empty()).await;
    plane.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn only_own_gateways_report_and_only_what_makes_sense() {
    let plane = Plane::start(&[]).await;
    let good = report("g1", "10.0.0.1:15443", State::Connected);
    for (namespace, account) in [("isthmus-system", "gateway-west"), ("shop", "gateway-east")] {
        let other = plane.enrol(namespace, account).await;
        let (_open, told) = open(plane.channel(&other).await, good.clone()).await;
        assert_eq!(told.expect_err("refused").code(), Code::PermissionDenied, "{namespace}/{account}");
    }
    let gateway = plane.enrol("isthmus-system", "gateway-east").await;
    let mut nameless = good.clone();
    nameless.gateway.clear();
    let mut odd = good.clone();
    odd.peers[0].cluster = "West!".into();
    let mut many = good.clone();
    many.addresses = vec!["10.0.0.1:15443".into(); 17];
    for (bad, code) in [
        (report("g1", "0.0.0.0:15443", State::Connected), Code::InvalidArgument),
        (report("g1", "gateway.example:15443", State::Connected), Code::InvalidArgument),
        (nameless, Code::InvalidArgument),
        (odd, Code::InvalidArgument),
        (many, Code::ResourceExhausted),
    ] {
        let (_open, told) = open(plane.channel(&gateway).await, bad.clone()).await;
        assert_eq!(told.expect_err("refused").code(), code, "{bad:?}");
    }
    assert!(plane.running.state().catalog().gateways.is_empty());
    plane.stop().await;
}
