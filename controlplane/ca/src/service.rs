//! Istio's certificate-signing service: who asks, and what they may have.

use crate::authority::{Authority, AuthorityError};
use crate::caller;
use crate::token::TokenKey;
use api::istio::ca::istio_certificate_service_server::IstioCertificateService;
use api::istio::ca::{IstioCertificateRequest, IstioCertificateResponse};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::registry::Registry;
use std::sync::Arc;
use std::time::Duration;
use tonic::{Request, Response, Status};

/// What the authority counts, under Istio's names.
#[derive(Debug, Clone, Default)]
pub struct Metrics {
    requests: Counter,
    issued: Counter,
    refused: Counter,
}

/// Answers `istio.v1.auth.IstioCertificateService/CreateCertificate`.
#[derive(Clone)]
pub struct CertificateService {
    authority: Arc<Authority>,
    tokens: Arc<TokenKey>,
    metrics: Metrics,
}

// === impl Metrics ===

impl Metrics {
    /// Registers the counters.
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        registry.register("citadel_server_csr", "Certificate requests received", metrics.requests.clone());
        registry.register("citadel_server_success_cert_issuance", "Certificates issued", metrics.issued.clone());
        registry.register(
            "citadel_server_authentication_failure",
            "Certificate requests whose sender could not be told",
            metrics.refused.clone(),
        );
        metrics
    }
}

// === impl CertificateService ===

impl CertificateService {
    /// A service that signs with `authority`, for those whom `tokens` or their current certificate name.
    pub fn new(authority: Arc<Authority>, tokens: Arc<TokenKey>, metrics: Metrics) -> Self {
        Self { authority, tokens, metrics }
    }
}

#[tonic::async_trait]
impl IstioCertificateService for CertificateService {
    async fn create_certificate(
        &self,
        request: Request<IstioCertificateRequest>,
    ) -> Result<Response<IstioCertificateResponse>, Status> {
        self.metrics.requests.inc();
        let caller = caller::identify(&request, &self.tokens).inspect_err(|_| drop(self.metrics.refused.inc()))?;
        let request = request.into_inner();
        let ttl = Duration::from_secs(request.validity_duration.try_into().unwrap_or_default());
        let chain = self.authority.issue(&caller, &request.csr, ttl).map_err(status)?;
        self.metrics.issued.inc();
        tracing::info!(identity = %caller, "certificate issued");
        Ok(Response::new(IstioCertificateResponse { cert_chain: chain }))
    }
}

fn status(error: AuthorityError) -> Status {
    match error {
        AuthorityError::Request(_) => Status::invalid_argument(error.to_string()),
        AuthorityError::Expiring => Status::unavailable(error.to_string()),
        _ => Status::internal(error.to_string()),
    }
}
