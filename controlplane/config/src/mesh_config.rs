//! MeshConfig: what holds for the whole mesh unless a resource says otherwise. It stands where Istio has it: under the key
//! `mesh` of the ConfigMap `istio` in `istio-system`.

use crate::connection_pool::keepalive;
use crate::field::namespace;
use crate::{Keepalive, LocalitySetting, OutboundPolicy, ProxyDefaults, Retries, Visibility};
use model::{Namespace, TrustDomain};
use resource::{ConfigMap, Document, Field, Resource, ResourceError, Source, embedded};
use std::collections::BTreeSet;
use std::time::Duration;

/// What holds for the whole mesh; what is absent is as Isthmus does it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct MeshConfig {
    /// What happens to requests to destinations that nobody declared.
    pub outbound_policy: Option<OutboundPolicy>,
    /// Whether what is for a workload is sent to its loopback address.
    pub inbound_to_loopback: bool,
    /// How long connecting may take.
    pub connect_timeout: Option<Duration>,
    /// How connections are probed.
    pub keepalive: Option<Keepalive>,
    /// Whether HTTP/1.1 becomes HTTP/2.
    pub h2_upgrade: bool,
    /// What localities have to do with the choice of an endpoint.
    pub locality: Option<LocalitySetting>,
    /// When a request is tried again.
    pub retries: Option<Retries>,
    /// How long a connection from a workload may be silent before it counts as bytes.
    pub detection_timeout: Option<Duration>,
    /// The namespace whose resources are for the whole mesh; `istio-system` if absent.
    pub root_namespace: Option<Namespace>,
    /// Who sees a service that does not say.
    pub service_export: DefaultExport,
    /// Former names of the trust domain: AuthorizationPolicies that name one of them mean all.
    pub trust_domain_aliases: Vec<TrustDomain>,
    /// Who sees a VirtualService that does not say.
    pub virtual_service_export: DefaultExport,
    /// Who sees a DestinationRule that does not say.
    pub destination_rule_export: DefaultExport,
    /// What is done to paths before anybody reads them.
    pub paths: PathNormalization,
    /// What holds for all proxies.
    pub proxies: ProxyDefaults,
}

/// What is done to the paths of requests before routes, policies and upstreams read them. Each does what those before it
/// do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum PathNormalization {
    /// Nothing.
    None,
    /// Dot segments are resolved, escapes undone that need not be, backslashes turned.
    Base,
    /// Slashes are merged.
    MergeSlashes,
    /// Escaped slashes are slashes. Stricter than Istio's default, which leaves to an application what it takes `//` and
    /// `%2F` for.
    #[default]
    DecodeAndMergeSlashes,
}

/// Who sees resources that do not say.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum DefaultExport {
    /// All.
    #[default]
    All,
    /// The namespaces that are named, and that of the resource itself if it is set.
    Namespaces(BTreeSet<Namespace>, bool),
}

/// The fields that Istio has and that are not honoured, or not here.
const ELSEWHERE: &[&str] = &[
    "accessLogEncoding",
    "accessLogFile",
    "accessLogFormat",
    "ca",
    "caCertificates",
    "certificates",
    "configSources",
    "defaultProviders",
    "disableEnvoyListenerLog",
    "discoverySelectors",
    "dnsRefreshRate",
    "enableAutoMtls",
    "enableEnvoyAccessLogService",
    "enablePrometheusMerge",
    "enableTracing",
    "extensionProviders",
    "hboneIdleTimeout",
    "ingressClass",
    "ingressControllerMode",
    "ingressSelector",
    "ingressService",
    "meshMTLS",
    "mixerCheckServer",
    "proxyHttpPort",
    "proxyInboundListenPort",
    "proxyListenPort",
    "serviceScopeConfigs",
    "serviceSettings",
    "tlsDefaults",
    "trustDomain",
    "verifyCertificateAtClient",
];
const FIELDS: &[&str] = &[
    "connectTimeout",
    "defaultConfig",
    "defaultDestinationRuleExportTo",
    "defaultHttpRetryPolicy",
    "defaultServiceExportTo",
    "defaultVirtualServiceExportTo",
    "h2UpgradePolicy",
    "inboundTrafficPolicy",
    "localityLbSetting",
    "outboundTrafficPolicy",
    "pathNormalization",
    "protocolDetectionTimeout",
    "rootNamespace",
    "tcpKeepalive",
    "trustDomainAliases",
];
const NAME: &str = "istio";
const KEY: &str = "mesh";
const PATH: &str = "data.mesh";
const NAMESPACE: &str = "istio-system";
const LEAST: Duration = Duration::from_millis(1);
/// The namespace whose resources are for the whole mesh, unless it says otherwise.
const ROOT_NAMESPACE: &str = "istio-system";

/// Whether `document` is where the mesh's configuration stands.
pub(crate) fn is_mesh(document: &Document) -> bool {
    let metadata = &document.metadata;
    matches!(document.resource, Resource::ConfigMap(_))
        && metadata.name == NAME
        && metadata.namespace.as_str() == NAMESPACE
}

/// The MeshConfig in `map`, the ConfigMap that `document` is.
pub(crate) fn read(document: &Document, map: &ConfigMap, source: &mut Source) -> Result<MeshConfig, ResourceError> {
    let Some(text) = map.texts.get(KEY) else { return Ok(MeshConfig::default()) };
    let at = map.positions.get(KEY).unwrap_or(&document.position);
    let Some(tree) = embedded(text, at, PATH)? else { return Ok(MeshConfig::default()) };
    MeshConfig::read(&Field::new(&document.position.file, PATH, &tree), source)
}

