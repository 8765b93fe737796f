//! TLS as a gateway's server takes it.

use crate::tls_names::{CIPHERS, CURVES};
use model::Namespace;
use resource::{Field, Fields, ResourceError, Source};

/// What a gateway does with TLS at one server.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ServerTls {
    /// Whether requests in the clear are sent to `https`.
    pub redirects: bool,
    /// Where TLS ends, and whom it admits.
    pub mode: ServerTlsMode,
    /// What the server shows, and trusts.
    pub shown: Vec<Shown>,
    /// A file of the roots that clients are verified by.
    pub roots: Option<String>,
    /// A secret of the roots that clients are verified by.
    pub roots_secret: Option<String>,
    /// A file of the certificates that were revoked.
    pub revoked: Option<String>,
    /// The names of which a client must show one; any if empty.
    pub subject_alt_names: Vec<String>,
    /// SHA-256 of the public keys that clients may have, in base64; any if empty.
    pub public_keys: Vec<String>,
    /// SHA-256 of the certificates that clients may have, in hexadecimal; any if empty.
    pub certificates: Vec<String>,
    /// Whether clients are let in whose certificate does not hold: their names are their own word then.
    pub insecure: bool,
    /// The least version.
    pub least: Option<TlsVersion>,
    /// The greatest version.
    pub greatest: Option<TlsVersion>,
    /// The cipher suites of TLS 1.2; the proxy's own if empty.
    pub ciphers: Vec<String>,
    /// The key exchanges; the proxy's own if empty.
    pub curves: Vec<String>,
}

/// Where TLS ends at a gateway.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ServerTlsMode {
    /// At the service: the server name says where to.
    #[default]
    Passthrough,
    /// At the service, which the server name says in the mesh's own form.
    AutoPassthrough,
    /// Here; clients show nothing.
    Simple,
    /// Here; clients show a certificate.
    Mutual,
    /// Here; clients show a certificate, or none.
    OptionalMutual,
    /// Here, with the mesh's own identities on both sides.
    IstioMutual,
}

/// A certificate that a server shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Shown {
    /// From files: the chain, then the key.
    Files(String, String),
    /// From a secret of the gateway's namespace.
    Secret(String),
    /// From a secret of another namespace, which has granted it.
    Granted(Namespace, String),
}

/// A version of TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum TlsVersion {
    /// 1.2
    V12,
    /// 1.3
    V13,
}

/// What a server says of TLS.
pub(crate) const FIELDS: &[&str] = &[
    "httpsRedirect",
    "mode",
    "serverCertificate",
    "privateKey",
    "caCertificates",
    "caCrl",
    "credentialName",
    "credentialNames",
    "caCertCredentialName",
    "tlsCertificates",
    "subjectAltNames",
    "verifyCertificateSpki",
    "verifyCertificateHash",
    "minProtocolVersion",
    "maxProtocolVersion",
    "cipherSuites",
    "ecdhCurves",
    "insecureSkipVerify",
];
/// What is about clients that show a certificate from elsewhere.
const OF_CLIENTS: &[&str] = &[
    "caCertificates",
    "caCrl",
    "caCertCredentialName",
    "verifyCertificateSpki",
    "verifyCertificateHash",
    "insecureSkipVerify",
];
const NAMES: &str = "subjectAltNames";
const PARAMETERS: &[&str] = &["minProtocolVersion", "maxProtocolVersion", "cipherSuites", "ecdhCurves"];
const SHOWN: &[&str] = &["serverCertificate", "privateKey", "credentialName", "credentialNames", "tlsCertificates"];
const PAIR: &[&str] = &["serverCertificate", "privateKey", "caCertificates"];

// === impl ServerTls ===

