//! Where a route leads: a service, perhaps a subset of it, perhaps one of its ports.

use crate::{HeaderOperations, HostPattern};
use model::{Host, Namespace};
use resource::{Field, Fields, ResourceError};

/// A service that a route leads to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Destination {
    /// Its host, in full.
    pub host: Host,
    /// The subset that a DestinationRule names so.
    pub subset: Option<String>,
    /// Its port; where absent, the service's only one, or else the one that was asked for.
    pub port: Option<u16>,
}

/// A destination with its share.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Split {
    /// Where.
    pub destination: Destination,
    /// Its share of the sum of all weights of the route.
    pub weight: u32,
    /// What happens to the fields of requests that go there, and of their responses.
    pub headers: HeaderOperations,
}

const DESTINATION: &[&str] = &["host", "subset", "port"];
const GREATEST_WEIGHT: u32 = 1_000_000;

// === impl Destination ===

impl Destination {
    pub(crate) fn read(at: &Field<'_>, namespace: &Namespace) -> Result<Self, ResourceError> {
        let fields = at.clone().require("a destination: a mapping with a host")?.fields(DESTINATION)?;
        let host = complete(&fields.get("host"), namespace)?;
        let subset = fields.get("subset").text()?.filter(|name| !name.is_empty()).map(str::to_owned);
        let port = fields.get("port").fields(&["number"])?.get("number").port()?;
        Ok(Self { host, subset, port })
    }
}

// === impl Split ===

impl Split {
    /// The weighted destinations of a route; a route without weights is split evenly, as a single one takes all.
    pub(crate) fn read_all(at: &Field<'_>, namespace: &Namespace, known: &[&str]) -> Result<Vec<Self>, ResourceError> {
        let items = at.items()?;
        let mut splits = Vec::new();
        for item in &items {
            let fields = item.fields(known)?;
            let weight = fields.get("weight").integer(0..=GREATEST_WEIGHT, "a weight, 0 to 1000000")?;
            splits.push(Self {
                destination: Destination::read(&fields.get("destination"), namespace)?,
                weight: weight.unwrap_or(0),
                headers: Self::headers(&fields)?,
            });
        }
        if splits.iter().all(|split| split.weight == 0) {
            match &mut splits[..] {
                [] => {}
                [only] => only.weight = 100,
                _ => return Err(at.refuse("weights whose sum is greater than 0")),
            }
        }
        Ok(splits)
    }

    fn headers(fields: &Fields<'_>) -> Result<HeaderOperations, ResourceError> {
        HeaderOperations::read(&fields.get("headers"))
    }
}

/// The host at `at`: a name without dots is a service of `namespace`, as Kubernetes' resolvers complete it.
pub(crate) fn complete(at: &Field<'_>, namespace: &Namespace) -> Result<Host, ResourceError> {
    let host: Host = at.required()?;
    if host.as_str().contains('.') {
        return Ok(host);
    }
    format!("{host}.{namespace}.svc.cluster.local").parse().map_err(|_| at.refuse("the name of a service"))
}

/// As [`complete`], with `*` for all hosts.
pub(crate) fn pattern(at: &Field<'_>, namespace: &Namespace) -> Result<HostPattern, ResourceError> {
    if at.text()? == Some("*") {
        return Ok(HostPattern::Any);
    }
    complete(at, namespace).map(HostPattern::Host)
}
