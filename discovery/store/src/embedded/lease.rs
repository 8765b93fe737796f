//! The Lease service: grant, revoke, keep alive, time to live, list.

use super::apply::{Command, Reply};
use super::engine::Engine;
use super::kv::mismatch;
use super::writer::Answer;
use etcd_client::proto::{
    PbLeaseGrantRequest, PbLeaseGrantResponse, PbLeaseKeepAliveRequest, PbLeaseKeepAliveResponse, PbLeaseLeasesRequest,
    PbLeaseLeasesResponse, PbLeaseRevokeRequest, PbLeaseRevokeResponse, PbLeaseService, PbLeaseStatus,
    PbLeaseTimeToLiveRequest, PbLeaseTimeToLiveResponse,
};
use std::time::Instant;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

/// How many keep-alive answers may wait for one client.
const ANSWERS: usize = 16;

/// Serves etcdserverpb.Lease.
pub(super) struct Lease(pub(super) Engine);

// === impl Lease ===

#[tonic::async_trait]
impl PbLeaseService for Lease {
    async fn lease_grant(
        &self,
        request: Request<PbLeaseGrantRequest>,
    ) -> Result<Response<PbLeaseGrantResponse>, Status> {
        let caller = self.0.access.caller(&request)?;
        let PbLeaseGrantRequest { ttl, id } = request.into_inner();
        match self.0.write(Command::Grant { id, ttl }, caller).await? {
            Answer { reply: Reply::Granted { id, ttl }, revision } => {
                let header = Some(self.0.header(revision));
                Ok(Response::new(PbLeaseGrantResponse { header, id, ttl, error: String::new() }))
            }
            other => Err(mismatch(&other)),
        }
    }

    async fn lease_revoke(
        &self,
        request: Request<PbLeaseRevokeRequest>,
    ) -> Result<Response<PbLeaseRevokeResponse>, Status> {
        let caller = self.0.access.caller(&request)?;
        let answer = self.0.write(Command::Revoke(request.into_inner().id), caller).await?;
        Ok(Response::new(PbLeaseRevokeResponse { header: Some(self.0.header(answer.revision)) }))
    }

    type LeaseKeepAliveStream = ReceiverStream<Result<PbLeaseKeepAliveResponse, Status>>;

    async fn lease_keep_alive(
        &self,
        request: Request<Streaming<PbLeaseKeepAliveRequest>>,
    ) -> Result<Response<Self::LeaseKeepAliveStream>, Status> {
        let caller = self.0.access.caller(&request)?;
        let mut requests = request.into_inner();
        let (answers, stream) = mpsc::channel(ANSWERS);
        let engine = self.0.clone();
        tokio::spawn(async move {
            while let Some(Ok(Some(PbLeaseKeepAliveRequest { id }))) =
                engine.shutdown.run_until_cancelled(requests.message()).await
            {
                let header = Some(engine.header(engine.revision()));
                // etcd answers a lease that is gone with a time to live of 0.
                let answer = engine.leases.keep_alive(id, &caller, Instant::now());
                let answer = answer
                    .map(|ttl| PbLeaseKeepAliveResponse { header, id, ttl: ttl.unwrap_or(0) })
                    .map_err(Status::from);
                let sent = engine.shutdown.run_until_cancelled(answers.send(answer)).await;
                if !matches!(sent, Some(Ok(()))) {
                    return;
                }
            }
        });
        Ok(Response::new(ReceiverStream::new(stream)))
    }

    async fn lease_time_to_live(
        &self,
        request: Request<PbLeaseTimeToLiveRequest>,
    ) -> Result<Response<PbLeaseTimeToLiveResponse>, Status> {
        self.0.access.caller(&request)?;
        let PbLeaseTimeToLiveRequest { id, keys } = request.into_inner();
        let header = Some(self.0.header(self.0.revision()));
        let Some((ttl, granted_ttl)) = self.0.leases.time_to_live(id, Instant::now()) else {
            let gone = PbLeaseTimeToLiveResponse { header, id, ttl: -1, ..PbLeaseTimeToLiveResponse::default() };
            return Ok(Response::new(gone));
        };
        let keys = if keys { self.0.read(move |tables| tables.keys_of(id)).await? } else { Vec::new() };
        Ok(Response::new(PbLeaseTimeToLiveResponse { header, id, ttl, granted_ttl, keys }))
    }

    async fn lease_leases(
        &self,
        request: Request<PbLeaseLeasesRequest>,
    ) -> Result<Response<PbLeaseLeasesResponse>, Status> {
        self.0.access.caller(&request)?;
        let leases = self.0.leases.all(Instant::now()).into_iter().map(|id| PbLeaseStatus { id }).collect();
        Ok(Response::new(PbLeaseLeasesResponse { header: Some(self.0.header(self.0.revision())), leases }))
    }
}
