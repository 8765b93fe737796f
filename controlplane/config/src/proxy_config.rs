//! ProxyConfig: how proxies are started. It is checked; what starts proxies here are their own settings.

use crate::labels;
use resource::{Document, Field, Node, ResourceError, Source};

const FIELDS: &[&str] = &["selector", "concurrency", "environmentVariables", "image"];

/// Checks the ProxyConfig that `document` holds in its raw `spec`.
pub(crate) fn check(document: &Document, spec: &Node, source: &mut Source) -> Result<(), ResourceError> {
    let fields = Field::new(&document.position.file, "spec", spec).fields(FIELDS)?;
    labels(&fields.get("selector").fields(&["matchLabels"])?.get("matchLabels"))?;
    fields.get("concurrency").integer(0..=1024, "a number of threads; 0 is one for each core")?;
    fields.get("environmentVariables").texts()?;
    fields.get("image").fields(&["imageType"])?.get("imageType").text()?;
    for (name, instead) in [
        ("concurrency", "set where a proxy is started: `workers` in the settings of the sidecar or the agent"),
        (
            "environmentVariables",
            "set where a proxy is started: `environment` in the settings of the agent; our own proxy has none",
        ),
        ("image", "not honoured: nothing is injected here"),
    ] {
        if fields.get(name).is_present() {
            source.warn(&fields.get(name), instead);
        }
    }
    Ok(())
}
