//! The KV service: Range, Put, DeleteRange, Txn, Compact.

use super::apply::{Command, Reply};
use super::disk::{Index, Live, Log, Tables};
use super::engine::Engine;
use super::fault::Fault;
use super::view::View;
use super::writer::Answer;
use etcd_client::proto::{
    PbCompactionRequest, PbCompactionResponse, PbDeleteRequest, PbDeleteResponse, PbKvService, PbPutRequest,
    PbPutResponse, PbRangeRequest, PbRangeResponse, PbRangeStreamResponse, PbTxnRequest, PbTxnResponse,
};
use prost::Message;
use std::time::Instant;
use tokio_stream::Empty;
use tonic::{Request, Response, Status};

/// Serves etcdserverpb.KV.
pub(super) struct Kv(pub(super) Engine);

// === impl Tables ===

impl Tables {
    /// What can be read.
    pub(super) fn view(&self) -> View<'_, Live, Index, Log> {
        View {
            live: &self.live,
            index: &self.index,
            log: &self.log,
            revision: self.meta.revision,
            compacted: self.meta.compacted,
        }
    }
}

// === impl Kv ===

impl Kv {
    async fn write<M: Message>(&self, request: Request<M>, command: fn(M) -> Command) -> Result<Answer, Fault> {
        if request.get_ref().encoded_len() > self.0.settings.request_bytes {
            return Err(Fault::RequestTooLarge);
        }
        let caller = self.0.access.caller(&request)?;
        self.0.write(command(request.into_inner()), caller).await
    }

    /// With `physical`, waits until what was compacted is gone from the database too.
    async fn scrubbed(&self, revision: i64) -> Result<(), Fault> {
        let mut committed = self.0.committed.clone();
        let deadline = Instant::now() + self.0.settings.write_timeout;
        let scrubbed = committed.wait_for(|meta| meta.scrubbed >= revision);
        match tokio::time::timeout_at(deadline.into(), scrubbed).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(_)) => Err(Fault::Stopped),
            Err(_) => Err(Fault::TimedOut),
        }
    }
}

#[tonic::async_trait]
impl PbKvService for Kv {
    async fn range(&self, request: Request<PbRangeRequest>) -> Result<Response<PbRangeResponse>, Status> {
        self.0.access.caller(&request)?;
        let request = request.into_inner();
        if request.key.is_empty() {
            return Err(Fault::EmptyKey.into());
        }
        let work = move |tables: &Tables| Ok((tables.view().range(&request)?, tables.meta.revision));
        let (mut response, revision) = self.0.read(work).await?;
        response.header = Some(self.0.header(revision));
        Ok(Response::new(response))
    }

    type RangeStreamStream = Empty<Result<PbRangeStreamResponse, Status>>;

    async fn range_stream(&self, _: Request<PbRangeRequest>) -> Result<Response<Self::RangeStreamStream>, Status> {
        Err(Fault::NotServed("RangeStream").into())
    }

    async fn put(&self, request: Request<PbPutRequest>) -> Result<Response<PbPutResponse>, Status> {
        match self.write(request, Command::Put).await? {
            Answer { reply: Reply::Put(mut response), revision } => {
                response.header = Some(self.0.header(revision));
                Ok(Response::new(response))
            }
            other => Err(mismatch(&other)),
        }
    }

    async fn delete_range(&self, request: Request<PbDeleteRequest>) -> Result<Response<PbDeleteResponse>, Status> {
        match self.write(request, Command::Delete).await? {
            Answer { reply: Reply::Delete(mut response), revision } => {
                response.header = Some(self.0.header(revision));
                Ok(Response::new(response))
            }
            other => Err(mismatch(&other)),
        }
    }

    async fn txn(&self, request: Request<PbTxnRequest>) -> Result<Response<PbTxnResponse>, Status> {
        match self.write(request, Command::Transaction).await? {
            Answer { reply: Reply::Transaction(mut response), revision } => {
                response.header = Some(self.0.header(revision));
                Ok(Response::new(response))
            }
            other => Err(mismatch(&other)),
        }
    }

    async fn compact(&self, request: Request<PbCompactionRequest>) -> Result<Response<PbCompactionResponse>, Status> {
        let PbCompactionRequest { revision, physical } = *request.get_ref();
        let answer = self.write(request, |request| Command::Compact(request.revision)).await?;
        if physical {
            self.scrubbed(revision).await?;
        }
        Ok(Response::new(PbCompactionResponse { header: Some(self.0.header(answer.revision)) }))
    }
}

/// The writer answers each command with its own reply; were it otherwise, the caller must not take it for success.
pub(super) fn mismatch(answer: &Answer) -> Status {
    Status::internal(format!("isthmus store: unexpected reply {:?}", answer.reply))
}