// === impl MeshConfig ===

impl MeshConfig {
    /// The namespace whose resources are for the whole mesh.
    pub fn root_namespace(&self) -> &str {
        self.root_namespace.as_ref().map_or(ROOT_NAMESPACE, Namespace::as_str)
    }

    fn read(at: &Field<'_>, source: &mut Source) -> Result<Self, ResourceError> {
        let known: Vec<&str> = FIELDS.iter().chain(ELSEWHERE).copied().collect();
        let fields = at.fields(&known)?;
        for name in ELSEWHERE.iter().filter(|name| fields.get(name).is_present()) {
            source.warn(&fields.get(name), "not honoured here");
        }
        Ok(Self {
            outbound_policy: outbound(&fields.get("outboundTrafficPolicy"))?,
            inbound_to_loopback: inbound(&fields.get("inboundTrafficPolicy"))?,
            connect_timeout: fields.get("connectTimeout").duration(LEAST)?,
            keepalive: keepalive(&fields.get("tcpKeepalive"))?,
            h2_upgrade: upgrades(&fields.get("h2UpgradePolicy"))?,
            locality: LocalitySetting::read(&fields.get("localityLbSetting"))?,
            retries: Retries::read(&fields.get("defaultHttpRetryPolicy"))?,
            detection_timeout: fields
                .get("protocolDetectionTimeout")
                .duration(Duration::ZERO)?
                .filter(|t| !t.is_zero()),
            root_namespace: namespace(&fields.get("rootNamespace"))?,
            service_export: export(&fields.get("defaultServiceExportTo"))?,
            trust_domain_aliases: aliases(&fields.get("trustDomainAliases"))?,
            virtual_service_export: export(&fields.get("defaultVirtualServiceExportTo"))?,
            destination_rule_export: export(&fields.get("defaultDestinationRuleExportTo"))?,
            paths: paths(&fields.get("pathNormalization"))?,
            proxies: ProxyDefaults::read(&fields.get("defaultConfig"), source)?,
        })
    }
}

fn aliases(at: &Field<'_>) -> Result<Vec<TrustDomain>, ResourceError> {
    at.items()?.iter().map(Field::required).collect()
}

fn outbound(at: &Field<'_>) -> Result<Option<OutboundPolicy>, ResourceError> {
    let mode = at.fields(&["mode"])?.get("mode");
    match mode.text()? {
        None => Ok(at.is_present().then_some(OutboundPolicy::RegistryOnly)),
        Some("REGISTRY_ONLY") => Ok(Some(OutboundPolicy::RegistryOnly)),
        Some("ALLOW_ANY") => Ok(Some(OutboundPolicy::AllowAny)),
        Some(_) => Err(mode.refuse("REGISTRY_ONLY or ALLOW_ANY")),
    }
}

fn inbound(at: &Field<'_>) -> Result<bool, ResourceError> {
    let mode = at.fields(&["mode"])?.get("mode");
    match mode.text()? {
        None | Some("PASSTHROUGH") => Ok(false),
        Some("LOCALHOST") => Ok(true),
        Some(_) => Err(mode.refuse("PASSTHROUGH or LOCALHOST")),
    }
}

fn upgrades(at: &Field<'_>) -> Result<bool, ResourceError> {
    match at.text()? {
        None | Some("DO_NOT_UPGRADE") => Ok(false),
        Some("UPGRADE") => Ok(true),
        Some(_) => Err(at.refuse("DO_NOT_UPGRADE or UPGRADE")),
    }
}

fn paths(at: &Field<'_>) -> Result<PathNormalization, ResourceError> {
    let kind = at.fields(&["normalization"])?.get("normalization");
    match kind.text()? {
        None | Some("DEFAULT") => Ok(PathNormalization::default()),
        Some("NONE") => Ok(PathNormalization::None),
        Some("BASE") => Ok(PathNormalization::Base),
        Some("MERGE_SLASHES") => Ok(PathNormalization::MergeSlashes),
        Some("DECODE_AND_MERGE_SLASHES") => Ok(PathNormalization::DecodeAndMergeSlashes),
        Some(_) => Err(kind.refuse("DEFAULT, NONE, BASE, MERGE_SLASHES or DECODE_AND_MERGE_SLASHES")),
    }
}

fn export(at: &Field<'_>) -> Result<DefaultExport, ResourceError> {
    let (mut named, mut own) = (BTreeSet::new(), false);
    for item in at.items()? {
        match item.required_text()? {
            "*" => return Ok(DefaultExport::All),
            "." => own = true,
            "~" => {}
            _ => drop(named.insert(item.required()?)),
        }
    }
    Ok(if at.is_present() { DefaultExport::Namespaces(named, own) } else { DefaultExport::All })
}

// === impl DefaultExport ===

impl DefaultExport {
    /// Whether workloads of `asking` see what `namespace` has.
    pub fn includes(&self, namespace: &Namespace, asking: &Namespace) -> bool {
        match self {
            Self::All => true,
            Self::Namespaces(named, own) => named.contains(asking) || (*own && namespace == asking),
        }
    }

    /// Who sees a resource in `namespace`.
    pub(crate) fn of(&self, namespace: &Namespace) -> Visibility {
        match self {
            Self::All => Visibility::All,
            Self::Namespaces(named, own) => {
                Visibility::Namespaces(named.iter().cloned().chain(own.then(|| namespace.clone())).collect())
            }
        }
    }
}
