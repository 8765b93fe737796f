//! Deleting what compaction forgot, a little with every commit, so that no write waits for all of it.
//!
//! Of every key the last version up to the compacted revision stays, because a read at that revision wants it. A
//! deletion goes too, except at the compacted revision itself: a watch may still begin there and must see it.

use super::apply::{Apply, cost};
use super::fault::Fault;
use super::view::{Version, decode};
use redb::ReadableTable;

/// How many log entries are looked at in one commit.
const STEP: usize = 512;

/// One step. Whether more is left.
pub(super) fn step(tables: &mut Apply<'_>) -> Result<bool, Fault> {
    let target = tables.meta.compacted;
    if tables.meta.scrubbed >= target {
        return Ok(false);
    }
    let (versions, covered) = tables.view().written(tables.meta.cursor, target, STEP, usize::MAX)?;
    for version in &versions {
        forget_before(tables, version)?;
        if version.is_deletion() && version.kv.mod_revision < target {
            forget(tables, &version.kv.key, version.kv.mod_revision, version.place, 0)?;
        }
    }
    let done = covered >= target;
    // The compacted revision is looked at once more next time, for the deletions left there.
    tables.meta.cursor = if done { target } else { covered + 1 };
    if done {
        tables.meta.scrubbed = target;
    }
    Ok(!done)
}

/// Deletes every version of the key older than this one.
fn forget_before(tables: &mut Apply<'_>, version: &Version) -> Result<(), Fault> {
    let key = version.kv.key.as_slice();
    let mut old = Vec::new();
    for entry in tables.index.range::<(&[u8], i64)>((key, 0)..(key, version.kv.mod_revision))? {
        let (at, place) = entry?;
        old.push((at.value().1, place.value()));
    }
    for (revision, place) in old {
        let Some(value) = tables.log.get((revision, place))?.map(|value| decode(value.value())) else {
            continue;
        };
        forget(tables, key, revision, place, value?.value.len())?;
    }
    Ok(())
}

fn forget(tables: &mut Apply<'_>, key: &[u8], revision: i64, place: u32, value: usize) -> Result<(), Fault> {
    tables.log.remove((revision, place))?;
    tables.index.remove((key, revision))?;
    tables.meta.bytes -= cost(key.len(), value);
    Ok(())
}
