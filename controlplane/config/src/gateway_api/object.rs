//! Small things that all kinds of the Gateway API write alike: names, choices, times, references to objects.

use model::Namespace;
use resource::{Field, ResourceError};
use std::time::Duration;

/// A name as Kubernetes has them: 1 to 253 characters, lower case.
pub(super) fn name(at: &Field<'_>) -> Result<String, ResourceError> {
    let text = at.required_text()?;
    let legal = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.');
    if text.is_empty() || text.len() > 253 || !text.bytes().all(legal) {
        return Err(at.refuse("a name: 1 to 253 of a-z, 0-9, '-' and '.'"));
    }
    Ok(text.to_owned())
}

/// Which of `choices` stands at `at`; `default` if nothing does.
pub(super) fn choice<T: Copy>(at: &Field<'_>, choices: &[(&str, T)], default: T) -> Result<T, ResourceError> {
    let Some(text) = at.text()? else { return Ok(default) };
    let found = choices.iter().find(|(name, _)| *name == text).map(|(_, value)| *value);
    let names = || choices.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ");
    found.ok_or_else(|| at.refuse(format!("one of {}", names())))
}

/// As [`choice`], where something must stand.
pub(super) fn chosen<T: Copy>(at: &Field<'_>, choices: &[(&str, T)]) -> Result<T, ResourceError> {
    if at.is_present() {
        return choice(at, choices, choices[0].1);
    }
    let names: Vec<&str> = choices.iter().map(|(name, _)| *name).collect();
    Err(at.refuse(format!("one of {}; this field is required", names.join(", "))))
}

/// A time as the Gateway API writes it (GEP-2257): up to four of a number with h, m, s or ms.
pub(super) fn time(at: &Field<'_>) -> Result<Option<Duration>, ResourceError> {
    const WANTED: &str = "a time of 0 or more of h, m, s and ms, such as 1h30m, 10s or 250ms";
    if at.text()?.is_some_and(|text| text.contains('.') || text.ends_with("us") || text.ends_with("ns") || text == "0")
    {
        return Err(at.refuse(WANTED));
    }
    at.duration(Duration::ZERO).map_err(|_| at.refuse(WANTED))
}

/// A reference to another object, whatever its kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Reference {
    pub(super) place: super::Place,
    pub(super) group: String,
    pub(super) kind: String,
    pub(super) namespace: Namespace,
    pub(super) name: String,
}

// === impl Reference ===

impl Reference {
    /// A reference in a document of the namespace `own`; `kind` is what is meant where no kind is written.
    pub(super) fn read(at: &Field<'_>, own: &Namespace, kind: Option<&str>) -> Result<Self, ResourceError> {
        let fields = at.clone().require("a reference with a name")?.fields(&["group", "kind", "namespace", "name"])?;
        let written = fields.get("kind");
        let kind = match (written.text()?, kind) {
            (Some(kind), _) | (None, Some(kind)) => kind.to_owned(),
            (None, None) => return Err(written.refuse("a kind; this field is required")),
        };
        Ok(Self {
            place: super::Place::of(at),
            group: fields.get("group").text()?.unwrap_or_default().to_owned(),
            kind,
            namespace: fields.get("namespace").parse()?.unwrap_or_else(|| own.clone()),
            name: name(&fields.get("name"))?,
        })
    }
}
