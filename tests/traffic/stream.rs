//! The applications that speak bytes: both say their name first and then everything back, one of them in TLS of its own.

use rustls::pki_types::PrivateKeyDer;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, copy, split};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

/// Serves plain connections at `address`, as `instance`.
pub async fn start_plain(address: SocketAddr, instance: String) -> io::Result<()> {
    serve(address, move |tcp| {
        let instance = instance.clone();
        async move {
            // Callers leave as they like.
            let _ = talk(tcp, &instance).await;
        }
    })
    .await
}

/// Serves TLS at `address`, as `instance`, with a certificate that only a trusting caller accepts.
pub async fn start_tls(address: SocketAddr, instance: String) -> io::Result<()> {
    let own = rcgen::generate_simple_self_signed([instance.clone()]).map_err(io::Error::other)?;
    let key = PrivateKeyDer::try_from(own.signing_key.serialize_der()).map_err(io::Error::other)?;
    let tls = rustls::ServerConfig::builder().with_no_client_auth();
    let tls = tls.with_single_cert(vec![own.cert.der().clone()], key).map_err(io::Error::other)?;
    let acceptor = TlsAcceptor::from(Arc::new(tls));
    serve(address, move |tcp| {
        let (acceptor, instance) = (acceptor.clone(), instance.clone());
        async move {
            if let Ok(tls) = acceptor.accept(tcp).await {
                let _ = talk(tls, &instance).await;
            }
        }
    })
    .await
}

async fn serve<F>(address: SocketAddr, handle: impl Fn(TcpStream) -> F + Send + 'static) -> io::Result<()>
where
    F: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind(address).await?;
    tokio::spawn(async move {
        while let Ok((tcp, _)) = listener.accept().await {
            tokio::spawn(handle(tcp));
        }
    });
    Ok(())
}

/// Says its name, and then everything back.
pub async fn talk(stream: impl AsyncRead + AsyncWrite, instance: &str) -> io::Result<()> {
    let (mut reader, mut writer) = split(stream);
    writer.write_all(format!("{instance}\n").as_bytes()).await?;
    writer.flush().await?;
    copy(&mut reader, &mut writer).await?;
    writer.shutdown().await
}
