//! A text as AuthorizationPolicies describe it: this one, a beginning and `*`, `*` and an end, or `*` for any.

use resource::{Field, ResourceError};

/// A condition on a text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TextPattern {
    /// `*`: there is one.
    Any,
    /// It is this.
    Exact(String),
    /// It begins so.
    Prefix(String),
    /// It ends so.
    Suffix(String),
}

/// What must be one of some values, and none of others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed<T> {
    /// One of these, if there are any.
    pub wanted: Vec<T>,
    /// None of these.
    pub unwanted: Vec<T>,
}

/// Longer lists and texts are refused: every proxy holds them.
const MOST: usize = 1024;
/// See [`MOST`].
const LONGEST: usize = 2048;

// === impl TextPattern ===

impl TextPattern {
    /// The pattern at `at`.
    ///
    /// # Errors
    /// If there is none, or if `*` stands elsewhere than at one end.
    pub(crate) fn read(at: &Field<'_>) -> Result<Self, ResourceError> {
        let text = at.required_text()?;
        let legal = |text: &str| !text.is_empty() && text.len() <= LONGEST && !text.contains(['*', '\0', '\r', '\n']);
        let read = match (text.strip_prefix('*'), text.strip_suffix('*')) {
            (Some(""), _) => return Ok(Self::Any),
            (Some(end), _) => (end, Self::Suffix(end.to_owned())),
            (None, Some(beginning)) => (beginning, Self::Prefix(beginning.to_owned())),
            (None, None) => (text, Self::Exact(text.to_owned())),
        };
        let (literal, pattern) = read;
        if legal(literal) { Ok(pattern) } else { Err(at.refuse("a text, TEXT*, *TEXT, or * for any")) }
    }

    /// What is said beside the star.
    pub fn literal(&self) -> &str {
        match self {
            Self::Any => "",
            Self::Exact(text) | Self::Prefix(text) | Self::Suffix(text) => text,
        }
    }
}

// === impl Listed ===

impl<T> Listed<T> {
    /// The lists at `wanted` and `unwanted`, each item as `read` has it.
    ///
    /// # Errors
    /// If an item is wrong, or a list is there and empty, which would say nothing where something seems to be said.
    pub(crate) fn read(
        wanted: &Field<'_>,
        unwanted: &Field<'_>,
        read: impl Fn(&Field<'_>) -> Result<T, ResourceError>,
    ) -> Result<Self, ResourceError> {
        let list = |at: &Field<'_>| {
            let items = at.items()?;
            if at.is_present() && items.is_empty() || items.len() > MOST {
                return Err(at.refuse(format!("a list of 1 to {MOST} items")));
            }
            items.iter().map(&read).collect::<Result<Vec<T>, _>>()
        };
        Ok(Self { wanted: list(wanted)?, unwanted: list(unwanted)? })
    }

    /// Whether anything is said.
    pub fn is_empty(&self) -> bool {
        self.wanted.is_empty() && self.unwanted.is_empty()
    }
}

impl<T> Default for Listed<T> {
    fn default() -> Self {
        Self { wanted: Vec::new(), unwanted: Vec::new() }
    }
}
