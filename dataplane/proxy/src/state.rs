//! Takes what the control plane sends, and makes it the table, the roots and the names of the moment.

use crate::shared::Shared;
use arc_swap::ArcSwap;
use dns::{Entry, Zone};
use identity::Bundles;
use model::{Namespace, TrustBundle};
use routing::{Name, Resources, said_of_start};
use std::collections::BTreeSet;
use std::sync::Arc;
use tokio::sync::watch;
use xds::{Rejection, Resource, Sink, type_url};

/// The receiving end of xDS.
pub(crate) struct State {
    pub(crate) shared: Arc<Shared>,
    pub(crate) resources: Resources,
    /// The own domain's roots, which count whatever the control plane says.
    pub(crate) own_bundle: TrustBundle,
    pub(crate) namespace: Namespace,
    pub(crate) zone: Arc<ArcSwap<Zone>>,
    /// Whether everything came once; changes with every table.
    pub(crate) complete: watch::Sender<bool>,
}

const DOMAIN: &str = "cluster.local";

impl Sink for State {
    fn apply(&mut self, type_url: &str, changed: Vec<Resource>, removed: Vec<Arc<str>>) -> Result<(), Rejection> {
        let trusted = match type_url {
            type_url::SECRET => self.trusted(&changed).map_err(|error| reject(&*error))?,
            _ => None,
        };
        self.resources.apply(type_url, &changed, &removed).map_err(|error| reject(&error))?;
        if let (type_url::PROXY_CONFIG, [config]) = (type_url, &changed[..]) {
            for field in said_of_start(config).map_err(|error| reject(&error))? {
                tracing::warn!(
                    field,
                    "ProxyConfig: not followed by this proxy, whose own settings say it (workers, proxy.drainMs)"
                );
            }
        }
        let table = Arc::new(self.resources.table());
        if let Some(bundles) = trusted {
            self.shared.identity.set_bundles(bundles);
        }
        if type_url == type_url::NAME_TABLE {
            let entries = table.names.iter().map(entry);
            self.zone.store(Arc::new(Zone::new(entries, &self.namespace, DOMAIN)));
        }
        self.shared.table.store(table);
        if matches!(type_url, type_url::LISTENER | type_url::ROUTE) {
            self.shared.listeners.send_replace(());
        }
        self.complete.send_replace(self.resources.is_complete());
        Ok(())
    }

    fn wanted(&self, type_url: &str) -> BTreeSet<Arc<str>> {
        self.resources.wanted(type_url)
    }
}

impl State {
    /// The roots in `secrets`, if they are among them, read before anything is kept of them: roots that do not parse must
    /// change nothing.
    fn trusted(&self, secrets: &[Resource]) -> Result<Option<Bundles>, Box<dyn std::error::Error>> {
        let mut trial = Resources::default();
        trial.apply(type_url::SECRET, secrets, &[])?;
        let bundles: Arc<[TrustBundle]> = trial.table().bundles;
        if bundles.is_empty() {
            return Ok(None);
        }
        let peers = bundles.iter().filter(|bundle| bundle.trust_domain != self.own_bundle.trust_domain);
        let own = bundles.iter().find(|bundle| bundle.trust_domain == self.own_bundle.trust_domain);
        Ok(Some(Bundles::new(peers.chain([own.unwrap_or(&self.own_bundle)]))?))
    }
}

fn reject(error: &dyn std::error::Error) -> Rejection {
    let message = error.to_string();
    tracing::warn!(reason = message, "resources rejected");
    Rejection { message }
}

fn entry(name: &Name) -> Entry {
    let (shortname, namespace) = name.service.clone().unzip();
    Entry { host: name.host.clone(), addresses: name.addresses.clone(), shortname, namespace }
}
