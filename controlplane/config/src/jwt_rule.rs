//! One kind of token: who issues it, where it stands, by which keys it is verified, and who is told what it says.

use crate::{exclusive, header_operations, verifies};
use resource::{Field, Fields, ResourceError, Source};
use std::time::Duration;

/// One kind of token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JwtRule {
    /// Who issues it (`iss`); anybody if absent.
    pub issuer: Option<String>,
    /// Whom it may be for (`aud`), one of them; anybody if empty.
    pub audiences: Vec<String>,
    /// The keys.
    pub keys: JwtKeys,
    /// The header fields in which it may stand, with what stands before it. Without any place it is `Authorization`
    /// behind `Bearer `, and the parameter `access_token`.
    pub from_headers: Vec<(String, String)>,
    /// The parameters of the query in which it may stand.
    pub from_params: Vec<String>,
    /// The cookies in which it may stand.
    pub from_cookies: Vec<String>,
    /// The header field by which the application gets the payload, in base64url.
    pub payload_header: Option<String>,
    /// The header fields by which the application gets claims: field, claim.
    pub claim_headers: Vec<(String, String)>,
    /// Whether the application gets the token as well.
    pub forward: bool,
    /// Whether a request must bring one.
    pub required: bool,
    /// Claims, beside `scope` and `permission`, that are lists with spaces between.
    pub space_delimited: Vec<String>,
}

/// The keys by which a token is verified.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum JwtKeys {
    /// These: a JSON Web Key Set (RFC 7517).
    Inline(String),
    /// None by which anything can be verified.
    Nothing,
    /// Those that are found there; the control plane fetches them.
    At(String),
    /// Those that the issuer's own configuration names (OpenID Connect Discovery 1.0).
    OfIssuer(String),
}

const FIELDS: &[&str] = &[
    "issuer",
    "audiences",
    "jwksUri",
    "jwks_uri",
    "jwks",
    "fromHeaders",
    "fromParams",
    "fromCookies",
    "outputPayloadToHeader",
    "outputClaimToHeaders",
    "forwardOriginalToken",
    "presence",
    "spaceDelimitedClaims",
    "timeout",
];
const LEAST_TIMEOUT: Duration = Duration::from_millis(1);
const LONGEST_URI: usize = 2048;
const MOST_DELIMITED: usize = 64;

// === impl JwtRule ===

impl JwtRule {
    pub(crate) fn read(at: &Field<'_>, source: &mut Source) -> Result<Self, ResourceError> {
        let fields = at.fields(FIELDS)?;
        let issuer = full(&fields.get("issuer"))?.map(str::to_owned);
        if fields.get("timeout").duration(LEAST_TIMEOUT)?.is_some() {
            source.warn(
                &fields.get("timeout"),
                "without effect: the control plane fetches keys, in its own time, and proxies never wait for them",
            );
        }
        let delimited = fields.get("spaceDelimitedClaims");
        let space_delimited = full_items(&delimited)?;
        if space_delimited.len() > MOST_DELIMITED {
            return Err(delimited.refuse(format!("at most {MOST_DELIMITED} claims")));
        }
        Ok(Self {
            keys: keys(at, &fields, issuer.as_deref(), source)?,
            issuer,
            audiences: full_items(&fields.get("audiences"))?,
            from_headers: fields.get("fromHeaders").items()?.iter().map(place).collect::<Result<_, _>>()?,
            from_params: full_items(&fields.get("fromParams"))?,
            from_cookies: full_items(&fields.get("fromCookies"))?,
            payload_header: payload_header(&fields.get("outputPayloadToHeader"))?,
            claim_headers: fields.get("outputClaimToHeaders").items()?.iter().map(output).collect::<Result<_, _>>()?,
            forward: fields.get("forwardOriginalToken").boolean()?.unwrap_or_default(),
            required: presence(&fields.get("presence"))?,
            space_delimited,
        })
    }
}

fn keys(
    at: &Field<'_>,
    fields: &Fields<'_>,
    issuer: Option<&str>,
    source: &mut Source,
) -> Result<JwtKeys, ResourceError> {
    exclusive(fields, &["jwksUri", "jwks_uri", "jwks"])?;
    let inline = fields.get("jwks");
    if let Some(text) = full(&inline)? {
        if !serde_json::from_str::<serde_json::Value>(text).is_ok_and(|set| set["keys"].is_array()) {
            return Err(inline.refuse("a JSON Web Key Set"));
        }
        if verifies(text) {
            return Ok(JwtKeys::Inline(text.to_owned()));
        }
        source.warn(&inline, "no key of RSA, EC or OKP is in it: no token holds by this rule");
        return Ok(JwtKeys::Nothing);
    }
    for name in ["jwksUri", "jwks_uri"] {
        let uri = fields.get(name);
        if let Some(text) = full(&uri)? {
            return if is_uri(text) {
                Ok(JwtKeys::At(text.to_owned()))
            } else {
                Err(uri.refuse("url must have scheme http:// or https://, and a host"))
            };
        }
    }
    match issuer {
        Some(issuer) if is_uri(issuer) => Ok(JwtKeys::OfIssuer(issuer.to_owned())),
        _ => Err(at.refuse("jwks, jwksUri, or an issuer of http:// or https:// that tells where its keys are")),
    }
}

fn is_uri(text: &str) -> bool {
    let rest = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
    let is_plain = |text: &str| text.bytes().all(|byte| byte.is_ascii_graphic());
    text.len() <= LONGEST_URI
        && is_plain(text)
        && rest.is_some_and(|rest| !rest.starts_with(['/', '?', '#', ':']) && !rest.is_empty())
}

fn place(at: &Field<'_>) -> Result<(String, String), ResourceError> {
    let fields = at.fields(&["name", "prefix"])?;
    let name = fields.get("name");
    let field = header_operations::name(&name, name.required_text()?)?;
    Ok((field, fields.get("prefix").text()?.unwrap_or_default().to_owned()))
}

fn output(at: &Field<'_>) -> Result<(String, String), ResourceError> {
    let fields = at.fields(&["header", "claim"])?;
    let (header, claim) = (fields.get("header"), fields.get("claim"));
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
    let name = header.required_text()?;
    if name.is_empty() || !name.bytes().all(legal) {
        return Err(header.refuse("a header field's name: letters, digits, '-' and '_'"));
    }
    if claim.required_text()?.is_empty() {
        return Err(claim.refuse("a name that is not empty"));
    }
    Ok((name.to_ascii_lowercase(), claim.required_text()?.to_owned()))
}

fn payload_header(at: &Field<'_>) -> Result<Option<String>, ResourceError> {
    at.text()?.filter(|name| !name.is_empty()).map(|name| header_operations::name(at, name)).transpose()
}

fn presence(at: &Field<'_>) -> Result<bool, ResourceError> {
    match at.text()? {
        None | Some("OPTIONAL") => Ok(false),
        Some("REQUIRED") => Ok(true),
        Some(_) => Err(at.refuse("OPTIONAL or REQUIRED")),
    }
}

/// The text at `at`, which is not empty.
fn full<'a>(at: &Field<'a>) -> Result<Option<&'a str>, ResourceError> {
    match at.text()? {
        Some("") => Err(at.refuse("a text that is not empty")),
        text => Ok(text),
    }
}

fn full_items(at: &Field<'_>) -> Result<Vec<String>, ResourceError> {
    let text = |item: &Field<'_>| match item.required_text()? {
        "" => Err(item.refuse("a text that is not empty")),
        text => Ok(text.to_owned()),
    };
    at.items()?.iter().map(text).collect()
}
