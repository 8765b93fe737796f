//! Our own annotations: which clusters may use a service.

use crate::{Field, ResourceError, Source};
use model::Audience;

/// Who may use the service: `*`, or cluster names separated by commas.
pub(crate) const EXPORT: &str = "isthmus.io/export";
/// The labels that tell a service's groups apart: label keys separated by commas.
pub(crate) const EXPORT_LABELS: &str = "isthmus.io/export-labels";
const PREFIX: &str = "isthmus.io/";

/// What the annotations, or labels, of a resource's metadata say about its export.
#[derive(Debug, Default)]
pub(crate) struct Export {
    pub(crate) audience: Audience,
    pub(crate) labels: Option<Vec<String>>,
}

pub(crate) fn read(metadata: &Field<'_>, source: &mut Source) -> Result<Export, ResourceError> {
    let mut export = Export::default();
    for name in ["labels", "annotations"] {
        for (key, value) in metadata.any_field(name).members()? {
            match (name, key) {
                ("annotations", EXPORT) => export.audience = audience(&value)?,
                (_, EXPORT_LABELS) => {
                    source.warn(
                        &value,
                        "groups are told apart by the cluster's own exportLabels setting, not yet by this",
                    );
                    export.labels = Some(label_keys(&value)?);
                }
                (_, key) if key.starts_with(PREFIX) => {
                    source.warn(&value, format!("unknown; known are the annotations {EXPORT} and {EXPORT_LABELS}"));
                }
                _ => {}
            }
        }
    }
    Ok(export)
}

fn audience(at: &Field<'_>) -> Result<Audience, ResourceError> {
    let text = at.required_text()?;
    text.parse().map_err(|_| at.refuse("\"*\" for every cluster, or names of clusters separated by commas"))
}

fn label_keys(at: &Field<'_>) -> Result<Vec<String>, ResourceError> {
    let keys: Vec<String> = at.required_text()?.split(',').map(|key| key.trim().to_owned()).collect();
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'/');
    if keys.iter().all(|key| !key.is_empty() && key.len() <= 317 && key.bytes().all(legal)) {
        return Ok(keys);
    }
    Err(at.refuse("keys of labels separated by commas"))
}
