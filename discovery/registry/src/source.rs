//! Where the registry learns what exists.

pub(crate) mod address;
pub(crate) mod directory;
pub(crate) mod file;
pub(crate) mod peer;
pub(crate) mod presence;
pub(crate) mod workload;
