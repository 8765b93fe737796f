//! How an upstream is spoken to: limits, choice of endpoints, outliers; as Envoy has it.

use crate::value::{flag, number, percent, time};
use api::envoy::envoy::config::cluster::v3 as envoy;
use api::envoy::envoy::config::common::matcher::v3::{HttpHeadersMatch, MatchPredicate, match_predicate::Rule};
use api::envoy::envoy::config::core::v3::{
    Http2ProtocolOptions, HttpProtocolOptions, KeepaliveSettings, RuntimeDouble, TcpKeepalive,
};
use api::envoy::envoy::config::route::v3::{HeaderMatcher, header_matcher::HeaderMatchSpecifier};
use api::envoy::envoy::extensions::upstreams::http::v3::http_protocol_options::OutlierDetection as HttpOutliers;
use api::envoy::envoy::r#type::matcher::v3::{RegexMatcher, StringMatcher, string_matcher::MatchPattern};
use api::envoy::google::protobuf::{UInt32Value, UInt64Value};
use config::{Choice, ConnectionPool, HashTable, Keepalive, OutlierDetection, PortPolicy, RetryBudget, Warmup};
use envoy::circuit_breakers::{Thresholds, thresholds};
use envoy::cluster::common_lb_config::{LocalityConfigSpecifier, LocalityWeightedLbConfig};
use envoy::cluster::{
    LbConfig, LbPolicy, LeastRequestLbConfig, MaglevLbConfig, RingHashLbConfig, RoundRobinLbConfig, SlowStartConfig,
};
use std::time::Duration;

/// Whether requests go where they were going.
pub(crate) fn is_passthrough(policy: &PortPolicy) -> bool {
    policy.load_balancer.as_ref().is_some_and(|balancer| balancer.choice == Choice::Passthrough)
}

/// Writes `policy` into `upstream`.
pub(crate) fn apply(upstream: &mut envoy::Cluster, policy: &PortPolicy) {
    apply_pool(upstream, policy.pool.as_ref(), policy.retry_budget.as_ref());
    if let Some(balancer) = &policy.load_balancer {
        choose(upstream, &balancer.choice, balancer.warmup.as_ref());
    }
    let balancer = policy.load_balancer.as_ref();
    let distributes = balancer.and_then(|balancer| balancer.locality.as_ref());
    if balancer.is_some_and(|balancer| balancer.zones.is_some())
        || distributes.is_some_and(|locality| locality.enabled && !locality.distribute.is_empty())
    {
        let weighted = LocalityConfigSpecifier::LocalityWeightedLbConfig(LocalityWeightedLbConfig {});
        let common = upstream.common_lb_config.get_or_insert_default();
        common.locality_config_specifier = Some(weighted);
    }
    if let Some(outliers) = &policy.outliers {
        upstream.outlier_detection = Some(detection(outliers));
        upstream.common_lb_config.get_or_insert_default().healthy_panic_threshold =
            percent(f64::from(outliers.min_health_percent));
    }
}

/// Writes the limits into `upstream`, and how its connections are made.
pub(crate) fn apply_pool(upstream: &mut envoy::Cluster, pool: Option<&ConnectionPool>, budget: Option<&RetryBudget>) {
    upstream.circuit_breakers = Some(limits(pool, budget));
    if let Some(limit) = pool.and_then(|pool| pool.connect_timeout) {
        upstream.connect_timeout = time(limit);
    }
    if let Some(keepalive) = pool.and_then(|pool| pool.keepalive) {
        upstream.upstream_connection_options =
            Some(envoy::UpstreamConnectionOptions { tcp_keepalive: Some(probing(keepalive)), ..Default::default() });
    }
}

/// No limits but those of `pool`: Envoy's own (1024 connections, 3 retries) would refuse ordinary load.
pub(crate) fn limits(pool: Option<&ConnectionPool>, budget: Option<&RetryBudget>) -> envoy::CircuitBreakers {
    let limit = |of: fn(&ConnectionPool) -> Option<u32>| number(pool.and_then(of).unwrap_or(u32::MAX));
    let thresholds = Thresholds {
        max_connections: limit(|pool| pool.max_connections),
        max_pending_requests: limit(|pool| pool.max_pending_requests),
        max_requests: limit(|pool| pool.max_requests),
        max_retries: limit(|pool| pool.max_retries),
        retry_budget: budget.map(|budget| thresholds::RetryBudget {
            budget_percent: percent(f64::from(budget.share) / 1000.0),
            min_retry_concurrency: number(budget.least),
            budget_interval: budget.interval.and_then(time),
        }),
        ..Default::default()
    };
    envoy::CircuitBreakers { thresholds: vec![thresholds], ..Default::default() }
}

/// The life of HTTP connections, if `pool` says anything of it.
pub(crate) fn common_http(pool: &ConnectionPool) -> Option<HttpProtocolOptions> {
    let options = HttpProtocolOptions {
        idle_timeout: pool.http_idle_timeout.and_then(time),
        max_connection_duration: pool.max_connection_duration.and_then(time),
        max_requests_per_connection: pool.max_requests_per_connection.and_then(number),
        ..Default::default()
    };
    (options != HttpProtocolOptions::default()).then_some(options)
}

