//! A step of a case: bytes that are sent as they are, because no client would send them.

use crate::http_case::Target;
use serde::Deserialize;

/// Bytes, and what is expected of the answers.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct RawCase {
    /// The service's short name and port.
    pub to: Target,
    /// What is sent. `$HOST` stands for the service's full name and port, `$ASK` for the field that names the request to
    /// the ledger, `$A*N` for N times the letter A.
    pub send: String,
    #[serde(default)]
    pub expect: RawExpect,
}

/// What is expected of what comes back.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct RawExpect {
    /// The statuses of all answers, in their order; interim ones too.
    pub status: Vec<u16>,
    /// Parts of what comes back, in lower case.
    pub contains: Vec<String>,
    /// What must not be in it.
    pub lacks: Vec<String>,
    /// How many requests applications saw.
    pub seen: Option<usize>,
    /// The path that the application saw.
    pub path: Option<String>,
}

// === impl RawCase ===

impl RawCase {
    /// The bytes; `ask` is the field for the ledger.
    pub fn bytes(&self, ask: &str) -> Vec<u8> {
        let mut text = self.send.replace("$HOST", &self.to.authority()).replace("$ASK", ask);
        while let Some(at) = text.find("$A*") {
            let digits: String = text[at + 3..].chars().take_while(char::is_ascii_digit).collect();
            let times = digits.parse().unwrap_or_default();
            text.replace_range(at..at + 3 + digits.len(), &"a".repeat(times));
        }
        // Letters up to U+00FF are the bytes of that number.
        text.chars().map(|letter| u8::try_from(u32::from(letter)).unwrap_or(b'?')).collect()
    }
}
