//! What concerns one proxy: the services that it sees, and the ports on which it takes requests.

use crate::edge::{Edge, Ports};
use crate::mesh_default;
use config::{
    CaptureMode, ConnectionPool, DefaultEndpoint, Destination, DestinationRule, EgressListener, Gateway, HostPattern,
    IngressListener, Intent, MtlsMode, OutboundPolicy, PeerModes, PortPolicy, Server, ServerTls, Sidecar, Subset,
    VirtualService,
};
use model::{Address, Catalog, Endpoint, Host, Locality, Port, Protocol, Service, WorkloadIdentity};
use std::cell::OnceCell;
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use xds::{Interception, Node, NodeKind};

/// One proxy's view.
pub(crate) struct Scope<'a> {
    pub(crate) catalog: &'a Catalog,
    pub(crate) node: &'a Node,
    /// What happens to requests to destinations that nobody declared.
    pub(crate) policy: OutboundPolicy,
    /// The services that it sees, ordered by host; one for each host.
    pub(crate) services: Vec<&'a Service>,
    /// Where it takes requests for its workload, by port.
    pub(crate) inbound: BTreeMap<u16, Inbound>,
    /// How callers of its workload come.
    pub(crate) callers_come: PeerModes,
    sidecar: Option<&'a Sidecar>,
    /// The rules by which it speaks to the services that have one, by host.
    rules: BTreeMap<&'a Host, &'a DestinationRule>,
    /// Who the proxy proved to be.
    pub(crate) identity: &'a WorkloadIdentity,
    pub(crate) intent: &'a Intent,
    /// The servers that it has at the edge of the mesh.
    edges: Ports<'a>,
    /// Looked for once, if anything depends on it.
    callers: OnceCell<Vec<Locality>>,
}

/// A port on which a proxy takes requests for its workload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Inbound {
    pub(crate) port: u16,
    pub(crate) protocol: Protocol,
    /// The address to bind; nothing is bound when traffic is redirected.
    pub(crate) bind: Option<Bind>,
    /// Where the application listens.
    pub(crate) target: Target,
    /// The service that is served there, if one is known.
    pub(crate) service: Option<Host>,
    /// TLS of callers outside of the mesh, which ends here.
    pub(crate) tls: Option<ServerTls>,
    /// The limits.
    pub(crate) pool: Option<ConnectionPool>,
    /// How callers come.
    pub(crate) mode: MtlsMode,
}

/// Where a listener listens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Bind {
    /// At all addresses of the families that the node has.
    All,
    /// At this one.
    Address(IpAddr),
}

/// Where an application listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Target {
    Socket(SocketAddr),
    Unix(PathBuf),
}

/// The ports of the proxy's own two listeners (Istio's).
pub(crate) const OUTBOUND_PORT: u16 = 15001;
/// See [`OUTBOUND_PORT`].
pub(crate) const INBOUND_PORT: u16 = 15006;

// === impl Scope ===

impl<'a> Scope<'a> {
    /// All that concerns `node`.
    pub(crate) fn new(
        catalog: &'a Catalog,
        intent: &'a Intent,
        node: &'a Node,
        identity: &'a WorkloadIdentity,
    ) -> Self {
        let sidecar = sidecar(intent, node);
        let services = visible(catalog.services.values(), intent, node, sidecar);
        let edges = match node.kind {
            NodeKind::Sidecar => Ports::new(),
            NodeKind::Router => edges(catalog, intent, node, identity),
        };
        let callers_come = intent.peer_policies.modes_for(&node.namespace, &node.labels);
        let mut inbound = inbound(catalog, intent, node, identity, sidecar);
        for (port, inbound) in &mut inbound {
            inbound.mode = callers_come.at(*port);
        }
        Self { inbound, callers_come, edges, ..Self::narrow(catalog, intent, node, identity, sidecar, services) }
    }

