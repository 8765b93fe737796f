//! How a service, one of its ports or one of its subsets is spoken to.

use crate::{ClientTls, ConnectionPool, LoadBalancer, OutlierDetection};
use model::Host;
use resource::{Field, Fields, ResourceError, Source};
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

/// A traffic policy with what differs for single ports.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TrafficPolicy {
    /// For all ports that have none of their own.
    pub general: PortPolicy,
    /// By port: what is not said there is as if nothing were said at all (Istio's rule).
    pub ports: BTreeMap<u16, PortPolicy>,
}

/// How one port is spoken to.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PortPolicy {
    /// How an endpoint is chosen.
    pub load_balancer: Option<LoadBalancer>,
    /// The limits.
    pub pool: Option<ConnectionPool>,
    /// When an endpoint is left out for a while.
    pub outliers: Option<OutlierDetection>,
    /// TLS.
    pub tls: Option<ClientTls>,
    /// The version of the PROXY protocol that connections begin with.
    pub proxy_protocol: Option<ProxyProtocol>,
    /// How many retries there may be beside the other requests.
    pub retry_budget: Option<RetryBudget>,
    /// Through what connections that carry bytes are made.
    pub tunnel: Option<Tunnel>,
}

/// Connections are carried in HTTP by the service, a proxy, to somebody else.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tunnel {
    /// Whether they are asked for with POST instead of CONNECT.
    pub by_post: bool,
    /// To whom: a name of DNS or an address.
    pub host: String,
    /// At which port.
    pub port: u16,
}

/// A version of the PROXY protocol (<https://www.haproxy.org/download/2.8/doc/proxy-protocol.txt>).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProxyProtocol {
    /// Text.
    V1,
    /// Binary.
    V2,
}

/// Retries as a share of the requests on their way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetryBudget {
    /// The share, in thousandths of a percent.
    pub share: u32,
    /// Retries that there may always be.
    pub least: u32,
    /// How long requests count beside those on their way; only those if absent.
    pub interval: Option<Duration>,
}

const PORT: &[&str] = &["port", "loadBalancer", "connectionPool", "outlierDetection", "tls"];
const GENERAL: &[&str] = &[
    "loadBalancer",
    "connectionPool",
    "outlierDetection",
    "tls",
    "portLevelSettings",
    "tunnel",
    "proxyProtocol",
    "retryBudget",
];

// === impl TrafficPolicy ===

impl TrafficPolicy {
    pub(crate) fn read(at: &Field<'_>, source: &mut Source) -> Result<Self, ResourceError> {
        let fields = at.fields(GENERAL)?;
        let mut ports = BTreeMap::new();
        for item in fields.get("portLevelSettings").items()? {
            let inside = item.fields(PORT)?;
            let number = inside.get("port").fields(&["number"])?.get("number");
            let port = number.port()?.ok_or_else(|| number.refuse("a port number, 1 to 65535"))?;
            if ports.insert(port, PortPolicy::read(&inside, source)?).is_some() {
                return Err(number.refuse("each port once"));
            }
        }
        let general = PortPolicy {
            proxy_protocol: proxy_protocol(&fields.get("proxyProtocol"))?,
            retry_budget: retry_budget(&fields.get("retryBudget"))?,
            tunnel: tunnel(&fields.get("tunnel"))?,
            ..PortPolicy::read(&fields, source)?
        };
        Ok(Self { general, ports })
    }

    /// What holds for `port` under this policy, narrowed by that of a subset.
    pub fn of_port(&self, port: u16, subset: Option<&Self>) -> PortPolicy {
        let mut policy = self.ports.get(&port).map_or_else(|| self.general.clone(), |own| own.below(&self.general));
        if let Some(subset) = subset {
            match subset.ports.get(&port) {
                Some(own) => {
                    policy = own.below(&policy);
                    policy.narrow(&PortPolicy::default().below(&subset.general));
                }
                None => policy.narrow(&subset.general),
            }
        }
        policy
    }
}

