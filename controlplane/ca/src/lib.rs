//! The certificate authority: the only holder of its key.
