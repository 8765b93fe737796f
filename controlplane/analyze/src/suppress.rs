//! Which messages nobody wants to hear.

use crate::Message;
use std::str::FromStr;

/// Messages of one code about some resources: `CODE=KIND NAME.NAMESPACE`, where `*` stands for anything (istioctl's
/// form).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Suppression {
    code: String,
    resource: String,
}

/// The annotation by which a resource itself suppresses messages: codes separated by commas, or `*`.
pub(crate) const ANNOTATION: &str = "galley.istio.io/analyze-suppress";

// === impl Suppression ===

impl Suppression {
    /// Whether `message` is meant.
    pub fn covers(&self, message: &Message) -> bool {
        let subject = &message.subject;
        let name = match subject.kind.as_str() {
            "Namespace" => format!("{} {}", subject.kind, subject.name),
            kind => format!("{kind} {}.{}", subject.name, subject.namespace),
        };
        self.code == message.code.id && fits(&self.resource, &name)
    }
}

impl FromStr for Suppression {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once('=') {
            Some((code, resource)) if !code.is_empty() && !resource.is_empty() => {
                Ok(Self { code: code.to_owned(), resource: resource.to_owned() })
            }
            _ => Err(format!(
                "{text:?} is not accepted: CODE=KIND NAME.NAMESPACE, e.g. \"IST0101=VirtualService *.shop\""
            )),
        }
    }
}

/// Whether `text` fits `pattern`, in which `*` stands for any characters.
fn fits(pattern: &str, text: &str) -> bool {
    let Some((before, after)) = pattern.split_once('*') else { return pattern == text };
    let Some(rest) = text.strip_prefix(before) else { return false };
    (0..=rest.len()).filter(|at| rest.is_char_boundary(*at)).any(|at| fits(after, &rest[at..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stars_stand_for_anything() {
        for (pattern, text, expected) in [
            ("VirtualService a.b", "VirtualService a.b", true),
            ("VirtualService *.b", "VirtualService a.b", true),
            ("VirtualService *.b", "VirtualService a.c", false),
            ("*", "Gateway a.b", true),
            ("* a*.*", "Gateway ab.c", true),
            ("Gateway", "Gateway a.b", false),
        ] {
            assert_eq!(fits(pattern, text), expected, "{pattern:?} {text:?}");
        }
        for text in ["IST0101", "=Gateway a.b", "IST0101="] {
            assert!(text.parse::<Suppression>().expect_err("refused").contains("CODE=KIND"), "{text:?}");
        }
    }
}
