//! GatewayClass: which Gateways are ours to serve.

use super::object;
use resource::{Document, Field, Node, ResourceError, Source};
use std::collections::BTreeMap;

/// What is done with the Gateways of a class.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Class {
    /// They are served.
    Served,
    /// They only tell Istio where another network's gateway is; ours learn that from their peers.
    Remote,
}

/// The classes, by name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Classes(BTreeMap<String, Class>);

/// The controllers whose classes are served: Istio's and our own.
const CONTROLLERS: [&str; 2] = ["istio.io/gateway-controller", "isthmus.io/gateway-controller"];
/// As [`CONTROLLERS`], of classes that tell of remote gateways.
const REMOTE: &str = "istio.io/unmanaged-gateway";

// === impl Classes ===

impl Default for Classes {
    /// Those that are there without a GatewayClass, as Istio makes them of itself.
    fn default() -> Self {
        let all = [("istio", Class::Served), ("isthmus", Class::Served), ("istio-remote", Class::Remote)];
        Self(all.map(|(name, class)| (name.to_owned(), class)).into())
    }
}

impl Classes {
    /// Takes in the class that `document` holds in its raw `spec`.
    pub(super) fn add(&mut self, document: &Document, spec: &Node, source: &mut Source) -> Result<(), ResourceError> {
        let at = Field::new(&document.position.file, "spec", spec).require("a GatewayClass's controllerName")?;
        let fields = at.fields(&["controllerName", "parametersRef", "description"])?;
        let controller = fields.get("controllerName");
        let text = controller.required_text()?;
        if !text.contains('/') || text.len() > 253 {
            return Err(controller.refuse(format!("DOMAIN/PATH; {} are served", CONTROLLERS.join(" and "))));
        }
        let description = fields.get("description");
        if description.text()?.is_some_and(|text| text.len() > 64) {
            return Err(description.refuse("at most 64 characters"));
        }
        let parameters = fields.get("parametersRef");
        if parameters.is_present() {
            object::Reference::read(&parameters, &document.metadata.namespace, None)?;
            source.warn(&parameters, "not honoured: nothing is deployed for a class");
        }
        let name = document.metadata.name.clone();
        if CONTROLLERS.contains(&text) {
            self.0.insert(name, Class::Served);
        } else if text == REMOTE {
            self.0.insert(name, Class::Remote);
        } else {
            source.warn(&controller, format!("another controller's class; {} are served", CONTROLLERS.join(" and ")));
            self.0.remove(&name);
        }
        Ok(())
    }

    /// What is done with the Gateways of the class of that name; nothing if it is not known.
    pub(super) fn get(&self, name: &str) -> Option<Class> {
        self.0.get(name).copied()
    }
}
