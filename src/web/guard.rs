//! Which addresses and ports a URL that anyone may submit can reach: the public internet, unless
//! the operator allows more.
//!
//! Names are checked where they become addresses, in [`crate::web::resolver`], at every connection:
//! a name that answers with another address the next time gains nothing. Addresses written in a URL
//! never reach a resolver, so each URL (the first, and every redirect) also goes through
//! [`Guard::check_url`]. A proxy resolves names by itself and is outside of both.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use url::{Host, Url};

/// An address that must not be reached.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("address {addr} is refused, {why}: allow its network if this is meant")]
pub struct Blocked {
    /// As it was written or resolved, not the address it carries.
    pub addr: IpAddr,
    /// What the address is for, such as `private network (RFC 1918)`.
    pub why: &'static str,
}

/// Why a URL must not be fetched.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GuardError {
    /// Its host is an address that is refused.
    #[error(transparent)]
    Blocked(#[from] Blocked),
    /// Neither http nor https.
    #[error("scheme \"{0}\" is refused: use http or https")]
    Scheme(String),
    /// Of the web, and not among those that are allowed.
    #[error("{0} URLs are not among the schemes that may be fetched (fetch.schemes)")]
    SchemeNotAllowed(String),
    /// Not among those that are allowed.
    #[error("port {0} is not among those that may be fetched (fetch.ports)")]
    PortNotAllowed(u16),
    /// A port of another protocol.
    #[error("port {0} is refused: it belongs to another protocol than HTTP")]
    Port(u16),
    /// Cannot be with http and https URLs.
    #[error("the URL has no host")]
    NoHost,
}

/// The address guard. Refuses what the IANA special-purpose registries call not globally reachable,
/// multicast, and addresses of cloud providers' own services.
#[derive(Debug, Clone, Default)]
pub struct Guard {
    allow: Vec<IpNet>,
    /// Empty: http and https.
    schemes: Vec<&'static str>,
    /// Empty: all but those of other protocols.
    ports: Vec<u16>,
}

impl Guard {
    /// A guard that lets through public addresses and `allow`, which wins over every refusal.
    pub fn new(allow: Vec<IpNet>) -> Self {
        Self { allow, ..Guard::default() }
    }

    /// Only URLs of these schemes and ports; an empty list changes nothing.
    pub fn limited_to(self, schemes: Vec<&'static str>, ports: Vec<u16>) -> Self {
        Self { schemes, ports, ..self }
    }

    /// Whether `addr` may be reached. IPv6 addresses that carry an IPv4 address (mapped, NAT64,
    /// 6to4, Teredo) are judged by the address they carry.
    pub fn check(&self, addr: IpAddr) -> Result<(), Blocked> {
        if self.allow.iter().any(|net| net.contains(&addr)) {
            return Ok(());
        }
        let refused = match addr {
            IpAddr::V4(v4) => refused_v4(v4),
            IpAddr::V6(v6) => {
                // A carried address may be one that the operator allows.
                let carried = carried_v4(v6);
                let inner = carried.iter().flatten();
                match inner.map(|v4| self.check(IpAddr::V4(*v4))).find(Result::is_err) {
                    Some(Err(inner)) => Some(inner.why),
                    _ if carried != [None; 2] => None,
                    _ => refused_v6(v6),
                }
            }
        };
        refused.map_or(Ok(()), |why| Err(Blocked { addr, why }))
    }

