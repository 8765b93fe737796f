//! One fetch: name, address, TLS, HTTP, and whether what comes is a set of keys.

use crate::guard::admits;
use crate::{FetchError, Settings};
use bytes::Bytes;
use config::{JwtKeys, verifies};
use http::{Request, Uri, header};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use identity::{OutsideServer, outside_client_config};
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, lookup_host};
use tokio_rustls::TlsConnector;

/// Fetches keys.
pub struct Fetch {
    settings: Settings,
    /// None if the roots cannot be read: then nothing is fetched over TLS.
    tls: Option<Arc<ClientConfig>>,
}

/// Where an issuer tells where its keys are (OpenID Connect Discovery 1.0, section 4).
const DISCOVERY: &str = "/.well-known/openid-configuration";

// === impl Fetch ===

impl Fetch {
    /// By `settings`. Roots that cannot be read are told in the log.
    pub fn new(settings: Settings) -> Self {
        let roots = std::fs::read(&settings.roots).map_err(|error| error.to_string());
        let tls = roots.and_then(|roots| {
            let server =
                OutsideServer { roots: Some((&roots, None)), alpn: &["http/1.1".to_owned()], ..Default::default() };
            outside_client_config(&server).map_err(|error| error.to_string())
        });
        if let Err(error) = &tls {
            tracing::warn!(roots = %settings.roots.display(), %error, "keys are not fetched over TLS");
        }
        Self { settings, tls: tls.ok() }
    }

    /// The set of keys that `keys` names.
    ///
    /// # Errors
    /// Why it could not be had, or is none.
    pub async fn set(&self, keys: &JwtKeys) -> Result<String, FetchError> {
        let fetching = async {
            let set = match keys {
                JwtKeys::At(uri) => self.get(uri).await?,
                JwtKeys::OfIssuer(issuer) => {
                    let configuration = self.get(&format!("{}{DISCOVERY}", issuer.trim_end_matches('/'))).await?;
                    self.get(&uri_of(&configuration)?).await?
                }
                JwtKeys::Inline(set) => set.clone(),
                JwtKeys::Nothing => return Err(FetchError::Answer("no set of keys")),
            };
            if verifies(&set) {
                Ok(set)
            } else {
                Err(FetchError::Answer("no set of keys by which anything is verified"))
            }
        };
        tokio::time::timeout(self.settings.timeout(), fetching).await.unwrap_or(Err(FetchError::Timeout))
    }

    async fn get(&self, text: &str) -> Result<String, FetchError> {
        let refuse = || FetchError::Uri(text.to_owned());
        let uri: Uri = text.parse().map_err(|_| refuse())?;
        let over_tls = match uri.scheme_str() {
            Some("https") => true,
            Some("http") => false,
            _ => return Err(refuse()),
        };
        let host = uri.host().filter(|host| !host.is_empty()).ok_or_else(refuse)?;
        let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        let port = uri.port_u16().unwrap_or(if over_tls { 443 } else { 80 });
        let tcp = self.connect(&host, port).await?;
        if !over_tls {
            return self.ask(tcp, &uri).await;
        }
        let tls = self.tls.clone().ok_or_else(|| FetchError::Connection("the roots cannot be read".to_owned()))?;
        let name = ServerName::try_from(host).map_err(|_| refuse())?;
        let tls = TlsConnector::from(tls).connect(name, tcp).await;
        self.ask(tls.map_err(|error| FetchError::Connection(error.to_string()))?, &uri).await
    }

    /// Connects to the first address of `host` that may be asked. What was judged is what is connected to: a name that
    /// changes its address in between gains nothing.
    async fn connect(&self, host: &str, port: u16) -> Result<TcpStream, FetchError> {
        let unknown = |reason: String| FetchError::Name { host: host.to_owned(), reason };
        let all: Vec<SocketAddr> =
            lookup_host((host, port)).await.map_err(|error| unknown(error.to_string()))?.collect();
        let first = all.first().ok_or_else(|| unknown("it has no address".to_owned()))?;
        let mut why = FetchError::Forbidden { host: host.to_owned(), address: first.ip() };
        for at in all.iter().filter(|at| admits(at.ip(), &self.settings.allow)) {
            match TcpStream::connect(at).await {
                Ok(tcp) => return Ok(tcp),
                Err(error) => why = FetchError::Connection(format!("{at}: {error}")),
            }
        }
        Err(why)
    }

    async fn ask<S>(&self, stream: S, uri: &Uri) -> Result<String, FetchError>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let broken = |error: hyper::Error| FetchError::Connection(error.to_string());
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(broken)?;
        // Ends with the sender, which ends with this call.
        tokio::spawn(connection);
        // Who asks is nobody's business here: what stands before an '@' goes nowhere.
        let authority = uri.authority().map_or("", |authority| authority.as_str());
        let authority = authority.rsplit('@').next().unwrap_or_default();
        let request = Request::get(uri.path_and_query().map_or("/", |path| path.as_str()))
            .header(header::HOST, authority)
            .header(header::ACCEPT, "application/json")
            .body(Empty::<Bytes>::new())
            .map_err(|error| FetchError::Connection(error.to_string()))?;
        let response = sender.send_request(request).await.map_err(broken)?;
        if response.status() != http::StatusCode::OK {
            return Err(FetchError::Status(response.status().as_u16()));
        }
        let body = Limited::new(response.into_body(), self.settings.max_bytes).collect().await;
        let body = body.map_err(|error| {
            let is_long = error.is::<http_body_util::LengthLimitError>();
            if is_long {
                FetchError::TooLong(self.settings.max_bytes)
            } else {
                FetchError::Connection(error.to_string())
            }
        });
        String::from_utf8(body?.to_bytes().into()).map_err(|_| FetchError::Answer("no text"))
    }
}

/// Where the keys are of the issuer of this configuration.
fn uri_of(configuration: &str) -> Result<String, FetchError> {
    let read: Result<serde_json::Value, _> = serde_json::from_str(configuration);
    let uri = read.ok().and_then(|read| read["jwks_uri"].as_str().map(str::to_owned));
    uri.ok_or(FetchError::Answer("no configuration of an issuer"))
}
