//! The client: every call to the store, with its deadline, its retries, and the store's refusals told apart from its
//! silence.

use crate::backoff::Backoff;
use crate::members::Members;
use crate::{Leadership, StoreError};
use etcd_client::{
    Client, Compare, CompareOp, ConnectOptions, GetOptions, KeyValue, PutOptions, TlsOptions, Txn, TxnOp, TxnOpResponse,
};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// The largest answer that is taken, in bytes.
pub(crate) const ANSWER_BYTES: usize = 16 << 20;

/// How the store is reached.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct ClientSettings {
    /// `http://HOST:PORT` or, with TLS, `https://HOST:PORT` of every member. Default `http://127.0.0.1:2379`.
    pub endpoints: Vec<String>,
    /// How long one attempt of a call may take, in seconds. Default 2.
    #[serde(with = "crate::embedded::seconds")]
    pub attempt_timeout: Duration,
    /// How often a call is tried, and at least once at each of `endpoints`. Every call can be repeated without harm.
    /// Default 3.
    pub attempts: u32,
    /// How many records are asked for at once. Default 200, that is 3.2 MiB of the largest records.
    pub page: u32,
    /// A watch that hears nothing for so long, although it asked, is begun anew; in seconds. Default 30.
    #[serde(with = "crate::embedded::seconds")]
    pub silence: Duration,
    /// How often a watch compares what it was told with a list of the keys; in seconds. Default 60.
    #[serde(with = "crate::embedded::seconds")]
    pub audit: Duration,
    /// The shortest and the longest pause of a watch before it tries again; in seconds. Default 0.01 and 5.
    #[serde(with = "crate::embedded::seconds")]
    pub shortest_pause: Duration,
    /// See `shortest_pause`.
    #[serde(with = "crate::embedded::seconds")]
    pub longest_pause: Duration,
}

/// Mutual TLS to the store.
#[derive(Clone)]
pub struct StoreTls {
    /// The roots of the store's certificate, PEM.
    pub roots: String,
    /// Our certificate chain, PEM.
    pub certificate: String,
    /// Its private key, PEM. Never printed.
    pub key: String,
    /// The name in the store's certificate, if it is not the endpoint's.
    pub server_name: Option<String>,
}

/// The store, cheap to clone.
#[derive(Clone)]
pub struct Store {
    pub(crate) members: Arc<Members>,
    pub(crate) settings: Arc<ClientSettings>,
}

/// A key with its value. Values are anybody's until [`crate::Record::decode`] has read them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The key. What is not UTF-8 is replaced, so that it is no key of ours.
    pub key: String,
    /// The value.
    pub value: Vec<u8>,
    /// The revision of the last write.
    pub revision: i64,
    /// The revision that created the key.
    pub create_revision: i64,
    /// The lease, or 0.
    pub lease: i64,
}

/// All keys of a prefix at one revision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listing {
    /// The revision.
    pub revision: i64,
    /// The store's own id; another store has another.
    pub store: u64,
    /// The keys, in order.
    pub entries: Vec<Entry>,
}

/// What became of [`Store::create_if_absent`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Creation {
    /// The key was created with our value, at this revision.
    Created(i64),
    /// It was there before.
    Exists(Entry),
}

// === impl ClientSettings ===

impl Default for ClientSettings {
    fn default() -> Self {
        Self {
            endpoints: vec!["http://127.0.0.1:2379".into()],
            attempt_timeout: Duration::from_secs(2),
            attempts: 3,
            page: 200,
            silence: Duration::from_secs(30),
            audit: Duration::from_mins(1),
            shortest_pause: Duration::from_millis(10),
            longest_pause: Duration::from_secs(5),
        }
    }
}

// === impl StoreTls ===

impl fmt::Debug for StoreTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StoreTls").field("server_name", &self.server_name).finish_non_exhaustive()
    }
}

// === impl Entry ===

impl From<&KeyValue> for Entry {
    fn from(kv: &KeyValue) -> Self {
        Self {
            key: String::from_utf8_lossy(kv.key()).into_owned(),
            value: kv.value().to_vec(),
            revision: kv.mod_revision(),
            create_revision: kv.create_revision(),
            lease: kv.lease(),
        }
    }
}

// === impl Store ===

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store").field("endpoints", &self.settings.endpoints).finish_non_exhaustive()
    }
}

