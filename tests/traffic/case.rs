//! The cases: what is configured, what is sent, what is expected.

use crate::http_case::{HttpCase, Target};
use crate::raw_case::RawCase;
use crate::stream_case::StreamCase;
use anyhow::{Context, bail, ensure};
use config::Intent;
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// Who asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Column {
    /// Our sidecar and our gateway, the instances in their own cluster.
    Sidecar,
    /// Envoys under our control plane, the instances in their own cluster.
    Envoy,
    /// Our sidecar and our gateway, the instances in another cluster.
    Remote,
}

/// One row of the table.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Case {
    /// What it shows.
    pub name: String,
    /// Istio's resources, in the callers' cluster; `$NAME` stands for the address of the instance NAME, `$gateway` for
    /// that of the gateway, and `$outside` for that of the servers in outside.rs. See certificates.rs and pki.rs for what
    /// stands for certificates.
    #[serde(default)]
    pub resources: String,
    /// Istio's resources in the cluster of the instances, where that is another: rows that have some are for that column.
    #[serde(default)]
    pub there: String,
    /// What the caller's Sidecar resource says instead of the usual, `$mesh` standing for the address at which it offers
    /// the mesh, and `$own` for the workload's own. It must offer the mesh at port 9080.
    #[serde(default)]
    pub sidecar: Option<String>,
    /// Files of more resources: of this folder, or of Istio's samples, which `ISTIO_DIR` has.
    #[serde(default)]
    files: Vec<String>,
    /// Files of Istio's own samples, below the folder that `ISTIO_DIR` names, each with texts that are replaced in it.
    #[serde(default)]
    pub samples: BTreeMap<String, BTreeMap<String, String>>,
    /// What is sent over HTTP, one after the other.
    #[serde(default)]
    pub requests: Vec<HttpCase>,
    /// What is sent over plain connections and over the applications' own TLS.
    #[serde(default)]
    pub tcp: Vec<StreamCase>,
    /// What is sent byte by byte.
    #[serde(default)]
    pub raw: Vec<RawCase>,
    /// Part of a warning that the resources must draw.
    #[serde(default)]
    pub warns: Option<String>,
    /// Part of the error with which the resources must be refused; nothing is sent then.
    #[serde(default)]
    pub refused: Option<String>,
    /// The columns in which the row does not hold, and why not.
    #[serde(default)]
    pub differs: BTreeMap<Column, String>,
    /// The columns for which the row is meant; all if none is named.
    #[serde(default)]
    pub only: BTreeSet<Column>,
}

/// All cases of the folder `cases`, in the order of the files' names.
///
/// # Errors
/// If a file cannot be read or is not a list of cases.
pub fn all() -> anyhow::Result<Vec<Case>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/traffic/cases");
    let files = fs::read_dir(&folder).with_context(|| format!("read {}", folder.display()))?;
    let mut files: Vec<PathBuf> = files.map(|file| Ok(file?.path())).collect::<std::io::Result<_>>()?;
    files.retain(|file| file.extension().is_some_and(|extension| extension == "yaml"));
    files.sort();
    let mut cases: Vec<Case> = Vec::new();
    for file in files {
        let text = fs::read_to_string(&file).with_context(|| format!("read {}", file.display()))?;
        let more: Vec<Case> =
            serde_saphyr::from_str(&text).map_err(|error| anyhow::anyhow!("{}: {error}", file.display()))?;
        for mut case in more {
            if case.read_files()? && case.take_samples()? {
                cases.push(case);
            }
        }
    }
    let mut names = BTreeSet::new();
    if let Some(twice) = cases.iter().find(|case| !names.insert(&case.name)) {
        bail!("two cases are named {:?}", twice.name);
    }
    Ok(cases)
}

// === impl Column ===

impl Column {
    pub const ALL: [Self; 3] = [Self::Sidecar, Self::Envoy, Self::Remote];
}

impl fmt::Display for Column {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Sidecar => "sidecar",
            Self::Envoy => "envoy",
            Self::Remote => "remote",
        })
    }
}

impl FromStr for Column {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let found = Self::ALL.into_iter().find(|column| column.to_string() == text);
        found.with_context(|| format!("{text:?} is not a column: sidecar, envoy or remote is expected"))
    }
}

// === impl Case ===

impl Case {
    /// Whether a gateway is asked.
    pub fn asks_gateway(&self) -> bool {
        let asked = self.requests.iter().map(|step| &step.to).chain(self.tcp.iter().map(|step| &step.to));
        asked.into_iter().any(Target::is_gateway)
    }

    /// Adds what stands in the files to the resources; whether all were to be found.
    fn read_files(&mut self) -> anyhow::Result<bool> {
        for name in &self.files {
            let folder = if name.starts_with("samples/") {
                let Some(istio) = std::env::var_os("ISTIO_DIR") else { return Ok(false) };
                PathBuf::from(istio)
            } else {
                Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/traffic")
            };
            let path = folder.join(name);
            let text = fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
            self.resources = [self.resources.as_str(), &text].join("\n---\n");
        }
        Ok(true)
    }

    /// Adds the samples to the resources; whether all were to be found.
    fn take_samples(&mut self) -> anyhow::Result<bool> {
        for (file, replaced) in &self.samples {
            let Some(folder) = std::env::var_os("ISTIO_DIR") else { return Ok(false) };
            let path = Path::new(&folder).join(file);
            let mut text = fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
            for (from, to) in replaced {
                ensure!(text.contains(from), "{}: no {from:?} in {file}", self.name);
                text = text.replace(from, to);
            }
            self.resources = format!("{}\n---\n{text}", self.resources);
        }
        Ok(true)
    }

    /// The columns in which it is run.
    pub fn runs_in(&self, column: Column) -> bool {
        !self.differs.contains_key(&column) && (self.only.is_empty() || self.only.contains(&column))
    }

    /// Whether the resources, `filled` with addresses, are taken, refused and warned about as the case says; a refusal
    /// would otherwise only be seen as configuration that never arrives.
    ///
    /// # Errors
    /// If they are not.
    pub fn check_resources(&self, filled: &str) -> Result<(), String> {
        let outcome = warnings(filled);
        match (&self.refused, outcome) {
            (Some(text), Err(error)) if error.contains(text) => Ok(()),
            (Some(text), Err(error)) => Err(format!("expected an error with {text:?}, came:\n{error}")),
            (Some(text), Ok(_)) => Err(format!("expected an error with {text:?}, but the resources were taken")),
            (None, Err(error)) => Err(format!("the resources are refused:\n{error}")),
            (None, Ok(warnings)) => match &self.warns {
                Some(text) if !warnings.iter().any(|warning| warning.contains(text)) => {
                    Err(format!("expected a warning with {text:?}, came: {warnings:?}"))
                }
                _ => Ok(()),
            },
        }
    }
}

/// What the control plane would warn of; the errors if it would refuse the resources.
fn warnings(resources: &str) -> Result<Vec<String>, String> {
    let parsed = resource::parse("case.yaml", resources).map_err(|error| error.to_string())?;
    let intent = Intent::from_documents(&parsed.documents);
    let intent = intent.map_err(|errors| errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))?;
    Ok(parsed.warnings.iter().chain(&intent.warnings).map(ToString::to_string).collect())
}
