//! Writing: one request against the tables of the open transaction. A request that is at fault changes nothing; only a
//! failing disk can stop one in the middle, and then the whole transaction is given up.

use super::caller::Caller;
use super::disk::{INDEX, LEASED, LEASES, LIVE, LOG, META, Meta};
use super::fault::Fault;
use super::scrub;
use super::span::Span;
use super::transaction;
use super::view::View;
use etcd_client::proto::{
    PbDeleteRequest, PbDeleteResponse, PbKeyValue, PbPutRequest, PbPutResponse, PbTxnRequest, PbTxnResponse,
};
use prost::Message;
use redb::{ReadableTable, Table, WriteTransaction};

/// The longest time to live of a lease, in seconds, as etcd's.
const LONGEST_LEASE: i64 = 9_000_000_000;

/// What can be asked of the writer.
#[derive(Debug)]
pub(super) enum Command {
    Put(PbPutRequest),
    Delete(PbDeleteRequest),
    Transaction(PbTxnRequest),
    /// Forget what was superseded at this revision.
    Compact(i64),
    Grant {
        /// 0 lets the server choose.
        id: i64,
        /// Seconds.
        ttl: i64,
    },
    Revoke(i64),
}

/// What became of it; headers are the services'.
#[derive(Debug)]
pub(super) enum Reply {
    Put(PbPutResponse),
    Delete(PbDeleteResponse),
    Transaction(PbTxnResponse),
    Compacted,
    Granted { id: i64, ttl: i64 },
    Revoked,
}

/// What leases became of a batch, for those who watch the clock.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum LeaseChange {
    Granted { id: i64, ttl: i64, owner: String },
    Revoked(i64),
}

/// The bounds that a request is held to.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    pub(super) quota_bytes: i64,
    pub(super) operations: usize,
}

/// LIVE, INDEX and LOG of the open transaction.
type Live<'t> = Table<'t, &'static [u8], (i64, u32)>;
type Index<'t> = Table<'t, (&'static [u8], i64), u32>;
type Log<'t> = Table<'t, (i64, u32), &'static [u8]>;

/// The open transaction's tables and numbers.
pub(super) struct Apply<'t> {
    live: Live<'t>,
    pub(super) index: Index<'t>,
    pub(super) log: Log<'t>,
    leases: Table<'t, i64, (i64, &'static str)>,
    leased: Table<'t, (i64, &'static [u8]), ()>,
    numbers: Table<'t, &'static str, i64>,
    pub(super) meta: Meta,
    pub(super) limits: Limits,
    pub(super) lease_changes: Vec<LeaseChange>,
    /// How many versions the request at hand has written; they share one revision.
    place: u32,
}

// === impl Apply ===

impl<'t> Apply<'t> {
    /// Opens the tables of `transaction`.
    pub(super) fn open(transaction: &'t WriteTransaction, limits: Limits) -> Result<Self, Fault> {
        let numbers = transaction.open_table(META)?;
        let meta = Meta::load(&numbers)?;
        Ok(Self {
            live: transaction.open_table(LIVE)?,
            index: transaction.open_table(INDEX)?,
            log: transaction.open_table(LOG)?,
            leases: transaction.open_table(LEASES)?,
            leased: transaction.open_table(LEASED)?,
            numbers,
            meta,
            limits,
            lease_changes: Vec::new(),
            place: 0,
        })
    }

    /// Does what `command` asks.
    pub(super) fn apply(&mut self, command: Command, caller: &Caller) -> Result<Reply, Fault> {
        self.place = 0;
        let reply = match command {
            Command::Put(request) => {
                self.check_put(&request, caller)?;
                Reply::Put(self.put(request)?)
            }
            Command::Delete(request) => {
                check_delete(&request, caller)?;
                Reply::Delete(self.delete(&request)?)
            }
            Command::Transaction(request) => Reply::Transaction(transaction::apply(self, request, caller)?),
            Command::Compact(revision) => self.compact(revision, caller)?,
            Command::Grant { id, ttl } => self.grant(id, ttl, caller)?,
            Command::Revoke(id) => self.revoke(id, caller)?,
        };
        if self.place > 0 {
            self.meta.revision += 1;
        }
        Ok(reply)
    }

    /// Deletes some of what compaction forgot. Whether more is left.
    pub(super) fn scrub(&mut self) -> Result<bool, Fault> {
        scrub::step(self)
    }

    /// Stores the numbers; the last act before commit.
    pub(super) fn finish(mut self) -> Result<(Meta, Vec<LeaseChange>), Fault> {
        self.meta.save(&mut self.numbers)?;
        Ok((self.meta, self.lease_changes))
    }

    /// What can be read now, the writes of the request at hand included.
    pub(super) fn view(&self) -> View<'_, Live<'t>, Index<'t>, Log<'t>> {
        let revision = self.meta.revision + i64::from(self.place > 0);
        View { live: &self.live, index: &self.index, log: &self.log, revision, compacted: self.meta.compacted }
    }

    /// Whether a Put may be done.
    pub(super) fn check_put(&self, request: &PbPutRequest, caller: &Caller) -> Result<(), Fault> {
        if request.key.is_empty() {
            return Err(Fault::EmptyKey);
        }
        if request.ignore_value && !request.value.is_empty() {
            return Err(Fault::ValueProvided);
        }
        if request.ignore_lease && request.lease != 0 {
            return Err(Fault::LeaseProvided);
        }
        caller.may_write(&Span::new(&request.key, &[]))?;
        if self.meta.bytes + cost(request.key.len(), request.value.len()) > self.limits.quota_bytes {
            return Err(Fault::NoSpace);
        }
        if request.lease != 0 {
            let lease = self.leases.get(request.lease)?.ok_or(Fault::LeaseNotFound)?;
            caller.may_use_lease(lease.value().1)?;
        }
        if (request.ignore_value || request.ignore_lease) && self.live.get(request.key.as_slice())?.is_none() {
            return Err(Fault::KeyNotFound);
        }
        Ok(())
    }

