use super::*;
use model::{Address, Cluster, Location, NetworkId, Port, Protocol, Resolution, ServiceImport};
use proptest::prelude::*;
use std::sync::Arc;

fn endpoint(ip: &str, version: &str, locality: &str, account: Option<&str>) -> Endpoint {
    let labels = [("version".to_owned(), version.to_owned()), ("app".to_owned(), "reviews".to_owned())];
    Endpoint {
        address: Address::Ip(ip.parse().expect("valid")),
        ports: BTreeMap::new(),
        labels: Arc::new(labels.into()),
        locality: locality.parse().expect("valid"),
        network: NetworkId::default(),
        weight: 2,
        identity: account.map(|name| format!("spiffe://east/ns/shop/sa/{name}").parse().expect("valid")),
        workload: "reviews".into(),
        mtls: account.is_some(),
    }
}

fn service(host: &str, audience: Audience, endpoints: Vec<Endpoint>) -> Service {
    let key = ServiceKey { host: host.parse().expect("valid"), namespace: "shop".parse().expect("valid") };
    Service {
        ports: vec![Port { number: 80, name: "http".into(), protocol: Protocol::Http, target: None }],
        resolution: Resolution::Static,
        location: Location::Internal,
        audience,
        endpoints,
        ..Service::new(key)
    }
}

fn catalog(services: Vec<Service>) -> Catalog {
    let id = |text: &str| text.parse().expect("valid");
    let cluster =
        Cluster { id: id("east"), uid: "u1".parse().expect("valid"), trust_domain: "east".parse().expect("valid") };
    let mut catalog = Catalog::new(cluster);
    catalog.services = services.into_iter().map(|service| (service.key.clone(), Arc::new(service))).collect();
    catalog
}

fn version() -> Vec<String> {
    vec!["version".to_owned()]
}

fn clusters(names: &[&str]) -> Audience {
    Audience::Clusters(names.iter().map(|name| name.parse().expect("valid")).collect())
}

#[test]
fn endpoints_are_told_as_groups_of_version_and_locality() {
    let endpoints = vec![
        endpoint("10.0.0.1", "v1", "r/a", Some("one")),
        endpoint("10.0.0.2", "v1", "r/a", Some("two")),
        endpoint("10.0.0.3", "v1", "r/b", Some("one")),
        endpoint("10.0.0.4", "v2", "r/a", Some("one")),
        endpoint("10.0.0.5", "v2", "r/a", None),
    ];
    let exports = desired(&catalog(vec![service("a.example", Audience::All, endpoints)]), &version());
    let export = exports.values().next().expect("one export");
    let told: Vec<_> = export
        .groups
        .iter()
        .map(|g| (g.labels["version"].as_str(), g.locality.to_string(), g.ready, g.weight))
        .collect();
    assert_eq!(told, [("v1", "r/a".into(), 2, 4), ("v1", "r/b".into(), 1, 2), ("v2", "r/a".into(), 1, 2)]);
    assert_eq!(export.groups[0].identities.len(), 2);
    assert_eq!(export.groups[0].id, export.groups[1].id, "a group's id does not depend on where it runs");
    assert_ne!(export.groups[0].id, export.groups[2].id);
    assert!(export.groups[0].id.as_str().starts_with("v1-"));
}

#[test]
fn the_audience_decides_the_targets() {
    let services = vec![
        service("all.example", Audience::All, vec![]),
        service("none.example", Audience::Nobody, vec![]),
        service("some.example", clusters(&["east", "north", "west"]), vec![]),
        service("*.wild.example", Audience::All, vec![]),
    ];
    let exports = desired(&catalog(services), &version());
    let told: Vec<_> = exports.keys().map(|(target, key)| (target.clone(), key.host.to_string())).collect();
    let cluster = |name: &str| Target::Cluster(name.parse().expect("valid"));
    assert_eq!(
        told,
        [
            (Target::All, "all.example".to_owned()),
            (cluster("north"), "some.example".to_owned()),
            (cluster("west"), "some.example".to_owned()),
        ]
    );
}

