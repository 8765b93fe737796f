//! A request as everybody reads it: router, policies and upstream see the same host, path and header fields.
//!
//! ```text
//! request -> outside? what only proxies say goes -> host -> path -> this hop's fields go -> who the caller proved to be
//! ```

use crate::headers;
use crate::http::Caller;
use crate::outside::Outside;
use http::Request;
use http::uri::{Authority, PathAndQuery};
use routing::EscapedSlash;

impl Caller {
    /// Makes `request` the one that everybody reads; the host and the path that it asks for.
    ///
    /// # Errors
    /// What is wrong with a request that could be read in two ways.
    pub(crate) fn canonical<B>(&self, request: &mut Request<B>) -> Result<(Authority, PathAndQuery), &'static str> {
        if self.handler.from_outside {
            let caller = Outside {
                address: self.address.ip(),
                over_tls: self.over_tls,
                trusted_hops: self.handler.trusted_hops,
                makes_ids: self.handler.makes_ids,
            };
            caller.sanitize(request.headers_mut());
        }
        let authority = headers::authority(request).ok_or("one Host is expected\n")?;
        let authority = if self.handler.strips_host_dot { headers::without_last_dot(authority) } else { authority };
        let path = request.uri().path_and_query().cloned().unwrap_or(PathAndQuery::from_static("/"));
        let path = match self.handler.paths.canonical(&path) {
            Ok(changed) => changed.unwrap_or(path),
            Err(EscapedSlash) => return Err("an escaped slash is in the path\n"),
        };
        let is_websocket = headers::is_websocket(request.version(), request.headers());
        let fields = request.headers_mut();
        headers::tell_host(fields, &authority);
        headers::strip_hop_by_hop(fields, is_websocket);
        headers::show_certificate(fields, self.handler.client_certificate, self.certificate.as_ref());
        Ok((authority, path))
    }
}
