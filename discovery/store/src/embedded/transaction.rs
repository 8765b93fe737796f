//! Txn: compare, then one of two lists of operations, all at one revision. The branch is checked whole before its first
//! operation is done.

use super::apply::{Apply, check_delete, cost};
use super::caller::Caller;
use super::fault::Fault;
use super::span::Span;
use etcd_client::proto::{
    PbCompare, PbKeyValue, PbResponseHeader, PbTargetUnion, PbTxnOpRequest, PbTxnOpResponse, PbTxnRequest,
    PbTxnRequestOp, PbTxnResponse,
};
use std::cmp::Ordering;
use std::collections::BTreeSet;

// Numbers of etcd's rpc.proto, Compare.CompareResult and Compare.CompareTarget.
const EQUAL: i32 = 0;
const GREATER: i32 = 1;
const LESS: i32 = 2;
const NOT_EQUAL: i32 = 3;
const VERSION: i32 = 0;
const CREATE: i32 = 1;
const MOD: i32 = 2;
const VALUE: i32 = 3;

/// Does a whole transaction.
pub(super) fn apply(tables: &mut Apply<'_>, request: PbTxnRequest, caller: &Caller) -> Result<PbTxnResponse, Fault> {
    check_shape(&request, tables.limits.operations)?;
    let mut succeeded = true;
    for compare in &request.compare {
        succeeded = succeeded && holds(tables, compare)?;
    }
    for operation in request.success.iter().chain(&request.failure) {
        may(operation, caller)?;
    }
    let branch = if succeeded { request.success } else { request.failure };
    check_branch(tables, &branch, caller)?;
    let mut responses = Vec::with_capacity(branch.len());
    for operation in branch {
        let response = perform(tables, operation)?;
        responses.push(etcd_client::proto::PbResponseOp { response });
    }
    Ok(PbTxnResponse { header: None, succeeded, responses })
}

/// What can be refused without looking at the store.
fn check_shape(request: &PbTxnRequest, operations: usize) -> Result<(), Fault> {
    let longest = request.compare.len().max(request.success.len()).max(request.failure.len());
    if longest > operations {
        return Err(Fault::TooManyOperations);
    }
    if request.compare.iter().any(|compare| compare.key.is_empty()) {
        return Err(Fault::EmptyKey);
    }
    check_keys(&request.success)?;
    check_keys(&request.failure)
}

/// No key may be written twice in a branch.
fn check_keys(branch: &[PbTxnRequestOp]) -> Result<(), Fault> {
    let mut puts = BTreeSet::new();
    let mut deletes = Vec::new();
    for operation in branch {
        match &operation.request {
            Some(PbTxnOpRequest::RequestPut(put)) => {
                if put.key.is_empty() {
                    return Err(Fault::EmptyKey);
                }
                if !puts.insert(put.key.as_slice()) {
                    return Err(Fault::DuplicateKey);
                }
            }
            Some(PbTxnOpRequest::RequestDeleteRange(delete)) => {
                if delete.key.is_empty() {
                    return Err(Fault::EmptyKey);
                }
                deletes.push(Span::new(&delete.key, &delete.range_end));
            }
            Some(PbTxnOpRequest::RequestRange(range)) if range.key.is_empty() => return Err(Fault::EmptyKey),
            Some(PbTxnOpRequest::RequestRange(_)) => {}
            Some(PbTxnOpRequest::RequestTxn(_)) => return Err(Fault::NotServed("a transaction in a transaction")),
            None => return Err(Fault::NotServed("an empty operation in a transaction")),
        }
    }
    if deletes.iter().any(|span| puts.iter().any(|key| span.contains(key))) {
        return Err(Fault::DuplicateKey);
    }
    Ok(())
}

