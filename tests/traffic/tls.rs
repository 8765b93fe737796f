//! TLS as clients from outside of the mesh speak it.

use crate::certificates::Certificates;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, SignatureScheme};
use serde::Deserialize;
use std::io;
use std::sync::Arc;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// How a step of a case speaks TLS.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct TlsCase {
    /// The server that is asked for.
    pub name: String,
    /// The certificate that the client shows; none if absent.
    pub client: Option<String>,
    /// The version, 1.2 or 1.3, if only one is spoken.
    pub version: Option<String>,
    /// The cipher suites that are spoken, by the names of the RFCs; all if empty.
    pub suites: Vec<String>,
    /// The key exchanges that are spoken; all if empty.
    pub curves: Vec<String>,
    /// `RSA` or `ECDSA`, if only such keys are understood.
    pub keys: Option<String>,
    /// What is offered in ALPN.
    pub alpn: Vec<String>,
    /// The certificate that the server must show.
    pub shows: Option<String>,
}

/// Takes every certificate: which one is shown is looked at afterwards.
#[derive(Debug)]
struct Anybody(Vec<SignatureScheme>);

/// Shakes hands over `tcp` as `case` says, which offers `alpn` if the case says nothing of it.
///
/// # Errors
/// If the server refuses, or shows another certificate than expected.
pub async fn connect(
    tcp: TcpStream,
    case: &TlsCase,
    alpn: &[&str],
    certificates: &Certificates,
) -> io::Result<TlsStream<TcpStream>> {
    let name = ServerName::try_from(case.name.clone()).map_err(io::Error::other)?;
    let mut config = config(case, certificates).map_err(io::Error::other)?;
    let alpn = case.alpn.iter().map(String::as_str).chain(alpn.iter().copied().filter(|_| case.alpn.is_empty()));
    config.alpn_protocols = alpn.map(|name| name.as_bytes().to_vec()).collect();
    let stream = TlsConnector::from(Arc::new(config)).connect(name, tcp).await?;
    let shown = stream.get_ref().1.peer_certificates().and_then(|chain| certificates.name(chain.first()?));
    match &case.shows {
        Some(wanted) if shown != Some(wanted.as_str()) => {
            Err(io::Error::other(format!("the server shows {shown:?}, expected {wanted:?}")))
        }
        _ => Ok(stream),
    }
}

fn config(case: &TlsCase, certificates: &Certificates) -> anyhow::Result<ClientConfig> {
    let mut provider: CryptoProvider = aws_lc_rs::default_provider();
    let schemes = provider.signature_verification_algorithms.supported_schemes();
    let has = |scheme: &SignatureScheme| case.keys.as_ref().is_none_or(|kind| format!("{scheme:?}").contains(kind));
    if !case.suites.is_empty() {
        provider.cipher_suites.retain(|suite| case.suites.contains(&format!("{:?}", suite.suite())));
    }
    if !case.curves.is_empty() {
        provider.kx_groups.retain(|group| case.curves.contains(&format!("{:?}", group.name())));
    }
    let versions = match case.version.as_deref() {
        Some("1.2") => vec![&TLS12],
        Some("1.3") => vec![&TLS13],
        Some(other) => anyhow::bail!("{other:?} is not a version: 1.2 or 1.3 is expected"),
        None => vec![&TLS13, &TLS12],
    };
    let builder = ClientConfig::builder_with_provider(Arc::new(provider))
        .with_protocol_versions(&versions)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Anybody(schemes.into_iter().filter(has).collect())));
    match &case.client {
        None => Ok(builder.with_no_client_auth()),
        Some(name) => {
            let (certificate, key) = certificates.client(name)?;
            Ok(builder.with_client_auth_cert(vec![certificate], key)?)
        }
    }
}

// === impl Anybody ===

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &rustls::DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &rustls::DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.clone()
    }
}
