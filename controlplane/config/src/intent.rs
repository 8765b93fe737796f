//! Everything the user wants, indexed for the questions that translate asks.

use crate::gateway_api::GatewayApi;
use crate::{
    AuthorizationPolicy, BackendTls, ByHost, ClientTls, Credential, DefaultExport, DestinationRule, FetchedKeys,
    Gateway, MeshConfig, PeerPolicies, ProxyConfig, ProxyStart, RateLimit, RequestAuthentication, Sidecar,
    VirtualService, Visibility, authorization_policy, delegate, destination_rule, gateway, gateway_conflict,
    mesh_config, peer_authentication, policy_target, proxy_config, rate_limit, request_authentication, sidecar,
    virtual_service,
};
use envoyfilter::EnvoyFilter;
use model::{Host, Namespace, Port, ServiceKey};
use resource::{Document, Metadata, Resource, ResourceError, Secret, Source, Value, Warning};
use std::collections::BTreeMap;

/// What is wanted: the second of the five values. Replaced whole, never changed in place.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Intent {
    /// What holds for the whole mesh unless a resource says otherwise.
    pub mesh: MeshConfig,
    /// The Sidecar resources, in the order of the documents.
    pub sidecars: Vec<Sidecar>,
    /// The VirtualServices, delegations resolved, in the order of the documents.
    pub virtual_services: ByHost<VirtualService>,
    /// The DestinationRules, in the order of the documents.
    pub destination_rules: ByHost<DestinationRule>,
    /// The Gateways, in the order of the documents.
    pub gateways: Vec<Gateway>,
    /// The RateLimits, in the order of the documents.
    pub rate_limits: Vec<RateLimit>,
    /// The ProxyConfigs, in the order of the documents.
    pub proxy_configs: Vec<ProxyConfig>,
    /// The EnvoyFilters, in the order of the documents.
    pub envoy_filters: Vec<EnvoyFilter>,
    /// The AuthorizationPolicies, in the order of the documents.
    pub authorization_policies: Vec<AuthorizationPolicy>,
    /// The RequestAuthentications, in the order of the documents.
    pub request_authentications: Vec<RequestAuthentication>,
    /// The keys by which tokens are verified, as far as they were fetched.
    pub keys: FetchedKeys,
    /// What gateways show and trust, by the Secret's namespace and name.
    pub credentials: BTreeMap<(Namespace, String), Credential>,
    /// Whether a DestinationRule has zones share requests.
    pub shares_zones: bool,
    /// TLS that services' owners ask for, where no DestinationRule says otherwise.
    pub backend_tls: ByHost<BackendTls>,
    /// How callers of workloads come: the PeerAuthentications.
    pub peer_policies: PeerPolicies,
    /// What was written, but is not honoured.
    pub warnings: Vec<Warning>,
}

