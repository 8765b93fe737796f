//! The key that signs a cluster's records: Ed25519, and not the certificate authority's.

use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};
use rustls_pki_types::PrivatePkcs8KeyDer;
use rustls_pki_types::pem::PemObject;
use std::fmt;
use std::str::FromStr;

/// Why a key or a signature was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SignatureError {
    /// Not a private key of ours.
    #[error("registry key: a PKCS#8 PEM Ed25519 private key is expected")]
    PrivateKey,
    /// Not a public key of ours.
    #[error("registry public key {0:?}: 64 hexadecimal digits are expected")]
    PublicKey(String),
    /// The signature is not this key's over these bytes.
    #[error("the signature does not verify")]
    Signature,
}

/// The private half. Never printed.
pub struct RegistryKey {
    pair: Ed25519KeyPair,
}

/// The public half, which travels with the trust bundle: 32 bytes, as text 64 hexadecimal digits.
#[derive(Clone, PartialEq, Eq)]
pub struct RegistryPublicKey([u8; 32]);

// === impl RegistryKey ===

impl RegistryKey {
    /// From PKCS#8 PEM.
    ///
    /// # Errors
    /// If it is not an Ed25519 private key.
    pub fn from_pem(pem: &str) -> Result<Self, SignatureError> {
        let der = PrivatePkcs8KeyDer::from_pem_slice(pem.as_bytes()).map_err(|_| SignatureError::PrivateKey)?;
        let pair = Ed25519KeyPair::from_pkcs8(der.secret_pkcs8_der()).map_err(|_| SignatureError::PrivateKey)?;
        Ok(Self { pair })
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
        write!(f, "RegistryKey({})", self.public())
    }
}

// === impl RegistryPublicKey ===

impl RegistryPublicKey {
    /// Checks that `signature` is this key's over `message`.
    ///
    /// # Errors
    /// If it is not.
    pub fn verify(&self, message: &[u8], signature: &[u8]) -> Result<(), SignatureError> {
        UnparsedPublicKey::new(&ED25519, &self.0).verify(message, signature).map_err(|_| SignatureError::Signature)
    }
}

impl FromStr for RegistryPublicKey {
    type Err = SignatureError;

    fn from_str(text: &str) -> Result<Self, SignatureError> {
        let refuse = || SignatureError::PublicKey(text.chars().take(80).collect());
        if text.len() != 64 || !text.is_ascii() {
            return Err(refuse());
        }
        let mut bytes = [0; 32];
        for (index, byte) in bytes.iter_mut().enumerate() {
            *byte = u8::from_str_radix(&text[index * 2..index * 2 + 2], 16).map_err(|_| refuse())?;
        }
        Ok(Self(bytes))
    }
}

impl fmt::Display for RegistryPublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for RegistryPublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
