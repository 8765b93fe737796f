//! Files as operators, editors and Kubernetes leave them: what is good is taken in, what is bad changes nothing.

mod support;

use isthmus_registry::GatewayEvent;
use model::{Path, PeerHealth};
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::symlink;
use support::{entry, key, peer, start};

#[tokio::test(flavor = "multi_thread")]
async fn the_first_catalog_has_the_files_services() {
    let directory = tempfile::tempdir().expect("a directory");
    fs::write(directory.path().join("a.yaml"), entry("web", 80)).expect("written");
    let running = start(directory, |_| {}, None);
    let catalog = running.catalog();
    let service = &catalog.services[&key("shop", "web.shop")];
    let addresses: Vec<String> = service.addresses.iter().map(ToString::to_string).collect();
    assert!(addresses[0].starts_with("240.240.") && addresses[1].starts_with("2001:2:"), "{addresses:?}");
    assert!(catalog.bundles.contains_key(&catalog.cluster.trust_domain));
    assert!(running.metrics().contains("isthmus_registry_services 1"), "{}", running.metrics());
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_file_is_reported_by_line_and_column_and_the_last_good_one_stays() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("a.yaml");
    fs::write(&path, entry("web", 80)).expect("written");
    let running = start(directory, |_| {}, None);
    let good = running.catalog();
    for (text, place, part) in [
        (entry("web", 80).replace("hosts: [web.shop]", "hosts: [web.shop"), "a.yaml:6:", "YAML"),
        (entry("web", 70_000), "a.yaml:6:20: spec.ports[0].number: 70000", "1 to 65535"),
        (entry("web", 80).replace("[web.shop]", "['we b']"), "a.yaml:5:11: spec.hosts[0]: \"we b\"", "labels"),
        (entry("web", 81) + "---\n" + &entry("b", 0), "a.yaml:16:20: spec.ports[0].number: 0", "1 to 65535"),
    ] {
        fs::write(&path, &text).expect("written");
        let status = running
            .until_status(place, |status| status.file_errors.iter().any(|error| error.to_string().contains(place)))
            .await;
        let error = status.file_errors[0].to_string();
        assert!(error.contains(part), "{error}");
        assert_eq!(running.catalog().services, good.services);
        assert!(running.metrics().contains("isthmus_registry_file_errors 1"), "{}", running.metrics());
    }
    fs::write(&path, entry("web", 81)).expect("written");
    running.until("the repaired file", |c| c.services[&key("shop", "web.shop")].ports[0].number == 81).await;
    running.until_status("no errors", |status| status.file_errors.is_empty()).await;
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_configmap_is_swapped_as_a_whole() {
    let directory = tempfile::tempdir().expect("a directory");
    let root = directory.path().to_owned();
    let version = |n: &str, files: &[(&str, String)]| {
        let data = root.join(format!("..{n}"));
        fs::create_dir(&data).expect("made");
        for (name, text) in files {
            fs::write(data.join(name), text).expect("written");
        }
        // What the kubelet does: a new link beside the old one, renamed over it.
        symlink(format!("..{n}"), root.join("..data_tmp")).expect("linked");
        fs::rename(root.join("..data_tmp"), root.join("..data")).expect("renamed");
    };
    version("2024_1", &[("a.yaml", entry("web", 80)), ("b.yaml", entry("cart", 80))]);
    for name in ["a.yaml", "b.yaml"] {
        symlink(format!("..data/{name}"), root.join(name)).expect("linked");
    }
    let running = start(directory, |_| {}, None);
    assert_eq!(running.names(), ["cart", "web"]);
    version("2024_2", &[("a.yaml", entry("web", 81)), ("b.yaml", entry("stock", 80))]);
    running.until("the second version", |c| c.services.contains_key(&key("shop", "stock.shop"))).await;
    assert_eq!(running.names(), ["stock", "web"]);
    assert_eq!(running.catalog().services[&key("shop", "web.shop")].ports[0].number, 81);
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn files_come_change_and_go() {
    let directory = tempfile::tempdir().expect("a directory");
    let root = directory.path().to_owned();
    let running = start(directory, |_| {}, None);
    fs::write(root.join("a.yaml"), entry("web", 80)).expect("written");
    running.until("a new file", |c| c.services.len() == 1).await;
    fs::write(root.join("a.yaml.new"), entry("web", 90)).expect("written");
    fs::rename(root.join("a.yaml.new"), root.join("a.yaml")).expect("renamed");
    let renamed = |c: &model::Catalog| c.services.values().any(|service| service.ports[0].number == 90);
    let before = running.until("an atomic rename", renamed).await;
    fs::write(root.join("b.yml"), entry("cart", 80)).expect("written");
    let after = running.until("a second file", |c| c.services.len() == 2).await;
    let web = key("shop", "web.shop");
    assert!(std::sync::Arc::ptr_eq(&before.services[&web], &after.services[&web]), "what is equal stays the same");
    fs::remove_file(root.join("a.yaml")).expect("removed");
    running.until("a removed file", |c| c.services.keys().eq([&key("shop", "cart.shop")])).await;
    assert_eq!(running.registry.documents.borrow().len(), 1);
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_gateways_reports_tell_of_a_peers_path() {
    let west = identity::RegistryKey::generate();
    let directory = tempfile::tempdir().expect("a directory");
    let running = start(directory, |settings| settings.peers.push(peer("west", &west)), None);
    let id: model::ClusterId = "west".parse().expect("an id");
    let report = |name: &str, path: Path| GatewayEvent::Reported {
        name: name.into(),
        addresses: vec!["10.0.0.9:15443".parse().expect("an address")],
        paths: BTreeMap::from([(id.clone(), path)]),
    };
    let send = |event| running.registry.gateway_events.send(event);
    send(report("one", Path::Unreachable)).await.expect("sent");
    send(report("two", Path::Connected)).await.expect("sent");
    let catalog = running.until("two gateways", |c| c.gateways.len() == 2).await;
    assert_eq!(catalog.peers[&id].health, PeerHealth::Live);
    send(report("two", Path::Unreachable)).await.expect("sent");
    running.until("no path", |c| c.peers[&id].health == PeerHealth::Unreachable).await;
    send(GatewayEvent::Gone { name: "one".into() }).await.expect("sent");
    let catalog = running.until("one gateway", |c| c.gateways.len() == 1).await;
    assert_eq!(catalog.peers[&id].health, PeerHealth::Unreachable, "who is gone says nothing");
    send(report("two", Path::Connected)).await.expect("sent");
    running.until("the path again", |c| c.peers[&id].health == PeerHealth::Live).await;
    running.stop().await;
}

#[test]
fn wrong_peers_are_refused_by_name() {
    let west = identity::RegistryKey::generate();
    let refused = |change: &dyn Fn(&mut isthmus_registry::PeerSettings)| {
        let directory = tempfile::tempdir().expect("a directory");
        let mut settings = support::settings(directory.path());
        let mut wrong = peer("west", &west);
        change(&mut wrong);
        settings.peers = vec![peer("north", &west), wrong];
        let mut registry = prometheus_client::registry::Registry::default();
        let metrics = isthmus_registry::Metrics::register(&mut registry);
        let shutdown = tokio_util::sync::CancellationToken::new();
        match isthmus_registry::Registry::start(settings, None, metrics, &shutdown) {
            Ok(_) => panic!("accepted"),
            Err(error) => error.to_string(),
        }
    };
    assert!(refused(&|peer| peer.cluster = "West".into()).contains("\"West\": cluster"));
    assert!(refused(&|peer| peer.cluster = "east".into()).contains("cluster: another"));
    assert!(refused(&|peer| peer.cluster = "north".into()).contains("cluster: another"));
    assert!(refused(&|peer| peer.uid = "north-1".into()).contains("uid: another"));
    assert!(refused(&|peer| peer.trust_domain = "east.example".into()).contains("trustDomain: another"));
    assert!(refused(&|peer| peer.roots = "none".into()).contains("roots"));
    assert!(refused(&|peer| peer.registry_key = "AAAA".into()).contains("registryKey"));
}