// === impl PortPolicy ===

impl PortPolicy {
    fn read(fields: &Fields<'_>, source: &mut Source) -> Result<Self, ResourceError> {
        Ok(Self {
            load_balancer: LoadBalancer::read(&fields.get("loadBalancer"), source)?,
            pool: ConnectionPool::read(&fields.get("connectionPool"))?,
            outliers: OutlierDetection::read(&fields.get("outlierDetection"), source)?,
            tls: ClientTls::read(&fields.get("tls"))?,
            ..Self::default()
        })
    }

    /// This policy of a port, with what only that of all ports says.
    fn below(&self, all: &Self) -> Self {
        Self {
            proxy_protocol: all.proxy_protocol,
            retry_budget: all.retry_budget,
            tunnel: all.tunnel.clone(),
            ..self.clone()
        }
    }

    fn narrow(&mut self, by: &Self) {
        fn take<T: Clone>(into: &mut Option<T>, from: Option<&T>) {
            if let Some(from) = from {
                *into = Some(from.clone());
            }
        }
        take(&mut self.load_balancer, by.load_balancer.as_ref());
        take(&mut self.pool, by.pool.as_ref());
        take(&mut self.outliers, by.outliers.as_ref());
        take(&mut self.tls, by.tls.as_ref());
        take(&mut self.proxy_protocol, by.proxy_protocol.as_ref());
        take(&mut self.retry_budget, by.retry_budget.as_ref());
        take(&mut self.tunnel, by.tunnel.as_ref());
    }
}

fn tunnel(at: &Field<'_>) -> Result<Option<Tunnel>, ResourceError> {
    if !at.is_present() {
        return Ok(None);
    }
    let fields = at.fields(&["protocol", "targetHost", "targetPort"])?;
    let (protocol, port) = (fields.get("protocol"), fields.get("targetPort"));
    let by_post = match protocol.text()? {
        None | Some("" | "CONNECT") => false,
        Some("POST") => true,
        Some(_) => return Err(protocol.refuse("CONNECT or POST")),
    };
    let host = fields.get("targetHost");
    let text = host.required_text()?;
    if text.parse::<IpAddr>().is_err() && !text.parse::<Host>().is_ok_and(|host| !host.is_wildcard()) {
        return Err(host.refuse("a name of DNS or an IP address"));
    }
    let port = port.port()?.ok_or_else(|| port.refuse("a port number, 1 to 65535; this field is required"))?;
    Ok(Some(Tunnel { by_post, host: text.to_owned(), port }))
}

fn proxy_protocol(at: &Field<'_>) -> Result<Option<ProxyProtocol>, ResourceError> {
    if !at.is_present() {
        return Ok(None);
    }
    let version = at.fields(&["version"])?.get("version");
    match version.text()? {
        None | Some("V1") => Ok(Some(ProxyProtocol::V1)),
        Some("V2") => Ok(Some(ProxyProtocol::V2)),
        Some(_) => Err(version.refuse("V1 or V2")),
    }
}

fn retry_budget(at: &Field<'_>) -> Result<Option<RetryBudget>, ResourceError> {
    if !at.is_present() {
        return Ok(None);
    }
    let fields = at.fields(&["percent", "minRetryConcurrency", "budgetInterval"])?;
    let interval = fields.get("budgetInterval").duration(Duration::ZERO)?.filter(|time| !time.is_zero());
    let share = fields.get("percent").number(0.0..=100.0, "a percentage, 0 to 100")?.unwrap_or(20.0);
    let least = fields.get("minRetryConcurrency").integer(0..=u32::MAX, "a number of retries")?.unwrap_or(3);
    #[expect(clippy::cast_sign_loss, reason = "it was checked to lie between 0 and 100")]
    Ok(Some(RetryBudget { share: (share * 1000.0).round() as u32, least, interval }))
}