    /// Whether `url` may be fetched as far as its text tells: scheme, port, and the host where that
    /// is an address.
    pub fn check_url(&self, url: &Url) -> Result<(), GuardError> {
        if !matches!(url.scheme(), "http" | "https") {
            return Err(GuardError::Scheme(url.scheme().to_owned()));
        }
        if let Some(port) = url.port().filter(|port| BAD_PORTS.binary_search(port).is_ok()) {
            return Err(GuardError::Port(port));
        }
        if !self.schemes.is_empty() && !self.schemes.contains(&url.scheme()) {
            return Err(GuardError::SchemeNotAllowed(url.scheme().to_owned()));
        }
        match url.port_or_known_default() {
            Some(port) if !self.ports.is_empty() && !self.ports.contains(&port) => {
                return Err(GuardError::PortNotAllowed(port));
            }
            _ => {}
        }
        match url.host().ok_or(GuardError::NoHost)? {
            Host::Ipv4(v4) => Ok(self.check(IpAddr::V4(v4))?),
            Host::Ipv6(v6) => Ok(self.check(IpAddr::V6(v6))?),
            Host::Domain(_) => Ok(()),
        }
    }
}

/// Ports of protocols that a crafted request could speak to: the "bad ports" of the WHATWG Fetch
/// standard, section 2.9. Sorted.
const BAD_PORTS: [u16; 83] = [
    0, 1, 7, 9, 11, 13, 15, 17, 19, 20, 21, 22, 23, 25, 37, 42, 43, 53, 69, 77, 79, 87, 95, 101, 102, 103, 104, 109,
    110, 111, 113, 115, 117, 119, 123, 135, 137, 139, 143, 161, 179, 389, 427, 465, 512, 513, 514, 515, 526, 530, 531,
    532, 540, 548, 554, 556, 563, 587, 601, 636, 989, 990, 993, 995, 1719, 1720, 1723, 2049, 3659, 4045, 4190, 5060,
    5061, 6000, 6566, 6665, 6666, 6667, 6668, 6669, 6679, 6697, 10080,
];

const fn v4(a: u8, b: u8, c: u8, d: u8, length: u8) -> Ipv4Net {
    Ipv4Net::new_assert(Ipv4Addr::new(a, b, c, d), length)
}

const fn v6(a: u16, b: u16, c: u16, d: u16, length: u8) -> Ipv6Net {
    Ipv6Net::new_assert(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0), length)
}

const METADATA: &str = "cloud metadata service";

/// IANA IPv4 Special-Purpose Address Registry, and multicast (RFC 5771). First match decides.
const V4: [(Ipv4Net, Option<&str>); 22] = [
    (v4(169, 254, 169, 254, 32), Some(METADATA)),
    (v4(100, 100, 100, 200, 32), Some(METADATA)),
    (v4(192, 0, 0, 192, 32), Some(METADATA)),
    (v4(168, 63, 129, 16, 32), Some("cloud provider's host service")),
    (v4(0, 0, 0, 0, 32), Some("unspecified address")),
    (v4(0, 0, 0, 0, 8), Some("this network (RFC 791)")),
    (v4(10, 0, 0, 0, 8), Some("private network (RFC 1918)")),
    (v4(100, 64, 0, 0, 10), Some("carrier-grade NAT (RFC 6598)")),
    (v4(127, 0, 0, 0, 8), Some("loopback")),
    (v4(169, 254, 0, 0, 16), Some("link-local (RFC 3927)")),
    (v4(172, 16, 0, 0, 12), Some("private network (RFC 1918)")),
    // Port Control Protocol and TURN anycast: the two of this block that are globally reachable.
    (v4(192, 0, 0, 9, 32), None),
    (v4(192, 0, 0, 10, 32), None),
    (v4(192, 0, 0, 0, 24), Some("IETF protocol assignments (RFC 6890)")),
    (v4(192, 0, 2, 0, 24), Some("documentation (RFC 5737)")),
    (v4(192, 88, 99, 0, 24), Some("6to4 relay anycast (RFC 7526)")),
    (v4(192, 168, 0, 0, 16), Some("private network (RFC 1918)")),
    (v4(198, 18, 0, 0, 15), Some("benchmarking (RFC 2544)")),
    (v4(198, 51, 100, 0, 24), Some("documentation (RFC 5737)")),
    (v4(203, 0, 113, 0, 24), Some("documentation (RFC 5737)")),
    (v4(224, 0, 0, 0, 4), Some("multicast")),
    (v4(240, 0, 0, 0, 4), Some("reserved (RFC 1112)")),
];

