//! `isthmus token workload`: writes the token with which a workload gets its first certificate.

use super::init::{ClusterFiles, secret};
use anyhow::Context;
use ca::TokenKey;
use clap::{Args, Subcommand};
use model::Namespace;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Kinds of tokens.
#[derive(Debug, Subcommand)]
pub enum Token {
    /// A token for one workload identity (JWT, audience `istio-ca`), with the root that the workload needs beside it.
    Workload(Workload),
}

/// Whose token, and where it goes.
#[derive(Debug, Args)]
pub struct Workload {
    /// The Kubernetes namespace.
    #[arg(long)]
    namespace: Namespace,
    /// The service account; `gateway-CLUSTER` in `isthmus-system` for a gateway.
    #[arg(long)]
    service_account: String,
    /// How long it may be used, such as `1h`, `30m` or `24h`.
    #[arg(long, default_value = "1h", value_parser = duration)]
    ttl: Duration,
    /// The cluster's folder, made by `isthmus init`.
    #[arg(long, default_value = "isthmus")]
    directory: PathBuf,
    /// The control plane's HOST:PORT, as the workload reaches it.
    #[arg(long)]
    address: String,
    /// The folder to write: `token`, `root-cert.pem` and `identity.yaml`, the block for the workload's settings.
    #[arg(long)]
    output: PathBuf,
}

/// Runs the subcommand.
///
/// # Errors
/// If a name is not valid, or a file cannot be read or written.
pub fn run(token: &Token) -> anyhow::Result<()> {
    let Token::Workload(workload) = token;
    let domain = fs::read_to_string(workload.directory.join("cluster.yaml"))
        .with_context(|| format!("{}: made by `isthmus init`?", workload.directory.display()))?;
    let cluster: Cluster = serde_saphyr::from_str(&domain).map_err(|error| anyhow::anyhow!("cluster.yaml: {error}"))?;
    let text = mint(
        &workload.directory.join("token-key.pem"),
        &cluster.cluster.trust_domain,
        &workload.namespace,
        &workload.service_account,
        workload.ttl,
    )?;
    fs::create_dir_all(&workload.output).with_context(|| format!("create {}", workload.output.display()))?;
    secret(&workload.output.join("token"), &text)?;
    fs::copy(workload.directory.join("ca/root-cert.pem"), workload.output.join("root-cert.pem"))?;
    let block = format!("identity:\n  controlPlane: {}\n  roots: root-cert.pem\n  token: token\n", workload.address);
    fs::write(workload.output.join("identity.yaml"), block)?;
    println!(
        "Wrote {}: a token for ns/{}/sa/{}, good for {:?}",
        workload.output.display(),
        workload.namespace,
        workload.service_account,
        workload.ttl
    );
    Ok(())
}

/// Writes a token of the cluster `files` to `path`, readable by its owner only.
///
/// # Errors
/// If a name is not valid, or a file cannot be read or written.
pub fn write(
    files: &ClusterFiles,
    namespace: &str,
    service_account: &str,
    ttl: Duration,
    path: &Path,
) -> anyhow::Result<()> {
    let namespace = namespace.parse()?;
    secret(path, &mint(&files.token_key, &files.cluster.trust_domain, &namespace, service_account, ttl)?)
}

/// The part of `cluster.yaml` that is needed here.
#[derive(serde::Deserialize)]
struct Cluster {
    cluster: crate::settings::ClusterSettings,
}

fn mint(key: &Path, domain: &str, namespace: &Namespace, account: &str, ttl: Duration) -> anyhow::Result<String> {
    let pem = fs::read_to_string(key).with_context(|| format!("read {}", key.display()))?;
    let key = TokenKey::from_pem(domain.parse()?, &pem)?;
    Ok(key.mint(namespace, account, ttl)?)
}

fn duration(text: &str) -> Result<Duration, String> {
    let refuse = || format!("{text:?} is not a duration such as 90s, 30m or 24h");
    let split = text.find(|c: char| !c.is_ascii_digit()).ok_or_else(refuse)?;
    let count: u64 = text[..split].parse().map_err(|_| refuse())?;
    let unit = match &text[split..] {
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        _ => return Err(refuse()),
    };
    count.checked_mul(unit).map(Duration::from_secs).ok_or_else(refuse)
}