/// Both branches must be allowed, whichever is taken: the answer tells nothing to who may not write.
fn may(operation: &PbTxnRequestOp, caller: &Caller) -> Result<(), Fault> {
    match &operation.request {
        Some(PbTxnOpRequest::RequestPut(put)) => caller.may_write(&Span::new(&put.key, &[])),
        Some(PbTxnOpRequest::RequestDeleteRange(delete)) => {
            caller.may_write(&Span::new(&delete.key, &delete.range_end))
        }
        _ => Ok(()),
    }
}

/// What must hold for every operation of the branch to go through.
fn check_branch(tables: &Apply<'_>, branch: &[PbTxnRequestOp], caller: &Caller) -> Result<(), Fault> {
    let mut bytes = tables.meta.bytes;
    for operation in branch {
        match &operation.request {
            Some(PbTxnOpRequest::RequestPut(put)) => {
                tables.check_put(put, caller)?;
                bytes += cost(put.key.len(), put.value.len());
                if bytes > tables.limits.quota_bytes {
                    return Err(Fault::NoSpace);
                }
            }
            Some(PbTxnOpRequest::RequestDeleteRange(delete)) => check_delete(delete, caller)?,
            Some(PbTxnOpRequest::RequestRange(range)) => tables.view().check(range.revision)?,
            _ => {}
        }
    }
    Ok(())
}

fn perform(tables: &mut Apply<'_>, operation: PbTxnRequestOp) -> Result<Option<PbTxnOpResponse>, Fault> {
    let response = match operation.request {
        Some(PbTxnOpRequest::RequestPut(put)) => PbTxnOpResponse::ResponsePut(tables.put(put)?),
        Some(PbTxnOpRequest::RequestDeleteRange(delete)) => {
            PbTxnOpResponse::ResponseDeleteRange(tables.delete(&delete)?)
        }
        Some(PbTxnOpRequest::RequestRange(range)) => PbTxnOpResponse::ResponseRange(tables.view().range(&range)?),
        _ => return Ok(None),
    };
    Ok(Some(with_revision(response, tables.view().revision)))
}

/// etcd's operations in a transaction carry a header with nothing but the revision.
fn with_revision(mut response: PbTxnOpResponse, revision: i64) -> PbTxnOpResponse {
    let header = Some(PbResponseHeader { revision, ..PbResponseHeader::default() });
    match &mut response {
        PbTxnOpResponse::ResponsePut(put) => put.header = header,
        PbTxnOpResponse::ResponseDeleteRange(delete) => delete.header = header,
        PbTxnOpResponse::ResponseRange(range) => range.header = header,
        PbTxnOpResponse::ResponseTxn(_) => {}
    }
    response
}

/// Whether `compare` is true of every key it names; of an absent key everything is 0, except that it has no value.
fn holds(tables: &Apply<'_>, compare: &PbCompare) -> Result<bool, Fault> {
    let found = tables.view().keys(&Span::new(&compare.key, &compare.range_end))?;
    if found.is_empty() {
        return Ok(compare.target != VALUE && is_true(&PbKeyValue::default(), compare));
    }
    Ok(found.iter().all(|kv| is_true(kv, compare)))
}

fn is_true(kv: &PbKeyValue, compare: &PbCompare) -> bool {
    let wanted = compare.target_union.as_ref();
    let number = match wanted {
        Some(
            PbTargetUnion::Version(number)
            | PbTargetUnion::CreateRevision(number)
            | PbTargetUnion::ModRevision(number)
            | PbTargetUnion::Lease(number),
        ) => *number,
        _ => 0,
    };
    let order = match compare.target {
        VERSION => kv.version.cmp(&number),
        CREATE => kv.create_revision.cmp(&number),
        MOD => kv.mod_revision.cmp(&number),
        VALUE => match wanted {
            Some(PbTargetUnion::Value(value)) => kv.value.cmp(value),
            _ => kv.value.as_slice().cmp(&[]),
        },
        _ => kv.lease.cmp(&number),
    };
    match compare.result {
        EQUAL => order == Ordering::Equal,
        GREATER => order == Ordering::Greater,
        LESS => order == Ordering::Less,
        NOT_EQUAL => order != Ordering::Equal,
        _ => false,
    }
}
