//! Which addresses a user may send us to: public ones, and those of networks that are allowed by name.
//!
//! We resolve names ourselves, and connect to the very addresses that were looked at, so a name cannot
//! be public when it is checked and private when it is used.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;

use anyhow::{Context, anyhow, ensure};
use reqwest::Url;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};

use super::super::exchange::Refused;

/// Networks of IPv4 that are not public (IANA's registry of special-purpose addresses).
const SPECIAL_V4: [(Ipv4Addr, u32); 15] = [
    (Ipv4Addr::new(0, 0, 0, 0), 8),
    (Ipv4Addr::new(10, 0, 0, 0), 8),
    (Ipv4Addr::new(100, 64, 0, 0), 10),
    (Ipv4Addr::new(127, 0, 0, 0), 8),
    (Ipv4Addr::new(169, 254, 0, 0), 16),
    (Ipv4Addr::new(172, 16, 0, 0), 12),
    (Ipv4Addr::new(192, 0, 0, 0), 24),
    (Ipv4Addr::new(192, 0, 2, 0), 24),
    (Ipv4Addr::new(192, 88, 99, 0), 24),
    (Ipv4Addr::new(192, 168, 0, 0), 16),
    (Ipv4Addr::new(198, 18, 0, 0), 15),
    (Ipv4Addr::new(198, 51, 100, 0), 24),
    (Ipv4Addr::new(203, 0, 113, 0), 24),
    (Ipv4Addr::new(224, 0, 0, 0), 4),
    (Ipv4Addr::new(240, 0, 0, 0), 4),
];

/// Networks of IPv6 inside 2000::/3 that are not public; outside of it nothing is.
const SPECIAL_V6: [(Ipv6Addr, u32); 3] = [
    (Ipv6Addr::new(0x2001, 0, 0, 0, 0, 0, 0, 0), 23),
    (Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0), 32),
    (Ipv6Addr::new(0x3fff, 0, 0, 0, 0, 0, 0, 0), 20),
];

/// Looks at addresses.
#[derive(Debug)]
pub struct Guard {
    allowed: Vec<Network>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Network {
    base: IpAddr,
    bits: u32,
}

impl Guard {
    /// These networks (CIDR) are allowed too.
    pub fn new(allowed: &[String]) -> anyhow::Result<Self> {
        let parse = |text: &String| text.parse().with_context(|| text.clone());
        Ok(Self { allowed: allowed.iter().map(parse).collect::<anyhow::Result<_>>()? })
    }

    /// Whether the URL's host may be connected to; names are looked at when they are resolved.
    pub(super) fn permits_host(&self, url: &Url) -> bool {
        literal(url).is_none_or(|address| self.permits(address))
    }

    /// Whether the URL says how what is told is encrypted, or needs not: its host is an address, not a
    /// name, of a network that is allowed, and so one's own.
    pub fn permits_scheme(&self, url: &Url) -> bool {
        url.scheme() == "https" || literal(url).is_some_and(|address| self.allows(address.to_canonical()))
    }

    fn permits(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.allows(address) || is_public(address)
    }

    fn allows(&self, address: IpAddr) -> bool {
        self.allowed.iter().any(|network| network.contains(address))
    }
}

fn literal(url: &Url) -> Option<IpAddr> {
    url.host_str().unwrap_or_default().trim_start_matches('[').trim_end_matches(']').parse().ok()
}

impl Resolve for Guard {
    fn resolve(&self, name: Name) -> Resolving {
        let allowed = self.allowed.clone();
        Box::pin(async move {
            let guard = Self { allowed };
            // The port is the URL's.
            let found = tokio::net::lookup_host((name.as_str(), 0)).await?;
            let addresses: Vec<SocketAddr> = found.filter(|address| guard.permits(address.ip())).collect();
            if addresses.is_empty() {
                return Err(Refused.into());
            }
            let addresses: Addrs = Box::new(addresses.into_iter());
            Ok(addresses)
        })
    }
}

impl FromStr for Network {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> anyhow::Result<Self> {
        let (base, bits) = text.split_once('/').ok_or_else(|| anyhow!("is not ADDRESS/BITS"))?;
        let base: IpAddr = base.parse().context("is not ADDRESS/BITS")?;
        let bits: u32 = bits.parse().context("is not ADDRESS/BITS")?;
        let most = if base.is_ipv4() { 32 } else { 128 };
        ensure!(bits <= most, "has more than {most} bits");
        Ok(Self { base, bits })
    }
}

impl Network {
    fn contains(self, address: IpAddr) -> bool {
        match (self.base, address) {
            (IpAddr::V4(base), IpAddr::V4(address)) => same_v4(base, address, self.bits),
            (IpAddr::V6(base), IpAddr::V6(address)) => same_v6(base, address, self.bits),
            _ => false,
        }
    }
}

fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => !SPECIAL_V4.iter().any(|(base, bits)| same_v4(*base, address, *bits)),
        IpAddr::V6(address) => match embedded(address) {
            Some(inner) => is_public(inner.into()),
            None => {
                same_v6(Ipv6Addr::new(0x2000, 0, 0, 0, 0, 0, 0, 0), address, 3)
                    && !SPECIAL_V6.iter().any(|(base, bits)| same_v6(*base, address, *bits))
            }
        },
    }
}

