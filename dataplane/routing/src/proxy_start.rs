//! How a proxy is to be started and ended, as the control plane tells it: an agent's business. A proxy that was started by
//! its own settings names what it does not follow.

use crate::Rejection;
use crate::decode::message;
use api::istio::mesh::ProxyConfig;
use xds::Resource;

/// The fields of Istio's ProxyConfig that `resource` sets.
///
/// # Errors
/// If it is no ProxyConfig.
pub fn said_of_start(resource: &Resource) -> Result<Vec<&'static str>, Rejection> {
    let config: ProxyConfig = message(resource)?;
    let fields = [
        ("concurrency", config.concurrency.is_some()),
        ("environmentVariables", !config.proxy_metadata.is_empty()),
        ("drainDuration", config.drain_duration.is_some()),
        ("terminationDrainDuration", config.termination_drain_duration.is_some()),
    ];
    Ok(fields.into_iter().filter(|(_, is_set)| *is_set).map(|(name, _)| name).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use xds::type_url::PROXY_CONFIG_NAME;

    #[test]
    fn what_is_set_is_named() {
        let said = |config: &ProxyConfig| said_of_start(&Resource::new(PROXY_CONFIG_NAME, config)).expect("it is one");
        assert_eq!(said(&ProxyConfig::default()), Vec::<&str>::new());
        let config = ProxyConfig { concurrency: Some(0), ..ProxyConfig::default() };
        assert_eq!(said(&config), ["concurrency"]);
        let broken = Resource::from_body(PROXY_CONFIG_NAME, b"\xff"[..].into());
        assert!(said_of_start(&broken).is_err());
    }
}
