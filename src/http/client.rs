//! Who is at the other end: the peer of the connection, and the client behind trusted proxies. Never an identity: an
//! address may throttle and be logged, it proves nothing.

use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName};
use ipnet::IpNet;

use super::edge::Around;

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

impl ClientIp {
    /// Who sent this request, according to its peer and to the proxies that are trusted.
    pub fn of(parts: &Parts) -> Self {
        match (parts.extensions.get::<Peer>(), parts.extensions.get::<Around>()) {
            (Some(peer), Some(Around(settings))) => settings.trusted_proxies.client(*peer, &parts.headers),
            _ => Self(None),
        }
    }
}

impl<S: Sync> FromRequestParts<S> for ClientIp {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        Ok(Self::of(parts))
    }
}

/// The proxies whose `X-Forwarded-For` counts. `Forwarded` (RFC 7239) is not read: a proxy that sets one but passes a
/// client's other through would be fooled.
#[derive(Clone, Debug, Default)]
pub struct TrustedProxies(Arc<[IpNet]>);

impl TrustedProxies {
    /// Trusts the proxies in these blocks; none by default.
    pub fn new(blocks: impl IntoIterator<Item = IpNet>) -> Self {
        Self(blocks.into_iter().collect())
    }

    fn trusts(&self, address: IpAddr) -> bool {
        self.0.iter().any(|block| block.contains(&address))
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
        let proxies =
            TrustedProxies::new(["10.0.0.0/8", "fd00::/8", "192.0.2.1/32"].map(|block| block.parse().unwrap()));
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
}