    /// Does a checked Put.
    pub(super) fn put(&mut self, request: PbPutRequest) -> Result<PbPutResponse, Fault> {
        let previous = self.view().get(&request.key)?;
        let revision = self.meta.revision + 1;
        let old = previous.as_ref();
        let kv = PbKeyValue {
            create_revision: old.map_or(revision, |old| old.create_revision),
            mod_revision: revision,
            version: old.map_or(1, |old| old.version + 1),
            value: if request.ignore_value {
                old.map(|old| old.value.clone()).unwrap_or_default()
            } else {
                request.value
            },
            lease: if request.ignore_lease { old.map_or(0, |old| old.lease) } else { request.lease },
            key: request.key,
        };
        self.move_lease(&kv.key, old.map_or(0, |old| old.lease), kv.lease)?;
        self.live.insert(kv.key.as_slice(), (revision, self.place))?;
        self.write(&kv)?;
        Ok(PbPutResponse { header: None, prev_kv: previous.filter(|_| request.prev_kv) })
    }

    /// Does a checked Delete.
    pub(super) fn delete(&mut self, request: &PbDeleteRequest) -> Result<PbDeleteResponse, Fault> {
        let doomed = self.view().keys(&Span::new(&request.key, &request.range_end))?;
        for kv in &doomed {
            self.remove(kv)?;
        }
        let deleted = doomed.len().cast_signed() as i64;
        let prev_kvs = if request.prev_kv { doomed } else { Vec::new() };
        Ok(PbDeleteResponse { header: None, deleted, prev_kvs })
    }

    fn remove(&mut self, kv: &PbKeyValue) -> Result<(), Fault> {
        self.move_lease(&kv.key, kv.lease, 0)?;
        self.live.remove(kv.key.as_slice())?;
        self.write(&PbKeyValue { key: kv.key.clone(), mod_revision: self.meta.revision + 1, ..PbKeyValue::default() })
    }

    /// Appends a version to log and index.
    fn write(&mut self, kv: &PbKeyValue) -> Result<(), Fault> {
        self.log.insert((kv.mod_revision, self.place), kv.encode_to_vec().as_slice())?;
        self.index.insert((kv.key.as_slice(), kv.mod_revision), self.place)?;
        self.meta.bytes += cost(kv.key.len(), kv.value.len());
        self.place += 1;
        Ok(())
    }

    fn move_lease(&mut self, key: &[u8], from: i64, to: i64) -> Result<(), Fault> {
        if from == to {
            return Ok(());
        }
        if from != 0 {
            self.leased.remove((from, key))?;
        }
        if to != 0 {
            self.leased.insert((to, key), ())?;
        }
        Ok(())
    }

    fn compact(&mut self, revision: i64, caller: &Caller) -> Result<Reply, Fault> {
        caller.may_maintain()?;
        if revision <= self.meta.compacted {
            return Err(Fault::Compacted);
        }
        if revision > self.meta.revision {
            return Err(Fault::FutureRevision);
        }
        self.meta.compacted = revision;
        Ok(Reply::Compacted)
    }

    fn grant(&mut self, id: i64, ttl: i64, caller: &Caller) -> Result<Reply, Fault> {
        if ttl > LONGEST_LEASE {
            return Err(Fault::LeaseTooLong);
        }
        let ttl = ttl.max(1);
        if self.meta.bytes + cost(8, 0) > self.limits.quota_bytes {
            return Err(Fault::NoSpace);
        }
        let id = if id == 0 { rand::random_range(1..i64::MAX) } else { id };
        if self.leases.get(id)?.is_some() {
            return Err(Fault::LeaseExists);
        }
        self.leases.insert(id, (ttl, caller.owner()))?;
        self.meta.bytes += cost(8, 0);
        self.lease_changes.push(LeaseChange::Granted { id, ttl, owner: caller.owner().to_owned() });
        Ok(Reply::Granted { id, ttl })
    }

    /// Removes a lease and its keys, all at one revision.
    fn revoke(&mut self, id: i64, caller: &Caller) -> Result<Reply, Fault> {
        let owner = self.leases.get(id)?.map(|lease| lease.value().1.to_owned()).ok_or(Fault::LeaseNotFound)?;
        caller.may_use_lease(&owner)?;
        let mut keys = Vec::new();
        for entry in self.leased.range::<(i64, &[u8])>((id, &[][..])..)? {
            let (at, ()) = entry.map(|(at, _)| (at, ()))?;
            let (lease, key) = at.value();
            if lease != id {
                break;
            }
            keys.push(key.to_vec());
        }
        for key in keys {
            if let Some(kv) = self.view().get(&key)? {
                self.remove(&kv)?;
            }
        }
        self.leases.remove(id)?;
        self.meta.bytes -= cost(8, 0);
        self.lease_changes.push(LeaseChange::Revoked(id));
        Ok(Reply::Revoked)
    }
}

/// Whether a Delete may be done.
pub(super) fn check_delete(request: &PbDeleteRequest, caller: &Caller) -> Result<(), Fault> {
    if request.key.is_empty() {
        return Err(Fault::EmptyKey);
    }
    caller.may_write(&Span::new(&request.key, &request.range_end))
}

/// What a version counts for in the quota: its key stands in two tables; 96 bytes are for revisions and page overhead.
pub(super) fn cost(key: usize, value: usize) -> i64 {
    (2 * key + value + 96).cast_signed() as i64
}
