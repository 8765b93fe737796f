//! Connections from a sidecar in west to workloads in east, through both gateways.

mod support;

use federation::export::group_of;
use identity::{ClientAuth, Expected, client_config, server_config, server_name};
use model::Group;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use support::authority::Authority;
use support::{
    End, PORT, REVIEWS, SNI, Site, Workload, closed_port, drain, endpoint, eventually, hello, imported, in_time,
    loopback, name, service, two, with_group, workload,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt, split};
use tokio::net::TcpListener;
use tokio_rustls::{TlsAcceptor, TlsConnector};

#[tokio::test]
async fn bytes_reach_the_workload_and_come_back_as_they_were() {
    let (west, east, root) = two().await;
    let reviews = Workload::start(b'a').await;
    east.offers(service(REVIEWS, "west", vec![reviews.endpoint(&root)]));
    west.offers(imported(REVIEWS, &[(&east.cluster, 1)]));
    let hello = hello(SNI);
    let mut stream = west.dial(&hello).await;
    assert_eq!(name(&mut stream).await, Ok(b'a'));
    let more: Vec<u8> = (0..2_000_000_u32).map(|n| (n % 251) as u8).collect();
    let (mut reader, mut writer) = stream.split();
    let mut back = vec![0; hello.len() + more.len()];
    let both = async { tokio::try_join!(writer.write_all(&more), reader.read_exact(&mut back)) };
    in_time("the echo", both).await.expect("carried");
    assert!(back == [hello, more].concat(), "the bytes differ");
    stream.shutdown().await.expect("open");
    assert_eq!(drain(&mut stream).await, (Vec::new(), End::Fin));
    let streams = "isthmus_tunnel_streams_total{peer=\"east\",service=\"reviews.bookinfo.svc.cluster.local\",\
                   direction=\"egress\"} ";
    assert_eq!(west.metric(streams), 1);
    let active = streams.replace("streams_total", "active_streams");
    eventually("the end in the metrics", || west.metric(&active) == 0).await;
}

#[tokio::test]
async fn mutual_tls_is_between_the_workloads() {
    let (west, east) = (Authority::new("west"), Authority::new("east"));
    let (source, destination) = (Site::start(&west, &[&east]).await, Site::start(&east, &[&west]).await);
    source.joins(&destination).await;
    let (caller, reviews) = (workload(&west, &[&east]), east.member("bookinfo", "reviews"));
    let served = east.identity(&reviews, &[&west]);
    let listener = TcpListener::bind(loopback()).await.expect("a port");
    let address = listener.local_addr().expect("bound");
    let server = tokio::spawn(async move {
        let acceptor = TlsAcceptor::from(server_config(&served, ClientAuth::Required, Expected::Any, &[b"istio"]));
        let mut stream = acceptor.accept(listener.accept().await?.0).await?;
        let (mut reader, mut writer) = split(&mut stream);
        tokio::io::copy(&mut reader, &mut writer).await?;
        let peer = identity::peer_identity(stream.get_ref().1.peer_certificates());
        stream.shutdown().await?;
        Ok::<_, std::io::Error>(peer)
    });
    destination.offers(service(REVIEWS, "*", vec![endpoint(address, &east)]));
    source.offers(imported(REVIEWS, &[(&destination.cluster, 1)]));
    let connector = TlsConnector::from(client_config(&caller, Expected::one(reviews), &[b"istio"]));
    let stream = source.dial(b"").await;
    let connecting = connector.connect(server_name(SNI).expect("a name"), stream);
    let mut stream = in_time("a handshake", connecting).await.expect("verified");
    stream.write_all(b"a request").await.expect("open");
    stream.shutdown().await.expect("open");
    let mut answer = Vec::new();
    in_time("an answer", stream.read_to_end(&mut answer)).await.expect("an end in order");
    assert_eq!(answer, b"a request");
    let seen = in_time("the server", server).await.expect("no panic").expect("served");
    assert_eq!(seen, Some(caller.id()));
}

#[tokio::test]
async fn every_endpoint_gets_its_share() {
    let (west, east, root) = two().await;
    let workloads = [Workload::start(0).await, Workload::start(1).await, Workload::start(2).await];
    east.offers(service(REVIEWS, "*", workloads.iter().map(|one| one.endpoint(&root)).collect()));
    west.offers(imported(REVIEWS, &[(&east.cluster, 3)]));
    let (mut open, mut counts) = (Vec::new(), [0; 3]);
    for _ in 0..12 {
        let mut stream = west.dial(&hello(SNI)).await;
        counts[usize::from(name(&mut stream).await.expect("a workload"))] += 1;
        open.push(stream);
    }
    assert_eq!(counts, [4, 4, 4], "the least used is taken");
}

