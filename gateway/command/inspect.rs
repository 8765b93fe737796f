//! `isthmus inspect`: prints what a running process knows.

use crate::http_client::Client;
use anyhow::ensure;
use clap::Args;
use http::HeaderMap;
use std::io::Write;
use std::net::SocketAddr;
use std::time::Duration;

/// What to print, and of which process.
#[derive(Debug, Args)]
pub struct Options {
    /// The view, e.g. `catalog`, `table` or `settings`; without one, the names of all views.
    #[arg(default_value = "")]
    view: String,
    /// The process's admin address.
    #[arg(long, default_value = "127.0.0.1:15000")]
    admin: SocketAddr,
}

/// Prints the view to standard output.
///
/// # Errors
/// If the process does not answer, or has no such view.
pub async fn run(options: Options) -> anyhow::Result<()> {
    let path = format!("/inspect/{}", options.view);
    let host = options.admin.to_string();
    let reply = Client::new(options.admin, Duration::from_secs(5)).get(&host, &path, &HeaderMap::new()).await?;
    ensure!(reply.status == 200, "{}", String::from_utf8_lossy(&reply.body).trim());
    std::io::stdout().write_all(&reply.body)?;
    Ok(())
}
