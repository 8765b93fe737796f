//! Finds out how a workload is, again and again, as its probe says, and tells when that changes.
//!
//! ```text
//! (initial delay) -> attempt, within the timeout -> enough alike in a row? -> healthy | not, and why -> (period) -> ...
//! ```
//! Before the first verdict nothing is told.

use anyhow::{Context, bail, ensure};
use api::grpc::health::HealthCheckRequest;
use api::grpc::health::health_check_response::ServingStatus;
use api::grpc::health::health_client::HealthClient;
use bytes::Bytes;
use http::{Request, header};
use http_body_util::Empty;
use hyper_util::rt::TokioIo;
use identity::{OutsideServer, outside_client_config, server_name};
use resource::{Probe, ProbeMethod};
use std::net::IpAddr;
use std::process::Stdio;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::process::Command;
use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};
use tokio_rustls::TlsConnector;
use tokio_util::sync::CancellationToken;
use xds::Health;

/// How many outcomes were alike lately.
#[derive(Debug, Default)]
struct Count {
    successes: u32,
    failures: u32,
}

/// Runs `probe` of the workload at `address` until `shutdown`, and tells `health` what follows.
pub async fn run(probe: Probe, address: IpAddr, health: watch::Sender<Health>, shutdown: CancellationToken) {
    let watching = async {
        sleep(probe.initial_delay).await;
        let mut period = interval(probe.period);
        period.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut count = Count::default();
        loop {
            period.tick().await;
            let outcome = match timeout(probe.timeout, attempt(&probe.method, address)).await {
                Ok(outcome) => outcome.map_err(|error| format!("{error:#}")),
                Err(_) => Err(format!("no answer within {:?}", probe.timeout)),
            };
            if let Some(verdict) = count.verdict(&probe, outcome) {
                health.send_if_modified(|told| {
                    let is_news = told.as_ref().map(Result::is_ok) != Some(verdict.is_ok());
                    if is_news {
                        tracing::info!(health = ?verdict, "the workload's health changed");
                        *told = Some(verdict);
                    }
                    is_news
                });
            }
        }
    };
    tokio::select! {
        () = watching => {}
        () = shutdown.cancelled() => {}
    }
}

async fn attempt(method: &ProbeMethod, address: IpAddr) -> anyhow::Result<()> {
    match method {
        ProbeMethod::Exec(words) => execute(words).await,
        ProbeMethod::TcpSocket { host, port } => connect(host.as_deref(), address, *port).await.map(drop),
        ProbeMethod::Grpc { port, service } => ask(address, *port, service).await,
        ProbeMethod::HttpGet { host, port, path, is_https, headers } => {
            let name = host.clone().unwrap_or_else(|| address.to_string());
            let tcp = connect(host.as_deref(), address, *port).await?;
            let request = request(&name, *port, path, headers)?;
            if !is_https {
                return get(tcp, request).await;
            }
            // As with Kubernetes, any certificate will do.
            let alpn = ["http/1.1".to_owned()];
            let server = OutsideServer { alpn: &alpn, ..OutsideServer::default() };
            let tls = TlsConnector::from(outside_client_config(&server)?);
            get(tls.connect(server_name(&name)?, tcp).await.context("TLS")?, request).await
        }
    }
}

async fn connect(host: Option<&str>, address: IpAddr, port: u16) -> anyhow::Result<TcpStream> {
    let connecting = async {
        match host {
            Some(host) => TcpStream::connect((host, port)).await,
            None => TcpStream::connect((address, port)).await,
        }
    };
    connecting.await.with_context(|| format!("connect to port {port}"))
}

fn request(host: &str, port: u16, path: &str, headers: &[(String, String)]) -> anyhow::Result<Request<Empty<Bytes>>> {
    let has = |name: &str| headers.iter().any(|(other, _)| other.eq_ignore_ascii_case(name));
    let mut request = Request::get(path);
    if !has("host") {
        let host = if host.contains(':') { format!("[{host}]") } else { host.to_owned() };
        request = request.header(header::HOST, format!("{host}:{port}"));
    }
    if !has("user-agent") {
        request = request.header(header::USER_AGENT, "isthmus-probe");
    }
    let request = headers.iter().fold(request, |request, (name, value)| request.header(name, value));
    Ok(request.body(Empty::new())?)
}

