//! The codes of messages: Istio's where the meaning is Istio's, else our own.

use crate::Severity::{self, Error, Info, Warning};

/// A sort of message.
#[derive(Debug, PartialEq, Eq)]
pub struct Code {
    /// What it is known by, e.g. `IST0101`.
    pub id: &'static str,
    /// Its name, e.g. `ReferencedResourceNotFound`.
    pub name: &'static str,
    /// How bad such a thing is.
    pub severity: Severity,
}

macro_rules! codes {
    ($($constant:ident = $id:literal $name:literal $severity:ident $what:literal;)*) => {
        $(
            #[doc = concat!($what, ".")]
            pub const $constant: &Code = &Code { id: $id, name: $name, severity: $severity };
        )*
        /// All codes, each with what it says.
        pub const ALL: &[(&Code, &str)] = &[$(($constant, $what)),*];
    };
}

codes! {
    DEPRECATED = "IST0002" "Deprecated" Warning "A field that Istio gives up";
    NOT_FOUND = "IST0101" "ReferencedResourceNotFound" Error "A resource names another that does not exist";
    SCHEMA = "IST0106" "SchemaValidationError" Error "A value, or a field, that is not accepted";
    MISPLACED_ANNOTATION = "IST0107" "MisplacedAnnotation" Warning "An annotation on a kind that does not take it";
    UNKNOWN_ANNOTATION = "IST0108" "UnknownAnnotation" Warning "An annotation, or a label, that nobody knows";
    MESH_HOSTS = "IST0109" "ConflictingMeshGatewayVirtualServiceHosts" Error
        "Several VirtualServices for the mesh route the same host";
    SIDECAR_SELECTORS = "IST0110" "ConflictingSidecarWorkloadSelectors" Error
        "Several Sidecars select the same workload";
    GENERAL_SIDECARS = "IST0111" "MultipleSidecarsWithoutWorkloadSelectors" Error
        "Several Sidecars of a namespace select all of its workloads";
    PORT_REQUIRED = "IST0112" "VirtualServiceDestinationPortSelectorRequired" Error
        "A destination without a port, whose service has several";
    PORT_NAME = "IST0118" "PortNameIsNotUnderNamingConvention" Info
        "A Service's port whose name does not begin with a protocol";
    NO_WORKLOAD = "IST0127" "NoMatchingWorkloadsFound" Warning "A selector that selects no workload";
    NO_CA = "IST0128" "NoServerCertificateVerificationDestinationLevel" Warning
        "TLS towards a service without roots of its own";
    NO_CA_AT_PORT = "IST0129" "NoServerCertificateVerificationPortLevel" Warning
        "TLS towards a port of a service without roots of its own";
    UNREACHABLE = "IST0130" "VirtualServiceUnreachableRule" Warning "A route that is never taken";
    INEFFECTIVE = "IST0131" "VirtualServiceIneffectiveMatch" Info "A condition that an earlier route takes already";
    HOST_NOT_IN_GATEWAY = "IST0132" "VirtualServiceHostNotFoundInGateway" Warning
        "A host that the named Gateway does not serve";
    SCHEMA_WARNING = "IST0133" "SchemaWarning" Warning "A value that is accepted, but not honoured as it stands";
    ADDRESSES_REQUIRED = "IST0134" "ServiceEntryAddressesRequired" Warning
        "A ServiceEntry of TCP that has no address and gets none";
    DUPLICATE_CERTIFICATE = "IST0138" "GatewayDuplicateCertificate" Warning
        "Several Gateways show the same certificate for different hosts";
    GATEWAYS = "IST0145" "ConflictingGateways" Error "Several Gateways serve the same hosts at the same port";
    RELATIVE_PATCH = "IST0151" "EnvoyFilterUsesRelativeOperation" Warning
        "A patch relative to what others leave, without a priority";
    REPLACE_PATCH = "IST0152" "EnvoyFilterUsesReplaceOperationIncorrectly" Error
        "REPLACE of something other than a filter";
    ADD_PATCH = "IST0153" "EnvoyFilterUsesAddOperationIncorrectly" Error "ADD of a route configuration or an HTTP route";
    REMOVE_PATCH = "IST0154" "EnvoyFilterUsesRemoveOperationIncorrectly" Error
        "REMOVE of a route configuration or an HTTP route";
    CREDENTIAL = "IST0161" "InvalidGatewayCredential" Error "A Secret that holds nothing a gateway could show or trust";
    UNKNOWN_CLUSTER = "ISTHMUS0001" "ExportToUnknownCluster" Error "An export to a cluster that is not of the mesh";
    RULE_WITHOUT_HOST = "ISTHMUS0002" "DestinationRuleHostNotFound" Warning
        "A DestinationRule for a host that nobody declares";
    EMPTY_SUBSET = "ISTHMUS0003" "SubsetWithoutEndpoints" Warning "A subset whose labels no endpoint bears";
    TWICE = "ISTHMUS0004" "ResourceStandsTwice" Error "A resource of the same kind, namespace and name stands elsewhere";
    HOST_TWICE = "ISTHMUS0005" "HostDeclaredTwice" Warning
        "A host that another ServiceEntry of the namespace declares already";
    NOT_RUN = "ISTHMUS0006" "ExpressionNotEvaluated" Warning "An expression of a CRD that cannot be evaluated here";
}
