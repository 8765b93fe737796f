//! The inspection surface on loopback: what the process knows, as text, for `isthmus inspect` and `curl`.

use crate::http_server::{self, Answer, text, typed};
use anyhow::{Context, ensure};
use http::Method;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

/// Prints one value of the running process.
pub type View = Box<dyn Fn() -> String + Send + Sync>;

/// What can be looked at, by name.
#[derive(Default)]
pub struct Views(BTreeMap<&'static str, View>);

impl Views {
    /// Adds a view under `name`, printed anew for every request.
    #[must_use]
    pub fn with(mut self, name: &'static str, view: impl Fn() -> String + Send + Sync + 'static) -> Self {
        self.0.insert(name, Box::new(view));
        self
    }

    fn show(&self, name: &str) -> Answer {
        match self.0.get(name) {
            Some(view) => text(200, view()),
            None if name.is_empty() => typed(200, "text/plain; charset=utf-8", self.index()),
            None => text(404, format!("there is no view {name:?}; there are:\n{}", self.index())),
        }
    }

    fn index(&self) -> String {
        self.0.keys().map(|name| format!("{name}\n")).collect()
    }
}

/// Serves the views on `address` until `shutdown`.
///
/// # Errors
/// If `address` is not a loopback address, or cannot be bound.
pub async fn serve(address: SocketAddr, views: Views, shutdown: &CancellationToken) -> anyhow::Result<()> {
    ensure!(address.ip().is_loopback(), "admin: {address} is not accepted: a loopback address is expected");
    let listener = TcpListener::bind(address).await.with_context(|| format!("admin: bind {address}"))?;
    let handler = move |request: &http::Request<hyper::body::Incoming>| match request.method() {
        // A name that resolves to loopback must not open this surface to a browser.
        _ if !host_is_literal(request) => text(403, "only loopback addresses are accepted as Host\n"),
        &Method::GET => views.show(request.uri().path().trim_start_matches("/inspect").trim_matches('/')),
        _ => text(405, "only GET\n"),
    };
    tokio::spawn(http_server::serve(listener, handler, shutdown.clone()));
    Ok(())
}

fn host_is_literal(request: &http::Request<hyper::body::Incoming>) -> bool {
    let Some(host) = request.headers().get(http::header::HOST).and_then(|host| host.to_str().ok()) else {
        return false;
    };
    let Ok(authority) = host.parse::<http::uri::Authority>() else { return false };
    let bare = authority.host();
    bare == "localhost"
        || bare.trim_matches(['[', ']']).parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpStream;

    /// The whole answer to a request that is sent as it is.
    async fn ask(address: SocketAddr, method: &str, target: &str, host: &str) -> String {
        let mut tcp = TcpStream::connect(address).await.expect("connected");
        let request = format!(
            "{method} {target} HTTP/1.1\r\nhost: {host}\r\norigin: http://evil.example\r\nconnection: close\r\n\r\n"
        );
        tcp.write_all(request.as_bytes()).await.expect("sent");
        let mut answer = String::new();
        tcp.read_to_string(&mut answer).await.expect("an answer");
        answer
    }

    #[tokio::test]
    async fn sec_h4_it_is_looked_at_from_this_machine_alone_and_changes_nothing() {
        let shutdown = CancellationToken::new();
        for open in ["0.0.0.0:0", "192.0.2.1:0", "[::]:0"] {
            let refused = serve(open.parse().expect("an address"), Views::default(), &shutdown).await;
            assert!(refused.is_err_and(|error| error.to_string().contains("a loopback address is expected")), "{open}");
        }
        let free = std::net::TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("an address");
        let views = Views::default().with("table", || "what is known\n".to_owned());
        serve(free, views, &shutdown).await.expect("served");
        let status = async |method: &str, target: &str, host: &str| {
            ask(free, method, target, host).await.split(' ').nth(1).expect("a status").to_owned()
        };
        for host in ["localhost", "localhost:15000", "127.0.0.1", "127.0.0.1:15000", "[::1]", "[::1]:15000"] {
            assert_eq!(status("GET", "/inspect/table", host).await, "200", "{host}");
        }
        for host in ["evil.example", "127.0.0.1.evil.example", "localhost.evil.example", "10.0.0.1", "", "[::1", "a b"]
        {
            assert_eq!(status("GET", "/inspect/table", host).await, "403", "{host}");
        }
        for method in ["POST", "PUT", "DELETE", "OPTIONS"] {
            assert_eq!(status(method, "/inspect/table", "localhost").await, "405", "{method}");
        }
        for target in ["/../../etc/passwd", "/%2e%2e/table", "//table/x", "/inspect/table/../settings", "/TABLE"] {
            assert_eq!(status("GET", target, "localhost").await, "404", "{target}");
        }
        let answer = ask(free, "GET", "/table", "localhost").await.to_lowercase();
        assert!(answer.contains("x-content-type-options: nosniff") && !answer.contains("access-control"), "{answer}");
        shutdown.cancel();
    }
}
