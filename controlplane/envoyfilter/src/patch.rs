//! One patch: to what, where, how, and with what.

use crate::encode::encode;
use crate::matches::{Context, Match, word};
use crate::{json, own, pool};
use bytes::Bytes;
use prost_reflect::DynamicMessage;
use resource::{Field, Position, ResourceError, Source};

/// One patch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Patch {
    /// To what.
    pub apply_to: ApplyTo,
    /// How.
    pub operation: Operation,
    /// Where it stands.
    pub position: Position,
    /// Its path in the document.
    pub path: String,
    /// Whether our own proxies honour it.
    pub is_for_own: bool,
    pub(crate) matches: Match,
    /// The message, encoded; empty where there is none.
    value: Bytes,
}

/// What is patched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ApplyTo {
    /// A listener.
    Listener,
    /// A filter that looks at how a connection begins.
    ListenerFilter,
    /// A chain of filters of a listener.
    FilterChain,
    /// A filter of a chain.
    NetworkFilter,
    /// A filter of requests.
    HttpFilter,
    /// The routes of a listener or port.
    RouteConfiguration,
    /// The routes of some authorities.
    VirtualHost,
    /// One route.
    HttpRoute,
    /// An upstream.
    Cluster,
}

/// How it is patched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    /// Merged into what is there; lists are appended.
    Merge,
    /// Merged into what is there; lists are replaced.
    MergeAndReplaceList,
    /// Added.
    Add,
    /// Removed.
    Remove,
    /// Put before what the match names, or first.
    InsertBefore,
    /// Put after what the match names, or last.
    InsertAfter,
    /// Put first.
    InsertFirst,
    /// Put in the place of what the match names.
    Replace,
}

/// What Istio patches and we do not is none.
const TARGETS: [(&str, Option<ApplyTo>); 11] = [
    ("LISTENER", Some(ApplyTo::Listener)),
    ("LISTENER_FILTER", Some(ApplyTo::ListenerFilter)),
    ("FILTER_CHAIN", Some(ApplyTo::FilterChain)),
    ("NETWORK_FILTER", Some(ApplyTo::NetworkFilter)),
    ("HTTP_FILTER", Some(ApplyTo::HttpFilter)),
    ("ROUTE_CONFIGURATION", Some(ApplyTo::RouteConfiguration)),
    ("VIRTUAL_HOST", Some(ApplyTo::VirtualHost)),
    ("HTTP_ROUTE", Some(ApplyTo::HttpRoute)),
    ("CLUSTER", Some(ApplyTo::Cluster)),
    ("EXTENSION_CONFIG", None),
    ("BOOTSTRAP", None),
];
const OPERATIONS: [(&str, Operation); 8] = [
    ("MERGE", Operation::Merge),
    ("MERGE_AND_REPLACE_LIST", Operation::MergeAndReplaceList),
    ("ADD", Operation::Add),
    ("REMOVE", Operation::Remove),
    ("INSERT_BEFORE", Operation::InsertBefore),
    ("INSERT_AFTER", Operation::InsertAfter),
    ("INSERT_FIRST", Operation::InsertFirst),
    ("REPLACE", Operation::Replace),
];

// === impl Patch ===

