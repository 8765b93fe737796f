//! What follows `101 Switching Protocols`: bytes, both ways, until both have ended.

use crate::connection::Held;
use crate::exchange::Exchange;
use crate::shared::Shared;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use std::sync::Arc;
use tokio::io::copy_bidirectional;

/// Joins the two sides once both have switched; `connection` says when that must end, and lasts as long.
pub(crate) fn join(
    shared: &Arc<Shared>,
    connection: Held,
    caller: OnUpgrade,
    upstream: OnUpgrade,
    mut exchange: Exchange,
) {
    let copying = async move {
        let (caller, upstream) = tokio::try_join!(caller, upstream)?;
        let copied = copy_bidirectional(&mut TokioIo::new(caller), &mut TokioIo::new(upstream)).await;
        if let Ok((_, received)) = copied {
            exchange.passed(received, None);
            exchange.complete();
        }
        Ok::<(), hyper::Error>(())
    };
    shared.tasks.spawn(async move {
        tokio::select! {
            () = connection.cut.cancelled() => {}
            _ = copying => {}
        }
        drop(connection);
    });
}