#[test]
fn what_a_peer_offers_is_not_offered_again() {
    let mut merged = service("a.example", Audience::All, vec![endpoint("10.0.0.1", "v1", "", Some("one"))]);
    let alone = merged.clone();
    let mut foreign = aggregate(&merged, &version());
    foreign.groups[0].identities = ["spiffe://west/ns/shop/sa/x".parse().expect("valid")].into();
    let cluster: ClusterId = "west".parse().expect("valid");
    merged.imports.insert(cluster.clone(), ServiceImport { cluster, export: foreign });
    assert_eq!(desired(&catalog(vec![merged]), &version()), desired(&catalog(vec![alone]), &version()));
}

#[test]
fn a_plan_writes_only_what_differs_and_withdraws_last() {
    let one = endpoint("10.0.0.1", "v1", "", Some("one"));
    let before = desired(
        &catalog(vec![
            service("gone.example", Audience::All, vec![]),
            service("moved.example", Audience::All, vec![]),
            service("same.example", Audience::All, vec![one.clone()]),
        ]),
        &version(),
    );
    let after = desired(
        &catalog(vec![
            service("moved.example", clusters(&["west"]), vec![one.clone()]),
            service("same.example", Audience::All, vec![one]),
        ]),
        &version(),
    );
    let told: Vec<_> = plan(&after, &before)
        .into_iter()
        .map(|write| match write {
            Write::Put(target, export) => format!("put {target:?} {}", export.key.host),
            Write::Tombstone(target, key) => format!("bury {target:?} {}", key.host),
        })
        .collect();
    assert_eq!(told, ["put Cluster(west) moved.example", "bury All gone.example", "bury All moved.example"]);
    assert!(plan(&after, &after).is_empty());
}

#[test]
fn ids_are_the_same_in_every_release() {
    let labels = |value: &str| BTreeMap::from([("version".to_owned(), value.to_owned())]);
    assert_eq!(group_id(&BTreeMap::new()).as_str(), "any-4fd0bfc1");
    assert_eq!(group_id(&labels("v1")).as_str(), "v1-0296054d");
    assert_ne!(group_id(&labels("V1")), group_id(&labels("v1")));
}

proptest! {
    #[test]
    fn any_label_values_give_a_legal_id(name in ".{0,80}", value in ".{0,200}", other in ".{0,200}") {
        let labels = BTreeMap::from([(name.clone(), value), (format!("{name}x"), other)]);
        let id = group_id(&labels);
        prop_assert!(id.as_str().len() <= 63);
        prop_assert_eq!(id.as_str().parse::<GroupId>().expect("legal"), id);
    }

    #[test]
    fn applying_a_plan_gives_what_is_desired(before in exports(), after in exports()) {
        let mut published = before.clone();
        for write in plan(&after, &before) {
            match write {
                Write::Put(target, export) => published.insert((target, export.key.clone()), export),
                Write::Tombstone(target, key) => published.remove(&(target, key)),
            };
        }
        prop_assert_eq!(published, after);
    }
}

fn exports() -> impl Strategy<Value = Exports> {
    let one = (0..6u8, 0..4u8, 0..3u8).prop_map(|(host, audience, endpoints)| {
        let audience = match audience {
            0 => Audience::Nobody,
            1 => Audience::All,
            2 => clusters(&["west"]),
            _ => clusters(&["west", "north"]),
        };
        let endpoints =
            (0..endpoints).map(|n| endpoint(&format!("10.0.0.{n}"), &format!("v{n}"), "", Some("one"))).collect();
        service(&format!("s{host}.example"), audience, endpoints)
    });
    proptest::collection::vec(one, 0..6).prop_map(|services| desired(&catalog(services), &version()))
}
