//! From bytes to Envoy's messages: the wall behind which nothing is optional that need not be.

use crate::Rejection;
use api::envoy::envoy::config::core::v3::{Address, address, socket_address};
use api::envoy::google::protobuf::{Any, Duration as ProtoDuration};
use prost::{Message, Name};
use std::net::SocketAddr;
use std::time::Duration;

/// Decodes a resource's body.
pub(crate) fn message<M: Message + Default>(resource: &xds::Resource) -> Result<M, Rejection> {
    M::decode(resource.body.clone()).map_err(|error| Rejection::new(&resource.name, error))
}

/// Decodes what an `Any` holds, if it is an `M`.
pub(crate) fn unpack<M: Message + Default + Name>(any: &Any) -> Option<Result<M, prost::DecodeError>> {
    any.type_url.ends_with(&format!("/{}", M::full_name())).then(|| M::decode(&any.value[..]))
}

/// An IP address and port.
pub(crate) fn socket(address: Option<&Address>) -> Option<SocketAddr> {
    let (host, port) = host_and_port(address)?;
    Some(SocketAddr::new(host.parse().ok()?, port))
}

/// A host, perhaps a name, and a port.
pub(crate) fn host_and_port(address: Option<&Address>) -> Option<(&str, u16)> {
    let Some(address::Address::SocketAddress(socket)) = &address?.address else { return None };
    let Some(socket_address::PortSpecifier::PortValue(port)) = socket.port_specifier else { return None };
    Some((&socket.address, u16::try_from(port).ok()?))
}

/// A duration; negative ones count as none.
pub(crate) fn duration(duration: Option<&ProtoDuration>) -> Option<Duration> {
    let duration = duration?;
    let (seconds, nanos) = (u64::try_from(duration.seconds).ok()?, u32::try_from(duration.nanos).ok()?);
    Some(Duration::new(seconds, nanos))
}
