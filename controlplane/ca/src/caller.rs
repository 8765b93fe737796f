//! Who asks for a certificate: the bearer of a token, or the holder of a current certificate.

use crate::token::TokenKey;
use identity::grpc::PeerInfo;
use model::WorkloadIdentity;
use std::time::SystemTime;
use tonic::{Request, Status};

/// The one identity that the sender of `request` may have certified: the one its token names, or else its own.
/// UNAUTHENTICATED if it shows neither, or one that is not good; PERMISSION_DENIED for another trust domain's.
pub(crate) fn identify<T>(request: &Request<T>, tokens: &TokenKey) -> Result<WorkloadIdentity, Status> {
    if let Some(header) = request.metadata().get("authorization") {
        let token = header.to_str().ok().and_then(bearer);
        let token = token.ok_or_else(|| Status::unauthenticated("authorization: `Bearer TOKEN` is expected"))?;
        return tokens.verify(token).map_err(|error| Status::unauthenticated(error.to_string()));
    }
    let peer = request.extensions().get::<PeerInfo>();
    let Some((peer, identity)) = peer.and_then(|peer| Some((peer, peer.identity.as_ref()?))) else {
        return Err(Status::unauthenticated("a bearer token or a client certificate of the mesh is needed"));
    };
    // The handshake checked it, perhaps long ago.
    if peer.not_after.is_none_or(|end| end <= SystemTime::now()) {
        return Err(Status::unauthenticated("the client certificate of this connection has expired"));
    }
    if identity.trust_domain != *tokens.domain() {
        let (theirs, ours) = (&identity.trust_domain, tokens.domain());
        return Err(Status::permission_denied(format!("trust domain {theirs}: this authority is {ours}'s")));
    }
    Ok(identity.clone())
}

/// The scheme's name has no case (RFC 9110, section 11.1).
fn bearer(header: &str) -> Option<&str> {
    let (scheme, token) = header.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}
