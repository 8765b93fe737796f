//! The Maintenance service, as far as `etcdctl endpoint status` and `etcdctl alarm list` want it.

use super::engine::Engine;
use super::fault::Fault;
use etcd_client::proto::{
    PbAlarmMember, PbAlarmRequest, PbAlarmResponse, PbDefragmentRequest, PbDefragmentResponse, PbDowngradeRequest,
    PbDowngradeResponse, PbHashKvRequest, PbHashKvResponse, PbHashRequest, PbHashResponse, PbMaintenanceService,
    PbMoveLeaderRequest, PbMoveLeaderResponse, PbSnapshotRequest, PbSnapshotResponse, PbStatusRequest,
    PbStatusResponse,
};
use tokio_stream::Empty;
use tonic::{Request, Response, Status};

/// Number of etcd's rpc.proto, AlarmType.NOSPACE.
const NO_SPACE: i32 = 1;
/// The version of etcd's API that is served.
const VERSION: &str = concat!("3.4.0+isthmus.", env!("CARGO_PKG_VERSION"));

/// Serves etcdserverpb.Maintenance.
pub(super) struct Maintenance(pub(super) Engine);

// === impl Maintenance ===

#[tonic::async_trait]
impl PbMaintenanceService for Maintenance {
    /// Lists the alarm. It ends by itself once there is room, so that there is nothing to disarm.
    async fn alarm(&self, request: Request<PbAlarmRequest>) -> Result<Response<PbAlarmResponse>, Status> {
        self.0.access.caller(&request)?;
        let header = self.0.header(self.0.revision());
        let alarm = PbAlarmMember { member_id: header.member_id, alarm: NO_SPACE };
        let alarms = if self.0.is_full() { vec![alarm] } else { Vec::new() };
        Ok(Response::new(PbAlarmResponse { header: Some(header), alarms }))
    }

    async fn status(&self, request: Request<PbStatusRequest>) -> Result<Response<PbStatusResponse>, Status> {
        self.0.access.caller(&request)?;
        let meta = *self.0.committed.borrow();
        let header = self.0.header(meta.revision);
        let index = meta.revision.unsigned_abs();
        Ok(Response::new(PbStatusResponse {
            version: VERSION.into(),
            db_size: i64::try_from(self.0.disk.file_bytes()).unwrap_or(i64::MAX),
            db_size_in_use: meta.bytes,
            leader: header.member_id,
            raft_index: index,
            raft_term: header.raft_term,
            raft_applied_index: index,
            errors: if self.0.is_full() { vec![Fault::NoSpace.to_string()] } else { Vec::new() },
            header: Some(header),
            ..PbStatusResponse::default()
        }))
    }

    async fn defragment(&self, _: Request<PbDefragmentRequest>) -> Result<Response<PbDefragmentResponse>, Status> {
        Err(Fault::NotServed("Defragment").into())
    }

    async fn hash(&self, _: Request<PbHashRequest>) -> Result<Response<PbHashResponse>, Status> {
        Err(Fault::NotServed("Hash").into())
    }

    async fn hash_kv(&self, _: Request<PbHashKvRequest>) -> Result<Response<PbHashKvResponse>, Status> {
        Err(Fault::NotServed("HashKV").into())
    }

    type SnapshotStream = Empty<Result<PbSnapshotResponse, Status>>;

    async fn snapshot(&self, _: Request<PbSnapshotRequest>) -> Result<Response<Self::SnapshotStream>, Status> {
        Err(Fault::NotServed("Snapshot").into())
    }

    async fn move_leader(&self, _: Request<PbMoveLeaderRequest>) -> Result<Response<PbMoveLeaderResponse>, Status> {
        Err(Fault::NotServed("MoveLeader").into())
    }

    async fn downgrade(&self, _: Request<PbDowngradeRequest>) -> Result<Response<PbDowngradeResponse>, Status> {
        Err(Fault::NotServed("Downgrade").into())
    }
}
