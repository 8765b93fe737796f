//! What is wrong with a document, and where.

use std::fmt;
use std::sync::Arc;

/// A place in a file.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position {
    /// The file, as it was named to `parse`.
    pub file: Arc<str>,
    /// The line, from 1; 0 if the whole file is meant.
    pub line: u32,
    /// The column in characters, from 1; 0 if the whole file is meant.
    pub column: u32,
}

/// A value that was refused: where it stands, which field it is, what stood there, and what would be accepted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{position}: {path}{separator}{value}{verb}{expected}", separator = if path.is_empty() { "" } else { ": " }, verb = if value.is_empty() { "" } else { " is not accepted: " })]
pub struct ResourceError {
    /// Where.
    pub position: Position,
    /// The field, e.g. `spec.ports[0].number`; empty for errors of the file itself.
    pub path: String,
    /// What stood there, as written, cut to 128 characters; empty if nothing did.
    pub value: String,
    /// What would be accepted.
    pub expected: String,
}

/// Something valid that is not honoured, or not in full.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Warning {
    /// Where.
    pub position: Position,
    /// The field.
    pub path: String,
    /// What is to be known about it.
    pub message: String,
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => f.write_str(&self.file),
            line => write!(f, "{}:{line}:{}", self.file, self.column),
        }
    }
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}: {}", self.position, self.path, self.message)
    }
}
