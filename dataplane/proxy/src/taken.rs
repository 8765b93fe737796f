//! How a connection was taken, and whether it still would be: a listener that has come to ask for certificates must not
//! keep those who showed none.

use crate::detect::Seen;
use crate::shared::Shared;
use routing::{Beginning, Chain, Handler, Listener};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

/// How a connection was taken.
pub(crate) struct Taken {
    /// By which listener, as it was then.
    pub(crate) listener: Arc<Listener>,
    pub(crate) destination: SocketAddr,
    pub(crate) source: IpAddr,
    pub(crate) seen: Seen,
}

// === impl Taken ===

impl Taken {
    /// The chain that took it; none if it was turned away.
    pub(crate) fn chain(&self) -> Option<&Chain> {
        self.chain_of(&self.listener)
    }

    /// Returns once the listener takes such connections with other TLS, as something else, or not at all. For a listener
    /// that is gone, whoever listened decides.
    pub(crate) async fn superseded(&self, shared: &Shared) {
        let mut changes = shared.listeners.subscribe();
        while self.stands(shared) {
            // The sender is shared by all connections, this one among them.
            let _ = changes.changed().await;
        }
    }

    /// What is done with such connections at this moment, by the chain that takes them; see [`Taken::superseded`] for the
    /// absence of one.
    pub(crate) fn now<T>(&self, shared: &Shared, look: impl FnOnce(&Chain) -> T) -> Option<T> {
        let table = shared.table.load();
        let now = table.listeners.get(&self.listener.name).unwrap_or(&self.listener);
        self.chain_of(now).map(look)
    }

    fn stands(&self, shared: &Shared) -> bool {
        let table = shared.table.load();
        let Some(now) = table.listeners.get(&self.listener.name) else { return true };
        Arc::ptr_eq(now, &self.listener) || alike(self.chain(), self.chain_of(now))
    }

    fn chain_of<'a>(&self, listener: &'a Listener) -> Option<&'a Chain> {
        listener.chain(self.destination, self.source, beginning(&self.seen))
    }
}

fn alike(then: Option<&Chain>, now: Option<&Chain>) -> bool {
    let is_http = |chain: &Chain| matches!(chain.handler, Handler::Http(_));
    then.zip(now).is_some_and(|(then, now)| then.tls == now.tls && is_http(then) == is_http(now))
}

fn beginning(seen: &Seen) -> Beginning<'_> {
    match seen {
        Seen::Tls(hello) => {
            Beginning::Tls { server_name: hello.server_name.as_deref().unwrap_or_default(), alpn: &hello.alpn }
        }
        Seen::Http1 => Beginning::Http1,
        Seen::Http2 => Beginning::Http2,
        Seen::Bytes => Beginning::Bytes,
    }
}
