//! The key that signs a cluster's records: Ed25519, and not the certificate authority's.

use crate::{IdentityError, pem};
use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{PrivatePkcs8KeyDer, SubjectPublicKeyInfoDer};
use std::fmt;
use std::str::FromStr;

/// The DER before the 32 bytes of an Ed25519 SubjectPublicKeyInfo (RFC 8410, section 4).
const SPKI_PREFIX: [u8; 12] = [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];

/// The private half. Never printed.
pub struct RegistryKey {
    pair: Ed25519KeyPair,
}

/// The public half, which travels with the trust bundle: 32 bytes, as text their base64.
#[derive(Clone, PartialEq, Eq)]
pub struct RegistryPublicKey([u8; 32]);

// === impl RegistryKey ===

impl RegistryKey {
    /// A new key.
    pub fn generate() -> Self {
        Self { pair: Ed25519KeyPair::generate().expect("the system gives random bytes") }
    }

    /// From PKCS#8 PEM.
    pub fn from_pem(pem: &str) -> Result<Self, IdentityError> {
        let der = PrivatePkcs8KeyDer::from_pem_slice(pem.as_bytes()).map_err(|_| IdentityError::RegistryPrivateKey)?;
        let pair = Ed25519KeyPair::from_pkcs8(der.secret_pkcs8_der()).map_err(|_| IdentityError::RegistryPrivateKey)?;
        Ok(Self { pair })
    }

    /// As PKCS#8 PEM. It is a secret.
    pub fn to_pem(&self) -> String {
        let der = self.pair.to_pkcs8v1().expect("an Ed25519 key can be written");
        pem("PRIVATE KEY", der.as_ref())
    }

    /// The signature over exactly these bytes.
    pub fn sign(&self, message: &[u8]) -> [u8; 64] {
        let mut signature = [0; 64];
        signature.copy_from_slice(self.pair.sign(message).as_ref());
        signature
    }

    /// The public half.
    pub fn public(&self) -> RegistryPublicKey {
        let mut bytes = [0; 32];
        bytes.copy_from_slice(self.pair.public_key().as_ref());
        RegistryPublicKey(bytes)
    }
}

impl fmt::Debug for RegistryKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RegistryKey(public {})", self.public())
    }
}

// === impl RegistryPublicKey ===

impl RegistryPublicKey {
    /// Checks that `signature` is this key's over `message`.
    pub fn verify(&self, message: &[u8], signature: &[u8]) -> Result<(), IdentityError> {
        UnparsedPublicKey::new(&ED25519, &self.0).verify(message, signature).map_err(|_| IdentityError::Signature)
    }

    /// The 32 bytes.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// As PEM of its SubjectPublicKeyInfo.
    pub fn to_pem(&self) -> String {
        pem("PUBLIC KEY", &[&SPKI_PREFIX[..], &self.0].concat())
    }
}

impl FromStr for RegistryPublicKey {
    type Err = IdentityError;

    fn from_str(text: &str) -> Result<Self, IdentityError> {
        let refuse = || IdentityError::RegistryPublicKey(text.chars().take(80).collect());
        let text = text.trim();
        let bytes = if text.starts_with("-----BEGIN") {
            let der = SubjectPublicKeyInfoDer::from_pem_slice(text.as_bytes()).map_err(|_| refuse())?;
            der.strip_prefix(&SPKI_PREFIX).ok_or_else(refuse)?.to_vec()
        } else {
            STANDARD.decode(text).map_err(|_| refuse())?
        };
        Ok(Self(bytes.try_into().map_err(|_| refuse())?))
    }
}

impl fmt::Display for RegistryPublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&STANDARD.encode(self.0))
    }
}

impl fmt::Debug for RegistryPublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_survive_the_round_trip() {
        let key = RegistryKey::generate();
        let again = RegistryKey::from_pem(&key.to_pem()).expect("our own PEM");
        let public: RegistryPublicKey = key.public().to_string().parse().expect("our own text");
        let from_pem: RegistryPublicKey = key.public().to_pem().parse().expect("our own PEM");
        assert_eq!((again.public(), from_pem), (public.clone(), public.clone()));
        public.verify(b"message", &again.sign(b"message")).expect("the same key");
    }

    #[test]
    fn another_message_key_or_length_does_not_verify() {
        let key = RegistryKey::generate();
        let signature = key.sign(b"message");
        assert!(key.public().verify(b"massage", &signature).is_err());
        assert!(key.public().verify(b"message", &signature[..63]).is_err());
        assert!(RegistryKey::generate().public().verify(b"message", &signature).is_err());
    }

    #[test]
    fn what_is_not_a_key_is_refused() {
        let p256 = rcgen::KeyPair::generate().expect("a key");
        assert!(RegistryKey::from_pem(&p256.serialize_pem()).is_err());
        assert!(p256.public_key_pem().parse::<RegistryPublicKey>().is_err());
        let long = STANDARD.encode([7; 33]);
        for text in ["", "AAAA", "é", "-----BEGIN PUBLIC KEY-----", long.as_str()] {
            assert!(text.parse::<RegistryPublicKey>().is_err(), "{text:?}");
            assert!(RegistryKey::from_pem(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn the_secret_is_never_printed() {
        let key = RegistryKey::generate();
        let secret = key.to_pem();
        let body = secret.lines().nth(1).expect("a line of base64");
        assert!(!format!("{key:?}").contains(body));
    }
}
