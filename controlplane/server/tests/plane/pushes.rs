//! What proxies are told, when, and how much of it.

use crate::rig::{Plane, Proxy, node, service_entry, until, upstream};
use api::envoy::envoy::service::discovery::v3::DeltaDiscoveryRequest;
use api::envoy::envoy::service::discovery::v3::aggregated_discovery_service_client::AggregatedDiscoveryServiceClient;
use std::time::{Duration, Instant};
use tonic::Code;
use xds::{Interception, Mode, Node, type_url};

const REVIEWS: &str = "reviews.yaml";

#[tokio::test(flavor = "multi_thread")]
async fn an_enrolled_proxy_is_told_everything_in_both_variants() {
    let plane = Plane::start(&[(REVIEWS, &service_entry("reviews", "10.0.0.1", 9080))]).await;
    let identity = plane.enrol("shop", "reviews").await;
    for mode in [Mode::Delta, Mode::StateOfTheWorld] {
        let proxy = plane.proxy(&identity, node("shop", "reviews", Interception::Redirect), mode, &["9080"]);
        let name = upstream("reviews", 9080);
        until("all types", || {
            let told = [
                (type_url::CLUSTER, name.as_str()),
                (type_url::CLUSTER, "PassthroughCluster"),
                (type_url::ENDPOINT, &name),
                (type_url::LISTENER, "virtualOutbound"),
                (type_url::LISTENER, "0.0.0.0_9080"),
                (type_url::ROUTE, "9080"),
                (type_url::SECRET, "ROOTCA"),
                (type_url::NAME_TABLE, "nametable"),
            ];
            told.iter().all(|(of, name)| proxy.holds(of, name))
        })
        .await;
        assert_eq!(proxy.endpoints(&name), Some(1), "{mode:?}");
        let [summary] = &plane.running.state().proxies()[..] else { panic!("one proxy") };
        assert!(summary.is_current && summary.resources["cds"] == 4, "{summary}");
        drop(proxy);
        until("it is gone", || plane.running.state().proxies().is_empty()).await;
    }
    assert!(plane.metrics().contains("pilot_services 1"), "{}", plane.metrics());
    plane.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_edit_arrives_as_the_one_resource_that_changed() {
    let ratings = service_entry("ratings", "10.0.0.9", 9080);
    let plane =
        Plane::start(&[(REVIEWS, &service_entry("reviews", "10.0.0.1", 9080)), ("ratings.yaml", &ratings)]).await;
    let identity = plane.enrol("shop", "reviews").await;
    let proxy = plane.proxy(&identity, node("shop", "reviews", Interception::Redirect), Mode::Delta, &["9080"]);
    let name = upstream("reviews", 9080);
    until("the first world", || proxy.endpoints(&name).is_some() && proxy.holds(type_url::NAME_TABLE, "nametable"))
        .await;
    proxy.told().calls.clear();
    let begun = Instant::now();
    plane.write(REVIEWS, &service_entry("reviews", "10.0.0.2", 9080));
    until("the edit", || !proxy.told().calls.is_empty()).await;
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    // Nothing else follows: the next thing that is told belongs to the next edit.
    plane.write("ratings.yaml", &service_entry("ratings", "10.0.0.8", 9080));
    until("the next edit", || proxy.told().calls.len() > 1).await;
    let told = proxy.told().calls.clone();
    let one = |name: String| (type_url::ENDPOINT.to_owned(), vec![name], vec![]);
    assert_eq!(told, [one(name), one(upstream("ratings", 9080))]);
    until("acknowledged", || plane.metrics().contains("pilot_proxy_convergence_time_count 2")).await;
    assert!(plane.metrics().contains("pilot_xds_pushes{type=\"eds\"} 2"), "{}", plane.metrics());
    plane.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn many_proxies_are_told_one_resource_and_hold_the_others_once() {
    const PROXIES: u8 = 20;
    let services: Vec<(String, String)> =
        (0..50).map(|n| (format!("s{n}.yaml"), service_entry(&format!("s{n}"), "10.0.0.1", 9080))).collect();
    let files: Vec<(&str, &str)> = services.iter().map(|(name, text)| (name.as_str(), text.as_str())).collect();
    let plane = Plane::start(&files).await;
    let identity = plane.enrol("shop", "reviews").await;
    let at = |n: u8| {
        let node = node("shop", "reviews", Interception::Redirect);
        let id = node.id.replace("reviews-1", &format!("reviews-{n}"));
        Node { id, addresses: vec![[127, 0, 1, n].into()], ..node }
    };
    let connect = |n: u8| plane.proxy(&identity, at(n), Mode::Delta, &["9080"]);
    let name = upstream("s7", 9080);
    let all = [
        (type_url::ENDPOINT, name.as_str()),
        (type_url::LISTENER, "0.0.0.0_9080"),
        (type_url::ROUTE, "9080"),
        (type_url::SECRET, "ROOTCA"),
        (type_url::NAME_TABLE, "nametable"),
    ];
    let has_all = |proxy: &Proxy| all.iter().all(|(of, name)| proxy.holds(of, name));
    let first = connect(0);
    until("the first world", || has_all(&first)).await;
    let proxies: Vec<Proxy> = [first].into_iter().chain((1..PROXIES).map(connect)).collect();
    until("it has come to all", || proxies.iter().all(has_all)).await;
    for proxy in &proxies {
        proxy.told().calls.clear();
    }
    plane.write("s7.yaml", &service_entry("s7", "10.0.0.2", 9080));
    until("the edit", || proxies.iter().all(|proxy| !proxy.told().calls.is_empty())).await;
    // Nothing else follows: the next thing that is told belongs to the next edit.
    plane.write("s8.yaml", &service_entry("s8", "10.0.0.2", 9080));
    until("the next edit", || proxies.iter().all(|proxy| proxy.told().calls.len() > 1)).await;
    let one = |name: String| (type_url::ENDPOINT.to_owned(), vec![name], vec![]);
    for proxy in &proxies {
        assert_eq!(proxy.told().calls, [one(name.clone()), one(upstream("s8", 9080))]);
    }
    let pushes = format!("pilot_xds_pushes{{type=\"eds\"}} {}", 2 * PROXIES);
    assert!(plane.metrics().contains(&pushes), "{}", plane.metrics());
    let told = |n: u8| plane.running.state().snapshot(&at(n).id).expect("it is connected");
    let changed = [name, upstream("s8", 9080)];
    for (of, resource) in told(0).iter().filter(|(_, resource)| !changed.contains(&resource.name.to_string())) {
        for n in 1..PROXIES {
            let same = told(n).get(of)[&resource.name].body.as_ptr() == resource.body.as_ptr();
            assert!(same, "{of} {} of proxy {n} is held apart", resource.name);
        }
    }
    plane.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_withdrawn_service_goes_and_a_broken_configuration_changes_nothing() {
    let ratings = service_entry("ratings", "10.0.0.9", 9080);
    let plane =
        Plane::start(&[(REVIEWS, &service_entry("reviews", "10.0.0.1", 9080)), ("ratings.yaml", &ratings)]).await;
    let identity = plane.enrol("shop", "reviews").await;
    let proxy = plane.proxy(&identity, node("shop", "reviews", Interception::None), Mode::Delta, &[]);
    let (reviews, ratings) = (upstream("reviews", 9080), upstream("ratings", 9080));
    until("the first world", || proxy.endpoints(&ratings).is_some()).await;
    let sidecar = "apiVersion: networking.istio.io/v1
kind: Sidecar
metadata: {name: s, namespace: shop}
spec:
  egress:
  - hosts: [nonsense]
";
    plane.write("sidecar.yaml", sidecar);
    until("the error is told", || !plane.running.state().errors().is_empty()).await;
    assert!(plane.running.state().intent().sidecars.is_empty());
    plane.write("sidecar.yaml", &sidecar.replace("nonsense", "'*/reviews.shop.svc.cluster.local'"));
    until("the Sidecar hides ratings", || !proxy.holds(type_url::CLUSTER, &ratings)).await;
    assert!(plane.running.state().errors().is_empty());
    std::fs::remove_file(plane.directory.path().join(REVIEWS)).expect("removed");
    until("reviews is withdrawn", || !proxy.holds(type_url::CLUSTER, &reviews)).await;
    plane.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rejection_is_counted_and_told() {
    let plane = Plane::start(&[(REVIEWS, &service_entry("reviews", "10.0.0.1", 9080))]).await;
    let identity = plane.enrol("shop", "reviews").await;
    let proxy = plane.proxy(&identity, node("shop", "reviews", Interception::Redirect), Mode::Delta, &[]);
    proxy.told().reject = Some(type_url::LISTENER);
    let rejected = || plane.running.state().proxies().iter().any(|proxy| proxy.rejected.contains_key("lds"));
    until("the rejection", rejected).await;
    assert!(plane.metrics().contains("pilot_total_xds_rejects 1"), "{}", plane.metrics());
    plane.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proxy_is_who_its_certificate_says_or_nobody() {
    let plane = Plane::start(&[]).await;
    let identity = plane.enrol("shop", "reviews").await;
    until("ready", || plane.running.state().is_ready()).await;
    for (namespace, account) in [("bank", "reviews"), ("shop", "vault")] {
        let node = node(namespace, account, Interception::Redirect).to_proto();
        let request = DeltaDiscoveryRequest {
            node: Some(node),
            type_url: type_url::CLUSTER.to_owned(),
            ..DeltaDiscoveryRequest::default()
        };
        let mut client = AggregatedDiscoveryServiceClient::new(plane.channel(&identity).await);
        let requests = tokio_stream::StreamExt::chain(tokio_stream::once(request), tokio_stream::pending());
        let refused = match client.delta_aggregated_resources(requests).await {
            Ok(answers) => answers.into_inner().message().await.expect_err("refused"),
            Err(status) => status,
        };
        assert_eq!(refused.code(), Code::PermissionDenied, "{refused}");
    }
    assert!(plane.running.state().proxies().is_empty());
    plane.stop().await;
}
