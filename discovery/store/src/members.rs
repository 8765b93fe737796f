//! The members of the store, and which of them is asked: one that answers is kept, one that does not is left for the
//! next.

use etcd_client::{Client, ConnectOptions};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// A client of each member. A channel over all of them would send every other call to one that is gone.
pub(crate) struct Members {
    clients: Vec<Arc<Client>>,
    asked: AtomicUsize,
}

/// The member that a call was given to.
#[derive(Clone)]
pub(crate) struct Member {
    /// Its client.
    pub(crate) client: Arc<Client>,
    index: usize,
}

// === impl Members ===

impl Members {
    /// Connects to none of `endpoints` yet; begins with any, so that many processes share the members. Errors: an
    /// endpoint that cannot be read, or none.
    pub(crate) async fn new(endpoints: &[String], options: &ConnectOptions) -> Result<Self, etcd_client::Error> {
        let mut clients = Vec::with_capacity(endpoints.len());
        for endpoint in endpoints {
            clients.push(Arc::new(Client::connect([endpoint], Some(options.clone())).await?));
        }
        if clients.is_empty() {
            return Err(etcd_client::Error::InvalidArgs("no endpoint".into()));
        }
        let asked = AtomicUsize::new(rand::random_range(0..clients.len()));
        Ok(Self { clients, asked })
    }

    /// How many there are; at least one.
    pub(crate) fn count(&self) -> usize {
        self.clients.len()
    }

    /// The member to ask.
    pub(crate) fn asked(&self) -> Member {
        let index = self.asked.load(Ordering::Relaxed);
        Member { client: self.clients[index].clone(), index }
    }

    /// `member` did not answer: the next is asked, unless somebody has moved on already.
    pub(crate) fn leave(&self, member: &Member) {
        let next = (member.index + 1) % self.clients.len();
        let _ = self.asked.compare_exchange(member.index, next, Ordering::Relaxed, Ordering::Relaxed);
    }
}
