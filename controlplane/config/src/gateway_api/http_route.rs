//! HTTPRoute: its rules.

use super::backend::Backend;
use super::filter::{self, Filters};
use super::{Place, http_match, object};
use crate::{HttpMatch, Retries};
use model::Namespace;
use resource::{Field, Fields, ResourceError, Source};
use std::time::Duration;

/// One rule of an HTTPRoute, or of a GRPCRoute.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct HttpRule {
    /// Where it stands.
    pub(super) place: Place,
    /// Its name; may be empty.
    pub(super) name: String,
    /// When it is taken; at least one.
    pub(super) matches: Vec<HttpMatch>,
    pub(super) filters: Filters,
    pub(super) backends: Vec<Backend>,
    pub(super) timeout: Option<Duration>,
    pub(super) retries: Option<Retries>,
}

const FIELDS: &[&str] = &["name", "matches", "filters", "backendRefs", "timeouts", "retry", "sessionPersistence"];
const SESSION: &[&str] = &["sessionName", "absoluteTimeout", "idleTimeout", "type", "cookieConfig"];
const MOST_RULES: usize = 16;
const MOST_ATTEMPTS: u32 = 1000;
/// Where nothing is said, as often as the mesh does it.
const ATTEMPTS: u32 = 2;
/// What is tried again beside the statuses that are named: what the server has not begun, or broke off.
const ALWAYS: [&str; 5] = ["connect-failure", "refused-stream", "unavailable", "cancelled", "reset"];

/// The rules of an HTTPRoute.
pub(super) fn read_all(at: &Field<'_>, own: &Namespace, source: &mut Source) -> Result<Vec<HttpRule>, ResourceError> {
    let items = rules(at)?;
    items.iter().map(|item| read(item, own, source)).collect()
}

/// The rules of a route, of which there must be one, and not too many.
pub(super) fn rules<'a>(at: &Field<'a>) -> Result<Vec<Field<'a>>, ResourceError> {
    let items = at.items()?;
    if items.is_empty() || items.len() > MOST_RULES {
        return Err(at.refuse(format!("1 to {MOST_RULES} rules")));
    }
    Ok(items)
}

fn read(at: &Field<'_>, own: &Namespace, source: &mut Source) -> Result<HttpRule, ResourceError> {
    let fields = at.fields(FIELDS)?;
    let matches = http_match::read_all(&fields.get("matches"))?;
    let filters = Filters::read(&fields.get("filters"), own, filter::HTTP, source)?;
    let refs = fields.get("backendRefs");
    let backends = Backend::read_all(&refs, own, filter::HTTP, source)?;
    if filters.redirect.is_some() && !backends.is_empty() {
        return Err(refs.refuse("no backends beside RequestRedirect: nothing is forwarded"));
    }
    check_prefix(&fields, &filters, &matches)?;
    session(&fields.get("sessionPersistence"), source)?;
    let (timeout, per_try) = timeouts(&fields.get("timeouts"))?;
    Ok(HttpRule {
        place: Place::of(at),
        name: name(&fields)?,
        matches,
        filters,
        backends,
        timeout,
        retries: retries(&fields.get("retry"), per_try)?,
    })
}

/// The name of a rule.
pub(super) fn name(fields: &Fields<'_>) -> Result<String, ResourceError> {
    let name = fields.get("name");
    if name.is_present() { object::name(&name) } else { Ok(String::new()) }
}

/// A prefix can be replaced only where all conditions of the rule have one (the CRD's rule: exactly one condition).
fn check_prefix(fields: &Fields<'_>, filters: &Filters, matches: &[HttpMatch]) -> Result<(), ResourceError> {
    use crate::StringMatch::Prefix;
    let needs = filters.redirect.as_ref().is_some_and(super::path_change::Redirection::needs_prefix)
        || filters.rewrite.as_ref().is_some_and(super::path_change::UrlRewrite::needs_prefix);
    let has = |matches: &HttpMatch| matches!(matches.uri, None | Some(Prefix(_)));
    if needs && (matches.len() != 1 || !matches.iter().all(has)) {
        return Err(fields.get("matches").refuse("exactly one condition, of type PathPrefix, with replacePrefixMatch"));
    }
    Ok(())
}

