//! RequestAuthentication: which tokens (JWT, RFC 7519) requests may bring, and what is made of them
//! (<https://istio.io/latest/docs/reference/config/security/request_authentication/>).

use crate::{JwtRule, PolicyTarget};
use model::Namespace;
use resource::{Document, Field, Node, Position, ResourceError, Source};

/// A RequestAuthentication.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestAuthentication {
    /// Its namespace.
    pub namespace: Namespace,
    /// Its name.
    pub name: String,
    /// Where it stands.
    pub position: Position,
    /// Whose requests are looked at.
    pub target: PolicyTarget,
    /// The tokens that are good; a request without any goes on unless one is required.
    pub rules: Vec<JwtRule>,
}

const FIELDS: &[&str] = &["selector", "targetRef", "targetRefs", "jwtRules"];
const MOST: usize = 4096;

/// The RequestAuthentication that `document` holds in its raw `spec`.
pub(crate) fn read(
    document: &Document,
    spec: &Node,
    source: &mut Source,
) -> Result<RequestAuthentication, ResourceError> {
    let fields = Field::new(&document.position.file, "spec", spec).fields(FIELDS)?;
    let rules = fields.get("jwtRules");
    let items = rules.items()?;
    if items.len() > MOST {
        return Err(rules.refuse(format!("at most {MOST} rules")));
    }
    Ok(RequestAuthentication {
        namespace: document.metadata.namespace.clone(),
        name: document.metadata.name.clone(),
        position: document.position.clone(),
        target: PolicyTarget::read(&fields, document)?,
        rules: items.iter().map(|item| JwtRule::read(item, source)).collect::<Result<_, _>>()?,
    })
}
