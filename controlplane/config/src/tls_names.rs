//! The names of cipher suites and key exchanges that proxies know: Envoy refuses a whole listener for one that it does not.

use resource::{Field, ResourceError, Source};

/// What is known by name.
pub(crate) struct Known {
    /// What both our own proxy and Envoy do.
    both: &'static [&'static str],
    /// What only Envoy does.
    envoy: &'static [&'static str],
}

/// The cipher suites of TLS 1.2, by OpenSSL's names. Our own proxy has those with forward secrecy and authenticated
/// encryption only.
pub(crate) const CIPHERS: Known = Known {
    both: &[
        "ECDHE-ECDSA-AES256-GCM-SHA384",
        "ECDHE-RSA-AES256-GCM-SHA384",
        "ECDHE-ECDSA-AES128-GCM-SHA256",
        "ECDHE-RSA-AES128-GCM-SHA256",
        "ECDHE-ECDSA-CHACHA20-POLY1305",
        "ECDHE-RSA-CHACHA20-POLY1305",
    ],
    envoy: &[
        "ECDHE-ECDSA-AES128-SHA",
        "ECDHE-ECDSA-AES256-SHA",
        "ECDHE-RSA-AES128-SHA",
        "ECDHE-RSA-AES256-SHA",
        "AES128-GCM-SHA256",
        "AES256-GCM-SHA384",
        "AES128-SHA",
        "AES256-SHA",
    ],
};

/// The key exchanges.
pub(crate) const CURVES: Known = Known { both: &["X25519MLKEM768", "X25519", "P-256", "P-384"], envoy: &["P-521"] };

// === impl Known ===

impl Known {
    /// The names at `at`, without those that nobody knows and those that stand twice, which are warned of, as Istio does.
    pub(crate) fn read(&self, at: &Field<'_>, source: &mut Source) -> Result<Vec<String>, ResourceError> {
        let mut names: Vec<String> = Vec::new();
        for item in at.items()? {
            let name = item.required_text()?;
            if names.iter().any(|known| known == name) {
                source.warn(&item, "stands twice");
            } else if self.both.contains(&name) {
                names.push(name.to_owned());
            } else if self.envoy.contains(&name) {
                source.warn(&item, "only Envoy does it: our own proxy leaves it out");
                names.push(name.to_owned());
            } else {
                source.warn(&item, format!("not known, and left out: {} are", self.both.join(", ")));
            }
        }
        Ok(names)
    }
}
