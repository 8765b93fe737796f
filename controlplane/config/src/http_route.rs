//! One HTTP route: when it is taken, and what is done then.

use crate::destination::pattern;
use crate::{
    CorsPolicy, Destination, DirectResponse, Fault, HeaderOperations, HttpMatch, Mirror, Redirect, Retries, Rewrite,
    Split, exclusive, field,
};
use model::Namespace;
use resource::{Field, Fields, ResourceError, Source};
use std::time::Duration;

/// An HTTP route.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpRoute {
    /// Its name, for logs.
    pub name: String,
    /// When it is taken: if one of these holds, or always if there are none.
    pub matches: Vec<HttpMatch>,
    /// What is done.
    pub action: HttpAction,
    /// What the upstream gets as path and authority.
    pub rewrite: Option<Rewrite>,
    /// How long the whole request may take; for ever if absent.
    pub timeout: Option<Duration>,
    /// When it is tried again; as the mesh does it if absent.
    pub retries: Option<Retries>,
    /// What goes wrong on purpose.
    pub fault: Fault,
    /// Who else gets a copy.
    pub mirrors: Vec<Mirror>,
    /// Which other origins may ask.
    pub cors: Option<CorsPolicy>,
    /// What happens to header fields.
    pub headers: HeaderOperations,
    /// Whether a request for a destination that nobody knows is answered 500 (the Gateway API's rule), not 503.
    pub unknown_is_500: bool,
}

/// What is done with a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HttpAction {
    /// It goes to one of these.
    Route(Vec<Split>),
    /// The client is sent elsewhere.
    Redirect(Redirect),
    /// It is answered by the proxy.
    Answer(DirectResponse),
    /// Another VirtualService says.
    Delegate {
        /// Its namespace.
        namespace: Namespace,
        /// Its name.
        name: String,
    },
}

const FIELDS: &[&str] = &[
    "name",
    "match",
    "route",
    "redirect",
    "directResponse",
    "delegate",
    "rewrite",
    "timeout",
    "retries",
    "fault",
    "mirror",
    "mirrors",
    "mirrorPercent",
    "mirror_percent",
    "mirrorPercentage",
    "corsPolicy",
    "headers",
];
const ACTIONS: &[&str] = &["route", "redirect", "directResponse", "delegate"];
const SPLIT: &[&str] = &["destination", "weight", "headers"];
/// What contradicts an action that forwards nothing, and what merely means nothing beside it (Istio's rule).
const CONTRADICTING: &[&str] = &["rewrite", "fault"];
const IDLE: &[&str] = &["timeout", "retries", "mirror", "mirrors"];
const LEAST: Duration = Duration::from_millis(1);

// === impl HttpRoute ===

impl HttpRoute {
    pub(crate) fn read(at: &Field<'_>, namespace: &Namespace, source: &mut Source) -> Result<Self, ResourceError> {
        let fields = at.fields(FIELDS)?;
        let matches = fields.get("match").items()?;
        let matches = matches.iter().map(|item| HttpMatch::read(item, namespace, source)).collect::<Result<_, _>>()?;
        let action = HttpAction::read(at, &fields, namespace)?;
        if let HttpAction::Redirect(_) | HttpAction::Answer(_) = action {
            if let Some(name) = CONTRADICTING.iter().find(|name| fields.get(name).is_present()) {
                return Err(fields.get(name).refuse("nothing beside redirect or directResponse: nothing is forwarded"));
            }
            for name in IDLE.iter().filter(|name| fields.get(name).is_present()) {
                source.warn(&fields.get(name), "not honoured beside redirect or directResponse: nothing is forwarded");
            }
        }
        let mut route = Self {
            name: fields.get("name").text()?.unwrap_or_default().to_owned(),
            matches,
            action,
            rewrite: Rewrite::read(&fields.get("rewrite"))?,
            timeout: fields.get("timeout").duration(LEAST)?,
            retries: Retries::read(&fields.get("retries"))?,
            fault: Fault::read(&fields.get("fault"))?,
            mirrors: Mirror::read_all(&fields, namespace)?,
            cors: CorsPolicy::read(&fields.get("corsPolicy"), source)?,
            headers: HeaderOperations::read(&fields.get("headers"))?,
            unknown_is_500: false,
        };
        if let HttpAction::Redirect(_) | HttpAction::Answer(_) = route.action {
            route = Self { timeout: None, retries: None, mirrors: Vec::new(), ..route };
        }
        Ok(route)
    }

    /// The services that it may lead to.
    pub fn destinations(&self) -> impl Iterator<Item = &Destination> {
        let splits = match &self.action {
            HttpAction::Route(splits) => &splits[..],
            _ => &[],
        };
        let mirrors = self.mirrors.iter().map(|mirror| &mirror.destination);
        splits.iter().map(|split| &split.destination).chain(mirrors)
    }
}

// === impl HttpAction ===

impl HttpAction {
    fn read(at: &Field<'_>, fields: &Fields<'_>, namespace: &Namespace) -> Result<Self, ResourceError> {
        exclusive(fields, ACTIONS)?;
        if let Some(redirect) = Redirect::read(&fields.get("redirect"))? {
            return Ok(Self::Redirect(redirect));
        }
        if let Some(answer) = DirectResponse::read(&fields.get("directResponse"))? {
            return Ok(Self::Answer(answer));
        }
        let delegate = fields.get("delegate");
        if delegate.is_present() {
            let to = delegate.fields(&["name", "namespace"])?;
            return Ok(Self::Delegate {
                namespace: field::namespace(&to.get("namespace"))?.unwrap_or_else(|| namespace.clone()),
                name: to.get("name").required_text()?.to_owned(),
            });
        }
        let splits = Split::read_all(&fields.get("route"), namespace, SPLIT)?;
        if splits.is_empty() {
            return Err(at.refuse(format!("one of {}", ACTIONS.join(", "))));
        }
        Ok(Self::Route(splits))
    }
}

/// The hosts of a VirtualService.
pub(crate) fn hosts(at: &Field<'_>, namespace: &Namespace) -> Result<Vec<crate::HostPattern>, ResourceError> {
    let mut hosts = Vec::new();
    for item in at.items()? {
        let host = pattern(&item, namespace)?;
        if hosts.contains(&host) {
            return Err(item.refuse("each host once"));
        }
        hosts.push(host);
    }
    Ok(hosts)
}
