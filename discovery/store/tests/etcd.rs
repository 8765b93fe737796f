//! The conformance suite against etcd itself, random histories compared between the two, and `etcdctl` against both.
//! Wants Debian's etcd-server and etcd-client: `cargo test -p isthmus-store --features etcd-tests`.

mod suite;

conformance!(suite::etcd);
