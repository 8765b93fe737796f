//! The name table: what the proxy's DNS server answers.

use crate::Rejection;
use crate::decode::message;
use api::istio::nds::NameTable;
use model::{Host, Namespace};
use std::net::IpAddr;

/// One name and its addresses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Name {
    /// The host, perhaps a wildcard.
    pub host: Host,
    /// Its addresses.
    pub addresses: Vec<IpAddr>,
    /// A Kubernetes service's name and namespace.
    pub service: Option<(String, Namespace)>,
}

pub(crate) fn parse(resource: &xds::Resource) -> Result<Vec<Name>, Rejection> {
    let table: NameTable = message(resource)?;
    let reject =
        |host: &str, error: &dyn std::fmt::Display| Rejection::new(&resource.name, format!("{host:?}: {error}"));
    let name = |(host, info): (String, api::istio::nds::name_table::NameInfo)| {
        let addresses = info.ips.iter().map(|ip| ip.parse()).collect::<Result<_, _>>();
        let service = match info.shortname.as_str() {
            "" => None,
            name => Some((name.to_owned(), info.namespace.parse().map_err(|error| reject(&host, &error))?)),
        };
        Ok(Name {
            addresses: addresses.map_err(|error| reject(&host, &error))?,
            host: host.parse().map_err(|error| reject(&host, &error))?,
            service,
        })
    };
    table.table.into_iter().map(name).collect()
}