/// The IPv4 address that is reached through this one: mapped, NAT64, 6to4.
fn embedded(address: Ipv6Addr) -> Option<Ipv4Addr> {
    let octets = address.octets();
    let at =
        |start: usize| Ipv4Addr::new(octets[start], octets[start + 1], octets[start + 2], octets[start + 3]);
    if let Some(mapped) = address.to_ipv4_mapped() {
        return Some(mapped);
    }
    if same_v6(Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, 0, 0), address, 96) {
        return Some(at(12));
    }
    same_v6(Ipv6Addr::new(0x2002, 0, 0, 0, 0, 0, 0, 0), address, 16).then(|| at(2))
}

fn same_v4(one: Ipv4Addr, other: Ipv4Addr, bits: u32) -> bool {
    let mask = u32::MAX.checked_shl(32 - bits).unwrap_or(0);
    one.to_bits() & mask == other.to_bits() & mask
}

fn same_v6(one: Ipv6Addr, other: Ipv6Addr, bits: u32) -> bool {
    let mask = u128::MAX.checked_shl(128 - bits).unwrap_or(0);
    one.to_bits() & mask == other.to_bits() & mask
}

#[cfg(test)]
mod tests {
    use super::*;

    fn guard(allowed: &[&str]) -> anyhow::Result<Guard> {
        Guard::new(&allowed.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn only_public_addresses_are_permitted() {
        let guard = guard(&[]).unwrap();
        for (address, expected) in [
            ("1.1.1.1", true),
            ("100.63.255.255", true),
            ("100.128.0.0", true),
            ("172.15.255.255", true),
            ("172.32.0.0", true),
            ("192.0.1.0", true),
            ("223.255.255.255", true),
            ("0.0.0.0", false),
            ("0.1.2.3", false),
            ("10.1.2.3", false),
            ("100.64.0.1", false),
            ("100.127.255.255", false),
            ("127.0.0.1", false),
            ("127.255.255.254", false),
            ("169.254.169.254", false),
            ("172.16.0.1", false),
            ("172.31.255.255", false),
            ("192.0.0.170", false),
            ("192.0.2.1", false),
            ("192.168.1.1", false),
            ("198.19.0.1", false),
            ("198.51.100.1", false),
            ("203.0.113.1", false),
            ("224.0.0.1", false),
            ("240.0.0.1", false),
            ("255.255.255.255", false),
            ("2606:4700::1111", true),
            ("2001:4860:4860::8888", true),
            ("::ffff:1.1.1.1", true),
            ("64:ff9b::1.1.1.1", true),
            ("2002:101:101::1", true),
            ("::", false),
            ("::1", false),
            ("::127.0.0.1", false),
            ("::1.1.1.1", false),
            ("::ffff:127.0.0.1", false),
            ("::ffff:10.0.0.1", false),
            ("64:ff9b::10.0.0.1", false),
            ("64:ff9b:1::1", false),
            ("2002:7f00:1::", false),
            ("2002:c0a8:101::1", false),
            ("2001::1", false),
            ("2001:db8::1", false),
            ("3fff::1", false),
            ("100::1", false),
            ("fc00::1", false),
            ("fdff::1", false),
            ("fe80::1", false),
            ("fec0::1", false),
            ("ff02::1", false),
            ("4000::1", false),
        ] {
            assert_eq!(guard.permits(address.parse().unwrap()), expected, "{address}");
        }
    }

    #[test]
    fn networks_are_allowed_by_name() {
        let guard = guard(&["10.1.0.0/16", "fd00::/8", "127.0.0.1/32"]).unwrap();
        for (address, expected) in [
            ("10.1.255.255", true),
            ("::ffff:10.1.0.1", true),
            ("10.2.0.0", false),
            ("fd12::1", true),
            ("fc12::1", false),
            ("127.0.0.1", true),
            ("127.0.0.2", false),
            ("1.1.1.1", true),
        ] {
            assert_eq!(guard.permits(address.parse().unwrap()), expected, "{address}");
        }
        assert!(self::guard(&["0.0.0.0/0", "::/0"]).unwrap().permits("::1".parse().unwrap()));
        for wrong in ["", "10.0.0.0", "10.0.0.0/33", "::/129", "ten/8", "10.0.0.0/-1"] {
            assert!(self::guard(&[wrong]).is_err(), "{wrong}");
        }
    }

    #[test]
    fn an_address_can_be_written_in_many_ways() {
        let guard = guard(&[]).unwrap();
        for (url, expected) in [
            ("http://127.0.0.1/", false),
            ("http://127.1/", false),
            ("http://2130706433/", false),
            ("http://0x7f000001/", false),
            ("http://0177.0.0.1/", false),
            ("http://127.0.0.1./", false),
            ("http://[::1]/", false),
            ("http://[::ffff:7f00:1]:80/", false),
            ("http://１２７.0.0.1/", false),
            ("http://0/", false),
            ("https://1.1.1.1/", true),
            // A name: looked at later.
            ("http://localhost/", true),
        ] {
            assert_eq!(guard.permits_host(&Url::parse(url).unwrap()), expected, "{url}");
        }
    }
}
