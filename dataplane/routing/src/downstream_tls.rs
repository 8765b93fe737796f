//! TLS that ends at the proxy: what it shows, and whom it admits.

use crate::decode::unpack;
use api::envoy::envoy::config::core::v3::{DataSource, TransportSocket, data_source::Specifier, transport_socket};
use api::envoy::envoy::extensions::transport_sockets::tls::v3 as proto;
use api::envoy::envoy::r#type::matcher::v3::string_matcher::MatchPattern;
use proto::certificate_validation_context::TrustChainVerification;
use proto::common_tls_context::ValidationContextType;
use proto::tls_parameters::TlsProtocol;
use std::path::PathBuf;
use std::sync::Arc;

/// TLS that ends at the proxy.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct DownstreamTls {
    /// What the proxy shows.
    pub shows: Shows,
    /// Whose certificates it takes.
    pub admits: Admits,
    /// Whether a client without a certificate is refused.
    pub requires_certificate: bool,
    /// What is offered in ALPN, the most preferred first.
    pub alpn: Vec<String>,
    /// Whether TLS 1.2 is spoken.
    pub tls12: bool,
    /// Whether TLS 1.3 is spoken.
    pub tls13: bool,
    /// The cipher suites of TLS 1.2, in OpenSSL's names; the proxy's own if empty.
    pub ciphers: Vec<String>,
    /// The key exchanges; the proxy's own if empty.
    pub curves: Vec<String>,
}

/// What a proxy shows to clients.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Shows {
    /// Its own identity in the mesh.
    Identity,
    /// Certificates from elsewhere, of different key types; the first that suits the client.
    Certificates(Vec<Place>),
}

/// Where a certificate is.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Place {
    /// In a secret of that name.
    Secret(Arc<str>),
    /// In files: the chain, then the key.
    Files(PathBuf, PathBuf),
}

/// Whose certificates a proxy takes.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Admits {
    /// Nobody is asked.
    Anyone,
    /// Workloads of the mesh: those of these identities, or all if there are none.
    Mesh(Vec<String>),
    /// Those that roots from elsewhere vouch for.
    Clients(Clients),
}

/// How clients from outside of the mesh are verified.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Clients {
    /// Where the roots are.
    pub roots: Roots,
    /// A file of what was revoked.
    pub revoked: Option<PathBuf>,
    /// The names of which a client must show one; any if empty.
    pub names: Vec<String>,
    /// SHA-256 of the public keys that clients may have, in base64.
    pub public_keys: Vec<String>,
    /// SHA-256 of the certificates that clients may have, in hexadecimal.
    pub certificates: Vec<String>,
    /// Whether a client is let in all the same if its certificate does not hold.
    pub insecure: bool,
}

/// Where roots are.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Roots {
    /// In a secret of that name.
    Secret(Arc<str>),
    /// In a file.
    File(PathBuf),
    /// Here, as PEM.
    Pem(Arc<[u8]>),
}

/// The secret that is the proxy's own certificate (Istio's name).
const IDENTITY: &str = "default";
/// What begins the names of secrets that stand for files (Istio's): a chain and a key, or roots.
const FILES: &str = "file-cert:";
const ROOTS_FILE: &str = "file-root:";

// === impl DownstreamTls ===

impl DownstreamTls {
    pub(crate) fn parse(socket: &TransportSocket) -> Result<Self, String> {
        let Some(transport_socket::ConfigType::TypedConfig(any)) = &socket.config_type else {
            return Err("transport_socket: typed_config is expected".into());
        };
        let context = unpack::<proto::DownstreamTlsContext>(any)
            .ok_or_else(|| format!("transport_socket: {:?}: DownstreamTlsContext is accepted", any.type_url))?
            .map_err(|error| error.to_string())?;
        let common = context.common_tls_context.unwrap_or_default();
        let (least, greatest) = common
            .tls_params
            .as_ref()
            .map_or((0, 0), |params| (params.tls_minimum_protocol_version, params.tls_maximum_protocol_version));
        let shows = shows(&common)?;
        // The mesh's own is 1.3 whatever is said.
        let is_mesh = shows == Shows::Identity;
        let admits = admits(&common)?;
        let is_required = context.require_client_certificate.is_some_and(|flag| flag.value);
        Ok(Self {
            shows,
            requires_certificate: is_required || matches!(&admits, Admits::Clients(clients) if clients.must_show()),
            admits,
            tls12: !is_mesh && least < TlsProtocol::TlSv13 as i32,
            tls13: greatest == TlsProtocol::TlsAuto as i32 || greatest >= TlsProtocol::TlSv13 as i32,
            ciphers: common.tls_params.as_ref().map(|params| params.cipher_suites.clone()).unwrap_or_default(),
            curves: common.tls_params.map(|params| params.ecdh_curves).unwrap_or_default(),
            alpn: common.alpn_protocols,
        })
    }

    /// Whether some of what it needs is in files.
    pub fn has_files(&self) -> bool {
        let shown = match &self.shows {
            Shows::Identity => &[][..],
            Shows::Certificates(places) => places,
        };
        let of_clients = |clients: &Clients| clients.revoked.is_some() || matches!(clients.roots, Roots::File(_));
        shown.iter().any(|place| matches!(place, Place::Files(..)))
            || matches!(&self.admits, Admits::Clients(clients) if of_clients(clients))
    }

