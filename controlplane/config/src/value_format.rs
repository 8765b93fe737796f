//! Values of header fields with Envoy's command operators, `%REQ(x-name)%`.

use resource::{Field, ResourceError};

/// The operators that both our sidecar and Envoy fill in.
const PLAIN: [&str; 7] = [
    "DOWNSTREAM_REMOTE_ADDRESS",
    "DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT",
    "DOWNSTREAM_LOCAL_ADDRESS",
    "DOWNSTREAM_LOCAL_ADDRESS_WITHOUT_PORT",
    "DOWNSTREAM_LOCAL_PORT",
    "PROTOCOL",
    "ROUTE_NAME",
];

/// Refuses an operator that a proxy would refuse, together with everything sent beside it.
pub(crate) fn check(at: &Field<'_>, text: &str) -> Result<(), ResourceError> {
    let mut parts = text.split('%');
    parts.next();
    loop {
        let Some(inside) = parts.next() else { return Ok(()) };
        if parts.next().is_none() {
            return Err(at.refuse("a closing '%'; a percent sign itself is written '%%'"));
        }
        let is_known = inside.is_empty() || PLAIN.contains(&inside) || is_field(inside);
        if !is_known {
            return Err(at.refuse(format!("%%, %REQ(NAME)% or one of %{}%", PLAIN.join("%, %"))));
        }
    }
}

fn is_field(inside: &str) -> bool {
    let name = inside.strip_prefix("REQ(").and_then(|rest| rest.strip_suffix(')'));
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || b":-_.".contains(&byte);
    name.is_some_and(|name| !name.is_empty() && name.bytes().all(legal))
}
