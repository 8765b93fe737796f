//! Istio's certificate-signing service: who asks, how often, and what they may have.

use crate::authority::{Authority, AuthorityError};
use crate::caller;
use crate::limit::RateLimit;
use crate::metrics::Metrics;
use crate::token::TokenKey;
use api::istio::ca::istio_certificate_service_server::IstioCertificateService;
use api::istio::ca::{IstioCertificateRequest, IstioCertificateResponse};
use model::WorkloadIdentity;
use serde::{Deserialize, Serialize};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tonic::{Code, Request, Response, Status};

/// Limits of the service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct ServiceSettings {
    /// How many certificates one identity may ask for in a minute. Default 60.
    pub requests_per_minute: u32,
}

/// Answers `istio.v1.auth.IstioCertificateService/CreateCertificate`.
#[derive(Clone)]
pub struct CertificateService {
    authority: Arc<Authority>,
    tokens: Arc<TokenKey>,
    limit: Arc<Mutex<RateLimit>>,
    metrics: Metrics,
}

// === impl ServiceSettings ===

impl Default for ServiceSettings {
    fn default() -> Self {
        Self { requests_per_minute: 60 }
    }
}

// === impl CertificateService ===

impl CertificateService {
    /// A service that signs with `authority`, for those whom `tokens` or their current certificate name.
    pub fn new(authority: Arc<Authority>, tokens: Arc<TokenKey>, metrics: Metrics) -> Self {
        Self::with_settings(authority, tokens, &ServiceSettings::default(), metrics)
    }

    /// The same, with other limits.
    pub fn with_settings(
        authority: Arc<Authority>,
        tokens: Arc<TokenKey>,
        settings: &ServiceSettings,
        metrics: Metrics,
    ) -> Self {
        metrics.set_root_expiry(authority.root_not_after());
        let limit = Arc::new(Mutex::new(RateLimit::new(settings.requests_per_minute)));
        Self { authority, tokens, limit, metrics }
    }

    fn answer(&self, request: Request<IstioCertificateRequest>) -> Result<IstioCertificateResponse, Status> {
        let caller = caller::identify(&request, &self.tokens)?;
        self.admit(&caller)?;
        let request = request.into_inner();
        let ttl = Duration::from_secs(request.validity_duration.try_into().unwrap_or_default());
        let cert_chain = self.authority.issue(&caller, &request.csr, ttl).map_err(|error| status(&error))?;
        tracing::info!(identity = %caller, "certificate issued");
        Ok(IstioCertificateResponse { cert_chain })
    }

    fn admit(&self, caller: &WorkloadIdentity) -> Result<(), Status> {
        let mut limit = self.limit.lock().unwrap_or_else(PoisonError::into_inner);
        limit.admit(caller, Instant::now()).map_err(|wait| {
            Status::resource_exhausted(format!("{caller} asks too often: try again in {} s", wait.as_secs() + 1))
        })
    }

    fn count(&self, code: Code) {
        let metric = match code {
            Code::Ok => &self.metrics.issued,
            Code::Unauthenticated | Code::PermissionDenied => &self.metrics.unauthenticated,
            Code::InvalidArgument => &self.metrics.malformed,
            Code::ResourceExhausted => &self.metrics.limited,
            _ => &self.metrics.failed,
        };
        metric.inc();
    }
}

#[tonic::async_trait]
impl IstioCertificateService for CertificateService {
    async fn create_certificate(
        &self,
        request: Request<IstioCertificateRequest>,
    ) -> Result<Response<IstioCertificateResponse>, Status> {
        self.metrics.requests.inc();
        let answer = self.answer(request);
        self.count(answer.as_ref().err().map_or(Code::Ok, Status::code));
        if let Err(status) = &answer {
            tracing::warn!(code = ?status.code(), reason = status.message(), "no certificate issued");
        }
        answer.map(Response::new)
    }
}

fn status(error: &AuthorityError) -> Status {
    match error {
        AuthorityError::Request(_) => Status::invalid_argument(error.to_string()),
        AuthorityError::Expiring => Status::unavailable(error.to_string()),
        _ => Status::internal(error.to_string()),
    }
}