/// IANA IPv6 Special-Purpose Address Registry, and the rest of what is not global unicast
/// (RFC 4291). First match decides; outside of 2000::/3 nothing is public.
const V6: [(Ipv6Net, Option<&str>); 22] = [
    (Ipv6Net::new_assert(Ipv6Addr::UNSPECIFIED, 128), Some("unspecified address")),
    (Ipv6Net::new_assert(Ipv6Addr::LOCALHOST, 128), Some("loopback")),
    (v6(0, 0, 0, 0, 96), Some("IPv4-compatible, deprecated (RFC 4291)")),
    (v6(0x64, 0xff9b, 1, 0, 48), Some("local-use NAT64 (RFC 8215)")),
    (v6(0x100, 0, 0, 0, 64), Some("discard-only (RFC 6666)")),
    (Ipv6Net::new_assert(Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254), 128), Some(METADATA)),
    (Ipv6Net::new_assert(Ipv6Addr::new(0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254), 128), Some(METADATA)),
    (v6(0xfc00, 0, 0, 0, 7), Some("unique local (RFC 4193)")),
    (v6(0xfe80, 0, 0, 0, 10), Some("link-local (RFC 4291)")),
    (v6(0xfec0, 0, 0, 0, 10), Some("site-local, deprecated (RFC 3879)")),
    (v6(0xff00, 0, 0, 0, 8), Some("multicast")),
    // Anycast and identifiers inside 2001::/23 that are globally reachable.
    (Ipv6Net::new_assert(Ipv6Addr::new(0x2001, 1, 0, 0, 0, 0, 0, 1), 128), None),
    (Ipv6Net::new_assert(Ipv6Addr::new(0x2001, 1, 0, 0, 0, 0, 0, 2), 128), None),
    (Ipv6Net::new_assert(Ipv6Addr::new(0x2001, 1, 0, 0, 0, 0, 0, 3), 128), None),
    (v6(0x2001, 3, 0, 0, 32), None),
    (v6(0x2001, 4, 0x112, 0, 48), None),
    (v6(0x2001, 0x20, 0, 0, 27), None),
    (v6(0x2001, 2, 0, 0, 48), Some("benchmarking (RFC 5180)")),
    (v6(0x2001, 0, 0, 0, 23), Some("IETF protocol assignments (RFC 2928)")),
    (v6(0x2001, 0xdb8, 0, 0, 32), Some("documentation (RFC 3849)")),
    (v6(0x3fff, 0, 0, 0, 20), Some("documentation (RFC 9637)")),
    (v6(0x2000, 0, 0, 0, 3), None),
];

const NAT64: Ipv6Net = v6(0x64, 0xff9b, 0, 0, 96);
const SIX_TO_FOUR: Ipv6Net = v6(0x2002, 0, 0, 0, 16);
const TEREDO: Ipv6Net = v6(0x2001, 0, 0, 0, 32);

fn refused_v4(addr: Ipv4Addr) -> Option<&'static str> {
    if addr == Ipv4Addr::BROADCAST {
        return Some("broadcast");
    }
    let found = V4.iter().find(|(net, _)| net.contains(&addr));
    found.and_then(|(_, why)| *why)
}

fn refused_v6(addr: Ipv6Addr) -> Option<&'static str> {
    let found = V6.iter().find(|(net, _)| net.contains(&addr));
    found.map_or(Some("not global unicast (RFC 4291)"), |(_, why)| *why)
}

