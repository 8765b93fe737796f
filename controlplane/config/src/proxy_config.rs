//! ProxyConfig: how the proxies of a mesh, of a namespace, or of some workloads are started.
//!
//! ```text
//! MeshConfig.defaultConfig < root namespace < namespace < workload (selector)
//! ```

use crate::proxy_start::{environment, workers};
use crate::{ProxyStart, Selector, labels};
use model::Namespace;
use resource::{Document, Field, Node, ResourceError, Source};

/// One ProxyConfig resource.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProxyConfig {
    /// Its namespace: its proxies are there, or anywhere if this is the root namespace.
    pub namespace: Namespace,
    /// The workloads whose proxies are meant; all if absent.
    pub selector: Option<Selector>,
    /// What they are told.
    pub start: ProxyStart,
}

const FIELDS: &[&str] = &["selector", "concurrency", "environmentVariables", "image"];

/// The ProxyConfig that `document` holds in its raw `spec`.
pub(crate) fn read(document: &Document, spec: &Node, source: &mut Source) -> Result<ProxyConfig, ResourceError> {
    let fields = Field::new(&document.position.file, "spec", spec).fields(FIELDS)?;
    let selector = labels(&fields.get("selector").fields(&["matchLabels"])?.get("matchLabels"))?;
    let image = fields.get("image");
    image.fields(&["imageType"])?.get("imageType").text()?;
    if image.is_present() {
        source.warn(&image, "not honoured: nothing is injected here");
    }
    Ok(ProxyConfig {
        namespace: document.metadata.namespace.clone(),
        selector: Some(selector).filter(|labels| !labels.is_empty()),
        start: ProxyStart {
            workers: workers(&fields.get("concurrency"))?,
            environment: environment(&fields.get("environmentVariables"))?,
            ..ProxyStart::default()
        },
    })
}
