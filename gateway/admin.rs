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
    let bare = host.rsplit_once(':').map_or(host, |(bare, _)| bare);
    bare == "localhost"
        || bare.trim_matches(['[', ']']).parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}
