//! What a gateway offers of its cluster: what the mesh's own TLS reaches, which is all that a blind gateway can carry.
//!
//! ```text
//! catalog, PeerAuthentications -> without ports that callers come to in the clear -> exported, and forwarded to
//! ```

use config::{Intent, PeerPolicies};
use federation::export::is_exportable;
use model::{Audience, Catalog, Endpoint, Port, Service};
use resource::{Document, Resource};
use std::sync::Arc;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// The catalog as the gateway is to see it, for as long as both sources live, until `shutdown`.
pub(super) fn follow(
    mut catalog: watch::Receiver<Arc<Catalog>>,
    mut documents: watch::Receiver<Arc<Vec<Document>>>,
    shutdown: CancellationToken,
) -> watch::Receiver<Arc<Catalog>> {
    let mut policies = policies(&documents.borrow_and_update()).unwrap_or_default();
    let first = offered(&catalog.borrow_and_update(), &policies);
    let (sender, receiver) = watch::channel(first);
    tokio::spawn(shutdown.run_until_cancelled_owned(async move {
        loop {
            let changed = tokio::select! {
                changed = documents.changed() => changed,
                changed = catalog.changed() => changed,
            };
            if changed.is_err() {
                return;
            }
            policies = self::policies(&documents.borrow_and_update()).unwrap_or(policies);
            let _ = sender.send(offered(&catalog.borrow_and_update(), &policies));
        }
    }));
    receiver
}

/// The PeerAuthentications among `documents`; none if they cannot be read, and what was known stays.
fn policies(documents: &[Document]) -> Option<PeerPolicies> {
    let concerns = |document: &&Document| {
        document.kind == "PeerAuthentication" || matches!(document.resource, Resource::ConfigMap(_))
    };
    let own: Vec<Document> = documents.iter().filter(concerns).cloned().collect();
    Intent::from_documents(&own).ok().map(|intent| intent.peer_policies)
}

fn offered(catalog: &Arc<Catalog>, policies: &PeerPolicies) -> Arc<Catalog> {
    if !policies.disables() {
        return catalog.clone();
    }
    let mut narrowed = Catalog::clone(catalog);
    for service in narrowed.services.values_mut().filter(|service| service.audience != Audience::Nobody) {
        if let Some(less) = reachable(service, policies) {
            *service = Arc::new(less);
        }
    }
    Arc::new(narrowed)
}

/// `service` without the ports at which no endpoint takes the mesh's TLS, and then without the endpoints that do not take it
/// at one of those that are left; not offered at all if none is. None if that is all of it.
fn reachable(service: &Service, policies: &PeerPolicies) -> Option<Service> {
    let is_clear = |endpoint: &Endpoint, port: &Port| policies.is_clear_at(service, endpoint, port);
    let exportable: Vec<&Endpoint> = service.endpoints.iter().filter(|endpoint| is_exportable(endpoint)).collect();
    if !exportable.iter().any(|endpoint| service.ports.iter().any(|port| is_clear(endpoint, port))) {
        return None;
    }
    let mut less = service.clone();
    less.ports.retain(|port| exportable.iter().any(|endpoint| !is_clear(endpoint, port)));
    let ports = &less.ports;
    less.endpoints.retain(|endpoint| !ports.iter().any(|port| is_clear(endpoint, port)));
    if less.ports.is_empty() {
        less.audience = Audience::Nobody;
    }
    Some(less)
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::{Address, Cluster, Locality, NetworkId, Protocol, ServiceKey};
    use std::collections::BTreeMap;

    fn valid<T: std::str::FromStr<Err: std::fmt::Debug>>(text: &str) -> T {
        text.parse().expect("valid")
    }

    fn catalog() -> Arc<Catalog> {
        let endpoint = |ip: &str, version: &str| Endpoint {
            address: Address::Ip(valid(ip)),
            ports: BTreeMap::new(),
            labels: Arc::new([("version".to_owned(), version.to_owned())].into()),
            locality: Locality::default(),
            network: NetworkId::default(),
            weight: 1,
            identity: Some(valid("spiffe://east.example/ns/shop/sa/web")),
            workload: "web".into(),
            mtls: true,
        };
        let port = |number: u16| Port {
            number,
            name: format!("p{number}"),
            protocol: Protocol::Tcp,
            target: Some(number + 1),
        };
        let service = Service {
            ports: vec![port(80), port(90)],
            audience: Audience::All,
            endpoints: vec![endpoint("10.0.0.1", "v1"), endpoint("10.0.0.2", "v2")],
            ..Service::new(ServiceKey { host: valid("web.example"), namespace: valid("shop") })
        };
        let cluster = Cluster { id: valid("east"), uid: valid("east-1"), trust_domain: valid("east.example") };
        let mut catalog = Catalog::new(cluster);
        catalog.services.insert(service.key.clone(), Arc::new(service));
        Arc::new(catalog)
    }

    /// The ports that are offered, and how many endpoints.
    fn left(spec: &str) -> (Vec<u16>, usize, bool) {
        let text = format!(
            "apiVersion: security.istio.io/v1\nkind: PeerAuthentication\nmetadata: {{name: a, namespace: shop}}\nspec: {spec}\n"
        );
        let policies = policies(&resource::parse("p.yaml", &text).expect("YAML").documents).expect("valid");
        let offered = offered(&catalog(), &policies);
        let service = offered.services.values().next().expect("a service");
        let ports = service.ports.iter().map(|port| port.number).collect();
        (ports, service.endpoints.len(), service.audience == Audience::All)
    }

    #[test]
    fn what_takes_plaintext_alone_is_not_offered() {
        assert_eq!(left("{mtls: {mode: STRICT}}"), (vec![80, 90], 2, true));
        assert_eq!(left("{mtls: {mode: DISABLE}}"), (vec![], 2, false));
        let one = |version: &str, port: u16| {
            format!(
                "{{selector: {{matchLabels: {{version: {version}}}}}, portLevelMtls: {{'{port}': {{mode: DISABLE}}}}}}"
            )
        };
        assert_eq!(left(&one("v1", 81)), (vec![80, 90], 1, true), "by the workload's own port");
        assert_eq!(left(&one("v1", 80)), (vec![80, 90], 2, true));
        assert_eq!(left(&one("v3", 81)), (vec![80, 90], 2, true));
    }
}
