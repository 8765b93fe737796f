//! How an upstream is used: limits, choice, outliers, the life of connections; parsed from Envoy's cluster.

use crate::decode::{duration, unpack};
use api::envoy::envoy::config::cluster::v3 as proto;
use api::envoy::envoy::config::common::matcher::v3::match_predicate::Rule;
use api::envoy::envoy::config::core::v3::HttpProtocolOptions as Common;
use api::envoy::envoy::config::route::v3::{HeaderMatcher, header_matcher::HeaderMatchSpecifier};
use api::envoy::envoy::extensions::upstreams::http::v3::HttpProtocolOptions;
use api::envoy::envoy::r#type::matcher::v3::string_matcher::MatchPattern;
use api::envoy::google::protobuf::UInt32Value;
use proto::cluster::{LbConfig, LbPolicy, SlowStartConfig};
use std::time::Duration;

/// How an upstream is used.
#[derive(Debug, Clone, PartialEq)]
pub struct Policy {
    /// Limits on what is under way at a time.
    pub limits: Limits,
    /// How long HTTP connections live.
    pub life: Life,
    /// How silent TCP connections are probed; as the proxy does it if absent.
    pub keepalive: Option<Keepalive>,
    pub(crate) choice: Choice,
    pub(crate) warmup: Option<Warmup>,
    pub(crate) outliers: Option<Outliers>,
}

/// Limits on what is under way at a time (circuit breakers).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Limits {
    /// Connections.
    pub connections: u32,
    /// Requests that wait for a connection.
    pub pending: u32,
    /// Requests.
    pub requests: u32,
    /// Retries, if no share of the requests is given.
    pub retries: u32,
    /// Retries as a percentage of the requests, and how many there may always be.
    pub retry_budget: Option<(f64, u32)>,
    /// How long requests count for that share beside those under way.
    pub retry_interval: Option<Duration>,
}

/// How long HTTP connections live.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Life {
    /// How long one waits for its next request; as the proxy does it if absent.
    pub idle: Option<Duration>,
    /// How long it lasts.
    pub longest: Option<Duration>,
    /// How many requests it carries.
    pub requests: Option<u32>,
    /// How many at a time, if it is HTTP/2.
    pub streams: Option<u32>,
    /// How a silent HTTP/2 connection is probed: the interval, and how long an answer may take.
    pub probing: Option<(Duration, Duration)>,
}

/// How a silent TCP connection is probed; what is absent is as the system does it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Keepalive {
    /// Probes without an answer before it is given up.
    pub probes: Option<u32>,
    /// How long it may be silent before the first.
    pub time: Option<Duration>,
    /// How long between them.
    pub interval: Option<Duration>,
}

/// How an endpoint is chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Choice {
    #[default]
    LeastRequest,
    RoundRobin,
    Random,
    Ring(u64),
    Maglev(u64),
}

/// How a new endpoint gets its share.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Warmup {
    pub(crate) window: Duration,
    pub(crate) aggression: f64,
    /// The share that it begins with, 0 to 1.
    pub(crate) least: f64,
}

/// When an endpoint that fails is left out for a while.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Outliers {
    /// The statuses that are failures; 5xx if there are none.
    pub(crate) statuses: Vec<u16>,
    /// Failures in a row; not counted if absent.
    pub(crate) any: Option<u32>,
    pub(crate) gateway: Option<u32>,
    /// If absent, what fails on this side counts with the others.
    pub(crate) local: Option<u32>,
    pub(crate) interval: Duration,
    pub(crate) base: Duration,
    pub(crate) longest: Duration,
    pub(crate) most_percent: u32,
    pub(crate) least_healthy_percent: u32,
}

/// Envoy's.
const LONGEST_EJECTION: Duration = Duration::from_mins(5);
const RING: u64 = 1024;
const MAGLEV: u64 = 65_537;
/// No table may be larger, whatever is asked for.
const LARGEST: u64 = 8 * 1024 * 1024;

// === impl Policy ===

