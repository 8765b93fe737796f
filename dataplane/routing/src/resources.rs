//! All resources that were received, parsed; a response is taken whole or not at all.

use crate::downstream_tls::is_of_files;
use crate::endpoint::{self, Facts};
use crate::limits::Limiters;
use crate::upstream::UpstreamSettings;
use crate::{
    Discovery, Handler, Listener, Name, Rejection, RouteSource, RouteTable, RoutingTable, ServerSecret, Upstream,
};
use crate::{decode, names, trust};
use api::envoy::envoy::config::endpoint::v3::ClusterLoadAssignment;
use model::TrustBundle;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use xds::{Resource, type_url};

/// What was received so far.
#[derive(Debug, Default)]
pub struct Resources {
    listeners: BTreeMap<Arc<str>, Arc<Listener>>,
    /// Of each listener the latest form whose routes are all there.
    warm: BTreeMap<Arc<str>, Arc<Listener>>,
    routes: HashMap<Arc<str>, Arc<RouteTable>>,
    settings: HashMap<Arc<str>, Arc<UpstreamSettings>>,
    assignments: HashMap<Arc<str>, Vec<Facts>>,
    upstreams: HashMap<Arc<str>, Arc<Upstream>>,
    bundles: Arc<[TrustBundle]>,
    secrets: HashMap<Arc<str>, Arc<ServerSecret>>,
    names: Arc<[Name]>,
    limiters: Limiters,
    listening: bool,
}

// === impl Resources ===

impl Resources {
    /// Takes one response: what changed, and what is gone. On an error nothing has changed.
    ///
    /// # Errors
    /// If a resource cannot be honoured; it names the resource, the field and what is accepted.
    pub fn apply(&mut self, type_url: &str, changed: &[Resource], removed: &[Arc<str>]) -> Result<(), Rejection> {
        match type_url {
            type_url::CLUSTER => {
                let parsed = parsed(changed, UpstreamSettings::parse)?;
                let names: Vec<_> = parsed.iter().map(|(name, _)| name.clone()).collect();
                merge(&mut self.settings, parsed, removed);
                for name in removed {
                    self.assignments.remove(name);
                }
                self.rebuild(names.iter().chain(removed));
            }
            type_url::ENDPOINT => {
                for (name, facts) in parsed(changed, assignment)? {
                    self.assignments.insert(name, (*facts).clone());
                }
                for name in removed {
                    self.assignments.insert(name.clone(), Vec::new());
                }
                self.rebuild(changed.iter().map(|resource| &resource.name).chain(removed));
            }
            type_url::LISTENER => {
                let parsed = parsed(changed, |listener| Listener::parse(listener, &self.limiters))?;
                self.listeners.retain(|name, _| !removed.contains(name));
                self.listeners.extend(parsed);
                self.listening = true;
                self.warm_up();
            }
            type_url::ROUTE => {
                let parsed = parsed(changed, |routes| RouteTable::parse(routes, &self.limiters))?;
                merge(&mut self.routes, parsed, removed);
                self.warm_up();
            }
            type_url::SECRET => {
                let told = changed.iter().filter(|resource| !is_of_files(&resource.name)).cloned();
                let (roots, shown): (Vec<Resource>, Vec<Resource>) =
                    told.partition(|resource| *resource.name == *trust::ROOTS);
                let shown = parsed(&shown, ServerSecret::parse)?;
                if let Some(roots) = roots.first() {
                    self.bundles = trust::parse(roots)?.into();
                }
                merge(&mut self.secrets, shown, removed);
            }
            type_url::NAME_TABLE => {
                if let Some(table) = changed.first() {
                    self.names = names::parse(table)?.into();
                }
            }
            // How a process is started is for whoever starts it: see `said_of_start`.
            type_url::PROXY_CONFIG => {}
            other => return Err(Rejection::new(other, "this type was not asked for")),
        }
        Ok(())
    }

