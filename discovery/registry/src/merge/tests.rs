//! What merge makes of files and peers, by example and by property.

use super::*;
use model::{Group, PeerHealth};
use proptest::prelude::*;

fn cluster() -> Cluster {
    named("east")
}

fn named(id: &str) -> Cluster {
    let parse = |text: &str| text.parse().expect("valid");
    Cluster {
        id: id.parse().expect("valid"),
        uid: format!("{id}-1").parse().expect("valid"),
        trust_domain: parse(&format!("{id}.example")),
    }
}

fn parse(text: &str) -> Vec<Document> {
    resource::parse("a.yaml", text).expect(text).documents
}

fn document(kind: &str, name: &str, spec: &str) -> String {
    format!(
        "apiVersion: networking.istio.io/v1\nkind: {kind}\nmetadata: {{name: {name}, namespace: shop}}\nspec: {spec}\n---\n"
    )
}

fn key(host: &str) -> ServiceKey {
    ServiceKey { host: host.parse().expect("valid"), namespace: "shop".parse().expect("valid") }
}

fn port(number: u16, protocol: Protocol) -> Port {
    Port { number, name: format!("p{number}"), protocol, target: None }
}

fn export(host: &str, ports: &[Port]) -> (ServiceKey, Arc<ServiceExport>) {
    let group = Group {
        id: "any".parse().expect("valid"),
        labels: BTreeMap::new(),
        locality: model::Locality::default(),
        ready: 1,
        weight: 1,
        identities: BTreeSet::new(),
    };
    (key(host), Arc::new(ServiceExport { key: key(host), ports: ports.to_vec(), groups: vec![group] }))
}

fn peer(id: &str, exports: Vec<(ServiceKey, Arc<ServiceExport>)>) -> (ClusterId, PeerInput) {
    let peer = Peer { cluster: named(id), gateways: BTreeMap::new(), health: PeerHealth::Live };
    (peer.cluster.id.clone(), PeerInput { peer, exports: Arc::new(exports.into_iter().collect()), forgotten: false })
}

fn merged(text: &str, peers: Vec<(ClusterId, PeerInput)>) -> (Services, Vec<Conflict>) {
    services(&cluster(), &parse(text), &[], &peers.into_iter().collect())
}

const INTERNAL: &str = "location: MESH_INTERNAL, resolution: STATIC";

#[test]
fn endpoints_bear_the_identity_of_their_account() {
    let spec = format!(
        "{{hosts: [web.shop], ports: [{{number: 80, name: http, protocol: HTTP}}], {INTERNAL}, endpoints: [
          {{address: 10.0.0.1, serviceAccount: web, locality: r/z, weight: 5, ports: {{http: 8080}}}},
          {{address: 10.0.0.2}},
          {{address: 10.0.0.3, serviceAccount: web, labels: {{security.istio.io/tlsMode: disabled}}}}]}}"
    );
    let (services, conflicts) = merged(&document("ServiceEntry", "web", &spec), vec![]);
    assert_eq!(conflicts, []);
    let service = &services[&key("web.shop")];
    let [first, second, third] = &service.endpoints[..] else { panic!("three endpoints") };
    let identity = first.identity.as_ref().map(ToString::to_string);
    assert_eq!(identity.as_deref(), Some("spiffe://east.example/ns/shop/sa/web"));
    assert!(first.mtls && first.weight == 5 && service.ports[0].on(first) == 8080);
    assert!(!second.mtls && second.identity.is_none());
    assert!(!third.mtls && third.identity.is_some());

    let external = spec.replace("MESH_INTERNAL", "MESH_EXTERNAL");
    let (services, _) = merged(&document("ServiceEntry", "web", &external), vec![]);
    assert!(services[&key("web.shop")].endpoints.iter().all(|e| !e.mtls && e.identity.is_none()));
}

#[test]
fn a_selector_finds_the_workloads_of_its_namespace() {
    let text = document(
        "ServiceEntry",
        "web",
        &format!(
            "{{hosts: [web.shop], ports: [{{number: 80, name: http}}], {INTERNAL}, workloadSelector: {{labels: {{app: web, tier: a}}}}}}"
        ),
    ) + &document(
        "WorkloadEntry",
        "w1",
        "{address: 10.0.0.1, labels: {app: web, tier: a}, serviceAccount: web}",
    ) + &document("WorkloadEntry", "w2", "{address: 10.0.0.2, labels: {app: web}}")
        + &document("WorkloadEntry", "w3", "{address: 10.0.0.3, labels: {app: web, tier: a}}")
            .replace("namespace: shop", "namespace: other")
        + &document("WorkloadEntry", "w4", "{address: 10.0.0.4, labels: {app: web}}")
            .replace("{name: w4,", "{name: w4, labels: {tier: a},")
        + &document("WorkloadEntry", "w5", "{address: a.example, labels: {app: web, tier: a}}");
    let (services, conflicts) = merged(&text, vec![]);
    let names: Vec<&str> = services[&key("web.shop")].endpoints.iter().map(|e| &*e.workload).collect();
    assert_eq!(names, ["w1", "w4"]);
    assert_eq!(conflicts.len(), 1, "{conflicts:?}");
    assert!(conflicts[0].to_string().contains("STATIC"), "{}", conflicts[0]);
}

