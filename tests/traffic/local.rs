//! What stands outside of the mesh: applications at 127.0.0.1 that are found by name, because `localhost` and the names
//! under it need no DNS server.
//!
//! | in a case | is |
//! |---|---|
//! | `$http` | the port of the HTTP application `local` |
//! | `$https` | the port of the same behind TLS, with a certificate for `a.localhost` and `localhost` |
//! | `$tls` | the port of `local-tls`, which speaks bytes in TLS of its own |
//! | `$bytes` | the port of `local-bytes`, which speaks bytes |
//! | `$socket` | the path of a Unix socket of the HTTP application |
//! | `$roots` | the file of the roots that vouch for `$https` |

use crate::application;
use crate::ledger::Ledger;
use crate::stream;
use rustls::pki_types::PrivateKeyDer;
use std::fs;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use tokio::io::{AsyncRead, AsyncWrite, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream, UnixListener};
use tokio_rustls::TlsAcceptor;

/// The applications that run, as cases name them.
pub struct Local(Vec<(&'static str, String)>);

impl Local {
    /// Starts them; files are put into `home`.
    ///
    /// # Errors
    /// If something cannot be bound or written.
    pub async fn start(home: &Path, ledger: &Arc<Ledger>) -> io::Result<Self> {
        let [http, https, tls, bytes] = [free()?, free()?, free()?, free()?];
        let (socket, roots) = (home.join("local.sock"), home.join("local-roots.pem"));
        application::start(http, "local".to_owned(), ledger.clone()).await?;
        stream::start_tls(tls, "local-tls".to_owned()).await?;
        stream::start_plain(bytes, "local-bytes".to_owned()).await?;
        behind_tls(https, http, &roots).await?;
        behind_socket(&socket, http)?;
        Ok(Self(vec![
            ("$https", https.port().to_string()),
            ("$http", http.port().to_string()),
            ("$tls", tls.port().to_string()),
            ("$bytes", bytes.port().to_string()),
            ("$socket", socket.display().to_string()),
            ("$roots", roots.display().to_string()),
        ]))
    }

    /// `text` with the places of the applications instead of their names.
    pub fn filled(&self, text: &str) -> String {
        self.0.iter().fold(text.to_owned(), |text, (name, value)| text.replace(name, value))
    }
}

/// An address at which nobody listens at the moment.
fn free() -> io::Result<SocketAddr> {
    std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()
}

async fn behind_tls(at: SocketAddr, behind: SocketAddr, roots: &Path) -> io::Result<()> {
    let own = rcgen::generate_simple_self_signed(["a.localhost".to_owned(), "localhost".to_owned()]);
    let own = own.map_err(io::Error::other)?;
    fs::write(roots, own.cert.pem())?;
    let key = PrivateKeyDer::try_from(own.signing_key.serialize_der()).map_err(io::Error::other)?;
    let tls = rustls::ServerConfig::builder().with_no_client_auth();
    let tls = tls.with_single_cert(vec![own.cert.der().clone()], key).map_err(io::Error::other)?;
    let (acceptor, listener) = (TlsAcceptor::from(Arc::new(tls)), TcpListener::bind(at).await?);
    tokio::spawn(async move {
        while let Ok((tcp, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                if let Ok(tls) = acceptor.accept(tcp).await {
                    join(tls, behind).await;
                }
            });
        }
    });
    Ok(())
}

fn behind_socket(at: &Path, behind: SocketAddr) -> io::Result<()> {
    let listener = UnixListener::bind(at)?;
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(join(stream, behind));
        }
    });
    Ok(())
}

async fn join(mut stream: impl AsyncRead + AsyncWrite + Unpin, to: SocketAddr) {
    if let Ok(mut tcp) = TcpStream::connect(to).await {
        // Callers leave as they like.
        let _ = copy_bidirectional(&mut stream, &mut tcp).await;
    }
}
