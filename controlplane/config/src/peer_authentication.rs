//! PeerAuthentication: whether callers of a workload must, may, or cannot come with the mesh's mTLS.
//!
//! ```text
//! whole mesh (root namespace) < namespace < workload (selector) < its port; UNSET is what is said before it
//! ```

use crate::{Selector, labels};
use model::Namespace;
use resource::{Document, Field, Node, ResourceError, Source};
use std::collections::BTreeMap;

/// One PeerAuthentication resource.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerAuthentication {
    /// Its namespace: the workloads it is for are there, or anywhere if this is the root namespace.
    pub namespace: Namespace,
    /// Its name.
    pub name: String,
    /// The workloads it is for; all if absent.
    pub selector: Option<Selector>,
    /// What callers do; absent is what a wider resource says (UNSET).
    pub mode: Option<MtlsMode>,
    /// The same, by the workload's own port; absent is what holds for the workload.
    pub ports: BTreeMap<u16, Option<MtlsMode>>,
    /// When it was made, as Kubernetes writes times: the oldest counts among equals.
    pub(crate) created: Option<String>,
}

/// How callers of a workload come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum MtlsMode {
    /// In the clear.
    Disable,
    /// In the clear or with the mesh's mTLS, as they like: one port takes both.
    #[default]
    Permissive,
    /// With the mesh's mTLS only.
    Strict,
}

/// How callers of one workload come, port by port.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PeerModes {
    /// To ports of which nothing is said.
    pub otherwise: MtlsMode,
    /// To these.
    pub ports: BTreeMap<u16, MtlsMode>,
}

const FIELDS: &[&str] = &["selector", "mtls", "portLevelMtls"];

/// The PeerAuthentication that `document` holds in its raw `spec`.
pub(crate) fn read(document: &Document, spec: &Node, source: &mut Source) -> Result<PeerAuthentication, ResourceError> {
    let fields = Field::new(&document.position.file, "spec", spec).fields(FIELDS)?;
    let selector = labels(&fields.get("selector").fields(&["matchLabels"])?.get("matchLabels"))?;
    let by_port = fields.get("portLevelMtls");
    let mut ports = BTreeMap::new();
    for (port, member) in by_port.members()? {
        let number = port.parse().ok().filter(|number: &u16| *number > 0);
        let number = number.ok_or_else(|| member.refuse("a port number before it, 1 to 65535"))?;
        ports.insert(number, mode(&member)?);
    }
    if by_port.is_present() && ports.is_empty() {
        return Err(by_port.refuse("one port or more"));
    }
    if by_port.is_present() && selector.is_empty() {
        return Err(by_port.refuse("a selector beside it: ports are those of the workloads that are selected"));
    }
    let read = PeerAuthentication {
        namespace: document.metadata.namespace.clone(),
        name: document.metadata.name.clone(),
        selector: Some(selector).filter(|labels| !labels.is_empty()),
        mode: mode(&fields.get("mtls"))?,
        ports,
        created: document.metadata.created.clone(),
    };
    if read.selector.is_none() && fields.get("selector").is_present() {
        source.warn(&fields.get("selector"), "selects nothing in particular: for the whole namespace");
    }
    Ok(read)
}

fn mode(at: &Field<'_>) -> Result<Option<MtlsMode>, ResourceError> {
    let mode = at.fields(&["mode"])?.get("mode");
    match mode.text()? {
        None | Some("UNSET") => Ok(None),
        Some("DISABLE") => Ok(Some(MtlsMode::Disable)),
        Some("PERMISSIVE") => Ok(Some(MtlsMode::Permissive)),
        Some("STRICT") => Ok(Some(MtlsMode::Strict)),
        Some(_) => Err(mode.refuse("UNSET, DISABLE, PERMISSIVE or STRICT")),
    }
}

// === impl PeerAuthentication ===

impl PeerAuthentication {
    /// What goes before among equals: what is older; what does not say when it was made comes after all that do.
    pub(crate) fn age(&self) -> (bool, Option<&str>) {
        (self.created.is_none(), self.created.as_deref())
    }

    /// Whether it has anybody come in the clear.
    pub(crate) fn disables(&self) -> bool {
        [self.mode].iter().chain(self.ports.values()).any(|mode| *mode == Some(MtlsMode::Disable))
    }
}

// === impl PeerModes ===

impl PeerModes {
    /// What the resources of the levels come to, the widest first.
    pub(crate) fn of(levels: [Option<&PeerAuthentication>; 3]) -> Self {
        let said = levels.iter().flatten().filter_map(|level| level.mode).next_back();
        let otherwise = said.unwrap_or_default();
        let [.., workload] = levels;
        let ports = workload.iter().flat_map(|workload| &workload.ports);
        Self { otherwise, ports: ports.map(|(port, mode)| (*port, mode.unwrap_or(otherwise))).collect() }
    }

    /// How callers of this port of the workload's come.
    pub fn at(&self, port: u16) -> MtlsMode {
        self.ports.get(&port).copied().unwrap_or(self.otherwise)
    }
}
