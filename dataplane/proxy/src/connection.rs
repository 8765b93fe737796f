//! One accepted connection: where it was going, how it begins, which chain takes it, and what it carries.

use crate::detect::{Look, Seen, detect};
use crate::guard::Guard;
use crate::http;
use crate::shared::Shared;
use crate::stream::{Replay, Stream};
use crate::taken::Taken;
use crate::tcp;
use ::http::HeaderValue;
use bytes::BytesMut;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use identity::{description, fingerprint, peer_identity};
use model::WorkloadIdentity;
use routing::{Admits, Chain, Direction, Handler, HttpHandler, RouteSource};
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use tokio::net::TcpStream;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

/// A connection on its way to its handler.
pub(crate) struct Connection {
    pub(crate) shared: Arc<Shared>,
    /// The name of the listener that took it.
    pub(crate) listener: Arc<str>,
    pub(crate) address: SocketAddr,
    /// Finish what you do, begin nothing.
    pub(crate) drain: CancellationToken,
    /// What it holds.
    pub(crate) held: Held,
}

/// What is held for as long as anything of a connection goes on, an upgrade included.
#[derive(Clone)]
pub(crate) struct Held {
    /// Stop at once.
    pub(crate) cut: CancellationToken,
    /// Its place among those that may be open.
    pub(crate) _place: Arc<OwnedSemaphorePermit>,
}

impl Connection {
    /// Serves it to its end.
    pub(crate) async fn serve(self, tcp: TcpStream) {
        if let Err(error) = self.take(tcp).await {
            tracing::debug!(caller = %self.address, listener = %self.listener, %error, "connection ended");
        }
    }

    async fn take(&self, mut tcp: TcpStream) -> io::Result<()> {
        tcp.set_nodelay(true)?;
        crate::connect::keep_alive(&tcp)?;
        // The table of now: chains may have changed since the listener was bound.
        let table = self.shared.table.load_full();
        let Some(bound) = table.listeners.get(&self.listener) else { return reset(&tcp) };
        let destination = if bound.original_destination { original_destination(&tcp)? } else { tcp.local_addr()? };
        let listener = match bound.direction {
            Direction::Outbound if bound.original_destination => table.captured(destination).unwrap_or(bound),
            _ => bound,
        };
        let mut first = BytesMut::new();
        let seen = if listener.inspects {
            let look = Look { wait: listener.inspection, limit: self.shared.settings.hello_bytes };
            detect(&mut tcp, &mut first, look).await?
        } else {
            Seen::Bytes
        };
        let taken = Taken { listener: listener.clone(), destination, source: self.address.ip(), seen };
        drop(table);
        let Some(chain) = taken.chain() else { return reset(&tcp) };
        let begun = Replay::new(tcp, first.freeze());
        let mut serving = pin!(self.hand_over(&taken, chain, begun));
        tokio::select! {
            biased;
            ended = &mut serving => return ended,
            () = taken.superseded(&self.shared) => self.drain.cancel(),
        }
        let ended = timeout(self.shared.settings.drain(), serving).await;
        ended.unwrap_or_else(|_| Err(io::Error::other("its listener takes such connections otherwise now")))
    }

