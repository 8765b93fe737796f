//! Tokens: a request whose tokens do not hold goes no further; what they say is kept for policies and routes.

use crate::body::ResponseBody;
use crate::exchange::Asked;
use crate::http::Caller;
use crate::telemetry::Flag;
use http::header::WWW_AUTHENTICATE;
use http::{HeaderMap, HeaderValue, Response, StatusCode};
use routing::{HttpHandler, TokenRefusal};
use std::time::{SystemTime, UNIX_EPOCH};

/// The longest target that a challenge repeats, in bytes.
const LONGEST_TARGET: usize = 256;

impl Caller {
    /// Looks at the tokens of a request, and tells the application what it is to know; the answer if they do not hold.
    /// What they say is kept in `asked`.
    pub(crate) fn authenticate(
        &self,
        handler: &HttpHandler,
        asked: &mut Asked,
        headers: &mut HeaderMap,
    ) -> Option<Response<ResponseBody>> {
        let tokens = handler.tokens.as_ref()?;
        tokens.sanitize(headers);
        // A clock before 1970 has no token begun.
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        match tokens.check(&asked.view(headers), now) {
            Ok(claims) => {
                claims.tell(headers);
                asked.claims = Some(Box::new(claims));
                None
            }
            Err(refusal) => {
                asked.token_refusal = Some(refusal);
                Some(self.challenge(asked, refusal))
            }
        }
    }

    fn challenge(&self, asked: &Asked, refusal: TokenRefusal) -> Response<ResponseBody> {
        let status = StatusCode::from_u16(refusal.status()).unwrap_or(StatusCode::UNAUTHORIZED);
        let mut response = self.refuse(asked, status, Flag::Unauthorized, refusal.to_string());
        let path = asked.path.as_str();
        let path = path.get(..LONGEST_TARGET).unwrap_or(path);
        let error = if refusal.is_invalid() { ", error=\"invalid_token\"" } else { "" };
        let challenge = format!("Bearer realm=\"{}://{}{path}\"{error}", asked.scheme, asked.authority);
        if let Ok(challenge) = HeaderValue::from_str(&challenge) {
            response.headers_mut().insert(WWW_AUTHENTICATE, challenge);
        }
        response
    }
}

/// Envoy's response code details.
pub(crate) fn details(refusal: TokenRefusal) -> String {
    format!("jwt_authn_access_denied{{{}}}", refusal.to_string().replace(' ', "_"))
}
