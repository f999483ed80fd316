//! How many connections each source address has, so that none of them takes all places.

use std::collections::HashMap;
use std::net::IpAddr;

use crate::address::Address;

/// Counts accepted connections by where they come from: an IPv4 address, or the /64 of an IPv6 one, which is what one
/// customer usually has (RFC 6177).
#[derive(Debug, Default)]
pub(super) struct Sources(HashMap<IpAddr, usize>);

fn source(peer: &Address) -> Option<IpAddr> {
    Some(match peer.ip()?.ip().to_canonical() {
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            IpAddr::V6([a, b, c, d, 0, 0, 0, 0].into())
        }
        v4 @ IpAddr::V4(_) => v4,
    })
}

impl Sources {
    pub(super) fn count(&self, peer: &Address) -> usize {
        source(peer).and_then(|source| self.0.get(&source)).copied().unwrap_or(0)
    }

    pub(super) fn add(&mut self, peer: &Address) {
        if let Some(source) = source(peer) {
            *self.0.entry(source).or_insert(0) += 1;
        }
    }

    pub(super) fn remove(&mut self, peer: &Address) {
        let Some(source) = source(peer) else { return };
        if let Some(count) = self.0.get_mut(&source) {
            *count -= 1;
            if *count == 0 {
                self.0.remove(&source);
            }
        }
    }

    #[cfg(any(test, feature = "sim"))]
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(address: &str) -> Address {
        address.parse().unwrap()
    }

    #[test]
    fn ports_and_the_lower_half_of_ipv6_do_not_make_another_source() {
        let mut sources = Sources::default();
        sources.add(&at("192.0.2.1:1000"));
        sources.add(&at("192.0.2.1:2000"));
        sources.add(&at("[::ffff:192.0.2.1]:3000"));
        sources.add(&at("[2001:db8:1:2::1]:1000"));
        sources.add(&at("[2001:db8:1:2:ffff::9]:1000"));
        assert_eq!(sources.count(&at("192.0.2.1:9")), 3);
        assert_eq!(sources.count(&at("192.0.2.2:9")), 0);
        assert_eq!(sources.count(&at("[2001:db8:1:2::7]:9")), 2);
        assert_eq!(sources.count(&at("[2001:db8:1:3::1]:9")), 0);
        for peer in ["192.0.2.1:1", "192.0.2.1:1", "192.0.2.1:1", "[2001:db8:1:2::]:1", "[2001:db8:1:2::]:1"]
        {
            sources.remove(&at(peer));
        }
        assert!(sources.is_empty());
    }
}