    async fn hand_over(&self, taken: &Taken, chain: &Chain, tcp: Replay) -> io::Result<()> {
        let Taken { listener, destination, seen, .. } = taken;
        let (direction, destination) = (listener.direction, *destination);
        let server_name = match seen {
            Seen::Tls(hello) => hello.server_name.as_deref(),
            _ => None,
        };
        let stream = match &chain.tls {
            None => Stream::Plain(tcp),
            Some(tls) => {
                let server = self.shared.server(tls).map_err(io::Error::other)?;
                let accepting = TlsAcceptor::from(server).accept(tcp);
                let accepted = timeout(self.shared.settings.handshake(), accepting).await;
                Stream::Server(Box::new(accepted.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??))
            }
        };
        let certificates = stream.tls().and_then(|session| session.peer_certificates());
        // An identity counts only if the mesh's own roots vouch for it.
        let is_mesh = chain.tls.as_ref().is_some_and(|tls| matches!(tls.admits, Admits::Mesh(_)));
        let peer = peer_identity(certificates.filter(|_| is_mesh));
        match &chain.handler {
            Handler::Tcp(handler) => {
                let caller = tcp::Caller {
                    shared: &self.shared,
                    direction,
                    destination,
                    address: self.address,
                    cut: &self.held.cut,
                    principal: peer.as_ref().map(ToString::to_string),
                    peer,
                    server_name,
                    taken,
                };
                caller.admit(stream, chain, handler).await;
                Ok(())
            }
            Handler::Http(handler) => {
                let leaf = certificates.and_then(<[_]>::first);
                let certificate = match &peer {
                    Some(peer) => leaf.and_then(|leaf| self.client_certificate(&fingerprint(leaf), peer)),
                    None => leaf.and_then(|leaf| HeaderValue::from_str(&description(leaf)).ok()),
                };
                let caller = http::Caller {
                    shared: self.shared.clone(),
                    listener: listener.clone(),
                    handler: HttpHandler::clone(handler),
                    direction,
                    destination,
                    address: self.address,
                    certificate,
                    held: self.held.clone(),
                    requests: Arc::default(),
                    over_tls: stream.tls().is_some(),
                    principal: peer.as_ref().map(ToString::to_string),
                    server_name: server_name.unwrap_or_default().into(),
                    inbound: (direction == Direction::Inbound)
                        .then(|| self.shared.telemetry.inbound(&self.served(handler), peer.as_ref())),
                };
                self.requests(stream, caller).await;
                Ok(())
            }
        }
    }

    /// The host of the service that the workload serves where requests are handled so.
    fn served(&self, handler: &HttpHandler) -> Arc<str> {
        let RouteSource::Inline(routes) = &handler.routes else { return Arc::default() };
        let table = self.shared.table.load();
        let upstream = routes.upstreams().next().and_then(|name| table.upstreams.get(name));
        upstream.map(|upstream| upstream.settings.host.clone()).unwrap_or_default()
    }

    /// Serves requests until the caller has no more, or a drain lets the last one end.
    async fn requests(&self, stream: Stream, caller: http::Caller) {
        let settings = &self.shared.settings;
        let mut builder = auto::Builder::new(TokioExecutor::new());
        builder
            .http1()
            // The guard has an eye on it.
            .header_read_timeout(None)
            .max_headers(settings.headers)
            .max_buf_size(settings.header_limit());
        builder
            .http2()
            .timer(TokioTimer::new())
            .max_concurrent_streams(settings.streams)
            .initial_stream_window_size(settings.stream_window)
            .initial_connection_window_size(settings.connection_window)
            .max_pending_accept_reset_streams(settings.pending_resets)
            .max_local_error_reset_streams(settings.error_resets)
            .max_header_list_size(settings.header_list());
        let requests = caller.requests.clone();
        let caller = Arc::new(caller);
        let service = hyper::service::service_fn(move |request| caller.clone().handle(request));
        let mut serving =
            pin!(builder.serve_connection_with_upgrades(TokioIo::new(Guard::new(stream, settings.header())), service));
        let ended = tokio::select! {
            ended = &mut serving => ended,
            () = self.held.cut.cancelled() => return,
            () = requests.stillness(settings.idle()) => {
                serving.as_mut().graceful_shutdown();
                serving.await
            }
            () = self.drain.cancelled() => {
                serving.as_mut().graceful_shutdown();
                tokio::select! {
                    ended = &mut serving => ended,
                    () = self.held.cut.cancelled() => return,
                }
            }
        };
        if let Err(error) = ended {
            tracing::debug!(caller = %self.address, error = http::chain(&*error), "caller's connection broke");
        }
    }

    /// `By=...;Hash=...;Subject="";URI=...`, as Istio's Envoy writes it.
    fn client_certificate(&self, hash: &str, peer: &WorkloadIdentity) -> Option<HeaderValue> {
        let by = self.shared.telemetry.principal();
        HeaderValue::from_str(&format!("By={by};Hash={hash};Subject=\"\";URI={peer}")).ok()
    }
}

/// Where a redirected connection was going; its own address if it was not redirected.
fn original_destination(tcp: &TcpStream) -> io::Result<SocketAddr> {
    let socket = socket2::SockRef::from(tcp);
    let own = tcp.local_addr()?;
    let original = if own.is_ipv4() { socket.original_dst_v4() } else { socket.original_dst_v6() };
    Ok(original.ok().and_then(|address| address.as_socket()).unwrap_or(own))
}

fn reset(tcp: &TcpStream) -> io::Result<()> {
    tcp.set_zero_linger()
}