impl Store {
    /// A client of the store behind `settings.endpoints`. Connections are made when they are needed, and again when they
    /// break; an unreachable store is no error here. Errors: an endpoint or PEM that cannot be read.
    pub async fn connect(settings: ClientSettings, tls: Option<StoreTls>) -> Result<Self, StoreError> {
        let mut options = ConnectOptions::new()
            .with_connect_timeout(settings.attempt_timeout)
            .with_keep_alive(Duration::from_secs(10), Duration::from_secs(5))
            .with_keep_alive_while_idle(true)
            // A member that was cut off from the others says so, instead of keeping a watch open in silence.
            .with_require_leader(true);
        if let Some(tls) = tls {
            options = options.with_tls(tls_options(tls));
        }
        let refuse = |error: etcd_client::Error| StoreError::Settings {
            field: "endpoints".into(),
            message: format!(
                "{:?}: {error}; http://HOST:PORT is accepted, with tls https://HOST:PORT",
                settings.endpoints
            ),
        };
        let members = Members::new(&settings.endpoints, &options).await.map_err(refuse)?;
        Ok(Self { members: Arc::new(members), settings: Arc::new(settings) })
    }

    /// The key's entry, if there is one.
    pub async fn get(&self, key: &str) -> Result<Option<Entry>, StoreError> {
        let response = self.call("get", |client| async move { client.kv_client().get(key, None).await }).await?;
        Ok(response.kvs().first().map(Entry::from))
    }

    /// All keys below `prefix`, as of one revision.
    pub async fn get_prefix(&self, prefix: &str) -> Result<Listing, StoreError> {
        self.list(prefix, GetOptions::new(), 0).await
    }

    /// All keys below `prefix` as of `revision`, without their values.
    pub(crate) async fn keys(&self, prefix: &str, revision: i64) -> Result<Listing, StoreError> {
        self.list(prefix, GetOptions::new().with_keys_only(), revision).await
    }

    async fn list(&self, prefix: &str, options: GetOptions, mut revision: i64) -> Result<Listing, StoreError> {
        let end = prefix_end(prefix);
        let mut from = prefix.as_bytes().to_vec();
        let mut page = i64::from(self.settings.page.max(1));
        let mut listing = Listing { revision, store: 0, entries: Vec::new() };
        loop {
            let options = options.clone().with_range(end.clone()).with_limit(page).with_revision(revision);
            let (key, options) = (&from, &options);
            let got = self.call("list", |client| async move {
                let mut kv = client.kv_client().max_decoding_message_size(ANSWER_BYTES);
                kv.get(key.clone(), Some(options.clone())).await
            });
            let response = match got.await {
                // Somebody has put large values there. They are no records, but must not hide the records beside them.
                Err(StoreError::Refused { message, .. }) if message.contains("too large") && page > 1 => {
                    page /= 2;
                    continue;
                }
                other => other?,
            };
            let header = response.header();
            if revision == 0 {
                revision = header.map_or(0, etcd_client::ResponseHeader::revision);
                listing.revision = revision;
            }
            listing.store = header.map_or(0, etcd_client::ResponseHeader::cluster_id);
            listing.entries.extend(response.kvs().iter().map(Entry::from));
            match response.kvs().last() {
                Some(last) if response.more() => {
                    from = last.key().to_vec();
                    from.push(0);
                }
                _ => return Ok(listing),
            }
        }
    }

    /// Writes `value` under `key`. The revision of the write.
    pub async fn put(&self, key: &str, value: Vec<u8>) -> Result<i64, StoreError> {
        self.put_with(key, value, None).await
    }

    /// As [`Store::put`], with a lease: the key goes when the lease ends.
    pub async fn put_leased(&self, key: &str, value: Vec<u8>, lease: i64) -> Result<i64, StoreError> {
        self.put_with(key, value, Some(PutOptions::new().with_lease(lease))).await
    }

    async fn put_with(&self, key: &str, value: Vec<u8>, options: Option<PutOptions>) -> Result<i64, StoreError> {
        let (value, options) = (&value, &options);
        let put =
            |client: Arc<Client>| async move { client.kv_client().put(key, value.clone(), options.clone()).await };
        let response = self.call("put", put).await?;
        Ok(response.header().map_or(0, etcd_client::ResponseHeader::revision))
    }

    /// Writes `value` under `key`, if `leadership` still holds; the store itself compares. The revision of the write.
    pub async fn put_as_leader(&self, leadership: &Leadership, key: &str, value: Vec<u8>) -> Result<i64, StoreError> {
        self.as_leader(leadership, TxnOp::put(key, value, None)).await
    }

    /// Deletes `key`, if `leadership` still holds. Readers make nothing of it: it clears what no reader needs any more.
    pub async fn delete_as_leader(&self, leadership: &Leadership, key: &str) -> Result<i64, StoreError> {
        self.as_leader(leadership, TxnOp::delete(key, None)).await
    }

    async fn as_leader(&self, leadership: &Leadership, operation: TxnOp) -> Result<i64, StoreError> {
        let held = Compare::create_revision(leadership.key(), CompareOp::Equal, leadership.create_revision());
        // A store that was restored from a backup counts its revisions anew, and may give a later leader ours.
        let ours = Compare::lease(leadership.key(), CompareOp::Equal, leadership.lease());
        let txn = Txn::new().when([held, ours]).and_then([operation]);
        let txn = &txn;
        let response = self.call("write", |client| async move { client.kv_client().txn(txn.clone()).await }).await?;
        if !response.succeeded() {
            leadership.give_up();
            return Err(StoreError::NotLeader(leadership.key().to_owned()));
        }
        Ok(response.header().map_or(0, etcd_client::ResponseHeader::revision))
    }

