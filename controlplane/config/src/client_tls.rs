//! TLS towards a service.

use resource::{Field, ResourceError};

/// How TLS is spoken towards a service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientTls {
    /// Whether, and with whose certificate.
    pub mode: TlsMode,
    /// The server name; the service's, or that of the request, if absent.
    pub sni: Option<String>,
    /// The names of which the server must show one; those of the service if empty.
    pub subject_alt_names: Vec<String>,
    /// A file of the roots; the system's if absent.
    pub ca_certificates: Option<String>,
    /// A file of what the roots have revoked.
    pub revoked: Option<String>,
    /// The secret of the certificate and the roots, instead of files; see [`ClientTls::for_sidecars`].
    pub credential: Option<String>,
    /// The roots themselves as PEM, in place of a file.
    pub roots: Option<String>,
    /// Whether any certificate will do.
    pub insecure: bool,
}

/// Whether TLS is spoken, and with whose certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TlsMode {
    /// It is not.
    Disable,
    /// Without a certificate of our own.
    Simple,
    /// With one of our own: the files of the chain and of the key, unless a secret holds them.
    Mutual(Option<(String, String)>),
    /// With the workload's identity.
    IstioMutual,
}

const FIELDS: &[&str] = &[
    "mode",
    "clientCertificate",
    "privateKey",
    "caCertificates",
    "credentialName",
    "subjectAltNames",
    "sni",
    "insecureSkipVerify",
    "caCrl",
];

// === impl ClientTls ===

impl ClientTls {
    /// TLS without a certificate of our own, verified by the system's roots.
    pub(crate) fn simple(sni: String) -> Self {
        Self {
            mode: TlsMode::Simple,
            sni: Some(sni),
            subject_alt_names: Vec::new(),
            ca_certificates: None,
            revoked: None,
            credential: None,
            roots: None,
            insecure: false,
        }
    }

    pub(crate) fn read(at: &Field<'_>) -> Result<Option<Self>, ResourceError> {
        if !at.is_present() {
            return Ok(None);
        }
        let fields = at.fields(FIELDS)?;
        let text = |name: &str| -> Result<Option<String>, ResourceError> {
            Ok(fields.get(name).text()?.filter(|text| !text.is_empty()).map(str::to_owned))
        };
        let mode = fields.get("mode");
        let (certificate, key) = (text("clientCertificate")?, text("privateKey")?);
        let (roots, revoked, credential) = (text("caCertificates")?, text("caCrl")?, text("credentialName")?);
        let mode = match mode.text()? {
            None | Some("DISABLE") => TlsMode::Disable,
            Some("SIMPLE") => TlsMode::Simple,
            Some("ISTIO_MUTUAL") => TlsMode::IstioMutual,
            Some("MUTUAL") if credential.is_some() => TlsMode::Mutual(None),
            Some("MUTUAL") => match (certificate.clone(), key.clone()) {
                (Some(certificate), Some(key)) => TlsMode::Mutual(Some((certificate, key))),
                _ => return Err(mode.refuse("MUTUAL with clientCertificate and privateKey, or with credentialName")),
            },
            Some(_) => return Err(mode.refuse("DISABLE, SIMPLE, MUTUAL or ISTIO_MUTUAL")),
        };
        let own = [("clientCertificate", certificate), ("privateKey", key)];
        if mode == TlsMode::IstioMutual
            && let Some((name, _)) = own.iter().find(|(_, value)| value.is_some())
        {
            return Err(fields.get(name).refuse("no certificate of your own with ISTIO_MUTUAL"));
        }
        let files = own.into_iter().chain([("caCertificates", roots.clone()), ("caCrl", revoked.clone())]);
        if credential.is_some()
            && matches!(mode, TlsMode::Simple | TlsMode::Mutual(_))
            && let Some((name, _)) = files.into_iter().find(|(_, value)| value.is_some())
        {
            return Err(fields.get(name).refuse("no files beside credentialName"));
        }
        Ok(Some(Self {
            mode,
            sni: text("sni")?,
            subject_alt_names: fields.get("subjectAltNames").text_items()?,
            ca_certificates: roots,
            revoked,
            credential,
            roots: None,
            insecure: fields.get("insecureSkipVerify").boolean()?.unwrap_or_default(),
        }))
    }

    /// The same as sidecars follow it: they take a secret only from a rule that is for chosen workloads (Istio's rule),
    /// as `chosen` says of this one.
    #[must_use]
    pub fn for_sidecars(self, chosen: bool) -> Self {
        if chosen { self } else { Self { credential: None, ..self } }
    }
}
