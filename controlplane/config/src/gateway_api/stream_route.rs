//! TLSRoute and TCPRoute: their rules, which only say where connections go.

use super::backend::Backend;
use super::{Place, http_route};
use model::Namespace;
use resource::{Field, ResourceError, Source};

/// One rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct StreamRule {
    pub(super) place: Place,
    pub(super) backends: Vec<Backend>,
}

/// The rules of a TLSRoute or a TCPRoute. Nothing tells them apart: only the first can ever be taken.
pub(super) fn read_all(at: &Field<'_>, own: &Namespace, source: &mut Source) -> Result<Vec<StreamRule>, ResourceError> {
    let mut rules = Vec::new();
    for item in http_route::rules(at)? {
        let fields = item.fields(&["name", "backendRefs"])?;
        http_route::name(&fields)?;
        let refs = fields.get("backendRefs");
        let backends = Backend::read_all(&refs, own, &[], source)?;
        if backends.is_empty() {
            return Err(refs.refuse("one backend or more"));
        }
        if !rules.is_empty() {
            source.warn(&item, "never taken: the first rule takes all connections");
        }
        rules.push(StreamRule { place: Place::of(&item), backends });
    }
    Ok(rules)
}
