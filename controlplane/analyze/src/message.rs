//! One thing that is to be said about one resource.

use crate::Code;
use resource::{Position, Tree};
use std::fmt;
use std::str::FromStr;

/// How bad it is. Ordered: what is worse is greater.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Severity {
    /// Good to know.
    Info,
    /// Probably not what was meant.
    Warning,
    /// It does not work.
    Error,
}

/// Which resource.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Subject {
    /// Its kind; empty if the file as a whole is meant.
    pub kind: String,
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

/// One thing that is to be said about one resource. Prints as one line, as istioctl does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// What sort of thing.
    pub code: &'static Code,
    /// How bad it is.
    pub severity: Severity,
    /// About which resource.
    pub subject: Subject,
    /// Where.
    pub position: Position,
    /// The field; empty if the resource as a whole is meant.
    pub path: String,
    /// What there is to say.
    pub text: String,
}

// === impl Severity ===

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Info => "Info",
            Self::Warning => "Warning",
            Self::Error => "Error",
        })
    }
}

impl FromStr for Severity {
    type Err = String;

    /// `Info`, `Warning` or `Error`, in any case.
    fn from_str(text: &str) -> Result<Self, String> {
        match text.to_ascii_lowercase().as_str() {
            "info" => Ok(Self::Info),
            "warning" | "warn" => Ok(Self::Warning),
            "error" => Ok(Self::Error),
            _ => Err(format!("{text:?} is not accepted: Info, Warning or Error")),
        }
    }
}

// === impl Subject ===

impl Subject {
    /// The resource that `tree` is, as far as it says.
    pub(crate) fn of(tree: &Tree) -> Self {
        let text = |path| tree.text(path).unwrap_or_default().to_owned();
        let namespace = tree.text("metadata.namespace").unwrap_or("default").to_owned();
        Self { kind: text("kind"), namespace, name: text("metadata.name") }
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.kind.as_str(), self.name.as_str()) {
            ("", "") => Ok(()),
            (kind, "") => write!(f, "{kind} "),
            (kind, name) => write!(f, "{kind} {}/{name} ", self.namespace),
        }
    }
}

// === impl Message ===

impl Message {
    /// What `code` says about what stands at `path` of `tree`.
    pub(crate) fn new(code: &'static Code, tree: &Tree, path: impl Into<String>, text: impl Into<String>) -> Self {
        let path = path.into();
        Self {
            code,
            severity: code.severity,
            subject: Subject::of(tree),
            position: tree.position(&path),
            path,
            text: text.into(),
        }
    }
}

impl fmt::Display for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { code, severity, subject, position, text, .. } = self;
        write!(f, "{severity} [{}] ({subject}{position}) {text}", code.id)
    }
}
