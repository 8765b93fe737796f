//! The conformance suite against etcd itself.