/// HTTP/2 as `pool` wants it.
pub(crate) fn http2(pool: Option<&ConnectionPool>) -> Http2ProtocolOptions {
    let probes = pool.and_then(|pool| pool.http2_keepalive);
    Http2ProtocolOptions {
        max_concurrent_streams: pool.and_then(|pool| pool.max_concurrent_streams).and_then(number),
        connection_keepalive: probes.map(|(interval, timeout)| KeepaliveSettings {
            interval: time(interval),
            timeout: time(timeout),
            ..Default::default()
        }),
        ..Default::default()
    }
}

fn choose(upstream: &mut envoy::Cluster, choice: &Choice, warmup: Option<&Warmup>) {
    let slow_start_config = warmup.map(slow_start);
    let size = |value: u64| Some(UInt64Value { value });
    let (policy, config) = match choice {
        Choice::LeastRequest => {
            let config = LeastRequestLbConfig { slow_start_config, ..Default::default() };
            (LbPolicy::LeastRequest, warmup.map(|_| LbConfig::LeastRequestLbConfig(config)))
        }
        Choice::RoundRobin => {
            let config = RoundRobinLbConfig { slow_start_config };
            (LbPolicy::RoundRobin, warmup.map(|_| LbConfig::RoundRobinLbConfig(config)))
        }
        Choice::Random => (LbPolicy::Random, None),
        // Without redirection nobody knows where a request was going.
        Choice::Passthrough => (LbPolicy::LeastRequest, None),
        Choice::Hash { table: HashTable::Ring(places), .. } => {
            let config = RingHashLbConfig { minimum_ring_size: size(*places), ..Default::default() };
            (LbPolicy::RingHash, Some(LbConfig::RingHashLbConfig(config)))
        }
        Choice::Hash { table: HashTable::Maglev(places), .. } => {
            (LbPolicy::Maglev, Some(LbConfig::MaglevLbConfig(MaglevLbConfig { table_size: size(*places) })))
        }
    };
    upstream.set_lb_policy(policy);
    upstream.lb_config = config;
}

fn slow_start(warmup: &Warmup) -> SlowStartConfig {
    let aggression = f64::from(warmup.aggression) / 1000.0;
    SlowStartConfig {
        slow_start_window: time(warmup.time),
        // Envoy wants a name under which an operator could change it at run time.
        aggression: Some(RuntimeDouble { default_value: aggression, runtime_key: "warmup.aggression".to_owned() }),
        min_weight_percent: percent(f64::from(warmup.least) / 1000.0),
    }
}

/// The statuses that count as failures, where they are not 5xx: a match on `:status`, `502|503`.
pub(crate) fn failures(outliers: Option<&OutlierDetection>) -> Option<HttpOutliers> {
    let statuses: Vec<String> = outliers?.statuses.iter().map(ToString::to_string).collect();
    if statuses.is_empty() {
        return None;
    }
    let regex = RegexMatcher { regex: statuses.join("|"), ..Default::default() };
    let status = HeaderMatcher {
        name: ":status".to_owned(),
        header_match_specifier: Some(HeaderMatchSpecifier::StringMatch(StringMatcher {
            match_pattern: Some(MatchPattern::SafeRegex(regex)),
            ..Default::default()
        })),
        ..Default::default()
    };
    let rule = Rule::HttpResponseHeadersMatch(HttpHeadersMatch { headers: vec![status] });
    Some(HttpOutliers { error_matcher: Some(MatchPredicate { rule: Some(rule) }) })
}

fn detection(outliers: &OutlierDetection) -> envoy::OutlierDetection {
    let enforced = |count: u32| number(if count > 0 { 100 } else { 0 });
    let counted = |count: u32| if count > 0 { number(count) } else { None };
    envoy::OutlierDetection {
        consecutive_5xx: counted(outliers.consecutive_5xx),
        enforcing_consecutive_5xx: enforced(outliers.consecutive_5xx),
        consecutive_gateway_failure: counted(outliers.consecutive_gateway),
        enforcing_consecutive_gateway_failure: enforced(outliers.consecutive_gateway),
        split_external_local_origin_errors: outliers.consecutive_local.is_some(),
        consecutive_local_origin_failure: outliers.consecutive_local.and_then(counted),
        enforcing_consecutive_local_origin_failure: outliers.consecutive_local.and_then(enforced),
        interval: time(outliers.interval),
        base_ejection_time: time(outliers.base_ejection),
        max_ejection_percent: number(outliers.max_ejection_percent),
        enforcing_success_rate: number(0),
        always_eject_one_host: flag(true),
        ..Default::default()
    }
}

fn probing(keepalive: Keepalive) -> TcpKeepalive {
    let seconds = |time: Option<Duration>| -> Option<UInt32Value> {
        number(u32::try_from(time?.as_secs()).unwrap_or(u32::MAX).max(1))
    };
    TcpKeepalive {
        keepalive_probes: keepalive.probes.and_then(number),
        keepalive_time: seconds(keepalive.time),
        keepalive_interval: seconds(keepalive.interval),
    }
}
