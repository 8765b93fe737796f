//! Who somebody is, and how it is proved: certificates, trust bundles by trust domain, rustls configurations, renewal,
//! and the signatures on records.

mod bundle;
mod certificate;
pub mod grpc;
mod renewal;
mod signature;
mod tls;
mod verifier;

pub use bundle::{BundleError, Bundles};
pub use certificate::{CertificateError, WorkloadCertificate, identity_of};
pub use renewal::{CaClient, EnrolError, Renewal, enrol, renew};
pub use signature::{RegistryKey, RegistryPublicKey, SignatureError};
pub use tls::{
    ClientAuth, Identity, anonymous_client_config, client_config, peer_identity, provider, server_config, server_name,
};
pub use verifier::Expected;
