//! Networks by address and prefix, and whose address a request comes from when it was passed on.
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::str::FromStr;

/// The bits that a provider gives to one customer: of IPv6 an address says less than that.
const CUSTOMER_V6: u8 = 64;

/// An address, or all that begin as it does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Network {
    base: IpAddr,
    prefix: u8,
}

/// A text that is no network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("it must be an address, or a network as in 10.0.0.0/8 or fd00::/8")]
pub struct NoNetwork;

impl FromStr for Network {
    type Err = NoNetwork;

    fn from_str(text: &str) -> Result<Self, NoNetwork> {
        let (base, prefix) = match text.split_once('/') {
            Some((base, prefix)) => {
                let digits = !prefix.is_empty() && prefix.bytes().all(|byte| byte.is_ascii_digit());
                (base, Some(prefix.parse().ok().filter(|_| digits).ok_or(NoNetwork)?))
            }
            None => (text, None),
        };
        let base: IpAddr = base.parse().map_err(|_| NoNetwork)?;
        let width = width(base);
        let prefix = prefix.unwrap_or(width);
        if prefix > width {
            return Err(NoNetwork);
        }
        // As addresses are compared; 96 bits of an IPv4 address that is written so are the same for all of them.
        let canonical = base.to_canonical();
        match (canonical == base, prefix.checked_sub(96)) {
            (true, _) => Ok(Self { base, prefix }),
            (false, Some(prefix)) => Ok(Self { base: canonical, prefix }),
            (false, None) => Err(NoNetwork),
        }
    }
}

impl Network {
    /// Whether an address is in it. An IPv4 address that came by IPv6 is an IPv4 address.
    pub fn contains(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        width(address) == width(self.base)
            && begin(address, self.prefix).is_some_and(|begun| Some(begun) == begin(self.base, self.prefix))
    }
}

fn width(address: IpAddr) -> u8 {
    if address.is_ipv4() { 32 } else { 128 }
}

/// The first bits of an address.
fn begin(address: IpAddr, prefix: u8) -> Option<u128> {
    let bits = match address {
        IpAddr::V4(v4) => u128::from(v4.to_bits()),
        IpAddr::V6(v6) => v6.to_bits(),
    };
    let dropped = width(address).checked_sub(prefix)?;
    // All of an IPv6 address are more than can be shifted away.
    Some(bits.checked_shr(u32::from(dropped)).unwrap_or(0))
}

/// Who a request of `peer` comes from, if the addresses that it names are asked from the last on: each was added by the hop
/// behind it, so one counts only where a trusted hop wrote it. Nonsense is nobody's word.
pub fn client<'a>(
    trusted: &[Network],
    peer: IpAddr,
    forwarded: impl DoubleEndedIterator<Item = &'a str>,
) -> IpAddr {
    let is_trusted = |address| trusted.iter().any(|network| network.contains(address));
    let mut client = peer.to_canonical();
    let mut hops = forwarded.rev().flat_map(|line| line.rsplit(','));
    while is_trusted(client) {
        let Some(before) = hops.next().and_then(hop) else { break };
        client = before;
    }
    client
}

/// One hop, as proxies write it: some with a port.
fn hop(text: &str) -> Option<IpAddr> {
    let text = text.trim();
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    let address = bare.parse().ok().or_else(|| text.parse().ok().map(|address: SocketAddr| address.ip()));
    address.map(|address: IpAddr| address.to_canonical())
}

/// What stands for one client where addresses are counted.
pub fn counted(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & (u128::MAX << (128 - CUSTOMER_V6)))),
        v4 => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn a_network_holds_what_begins_as_it_does() {
        let holds = |network: &str, address| network.parse::<Network>().unwrap().contains(ip(address));
        for (network, within, outside) in [
            ("10.0.0.0/8", "10.255.0.1", "11.0.0.1"),
            ("192.0.2.7", "192.0.2.7", "192.0.2.8"),
            ("192.0.2.7/31", "::ffff:192.0.2.6", "192.0.2.8"),
            ("0.0.0.0/0", "203.0.113.1", "::1"),
            ("::/0", "2001:db8::1", "203.0.113.1"),
            ("fd00::/8", "fdff::1", "fe00::1"),
            ("2001:db8::1", "2001:db8::1", "2001:db8::2"),
            ("::ffff:10.0.0.1", "10.0.0.1", "10.0.0.2"),
            ("::ffff:10.0.0.0/104", "::ffff:10.9.9.9", "11.0.0.1"),
        ] {
            assert!(holds(network, within), "{network} {within}");
            assert!(!holds(network, outside), "{network} {outside}");
        }
        for bad in [
            "",
            "/",
            "10.0.0.0/33",
            "::ffff:10.0.0.0/8",
            "10.0.0/8",
            "::/129",
            "10.0.0.0/+8",
            "10.0.0.0/",
            "proxy",
            "10.0.0.0/8/8",
        ] {
            assert_eq!(bad.parse::<Network>(), Err(NoNetwork), "{bad}");
        }
    }

    /// The rightmost hop that nobody trusted wrote about itself is the client.
    #[test]
    fn only_a_trusted_hop_says_who_is_before_it() {
        let trusted: Vec<Network> = ["10.0.0.0/8", "fd00::/8"].map(|text| text.parse().unwrap()).into();
        let from = |peer, lines: &[&str]| client(&trusted, ip(peer), lines.iter().copied()).to_string();
        let table: [(&str, &[&str], &str); 12] = [
            ("203.0.113.1", &["198.51.100.1"], "203.0.113.1"),
            ("10.0.0.1", &[], "10.0.0.1"),
            ("10.0.0.1", &["198.51.100.1"], "198.51.100.1"),
            ("10.0.0.1", &["192.0.2.9, 198.51.100.1"], "198.51.100.1"),
            ("10.0.0.1", &["192.0.2.9, 198.51.100.1", "10.0.0.2"], "198.51.100.1"),
            ("10.0.0.1", &["198.51.100.1,10.3.2.1 , fd00::7"], "198.51.100.1"),
            ("::ffff:10.0.0.1", &["::ffff:198.51.100.1"], "198.51.100.1"),
            ("10.0.0.1", &["198.51.100.1:4711"], "198.51.100.1"),
            ("10.0.0.1", &["[2001:db8::1]:4711"], "2001:db8::1"),
            ("10.0.0.1", &["[2001:db8::1]"], "2001:db8::1"),
            ("10.0.0.1", &["198.51.100.1, unknown"], "10.0.0.1"),
            ("10.0.0.1", &["unknown, 10.0.0.9"], "10.0.0.9"),
        ];
        for (peer, lines, client) in table {
            assert_eq!(from(peer, lines), client, "{peer} {lines:?}");
        }
    }

    #[test]
    fn of_ipv6_a_customer_is_counted() {
        assert_eq!(counted(ip("2001:db8:1:2:3:4:5:6")), ip("2001:db8:1:2::"));
        assert_eq!(counted(ip("::ffff:192.0.2.1")), ip("192.0.2.1"));
        assert_eq!(counted(ip("192.0.2.1")), ip("192.0.2.1"));
    }
}