    /// What concerns the upstreams of the services of `hosts`: nothing that is made of more than one service is in it,
    /// no routes and no listeners. What it costs depends on these services alone.
    pub(crate) fn of_hosts(
        catalog: &'a Catalog,
        intent: &'a Intent,
        node: &'a Node,
        identity: &'a WorkloadIdentity,
        hosts: impl Iterator<Item = &'a Host>,
    ) -> Self {
        let sidecar = sidecar(intent, node);
        let services = visible(hosts.flat_map(|host| catalog.by_host(host)), intent, node, sidecar);
        Self::narrow(catalog, intent, node, identity, sidecar, services)
    }

    fn narrow(
        catalog: &'a Catalog,
        intent: &'a Intent,
        node: &'a Node,
        identity: &'a WorkloadIdentity,
        sidecar: Option<&'a Sidecar>,
        services: Vec<&'a Service>,
    ) -> Self {
        let rule = |service: &&'a Service| {
            let found = intent.destination_rule_for(&node.namespace, &node.labels, &service.key)?;
            Some((&service.key.host, found))
        };
        let own_policy = sidecar.and_then(|sidecar| sidecar.outbound_policy);
        Self {
            catalog,
            node,
            policy: own_policy.or(intent.mesh.outbound_policy).unwrap_or(OutboundPolicy::AllowAny),
            inbound: BTreeMap::new(),
            callers_come: PeerModes::default(),
            sidecar,
            rules: services.iter().filter_map(rule).collect(),
            services,
            identity,
            intent,
            edges: Ports::new(),
            callers: OnceCell::new(),
        }
    }

    /// The servers that it has at the edge of the mesh, by where they listen.
    pub(crate) fn edges(&self) -> Ports<'a> {
        self.edges.clone()
    }

    /// The servers that pass on the mesh's own TLS.
    pub(crate) fn east_west(&self) -> impl Iterator<Item = &'a Server> {
        self.edges.values().flatten().map(|edge| edge.server).filter(|server| server.is_east_west())
    }

    /// The VirtualServices that route for `server` of `gateway`, with the hosts that it serves of theirs.
    pub(crate) fn routed_by(
        &self,
        gateway: &'a Gateway,
        server: &'a Server,
    ) -> impl Iterator<Item = (&'a VirtualService, Vec<HostPattern>)> {
        let namespace = &self.node.namespace;
        let services = self.intent.virtual_services.iter();
        let named =
            services.filter(|service| gateway.is_named(&service.gateways) && service.export_to.includes(namespace));
        let shared = named.map(|service| (service, server.shared_hosts(service, &gateway.namespace)));
        shared.filter(|(_, hosts)| !hosts.is_empty())
    }

    /// The visible service of this host.
    pub(crate) fn service(&self, host: &Host) -> Option<&'a Service> {
        let at = self.services.binary_search_by(|service| service.key.host.cmp(host)).ok()?;
        Some(self.services[at])
    }

    /// The VirtualServices that it follows.
    pub(crate) fn routed(&self) -> impl Iterator<Item = &'a VirtualService> {
        self.intent.mesh_services(&self.node.namespace)
    }

    /// The VirtualService that it follows for `port` of `host`.
    pub(crate) fn virtual_service(&self, host: &Host, port: u16) -> Option<&'a VirtualService> {
        self.intent.virtual_service_for(&self.node.namespace, host, port)
    }

    /// The subsets of `service`.
    pub(crate) fn subsets(&self, service: &Service) -> &'a [Subset] {
        self.rules.get(&service.key.host).map_or(&[], |rule| &rule.subsets)
    }

    /// How `port` of `service`, or of its subset of this name, is spoken to.
    pub(crate) fn policy_of(&self, service: &Service, port: u16, subset: Option<&str>) -> PortPolicy {
        let of_rule = self.rules.get(&service.key.host).map(|rule| {
            let subset = subset.and_then(|name| rule.subset(name));
            let mut policy = rule.policy.of_port(port, subset.map(|subset| &subset.policy));
            if self.node.kind == NodeKind::Sidecar {
                let chosen = rule.workload_selector.is_some();
                policy.tls = policy.tls.map(|tls| tls.for_sidecars(chosen));
            }
            policy
        });
        let mut policy = of_rule.unwrap_or_default();
        if policy.tls.is_none() && !self.intent.backend_tls.is_empty() {
            let name = service.port(port).map(|port| port.name.as_str());
            policy.tls = self.intent.backend_tls_for(&service.key.host, name).cloned();
        }
        mesh_default::complete(policy, &self.intent.mesh)
    }

    /// How it takes TLS at ports of its own.
    pub(crate) fn served_tls(&self) -> impl Iterator<Item = &ServerTls> {
        let edges = self.edges.values().flatten().filter_map(|edge| edge.server.tls.as_ref());
        edges.chain(self.inbound.values().filter_map(|inbound| inbound.tls.as_ref()))
    }

    /// The names of the secrets that it needs towards services.
    pub(crate) fn credentials(&self) -> BTreeSet<&str> {
        let chosen = |rule: &&&DestinationRule| self.node.kind == NodeKind::Router || rule.workload_selector.is_some();
        self.rules.values().filter(chosen).flat_map(|rule| rule.credentials()).collect()
    }

    /// Where all are that call as the node does: the endpoints of the first service that it is one of, or itself alone.
    pub(crate) fn callers(&self) -> &[Locality] {
        self.callers.get_or_init(|| match served(self.catalog, self.node, self.identity).next() {
            Some((service, ..)) => service.endpoints.iter().map(|endpoint| endpoint.locality.clone()).collect(),
            None => vec![self.node.locality.clone()],
        })
    }

    /// The upstream to which requests go that nobody declared, if it is not where they were going.
    pub(crate) fn egress_proxy(&self) -> Option<&'a Destination> {
        self.sidecar.and_then(|sidecar| sidecar.egress_proxy.as_ref())
    }

    /// Whether the kernel brings traffic to this proxy.
    pub(crate) fn is_redirected(&self) -> bool {
        self.node.kind == NodeKind::Sidecar && self.node.interception != Interception::None
    }

    /// The visible services' ports that a proxy can serve.
    pub(crate) fn ports(&self) -> impl Iterator<Item = (&'a Service, &'a Port)> {
        self.services.iter().flat_map(|service| served_ports(service).map(move |port| (*service, port)))
    }

    /// The listeners for requests from the workload that must be bound, with their ports.
    pub(crate) fn egress(&self) -> impl Iterator<Item = (&'a EgressListener, u16)> {
        let node = self.node;
        let listeners = self.sidecar.map_or(&[][..], |sidecar| &sidecar.egress);
        listeners.iter().filter(move |listener| is_bound(listener.capture, node)).filter_map(|l| Some((l, l.port?)))
    }

    /// The visible services behind `listener`.
    pub(crate) fn behind(&self, listener: &EgressListener) -> Vec<&'a Service> {
        let is_behind = |service: &&&Service| {
            listener.hosts.iter().any(|pattern| pattern.matches(&service.key, &self.node.namespace))
        };
        self.services.iter().filter(is_behind).copied().collect()
    }

    /// The wildcard addresses of the families that the node has; IPv4 first.
    pub(crate) fn wildcards(&self) -> Vec<IpAddr> {
        let has = |v4: bool| self.node.addresses.iter().any(|address| address.is_ipv4() == v4);
        let v4 = has(true).then_some(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
        let v6 = has(false).then_some(IpAddr::V6(Ipv6Addr::UNSPECIFIED));
        v4.into_iter().chain(v6).collect()
    }

    /// The loopback address of the node's first family.
    pub(crate) fn loopback(&self) -> IpAddr {
        match self.wildcards().first() {
            Some(IpAddr::V6(_)) => IpAddr::V6(Ipv6Addr::LOCALHOST),
            _ => IpAddr::V4(Ipv4Addr::LOCALHOST),
        }
    }
}

