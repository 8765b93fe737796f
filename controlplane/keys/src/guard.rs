//! Which addresses are asked: those at which an issuer may be.

use ipnet::IpNet;
use std::net::IpAddr;

/// Whether `address` may be asked: if it is among `allowed`, or is neither this machine's own nor its link's.
pub(crate) fn admits(address: IpAddr, allowed: &[IpNet]) -> bool {
    let address = address.to_canonical();
    if allowed.iter().any(|net| net.contains(&address)) {
        return true;
    }
    match address {
        IpAddr::V4(v4) => {
            !(v4.is_loopback()
                || v4.is_link_local()
                || v4.is_unspecified()
                || v4.is_multicast()
                || v4.is_broadcast()
                || v4.octets()[0] == 0)
        }
        IpAddr::V6(v6) => {
            // The translations of IPv4 (RFC 6052) lead where IPv4 does.
            let translated = v6.segments()[..6] == [0x64, 0xff9b, 0, 0, 0, 0];
            !(v6.is_loopback() || v6.is_unicast_link_local() || v6.is_unspecified() || v6.is_multicast() || translated)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sec_c6_what_only_this_machine_may_reach_is_not_asked() {
        let ip = |text: &str| text.parse::<IpAddr>().expect("an address");
        for refused in [
            "127.0.0.1",
            "127.255.255.254",
            "169.254.169.254",
            "0.0.0.0",
            "0.1.2.3",
            "224.0.0.1",
            "255.255.255.255",
            "::1",
            "::",
            "fe80::1",
            "ff02::1",
            "::ffff:127.0.0.1",
            "::ffff:169.254.169.254",
            "64:ff9b::7f00:1",
        ] {
            assert!(!admits(ip(refused), &[]), "{refused}");
        }
        for asked in ["10.0.0.1", "192.168.1.1", "93.184.216.34", "2001:db8::1", "fd00::1"] {
            assert!(admits(ip(asked), &[]), "{asked}");
        }
        assert!(admits(ip("127.0.0.1"), &["127.0.0.0/8".parse().expect("a network")]));
        assert!(!admits(ip("::1"), &["127.0.0.0/8".parse().expect("a network")]));
    }
}
