//! Secret (Kubernetes `v1`): what gateways show and trust.

use crate::{Field, ResourceError};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use std::collections::BTreeMap;
use std::fmt;

/// A secret's entries. What they hold is never printed.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Secret {
    /// The entries by name.
    pub entries: BTreeMap<String, Vec<u8>>,
}

/// The secret in `object`: `data` in base64, and `stringData` as it is, which goes before.
pub(crate) fn read(object: &Field<'_>) -> Result<Secret, ResourceError> {
    let mut entries = BTreeMap::new();
    for (name, value) in object.any_field("data").members()? {
        let text: String = value.required_text().map_err(|_| hidden(&value))?.split_whitespace().collect();
        entries.insert(name.to_owned(), STANDARD.decode(text).map_err(|_| hidden(&value))?);
    }
    for (name, value) in object.any_field("stringData").members()? {
        let text = value.required_text().map_err(|_| hidden(&value))?;
        entries.insert(name.to_owned(), text.as_bytes().to_vec());
    }
    Ok(Secret { entries })
}

/// An error must not show what a secret holds.
fn hidden(at: &Field<'_>) -> ResourceError {
    let expected = "a text in base64 under data, or any text under stringData";
    ResourceError { value: "(not shown)".to_owned(), ..at.refuse(expected) }
}

// === impl Secret ===

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&String> = self.entries.keys().collect();
        f.debug_struct("Secret").field("entries", &names).finish()
    }
}