/// The Sidecar resource that `node` follows.
fn sidecar<'a>(intent: &'a Intent, node: &Node) -> Option<&'a Sidecar> {
    match node.kind {
        NodeKind::Sidecar => intent.sidecar_for(&node.namespace, &node.labels),
        NodeKind::Router => None,
    }
}

/// The services that `node` sees.
pub(crate) fn visible_to<'a>(catalog: &'a Catalog, intent: &Intent, node: &Node) -> Vec<&'a Service> {
    visible(catalog.services.values(), intent, node, sidecar(intent, node))
}

/// Those of `services` that `node` sees: those that are meant for its namespace, and that its Sidecar resource lets it
/// see. Where several namespaces declare one host, the node's own wins, then the first.
fn visible<'a>(
    services: impl Iterator<Item = &'a Arc<Service>>,
    intent: &Intent,
    node: &Node,
    sidecar: Option<&Sidecar>,
) -> Vec<&'a Service> {
    let patterns = || sidecar.iter().flat_map(|sidecar| &sidecar.egress).flat_map(|listener| &listener.hosts);
    let sees_all = sidecar.is_none_or(|sidecar| sidecar.egress.is_empty());
    let is_shown = |service: &Service| match &service.visibility {
        Some(visibility) => visibility.includes(&node.namespace),
        None => intent.mesh.service_export.includes(&service.key.namespace, &node.namespace),
    };
    let mut by_host: BTreeMap<&Host, &Service> = BTreeMap::new();
    for service in services {
        let key = &service.key;
        if !is_shown(service) {
            continue;
        }
        if !sees_all && !patterns().any(|pattern| pattern.matches(key, &node.namespace)) {
            continue;
        }
        if key.namespace == node.namespace || !by_host.contains_key(&key.host) {
            by_host.insert(&key.host, service);
        }
    }
    by_host.into_values().collect()
}

