//! Listening sockets: those that the table names, no more and no less.

use crate::ProxyError;
use crate::connection::{Connection, Held};
use crate::shared::Shared;
use socket2::{Domain, Protocol, Socket, Type};
use std::collections::{HashMap, HashSet};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

/// The sockets that are open, by address and listener.
pub(crate) struct Listening {
    shared: Arc<Shared>,
    places: Arc<Semaphore>,
    open: HashMap<(SocketAddr, Arc<str>), CancellationToken>,
    /// Those that cannot be bound, and why: it is told once.
    refused: HashMap<(SocketAddr, Arc<str>), io::ErrorKind>,
}

/// The pause after an error of `accept`, which is nearly always a lack of file descriptors.
const ACCEPT_BACKOFF: Duration = Duration::from_millis(50);

// === impl Listening ===

impl Listening {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        let places = Arc::new(Semaphore::new(shared.settings.max_connections));
        Self { shared, places, open: HashMap::new(), refused: HashMap::new() }
    }

    /// Opens and closes sockets until they are those of the table. Returns whether all could be opened; what could not
    /// is logged and counted, and tried again at the next call.
    pub(crate) fn follow(&mut self) -> bool {
        let table = self.shared.table.load_full();
        let of = |(name, listener): (&Arc<str>, &Arc<routing::Listener>)| {
            let name = name.clone();
            listener.bind.clone().into_iter().map(move |address| (address, name.clone()))
        };
        let wanted: HashSet<(SocketAddr, Arc<str>)> = table.listeners.iter().flat_map(of).collect();
        self.open.retain(|key, stop| {
            let stays = wanted.contains(key);
            if !stays {
                stop.cancel();
            }
            stays
        });
        self.refused.retain(|key, _| wanted.contains(key));
        for key in wanted {
            if self.open.contains_key(&key) {
                continue;
            }
            match bind(key.0, self.shared.settings.backlog) {
                Ok(socket) => {
                    let stop = self.shared.drain.child_token();
                    self.accept(socket, key.1.clone(), stop.clone());
                    tracing::info!(address = %key.0, listener = %key.1, "listening");
                    self.refused.remove(&key);
                    self.open.insert(key, stop);
                }
                Err(source) => {
                    let (address, listener) = (key.0, key.1.clone());
                    if self.refused.insert(key, source.kind()) != Some(source.kind()) {
                        tracing::warn!(error = %ProxyError::Bind { address, source }, %listener, "not listening");
                    }
                }
            }
        }
        self.shared.telemetry.unbound().set(i64::try_from(self.refused.len()).unwrap_or(i64::MAX));
        self.refused.is_empty()
    }

    fn accept(&self, socket: TcpListener, listener: Arc<str>, stop: CancellationToken) {
        let (shared, places) = (self.shared.clone(), self.places.clone());
        let (drain, cut) = (stop.clone(), self.shared.abort.child_token());
        let ended = cut.clone();
        let accepting = async move {
            loop {
                // Taken before the connection is: what has no place waits in the kernel's queue.
                let Ok(place) = places.clone().acquire_owned().await else { return };
                let (tcp, address) = match socket.accept().await {
                    Ok(accepted) => accepted,
                    Err(error) => {
                        tracing::warn!(%error, %listener, "accept");
                        tokio::time::sleep(ACCEPT_BACKOFF).await;
                        continue;
                    }
                };
                let (drain, cut) = (drain.child_token(), cut.clone());
                let held = Held { cut: cut.clone(), _place: Arc::new(place) };
                let connection =
                    Connection { shared: shared.clone(), listener: listener.clone(), address, drain, held };
                shared.tasks.spawn(async move {
                    tokio::select! {
                        // It is told first, so that it can end as a cut connection should.
                        biased;
                        () = connection.serve(tcp) => {}
                        () = cut.cancelled() => {}
                    }
                });
            }
        };
        let shared = self.shared.clone();
        self.shared.tasks.spawn(async move {
            tokio::select! {
                () = accepting => {}
                () = stop.cancelled() => {}
            }
            // The listener is gone: its connections have the drain time to end. At a shutdown all have the same.
            tokio::select! {
                () = tokio::time::sleep(shared.settings.drain()) => ended.cancel(),
                () = shared.drain.cancelled() => {}
            }
        });
    }
}

fn bind(address: SocketAddr, backlog: u32) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM.nonblocking(), Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.bind(&address.into())?;
    socket.listen(i32::try_from(backlog).unwrap_or(i32::MAX))?;
    TcpListener::from_std(socket.into())
}
