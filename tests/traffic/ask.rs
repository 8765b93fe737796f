//! Sends what a step of a case says.

use crate::call::{Client, Reply};
use crate::http_case::HttpCase;
use crate::ledger::NUMBER;
use crate::stream_case::StreamCase;
use bytes::Bytes;
use futures_util::future::join_all;
use http::{Request, header};
use http_body_util::Full;
use rustls::ClientConfig;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

/// One request and what came of it.
#[derive(Debug)]
pub struct Outcome {
    /// Its number in the ledger.
    pub number: String,
    pub reply: Result<Reply, String>,
    pub took: Duration,
}

/// Gives each request of this run a number of its own.
#[derive(Debug, Default)]
pub struct Numbers(AtomicU64);

const STREAM_LIMIT: Duration = Duration::from_secs(10);

/// Sends the requests of a step to the caller's proxy at `mesh`, over connections that are kept.
pub async fn requests(mesh: IpAddr, step: &HttpCase, numbers: &Numbers) -> Vec<Outcome> {
    let at = SocketAddr::new(mesh, step.to.port);
    let workers = (0..step.times.min(step.at_once)).map(|worker| async move {
        let mut client = Client::new(at, step.http2);
        let mut outcomes = Vec::new();
        for _ in (worker..step.times).step_by(step.at_once) {
            let number = numbers.next();
            let request = request(step, &number);
            let began = Instant::now();
            let reply = match request {
                Ok(request) => client.send(request).await,
                Err(error) => Err(format!("the case's request is not one: {error}")),
            };
            outcomes.push(Outcome { number, reply, took: began.elapsed() });
        }
        outcomes
    });
    join_all(workers).await.into_iter().flatten().collect()
}

fn request(step: &HttpCase, number: &str) -> http::Result<Request<Full<Bytes>>> {
    let authority = step.authority.clone().unwrap_or_else(|| step.to.authority());
    // HTTP/2 has the authority in the target, HTTP/1 in a header field.
    let target = if step.http2 { format!("http://{authority}{}", step.path) } else { step.path.clone() };
    let mut request = Request::builder().method(step.method.as_str()).uri(target).header(NUMBER, number);
    if !step.http2 {
        request = request.header(header::HOST, authority);
    }
    for (name, values) in &step.headers {
        for value in values.iter() {
            request = request.header(name, value);
        }
    }
    request.body(Full::new(Bytes::from(step.body.clone())))
}

/// Opens the connections of a step, one after the other; the instance that each reached, or how it failed.
pub async fn streams(mesh: IpAddr, step: &StreamCase) -> Vec<Result<String, String>> {
    let at = SocketAddr::new(mesh, step.to.port);
    let mut outcomes = Vec::new();
    for _ in 0..step.times {
        let talked = tokio::time::timeout(STREAM_LIMIT, stream(at, step)).await;
        let talked = talked.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
        outcomes.push(talked.map_err(|error| error.to_string()));
    }
    outcomes
}

async fn stream(at: SocketAddr, step: &StreamCase) -> io::Result<String> {
    let tcp = TcpStream::connect(at).await?;
    match &step.server_name {
        None => talk(tcp, &step.send).await,
        Some(name) => {
            let name = ServerName::try_from(name.clone()).map_err(io::Error::other)?;
            talk(TlsConnector::from(Arc::new(trusting())).connect(name, tcp).await?, &step.send).await
        }
    }
}

/// Reads the server's name, and has it say `words` back.
async fn talk(stream: impl AsyncRead + AsyncWrite + Unpin, words: &str) -> io::Result<String> {
    let mut stream = BufReader::new(stream);
    let mut name = String::new();
    if stream.read_line(&mut name).await? == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    stream.write_all(words.as_bytes()).await?;
    stream.flush().await?;
    let mut back = vec![0; words.len()];
    stream.read_exact(&mut back).await?;
    if back != words.as_bytes() {
        return Err(io::Error::other(format!("said {words:?}, heard {:?}", String::from_utf8_lossy(&back))));
    }
    Ok(name.trim_end().to_owned())
}

/// Takes every certificate: who answers is not what these cases are about.
#[derive(Debug)]
struct Anybody(Arc<rustls::crypto::CryptoProvider>);

fn trusting() -> ClientConfig {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    ClientConfig::builder()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Anybody(provider)))
        .with_no_client_auth()
}

// === impl Numbers ===

impl Numbers {
    pub fn next(&self) -> String {
        self.0.fetch_add(1, Ordering::Relaxed).to_string()
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

    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
