//! `proxyHeaders`: the header fields by which proxies tell of themselves (Istio's `ProxyConfig.ProxyHeaders`).

use crate::ClientCertificateDetails;
use crate::proxy_topology::certificate_details;
use resource::{Field, ResourceError, Source};

/// What proxies say of themselves; the default is what Istio's say.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ProxyHeaders {
    /// What becomes of `x-forwarded-client-cert` at a workload's own proxy.
    pub client_certificate: Option<ClientCertificateDetails>,
    /// No request gets an `x-request-id`; one that it has stays.
    pub no_request_id: bool,
    /// What the field `server` of responses says.
    pub server: ServerHeader,
    /// No request gets an `x-envoy-attempt-count`.
    pub no_attempt_count: bool,
    /// Nobody is told times and overload (`x-envoy-upstream-service-time`, `x-envoy-overloaded` and the like).
    pub no_debug: bool,
}

/// What the field `server` of responses says.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum ServerHeader {
    /// The proxy's own name.
    #[default]
    Proxy,
    /// This.
    Named(String),
    /// What the upstream says.
    Upstream,
}

const FIELDS: &[&str] = &["attemptCount", "envoyDebugHeaders", "forwardedClientCert", "requestId", "server"];
/// What Istio has beside them.
const ELSEWHERE: &[&str] = &[
    "metadataExchangeHeaders",
    "preserveHttp1HeaderCase",
    "setCurrentClientCertDetails",
    "xForwardedHost",
    "xForwardedPort",
];

// === impl ProxyHeaders ===

impl ProxyHeaders {
    pub(crate) fn read(at: &Field<'_>, source: &mut Source) -> Result<Self, ResourceError> {
        let known: Vec<&str> = FIELDS.iter().chain(ELSEWHERE).copied().collect();
        let fields = at.fields(&known)?;
        for name in ELSEWHERE.iter().filter(|name| fields.get(name).is_present()) {
            source.warn(&fields.get(name), "not honoured");
        }
        Ok(Self {
            client_certificate: certificate_details(&fields.get("forwardedClientCert"))?,
            no_request_id: disabled(&fields.get("requestId"))?,
            server: ServerHeader::read(&fields.get("server"))?,
            no_attempt_count: disabled(&fields.get("attemptCount"))?,
            no_debug: disabled(&fields.get("envoyDebugHeaders"))?,
        })
    }
}

// === impl ServerHeader ===

impl ServerHeader {
    fn read(at: &Field<'_>) -> Result<Self, ResourceError> {
        let fields = at.fields(&["disabled", "value"])?;
        let value = fields.get("value");
        let name = value.text()?.filter(|name| !name.is_empty());
        if name.is_some_and(|name| !name.bytes().all(|byte| (b' '..=b'~').contains(&byte))) {
            return Err(value.refuse("a value of a header field: visible ASCII and spaces"));
        }
        Ok(match name {
            _ if fields.get("disabled").boolean()?.unwrap_or_default() => Self::Upstream,
            Some(name) => Self::Named(name.to_owned()),
            None => Self::Proxy,
        })
    }
}

fn disabled(at: &Field<'_>) -> Result<bool, ResourceError> {
    Ok(at.fields(&["disabled"])?.get("disabled").boolean()?.unwrap_or_default())
}
