//! The database file: its tables, and how it is opened again after the disk failed.
//!
//! ```text
//! LIVE    key             -> (revision, place)   keys that exist now
//! INDEX   (key, revision) -> place               every kept version of every key
//! LOG     (revision, place) -> KeyValue          the versions in the order written; version 0 is a deletion
//! ```
//! Tables change only together, in one redb transaction, so that none can be ahead of another.

use super::fault::Fault;
use parking_lot::RwLock;
use redb::{Database, ReadOnlyTable, ReadTransaction, ReadableDatabase, ReadableTable, TableDefinition};
use std::path::{Path, PathBuf};
use std::sync::Arc;

pub(super) const META: TableDefinition<'_, &str, i64> = TableDefinition::new("meta");
pub(super) const LIVE: TableDefinition<'_, &[u8], (i64, u32)> = TableDefinition::new("live");
pub(super) const INDEX: TableDefinition<'_, (&[u8], i64), u32> = TableDefinition::new("index");
pub(super) const LOG: TableDefinition<'_, (i64, u32), &[u8]> = TableDefinition::new("log");
/// Lease → (time to live in seconds, the cluster that owns it or nothing).
pub(super) const LEASES: TableDefinition<'_, i64, (i64, &str)> = TableDefinition::new("leases");
/// The keys of each lease.
pub(super) const LEASED: TableDefinition<'_, (i64, &[u8]), ()> = TableDefinition::new("leased");

/// The layout of the tables above.
const FORMAT: i64 = 1;

/// The database, which may be closed while the disk is failing.
pub(super) struct Disk {
    path: PathBuf,
    open: RwLock<Option<Arc<Database>>>,
}

/// The numbers kept in META.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Meta {
    /// The last write's revision; 1 for a new store, as etcd's.
    pub(super) revision: i64,
    /// Versions superseded at this revision are forgotten.
    pub(super) compacted: i64,
    /// Up to where superseded versions have been deleted.
    pub(super) scrubbed: i64,
    /// Where deleting goes on: the first revision not yet looked at.
    pub(super) cursor: i64,
    /// What all kept versions take, as the quota counts.
    pub(super) bytes: i64,
    /// Made at random with the database; tells this store from another.
    pub(super) store: i64,
}