    /// Writes `value` under `key` unless the key exists; then tells what is there. Our own value, left by an attempt
    /// whose answer was lost, counts as created.
    pub async fn create_if_absent(&self, key: &str, value: Vec<u8>) -> Result<Creation, StoreError> {
        self.create(key, value, 0).await
    }

    pub(crate) async fn create(&self, key: &str, value: Vec<u8>, lease: i64) -> Result<Creation, StoreError> {
        let txn = Txn::new()
            .when([Compare::create_revision(key, CompareOp::Equal, 0)])
            .and_then([TxnOp::put(key, value.clone(), Some(PutOptions::new().with_lease(lease)))])
            .or_else([TxnOp::get(key, None)]);
        let txn = &txn;
        let response = self.call("create", |client| async move { client.kv_client().txn(txn.clone()).await }).await?;
        if response.succeeded() {
            return Ok(Creation::Created(response.header().map_or(0, etcd_client::ResponseHeader::revision)));
        }
        let found = response.op_responses().into_iter().find_map(|response| match response {
            TxnOpResponse::Get(got) => got.kvs().first().map(Entry::from),
            _ => None,
        });
        match found {
            Some(entry) if entry.value == value && entry.lease == lease && entry.revision == entry.create_revision => {
                Ok(Creation::Created(entry.create_revision))
            }
            Some(entry) => Ok(Creation::Exists(entry)),
            None => Err(StoreError::Unavailable { operation: "create", message: "the answer lacks the key".into() }),
        }
    }

    /// Deletes `key`.
    pub async fn delete(&self, key: &str) -> Result<(), StoreError> {
        self.call("delete", |client| async move { client.kv_client().delete(key, None).await }).await.map(|_| ())
    }

    /// Makes one call, again at the next member when one does not answer.
    pub(crate) async fn call<T, F>(
        &self,
        operation: &'static str,
        attempt: impl Fn(Arc<Client>) -> F,
    ) -> Result<T, StoreError>
    where
        F: Future<Output = Result<T, etcd_client::Error>>,
    {
        let mut pauses = Backoff::new(self.settings.shortest_pause, self.settings.attempt_timeout / 4);
        let mut left = (self.settings.attempts as usize).max(self.members.count());
        loop {
            left -= 1;
            let member = self.members.asked();
            let outcome = tokio::time::timeout(self.settings.attempt_timeout, attempt(member.client.clone())).await;
            let error = match outcome {
                Ok(Ok(answer)) => return Ok(answer),
                Ok(Err(error)) => classify(operation, &error),
                Err(_) => StoreError::Unavailable {
                    operation,
                    message: format!("no answer within {:?}", self.settings.attempt_timeout),
                },
            };
            if !matches!(error, StoreError::Unavailable { .. }) {
                return Err(error);
            }
            self.members.leave(&member);
            if left == 0 {
                return Err(error);
            }
            tokio::time::sleep(pauses.next()).await;
        }
    }
}

fn tls_options(tls: StoreTls) -> TlsOptions {
    let options = TlsOptions::new()
        .ca_certificate(etcd_client::Certificate::from_pem(tls.roots))
        .identity(etcd_client::Identity::from_pem(tls.certificate, tls.key));
    match tls.server_name {
        Some(name) => options.domain_name(name),
        None => options,
    }
}

/// Whose fault an error is.
pub(crate) fn classify(operation: &'static str, error: &etcd_client::Error) -> StoreError {
    use tonic::Code;
    let etcd_client::Error::GRpcStatus(status) = error else {
        return match error {
            etcd_client::Error::InvalidArgs(message) => StoreError::Refused { operation, message: message.clone() },
            other => StoreError::Unavailable { operation, message: other.to_string() },
        };
    };
    let message = status.message().to_owned();
    match status.code() {
        Code::ResourceExhausted if message.contains("space exceeded") => StoreError::NoSpace(message),
        Code::InvalidArgument
        | Code::NotFound
        | Code::AlreadyExists
        | Code::PermissionDenied
        | Code::FailedPrecondition
        | Code::OutOfRange
        | Code::Unimplemented
        | Code::Unauthenticated => StoreError::Refused { operation, message },
        _ => StoreError::Unavailable { operation, message },
    }
}

/// The first key after all that begin with `prefix`; etcd's "no end" when there is none.
fn prefix_end(prefix: &str) -> Vec<u8> {
    // UTF-8 has no byte 0xff, so that the last byte can always be raised.
    let mut end = prefix.as_bytes().to_vec();
    match end.last_mut() {
        Some(last) => *last += 1,
        None => end.push(0),
    }
    end
}
