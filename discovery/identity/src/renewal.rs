//! A workload's certificate over its life: the first one by a token, every later one by the one before.
//!
//!     key made here ─▶ CSR ─▶ CreateCertificate ─▶ checked against our key and identity ─▶ Identity
//!                                 ▲ at half of life, with the current certificate ────────────┘

use crate::bundle::Bundles;
use crate::certificate::{CertificateError, WorkloadCertificate};
use crate::grpc;
use crate::tls::{Identity, anonymous_client_config, client_config};
use crate::verifier::Expected;
use api::istio::ca::IstioCertificateRequest;
use api::istio::ca::istio_certificate_service_client::IstioCertificateServiceClient;
use model::WorkloadIdentity;
use rand::RngExt;
use rcgen::{CertificateParams, KeyPair};
use rustls::ClientConfig;
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tonic::Request;

/// The longest wait between two attempts to renew.
const LAST_BACKOFF: Duration = Duration::from_secs(150);
const FIRST_BACKOFF: Duration = Duration::from_millis(200);
const CALL: Duration = Duration::from_secs(10);
const ALPN: &[&[u8]] = &[b"h2"];

/// The certificate authority, as its clients know it.
#[derive(Debug, Clone)]
pub struct CaClient {
    /// `HOST:PORT` of the control plane.
    pub address: String,
    /// The roots of the own trust domain.
    pub bundles: Bundles,
    /// Who the control plane must be.
    pub expected: Expected,
    /// The life that is asked for; the authority may grant less.
    pub ttl: Duration,
}

/// Why no certificate was had.
#[derive(Debug, thiserror::Error)]
pub enum EnrolError {
    /// The authority cannot be reached, or is not who it should be.
    #[error("certificate authority {0}: {1}")]
    Connect(String, tonic::transport::Error),
    /// It refused.
    #[error("certificate authority: {}: {}", .0.code(), .0.message())]
    Refused(#[from] tonic::Status),
    /// It answered with what is not our certificate.
    #[error("the certificate authority's answer: {0}")]
    Answer(#[from] CertificateError),
    /// It answered with somebody else's.
    #[error("the certificate authority answered with a certificate of {got}, {wanted} was asked for")]
    Identity {
        /// Whose it is.
        got: WorkloadIdentity,
        /// Who we are.
        wanted: WorkloadIdentity,
    },
    /// No key could be made.
    #[error("make a key: {0}")]
    Key(#[from] rcgen::Error),
}

/// How renewal stands, for metrics and for people.
#[derive(Debug, Clone, Default)]
pub struct Renewal {
    /// Certificates had since the start, the first not counted.
    pub renewed: u64,
    /// Attempts that failed.
    pub failed: u64,
    /// Why the last attempt failed, if it did.
    pub error: Option<String>,
}

/// Gets the first certificate of `identity`, by `token`.
///
/// # Errors
/// If the authority cannot be reached, refuses, or answers with something else.
pub async fn enrol(ca: &CaClient, identity: &WorkloadIdentity, token: &str) -> Result<WorkloadCertificate, EnrolError> {
    let tls = anonymous_client_config(ca.bundles.clone(), ca.expected.clone(), ALPN);
    ask(ca, tls, identity, Some(token)).await
}

/// Renews the certificate at half of its life until `shutdown`. What fails is tried again, with growing pauses of at
/// most 150 s; the old certificate serves until it expires.
pub async fn renew(identity: Identity, ca: CaClient, status: watch::Sender<Renewal>, shutdown: CancellationToken) {
    let mut backoff = FIRST_BACKOFF;
    let mut wait = until_half(&identity.certificate());
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = tokio::time::sleep(wait) => {}
        }
        let tls = client_config(&identity, ca.expected.clone(), ALPN);
        let outcome = match ask(&ca, tls, identity.id(), None).await {
            Ok(certificate) => identity.set_certificate(certificate).map_err(EnrolError::from),
            Err(error) => Err(error),
        };
        match outcome {
            Ok(()) => {
                backoff = FIRST_BACKOFF;
                wait = until_half(&identity.certificate());
                status.send_modify(|status| {
                    *status = Renewal { renewed: status.renewed + 1, error: None, ..status.clone() }
                });
            }
            Err(error) => {
                tracing::warn!(%error, "certificate not renewed");
                wait = backoff.mul_f64(rand::rng().random_range(0.5..1.5));
                backoff = (backoff * 2).min(LAST_BACKOFF);
                status
                    .send_modify(|status| (status.failed, status.error) = (status.failed + 1, Some(error.to_string())));
            }
        }
    }
}

async fn ask(
    ca: &CaClient,
    tls: Arc<ClientConfig>,
    identity: &WorkloadIdentity,
    token: Option<&str>,
) -> Result<WorkloadCertificate, EnrolError> {
    let key = KeyPair::generate()?;
    let csr = CertificateParams::default().serialize_request(&key)?.pem()?;
    let seconds = i64::try_from(ca.ttl.as_secs()).unwrap_or(i64::MAX);
    let mut request = Request::new(IstioCertificateRequest { csr, validity_duration: seconds, metadata: None });
    request.set_timeout(CALL);
    if let Some(token) = token {
        let value = format!("Bearer {}", token.trim()).parse();
        request.metadata_mut().insert(
            "authorization",
            value.map_err(|_| tonic::Status::invalid_argument("the token has characters that no token has"))?,
        );
    }
    let channel =
        grpc::connect(&ca.address, tls).await.map_err(|error| EnrolError::Connect(ca.address.clone(), error))?;
    let answer = IstioCertificateServiceClient::new(channel).create_certificate(request).await?.into_inner();
    let certificate = WorkloadCertificate::from_pem(&answer.cert_chain.concat(), &key.serialize_pem())?;
    if certificate.identity != *identity {
        return Err(EnrolError::Identity { got: certificate.identity, wanted: identity.clone() });
    }
    Ok(certificate)
}

/// Half of what is left of the certificate's life, give or take a hundredth of it. Counted from now and not from
/// `not_before`, which the authority sets back for the sake of slow clocks.
fn until_half(certificate: &WorkloadCertificate) -> Duration {
    let left = certificate.not_after.duration_since(SystemTime::now()).unwrap_or_default();
    left.mul_f64(0.5 + rand::rng().random_range(-0.01..0.01))
}
