//! Who is at the other end: the peer of the connection, and the client behind trusted proxies. Never an identity: an
//! address may throttle and be logged, it proves nothing.

use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;
use std::sync::Arc;

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName};

const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// The other end of a connection; in the extensions of every request that came through the accept loop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peer {
    /// Over TCP.
    Tcp(SocketAddr),
    /// Over a Unix socket: what the kernel vouches for.
    Unix {
        /// The user of the process that connected.
        uid: u32,
        /// Its process id, where the system tells it.
        pid: Option<i32>,
    },
}

/// The address of the client itself; `None` over a Unix socket. The peer's own address unless the peer is a trusted
/// proxy.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ClientIp(pub Option<IpAddr>);

impl<S: Sync> FromRequestParts<S> for ClientIp {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        Ok(parts.extensions.get::<Self>().copied().unwrap_or_default())
    }
}

/// A block of addresses such as `10.0.0.0/8`, or a single one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cidr {
    base: u128,
    mask: u128,
}

/// The text is no address block.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected an address block such as 10.0.0.0/8 or fd00::/8, got {0:?}")]
pub struct InvalidCidr(String);

impl FromStr for Cidr {
    type Err = InvalidCidr;

    /// Reads `address` or `address/bits`; bits of the address beyond the mask must be zero, since they are mistakes.
    fn from_str(text: &str) -> Result<Self, InvalidCidr> {
        let invalid = || InvalidCidr(text.to_owned());
        let (address, bits) = text.split_once('/').map_or((text, None), |(address, bits)| (address, Some(bits)));
        let address: IpAddr = address.parse().map_err(|_| invalid())?;
        // IPv4 is compared in its mapped form, so that one comparison serves both.
        let width: u32 = if address.is_ipv4() { 32 } else { 128 };
        let bits = match bits {
            None => width,
            Some(bits) if bits.bytes().all(|b| b.is_ascii_digit()) => bits.parse().map_err(|_| invalid())?,
            Some(_) => return Err(invalid()),
        };
        let free = width.checked_sub(bits).ok_or_else(invalid)?;
        let mask = u128::MAX.checked_shl(free).unwrap_or(0);
        let base = mapped(address);
        if base & !mask != 0 && bits < width {
            return Err(invalid());
        }
        Ok(Self { base, mask })
    }
}

fn mapped(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(v4) => v4.to_ipv6_mapped().to_bits(),
        IpAddr::V6(v6) => v6.to_bits(),
    }
}

/// The proxies whose `X-Forwarded-For` counts. `Forwarded` (RFC 7239) is not read: a proxy that sets one but passes a
/// client's other through would be fooled.
#[derive(Clone, Debug, Default)]
pub struct TrustedProxies(Arc<[Cidr]>);

impl TrustedProxies {
    /// Trusts the proxies in these blocks; none by default.
    pub fn new(blocks: impl IntoIterator<Item = Cidr>) -> Self {
        Self(blocks.into_iter().collect())
    }

    fn trusts(&self, address: IpAddr) -> bool {
        let bits = mapped(address);
        self.0.iter().any(|block| bits & block.mask == block.base)
    }

    /// The client's address: starting from the peer, each trusted proxy's word is taken for who came before it; the
    /// first address that is not a trusted proxy is the client. Something unreadable ends the walk at the proxy that
    /// said it.
    pub fn client(&self, peer: Peer, headers: &HeaderMap) -> ClientIp {
        let Peer::Tcp(peer) = peer else { return ClientIp(None) };
        let mut client = peer.ip().to_canonical();
        let lines: Vec<&str> =
            headers.get_all(FORWARDED_FOR).iter().map(|line| line.to_str().unwrap_or("unreadable")).collect();
        for hop in lines.iter().rev().flat_map(|line| line.rsplit(',')) {
            if !self.trusts(client) {
                break;
            }
            match hop_address(hop.trim()) {
                Some(address) => client = address,
                None => break,
            }
        }
        ClientIp(Some(client))
    }
}

// Proxies write an address, or an address with a port.
fn hop_address(hop: &str) -> Option<IpAddr> {
    let address = hop.parse::<IpAddr>().ok().or_else(|| hop.parse::<SocketAddr>().ok().map(|socket| socket.ip()));
    address.map(|address| address.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(peer: &str, forwarded: &[&str]) -> String {
        let proxies = TrustedProxies::new(["10.0.0.0/8", "fd00::/8", "192.0.2.1"].map(|block| block.parse().unwrap()));
        let mut headers = HeaderMap::new();
        for line in forwarded {
            headers.append(FORWARDED_FOR, line.parse().unwrap());
        }
        proxies.client(Peer::Tcp(peer.parse().unwrap()), &headers).0.unwrap().to_string()
    }

    #[test]
    fn only_trusted_proxies_are_believed() {
        assert_eq!(client("203.0.113.9:1", &["1.2.3.4"]), "203.0.113.9");
        assert_eq!(client("10.0.0.1:1", &["6.6.6.6, 1.2.3.4, 10.2.2.2"]), "1.2.3.4");
        assert_eq!(client("10.0.0.1:1", &["6.6.6.6", "1.2.3.4:5678", "192.0.2.1"]), "1.2.3.4");
        assert_eq!(client("[::ffff:10.0.0.1]:1", &["[2001:db8::1]:443"]), "2001:db8::1");
        assert_eq!(client("[fd00::1]:1", &["1.2.3.4, unknown"]), "fd00::1");
        assert_eq!(client("10.0.0.1:1", &[]), "10.0.0.1");
        assert_eq!(client("10.0.0.1:1", &["10.0.0.3, 10.0.0.2"]), "10.0.0.3");
    }

    #[test]
    fn blocks_are_read_strictly() {
        for text in ["10.0.0.0/33", "10.0.0.1/8", "10.0.0.0/+8", "10.0.0.0/", "ten/8", "fd00::/129", ""] {
            assert_eq!(text.parse::<Cidr>(), Err(InvalidCidr(text.to_owned())), "{text}");
        }
        let all = |block: &str| TrustedProxies::new([block.parse().unwrap()]);
        assert!(all("0.0.0.0/0").trusts("8.8.8.8".parse().unwrap()));
        assert!(!all("0.0.0.0/0").trusts("::1".parse().unwrap()));
        assert!(all("::/0").trusts("8.8.8.8".parse().unwrap()));
    }
}
