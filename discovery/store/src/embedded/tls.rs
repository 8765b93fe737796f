//! Mutual TLS for the embedded server: certificates bear SPIFFE ids, each verified by the roots of its own trust domain.
//! Certificate, key and roots are read again every minute, so that they can be renewed in place.

use super::settings::{KnownMember, Tls};
use crate::StoreError;
use identity::{Bundles, ClientAuth, Expected, Identity, WorkloadCertificate};
use model::{TrustBundle, WorkloadIdentity};
use std::fmt::Display;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;

/// How often the files are read again.
const RELOAD: Duration = Duration::from_mins(1);

/// What the server shows and whom it knows.
pub(super) struct Trust {
    pub(super) identity: Identity,
    pub(super) members: Arc<[KnownMember]>,
}

// === impl Trust ===

impl Trust {
    /// Reads the files that the settings name.
    pub(super) fn load(tls: &Tls) -> Result<Self, StoreError> {
        let (certificate, bundles, members) = read(tls)?;
        Ok(Self { identity: Identity::new(certificate, bundles), members: members.into() })
    }

    /// The configuration of the listener. It follows renewals by itself.
    pub(super) fn server_config(&self) -> Arc<rustls::ServerConfig> {
        identity::server_config(&self.identity, ClientAuth::Required, Expected::Any, &[b"h2"])
    }
}

/// Follows the files until shutdown. What cannot be read changes nothing.
pub(super) async fn follow(tls: Tls, identity: Identity, shutdown: CancellationToken) {
    while shutdown.run_until_cancelled(tokio::time::sleep(RELOAD)).await.is_some() {
        let files = tls.clone();
        match tokio::task::spawn_blocking(move || read(&files)).await {
            Ok(Ok((certificate, bundles, _))) => {
                identity.set_certificate(certificate);
                identity.set_bundles(bundles);
            }
            Ok(Err(error)) => tracing::warn!(%error, "the store's certificate stays as it was"),
            Err(error) => tracing::warn!(%error, "the store's certificate could not be read again"),
        }
    }
}

/// Who is at the other end of a finished handshake.
pub(super) fn peer(stream: &TlsStream<TcpStream>) -> Option<WorkloadIdentity> {
    identity::peer_identity(stream.get_ref().1.peer_certificates())
}

fn read(tls: &Tls) -> Result<(WorkloadCertificate, Bundles, Vec<KnownMember>), StoreError> {
    let chain = text("tls.certificate", &tls.certificate)?;
    let key = text("tls.key", &tls.key)?;
    let certificate = WorkloadCertificate::from_pem(&chain, &key).map_err(|error| refused("tls.certificate", error))?;
    let mut bundles = Vec::new();
    let mut members = Vec::new();
    for (name, member) in &tls.clusters {
        let field = |part: &str| format!("tls.clusters.{name}{part}");
        let cluster = name.parse().map_err(|error| refused(field(""), error))?;
        let trust_domain: model::TrustDomain =
            member.trust_domain.parse().map_err(|error| refused(field(".trustDomain"), error))?;
        let pem = text(field(".roots"), &member.roots)?.into();
        bundles.push(TrustBundle { trust_domain: trust_domain.clone(), pem });
        members.push(KnownMember { cluster, trust_domain });
    }
    let bundles = Bundles::new(&bundles).map_err(|error| refused("tls.clusters", error))?;
    Ok((certificate, bundles, members))
}

fn text(field: impl Into<String>, path: &Path) -> Result<String, StoreError> {
    std::fs::read_to_string(path).map_err(|error| refused(field, format!("{}: {error}", path.display())))
}

fn refused(field: impl Into<String>, message: impl Display) -> StoreError {
    StoreError::Settings { field: field.into(), message: message.to_string() }
}
