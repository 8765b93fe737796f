//! The resources, indexed for the questions that rules ask.

use crate::suppress::ANNOTATION;
use crate::{Code, Facts, Message, Resources};
use config::Intent;
use model::{Host, Namespace};
use resource::{Document, Node, Position, Resource, ServiceEntry, Tree, Value, Warning};
use std::collections::{BTreeMap, BTreeSet};

/// A set of labels.
pub(crate) type Labels = BTreeMap<String, String>;

/// The resources, indexed for the questions that rules ask.
pub(crate) struct World<'a> {
    pub(crate) trees: &'a [Tree],
    pub(crate) documents: &'a [(usize, Document)],
    /// The good ones, as written.
    pub(crate) intent: Intent,
    /// What is warned of when they are followed all together.
    pub(crate) warnings: Vec<Warning>,
    pub(crate) services: Vec<Service<'a>>,
    pub(crate) workloads: Vec<Workload>,
    pub(crate) facts: &'a Facts,
    by_name: BTreeMap<(&'a str, &'a str, &'a str, &'a str), usize>,
}

/// A host that somebody declares.
pub(crate) struct Service<'a> {
    pub(crate) host: Host,
    pub(crate) namespace: String,
    /// Its ports: number and name.
    pub(crate) ports: Vec<(u16, String)>,
    /// Its endpoints' labels, as far as they are known.
    pub(crate) endpoints: Vec<Labels>,
    /// The namespaces that see it, as written; all if there are none.
    export_to: Vec<&'a str>,
}

/// Something that runs.
pub(crate) struct Workload {
    pub(crate) namespace: String,
    pub(crate) labels: Labels,
}

/// The kinds of Kubernetes whose template is a pod.
const TEMPLATES: [&str; 6] = ["Deployment", "StatefulSet", "DaemonSet", "ReplicaSet", "Job", "Rollout"];
pub(crate) const NETWORKING: &str = "networking.istio.io";

// === impl World ===

impl<'a> World<'a> {
    pub(crate) fn new(resources: &'a Resources, facts: &'a Facts) -> Self {
        let documents: Vec<Document> = resources.documents.iter().map(|(_, document)| document.clone()).collect();
        let (intent, _) = Intent::as_written(&documents);
        let warnings = Intent::from_documents(&documents).map(|whole| whole.warnings).unwrap_or_default();
        let mut by_name = BTreeMap::new();
        for (i, tree) in resources.trees.iter().enumerate() {
            by_name.entry(name_of(tree)).or_insert(i);
        }
        let mut world = Self {
            trees: &resources.trees,
            documents: &resources.documents,
            intent,
            warnings,
            services: Vec::new(),
            workloads: Vec::new(),
            facts,
            by_name,
        };
        world.workloads = world.trees.iter().filter_map(Workload::of).collect();
        world.services = world.trees.iter().flat_map(|tree| Service::of(tree, &world.workloads)).collect();
        world
    }

    /// The resource of Istio's networking group with this name, good or bad.
    pub(crate) fn find(&self, kind: &str, namespace: &str, name: &str) -> Option<&'a Tree> {
        self.find_in(NETWORKING, kind, namespace, name)
    }

    /// The resource with this name, good or bad.
    pub(crate) fn find_in(&self, group: &str, kind: &str, namespace: &str, name: &str) -> Option<&'a Tree> {
        let trees = self.trees;
        self.by_name.get(&(group, kind, namespace, name)).map(|i| &trees[*i])
    }

    /// The resource that stands at `position`.
    pub(crate) fn tree_at(&self, position: &Position) -> Option<&'a Tree> {
        let before = |tree: &&Tree| {
            let begins = tree.position("");
            begins.file == position.file && begins.line <= position.line
        };
        self.trees.iter().filter(before).max_by_key(|tree| tree.position("").line)
    }

    /// Says something about what stands at `path` of a resource of Istio's networking group.
    pub(crate) fn say(
        &self,
        code: &'static Code,
        (kind, namespace, name): (&str, &Namespace, &str),
        path: impl Into<String>,
        text: impl Into<String>,
    ) -> Option<Message> {
        self.find(kind, namespace.as_str(), name).map(|tree| Message::new(code, tree, path, text))
    }

    /// The services of `host` that `namespace` sees, exact ones before wildcards.
    pub(crate) fn services_of(&self, host: &Host, namespace: &str) -> Vec<&Service<'a>> {
        let visible = || self.services.iter().filter(|service| service.is_seen_by(namespace));
        let exact: Vec<_> = visible().filter(|service| service.host == *host).collect();
        if !exact.is_empty() {
            return exact;
        }
        visible().filter(|service| service.host.covers(host)).collect()
    }

    /// Whether anybody declares `host` so that `namespace` sees it.
    pub(crate) fn knows(&self, host: &Host, namespace: &str) -> bool {
        let elsewhere = |known: &Host| known == host || known.covers(host);
        self.facts.hosts.iter().any(elsewhere) || !self.services_of(host, namespace).is_empty()
    }

    /// The ServiceEntries, with their trees.
    pub(crate) fn entries(&self) -> impl Iterator<Item = (&'a Tree, &'a Document, &'a ServiceEntry)> {
        let trees = self.trees;
        self.documents.iter().filter_map(move |(i, document)| match &document.resource {
            Resource::ServiceEntry(entry) => Some((&trees[*i], document, entry)),
            _ => None,
        })
    }

    /// Whether the resource that `message` is about has suppressed it.
    pub(crate) fn is_suppressed(&self, message: &Message) -> bool {
        let subject = &message.subject;
        let is_meant = |tree: &&Tree| {
            tree.text("kind") == Some(&subject.kind)
                && tree.text("metadata.name") == Some(&subject.name)
                && tree.text("metadata.namespace").unwrap_or("default") == subject.namespace
        };
        let codes = |tree: &'a Tree| tree.text(&format!("metadata.annotations.{ANNOTATION}"));
        let codes = self.trees.iter().filter(is_meant).filter_map(codes);
        codes.flat_map(|list| list.split(',')).any(|code| matches!(code.trim(), "*") || code.trim() == message.code.id)
    }
}