async fn get(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    request: Request<Empty<Bytes>>,
) -> anyhow::Result<()> {
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    // The connection's task ends with the request's.
    let driving = tokio::spawn(connection);
    let response = sender.send_request(request).await;
    driving.abort();
    let status = response?.status();
    ensure!(status.is_success() || status.is_redirection(), "answered {status}");
    Ok(())
}

async fn execute(words: &[String]) -> anyhow::Result<()> {
    let [command, arguments @ ..] = words else { bail!("there is no command") };
    let mut command = Command::new(command);
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true);
    let status = command.status().await.context("the command cannot be run")?;
    ensure!(status.success(), "the command ended with {status}");
    Ok(())
}

async fn ask(address: IpAddr, port: u16, service: &str) -> anyhow::Result<()> {
    let at = format!("http://{}", std::net::SocketAddr::new(address, port));
    let channel = tonic::transport::Endpoint::from_shared(at)?.connect().await?;
    let request = HealthCheckRequest { service: service.to_owned() };
    let status = HealthClient::new(channel).check(request).await?.into_inner().status();
    ensure!(status == ServingStatus::Serving, "the server says {}", status.as_str_name());
    Ok(())
}

// === impl Count ===

impl Count {
    /// What follows from one more outcome, once enough in a row were alike.
    fn verdict(&mut self, probe: &Probe, outcome: Result<(), String>) -> Option<Result<(), String>> {
        match outcome {
            Ok(()) => {
                (self.successes, self.failures) = (self.successes.saturating_add(1), 0);
                (self.successes >= probe.successes).then_some(Ok(()))
            }
            Err(reason) => {
                (self.successes, self.failures) = (0, self.failures.saturating_add(1));
                (self.failures >= probe.failures).then_some(Err(reason))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn probe(text: &str) -> Probe {
        resource::parse_probe("probe", text).expect(text).expect("a probe")
    }

    #[test]
    fn a_verdict_needs_enough_alike_in_a_row() {
        let probe = probe("{successThreshold: 2, failureThreshold: 3, exec: {command: ['true']}}");
        assert_eq!((probe.period, probe.timeout), (Duration::from_secs(10), Duration::from_secs(1)));
        let (mut count, bad) = (Count::default(), || Err("bad".to_owned()));
        let verdicts = [Ok(()), bad(), Ok(()), Ok(()), bad(), bad(), Ok(()), bad(), bad(), bad()]
            .map(|outcome| count.verdict(&probe, outcome).map(|verdict| verdict.is_ok()));
        let (none, well, ill) = (None, Some(true), Some(false));
        assert_eq!(verdicts, [none, none, none, well, none, none, none, none, none, ill]);
    }

    #[tokio::test]
    async fn every_method_finds_out() {
        // Every test calls this; the first call counts.
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let here: IpAddr = [127, 0, 0, 1].into();
        let free = std::net::TcpListener::bind((here, 0)).and_then(|one| one.local_addr()).expect("free").port();
        let run = async |text: &str| attempt(&probe(text).method, here).await;
        assert!(run("exec: {command: ['true']}").await.is_ok());
        assert!(run("exec: {command: ['false']}").await.expect_err("fails").to_string().contains("ended with"));
        assert!(run("exec: {command: [/no/such/thing]}").await.is_err());
        assert!(run(&format!("tcpSocket: {{port: {free}}}")).await.is_err());
        assert!(run(&format!("grpc: {{port: {free}}}")).await.is_err());

        let listener = tokio::net::TcpListener::bind((here, 0)).await.expect("bound");
        let port = listener.local_addr().expect("bound").port();
        let (done, answer) = (CancellationToken::new(), |request: &Request<hyper::body::Incoming>| {
            let is_named = request.headers().get("x-who").is_some_and(|who| who == "probe");
            let status = if request.uri().path() == "/well" && is_named { 302 } else { 404 };
            crate::http_server::text(status, "")
        });
        tokio::spawn(crate::http_server::serve(listener, answer, done.clone()));
        let who = "httpHeaders: [{name: x-who, value: probe}]";
        assert!(run(&format!("httpGet: {{port: {port}, path: well, {who}}}")).await.is_ok());
        let ill = run(&format!("httpGet: {{port: {port}, path: /ill, {who}}}")).await;
        assert!(ill.expect_err("fails").to_string().contains("404"));
        assert!(run(&format!("httpGet: {{port: {port}, scheme: HTTPS}}")).await.is_err(), "it speaks no TLS");
        assert!(run(&format!("tcpSocket: {{port: {port}, host: localhost}}")).await.is_ok());
        done.cancel();
    }
}