/// The time for the whole request, and for each try.
fn timeouts(at: &Field<'_>) -> Result<(Option<Duration>, Option<Duration>), ResourceError> {
    let fields = at.fields(&["request", "backendRequest"])?;
    let some = |time: Option<Duration>| time.filter(|time| !time.is_zero());
    let (whole, backend) = (fields.get("request"), fields.get("backendRequest"));
    let (request, per_try) = (some(object::time(&whole)?), some(object::time(&backend)?));
    if request.zip(per_try).is_some_and(|(request, per_try)| per_try > request) {
        return Err(backend.refuse("a time that is not longer than timeouts.request"));
    }
    Ok((request, per_try))
}

/// The policy of retries. A time for each try alone leaves the mesh's own policy as it is.
fn retries(at: &Field<'_>, per_try_timeout: Option<Duration>) -> Result<Option<Retries>, ResourceError> {
    let mesh = Retries { attempts: ATTEMPTS, per_try_timeout, ignores_previous: true, ..Retries::default() };
    if !at.is_present() {
        return Ok(per_try_timeout.map(|_| mesh));
    }
    let fields = at.fields(&["codes", "attempts", "backoff"])?;
    let mut statuses = Vec::new();
    for item in fields.get("codes").items()? {
        let status = item.integer(400..=599, "an HTTP status, 400 to 599")?;
        let status = status.ok_or_else(|| item.refuse("an HTTP status, 400 to 599"))?;
        statuses.push(u16::try_from(status).unwrap_or(500));
    }
    let attempts = fields.get("attempts").integer(0..=MOST_ATTEMPTS, "a number of retries, 0 to 1000")?;
    let backoff = fields.get("backoff");
    let wait = object::time(&backoff)?;
    if wait.is_some_and(|wait| wait < Duration::from_millis(1)) {
        return Err(backoff.refuse("1ms or more"));
    }
    let by_status = (!statuses.is_empty()).then_some("retriable-status-codes");
    Ok(Some(Retries {
        attempts: attempts.unwrap_or(ATTEMPTS),
        on: ALWAYS.into_iter().chain(by_status).map(str::to_owned).collect(),
        statuses,
        backoff: wait,
        ..mesh
    }))
}

/// Checks what is not honoured.
pub(super) fn session(at: &Field<'_>, source: &mut Source) -> Result<(), ResourceError> {
    if !at.is_present() {
        return Ok(());
    }
    let fields = at.fields(SESSION)?;
    let (kind, cookie) = (fields.get("type"), fields.get("cookieConfig"));
    let is_cookie = object::choice(&kind, &[("Cookie", true), ("Header", false)], true)?;
    let lifetime = cookie.fields(&["lifetimeType"])?.get("lifetimeType");
    let is_permanent = object::choice(&lifetime, &[("Permanent", true), ("Session", false)], false)?;
    if !is_cookie && cookie.is_present() {
        return Err(cookie.refuse("no cookieConfig where the type is Header"));
    }
    let absolute = object::time(&fields.get("absoluteTimeout"))?;
    object::time(&fields.get("idleTimeout"))?;
    if is_permanent && absolute.is_none() {
        return Err(fields.get("absoluteTimeout").refuse("a time, which a Permanent cookie needs"));
    }
    if fields.get("sessionName").text()?.is_some_and(|name| name.is_empty() || name.len() > 128) {
        return Err(fields.get("sessionName").refuse("a name of 1 to 128 characters"));
    }
    source.warn(at, "not honoured yet: consistentHash of a DestinationRule keeps sessions together");
    Ok(())
}
