//! QUIC tunnels to the peers' gateways: quinn's only door.
