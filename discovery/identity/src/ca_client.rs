//! Asks the certificate authority for a certificate, and believes its answer only after checking it.
//!
//! ```text
//! new key ─▶ CSR ─▶ CreateCertificate ─▶ our key? our identity? our roots? ─▶ WorkloadCertificate
//! ```

use crate::verifier::{Usage, verify_chain};
use crate::{
    Bundles, Expected, Identity, IdentityError, WorkloadCertificate, anonymous_client_config, client_config, grpc,
    provider, server_name,
};
use api::istio::ca::IstioCertificateRequest;
use api::istio::ca::istio_certificate_service_client::IstioCertificateServiceClient;
use model::WorkloadIdentity;
use rcgen::{CertificateParams, KeyPair, SanType};
use rustls::ClientConfig;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivatePkcs8KeyDer, UnixTime};
use std::sync::Arc;
use std::time::Duration;
use tonic::Request;
use tonic::metadata::MetadataValue;

/// From connecting to the answer.
const TIMEOUT: Duration = Duration::from_secs(15);
/// The most bytes that an answer may have.
const MAX_ANSWER: usize = 64 << 10;

/// Where the certificate authority is, and who it must be.
#[derive(Debug, Clone)]
pub struct CaClient {
    /// `HOST:PORT`.
    pub address: String,
    /// Sent as SNI, e.g. `istiod.istio-system.svc`.
    pub server_name: String,
    /// Who must answer, e.g. exactly `spiffe://TD/ns/isthmus-system/sa/controlplane`.
    pub expected: Expected,
    /// For how long certificates are asked; the authority may grant less.
    pub ttl: Duration,
}

/// A new P-256 key. It never leaves this process.
pub struct CsrKey(KeyPair);

// === impl CsrKey ===

impl CsrKey {
    /// A new key.
    pub fn generate() -> Result<Self, IdentityError> {
        Ok(Self(KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256)?))
    }

    /// A PKCS#10 request for `identity`, as PEM.
    pub fn request(&self, identity: &WorkloadIdentity) -> Result<String, IdentityError> {
        let mut params = CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.subject_alt_names = vec![SanType::URI(identity.to_string().try_into()?)];
        Ok(params.serialize_request(&self.0)?.pem()?)
    }

    /// The key as PKCS#8 PEM. It is a secret.
    pub fn to_pem(&self) -> String {
        self.0.serialize_pem()
    }
}

/// The first certificate of `identity`, granted for a bearer `token`. The authority is verified by `bundles`.
pub async fn enroll(
    ca: &CaClient,
    bundles: &Bundles,
    identity: &WorkloadIdentity,
    token: &str,
) -> Result<WorkloadCertificate, IdentityError> {
    let tls = anonymous_client_config(bundles.clone(), ca.expected.clone(), &[b"h2"]);
    ask(ca, tls, bundles, identity, Some(token)).await
}

/// The next certificate of `identity`, granted for its present one.
pub(crate) async fn reissue(ca: &CaClient, identity: &Identity) -> Result<WorkloadCertificate, IdentityError> {
    let tls = client_config(identity, ca.expected.clone(), &[b"h2"]);
    ask(ca, tls, &identity.bundles(), &identity.id(), None).await
}

async fn ask(
    ca: &CaClient,
    tls: Arc<ClientConfig>,
    bundles: &Bundles,
    identity: &WorkloadIdentity,
    token: Option<&str>,
) -> Result<WorkloadCertificate, IdentityError> {
    let key = CsrKey::generate()?;
    let request = request(&key, identity, ca.ttl, token)?;
    let name = server_name(&ca.server_name)?;
    let answer = async {
        let channel = grpc::connect(&ca.address, tls, name).await?;
        let mut client = IstioCertificateServiceClient::new(channel).max_decoding_message_size(MAX_ANSWER);
        let answer = client.create_certificate(request).await.map_err(Box::new)?;
        Ok::<_, IdentityError>(answer.into_inner().cert_chain)
    };
    let late =
        |_| IdentityError::Unreachable { address: ca.address.clone(), reason: format!("no answer within {TIMEOUT:?}") };
    let chain = tokio::time::timeout(TIMEOUT, answer).await.map_err(late)??;
    accept(&key, &chain, bundles, identity)
}

fn request(
    key: &CsrKey,
    identity: &WorkloadIdentity,
    ttl: Duration,
    token: Option<&str>,
) -> Result<Request<IstioCertificateRequest>, IdentityError> {
    let validity_duration = i64::try_from(ttl.as_secs()).unwrap_or(i64::MAX);
    let mut request =
        Request::new(IstioCertificateRequest { csr: key.request(identity)?, validity_duration, metadata: None });
    if let Some(token) = token {
        // The reason never repeats the token.
        let mut value = MetadataValue::try_from(format!("Bearer {}", token.trim()))
            .map_err(|_| IdentityError::malformed("token", "it has characters that no header may have"))?;
        value.set_sensitive(true);
        request.metadata_mut().insert("authorization", value);
    }
    Ok(request)
}

/// An answer is ours only if its leaf has our key and our identity, and our own roots vouch for it.
fn accept(
    key: &CsrKey,
    chain: &[String],
    bundles: &Bundles,
    identity: &WorkloadIdentity,
) -> Result<WorkloadCertificate, IdentityError> {
    let chain = chain
        .iter()
        .flat_map(|text| CertificateDer::pem_slice_iter(text.as_bytes()))
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| IdentityError::malformed("certificate chain", error))?;
    let certificate = WorkloadCertificate::from_der(chain, PrivatePkcs8KeyDer::from(key.0.serialize_der()).into())?;
    if certificate.identity != *identity {
        let (asked, found) = (identity.clone(), certificate.identity);
        return Err(IdentityError::WrongIdentity { asked, found });
    }
    let algorithms = provider().signature_verification_algorithms;
    let (leaf, above) = certificate.chain.split_first().expect("a WorkloadCertificate has a leaf");
    for usage in [Usage::Server, Usage::Client] {
        verify_chain(bundles, &algorithms, leaf, above, UnixTime::now(), usage)
            .map_err(|error| IdentityError::Untrusted(error.to_string()))?;
    }
    Ok(certificate)
}
