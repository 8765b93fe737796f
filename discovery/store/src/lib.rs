//! The replicated store: typed, signed records over etcd's API, and the embedded single-node server.
