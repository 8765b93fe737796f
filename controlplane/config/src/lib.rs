//! What the user wants: Istio's configuration resources, validated and indexed as [`Intent`].
//!
//! One file for each kind, and for each noun that a kind is made of; [`Intent`] answers translate's questions.

mod client_tls;
mod connection_pool;
mod cors;
mod credential;
mod delegate;
mod destination;
mod destination_rule;
mod fault;
mod field;
mod gateway;
mod gateway_api;
mod gateway_name;
mod header_operations;
mod http_action;
mod http_match;
mod http_route;
mod intent;
mod load_balancer;
mod locality_setting;
mod mirror;
mod outlier_detection;
mod percentage;
mod rate_limit;
mod retries;
mod selector;
mod server_tls;
mod sidecar;
mod stream_route;
mod string_match;
mod traffic_policy;
mod value_format;
mod virtual_service;

pub use client_tls::{ClientTls, TlsMode};
pub use connection_pool::{ConnectionPool, Keepalive};
pub use cors::CorsPolicy;
pub use credential::{Credential, ROOTS_SUFFIX};
pub use destination::{Destination, Split};
pub use destination_rule::{DestinationRule, Subset};
pub use fault::{Abort, AbortStatus, Delay, Fault};
pub(crate) use field::{exclusive, labels, matched_port};
pub use gateway::{Gateway, Server, ServerProtocol};
pub use gateway_name::GatewayName;
pub use header_operations::{HeaderOperations, Operations};
pub use http_action::{DirectResponse, Redirect, RedirectPath, RedirectPort, Rewrite};
pub use http_match::HttpMatch;
pub use http_route::{HttpAction, HttpRoute};
pub use intent::{Intent, ROOT_NAMESPACE, closest};
pub use load_balancer::{Choice, HashKey, HashTable, LoadBalancer, Warmup};
pub use locality_setting::{Distribution, LocalitySetting};
pub use mirror::Mirror;
/// Who sees a resource.
pub use model::Visibility;
pub use outlier_detection::OutlierDetection;
pub use percentage::Percentage;
pub use rate_limit::{LimitContext, LimitKey, LimitRule, LimitSource, RateLimit, TokenBucket};
pub use retries::Retries;
pub use selector::{EgressHost, HostPattern, NamespacePattern, Selector};
pub use server_tls::{ServerTls, ServerTlsMode, Shown, TlsVersion};
pub use sidecar::{CaptureMode, DefaultEndpoint, EgressListener, IngressListener, OutboundPolicy, Sidecar};
pub use stream_route::{StreamMatch, TcpRoute, TlsMatch, TlsRoute};
pub use string_match::StringMatch;
pub use traffic_policy::{PortPolicy, ProxyProtocol, RetryBudget, TrafficPolicy};
pub use virtual_service::VirtualService;
