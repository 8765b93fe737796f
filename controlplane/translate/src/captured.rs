//! The listeners that redirected connections are handed to: HTTP by port, all else by address and port.
//!
//! What has no address of its own, or ranges of them, shares the listener of its port with the HTTP services:
//! ```text
//! 0.0.0.0_PORT: ranges -> their service | server name -> its service | HTTP -> routes by authority | the rest
//! ```

use crate::listener::{
    Listeners, PLAIN_HTTP, RAW, base, bound_name, chain, detected_name, detection_timeout, one_service, undeclared,
};
use crate::scope::{INBOUND_PORT, OUTBOUND_PORT, Scope};
use crate::stream::{add, range};
use crate::value::flag;
use crate::{filter, stream};
use api::envoy::envoy::config::core::v3::{CidrRange, TrafficDirection};
use api::envoy::envoy::config::listener::v3 as envoy;
use envoy::FilterChainMatch;
use model::{Port, Protocol, Resolution, Service};
use std::collections::BTreeMap;
use std::net::IpAddr;

/// What shares the listener of a port.
#[derive(Default)]
struct Shared<'a> {
    has_http: bool,
    others: Vec<(&'a Service, &'a Port)>,
}

/// The chains of a shared listener in the making.
#[derive(Default)]
struct Chains {
    all: Vec<envoy::FilterChain>,
    /// Where connections go that no chain takes.
    otherwise: Option<envoy::Filter>,
    has_tls: bool,
    inspects_tls: bool,
    inspects_http: bool,
}

/// Adds to `listeners` those that take redirected connections.
pub(crate) fn add_all(scope: &Scope<'_>, listeners: &mut Listeners) {
    let unbound = |name: String, addresses: &[IpAddr], port: u16| envoy::Listener {
        bind_to_port: flag(false),
        ..base(name, addresses, port, TrafficDirection::Outbound)
    };
    let mut by_port: BTreeMap<u16, Shared<'_>> = BTreeMap::new();
    for (service, port) in scope.ports() {
        let number = port.number;
        if port.protocol.is_http() {
            by_port.entry(number).or_default().has_http = true;
            continue;
        }
        for address in &service.addresses {
            let name = bound_name(*address, number);
            let listener = || one_service(scope, unbound(name.clone(), &[*address], number), service, port);
            listeners.entry(name.clone()).or_insert_with(listener);
        }
        if shares(service) {
            by_port.entry(number).or_default().others.push((service, port));
        }
    }
    by_port.retain(|number, _| ![OUTBOUND_PORT, INBOUND_PORT].contains(number));
    for (number, shared) in by_port {
        let name = format!("0.0.0.0_{number}");
        let listener = || shared.listener(scope, unbound(name.clone(), &scope.wildcards(), number), number);
        listeners.entry(name.clone()).or_insert_with(listener);
    }
}

/// Whether connections to the service are told by more, or less, than its addresses: it has ranges, or none that
/// anybody knows. One that waits for the addresses that it will be given takes nobody's connections meanwhile.
pub(crate) fn shares(service: &Service) -> bool {
    let is_awaited = service.allocates && service.resolution != Resolution::None && !service.key.host.is_wildcard();
    !service.networks.is_empty() || (service.addresses.is_empty() && !is_awaited)
}

/// Whether HTTP that is found on the port goes by the routes of the port, because no address tells the service.
pub(crate) fn shares_routes(service: &Service, port: &Port) -> bool {
    port.protocol == Protocol::Auto && shares(service) && service.networks.is_empty()
}

// === impl Shared ===

impl Shared<'_> {
    fn listener(&self, scope: &Scope<'_>, listener: envoy::Listener, number: u16) -> envoy::Listener {
        let http = || filter::http_outbound(scope, format!("outbound_{}", listener.name), number.to_string());
        if self.others.is_empty() {
            return envoy::Listener { filter_chains: vec![chain(FilterChainMatch::default(), http())], ..listener };
        }
        let mut chains = Chains::default();
        for (service, port) in &self.others {
            chains.add(scope, &listener.name, service, port);
        }
        if self.has_http || self.others.iter().any(|(service, port)| shares_routes(service, port)) {
            chains.all_http(http());
        }
        let otherwise = chains.otherwise.unwrap_or_else(|| undeclared(scope));
        let inspectors = [
            (chains.inspects_tls || chains.inspects_http).then(filter::tls_inspector),
            chains.inspects_http.then(filter::http_inspector),
        ];
        envoy::Listener {
            listener_filters: inspectors.into_iter().flatten().collect(),
            listener_filters_timeout: if chains.inspects_http { detection_timeout(scope) } else { None },
            continue_on_listener_filters_timeout: chains.inspects_http,
            filter_chains: chains.all,
            default_filter_chain: Some(chain(FilterChainMatch::default(), otherwise)),
            ..listener
        }
    }
}

// === impl Chains ===

impl Chains {
    fn add(&mut self, scope: &Scope<'_>, listener: &str, service: &Service, port: &Port) {
        let ranges: Vec<CidrRange> = service.networks.iter().map(range).collect();
        if port.protocol == Protocol::Tls {
            (self.has_tls, self.inspects_tls) = (true, true);
            for chain in stream::tls(scope, service, port) {
                add(&mut self.all, narrowed(chain, &ranges));
            }
            return;
        }
        if port.protocol == Protocol::Auto && !ranges.is_empty() {
            let routes = detected_name(service, port);
            self.http(ranges.clone(), filter::http_outbound(scope, format!("outbound_{listener}"), routes));
        }
        let stream::Chains { conditional, otherwise } = stream::tcp(scope, service, port);
        for chain in conditional {
            add(&mut self.all, narrowed(chain, &ranges));
        }
        if ranges.is_empty() {
            self.otherwise.get_or_insert(otherwise);
        } else {
            let condition = FilterChainMatch { prefix_ranges: ranges, ..FilterChainMatch::default() };
            add(&mut self.all, chain(condition, otherwise));
        }
    }

    /// HTTP that no range tells. It is looked for only where something else may come: a silent caller would be mistaken.
    fn all_http(&mut self, filter: envoy::Filter) {
        if self.otherwise.is_some() {
            self.http(Vec::new(), filter);
        } else if self.has_tls {
            let clear = FilterChainMatch { transport_protocol: RAW.to_owned(), ..FilterChainMatch::default() };
            add(&mut self.all, chain(clear, filter));
        } else {
            self.otherwise = Some(filter);
        }
    }

    /// HTTP in the clear, if it goes to one of `ranges`, or wherever it goes.
    fn http(&mut self, ranges: Vec<CidrRange>, filter: envoy::Filter) {
        (self.inspects_tls, self.inspects_http) = (true, true);
        let condition = FilterChainMatch {
            prefix_ranges: ranges,
            transport_protocol: RAW.to_owned(),
            application_protocols: PLAIN_HTTP.map(str::to_owned).into(),
            ..FilterChainMatch::default()
        };
        add(&mut self.all, chain(condition, filter));
    }
}

/// The chain for connections to `ranges` alone, unless it says itself where they go.
fn narrowed(mut chain: envoy::FilterChain, ranges: &[CidrRange]) -> envoy::FilterChain {
    let condition = chain.filter_chain_match.get_or_insert_default();
    if condition.prefix_ranges.is_empty() {
        condition.prefix_ranges = ranges.to_vec();
    }
    chain
}