/// IPv4 addresses that a packet to `addr` would end at or pass through.
fn carried_v4(addr: Ipv6Addr) -> [Option<Ipv4Addr>; 2] {
    let octets = addr.octets();
    let at = |i: usize| Ipv4Addr::new(octets[i], octets[i + 1], octets[i + 2], octets[i + 3]);
    if let Some(mapped) = addr.to_ipv4_mapped() {
        [Some(mapped), None]
    } else if NAT64.contains(&addr) {
        [Some(at(12)), None]
    } else if SIX_TO_FOUR.contains(&addr) {
        [Some(at(2)), None]
    } else if TEREDO.contains(&addr) {
        // The server, and the client with its bits flipped (RFC 4380, section 4).
        [Some(at(4)), Some(Ipv4Addr::from(!u32::from(at(12))))]
    } else {
        [None; 2]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn why(addr: &str) -> Option<&'static str> {
        Guard::default().check(addr.parse().unwrap()).err().map(|b| b.why)
    }

    #[test]
    fn refuses_what_is_not_public() {
        for (addr, expected) in [
            ("127.0.0.1", "loopback"),
            ("127.255.255.254", "loopback"),
            ("10.1.2.3", "private"),
            ("172.16.0.1", "private"),
            ("172.31.255.255", "private"),
            ("192.168.1.1", "private"),
            ("100.64.0.1", "carrier"),
            ("100.127.255.255", "carrier"),
            ("100.100.100.200", "metadata"),
            ("169.254.169.254", "metadata"),
            ("169.254.1.1", "link-local"),
            ("168.63.129.16", "cloud"),
            ("224.0.0.1", "multicast"),
            ("239.255.255.255", "multicast"),
            ("255.255.255.255", "broadcast"),
            ("240.0.0.1", "reserved"),
            ("0.0.0.0", "unspecified"),
            ("0.1.2.3", "this network"),
            ("192.0.0.8", "IETF"),
            ("192.0.2.1", "documentation"),
            ("198.51.100.1", "documentation"),
            ("203.0.113.1", "documentation"),
            ("198.18.0.1", "benchmarking"),
            ("198.19.255.255", "benchmarking"),
            ("192.88.99.1", "6to4"),
            ("::", "unspecified"),
            ("::1", "loopback"),
            ("::127.0.0.1", "compatible"),
            ("::8.8.8.8", "compatible"),
            ("::ffff:127.0.0.1", "loopback"),
            ("::ffff:10.0.0.1", "private"),
            ("::ffff:0:8.8.8.8", "not global"),
            ("64:ff9b::10.0.0.1", "private"),
            ("64:ff9b::169.254.169.254", "metadata"),
            ("64:ff9b:1::808:808", "NAT64"),
            ("2002:7f00:1::1", "loopback"),
            ("2002:0a00:1::", "private"),
            // Teredo: private client (192.168.0.1 flipped) behind a public server; private server.
            ("2001:0:4136:e378:8000:63bf:3f57:fffe", "private"),
            ("2001:0:a00:1:8000:63bf:f7f7:f7f7", "private"),
            ("fd00:ec2::254", "metadata"),
            ("fd20:ce::254", "metadata"),
            ("fd12::1", "unique local"),
            ("fe80::1", "link-local"),
            ("fec0::1", "site-local"),
            ("ff02::1", "multicast"),
            ("100::1", "discard"),
            ("2001:2::1", "benchmarking"),
            ("2001:10::1", "IETF"),
            ("2001:db8::1", "documentation"),
            ("3fff::1", "documentation"),
            ("5f00::1", "not global"),
            ("4000::1", "not global"),
        ] {
            let why = why(addr);
            assert!(why.is_some_and(|why| why.contains(expected)), "{addr}: {why:?}");
        }
    }

    #[test]
    fn lets_public_addresses_through() {
        for addr in [
            "8.8.8.8",
            "1.1.1.1",
            "11.0.0.1",
            "100.63.255.255",
            "100.128.0.1",
            "172.15.255.255",
            "172.32.0.1",
            "192.0.0.9",
            "198.17.255.255",
            "198.20.0.1",
            "223.255.255.255",
            "::ffff:8.8.8.8",
            "64:ff9b::8.8.8.8",
            "2002:808:808::1",
            "2001:0:4136:e378:8000:63bf:f7f7:f7f7",
            "2001:20::1",
            "2001:3f:ffff::1",
            "2001:200::1",
            "2606:4700::1111",
            "2a00:1450::1",
        ] {
            assert_eq!(why(addr), None, "{addr}");
        }
    }

    #[test]
    fn what_is_allowed_wins_also_when_carried() {
        let guard = Guard::new(vec!["127.0.0.0/8".parse().unwrap(), "fd00::/8".parse().unwrap()]);
        for (addr, expected) in [
            ("127.0.0.1", true),
            ("::ffff:127.0.0.1", true),
            ("::1", false),
            ("fd00:ec2::254", true),
            ("10.0.0.1", false),
        ] {
            assert_eq!(guard.check(addr.parse().unwrap()).is_ok(), expected, "{addr}");
        }
    }

    #[test]
    fn urls() {
        let check = |url: &str| Guard::default().check_url(&Url::parse(url).unwrap());
        for url in ["http://example.com/", "https://8.8.8.8:8443/", "http://localhost.example:8080/"] {
            assert_eq!(check(url), Ok(()), "{url}");
        }
        // Every way to write 127.0.0.1 ends as the same address.
        for url in [
            "http://127.0.0.1/",
            "http://127.1/",
            "http://2130706433/",
            "http://0x7f.0.0.1/",
            "http://0177.0.0.1/",
            "http://127.0.0.1./",
            "http://①②⑦.0.0.1/",
            "http://[::1]/",
            "http://[::ffff:7f00:1]/",
        ] {
            assert!(matches!(check(url), Err(GuardError::Blocked(_))), "{url}");
        }
        assert_eq!(check("http://example.com:25/"), Err(GuardError::Port(25)));
        assert_eq!(check("http://example.com:10080/"), Err(GuardError::Port(10080)));
        assert_eq!(check("ftp://example.com/"), Err(GuardError::Scheme("ftp".into())));
        assert!(BAD_PORTS.is_sorted());
    }

    #[test]
    fn schemes_and_ports_may_be_few() {
        let guard = Guard::default().limited_to(vec!["https"], vec![443, 8443, 25]);
        let check = |url: &str| guard.check_url(&Url::parse(url).unwrap());
        for url in ["https://example.com/", "https://example.com:443/", "https://example.com:8443/"] {
            assert_eq!(check(url), Ok(()), "{url}");
        }
        assert_eq!(check("http://example.com/"), Err(GuardError::SchemeNotAllowed("http".into())));
        assert_eq!(check("https://example.com:444/"), Err(GuardError::PortNotAllowed(444)));
        assert_eq!(check("https://example.com:25/"), Err(GuardError::Port(25)), "never");
        assert!(matches!(check("https://10.0.0.1/"), Err(GuardError::Blocked(_))));
    }

    proptest! {
        /// Inside 2000::/3, and as a carried address, nothing private gets through.
        #[test]
        fn carried_addresses_share_the_verdict(bits: u32) {
            let inner = Ipv4Addr::from(bits);
            let refused = Guard::default().check(inner.into()).is_err();
            let [a, b, c, d] = inner.octets();
            let (high, low) = (u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]));
            for outer in [
                inner.to_ipv6_mapped(),
                Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, high, low),
                Ipv6Addr::new(0x2002, high, low, 9, 9, 9, 9, 9),
                Ipv6Addr::new(0x2001, 0, 0x808, 0x808, 0, 0, !high, !low),
            ] {
                prop_assert_eq!(Guard::default().check(outer.into()).is_err(), refused, "{}", outer);
            }
        }

        #[test]
        fn only_global_unicast_is_public(bits: u128) {
            let addr = Ipv6Addr::from(bits);
            if Guard::default().check(addr.into()).is_ok() {
                let carrier = addr.to_ipv4_mapped().is_some() || NAT64.contains(&addr);
                prop_assert!(carrier || bits >> 125 == 1);
            }
        }
    }
}
