//! Every message that leaves a process.
//!
//! Our own messages are generated from `proto/`; Envoy's come from the crate `envoy-types`, re-exported as [`envoy`].
//! Maps are `BTreeMap`s, so that equal messages have equal bytes.

#![allow(missing_docs, clippy::pedantic, clippy::large_enum_variant, unreachable_pub)]

pub use envoy_types::pb as envoy;

/// The descriptors of all of Envoy's messages: a `google.protobuf.FileDescriptorSet`, encoded, for whoever must read a
/// message whose type is only known by name. (The crate `envoy-types` has them in a file that its users cannot include;
/// `tests/descriptors.rs` compares.)
pub const DESCRIPTORS: &[u8] = include_bytes!("../descriptors/envoy.binpb");

/// Istio's own discovery and certificate messages.
pub mod istio {
    /// The name table (`istio.networking.nds.v1`).
    pub mod nds {
        tonic::include_proto!("istio.networking.nds.v1");
    }
    /// How a proxy is started (`istio.mesh.v1alpha1`).
    pub mod mesh {
        tonic::include_proto!("istio.mesh.v1alpha1");
    }
    /// The certificate-signing service (`istio.v1.auth`).
    pub mod ca {
        tonic::include_proto!("istio.v1.auth");
    }
}

/// gRPC's own protocols.
pub mod grpc {
    /// Health checking (`grpc.health.v1`).
    pub mod health {
        tonic::include_proto!("grpc.health.v1");
    }
}

/// Isthmus's own messages: records, tunnel headers, reports.
pub mod isthmus {
    tonic::include_proto!("isthmus.v1");
}
