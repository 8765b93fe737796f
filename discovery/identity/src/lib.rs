//! Certificates, trust bundles by trust domain, rustls configurations, renewal and record signatures.
