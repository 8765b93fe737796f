//! Reading: the keys of a span as of a revision, and what was written between two revisions. The same code reads
//! committed tables and those of the transaction that is being written.

use super::fault::Fault;
use super::span::Span;
use etcd_client::proto::{PbKeyValue, PbRangeRequest, PbRangeResponse};
use prost::Message;
use redb::ReadableTable;

/// Three tables at one revision.
pub(super) struct View<'a, L, I, G> {
    pub(super) live: &'a L,
    pub(super) index: &'a I,
    pub(super) log: &'a G,
    pub(super) revision: i64,
    pub(super) compacted: i64,
}

/// A version as it stands in the log.
pub(super) struct Version {
    pub(super) kv: PbKeyValue,
    pub(super) place: u32,
}

// === impl Version ===

impl Version {
    /// Whether this version is a deletion.
    pub(super) fn is_deletion(&self) -> bool {
        self.kv.version == 0
    }
}

// === impl View ===

impl<L, I, G> View<'_, L, I, G>
where
    L: ReadableTable<&'static [u8], (i64, u32)>,
    I: ReadableTable<(&'static [u8], i64), u32>,
    G: ReadableTable<(i64, u32), &'static [u8]>,
{
    /// The key's present version.
    pub(super) fn get(&self, key: &[u8]) -> Result<Option<PbKeyValue>, Fault> {
        let place = self.live.get(key)?.map(|at| at.value());
        place.map(|at| self.load(at)).transpose()
    }

    /// The key's version before `revision`, unless it did not exist or is forgotten.
    pub(super) fn before(&self, key: &[u8], revision: i64) -> Result<Option<PbKeyValue>, Fault> {
        let last = self.index.range::<(&[u8], i64)>((key, 0)..(key, revision))?.next_back().transpose()?;
        let Some((at, place)) = last else { return Ok(None) };
        let kv = self.load((at.value().1, place.value()))?;
        Ok((kv.version > 0).then_some(kv))
    }

    /// Whether a request may ask for `revision`; 0 and less ask for the present.
    pub(super) fn check(&self, revision: i64) -> Result<(), Fault> {
        if revision > self.revision {
            return Err(Fault::FutureRevision);
        }
        if revision > 0 && revision < self.compacted {
            return Err(Fault::Compacted);
        }
        Ok(())
    }

    /// Answers a Range; the header is the caller's.
    pub(super) fn range(&self, request: &PbRangeRequest) -> Result<PbRangeResponse, Fault> {
        self.check(request.revision)?;
        let span = Span::new(&request.key, &request.range_end);
        let places = if request.revision > 0 && request.revision < self.revision {
            self.places_at(&span, request.revision)?
        } else {
            self.places(&span)?
        };
        let count = places.len().cast_signed() as i64;
        if request.count_only {
            return Ok(PbRangeResponse { count, ..PbRangeResponse::default() });
        }
        let limit = usize::try_from(request.limit).ok().filter(|limit| *limit > 0).unwrap_or(usize::MAX);
        // Filters and orders see all keys; otherwise only as many are loaded as are wanted.
        let all = is_filtered(request) || is_sorted(request);
        let mut kvs = Vec::new();
        for at in places.iter().take(if all { usize::MAX } else { limit }) {
            let kv = self.load(*at)?;
            if passes(&kv, request) {
                kvs.push(kv);
            }
        }
        sort(&mut kvs, request);
        let more = if all { kvs.len() > limit } else { places.len() > limit };
        kvs.truncate(limit);
        if request.keys_only {
            for kv in &mut kvs {
                kv.value.clear();
            }
        }
        Ok(PbRangeResponse { header: None, kvs, more, count })
    }

    /// The present keys of a span.
    pub(super) fn keys(&self, span: &Span) -> Result<Vec<PbKeyValue>, Fault> {
        self.places(span)?.into_iter().map(|at| self.load(at)).collect()
    }

    fn places(&self, span: &Span) -> Result<Vec<(i64, u32)>, Fault> {
        if span.is_empty() {
            return Ok(Vec::new());
        }
        let mut places = Vec::new();
        for entry in self.live.range::<&[u8]>(span.keys())? {
            places.push(entry?.1.value());
        }
        Ok(places)
    }

    /// As `places`, but as of a past revision: of every key the last version up to it, unless that is a deletion.
    fn places_at(&self, span: &Span, revision: i64) -> Result<Vec<(i64, u32)>, Fault> {
        if span.is_empty() {
            return Ok(Vec::new());
        }
        let mut found: Vec<(Vec<u8>, (i64, u32))> = Vec::new();
        for entry in self.index.range::<(&[u8], i64)>(span.versions())? {
            let (at, place) = entry?;
            let (key, written) = at.value();
            if written > revision {
                continue;
            }
            match found.last_mut() {
                Some((last, at)) if last == key => *at = (written, place.value()),
                _ => found.push((key.to_vec(), (written, place.value()))),
            }
        }
        let mut places = Vec::with_capacity(found.len());
        for (_, at) in found {
            if self.load(at)?.version > 0 {
                places.push(at);
            }
        }
        Ok(places)
    }

    fn load(&self, at: (i64, u32)) -> Result<PbKeyValue, Fault> {
        let bytes = self.log.get(at)?.ok_or_else(|| Fault::Disk(format!("log/{}/{} is missing", at.0, at.1)))?;
        decode(bytes.value())
    }

    /// The versions written from revision `from` to `to`, whole revisions, and no more revisions once there are
    /// `versions` or `bytes` of them. Also the last revision that the answer covers.
    pub(super) fn written(
        &self,
        from: i64,
        to: i64,
        versions: usize,
        bytes: usize,
    ) -> Result<(Vec<Version>, i64), Fault> {
        let mut found: Vec<Version> = Vec::new();
        if from > to {
            return Ok((found, to));
        }
        let mut size = 0;
        for entry in self.log.range((from, 0)..=(to, u32::MAX))? {
            let (at, value) = entry?;
            let (revision, place) = at.value();
            if let Some(last) = found.last()
                && last.kv.mod_revision < revision
                && (found.len() >= versions || size >= bytes)
            {
                let covered = last.kv.mod_revision;
                return Ok((found, covered));
            }
            size += value.value().len();
            found.push(Version { kv: decode(value.value())?, place });
        }
        Ok((found, to))
    }
}

pub(super) fn decode(bytes: &[u8]) -> Result<PbKeyValue, Fault> {
    PbKeyValue::decode(bytes).map_err(|error| Fault::Disk(format!("a version in the log is damaged: {error}")))
}

fn is_filtered(request: &PbRangeRequest) -> bool {
    request.min_mod_revision != 0
        || request.max_mod_revision != 0
        || request.min_create_revision != 0
        || request.max_create_revision != 0
}

fn passes(kv: &PbKeyValue, request: &PbRangeRequest) -> bool {
    let between = |value: i64, min: i64, max: i64| value >= min && (max == 0 || value <= max);
    between(kv.mod_revision, request.min_mod_revision, request.max_mod_revision)
        && between(kv.create_revision, request.min_create_revision, request.max_create_revision)
}

/// Whether an order other than the tables' own is asked for. Orders: 0 none, 1 ascending, 2 descending; targets: 0 key,
/// 1 version, 2 create, 3 mod, 4 value. A target without an order is ascending, as in etcd.
fn is_sorted(request: &PbRangeRequest) -> bool {
    request.sort_order == 2 || request.sort_target != 0
}

fn sort(kvs: &mut [PbKeyValue], request: &PbRangeRequest) {
    match request.sort_target {
        1 => kvs.sort_by_key(|kv| kv.version),
        2 => kvs.sort_by_key(|kv| kv.create_revision),
        3 => kvs.sort_by_key(|kv| kv.mod_revision),
        4 => kvs.sort_by(|a, b| a.value.cmp(&b.value)),
        _ => {}
    }
    if request.sort_order == 2 {
        kvs.reverse();
    }
}