/// The ports of `service` that a proxy can serve.
pub(crate) fn served_ports(service: &Service) -> impl Iterator<Item = &Port> {
    service.ports.iter().filter(|port| port.protocol != Protocol::Udp)
}

/// Whether the workload of `node` serves in both of these states of one service the same, as far as their endpoints say.
pub(crate) fn serves_alike(node: &Node, identity: &WorkloadIdentity, old: &Service, new: &Service) -> bool {
    let own = |service: &'_ Service| -> Vec<Endpoint> {
        service.endpoints.iter().filter(|endpoint| is_own(endpoint, node, identity)).cloned().collect()
    };
    new.key.namespace != node.namespace || own(old) == own(new)
}

/// The servers of the Gateways that select `node`. One listens where a service of the proxy's leads to if it names the
/// server's port, as in Kubernetes; a port that the process has for itself is left out.
fn edges<'a>(catalog: &'a Catalog, intent: &'a Intent, node: &Node, identity: &WorkloadIdentity) -> Ports<'a> {
    let targets: BTreeMap<u16, u16> =
        served(catalog, node, identity).map(|(_, target, port, _)| (port.number, target)).collect();
    let mut edges = Ports::new();
    for gateway in intent.gateways_for(&node.namespace, &node.labels) {
        for server in &gateway.servers {
            let port = targets.get(&server.port).copied().unwrap_or(server.port);
            if node.own_ports.contains(&port) {
                continue;
            }
            for bind in binds(gateway, server, node) {
                edges.entry((bind, port)).or_default().push(Edge { gateway, server, bind, port });
            }
        }
    }
    edges
}

/// Where `server` listens; absent is at all addresses.
fn binds(gateway: &Gateway, server: &Server, node: &Node) -> Vec<Option<IpAddr>> {
    let own: Vec<_> = gateway.addresses.iter().filter(|ip| node.addresses.contains(ip)).copied().map(Some).collect();
    if server.bind.is_some() || own.is_empty() { vec![server.bind] } else { own }
}

