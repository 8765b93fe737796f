use super::*;
use model::{Locality, NetworkId, TrustBundle};
use store::{Entry, WorkloadHealth};

fn workload(health: WorkloadHealth) -> Workload {
    Workload {
        namespace: "shop".parse().expect("valid"),
        name: "vm".to_owned(),
        group: "vms".to_owned(),
        address: "10.0.0.7".parse().expect("valid"),
        ports: BTreeMap::new(),
        labels: BTreeMap::new(),
        annotations: BTreeMap::new(),
        network: NetworkId::default(),
        locality: Locality::default(),
        weight: 1,
        service_account: "vm".into(),
        health,
        controller: "one".to_owned(),
        connected_at: 1,
        disconnected_at: 0,
    }
}

fn registrar() -> Registrar {
    let cluster = Cluster {
        id: "east".parse().expect("valid"),
        uid: "east-1".parse().expect("valid"),
        trust_domain: "east.example".parse().expect("valid"),
    };
    let bundle = TrustBundle { trust_domain: cluster.trust_domain.clone(), pem: "".into() };
    let settings = Settings::new(cluster, Arc::new(RegistryKey::generate()), "unused".into(), bundle);
    let (grace, orphan) = (Duration::from_secs(10), Duration::from_secs(20));
    let controller = Some(Controller { name: "one".to_owned(), grace, orphan, most: 1 });
    Registrar::new(&Settings { controller: controller.clone(), ..settings }, Registrations::new(controller), None)
}

/// The store tells every writer what it wrote, and may do so when there is newer to say.
#[test]
fn an_echo_does_not_bring_back_what_a_workload_said_before() {
    let (mut registrar, now) = (registrar(), Instant::now());
    let ill = workload(WorkloadHealth::unhealthy("it has a cold"));
    let id = (ill.namespace.clone(), ill.name.clone());
    registrar.registrations.connect(ill).expect("there is room");
    registrar.follow(now);
    let first = registrar.record(&id, now).expect("something to write");
    registrar.registrations.report(&id.0, &id.1, WorkloadHealth::Healthy);
    registrar.follow(now);
    registrar.record(&id, now).expect("something to write");
    registrar.registrations.disconnect(&id.0, &id.1);

    let value = first.encode(&registrar.key).expect("encoded");
    let echo = Entry { key: first.key.to_string(), value, revision: 1, create_revision: 1, lease: 0 };
    registrar.apply(Part::Workloads, Change::Put(echo), now);
    registrar.follow(now);
    let known = &registrar.known[&id].workload;
    assert_eq!(known.health, WorkloadHealth::Healthy);
    assert_ne!(known.disconnected_at, 0, "its grace has begun");
}
