//! Servers outside of the mesh that tell how they were reached: ones that are told who asks before anything else, one
//! behind TLS, and one that carries bytes in HTTP.
//!
//! | port | speaks |
//! |---|---|
//! | 8070 | HTTP after a header of the PROXY protocol; an instance `VERSION-SOURCE-to-PORT` of what that said |
//! | 5001 | bytes, likewise |
//! | 8443 | HTTP over TLS; the instance `tls-simple`, or `tls-mutual` if the client shows a certificate |
//! | 3128 | CONNECT and POST; at the other end answers `CONNECT HOST:PORT`, or `POST HOST:PORT` |

use crate::application;
use crate::ledger::Ledger;
use crate::pki::Pki;
use crate::stream::talk;
use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Empty, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, ReadHalf, WriteHalf, duplex, split};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

type Body = BoxBody<Bytes, io::Error>;

/// The longest header of the PROXY protocol that is read here.
const LONGEST: usize = 256;
const BUFFER: usize = 16 << 10;

/// Starts all of them at `address`.
pub async fn start(address: IpAddr, pki: &Pki, ledger: &Arc<Ledger>) -> io::Result<()> {
    start_tls(TcpListener::bind((address, 8443)).await?, TlsAcceptor::from(pki.server.clone()), ledger.clone());
    for (port, is_http) in [(8070, true), (5001, false)] {
        let listener = TcpListener::bind((address, port)).await?;
        let ledger = ledger.clone();
        tokio::spawn(async move {
            while let Ok((tcp, peer)) = listener.accept().await {
                tokio::spawn(announced(tcp, peer, is_http, ledger.clone()));
            }
        });
    }
    let listener = TcpListener::bind((address, 3128)).await?;
    tokio::spawn(async move {
        while let Ok((tcp, _)) = listener.accept().await {
            tokio::spawn(async move {
                let served = service_fn(|request| async { Ok::<_, io::Error>(carry(request)) });
                let builder = auto::Builder::new(TokioExecutor::new());
                // Callers leave as they like.
                let _ = builder.serve_connection_with_upgrades(TokioIo::new(tcp), served).await;
            });
        }
    });
    Ok(())
}

fn start_tls(listener: TcpListener, acceptor: TlsAcceptor, ledger: Arc<Ledger>) {
    tokio::spawn(async move {
        while let Ok((tcp, peer)) = listener.accept().await {
            let (acceptor, ledger) = (acceptor.clone(), ledger.clone());
            tokio::spawn(async move {
                let Ok(tls) = acceptor.accept(tcp).await else { return };
                let shows = tls.get_ref().1.peer_certificates().is_some();
                let instance = if shows { "tls-mutual" } else { "tls-simple" };
                application::handle(tls, peer, instance.to_owned(), ledger).await;
            });
        }
    });
}

async fn announced(mut tcp: TcpStream, peer: SocketAddr, is_http: bool, ledger: Arc<Ledger>) {
    // Without a header nobody is served.
    let Ok(instance) = announcement(&mut tcp).await else { return };
    if is_http {
        application::handle(tcp, peer, instance, ledger).await;
    } else {
        let _ = talk(tcp, &instance).await;
    }
}

/// What the header says, as the name of an instance.
async fn announcement(tcp: &mut TcpStream) -> io::Result<String> {
    let wrong = || io::Error::from(io::ErrorKind::InvalidData);
    let mut read = vec![0; 12];
    tcp.read_exact(&mut read).await?;
    if read == b"\r\n\r\n\0\r\nQUIT\n" {
        let mut rest = [0; 4 + 12];
        tcp.read_exact(&mut rest).await?;
        let source = Ipv4Addr::new(rest[4], rest[5], rest[6], rest[7]);
        let is_right = rest[..4] == [0x21, 0x11, 0, 12];
        let port = u16::from_be_bytes([rest[14], rest[15]]);
        return if is_right { Ok(format!("v2-{source}-to-{port}")) } else { Err(wrong()) };
    }
    while !read.ends_with(b"\r\n") && read.len() < LONGEST {
        read.push(tcp.read_u8().await?);
    }
    let text = String::from_utf8(read).map_err(|_| wrong())?;
    let words: Vec<&str> = text.split_whitespace().collect();
    match words[..] {
        ["PROXY", "TCP4", source, _, _, port] => Ok(format!("v1-{source}-to-{port}")),
        _ => Err(wrong()),
    }
}

/// Agrees to carry bytes, and plays the one to whom they go.
fn carry(request: Request<Incoming>) -> Response<Body> {
    let host = request.headers().get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    let to = request.uri().authority().map_or_else(|| host.to_owned(), ToString::to_string);
    let name = format!("{} {to}", request.method());
    let none = || Empty::new().map_err(|never| match never {}).boxed();
    match *request.method() {
        Method::CONNECT => {
            tokio::spawn(async move {
                if let Ok(upgraded) = hyper::upgrade::on(request).await {
                    let _ = talk(TokioIo::new(upgraded), &name).await;
                }
            });
            Response::new(none())
        }
        Method::POST => {
            let (ours, theirs) = duplex(BUFFER);
            let (outward, inward) = split(theirs);
            tokio::spawn(bring(request.into_body(), inward));
            tokio::spawn(async move { talk(ours, &name).await });
            Response::new(body(outward))
        }
        _ => {
            let mut response = Response::new(none());
            *response.status_mut() = StatusCode::METHOD_NOT_ALLOWED;
            response
        }
    }
}

async fn bring(mut body: Incoming, mut inward: WriteHalf<DuplexStream>) -> io::Result<()> {
    while let Some(frame) = body.frame().await {
        if let Ok(data) = frame.map_err(io::Error::other)?.into_data() {
            inward.write_all(&data).await?;
        }
    }
    inward.shutdown().await
}

fn body(outward: ReadHalf<DuplexStream>) -> Body {
    let frames = futures_util::stream::try_unfold(outward, |mut outward| async move {
        let mut piece = vec![0; BUFFER];
        let length = outward.read(&mut piece).await?;
        piece.truncate(length);
        Ok((length > 0).then(|| (Frame::data(Bytes::from(piece)), outward)))
    });
    BodyExt::boxed(StreamBody::new(frames))
}
