//! TLS towards a service.

use resource::{Field, ResourceError, Source};

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
    /// With one from files: the chain, then the key.
    Mutual(String, String),
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
            roots: None,
            insecure: false,
        }
    }

    pub(crate) fn read(at: &Field<'_>, source: &mut Source) -> Result<Option<Self>, ResourceError> {
        if !at.is_present() {
            return Ok(None);
        }
        let fields = at.fields(FIELDS)?;
        for name in ["credentialName", "caCrl"] {
            if fields.get(name).text()?.is_some() {
                source.warn(&fields.get(name), "not honoured yet");
            }
        }
        let text = |name: &str| -> Result<Option<String>, ResourceError> {
            Ok(fields.get(name).text()?.filter(|text| !text.is_empty()).map(str::to_owned))
        };
        let mode = fields.get("mode");
        let (certificate, key) = (text("clientCertificate")?, text("privateKey")?);
        let mode = match mode.text()? {
            None | Some("DISABLE") => TlsMode::Disable,
            Some("SIMPLE") => TlsMode::Simple,
            Some("ISTIO_MUTUAL") => TlsMode::IstioMutual,
            Some("MUTUAL") => match (certificate.clone(), key.clone()) {
                (Some(certificate), Some(key)) => TlsMode::Mutual(certificate, key),
                _ => return Err(mode.refuse("MUTUAL with clientCertificate and privateKey")),
            },
            Some(_) => return Err(mode.refuse("DISABLE, SIMPLE, MUTUAL or ISTIO_MUTUAL")),
        };
        let own = [("clientCertificate", certificate), ("privateKey", key)];
        if mode == TlsMode::IstioMutual
            && let Some((name, _)) = own.iter().find(|(_, value)| value.is_some())
        {
            return Err(fields.get(name).refuse("no certificate of your own with ISTIO_MUTUAL"));
        }
        Ok(Some(Self {
            mode,
            sni: text("sni")?,
            subject_alt_names: fields.get("subjectAltNames").text_items()?,
            ca_certificates: text("caCertificates")?,
            roots: None,
            insecure: fields.get("insecureSkipVerify").boolean()?.unwrap_or_default(),
        }))
    }
}
