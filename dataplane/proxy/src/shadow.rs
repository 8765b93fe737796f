//! Copies of requests: sent when the request itself is on its way, their answers read and thrown away.

use crate::attempt::attempt;
use crate::body::{Part, RequestBody};
use crate::destination::Between;
use crate::dynamic::Asked;
use crate::exchange::Carrier;
use crate::shared::Shared;
use http::Request;
use http::request::Parts;
use http::uri::Authority;
use http_body::Body;
use routing::{Upstream, UseKind, Wanted};
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::oneshot;
use tokio::time::timeout;

/// A copy that is to be sent.
pub(crate) struct Shadow {
    pub(crate) upstream: Arc<Upstream>,
    pub(crate) head: Parts,
    /// The body once it has passed; none if there is none.
    pub(crate) body: Option<oneshot::Receiver<VecDeque<Part>>>,
    /// Where the caller was going.
    pub(crate) destination: SocketAddr,
    /// Who asks whom, for upstreams that are told.
    pub(crate) between: Between,
}

/// How long a copy may take, where the route has no time of its own.
const LIMIT: Duration = Duration::from_secs(15);

impl Shadow {
    /// Sends it in a task of its own; dropped if too many are under way.
    pub(crate) fn send(self, shared: &Arc<Shared>, limit: Option<Duration>) {
        let Ok(permit) = shared.shadows.clone().try_acquire_owned() else { return };
        let shared = shared.clone();
        let tasks = shared.upstreams.clone();
        tasks.spawn(async move {
            tokio::select! {
                () = shared.abort.cancelled() => {}
                _ = timeout(limit.unwrap_or(LIMIT), self.go(&shared)) => {}
            }
            drop(permit);
        });
    }

    async fn go(self, shared: &Arc<Shared>) -> Option<()> {
        let body = match self.body {
            None => RequestBody::Empty,
            Some(body) => RequestBody::Copied(body.await.ok()?),
        };
        let _place = self.upstream.usage.begin(UseKind::Request, &self.upstream.settings.policy.limits)?;
        let wanted = Wanted { destination: self.destination, hash: None, tried: &[], now: shared.now() };
        let named = shared.named(&self.upstream, self.head.uri.authority().map(Asked::of).as_ref());
        let endpoint = named.unwrap_or_else(|| self.upstream.pick(&wanted, rand::random))?;
        let most = shared.settings.passed_through;
        let destination = shared.destinations.pooled(&self.upstream, endpoint, self.between, most);
        let request = Request::from_parts(self.head, body);
        let answered = attempt(shared, &self.upstream, &destination, request).await.ok()?;
        let mut body = pin!(answered.response.into_body());
        while std::future::poll_fn(|cx| body.as_mut().poll_frame(cx)).await.transpose().ok()?.is_some() {}
        if let Carrier::Http1(connection) = answered.carrier {
            destination.keep(connection, shared.settings.pool_idle);
        }
        Some(())
    }
}

/// The authority of a copy: `-shadow` after the host, as Envoy has it.
pub(crate) fn authority(of: &Authority) -> Authority {
    let shadow = match of.as_str().rsplit_once(':') {
        Some((host, port)) if !host.is_empty() && !port.ends_with(']') => format!("{host}-shadow:{port}"),
        _ => format!("{of}-shadow"),
    };
    shadow.parse().unwrap_or_else(|_| of.clone())
}