/// LIVE, INDEX and LOG of a read transaction.
pub(super) type Live = ReadOnlyTable<&'static [u8], (i64, u32)>;
pub(super) type Index = ReadOnlyTable<(&'static [u8], i64), u32>;
pub(super) type Log = ReadOnlyTable<(i64, u32), &'static [u8]>;

/// The tables of one read transaction.
pub(super) struct Tables {
    pub(super) live: Live,
    pub(super) index: Index,
    pub(super) log: Log,
    pub(super) meta: Meta,
    transaction: ReadTransaction,
}

// === impl Disk ===

impl Disk {
    /// Opens the database in the folder `data`, both made if absent.
    pub(super) fn open(data: &Path) -> Result<Self, Fault> {
        std::fs::create_dir_all(data).map_err(|error| Fault::Disk(format!("{}: {error}", data.display())))?;
        let path = data.join("store.redb");
        let database = create(&path)?;
        Ok(Self { path, open: RwLock::new(Some(Arc::new(database))) })
    }

    /// The open database.
    pub(super) fn database(&self) -> Result<Arc<Database>, Fault> {
        self.open.read().clone().ok_or_else(|| Fault::Disk("the database is being opened again".into()))
    }

    /// Closes and opens the database again: after an I/O error redb takes no more writes. Fails while readers hold it.
    pub(super) fn reopen(&self) -> Result<(), Fault> {
        let mut open = self.open.write();
        *open = None;
        *open = Some(Arc::new(create(&self.path)?));
        Ok(())
    }

    /// The tables as of the last commit.
    pub(super) fn read(&self) -> Result<Tables, Fault> {
        let transaction = self.database()?.begin_read()?;
        Ok(Tables {
            live: transaction.open_table(LIVE)?,
            index: transaction.open_table(INDEX)?,
            log: transaction.open_table(LOG)?,
            meta: Meta::load(&transaction.open_table(META)?)?,
            transaction,
        })
    }

    /// The file's size in bytes.
    pub(super) fn file_bytes(&self) -> u64 {
        std::fs::metadata(&self.path).map_or(0, |file| file.len())
    }
}

fn create(path: &Path) -> Result<Database, Fault> {
    let database = Database::create(path)?;
    let found = match database.begin_read()?.open_table(META) {
        Ok(meta) => meta.get("format")?.map(|format| format.value()),
        Err(redb::TableError::TableDoesNotExist(_)) => None,
        Err(error) => return Err(error.into()),
    };
    match found {
        Some(FORMAT) => {}
        Some(other) => {
            return Err(Fault::Disk(format!("{}: format {other} is not known, {FORMAT} is", path.display())));
        }
        None => initialize(&database)?,
    }
    Ok(database)
}

fn initialize(database: &Database) -> Result<(), Fault> {
    let transaction = database.begin_write()?;
    {
        let mut meta = transaction.open_table(META)?;
        meta.insert("format", FORMAT)?;
        Meta::new().save(&mut meta)?;
        transaction.open_table(LIVE)?;
        transaction.open_table(INDEX)?;
        transaction.open_table(LOG)?;
        transaction.open_table(LEASES)?;
        transaction.open_table(LEASED)?;
    }
    Ok(transaction.commit()?)
}

// === impl Meta ===

impl Meta {
    fn new() -> Self {
        Self { revision: 1, compacted: 0, scrubbed: 0, cursor: 0, bytes: 0, store: rand::random_range(1..i64::MAX) }
    }

    /// Reads it from META.
    pub(super) fn load(table: &impl ReadableTable<&'static str, i64>) -> Result<Self, Fault> {
        let get = |name: &'static str| -> Result<i64, Fault> {
            table.get(name)?.map(|value| value.value()).ok_or_else(|| Fault::Disk(format!("meta/{name} is missing")))
        };
        Ok(Self {
            revision: get("revision")?,
            compacted: get("compacted")?,
            scrubbed: get("scrubbed")?,
            cursor: get("cursor")?,
            bytes: get("bytes")?,
            store: get("store")?,
        })
    }

    /// Writes it to META.
    pub(super) fn save(&self, table: &mut redb::Table<'_, &'static str, i64>) -> Result<(), Fault> {
        for (name, value) in [
            ("revision", self.revision),
            ("compacted", self.compacted),
            ("scrubbed", self.scrubbed),
            ("cursor", self.cursor),
            ("bytes", self.bytes),
            ("store", self.store),
        ] {
            table.insert(name, value)?;
        }
        Ok(())
    }
}

// === impl Tables ===

impl Tables {
    /// All leases, with their time to live in seconds and owner.
    pub(super) fn leases(&self) -> Result<Vec<(i64, i64, String)>, Fault> {
        let table = self.transaction.open_table(LEASES)?;
        let mut leases = Vec::new();
        for entry in table.iter()? {
            let (id, value) = entry?;
            let (ttl, owner) = value.value();
            leases.push((id.value(), ttl, owner.to_owned()));
        }
        Ok(leases)
    }

    /// The keys of a lease.
    pub(super) fn keys_of(&self, lease: i64) -> Result<Vec<Vec<u8>>, Fault> {
        let table = self.transaction.open_table(LEASED)?;
        let mut keys = Vec::new();
        for entry in table.range::<(i64, &[u8])>((lease, &[][..])..)? {
            let entry = entry?;
            let (id, key) = entry.0.value();
            if id != lease {
                break;
            }
            keys.push(key.to_vec());
        }
        Ok(keys)
    }
}
