//! Why a request is turned away for its tokens, in Envoy's words.

/// Why a request is turned away for its tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TokenRefusal {
    /// There is none.
    #[error("Jwt is missing")]
    Missing,
    /// It is no token.
    #[error("Jwt is not in the form of Header.Payload.Signature with two dots and 3 sections")]
    Form,
    /// It is longer than is looked at.
    #[error("Jwt is longer than is accepted")]
    TooLong,
    /// Its header is no base64url.
    #[error("Jwt header is an invalid Base64url encoded")]
    HeaderEncoding,
    /// Its header is no JSON object, or says something twice.
    #[error("Jwt header is an invalid JSON")]
    HeaderJson,
    /// Its header does not say how it is signed.
    #[error("Jwt header [alg] field is required and must be a string")]
    Algorithm,
    /// It is not signed, or in a way that is not accepted.
    #[error("Jwt header [alg] is not supported")]
    UnknownAlgorithm,
    /// The key's name is no text.
    #[error("Jwt header [kid] field is not a string")]
    KeyName,
    /// It asks for something that must be understood (RFC 7515, section 4.1.11).
    #[error("Jwt header [crit] is not supported")]
    Critical,
    /// Its payload is no base64url.
    #[error("Jwt payload is an invalid Base64url encoded")]
    PayloadEncoding,
    /// Its payload is no JSON object, or says something twice.
    #[error("Jwt payload is an invalid JSON")]
    PayloadJson,
    /// A claim that is known is of another kind than it must be.
    #[error("Jwt payload [{0}] field is not accepted")]
    Claim(&'static str),
    /// Its signature is no base64url.
    #[error("Jwt signature is an invalid Base64url encoded")]
    SignatureEncoding,
    /// It is over.
    #[error("Jwt is expired")]
    Expired,
    /// It has not begun.
    #[error("Jwt not yet valid")]
    NotYet,
    /// Nobody expects tokens of this issuer.
    #[error("Jwt issuer is not configured")]
    Issuer,
    /// It is for somebody else.
    #[error("Audiences in Jwt are not allowed")]
    Audience,
    /// The keys are not known.
    #[error("Jwks remote fetch is failed")]
    NoKeys,
    /// No key may have signed it.
    #[error("Jwks doesn't have key to match kid or alg from Jwt")]
    NoKey,
    /// No key has signed it.
    #[error("Jwt verification fails")]
    Signature,
}

// === impl TokenRefusal ===

impl TokenRefusal {
    /// The status of the answer.
    pub fn status(self) -> u16 {
        if self == Self::Audience { 403 } else { 401 }
    }

    /// What a challenge says of it beside the realm (RFC 6750, section 3).
    pub fn is_invalid(self) -> bool {
        self != Self::Missing
    }
}