    /// What is asked for by name.
    pub fn wanted(&self, type_url: &str) -> BTreeSet<Arc<str>> {
        match type_url {
            type_url::ENDPOINT => {
                let by_eds = self.settings.values().filter(|settings| settings.discovery == Discovery::Eds);
                by_eds.map(|settings| settings.name.clone()).collect()
            }
            type_url::ROUTE => self.listeners.values().flat_map(|listener| named_routes(listener)).cloned().collect(),
            type_url::SECRET => {
                let shown = self.listeners.values().flat_map(|listener| listener.secrets()).cloned();
                let to_upstreams = self.settings.values().flat_map(|settings| settings.secrets()).cloned();
                shown.chain(to_upstreams).chain([trust::ROOTS.into()]).collect()
            }
            _ => BTreeSet::new(),
        }
    }

    /// The table of what is known; a listener is in it, or changes, once its routes are there.
    pub fn table(&self) -> RoutingTable {
        RoutingTable {
            listeners: self.warm.clone(),
            captured: self
                .warm
                .values()
                .flat_map(|listener| listener.captures.iter().map(|address| (*address, listener.clone())))
                .collect(),
            routes: self.routes.clone(),
            upstreams: self.upstreams.clone(),
            bundles: self.bundles.clone(),
            secrets: self.secrets.clone(),
            names: self.names.clone(),
        }
    }

    /// Whether everything that was asked for has come once.
    pub fn is_complete(&self) -> bool {
        let has_routes = |listener: &Arc<Listener>| named_routes(listener).all(|name| self.routes.contains_key(name));
        self.listening
            && self.listeners.values().all(has_routes)
            && self.wanted(type_url::ENDPOINT).iter().all(|name| self.assignments.contains_key(name))
    }

    /// Lets in the listeners whose routes are all there; the others stay as they were until theirs come.
    fn warm_up(&mut self) {
        self.warm.retain(|name, _| self.listeners.contains_key(name));
        for (name, listener) in &self.listeners {
            if named_routes(listener).all(|route| self.routes.contains_key(route)) {
                self.warm.insert(name.clone(), listener.clone());
            }
        }
    }

    fn rebuild<'a>(&mut self, names: impl Iterator<Item = &'a Arc<str>>) {
        for name in names {
            let Some(settings) = self.settings.get(name) else {
                self.upstreams.remove(name);
                continue;
            };
            let assigned = self.assignments.get(name).map(Vec::as_slice).unwrap_or_default();
            let before = self.upstreams.get(name).map(|before| &**before);
            let upstream = Upstream::new(settings.clone(), assigned, before);
            self.upstreams.insert(name.clone(), Arc::new(upstream));
        }
    }
}

type Parsed<T> = Vec<(Arc<str>, Arc<T>)>;

fn parsed<T>(
    resources: &[Resource],
    parse: impl Fn(&Resource) -> Result<T, Rejection>,
) -> Result<Parsed<T>, Rejection> {
    resources.iter().map(|resource| Ok((resource.name.clone(), Arc::new(parse(resource)?)))).collect()
}

fn merge<T>(into: &mut HashMap<Arc<str>, Arc<T>>, parsed: Parsed<T>, removed: &[Arc<str>]) {
    for name in removed {
        into.remove(name);
    }
    into.extend(parsed);
}

fn assignment(resource: &Resource) -> Result<Vec<Facts>, Rejection> {
    let assignment: ClusterLoadAssignment = decode::message(resource)?;
    endpoint::parse(&assignment).map_err(|reason| Rejection::new(&resource.name, reason))
}

fn named_routes(listener: &Listener) -> impl Iterator<Item = &Arc<str>> {
    listener.chains().filter_map(|chain| match &chain.handler {
        Handler::Http(http) => match &http.routes {
            RouteSource::Named(name) => Some(name),
            RouteSource::Inline(_) => None,
        },
        Handler::Tcp(_) => None,
    })
}
