//! Whose request it is, as far as an address can tell: the peer of the connection or, where that is
//! a proxy that the operator trusts, whom the proxy names.

use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

use axum::extract::ConnectInfo;
use axum::http::{Extensions, HeaderMap};
use serde::Deserialize;

/// What proxies append the address to that a request came from.
const FORWARDED: &str = "x-forwarded-for";

/// An address, or a network such as `10.0.0.0/8`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Network {
    /// IPv4 as a part of IPv6.
    bits: u128,
    prefix: u32,
}

impl Network {
    fn holds(self, address: IpAddr) -> bool {
        let differ = self.bits ^ bits(address);
        differ.checked_shr(128 - self.prefix).unwrap_or(0) == 0
    }
}

fn bits(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped().to_bits(),
        IpAddr::V6(address) => address.to_bits(),
    }
}

impl FromStr for Network {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || {
            format!("`{text}` is no address and no network: use one such as 10.0.0.7 or 10.0.0.0/8")
        };
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| wrong())?;
        let longest = if address.is_ipv4() { 32 } else { 128 };
        let prefix = match prefix {
            Some(prefix) => prefix.parse().map_err(|_| wrong())?,
            None => longest,
        };
        if prefix > longest {
            return Err(wrong());
        }
        Ok(Self {
            bits: bits(address),
            prefix: prefix + 128 - longest,
        })
    }
}

impl TryFrom<String> for Network {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

/// `None`: the listener did not say.
pub fn of(extensions: &Extensions, headers: &HeaderMap, trusted: &[Network]) -> Option<IpAddr> {
    let ConnectInfo(peer) = extensions.get::<ConnectInfo<SocketAddr>>()?;
    let is_trusted = |address| trusted.iter().any(|network| network.holds(address));
    let mut last = peer.ip().to_canonical();
    let lines: Vec<&str> = headers
        .get_all(FORWARDED)
        .iter()
        .map(|line| line.to_str().unwrap_or_default())
        .collect();
    // Each of ours appended whom it saw; what stands before that, anybody can have written.
    let mut named = lines.iter().flat_map(|line| line.split(',')).rev();
    while is_trusted(last) {
        let Some(before) = named.next().and_then(address) else {
            break;
        };
        last = before;
    }
    Some(last)
}

/// Some proxies add the port.
fn address(word: &str) -> Option<IpAddr> {
    let word = word.trim();
    let address = word.parse::<IpAddr>();
    let address = address.or_else(|_| word.parse().map(|address: SocketAddr| address.ip()));
    address.ok().map(|address| address.to_canonical())
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    fn peer(connected: &str, lines: &[&'static str], trusted: &[&str]) -> String {
        let mut extensions = Extensions::new();
        let connected: IpAddr = connected.parse().unwrap();
        extensions.insert(ConnectInfo(SocketAddr::new(connected, 1)));
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(FORWARDED, HeaderValue::from_static(line));
        }
        let trusted: Vec<Network> = trusted.iter().map(|word| word.parse().unwrap()).collect();
        of(&extensions, &headers, &trusted).unwrap().to_string()
    }

    #[test]
    fn whom_a_trusted_proxy_names_is_the_peer_and_nobody_else_is_believed() {
        let ours = ["10.0.0.0/8", "2001:db8::/32"];
        let cases: [(&str, &[&'static str], &str); 9] = [
            ("203.0.113.9", &["198.51.100.1"], "203.0.113.9"),
            ("10.1.2.3", &["198.51.100.1"], "198.51.100.1"),
            ("::ffff:10.1.2.3", &["198.51.100.1"], "198.51.100.1"),
            ("10.1.2.3", &["1.1.1.1, 198.51.100.1"], "198.51.100.1"),
            ("10.1.2.3", &["1.1.1.1", "198.51.100.1:80"], "198.51.100.1"),
            ("10.1.2.3", &["198.51.100.1, 10.9.9.9"], "198.51.100.1"),
            ("2001:db8::1", &["2001:db9::1"], "2001:db9::1"),
            ("10.1.2.3", &[], "10.1.2.3"),
            ("10.1.2.3", &["198.51.100.1, unknown"], "10.1.2.3"),
        ];
        for (connected, lines, want) in cases {
            assert_eq!(peer(connected, lines, &ours), want, "{connected} {lines:?}");
        }
        assert_eq!(peer("10.1.2.3", &["198.51.100.1"], &[]), "10.1.2.3");
        let one = ["10.1.2.3"];
        assert_eq!(peer("10.1.2.4", &["198.51.100.1"], &one), "10.1.2.4");
        let all = ["0.0.0.0/0", "::/0"];
        assert_eq!(peer("10.1.2.3", &["198.51.100.1"], &all), "198.51.100.1");
    }

    #[test]
    fn what_is_no_network_is_refused_with_a_sentence() {
        for wrong in [
            "",
            "ten",
            "10.0.0.0/33",
            "10.0.0.0/-1",
            "::/129",
            "10.0.0.0/8/8",
        ] {
            let refused = wrong.parse::<Network>().unwrap_err();
            assert!(refused.contains("use one such as"), "{wrong}: {refused}");
        }
    }
}
