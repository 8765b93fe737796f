//! What an upstream is told of who asks whom before anything else: the header of the PROXY protocol
//! (<https://www.haproxy.org/download/2.8/doc/proxy-protocol.txt>).

use crate::destination::Between;
use routing::ProxyProtocol;
use std::net::IpAddr;

/// The first bytes of a header of version 2, then version 2 and the command PROXY.
const V2: [u8; 13] = [0x0d, 0x0a, 0x0d, 0x0a, 0x00, 0x0d, 0x0a, 0x51, 0x55, 0x49, 0x54, 0x0a, 0x21];
/// TCP over IPv4 and IPv6, with the length of the addresses and ports that follow.
const TCP4: [u8; 3] = [0x11, 0, 12];
const TCP6: [u8; 3] = [0x21, 0, 36];

/// The header for a connection `between` two. Of addresses of two families that of IPv4 is written as IPv6 has it.
pub(crate) fn header(version: ProxyProtocol, between: Between) -> Vec<u8> {
    let (source, destination) = (between.source.ip().to_canonical(), between.destination.ip().to_canonical());
    let ports = (between.source.port(), between.destination.port());
    match (version, source, destination) {
        (ProxyProtocol::V1, IpAddr::V4(source), IpAddr::V4(destination)) => {
            format!("PROXY TCP4 {source} {destination} {} {}\r\n", ports.0, ports.1).into_bytes()
        }
        (ProxyProtocol::V1, ..) => {
            let (source, destination) = (wide(source), wide(destination));
            format!("PROXY TCP6 {source} {destination} {} {}\r\n", ports.0, ports.1).into_bytes()
        }
        (ProxyProtocol::V2, IpAddr::V4(source), IpAddr::V4(destination)) => {
            binary(TCP4, &source.octets(), &destination.octets(), ports)
        }
        (ProxyProtocol::V2, ..) => binary(TCP6, &wide(source).octets(), &wide(destination).octets(), ports),
    }
}

fn wide(address: IpAddr) -> std::net::Ipv6Addr {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped(),
        IpAddr::V6(address) => address,
    }
}

fn binary(kind: [u8; 3], source: &[u8], destination: &[u8], (from, to): (u16, u16)) -> Vec<u8> {
    [&V2[..], &kind, source, destination, &from.to_be_bytes(), &to.to_be_bytes()].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn between(source: &str, destination: &str) -> Between {
        let parse = |text: &str| text.parse().expect("an address");
        Between { source: parse(source), destination: parse(destination) }
    }

    #[test]
    fn headers_are_as_the_protocol_has_them() {
        let four = between("192.0.2.1:51234", "10.0.0.9:443");
        assert_eq!(header(ProxyProtocol::V1, four), b"PROXY TCP4 192.0.2.1 10.0.0.9 51234 443\r\n");
        let bytes = header(ProxyProtocol::V2, four);
        assert_eq!(bytes[..12], *b"\r\n\r\n\0\r\nQUIT\n");
        assert_eq!(bytes[12..], [0x21, 0x11, 0, 12, 192, 0, 2, 1, 10, 0, 0, 9, 0xc8, 0x22, 0x01, 0xbb]);
        let mixed = between("[2001:db8::1]:1", "10.0.0.9:2");
        assert_eq!(header(ProxyProtocol::V1, mixed), b"PROXY TCP6 2001:db8::1 ::ffff:10.0.0.9 1 2\r\n");
        assert_eq!(header(ProxyProtocol::V2, mixed).len(), 16 + 36);
    }
}