impl Policy {
    pub(crate) fn parse(upstream: &proto::Cluster) -> Result<Self, String> {
        let choice = match upstream.lb_policy() {
            LbPolicy::LeastRequest | LbPolicy::ClusterProvided => Choice::LeastRequest,
            LbPolicy::RoundRobin => Choice::RoundRobin,
            LbPolicy::Random => Choice::Random,
            LbPolicy::RingHash => Choice::Ring(ring_size(upstream).clamp(1, LARGEST)),
            LbPolicy::Maglev => Choice::Maglev(maglev_size(upstream).clamp(1, LARGEST)),
            LbPolicy::LoadBalancingPolicyConfig => return Err("lb_policy: LOAD_BALANCING_POLICY_CONFIG".into()),
        };
        let warmup = match &upstream.lb_config {
            Some(LbConfig::LeastRequestLbConfig(config)) => config.slow_start_config.as_ref(),
            Some(LbConfig::RoundRobinLbConfig(config)) => config.slow_start_config.as_ref(),
            _ => None,
        };
        Ok(Self {
            limits: Limits::parse(upstream),
            life: Life::parse(upstream),
            keepalive: upstream.upstream_connection_options.as_ref().and_then(Keepalive::parse),
            choice,
            warmup: warmup.and_then(Warmup::parse),
            outliers: match &upstream.outlier_detection {
                Some(outliers) => {
                    Some(Outliers { statuses: failures(upstream)?, ..Outliers::parse(outliers, upstream) })
                }
                None => None,
            },
        })
    }
}

fn ring_size(upstream: &proto::Cluster) -> u64 {
    match &upstream.lb_config {
        Some(LbConfig::RingHashLbConfig(config)) => config.minimum_ring_size.as_ref().map_or(RING, |size| size.value),
        _ => RING,
    }
}

fn maglev_size(upstream: &proto::Cluster) -> u64 {
    match &upstream.lb_config {
        Some(LbConfig::MaglevLbConfig(config)) => config.table_size.as_ref().map_or(MAGLEV, |size| size.value),
        _ => MAGLEV,
    }
}

fn http_options(upstream: &proto::Cluster) -> Option<HttpProtocolOptions> {
    let any = upstream.typed_extension_protocol_options.values().next();
    any.and_then(unpack::<HttpProtocolOptions>)?.ok()
}

/// The statuses of a match on `:status`, such as `502|503`.
fn failures(upstream: &proto::Cluster) -> Result<Vec<u16>, String> {
    let matcher = http_options(upstream).and_then(|options| options.outlier_detection?.error_matcher?.rule);
    let Some(rule) = matcher else { return Ok(Vec::new()) };
    let statuses = match &rule {
        Rule::HttpResponseHeadersMatch(matches) => statuses(&matches.headers),
        _ => None,
    };
    statuses.ok_or_else(|| "outlier_detection.error_matcher: a match on :status, STATUS|STATUS, is accepted".to_owned())
}

fn statuses(headers: &[HeaderMatcher]) -> Option<Vec<u16>> {
    let [status] = headers else { return None };
    let Some(HeaderMatchSpecifier::StringMatch(matcher)) = &status.header_match_specifier else { return None };
    let Some(MatchPattern::SafeRegex(regex)) = &matcher.match_pattern else { return None };
    if status.name != ":status" || status.invert_match {
        return None;
    }
    regex.regex.split('|').map(|status| status.parse().ok()).collect()
}

fn value(number: Option<&UInt32Value>) -> Option<u32> {
    number.map(|number| number.value)
}

// === impl Limits ===

impl Limits {
    /// Envoy's own limits where the upstream says nothing.
    fn parse(upstream: &proto::Cluster) -> Self {
        let thresholds = upstream.circuit_breakers.as_ref().and_then(|breakers| breakers.thresholds.first());
        let limit = |of: fn(&proto::circuit_breakers::Thresholds) -> Option<&UInt32Value>, default| {
            value(thresholds.and_then(of)).unwrap_or(default)
        };
        let budget = thresholds.and_then(|thresholds| thresholds.retry_budget.as_ref()).map(|budget| {
            let percent = budget.budget_percent.as_ref().map_or(20.0, |percent| percent.value);
            (percent, value(budget.min_retry_concurrency.as_ref()).unwrap_or(3))
        });
        Self {
            connections: limit(|of| of.max_connections.as_ref(), 1024),
            pending: limit(|of| of.max_pending_requests.as_ref(), 1024),
            requests: limit(|of| of.max_requests.as_ref(), 1024),
            retries: limit(|of| of.max_retries.as_ref(), 3),
            retry_interval: thresholds
                .and_then(|thresholds| duration(thresholds.retry_budget.as_ref()?.budget_interval.as_ref()))
                .filter(|interval| !interval.is_zero()),
            retry_budget: budget,
        }
    }
}

// === impl Life ===

