//! Carries requests: accept, detect, TLS, HTTP, copy, record.
