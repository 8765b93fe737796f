//! What proxies that see the same were told last: the next of them shares memory with it.
//!
//! ```text
//! translated for one proxy -> what is the same in the last of its view, kept once -> told
//! ```

use model::{Locality, Namespace};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use xds::{Node, NodeKind, Snapshot, Software};

/// The last snapshot of each view.
#[derive(Default)]
pub(crate) struct Views(Mutex<HashMap<View, Weak<Snapshot>>>);

/// Proxies that are alike in this are likely told nearly the same. Nothing depends on it but memory.
#[derive(PartialEq, Eq, Hash)]
struct View {
    namespace: Namespace,
    is_sidecar: bool,
    is_redirected: bool,
    software: Software,
    locality: Locality,
}

// === impl Views ===

impl Views {
    /// `snapshot`, which was made for `node` that was told `before`, sharing what it has in common with the last one of
    /// its view.
    pub(crate) fn shared(&self, node: &Node, snapshot: Snapshot, before: &Snapshot) -> Arc<Snapshot> {
        let view = View::of(node);
        let like = self.table().get(&view).and_then(Weak::upgrade);
        let shared = Arc::new(match like {
            Some(like) => snapshot.sharing(&like, before),
            None => snapshot,
        });
        self.table().insert(view, Arc::downgrade(&shared));
        shared
    }

    /// Forgets the views that no proxy has any more.
    pub(crate) fn forget(&self) {
        self.table().retain(|_, last| last.strong_count() > 0);
    }

    fn table(&self) -> MutexGuard<'_, HashMap<View, Weak<Snapshot>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl View ===

impl View {
    fn of(node: &Node) -> Self {
        Self {
            namespace: node.namespace.clone(),
            is_sidecar: node.kind == NodeKind::Sidecar,
            is_redirected: node.interception != xds::Interception::None,
            software: node.software,
            locality: node.locality.clone(),
        }
    }
}
