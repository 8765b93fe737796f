//! TLS towards services that their owners ask for (the Gateway API's BackendTLSPolicy).

use crate::{ClientTls, HostPattern, Named, Visibility};
use model::Host;

/// TLS towards a service, or towards one of its ports, where no DestinationRule says otherwise.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BackendTls {
    /// The service.
    pub host: Host,
    /// The name of its port; all if absent.
    pub port: Option<String>,
    /// How it is spoken to.
    pub tls: ClientTls,
}

// === impl BackendTls ===

impl Named for BackendTls {
    fn hosts(&self) -> impl Iterator<Item = HostPattern> {
        [HostPattern::Host(self.host.clone())].into_iter()
    }

    fn places(&self) -> Visibility {
        Visibility::All
    }
}