impl ServerTls {
    pub(crate) fn read(at: &Field<'_>, source: &mut Source) -> Result<Option<Self>, ResourceError> {
        if !at.is_present() {
            return Ok(None);
        }
        let fields = at.fields(FIELDS)?;
        crate::exclusive(&fields, &["tlsCertificates", "credentialNames"])?;
        crate::exclusive(&fields, &["credentialName", "credentialNames"])?;
        let tls = Self {
            redirects: fields.get("httpsRedirect").boolean()?.unwrap_or_default(),
            mode: mode(&fields.get("mode"))?,
            shown: shown(&fields)?,
            roots: roots(&fields)?,
            roots_secret: text(&fields, "caCertCredentialName")?,
            revoked: text(&fields, "caCrl")?,
            subject_alt_names: fields.get("subjectAltNames").text_items()?,
            public_keys: fields.get("verifyCertificateSpki").text_items()?,
            certificates: fields.get("verifyCertificateHash").text_items()?,
            insecure: fields.get("insecureSkipVerify").boolean()?.unwrap_or_default(),
            least: version(&fields.get("minProtocolVersion"), source)?,
            greatest: version(&fields.get("maxProtocolVersion"), source)?,
            ciphers: CIPHERS.read(&fields.get("cipherSuites"), source)?,
            curves: CURVES.read(&fields.get("ecdhCurves"), source)?,
        };
        tls.check(&fields)?;
        tls.warn(&fields, source);
        Ok(Some(tls))
    }

    fn check(&self, fields: &Fields<'_>) -> Result<(), ResourceError> {
        let mode = fields.get("mode");
        if self.least.zip(self.greatest).is_some_and(|(least, greatest)| least > greatest) {
            return Err(fields.get("minProtocolVersion").refuse("a version that is not above maxProtocolVersion"));
        }
        match self.mode {
            ServerTlsMode::Simple | ServerTlsMode::Mutual | ServerTlsMode::OptionalMutual
                if self.shown.is_empty() && !self.redirects =>
            {
                Err(mode.refuse("a mode with a certificate: credentialName, or serverCertificate and privateKey"))
            }
            ServerTlsMode::Mutual | ServerTlsMode::OptionalMutual
                if self.roots.is_none()
                    && self.roots_secret.is_none()
                    && self.shown.iter().any(|shown| matches!(shown, Shown::Files(..))) =>
            {
                Err(mode.refuse("a mode with roots for the clients: caCertificates or caCertCredentialName"))
            }
            ServerTlsMode::IstioMutual if !self.shown.is_empty() => {
                Err(mode.refuse("no certificate of your own with ISTIO_MUTUAL"))
            }
            _ => Ok(()),
        }
    }

    /// Warns of what the mode leaves without effect.
    fn warn(&self, fields: &Fields<'_>, source: &mut Source) {
        let without = |names: &[&'static str], why: &str, source: &mut Source| {
            for at in names.iter().map(|name| fields.get(name)).filter(Field::is_present) {
                source.warn(&at, format!("without effect: {why}"));
            }
        };
        match self.mode {
            ServerTlsMode::Mutual | ServerTlsMode::OptionalMutual if self.insecure => {
                let at = fields.get("insecureSkipVerify");
                source.warn(&at, "clients get in with any certificate: what it says is their own word");
            }
            ServerTlsMode::Mutual | ServerTlsMode::OptionalMutual => {}
            ServerTlsMode::IstioMutual => {
                without(OF_CLIENTS, "ISTIO_MUTUAL verifies by the mesh's own roots", source);
                without(PARAMETERS, "ISTIO_MUTUAL is TLS 1.3 with the mesh's own parameters", source);
            }
            ServerTlsMode::Simple => {
                without(OF_CLIENTS, "only MUTUAL and OPTIONAL_MUTUAL ask for a certificate", source);
                without(&[NAMES], "only modes that ask for a certificate look at its names", source);
            }
            ServerTlsMode::Passthrough | ServerTlsMode::AutoPassthrough => {
                let why = "TLS does not end here";
                for names in [OF_CLIENTS, PARAMETERS, SHOWN, &[NAMES]] {
                    without(names, why, source);
                }
            }
        }
    }

    /// Whether TLS ends at the gateway.
    pub fn ends_here(&self) -> bool {
        !matches!(self.mode, ServerTlsMode::Passthrough | ServerTlsMode::AutoPassthrough)
    }
}

