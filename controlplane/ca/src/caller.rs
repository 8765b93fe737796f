//! Who asks for a certificate: the bearer of a token, or the holder of a current certificate.

use crate::token::TokenKey;
use identity::grpc;
use model::WorkloadIdentity;
use tonic::{Request, Status};

/// The identity that the sender of `request` may have certified: the one its token names, or else its own.
///
/// # Errors
/// UNAUTHENTICATED if it shows neither, or a token that is not good.
pub fn identify<T>(request: &Request<T>, tokens: &TokenKey) -> Result<WorkloadIdentity, Status> {
    let Some(header) = request.metadata().get("authorization") else {
        return grpc::peer(request)
            .cloned()
            .ok_or_else(|| Status::unauthenticated("a bearer token or a client certificate of the mesh is needed"));
    };
    let token = header.to_str().ok().and_then(|value| value.strip_prefix("Bearer "));
    let token = token.ok_or_else(|| Status::unauthenticated("authorization: `Bearer TOKEN` is expected"))?;
    tokens.verify(token).map_err(|error| Status::unauthenticated(error.to_string()))
}
