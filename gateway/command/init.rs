//! `isthmus init`: makes a cluster's identity on the machine where it will be used.

use crate::settings::ClusterSettings;
use anyhow::{Context, ensure};
use ca::{CA_CERTIFICATE, CA_KEY, ROOT_CERTIFICATE, SelfSigned, TokenKey};
use clap::Args;
use identity::RegistryKey;
use model::{ClusterId, TrustDomain};
use registry::PeerSettings;
use std::fs;
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// Which cluster, and where its files go.
#[derive(Debug, Args)]
pub struct Options {
    /// The cluster's name within the mesh.
    #[arg(long)]
    cluster: String,
    /// The trust domain of its workloads.
    #[arg(long)]
    trust_domain: String,
    /// The folder that is made.
    #[arg(long, default_value = "isthmus")]
    directory: PathBuf,
}

/// The files of a cluster.
#[derive(Debug, Clone)]
pub struct ClusterFiles {
    /// Who the cluster is, for the settings of its processes.
    pub cluster: ClusterSettings,
    /// The same for the settings of the others.
    pub peer: PeerSettings,
    /// The folder with Istio's `cacerts` files.
    pub certificate_authority: PathBuf,
    /// The root that its own processes trust.
    pub roots: PathBuf,
    /// The key that signs its records.
    pub registry_key: PathBuf,
    /// The key that signs its workloads' tokens.
    pub token_key: PathBuf,
}

/// Makes the files, and prints what to do with them.
///
/// # Errors
/// If the folder exists, a name is not valid, or a file cannot be written.
pub fn run(options: &Options) -> anyhow::Result<()> {
    let files = create(&options.directory, &options.cluster, &options.trust_domain)?;
    let cluster = serde_saphyr::to_string(&files.cluster)?;
    let peer = serde_saphyr::to_string(&[&files.peer])?;
    let directory = options.directory.display();
    fs::write(options.directory.join("cluster.yaml"), format!("cluster:\n{}", indented(&cluster)))?;
    fs::write(options.directory.join("peer.yaml"), format!("peers:\n{peer}"))?;
    println!(
        "Made {directory}. Keep ca/, registry-key.pem and token-key.pem to yourself.\n\
         {directory}/cluster.yaml goes into the settings of this cluster's processes,\n\
         {directory}/peer.yaml into those of the other clusters' control planes and gateways."
    );
    Ok(())
}

/// Makes the files of a cluster in a new folder.
///
/// # Errors
/// If the folder exists, a name is not valid, or a file cannot be written.
pub fn create(directory: &Path, cluster: &str, trust_domain: &str) -> anyhow::Result<ClusterFiles> {
    let id: ClusterId = cluster.parse()?;
    let domain: TrustDomain = trust_domain.parse()?;
    ensure!(!directory.exists(), "{} exists already: a new folder is expected", directory.display());
    let authority = directory.join("ca");
    folder(&authority)?;
    let root = SelfSigned::generate(&domain)?;
    let roots = authority.join(ROOT_CERTIFICATE);
    secret(&authority.join(CA_KEY), &root.key)?;
    fs::write(authority.join(CA_CERTIFICATE), &root.certificate)?;
    fs::write(&roots, &root.certificate)?;
    let (registry, registry_key) = (RegistryKey::generate(), directory.join("registry-key.pem"));
    secret(&registry_key, &registry.to_pem())?;
    let token_key = directory.join("token-key.pem");
    secret(&token_key, &TokenKey::generate()?)?;
    let uid = format!("{id}-{:016x}", rand::random::<u64>());
    Ok(ClusterFiles {
        cluster: ClusterSettings { name: id.to_string(), uid: uid.clone(), trust_domain: domain.to_string() },
        peer: PeerSettings {
            cluster: id.to_string(),
            uid,
            trust_domain: domain.to_string(),
            registry_key: registry.public().to_string(),
            roots: root.certificate,
        },
        certificate_authority: authority,
        roots,
        registry_key,
        token_key,
    })
}

fn folder(path: &Path) -> anyhow::Result<()> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true).mode(0o700).create(path).with_context(|| format!("create {}", path.display()))
}

/// Writes a file that only its owner may read.
pub(super) fn secret(path: &Path, text: &str) -> anyhow::Result<()> {
    let mut options = fs::OpenOptions::new();
    let file = options.write(true).create(true).truncate(true).mode(0o600).open(path);
    file.and_then(|mut file| file.write_all(text.as_bytes())).with_context(|| format!("write {}", path.display()))
}

fn indented(yaml: &str) -> String {
    yaml.lines().map(|line| format!("  {line}\n")).collect()
}
