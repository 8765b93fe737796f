//! Reads the hello of a TLS client without ending the TLS: which service it asks for, and the bytes to pass on.

use bytes::{Bytes, BytesMut};
use model::Sni;
use rustls::server::Acceptor;
use std::io;
use tokio::io::{AsyncRead, AsyncReadExt};

/// The longest hello that is read.
const LIMIT: usize = 16 << 10;

/// Why a connection's first bytes name no service.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HelloError {
    /// The connection ended or broke.
    #[error("the hello was not sent: {0}")]
    Io(#[from] io::Error),
    /// Not TLS, or not a well-formed hello.
    #[error("not a TLS client hello")]
    NotTls,
    /// Longer than is read.
    #[error("the hello is longer than {LIMIT} bytes")]
    TooLong,
    /// It names no server, or not in the form of a service.
    #[error("the hello asks for {0:?}, which is not outbound_.PORT_.SUBSET_.HOST")]
    Name(String),
}

/// Reads until the hello is whole. The bytes returned are all that were read.
///
/// # Errors
/// If no hello of at most 16 KiB comes, or it does not name a service.
pub(crate) async fn read_hello(stream: &mut (impl AsyncRead + Unpin)) -> Result<(Sni, Bytes), HelloError> {
    let mut acceptor = Acceptor::default();
    let mut buffer = BytesMut::with_capacity(2048);
    let mut given = 0;
    loop {
        if buffer.len() >= LIMIT {
            return Err(HelloError::TooLong);
        }
        if stream.read_buf(&mut buffer).await? == 0 {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
        }
        while given < buffer.len() {
            given += acceptor.read_tls(&mut &buffer[given..]).map_err(|_| HelloError::NotTls)?;
            match acceptor.accept() {
                Ok(Some(accepted)) => {
                    let name = accepted.client_hello().server_name().unwrap_or_default().to_owned();
                    let sni = name.parse().map_err(|_| HelloError::Name(name))?;
                    return Ok((sni, buffer.freeze()));
                }
                Ok(None) => {}
                Err(_) => return Err(HelloError::NotTls),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustls::pki_types::ServerName;
    use rustls::{ClientConfig, ClientConnection, RootCertStore};
    use std::sync::Arc;

    fn hello(name: &str) -> Vec<u8> {
        let config = ClientConfig::builder_with_provider(identity::provider())
            .with_protocol_versions(&[&rustls::version::TLS13])
            .expect("TLS 1.3")
            .with_root_certificates(RootCertStore::empty())
            .with_no_client_auth();
        let name = ServerName::try_from(name.to_owned()).expect("a name");
        let mut bytes = Vec::new();
        ClientConnection::new(Arc::new(config), name).expect("a client").write_tls(&mut bytes).expect("a hello");
        bytes
    }

    #[tokio::test]
    async fn a_hello_byte_by_byte_is_read_whole() {
        let sent = hello("outbound_.9080_._.reviews.bookinfo.svc.cluster.local");
        let (mut client, mut server) = tokio::io::duplex(1);
        let bytes = sent.clone();
        tokio::spawn(async move { tokio::io::AsyncWriteExt::write_all(&mut client, &bytes).await });
        let (sni, read) = read_hello(&mut server).await.expect("a hello");
        assert_eq!((sni.port, sni.host.as_str()), (9080, "reviews.bookinfo.svc.cluster.local"));
        assert_eq!(read, sent);
    }

    #[tokio::test]
    async fn what_names_no_service_is_refused() {
        let garbage: [&[u8]; 4] = [b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01\x00\x05hello", b"", b"\x16"];
        for bytes in garbage {
            assert!(read_hello(&mut &bytes[..]).await.is_err(), "{bytes:?}");
        }
        for name in ["kubernetes.default.svc", "inbound_.80_._.a.b", "outbound_.0_._.a.b"] {
            assert!(matches!(read_hello(&mut &hello(name)[..]).await, Err(HelloError::Name(_))), "{name}");
        }
        let endless = [&[0x16, 3, 1, 0x40, 0, 1, 0, 0x3f, 0xfc, 3, 3][..], &[0; LIMIT]].concat();
        assert!(read_hello(&mut &endless[..]).await.is_err());
    }
}
