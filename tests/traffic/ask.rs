//! Sends what a step of a case says.

use crate::call::{Client, Reply};
use crate::certificates::Certificates;
use crate::http_case::HttpCase;
use crate::ledger::NUMBER;
use crate::stream_case::StreamCase;
use crate::tls::{self, TlsCase};
use bytes::Bytes;
use futures_util::future::join_all;
use http::{Request, header};
use http_body_util::Full;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

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

/// Sends the requests of a step to the proxy at `place`, over connections that are kept.
pub async fn requests(place: IpAddr, step: &HttpCase, numbers: &Numbers, certificates: &Certificates) -> Vec<Outcome> {
    let at = SocketAddr::new(place, step.to.port);
    let workers = (0..step.times.min(step.at_once)).map(|worker| async move {
        let mut client = Client::over_tls(at, step.http2, step.tls.as_ref(), certificates);
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
    let scheme = if step.tls.is_some() { "https" } else { "http" };
    let target = if step.http2 { format!("{scheme}://{authority}{}", step.path) } else { step.path.clone() };
    let mut request = Request::builder().method(step.method.as_str()).uri(target).header(NUMBER, number);
    if !step.http2 {
        request = request.header(header::HOST, authority);
    }
    for (name, values) in &step.headers {
        for value in values.iter() {
            request = request.header(name, value);
        }
    }
    let body = if step.body_bytes > 0 { "x".repeat(step.body_bytes) } else { step.body.clone() };
    request.body(Full::new(Bytes::from(body)))
}

/// Opens the connections of a step, one after the other; the instance that each reached, or how it failed.
pub async fn streams(place: IpAddr, step: &StreamCase, certificates: &Certificates) -> Vec<Result<String, String>> {
    let at = SocketAddr::new(place, step.to.port);
    let mut outcomes = Vec::new();
    for _ in 0..step.times {
        let talked = tokio::time::timeout(STREAM_LIMIT, stream(at, step, certificates)).await;
        let talked = talked.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
        outcomes.push(talked.map_err(|error| error.to_string()));
    }
    outcomes
}

async fn stream(at: SocketAddr, step: &StreamCase, certificates: &Certificates) -> io::Result<String> {
    let tcp = TcpStream::connect(at).await?;
    let plain = step.server_name.as_ref().map(|name| TlsCase { name: name.clone(), ..TlsCase::default() });
    match step.tls.as_ref().or(plain.as_ref()) {
        None => talk(tcp, step).await,
        Some(case) => talk(tls::connect(tcp, case, &[], certificates).await?, step).await,
    }
}

/// Reads the server's name, and has it say the words of `step` back; then waits for the end, if one is expected.
async fn talk(stream: impl AsyncRead + AsyncWrite + Unpin, step: &StreamCase) -> io::Result<String> {
    let words = &step.send;
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
    if step.expect.let_go {
        // An end or a reset.
        let _ = stream.read(&mut [0]).await;
    }
    Ok(name.trim_end().to_owned())
}

// === impl Numbers ===

impl Numbers {
    pub fn next(&self) -> String {
        self.0.fetch_add(1, Ordering::Relaxed).to_string()
    }
}