impl Patch {
    /// The patch at `at`; none if it is one that nobody honours here, which is a warning.
    pub(crate) fn read(at: &Field<'_>, source: &mut Source) -> Result<Option<Self>, ResourceError> {
        let fields = at.fields(&["applyTo", "match", "patch"])?;
        let target = fields.get("applyTo");
        let apply_to = word(&target, &TARGETS)?.ok_or_else(|| target.refuse("what is patched, e.g. HTTP_FILTER"))?;
        let matches = Match::read(&fields.get("match"), source)?;
        let patch = fields.get("patch").require("a patch")?.fields(&["operation", "value", "filterClass"])?;
        let operation = patch.get("operation");
        let how = word(&operation, &OPERATIONS)?.ok_or_else(|| operation.refuse("how it is patched, e.g. MERGE"))?;
        if word(
            &patch.get("filterClass"),
            &[("UNSPECIFIED", false), ("AUTHN", true), ("AUTHZ", true), ("STATS", true)],
        )? == Some(true)
        {
            source.warn(&patch.get("filterClass"), "not honoured: the filter goes where its operation says");
        }
        let Some(apply_to) = apply_to else {
            source.warn(&target, "this is not patched here: the patch is left out");
            return Ok(None);
        };
        let value = patch.get("value");
        apply_to.check(how, &operation)?;
        let message = match how {
            Operation::Remove => DynamicMessage::new(pool::known(apply_to.message())),
            _ => json::message(&value.clone().require("what is patched in")?, &pool::known(apply_to.message()))?,
        };
        if matches.context == Context::Waypoint {
            source.warn(&fields.get("match"), "there are no waypoints here: the patch is left out");
            return Ok(None);
        }
        let is_for_own = own::honours(apply_to, how, &message);
        if !is_for_own {
            let what = "for Envoy alone: of EnvoyFilters our own proxies honour local rate limits";
            source.warn(at, what);
        }
        Ok(Some(Self {
            apply_to,
            operation: how,
            position: at.position(),
            path: at.path().to_owned(),
            is_for_own,
            matches,
            value: encode(&message).into(),
        }))
    }

    /// The message to be patched in.
    pub(crate) fn value(&self) -> DynamicMessage {
        let descriptor = pool::known(self.apply_to.message());
        DynamicMessage::decode(descriptor.clone(), self.value.clone())
            .unwrap_or_else(|_| DynamicMessage::new(descriptor))
    }

    /// A patch that puts `filter`, an encoded `HttpFilter`, before all filters of requests in `context`, on `port` if one
    /// is given.
    pub fn http_filter(context: Context, port: Option<u16>, filter: Bytes, position: &Position) -> Self {
        let mut matches = Match { context, ..Match::default() };
        matches.listener.port = port.map(u32::from);
        Self {
            apply_to: ApplyTo::HttpFilter,
            operation: Operation::InsertFirst,
            position: position.clone(),
            path: String::new(),
            is_for_own: true,
            matches,
            value: filter,
        }
    }
}

// === impl ApplyTo ===

impl ApplyTo {
    /// The full name of the message that is patched.
    fn message(self) -> &'static str {
        match self {
            Self::Listener => "envoy.config.listener.v3.Listener",
            Self::ListenerFilter => "envoy.config.listener.v3.ListenerFilter",
            Self::FilterChain => "envoy.config.listener.v3.FilterChain",
            Self::NetworkFilter => "envoy.config.listener.v3.Filter",
            Self::HttpFilter => "envoy.extensions.filters.network.http_connection_manager.v3.HttpFilter",
            Self::RouteConfiguration => "envoy.config.route.v3.RouteConfiguration",
            Self::VirtualHost => "envoy.config.route.v3.VirtualHost",
            Self::HttpRoute => "envoy.config.route.v3.Route",
            Self::Cluster => "envoy.config.cluster.v3.Cluster",
        }
    }

    /// Refuses an operation that means nothing here.
    fn check(self, operation: Operation, at: &Field<'_>) -> Result<(), ResourceError> {
        use Operation::{Add, Merge, MergeAndReplaceList, Remove, Replace};
        let accepted = match self {
            Self::Listener | Self::Cluster => [Merge, MergeAndReplaceList, Add, Remove].contains(&operation),
            Self::FilterChain | Self::VirtualHost => operation != Replace || self == Self::VirtualHost,
            Self::RouteConfiguration => [Merge, MergeAndReplaceList].contains(&operation),
            Self::ListenerFilter | Self::NetworkFilter | Self::HttpFilter | Self::HttpRoute => true,
        };
        if accepted { Ok(()) } else { Err(at.refuse(format!("an operation that there is for {self:?}"))) }
    }
}
