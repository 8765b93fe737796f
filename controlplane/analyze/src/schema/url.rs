//! Kubernetes' functions of URLs, as far as Istio's CRDs call them: `url(string)` and its member `getScheme()`
//! (<https://kubernetes.io/docs/reference/using-api/cel/#kubernetes-url-library>).

use cel::common::types::CelString;
use cel::{Env, ExecutionError};

/// Declares them.
pub(super) fn declare(env: &mut Env) {
    cel::add_overload!(env, fn url: (CelString<'_>) -> Result<CelString<'_>>).expect("nothing declared it before");
    cel::add_member_overload!(env, fn get_scheme: (CelString<'_>) -> CelString<'_>)
        .expect("nothing declared it before");
}

/// The URL, which stays its text: an absolute one, or an absolute path.
fn url(text: &CelString<'_>) -> Result<CelString<'static>, ExecutionError> {
    let is_absolute = text.starts_with('/') || !scheme(text).is_empty();
    if is_absolute { Ok(text.to_string().into()) } else { Err(ExecutionError::function_error("url", "not a URL")) }
}

fn get_scheme(text: &CelString<'_>) -> CelString<'static> {
    scheme(text).to_ascii_lowercase().into()
}

/// What stands before the colon, if it may be a scheme (RFC 3986, section 3.1).
fn scheme(text: &str) -> &str {
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte);
    match text.split_once(':') {
        Some((scheme, _)) if scheme.starts_with(|c: char| c.is_ascii_alphabetic()) && scheme.bytes().all(legal) => {
            scheme
        }
        _ => "",
    }
}