#[tokio::test]
async fn an_endpoint_that_refuses_is_passed_over() {
    let (west, east, root) = two().await;
    let alive = Workload::start(b'a').await;
    let dead = [closed_port().await, closed_port().await];
    let endpoints = dead.iter().map(|address| endpoint(*address, &root)).chain([alive.endpoint(&root)]);
    east.offers(service(REVIEWS, "*", endpoints.collect()));
    west.offers(imported(REVIEWS, &[(&east.cluster, 3)]));
    for _ in 0..10 {
        assert_eq!(west.ask(&hello(SNI)).await, Ok(b'a'));
    }
    assert_eq!(east.refused("west", "UNREACHABLE", "ingress"), 0);
}

#[tokio::test]
async fn where_no_endpoint_answers_the_client_is_reset() {
    let (west, east, root) = two().await;
    east.offers(service(REVIEWS, "*", vec![endpoint(closed_port().await, &root)]));
    west.offers(imported(REVIEWS, &[(&east.cluster, 1)]));
    assert_eq!(west.ask(&hello(SNI)).await, Err(End::Reset));
    assert!(east.refused("west", "UNREACHABLE", "ingress") > 0);
    assert!(west.refused("east", "UNREACHABLE", "egress") > 0);
}

#[tokio::test]
async fn an_endpoint_that_the_record_does_not_vouch_for_is_never_used() {
    let (west, east, root) = two().await;
    let (plain, nameless) = (Workload::start(b'p').await, Workload::start(b'n').await);
    let mut endpoints = vec![plain.endpoint(&root), nameless.endpoint(&root)];
    endpoints[0].mtls = false;
    endpoints[1].identity = None;
    east.offers(service(REVIEWS, "*", endpoints));
    west.offers(imported(REVIEWS, &[(&east.cluster, 1)]));
    assert_eq!(west.ask(&hello(SNI)).await, Err(End::Reset));
    assert!(east.refused("west", "UNREACHABLE", "ingress") > 0);
}

#[tokio::test]
async fn a_group_that_is_asked_for_is_what_answers() {
    let (west, east, root) = two().await;
    let workloads = [Workload::start(b'1').await, Workload::start(b'2').await];
    let mut endpoints: Vec<_> = workloads.iter().map(|one| one.endpoint(&root)).collect();
    for (endpoint, version) in endpoints.iter_mut().zip(["v1", "v2"]) {
        endpoint.labels = Arc::new(BTreeMap::from([("version".to_owned(), version.to_owned())]));
    }
    let second = group_of(&endpoints[1], &["version".to_owned()]);
    east.offers(service(REVIEWS, "*", endpoints));
    west.offers(with_group(imported(REVIEWS, &[(&east.cluster, 1)]), &second));
    let sni = format!("outbound_.{PORT}_.{second}_.{REVIEWS}");
    for _ in 0..6 {
        assert_eq!(west.ask(&hello(&sni)).await, Ok(b'2'));
    }
    let unknown = format!("outbound_.{PORT}_.v3-00000000_.{REVIEWS}");
    assert_eq!(west.ask(&hello(&unknown)).await, Err(End::Reset));
}

#[tokio::test]
async fn groups_that_are_asked_for_together_share_connections() {
    let (west, east, root) = two().await;
    let workloads = [Workload::start(b'1').await, Workload::start(b'2').await, Workload::start(b'3').await];
    let mut endpoints: Vec<_> = workloads.iter().map(|one| one.endpoint(&root)).collect();
    for (endpoint, version) in endpoints.iter_mut().zip(["v1", "v2", "v3"]) {
        endpoint.labels = Arc::new(BTreeMap::from([("version".to_owned(), version.to_owned())]));
    }
    let groups: Vec<_> = endpoints.iter().map(|endpoint| group_of(endpoint, &["version".to_owned()])).collect();
    east.offers(service(REVIEWS, "*", endpoints));
    let mut offered = with_group(imported(REVIEWS, &[(&east.cluster, 1)]), &groups[0]);
    for import in offered.imports.values_mut() {
        let first = import.export.groups[0].clone();
        import.export.groups.extend(groups[1..].iter().map(|id| Group { id: id.clone(), ..first.clone() }));
    }
    west.offers(offered);
    let sni = format!("outbound_.{PORT}_.{}.{}_.{REVIEWS}", groups[0], groups[2]);
    let mut answered = BTreeSet::new();
    // By chance all come to one group once in 2^39 times.
    for _ in 0..40 {
        answered.insert(west.ask(&hello(&sni)).await.expect("answered"));
    }
    assert_eq!(answered, BTreeSet::from([b'1', b'3']));
}
