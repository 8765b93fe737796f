//! Authorization: requests and connections that policies turn away go no further, and it is told which policy did so.

use crate::body::ResponseBody;
use crate::exchange::Asked;
use crate::stream::Stream;
use crate::telemetry::Flag;
use crate::{http, tcp};
use ::http::{HeaderMap, Response, StatusCode};
use routing::{Chain, Direction, HttpHandler, StreamHandler, Subject, Verdict, authorize};

/// What the access log tells of policies.
#[derive(Default)]
pub(crate) struct Told<'a> {
    /// Envoy's response code details.
    pub(crate) details: Option<String>,
    pub(crate) policy: Option<&'a str>,
    pub(crate) audit: Option<&'a str>,
    pub(crate) dry_run: Option<String>,
}

/// What a caller reads that is turned away: Envoy's words.
const DENIED: &str = "RBAC: access denied";

impl http::Caller {
    /// The answer to a request that the policies of `handler` turn away; none if it goes on. What they say is kept in
    /// `asked`.
    pub(crate) fn authorize(
        &self,
        handler: &HttpHandler,
        asked: &mut Asked,
        headers: &HeaderMap,
    ) -> Option<Response<ResponseBody>> {
        let policies = &handler.policies;
        if policies.is_empty() {
            return None;
        }
        let verdict = authorize(
            policies,
            &Subject {
                direct: self.address.ip(),
                remote: self.remote(headers),
                destination: self.destination,
                server_name: &self.server_name,
                principal: self.principal.as_deref(),
                asked: Some(asked.view(headers)),
                metadata: asked.claims.as_ref().map(|claims| &claims.metadata),
            },
        );
        self.shared.telemetry.decisions().count(&verdict);
        let allowed = verdict.allowed;
        asked.verdict = Some(verdict);
        (!allowed).then(|| self.refuse(asked, StatusCode::FORBIDDEN, Flag::Unauthorized, DENIED.to_owned()))
    }
}

impl tcp::Caller<'_> {
    /// Brings `stream` to an endpoint if the policies of `chain` let it.
    pub(crate) async fn admit(&self, stream: Stream, chain: &Chain, handler: &StreamHandler) {
        let Some(verdict) = self.verdict(chain) else { return self.carry(stream, handler).await };
        self.shared.telemetry.decisions().count(&verdict);
        let told = Told::of(Some(&verdict));
        if verdict.allowed {
            tracing::debug!(caller = %self.address, policy = told.policy, audit = told.audit, dry_run = told.dry_run, "connection allowed");
            return self.carry(stream, handler).await;
        }
        let flag = Flag::Unauthorized;
        self.count_refused(handler, flag);
        tracing::info!(
            target: "access",
            direction = match self.direction { Direction::Outbound => "outbound", Direction::Inbound => "inbound" },
            flags = flag.as_str(),
            details = told.details,
            policy = told.policy,
            audit = told.audit,
            dry_run = told.dry_run,
            caller = %self.address,
            source = self.principal.as_deref(),
            "connection refused"
        );
        stream.reset_on_close();
    }

    /// Returns once policies turn the connection away, which they did not do when it came.
    pub(crate) async fn forbidden(&self) {
        let mut changes = self.shared.listeners.subscribe();
        loop {
            let verdict = self.taken.now(self.shared, |chain| self.verdict(chain)).flatten();
            if let Some(verdict) = verdict.filter(|verdict| !verdict.allowed) {
                self.shared.telemetry.decisions().count(&verdict);
                return;
            }
            // The sender is shared by all connections, this one among them.
            let _ = changes.changed().await;
        }
    }

    /// What the policies of `chain` say; none if there are none.
    fn verdict(&self, chain: &Chain) -> Option<Verdict> {
        let subject = Subject {
            direct: self.address.ip(),
            remote: self.address.ip(),
            destination: self.destination,
            server_name: self.server_name.unwrap_or_default(),
            principal: self.principal.as_deref(),
            asked: None,
            metadata: None,
        };
        (!chain.policies.is_empty()).then(|| authorize(&chain.policies, &subject))
    }

    fn count_refused(&self, handler: &StreamHandler, flag: Flag) {
        let table = self.shared.table.load();
        let upstream = table.upstreams.get(handler.target(0));
        let host = upstream.map(|upstream| upstream.settings.host.clone()).unwrap_or_default();
        let counted = self.shared.telemetry.inbound(&host, self.peer.as_ref()).flagged(flag);
        counted.opened.inc();
        counted.closed.inc();
    }
}

// === impl Told ===

impl<'a> Told<'a> {
    pub(crate) fn of(verdict: Option<&'a Verdict>) -> Self {
        let Some(verdict) = verdict else { return Self::default() };
        let dry_run = verdict.dry_run.as_ref().map(|told| {
            let decision = if told.allowed { "allowed" } else { "denied" };
            format!("{decision} by {}", told.policy.as_deref().unwrap_or("none"))
        });
        Self {
            details: (!verdict.allowed).then(|| verdict.details()),
            policy: verdict.policy.as_deref(),
            audit: verdict.audited.as_deref(),
            dry_run,
        }
    }
}