// === impl Service ===

impl<'a> Service<'a> {
    /// The services that `tree` declares, be it good or bad.
    fn of(tree: &'a Tree, workloads: &[Workload]) -> Vec<Self> {
        let (group, kind, namespace, name) = name_of(tree);
        let ports = ports(tree);
        let annotation = tree.text("metadata.annotations.networking.istio.io/exportTo");
        let (hosts, selector, export_to) = match (group, kind) {
            (NETWORKING, "ServiceEntry") => {
                (texts(tree, "spec.hosts"), tree.find("spec.workloadSelector.labels"), texts(tree, "spec.exportTo"))
            }
            ("", "Service") => {
                let to = annotation.map(|list| list.split(',').map(str::trim).collect());
                (Vec::new(), tree.find("spec.selector"), to.unwrap_or_default())
            }
            _ => return Vec::new(),
        };
        let own = (kind == "Service").then(|| format!("{name}.{namespace}.svc.cluster.local"));
        let mut endpoints: Vec<Labels> = Vec::new();
        if let Some(selector) = selector.map(labels).filter(|selector| !selector.is_empty()) {
            let selected = workloads.iter().filter(|one| one.namespace == namespace && bears(&one.labels, &selector));
            endpoints.extend(selected.map(|one| one.labels.clone()));
        }
        for endpoint in items(tree.find("spec.endpoints")) {
            endpoints.push(endpoint.get("labels").map(labels).unwrap_or_default());
        }
        let hosts = hosts.into_iter().map(str::to_owned).chain(own).filter_map(|host| host.parse().ok());
        let service = |host| Self {
            host,
            namespace: namespace.to_owned(),
            ports: ports.clone(),
            endpoints: endpoints.clone(),
            export_to: export_to.clone(),
        };
        hosts.map(service).collect()
    }

    fn is_seen_by(&self, namespace: &str) -> bool {
        let means = |to: &&str| match *to {
            "*" => true,
            "." => self.namespace == namespace,
            name => name == namespace,
        };
        self.export_to.is_empty() || self.export_to.iter().any(means)
    }
}

// === impl Workload ===

impl Workload {
    fn of(tree: &Tree) -> Option<Self> {
        let (group, kind, namespace, _) = name_of(tree);
        let at: &[&str] = match (group, kind) {
            (NETWORKING, "WorkloadEntry") => &["metadata.labels", "spec.labels"],
            (NETWORKING, "WorkloadGroup") => &["spec.metadata.labels", "spec.template.labels"],
            ("", "Pod") => &["metadata.labels"],
            (_, kind) if TEMPLATES.contains(&kind) => &["spec.template.metadata.labels"],
            _ => return None,
        };
        let all = at.iter().filter_map(|path| tree.find(path)).flat_map(labels).collect();
        Some(Self { namespace: namespace.to_owned(), labels: all })
    }
}

/// Whether `labels` has all that is `wanted`.
pub(crate) fn bears(labels: &Labels, wanted: &Labels) -> bool {
    wanted.iter().all(|(key, value)| labels.get(key) == Some(value))
}

/// Labels as one text, `a=b,c=d`.
pub(crate) fn shown(labels: &Labels) -> String {
    labels.iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>().join(",")
}

/// Group, kind, namespace and name.
pub(crate) fn name_of(tree: &Tree) -> (&str, &str, &str, &str) {
    let group = tree.text("apiVersion").and_then(|version| version.split_once('/')).map_or("", |(group, _)| group);
    let text = |path| tree.text(path).unwrap_or_default();
    (group, text("kind"), tree.text("metadata.namespace").unwrap_or("default"), text("metadata.name"))
}

/// The items of a list; none if it is none.
pub(crate) fn items(node: Option<&Node>) -> &[Node] {
    match node.map(|node| &node.value) {
        Some(Value::List(items)) => items,
        _ => &[],
    }
}

/// The texts of the list at `path`.
pub(crate) fn texts<'a>(tree: &'a Tree, path: &str) -> Vec<&'a str> {
    items(tree.find(path)).iter().filter_map(Node::as_text).collect()
}

/// A mapping of texts.
pub(crate) fn labels(node: &Node) -> Labels {
    let Value::Map(entries) = &node.value else { return Labels::new() };
    let text = |(key, value): &(Node, Node)| Some((key.as_text()?.to_owned(), value.as_text()?.to_owned()));
    entries.iter().filter_map(text).collect()
}

/// The whole number, if it is one.
pub(crate) fn number(node: Option<&Node>) -> Option<u16> {
    match node.map(|node| &node.value) {
        Some(Value::Integer(number)) => u16::try_from(*number).ok(),
        _ => None,
    }
}

fn ports(tree: &Tree) -> Vec<(u16, String)> {
    let port = |node: &Node| {
        let number = number(node.get("number").or_else(|| node.get("port")))?;
        Some((number, node.get("name").and_then(Node::as_text).unwrap_or_default().to_owned()))
    };
    items(tree.find("spec.ports")).iter().filter_map(port).collect()
}

/// The names of all services' hosts, for rules that ask for all of them.
pub(crate) fn hosts<'a>(services: &'a [Service<'_>]) -> BTreeSet<&'a Host> {
    services.iter().map(|service| &service.host).collect()
}
