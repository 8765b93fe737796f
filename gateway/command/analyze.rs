//! `isthmus analyze`: what is wrong with resources, each for itself and all together.

use super::findings::{Input, tally};
use crate::settings::{self, ControlPlaneProcess};
use analyze::{Facts, Message, Severity, Suppression, code};
use clap::Args;
use model::{ClusterId, Host};
use std::path::PathBuf;
use std::process::ExitCode;

/// What to analyze.
#[derive(Debug, Args)]
pub struct Options {
    #[command(flatten)]
    input: Input,
    /// A cluster of the mesh (repeatable): exports to others are found then.
    #[arg(long = "cluster", value_name = "NAME")]
    clusters: Vec<ClusterId>,
    /// The settings of a control plane: its cluster and its peers are the clusters of the mesh.
    #[arg(long, value_name = "FILE")]
    settings: Option<PathBuf>,
    /// A host that is declared elsewhere, such as by a peer (repeatable); `*.DOMAIN` for all below.
    #[arg(long = "host", value_name = "HOST")]
    hosts: Vec<Host>,
    /// Fail if a message is of this severity or worse: Info, Warning or Error.
    #[arg(long, value_name = "SEVERITY", default_value = "Error")]
    failure_threshold: Severity,
    /// Show messages of this severity or worse: Info, Warning or Error.
    #[arg(long, value_name = "SEVERITY", default_value = "Info")]
    output_threshold: Severity,
    /// Leave out messages of a code about resources: CODE=KIND NAME.NAMESPACE, with `*` for anything (repeatable).
    #[arg(short = 'S', long = "suppress", value_name = "CODE=RESOURCE")]
    suppressions: Vec<Suppression>,
    /// Print the rules and the codes of messages, and read nothing.
    #[arg(short = 'L', long)]
    list_analyzers: bool,
}

/// istioctl's exit code where messages reach the threshold, so that scripts can tell it from a failure to look.
const FOUND: u8 = 79;

/// Prints what is found; succeeds if nothing reaches the threshold.
///
/// # Errors
/// If what is named cannot be read, or standard output is closed.
pub fn run(options: &Options) -> anyhow::Result<ExitCode> {
    if options.list_analyzers {
        list();
        return Ok(ExitCode::SUCCESS);
    }
    let resources = options.input.read()?;
    let found = resources.analyze(&options.facts()?);
    let is_wanted = |message: &&Message| !options.suppressions.iter().any(|one| one.covers(message));
    let found: Vec<&Message> = found.iter().filter(is_wanted).collect();
    let shown: Vec<&Message> =
        found.iter().copied().filter(|message| message.severity >= options.output_threshold).collect();
    let verdict = if shown.is_empty() {
        format!("no issues found in {} resources", resources.count())
    } else {
        format!("{} in {} resources", tally(&shown), resources.count())
    };
    options.input.print(&shown, &verdict)?;
    let fails = found.iter().any(|message| message.severity >= options.failure_threshold);
    Ok(if fails { ExitCode::from(FOUND) } else { ExitCode::SUCCESS })
}

fn list() {
    println!("Rules:");
    for name in analyze::rules() {
        println!("  {name}");
    }
    println!("Messages:");
    for (code, what) in code::ALL {
        println!("  {} {} ({}): {what}", code.id, code.name, code.severity);
    }
}

// === impl Options ===

impl Options {
    fn facts(&self) -> anyhow::Result<Facts> {
        let mut clusters: Vec<ClusterId> = self.clusters.clone();
        if let Some(path) = &self.settings {
            let process: ControlPlaneProcess = settings::read(path)?;
            clusters.push(process.cluster.cluster()?.id);
            for peer in &process.registry.peers {
                clusters.push(peer.cluster.parse()?);
            }
        }
        Ok(Facts { clusters: clusters.into_iter().collect(), hosts: self.hosts.iter().cloned().collect() })
    }
}