#[test]
fn the_first_to_declare_a_host_has_it() {
    let spec = |port: u16| format!("{{hosts: [web.shop], ports: [{{number: {port}, name: http}}]}}");
    let text = document("ServiceEntry", "a", &spec(1)) + &document("ServiceEntry", "b", &spec(2));
    let (services, conflicts) = merged(&text, vec![]);
    assert_eq!(services[&key("web.shop")].ports[0].number, 1);
    assert!(conflicts[0].to_string().starts_with("a.yaml:6:1: shop/web.shop: not used"), "{}", conflicts[0]);
}

#[test]
fn a_name_without_endpoints_is_its_own_endpoint() {
    let text = document("ServiceEntry", "a", "{hosts: [a.example], ports: [{number: 1, name: a}], resolution: DNS}");
    let (services, _) = merged(&text, vec![]);
    assert_eq!(services[&key("a.example")].endpoints[0].address.to_string(), "a.example");
}

#[test]
fn a_service_that_only_peers_have_is_made_of_what_they_offer() {
    let (http, tcp) = (port(80, Protocol::Http), port(90, Protocol::Tcp));
    let north = peer("north", vec![export("web.shop", std::slice::from_ref(&http))]);
    let west = peer("west", vec![export("web.shop", &[port(80, Protocol::Tcp), tcp.clone()])]);
    let (services, conflicts) = merged("", vec![west, north]);
    let service = &services[&key("web.shop")];
    assert_eq!((service.location, service.resolution), (Location::Internal, Resolution::Static));
    assert_eq!(service.ports, [http.clone(), tcp.clone()]);
    let ports = |id: &str| &service.imports[&id.parse().expect("valid")].export.ports;
    assert_eq!((ports("north"), ports("west")), (&vec![http], &vec![tcp]));
    assert_eq!(conflicts.len(), 1);
    assert_eq!(conflicts[0].origin, Origin::Cluster("west".parse().expect("valid")));
}

#[test]
fn the_local_declaration_decides_which_ports_there_are() {
    let local = |spec: &str| {
        document(
            "ServiceEntry",
            "web",
            &format!(
                "{{hosts: [web.shop], ports: [{{number: 80, name: http, protocol: HTTP}}, {{number: 81, name: auto}}], {spec}}}"
            ),
        )
    };
    let offered = [port(80, Protocol::Tcp), port(81, Protocol::Http), port(82, Protocol::Http)];
    let west = || vec![peer("west", vec![export("web.shop", &offered)])];
    let (services, conflicts) = merged(&local("location: MESH_INTERNAL, resolution: DNS"), west());
    let service = &services[&key("web.shop")];
    assert_eq!(service.ports.iter().map(|p| p.number).collect::<Vec<_>>(), [80, 81]);
    assert_eq!(service.imports[&"west".parse().expect("valid")].export.ports, [offered[1].clone()]);
    assert!(conflicts[0].message.contains("80 TCP, 82 HTTP"), "{}", conflicts[0]);

    let (services, conflicts) = merged(&local("resolution: DNS"), west());
    assert!(services[&key("web.shop")].imports.is_empty() && conflicts.len() == 1, "MESH_EXTERNAL stays so");
}

#[test]
fn a_forgotten_peer_has_no_rows() {
    let mut west = peer("west", vec![export("web.shop", &[port(80, Protocol::Http)])]);
    west.1.forgotten = true;
    assert!(merged("", vec![west]).0.is_empty());
}

