//! Rules that many kinds share.

use model::Namespace;
use resource::{Field, Fields, ResourceError};
use std::collections::BTreeMap;

/// Refuses the second of `names` that has a value: they exclude each other.
pub(crate) fn exclusive(fields: &Fields<'_>, names: &[&str]) -> Result<(), ResourceError> {
    let mut present = names.iter().filter(|name| fields.get(name).is_present());
    let Some(first) = present.next() else { return Ok(()) };
    match present.next() {
        None => Ok(()),
        Some(second) => Err(fields.get(second).refuse(format!("nothing beside {first}: one of {}", names.join(", ")))),
    }
}

/// The port that something is about; any if it is 0, which is what Istio's resources have where nothing is said.
pub(crate) fn matched_port(at: &Field<'_>) -> Result<Option<u16>, ResourceError> {
    let port = at.integer(0..=65_535, "a port number, 1 to 65535; 0 is any")?;
    Ok(port.and_then(|port| u16::try_from(port).ok()).filter(|port| *port != 0))
}

/// The namespace at `at`, if it says one: an empty text says none.
pub(crate) fn namespace(at: &Field<'_>) -> Result<Option<Namespace>, ResourceError> {
    if at.text()? == Some("") { Ok(None) } else { at.parse() }
}

/// Labels that somebody must bear.
pub(crate) fn labels(at: &Field<'_>) -> Result<BTreeMap<String, String>, ResourceError> {
    for (key, value) in at.members()? {
        if key.is_empty() || key.contains('*') {
            return Err(value.refuse("a label's key: not empty, and without '*'"));
        }
        if value.required_text()?.len() > 63 || value.required_text()?.contains('*') {
            return Err(value.refuse("a label's value, at most 63 characters and without '*'"));
        }
    }
    at.texts()
}