    /// The names of the secrets that it needs.
    pub fn secrets(&self) -> impl Iterator<Item = &Arc<str>> {
        let shown = match &self.shows {
            Shows::Identity => &[][..],
            Shows::Certificates(places) => places,
        };
        let roots = match &self.admits {
            Admits::Clients(Clients { roots: Roots::Secret(name), .. }) => Some(name),
            _ => None,
        };
        let named = shown.iter().filter_map(|place| match place {
            Place::Secret(name) => Some(name),
            Place::Files(..) => None,
        });
        named.chain(roots)
    }
}

/// Whether a secret of this name only stands for files, which are read here and not told.
pub(crate) fn is_of_files(name: &str) -> bool {
    name.starts_with(FILES) || name.starts_with(ROOTS_FILE)
}

// === impl Place ===

impl Place {
    /// What a secret's name says: some only stand for files, and those are read here.
    fn named(name: &str) -> Self {
        match name.strip_prefix(FILES).and_then(|files| files.split_once('~')) {
            Some((chain, key)) => Self::Files(chain.into(), key.into()),
            None => Self::Secret(name.into()),
        }
    }
}

// === impl Clients ===

impl Clients {
    /// Whether something is asked of a client's certificate, beside that it holds: as in Envoy, there must be one then.
    fn must_show(&self) -> bool {
        let asked = [&self.names, &self.public_keys, &self.certificates];
        !self.insecure && asked.iter().any(|asked| !asked.is_empty())
    }
}

// === impl Roots ===

impl Roots {
    fn named(name: &str) -> Self {
        name.strip_prefix(ROOTS_FILE).map_or_else(|| Self::Secret(name.into()), |path| Self::File(path.into()))
    }

    /// Those that a `trusted_ca` holds, or says where they are.
    pub(crate) fn parse(trusted: Option<&DataSource>) -> Result<Self, String> {
        match trusted.and_then(|source| source.specifier.as_ref()) {
            Some(Specifier::Filename(path)) => Ok(Self::File(path.into())),
            Some(Specifier::InlineBytes(pem)) => Ok(Self::Pem(pem.as_slice().into())),
            Some(Specifier::InlineString(pem)) => Ok(Self::Pem(pem.as_bytes().into())),
            _ => Err("trusted_ca: filename, inline_bytes or inline_string is expected".into()),
        }
    }
}

fn shows(common: &proto::CommonTlsContext) -> Result<Shows, String> {
    let secrets = &common.tls_certificate_sds_secret_configs;
    if let [only] = &secrets[..]
        && only.name == IDENTITY
    {
        return Ok(Shows::Identity);
    }
    let mut places: Vec<Place> = secrets.iter().map(|secret| Place::named(&secret.name)).collect();
    for certificate in &common.tls_certificates {
        let chain = file(certificate.certificate_chain.as_ref(), "certificate_chain")?;
        places.push(Place::Files(chain, file(certificate.private_key.as_ref(), "private_key")?));
    }
    if places.is_empty() {
        Err("tls_certificates: one at least is expected".into())
    } else {
        Ok(Shows::Certificates(places))
    }
}

fn admits(common: &proto::CommonTlsContext) -> Result<Admits, String> {
    let (context, secret) = match &common.validation_context_type {
        None => return Ok(Admits::Anyone),
        Some(ValidationContextType::ValidationContext(context)) => (Some(context), None),
        Some(ValidationContextType::ValidationContextSdsSecretConfig(secret)) => (None, Some(secret)),
        Some(ValidationContextType::CombinedValidationContext(combined)) => {
            (combined.default_validation_context.as_ref(), combined.validation_context_sds_secret_config.as_ref())
        }
        Some(_) => return Err("validation_context, or a secret, is expected".into()),
    };
    if secret.is_some_and(|secret| secret.name == crate::trust::ROOTS) {
        let names = context.map(|context| context.match_typed_subject_alt_names.as_slice()).unwrap_or_default();
        return Ok(Admits::Mesh(names.iter().map(name).collect::<Result<_, _>>()?));
    }
    let roots = match (secret, context.and_then(|context| context.trusted_ca.as_ref())) {
        (Some(secret), _) => Roots::named(&secret.name),
        (None, trusted @ Some(_)) => Roots::parse(trusted)?,
        (None, None) => return Err("validation_context: trusted_ca is expected".into()),
    };
    let context = context.cloned().unwrap_or_default();
    Ok(Admits::Clients(Clients {
        roots,
        revoked: context.crl.as_ref().map(|crl| file(Some(crl), "crl")).transpose()?,
        names: context.match_typed_subject_alt_names.iter().map(name).collect::<Result<_, _>>()?,
        public_keys: context.verify_certificate_spki,
        certificates: context.verify_certificate_hash,
        insecure: context.trust_chain_verification == TrustChainVerification::AcceptUntrusted as i32,
    }))
}

fn name(matcher: &proto::SubjectAltNameMatcher) -> Result<String, String> {
    match matcher.matcher.as_ref().and_then(|matcher| matcher.match_pattern.as_ref()) {
        Some(MatchPattern::Exact(name)) => Ok(name.clone()),
        _ => Err("match_typed_subject_alt_names: exact is expected".into()),
    }
}

/// The file that `source`, a field of this name, says.
pub(crate) fn file(source: Option<&DataSource>, field: &str) -> Result<PathBuf, String> {
    match source.and_then(|source| source.specifier.as_ref()) {
        Some(Specifier::Filename(path)) => Ok(path.into()),
        _ => Err(format!("{field}: filename is expected")),
    }
}