fn inbound(
    catalog: &Catalog,
    intent: &Intent,
    node: &Node,
    identity: &WorkloadIdentity,
    sidecar: Option<&Sidecar>,
) -> BTreeMap<u16, Inbound> {
    if let Some(sidecar) = sidecar.filter(|sidecar| !sidecar.ingress.is_empty()) {
        let service = |port| served(catalog, node, identity).find(|(_, number, _, _)| *number == port);
        let inbound = |listener: &IngressListener| {
            let service = service(listener.port);
            let own = listener.pool.as_ref().or(sidecar.inbound_pool.as_ref()).cloned();
            Inbound {
                pool: own.or_else(|| service.and_then(|(service, _, port, _)| pool(intent, node, service, port))),
                service: service.map(|(service, ..)| service.key.host.clone()),
                ..listed(listener, node)
            }
        };
        return sidecar.ingress.iter().map(|listener| (listener.port, inbound(listener))).collect();
    }
    let to_loopback = intent.mesh.inbound_to_loopback;
    let address = |endpoint: &Endpoint| match own_address(endpoint, node) {
        IpAddr::V4(_) if to_loopback => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(_) if to_loopback => IpAddr::V6(Ipv6Addr::LOCALHOST),
        own => own,
    };
    let mut ports = BTreeMap::new();
    if node.kind == NodeKind::Router || node.interception == Interception::None {
        return ports;
    }
    for (service, number, port, endpoint) in served(catalog, node, identity) {
        let target = Target::Socket(SocketAddr::new(address(endpoint), number));
        ports.entry(number).or_insert_with(|| Inbound {
            port: number,
            protocol: port.protocol,
            bind: None,
            target,
            service: Some(service.key.host.clone()),
            tls: None,
            pool: sidecar
                .and_then(|sidecar| sidecar.inbound_pool.clone())
                .or_else(|| pool(intent, node, service, port)),
            mode: MtlsMode::default(),
        });
    }
    ports
}

/// The limits of requests to the workload where its Sidecar says nothing: those of callers count here as well (Istio's
/// rule).
fn pool(intent: &Intent, node: &Node, service: &Service, port: &Port) -> Option<ConnectionPool> {
    let rule = intent.destination_rule_for(&node.namespace, &node.labels, &service.key)?;
    rule.policy.of_port(port.number, None).pool
}

/// What the node's workload serves: the services of its namespace that it is an endpoint of, the number that each port
/// has there, and the endpoint that is the workload.
fn served<'a>(
    catalog: &'a Catalog,
    node: &'a Node,
    identity: &'a WorkloadIdentity,
) -> impl Iterator<Item = (&'a Service, u16, &'a Port, &'a Endpoint)> {
    let services = catalog.services.values().filter(|service| service.key.namespace == node.namespace);
    services.flat_map(move |service| {
        let own = service.endpoints.iter().filter(move |endpoint| is_own(endpoint, node, identity));
        own.flat_map(move |endpoint| {
            served_ports(service).map(move |port| (&**service, port.on(endpoint), port, endpoint))
        })
    })
}

/// The port that an ingress listener of a Sidecar resource describes.
fn listed(listener: &IngressListener, node: &Node) -> Inbound {
    let target = match &listener.default_endpoint {
        DefaultEndpoint::Socket(address) => Target::Socket(*address),
        DefaultEndpoint::Own(port) => {
            let address = listener.bind.filter(|bind| !bind.is_unspecified() && !bind.is_loopback());
            Target::Socket(SocketAddr::new(address.unwrap_or(node.addresses[0]), *port))
        }
        DefaultEndpoint::Unix(path) => Target::Unix(path.clone()),
    };
    let bind = is_bound(listener.capture, node).then(|| listener.bind.map_or(Bind::All, Bind::Address));
    let tls = listener.tls.clone();
    let mode = MtlsMode::default();
    Inbound { port: listener.port, protocol: listener.protocol, bind, target, service: None, tls, pool: None, mode }
}

fn is_bound(capture: CaptureMode, node: &Node) -> bool {
    match capture {
        CaptureMode::Default => node.interception == Interception::None,
        CaptureMode::Iptables => false,
        CaptureMode::None => true,
    }
}

/// Whether `endpoint` is the workload of `node`: at one of its addresses, or bearing its labels; and never one of
/// another identity, which may share the address on a host with several workloads.
fn is_own(endpoint: &Endpoint, node: &Node, identity: &WorkloadIdentity) -> bool {
    let at_address = matches!(endpoint.address, Address::Ip(ip) if node.addresses.contains(&ip));
    let bears_labels =
        !endpoint.labels.is_empty() && endpoint.labels.iter().all(|(key, value)| node.labels.get(key) == Some(value));
    match &endpoint.identity {
        Some(shown) => shown == identity && (at_address || bears_labels),
        None => at_address,
    }
}

fn own_address(endpoint: &Endpoint, node: &Node) -> IpAddr {
    match endpoint.address {
        Address::Ip(ip) if node.addresses.contains(&ip) => ip,
        _ => node.addresses[0],
    }
}
