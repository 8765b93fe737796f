//! Certificates, trust bundles by trust domain, rustls configurations, renewal and record signatures.
//!
//! An identity is proved in this order: exactly one URI name in the leaf, the roots of *that* name's trust domain, the
//! path, the time and the usage, and at last whether it is who was expected. Roots of two domains are never mixed.

mod bundle;
mod ca_client;
mod certificate;
mod edge;
mod error;
pub mod grpc;
mod outside;
mod pem;
mod renewal;
mod signature;
mod tls;
mod verifier;

pub use bundle::Bundles;
pub use ca_client::{CaClient, CsrKey, enroll};
pub use certificate::{WorkloadCertificate, fingerprint, identity_of};
pub use edge::{EdgeClients, EdgeTls, description, edge_server_config};
pub use error::IdentityError;
pub use outside::{OutsideServer, outside_client_config};
pub use pem::pem;
pub use renewal::{Renewal, RenewalSettings, RenewalState, renew};
pub use signature::{RegistryKey, RegistryPublicKey};
pub use tls::{
    ClientAuth, Identity, anonymous_client_config, client_config, peer_identity, provider, server_config, server_name,
};
pub use verifier::Expected;