impl Life {
    fn parse(upstream: &proto::Cluster) -> Self {
        use api::envoy::envoy::extensions::upstreams::http::v3::http_protocol_options::{
            UpstreamProtocolOptions, explicit_http_config::ProtocolConfig,
        };
        let Some(options) = http_options(upstream) else { return Self::default() };
        let http2 = match options.upstream_protocol_options {
            Some(UpstreamProtocolOptions::ExplicitHttpConfig(explicit)) => match explicit.protocol_config {
                Some(ProtocolConfig::Http2ProtocolOptions(http2)) => Some(http2),
                _ => None,
            },
            Some(UpstreamProtocolOptions::UseDownstreamProtocolConfig(config)) => config.http2_protocol_options,
            _ => None,
        };
        let common = options.common_http_protocol_options;
        let time = |of: fn(&Common) -> Option<&api::envoy::google::protobuf::Duration>| {
            duration(common.as_ref().and_then(of)).filter(|time| !time.is_zero())
        };
        let probing = http2.as_ref().and_then(|http2| http2.connection_keepalive.as_ref());
        Self {
            idle: time(|common| common.idle_timeout.as_ref()),
            longest: time(|common| common.max_connection_duration.as_ref()),
            requests: common.as_ref().and_then(|common| value(common.max_requests_per_connection.as_ref())),
            streams: http2.as_ref().and_then(|http2| value(http2.max_concurrent_streams.as_ref())),
            probing: probing
                .and_then(|probing| duration(probing.interval.as_ref()).zip(duration(probing.timeout.as_ref()))),
        }
    }
}

// === impl Keepalive ===

impl Keepalive {
    fn parse(options: &proto::UpstreamConnectionOptions) -> Option<Self> {
        let keepalive = options.tcp_keepalive.as_ref()?;
        let seconds = |number: Option<&UInt32Value>| value(number).map(|seconds| Duration::from_secs(seconds.into()));
        Some(Self {
            probes: value(keepalive.keepalive_probes.as_ref()),
            time: seconds(keepalive.keepalive_time.as_ref()),
            interval: seconds(keepalive.keepalive_interval.as_ref()),
        })
    }
}

// === impl Warmup ===

impl Warmup {
    fn parse(config: &SlowStartConfig) -> Option<Self> {
        let window = duration(config.slow_start_window.as_ref()).filter(|window| !window.is_zero())?;
        Some(Self {
            window,
            aggression: config.aggression.as_ref().map_or(1.0, |aggression| aggression.default_value).max(1e-3),
            least: config.min_weight_percent.as_ref().map_or(0.1, |percent| percent.value / 100.0),
        })
    }

    /// The share of an endpoint that is as old as `age`, 0 to 1.
    pub(crate) fn share(&self, age: Duration) -> f64 {
        if age >= self.window {
            return 1.0;
        }
        (age.as_secs_f64() / self.window.as_secs_f64()).powf(1.0 / self.aggression).max(self.least)
    }
}

// === impl Outliers ===

impl Outliers {
    fn parse(outliers: &proto::OutlierDetection, upstream: &proto::Cluster) -> Self {
        let time = |time, default| duration(time).unwrap_or(default);
        let enforced = |count: Option<&UInt32Value>, enforcing: Option<&UInt32Value>, default: (u32, u32)| {
            let is_on = value(enforcing).unwrap_or(default.1) > 0;
            is_on.then(|| value(count).unwrap_or(default.0)).filter(|count| *count > 0)
        };
        let base = time(outliers.base_ejection_time.as_ref(), Duration::from_secs(30));
        let panic = upstream.common_lb_config.as_ref().and_then(|common| common.healthy_panic_threshold.as_ref());
        #[expect(clippy::cast_sign_loss, reason = "clamped to a percentage")]
        let least_healthy_percent = panic.map_or(50.0, |percent| percent.value).clamp(0.0, 100.0) as u32;
        Self {
            statuses: Vec::new(),
            any: enforced(outliers.consecutive_5xx.as_ref(), outliers.enforcing_consecutive_5xx.as_ref(), (5, 100)),
            gateway: enforced(
                outliers.consecutive_gateway_failure.as_ref(),
                outliers.enforcing_consecutive_gateway_failure.as_ref(),
                (5, 0),
            ),
            local: outliers.split_external_local_origin_errors.then(|| {
                let enforcing = outliers.enforcing_consecutive_local_origin_failure.as_ref();
                enforced(outliers.consecutive_local_origin_failure.as_ref(), enforcing, (5, 100)).unwrap_or(u32::MAX)
            }),
            interval: time(outliers.interval.as_ref(), Duration::from_secs(10)).max(Duration::from_millis(1)),
            base,
            longest: time(outliers.max_ejection_time.as_ref(), LONGEST_EJECTION).max(base),
            most_percent: value(outliers.max_ejection_percent.as_ref()).unwrap_or(10).min(100),
            least_healthy_percent,
        }
    }
}
