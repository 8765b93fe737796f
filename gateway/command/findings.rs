//! What `validate` and `analyze` share: what is read, and how messages are shown.

use super::sources;
use analyze::{Message, Resources, Schemas, Severity};
use anyhow::Context;
use clap::{Args, ValueEnum};
use resource::Limits;
use serde::Serialize;
use std::path::PathBuf;

/// What to read, and how to show what is found.
#[derive(Debug, Args)]
pub(super) struct Input {
    /// Files and directories of resources; `-` is standard input.
    #[arg(value_name = "FILE|DIR|-")]
    paths: Vec<PathBuf>,
    /// As without `-f`: files and directories of resources.
    #[arg(short = 'f', long = "filename", value_name = "FILE|DIR|-")]
    filenames: Vec<PathBuf>,
    /// Read the folders below directories too.
    #[arg(short = 'R', long)]
    recursive: bool,
    /// Check against these CustomResourceDefinitions too: their schemas and their expressions.
    #[arg(long, value_name = "FILE")]
    crds: Vec<PathBuf>,
    /// The form of the output.
    #[arg(short, long, value_enum, default_value = "log")]
    output: Form,
}

/// A form of output.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Form {
    /// A line for each message.
    Log,
    /// One list of messages, as JSON.
    Json,
    /// One list of messages, as YAML.
    Yaml,
}

/// A message as machines read it.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Record {
    code: &'static str,
    name: &'static str,
    level: String,
    origin: String,
    /// `FILE:LINE:COLUMN`.
    reference: String,
    file: String,
    line: u32,
    column: u32,
    path: String,
    message: String,
}

// === impl Input ===

impl Input {
    /// Reads all that is named.
    ///
    /// # Errors
    /// If nothing is named, or what is named is not there.
    pub(super) fn read(&self) -> anyhow::Result<Resources> {
        let paths: Vec<PathBuf> = self.paths.iter().chain(&self.filenames).cloned().collect();
        anyhow::ensure!(!paths.is_empty(), "name files or directories of resources, or - for standard input");
        let limits = Limits::default();
        let schemas = self.schemas(&limits)?;
        let mut resources = Resources::default();
        for source in sources::read(&paths, self.recursive)? {
            match source.text {
                Ok(text) => resources.add(&source.name, &text, &limits, schemas.as_ref()),
                Err(reason) => resources.add_unreadable(&source.name, &reason),
            }
        }
        Ok(resources)
    }

    fn schemas(&self, limits: &Limits) -> anyhow::Result<Option<Schemas>> {
        if self.crds.is_empty() {
            return Ok(None);
        }
        let mut schemas = Schemas::default();
        for path in &self.crds {
            let text = std::fs::read_to_string(path).with_context(|| format!("--crds {}", path.display()))?;
            let count = schemas.add(&path.display().to_string(), &text, limits)?;
            anyhow::ensure!(count > 0, "--crds {}: no CustomResourceDefinition in it", path.display());
        }
        Ok(Some(schemas))
    }

    /// Prints `messages` to standard output; `verdict` follows them in the form of lines.
    ///
    /// # Errors
    /// If standard output is closed.
    pub(super) fn print(&self, messages: &[&Message], verdict: &str) -> anyhow::Result<()> {
        use std::io::Write;
        let mut out = std::io::stdout().lock();
        let records = || messages.iter().map(|message| Record::of(message)).collect::<Vec<_>>();
        match self.output {
            Form::Log => {
                for message in messages {
                    writeln!(out, "{message}")?;
                }
                writeln!(out, "{verdict}")?;
            }
            Form::Json => writeln!(out, "{}", serde_json::to_string_pretty(&records())?)?,
            Form::Yaml => write!(out, "{}", serde_saphyr::to_string(&records())?)?,
        }
        Ok(())
    }
}

/// How many messages there are of each severity, as a sentence.
pub(super) fn tally(messages: &[&Message]) -> String {
    let count = |severity, one: &str, many: &str| {
        let count = messages.iter().filter(|message| message.severity == severity).count();
        format!("{count} {}", if count == 1 { one } else { many })
    };
    format!(
        "{}, {} and {}",
        count(Severity::Error, "error", "errors"),
        count(Severity::Warning, "warning", "warnings"),
        count(Severity::Info, "note", "notes")
    )
}

// === impl Record ===

impl Record {
    fn of(message: &Message) -> Self {
        Self {
            code: message.code.id,
            name: message.code.name,
            level: message.severity.to_string(),
            origin: message.subject.to_string().trim_end().to_owned(),
            reference: message.position.to_string(),
            file: message.position.file.to_string(),
            line: message.position.line,
            column: message.position.column,
            path: message.path.clone(),
            message: message.text.clone(),
        }
    }
}
