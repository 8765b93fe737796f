//! The resolvers that know the rest of the world, behind a bounded cache.

use crate::message::{Answer, Question};
use crate::{DnsError, Settings};
use hickory_proto::op::ResponseCode;
use hickory_proto::rr::Record;
use hickory_resolver::TokioResolver;
use hickory_resolver::config::{ConnectionConfig, NameServerConfig, ResolveHosts, ResolverConfig, ResolverOpts};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::net::{DnsError as Negative, NetError};
use hickory_resolver::system_conf::read_system_conf;
use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;

/// Resolvers, asked in the order of their speed, each query at most [`Settings::tries`] times.
pub(crate) struct Upstream {
    resolver: TokioResolver,
    deadline: Duration,
}

// === impl Upstream ===

impl Upstream {
    /// Resolvers from the settings or the system; an error if one of them is a listener of ours.
    pub(crate) fn new(settings: &Settings, listeners: &[SocketAddr]) -> Result<Self, DnsError> {
        let servers = match &settings.upstreams {
            Some(upstreams) => upstreams.clone(),
            None => system_resolvers()?,
        };
        for (upstream, listen) in servers.iter().flat_map(|server| listeners.iter().map(move |l| (*server, *l))) {
            if reaches(upstream, listen) {
                return Err(DnsError::Circle { upstream, listen });
            }
        }
        let config = ResolverConfig::from_parts(None, Vec::new(), servers.into_iter().map(name_server).collect());
        let resolver = TokioResolver::builder_with_config(config, TokioRuntimeProvider::default())
            .with_options(options(settings))
            .build()
            .map_err(|error| DnsError::Resolver(error.to_string()))?;
        Ok(Self { resolver, deadline: settings.timeout() })
    }

    /// Asks; `None` when no resolver answered in time, or none could.
    pub(crate) async fn ask(&self, question: &Question) -> Option<Answer> {
        let mut name = question.name().clone();
        name.set_fqdn(true);
        let lookup = self.resolver.lookup(name, question.record_type());
        match tokio::time::timeout(self.deadline, lookup).await.ok()? {
            Ok(lookup) => Some(Answer { records: lookup.answers().to_vec(), ..Answer::default() }),
            Err(NetError::Dns(Negative::NoRecordsFound(none))) => {
                let soa = none.soa.map(|soa| (*soa).into_record_of_rdata());
                Some(negative(none.response_code, soa))
            }
            Err(NetError::Dns(Negative::ResponseCode(code))) => Some(negative(code, None)),
            Err(error) => {
                tracing::debug!(%error, "no answer from upstream");
                None
            }
        }
    }
}

fn negative(code: ResponseCode, authority: Option<Record>) -> Answer {
    Answer { code, authorities: authority.into_iter().collect(), ..Answer::default() }
}

fn options(settings: &Settings) -> ResolverOpts {
    let mut options = ResolverOpts::default();
    options.timeout = settings.timeout() / settings.tries.max(1);
    options.attempts = settings.tries.saturating_sub(1) as usize;
    options.cache_size = settings.cache_entries;
    options.use_hosts_file = ResolveHosts::Never;
    options.max_active_requests = settings.max_forwarded;
    options
}

fn system_resolvers() -> Result<Vec<SocketAddr>, DnsError> {
    let (config, _) = read_system_conf().map_err(|error| DnsError::NoUpstreams(error.to_string()))?;
    Ok(config.name_servers().iter().map(|server| SocketAddr::new(server.ip, 53)).collect())
}

fn name_server(address: SocketAddr) -> NameServerConfig {
    let connections = [ConnectionConfig::udp(), ConnectionConfig::tcp()].map(|mut connection| {
        connection.port = address.port();
        connection
    });
    NameServerConfig::new(address.ip(), true, connections.into())
}

/// Whether what is sent to `upstream` arrives at `listen`.
fn reaches(upstream: SocketAddr, listen: SocketAddr) -> bool {
    let is_local = || UdpSocket::bind((upstream.ip(), 0)).is_ok();
    upstream.port() == listen.port()
        && (upstream.ip() == listen.ip()
            || upstream.ip().is_unspecified()
            || listen.ip().is_unspecified() && is_local())
}