fn text(fields: &Fields<'_>, name: &str) -> Result<Option<String>, ResourceError> {
    Ok(fields.get(name).text()?.filter(|text| !text.is_empty()).map(str::to_owned))
}

fn mode(at: &Field<'_>) -> Result<ServerTlsMode, ResourceError> {
    Ok(match at.text()? {
        None | Some("PASSTHROUGH") => ServerTlsMode::Passthrough,
        Some("AUTO_PASSTHROUGH") => ServerTlsMode::AutoPassthrough,
        Some("SIMPLE") => ServerTlsMode::Simple,
        Some("MUTUAL") => ServerTlsMode::Mutual,
        Some("OPTIONAL_MUTUAL") => ServerTlsMode::OptionalMutual,
        Some("ISTIO_MUTUAL") => ServerTlsMode::IstioMutual,
        Some(_) => {
            let modes = "PASSTHROUGH, SIMPLE, MUTUAL, OPTIONAL_MUTUAL, ISTIO_MUTUAL or AUTO_PASSTHROUGH";
            return Err(at.refuse(modes));
        }
    })
}

/// One certificate, or a few of different key types.
fn shown(fields: &Fields<'_>) -> Result<Vec<Shown>, ResourceError> {
    if let Some(name) = text(fields, "credentialName")? {
        return Ok(vec![Shown::Secret(name)]);
    }
    let names = fields.get("credentialNames").text_items()?;
    if !names.is_empty() {
        return Ok(names.into_iter().map(Shown::Secret).collect());
    }
    let listed = fields.get("tlsCertificates").items()?;
    if listed.is_empty() {
        return Ok(files(fields)?.into_iter().collect());
    }
    let pair = |item: &Field<'_>| files(&item.fields(PAIR)?);
    listed.iter().filter_map(|item| pair(item).transpose()).collect()
}

/// The file of the clients' roots, wherever it stands: a listener has them once, whichever certificate it shows.
fn roots(fields: &Fields<'_>) -> Result<Option<String>, ResourceError> {
    let mut roots = text(fields, "caCertificates")?;
    for item in fields.get("tlsCertificates").items()? {
        let fields = item.fields(PAIR)?;
        match (text(&fields, "caCertificates")?, &roots) {
            (Some(own), Some(others)) if own != *others => {
                return Err(fields
                    .get("caCertificates")
                    .refuse(format!("the same roots as elsewhere in this tls, {others:?}")));
            }
            (own, _) => roots = own.or(roots),
        }
    }
    Ok(roots)
}

fn files(fields: &Fields<'_>) -> Result<Option<Shown>, ResourceError> {
    match (text(fields, "serverCertificate")?, text(fields, "privateKey")?) {
        (None, None) => Ok(None),
        (Some(chain), Some(key)) => Ok(Some(Shown::Files(chain, key))),
        (Some(_), None) => Err(fields.get("privateKey").refuse("the file of the certificate's key")),
        (None, Some(_)) => Err(fields.get("serverCertificate").refuse("the file of the key's certificate")),
    }
}

fn version(at: &Field<'_>, source: &mut Source) -> Result<Option<TlsVersion>, ResourceError> {
    Ok(match at.text()? {
        None | Some("TLS_AUTO") => None,
        Some("TLSV1_2") => Some(TlsVersion::V12),
        Some("TLSV1_3") => Some(TlsVersion::V13),
        Some("TLSV1_0" | "TLSV1_1") => {
            source.warn(at, "TLS before 1.2 is not spoken (RFC 8996): 1.2 it is");
            Some(TlsVersion::V12)
        }
        Some(_) => return Err(at.refuse("TLS_AUTO, TLSV1_0, TLSV1_1, TLSV1_2 or TLSV1_3")),
    })
}

// === impl Shown ===

impl Shown {
    /// The secret's name, if it is in one of the gateway's namespace.
    pub fn secret(&self) -> Option<&str> {
        match self {
            Self::Secret(name) => Some(name),
            Self::Files(..) | Self::Granted(..) => None,
        }
    }
}
