//! Opens HTTP connections to endpoints, and lets them run.

use crate::ProxyError;
use crate::connect::{Connected, connect};
use crate::destination::{Connection, Destination};
use crate::http::chain;
use crate::http2::Share;
use crate::shared::Shared;
use crate::telemetry::Series;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use model::WorkloadIdentity;
use routing::{Upstream, Use, UseKind};
use std::sync::Arc;
use std::time::Duration;

/// A silent HTTP/2 connection is asked whether it still lives this often, and has as long to answer.
const KEEP_ALIVE: Duration = Duration::from_secs(10);

/// Opens an HTTP/1 connection.
///
/// # Errors
/// If the endpoint cannot be reached in time, or is not who it should be.
pub(crate) async fn open_http1(
    shared: &Shared,
    destination: &Arc<Destination>,
    counted: Use,
) -> Result<Connection, ProxyError> {
    let place = (counted, destination.open());
    let Connected { stream, peer } = connect(shared, destination).await?;
    let (sender, connection) = hyper::client::conn::http1::Builder::new()
        .max_headers(shared.settings.headers)
        .max_buf_size(shared.settings.header_limit())
        .handshake(TokioIo::new(stream))
        .await?;
    let running = connection.with_upgrades();
    drive(shared, async move {
        let ended = running.await;
        drop(place);
        ended
    });
    Ok(Connection::new(sender, series(shared, destination, peer.as_ref())))
}

/// Opens an HTTP/2 connection, and takes the first share of it.
///
/// # Errors
/// If the endpoint cannot be reached in time, or is not who it should be.
pub(crate) async fn open_http2(shared: &Shared, destination: &Destination, counted: Use) -> Result<Share, ProxyError> {
    let (interval, timeout) = destination.settings.policy.life.probing.unwrap_or((KEEP_ALIVE, KEEP_ALIVE));
    let Connected { stream, peer } = connect(shared, destination).await?;
    let settings = &shared.settings;
    let (sender, connection) = hyper::client::conn::http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .initial_stream_window_size(settings.stream_window)
        .initial_connection_window_size(settings.connection_window)
        .max_header_list_size(settings.header_list())
        .keep_alive_interval(interval)
        .keep_alive_timeout(timeout)
        .handshake(TokioIo::new(stream))
        .await?;
    drive(shared, async move {
        let ended = connection.await;
        drop(counted);
        ended
    });
    Ok(destination.http2.add(sender, series(shared, destination, peer.as_ref())))
}

/// Opens one more HTTP/1 connection in the background while there are fewer than several to a gateway: each ends at an
/// endpoint of its own, and requests take turns.
pub(crate) fn widen(shared: &Arc<Shared>, upstream: &Upstream, destination: &Arc<Destination>) {
    let Some(widening) = destination.widening(shared.settings.remote_connections) else { return };
    let limits = &upstream.settings.policy.limits;
    let Some(counted) = upstream.usage.begin(UseKind::Connection, limits) else { return };
    let (shared, destination) = (shared.clone(), destination.clone());
    let tasks = shared.upstreams.clone();
    tasks.spawn(async move {
        tokio::select! {
            () = shared.abort.cancelled() => {}
            // A failure is remembered by the endpoint itself.
            opened = open_http1(&shared, &destination, counted) => if let Ok(connection) = opened {
                destination.keep(connection, shared.settings.pool_idle);
            }
        }
        drop(widening);
    });
}

/// Lets a connection run until it ends of itself or everything does.
pub(crate) fn drive(shared: &Shared, connection: impl Future<Output = hyper::Result<()>> + Send + 'static) {
    let abort = shared.abort.clone();
    shared.upstreams.spawn(async move {
        tokio::select! {
            () = abort.cancelled() => {}
            ended = connection => if let Err(error) = ended {
                tracing::debug!(error = chain(&error), "connection to an upstream broke");
            }
        }
    });
}

fn series(shared: &Shared, destination: &Destination, peer: Option<&WorkloadIdentity>) -> Arc<Series> {
    shared.telemetry.outbound(&destination.settings, Some(&destination.endpoint), peer)
}