#[test]
fn addresses_are_for_hosts_that_can_be_sent_somewhere() {
    let text = document(
        "ServiceEntry",
        "a",
        "{hosts: [a.example, '*.b.example'], ports: [{number: 1, name: a}], resolution: STATIC, endpoints: [{address: 10.0.0.1}]}",
    ) + &document("ServiceEntry", "c", "{hosts: [c.example], ports: [{number: 1, name: a}]}")
        + &document(
            "ServiceEntry",
            "d",
            "{hosts: [d.example], addresses: [10.9.0.1], ports: [{number: 1, name: a}], resolution: DNS}",
        );
    let (mut services, _) = merged(&text, vec![peer("west", vec![export("web.shop", &[port(80, Protocol::Http)])])]);
    let hosts = hosts_without_addresses(&services);
    assert_eq!(hosts.iter().map(Host::as_str).collect::<Vec<_>>(), ["a.example", "web.shop"]);
    let mut allocator = crate::address::Allocator::new(std::time::Duration::ZERO);
    allocator.want(&hosts, std::time::Instant::now());
    assign(&mut services, |host| allocator.slot(host));
    let counts: Vec<usize> = services.values().map(|service| service.addresses.len()).collect();
    assert_eq!(counts, [0, 2, 0, 1, 2]);
}

fn offers() -> impl Strategy<Value = Vec<(u8, u16, u8)>> {
    proptest::collection::vec((0..4u8, 80..84u16, 0..3u8), 0..8)
}

fn exports(offers: &[(u8, u16, u8)]) -> Vec<(ServiceKey, Arc<ServiceExport>)> {
    let mut ports: BTreeMap<u8, BTreeMap<u16, Port>> = BTreeMap::new();
    for (host, number, protocol) in offers {
        let protocol = [Protocol::Http, Protocol::Tcp, Protocol::Udp][usize::from(*protocol)];
        ports.entry(*host).or_default().insert(*number, port(*number, protocol));
    }
    let export = |(host, ports): (u8, BTreeMap<u16, Port>)| {
        export(&format!("h{host}.shop"), &ports.into_values().collect::<Vec<_>>())
    };
    ports.into_iter().map(export).collect()
}

fn local() -> String {
    (0..2)
        .map(|n| document("ServiceEntry", &format!("h{n}"), &format!("{{hosts: [h{n}.shop], ports: [{{number: 80, name: http, protocol: HTTP}}, {{number: 81, name: tcp, protocol: TCP}}], {INTERNAL}, endpoints: [{{address: 10.0.0.{}}}]}}", n + 1)))
        .collect()
}

proptest! {
    /// Whatever peers offer, the own declarations stay what they are.
    #[test]
    fn peers_change_nothing_that_is_ours(west in offers(), north in offers()) {
        let (alone, _) = merged(&local(), vec![]);
        let (all, _) = merged(&local(), vec![peer("west", exports(&west)), peer("north", exports(&north))]);
        for (key, service) in alone {
            let mut with_peers = all[&key].clone();
            with_peers.imports.clear();
            prop_assert_eq!(with_peers, service);
        }
    }

    /// Each row is its own peer's, with ports that the service has; names and numbers stay unique.
    #[test]
    fn rows_agree_with_their_service(west in offers(), north in offers()) {
        let offered = [("north", exports(&north)), ("west", exports(&west))];
        let (all, _) = merged(&local(), offered.iter().map(|(id, exports)| peer(id, exports.clone())).collect());
        for service in all.values() {
            let numbers: BTreeSet<u16> = service.ports.iter().map(|port| port.number).collect();
            let names: BTreeSet<&str> = service.ports.iter().map(|port| port.name.as_str()).collect();
            prop_assert!(numbers.len() == service.ports.len() && names.len() == service.ports.len());
            for (id, import) in &service.imports {
                prop_assert_eq!(id, &import.cluster);
                prop_assert!(import.export.ports.iter().all(|port| agrees(&service.ports, port)));
                let exports = &offered.iter().find(|(peer, _)| *peer == id.as_str()).expect("a peer").1;
                let whole = &exports.iter().find(|(key, _)| *key == service.key).expect("offered").1;
                prop_assert_eq!(&whole.groups, &import.export.groups);
                prop_assert!(import.export.ports.iter().all(|port| whole.ports.contains(port)));
            }
        }
    }

    /// The groups and identities of a peer's rows do not depend on what another peer offers.
    #[test]
    fn one_peer_alone_has_all_that_it_offers(west in offers()) {
        let (all, conflicts) = merged("", vec![peer("west", exports(&west))]);
        prop_assert_eq!(conflicts.len(), 0);
        for (key, export) in exports(&west) {
            let import = &all[&key].imports[&"west".parse().expect("valid")];
            prop_assert_eq!(&import.export, &*export);
        }
    }

    /// The same inputs give the same services, in whatever order the peers come.
    #[test]
    fn merging_is_deterministic(west in offers(), north in offers()) {
        let pair = |id: &str, offers: &[(u8, u16, u8)]| peer(id, exports(offers));
        let one = merged(&local(), vec![pair("west", &west), pair("north", &north)]);
        let other = merged(&local(), vec![pair("north", &north), pair("west", &west)]);
        prop_assert_eq!(one, other);
    }
}