/// Istio's group of the kinds that say who may do what.
const SECURITY: &str = "security.istio.io/";
/// The part of a document that an [`Intent`] is made of.
#[derive(PartialEq)]
enum Part<'a> {
    All(&'a Document),
    /// What others may refer to.
    Service(&'a Metadata, &'a [Host], &'a [Port]),
}

/// The group and version of the kinds that are Isthmus's own.
const RATE_LIMIT: &str = "networking.isthmus.io/v1alpha1";
/// The groups whose kinds steer a mesh: what we do not know of them is worth a warning.
const STEERING: [&str; 8] = [
    "networking.isthmus.io/",
    "networking.istio.io/",
    "security.istio.io/",
    "telemetry.istio.io/",
    "extensions.istio.io/",
    "install.istio.io/",
    "gateway.networking.k8s.io/",
    "multicluster.x-k8s.io/",
];

// === impl Intent ===

impl Intent {
    /// The intent of `documents`; documents of kinds that are no configuration are passed over.
    /// All that is wrong is returned, not only the first.
    pub fn from_documents(documents: &[Document]) -> Result<Self, Vec<ResourceError>> {
        let (mut intent, gateway_api, errors) = Self::gather(documents);
        let rules = std::mem::take(&mut intent.destination_rules);
        intent.destination_rules = destination_rule::merged(rules, &mut intent.warnings).into_iter().collect();
        intent.shares_zones = intent.destination_rules.iter().any(DestinationRule::shares_zones);
        policy_target::find_entries(&mut intent, documents);
        gateway_conflict::warn(&intent.gateways, &mut intent.warnings);
        intent.peer_policies.settle(intent.mesh.root_namespace(), &mut intent.warnings);
        let services = std::mem::take(&mut intent.virtual_services);
        intent.virtual_services = delegate::joined(services, &mut intent.warnings).into_iter().collect();
        gateway_api.lower(&mut intent);
        if errors.is_empty() { Ok(intent) } else { Err(errors) }
    }

    /// As [`Intent::from_documents`], with every resource as it stands: DestinationRules are not joined, delegations
    /// not followed, the Gateway API not lowered, and what is wrong is left out.
    pub fn as_written(documents: &[Document]) -> (Self, Vec<ResourceError>) {
        let (intent, _, errors) = Self::gather(documents);
        (intent, errors)
    }

    /// What is wrong with each of `documents` for itself: nothing that depends on others. Whoever takes in files asks
    /// this first, so that a file that is wrong changes nothing.
    ///
    /// # Errors
    /// The first mistake of each document.
    pub fn check(documents: &[Document]) -> Result<(), Vec<ResourceError>> {
        let (mut intent, mut gateway_api) = (Self::default(), GatewayApi::default());
        let errors: Vec<_> =
            documents.iter().filter_map(|document| intent.add(document, &mut gateway_api).err()).collect();
        if errors.is_empty() { Ok(()) } else { Err(errors) }
    }

    /// Whether `old` and `new` come to the same for certain, because they are different at most in what nothing here is
    /// made of: workloads, and endpoints and addresses of ServiceEntries.
    pub fn is_same_of(old: &[Document], new: &[Document]) -> bool {
        old.iter().filter_map(Part::of).eq(new.iter().filter_map(Part::of))
    }

    fn gather(documents: &[Document]) -> (Self, GatewayApi, Vec<ResourceError>) {
        let mut intent = Self::default();
        let mut errors = Vec::new();
        let mut gateway_api = GatewayApi::default();
        let mut taken: BTreeMap<(&str, &str, &Namespace, &str), &Document> = BTreeMap::new();
        // What holds for the whole mesh comes first: others are read by it.
        let (mesh, others): (Vec<&Document>, Vec<&Document>) =
            documents.iter().partition(|document| mesh_config::is_mesh(document));
        for document in mesh.into_iter().chain(others) {
            gateway_api.note(document);
            match intent.add(document, &mut gateway_api) {
                Ok(false) => {}
                Ok(true) => {
                    let metadata = &document.metadata;
                    let group = document.api_version.split_once('/').map_or("", |(group, _)| group);
                    let key = (group, document.kind.as_str(), &metadata.namespace, metadata.name.as_str());
                    if let Some(first) = taken.insert(key, document) {
                        errors.push(twice(document, first));
                    }
                }
                Err(error) => errors.push(error),
            }
        }
        (intent, gateway_api, errors)
    }

    /// The namespace whose resources are for the whole mesh.
    pub fn root_namespace(&self) -> &str {
        self.mesh.root_namespace()
    }

    /// The one Sidecar for a workload of these labels: that which selects it, else its namespace's, else the root
    /// namespace's. Among equals the first wins.
    pub fn sidecar_for(&self, namespace: &Namespace, labels: &BTreeMap<String, String>) -> Option<&Sidecar> {
        let here = || self.sidecars.iter().filter(|sidecar| sidecar.namespace == *namespace);
        let root = || self.sidecars.iter().filter(|sidecar| sidecar.namespace.as_str() == self.root_namespace());
        let is_general = |sidecar: &&Sidecar| sidecar.workload_selector.is_none();
        here()
            .find(|sidecar| sidecar.workload_selector.as_ref().is_some_and(|wanted| bears(labels, wanted)))
            .or_else(|| here().find(is_general))
            .or_else(|| root().find(is_general))
    }

    /// How the proxy of a workload of these labels is started: what is nearest to it goes before.
    pub fn start_of(&self, namespace: &Namespace, labels: &BTreeMap<String, String>) -> ProxyStart {
        let of = |at: &str, wanted: &dyn Fn(&ProxyConfig) -> bool| {
            self.proxy_configs.iter().find(|config| config.namespace.as_str() == at && wanted(config))
        };
        let is_general = |config: &ProxyConfig| config.selector.is_none();
        let selects = |config: &ProxyConfig| config.selector.as_ref().is_some_and(|wanted| bears(labels, wanted));
        let own = namespace.as_str();
        let levels = [of(self.root_namespace(), &is_general), of(own, &is_general), of(own, &selects)];
        levels.into_iter().flatten().fold(self.mesh.proxies.start.clone(), |start, nearer| start.under(&nearer.start))
    }

    /// The VirtualService that sidecars in `namespace` follow for `port` of `host`: the one that names the host most
    /// closely; among equals that of their own namespace, then the first.
    pub fn virtual_service_for(&self, namespace: &Namespace, host: &Host, port: u16) -> Option<&VirtualService> {
        let is_for = |service: &&VirtualService| service.is_for_mesh() && service.port.is_none_or(|own| own == port);
        let of_port = self.virtual_services.of(namespace.as_str(), host).filter(is_for);
        let rank = |service: &VirtualService| Some((service.closeness(host)?, service.namespace == *namespace));
        let ranked = of_port.filter_map(|service| Some((rank(service)?, service)));
        // `max_by_key` would take the last of equals.
        ranked.reduce(|best, next| if next.0 > best.0 { next } else { best }).map(|(_, service)| service)
    }

    /// The VirtualServices that sidecars in `namespace` follow.
    pub fn mesh_services(&self, namespace: &Namespace) -> impl Iterator<Item = &VirtualService> {
        self.virtual_services
            .iter()
            .filter(move |service| service.is_for_mesh() && service.export_to.includes(namespace))
    }

    /// The Gateways that a proxy of these labels serves.
    pub fn gateways_for(
        &self,
        namespace: &Namespace,
        labels: &BTreeMap<String, String>,
    ) -> impl Iterator<Item = &Gateway> {
        let is_near = |gateway: &Gateway| !gateway.stays_in_namespace || gateway.namespace == *namespace;
        self.gateways.iter().filter(move |gateway| is_near(gateway) && bears(labels, &gateway.selector))
    }

    /// The DestinationRule by which a workload speaks to `service`: its own namespace's, else the service's, else the
    /// root namespace's; there the one that names the host most closely, one for the workload before one for all.
    pub fn destination_rule_for(
        &self,
        namespace: &Namespace,
        labels: &BTreeMap<String, String>,
        service: &ServiceKey,
    ) -> Option<&DestinationRule> {
        let is_for = |rule: &&DestinationRule| {
            let selects = |wanted| rule.namespace == *namespace && bears(labels, wanted);
            let selected = rule.workload_selector.as_ref().is_none_or(selects);
            rule.export_to.includes(namespace) && selected
        };
        let of = |at: &str| {
            let rank = |rule: &DestinationRule| {
                (rule.host == service.host, rule.host.as_str().len(), rule.workload_selector.is_some())
            };
            let here = self.destination_rules.of(at, &service.host).filter(is_for);
            // `max_by_key` would take the last of equals.
            here.reduce(|best, next| if rank(next) > rank(best) { next } else { best })
        };
        of(namespace.as_str()).or_else(|| of(service.namespace.as_str())).or_else(|| of(self.root_namespace()))
    }

    /// TLS that the owner of `host` asks for at its port of this name: what is said of the port, or else of all.
    pub fn backend_tls_for(&self, host: &Host, port: Option<&str>) -> Option<&ClientTls> {
        let here = || self.backend_tls.of("", host).filter(|tls| tls.host == *host);
        let of = |name: Option<&str>| here().find(|tls| tls.port.as_deref() == name);
        port.and_then(|name| of(Some(name))).or_else(|| of(None)).map(|found| &found.tls)
    }

    /// Takes in one document; whether it is of a kind that is honoured.
    fn add(&mut self, document: &Document, gateway_api: &mut GatewayApi) -> Result<bool, ResourceError> {
        let mut source = Source::new(&document.position.file);
        let spec = match &document.resource {
            Resource::Other(spec) => spec,
            Resource::Secret(secret) => return self.add_credential(document, secret),
            Resource::ConfigMap(map) if mesh_config::is_mesh(document) => {
                self.mesh = mesh_config::read(document, map, &mut source)?;
                self.warnings.append(&mut source.warnings);
                return Ok(true);
            }
            _ => return Ok(false),
        };
        let says_who = spec.get("exportTo").is_some_and(|export| export.value != Value::Null);
        let unless_said = |read: Visibility, default: &DefaultExport| {
            if says_who { read } else { default.of(&document.metadata.namespace) }
        };
        let is_ours = document.api_version.starts_with("networking.istio.io/");
        match document.kind.as_str() {
            "Sidecar" if is_ours => self.sidecars.push(sidecar::read(document, spec, &mut source)?),
            "VirtualService" if is_ours => {
                let mut read = virtual_service::read(document, spec, &mut source)?;
                read.export_to = unless_said(read.export_to, &self.mesh.virtual_service_export);
                self.virtual_services.push(read);
            }
            "DestinationRule" if is_ours => {
                let mut read = destination_rule::read(document, spec, &mut source)?;
                read.export_to = unless_said(read.export_to, &self.mesh.destination_rule_export);
                self.destination_rules.push(read);
            }
            "Gateway" if is_ours => self.gateways.push(gateway::read(document, spec, &mut source)?),
            "ProxyConfig" if is_ours => self.proxy_configs.push(proxy_config::read(document, spec, &mut source)?),
            "EnvoyFilter" if is_ours => self.envoy_filters.push(EnvoyFilter::read(document, spec, &mut source)?),
            "PeerAuthentication" if document.api_version.starts_with(SECURITY) => {
                let read = peer_authentication::read(document, spec, &mut source)?;
                self.peer_policies.add(read, &document.position);
            }
            "AuthorizationPolicy" if document.api_version.starts_with(SECURITY) => {
                let read = authorization_policy::read(document, spec, self.root_namespace(), &mut source)?;
                self.authorization_policies.push(read);
            }
            "RequestAuthentication" if document.api_version.starts_with(SECURITY) => {
                self.request_authentications.push(request_authentication::read(document, spec, &mut source)?);
            }
            "RateLimit" if document.api_version == RATE_LIMIT => {
                self.rate_limits.push(rate_limit::read(document, spec, &mut source)?);
            }
            _ if gateway_api.add(document, spec, &mut source)? => {}
            _ => return Ok(self.pass_over(document)),
        }
        self.warnings.append(&mut source.warnings);
        Ok(true)
    }

    fn add_credential(&mut self, document: &Document, secret: &Secret) -> Result<bool, ResourceError> {
        let Some(credential) = Credential::read(secret, &document.position)? else { return Ok(false) };
        let metadata = &document.metadata;
        self.credentials.insert((metadata.namespace.clone(), metadata.name.clone()), credential);
        Ok(true)
    }

    fn pass_over(&mut self, document: &Document) -> bool {
        if STEERING.iter().any(|group| document.api_version.starts_with(group)) {
            self.warnings.push(unknown(document));
        }
        false
    }
}

// === impl Part ===

impl<'a> Part<'a> {
    /// None if nothing is made of `document`.
    fn of(document: &'a Document) -> Option<Self> {
        match &document.resource {
            Resource::WorkloadEntry(_) | Resource::WorkloadGroup(_) => None,
            Resource::ServiceEntry(entry) => Some(Self::Service(&document.metadata, &entry.hosts, &entry.ports)),
            Resource::Secret(_) | Resource::ConfigMap(_) | Resource::Other(_) => Some(Self::All(document)),
        }
    }
}

pub(crate) fn bears(labels: &BTreeMap<String, String>, wanted: &BTreeMap<String, String>) -> bool {
    wanted.iter().all(|(key, value)| labels.get(key) == Some(value))
}

fn twice(document: &Document, first: &Document) -> ResourceError {
    ResourceError {
        position: document.position.clone(),
        path: "metadata.name".to_owned(),
        value: format!("{:?}", document.metadata.name),
        expected: format!("each {} once in a namespace; the other is at {}", document.kind, first.position),
    }
}

fn unknown(document: &Document) -> Warning {
    Warning {
        position: document.position.clone(),
        path: "kind".to_owned(),
        message: format!("{} of {} is not supported yet: ignored", document.kind, document.api_version),
    }
}
