//! Where connections come from: TCP, TCP with TLS, or a Unix socket. Accepts; serving is the server's part.

use std::io;
use std::net::{self, SocketAddr};
use std::os::unix;

use tokio::net::{TcpListener, UnixListener};
use tokio_rustls::TlsAcceptor;

use super::client::Peer;
use super::tls::Tls;

/// A bound socket of any of the three kinds.
#[derive(Debug)]
pub enum Listener {
    /// Plain TCP.
    Tcp(TcpListener),
    /// TCP with TLS from the first byte.
    Tls(TcpListener, Tls),
    /// A Unix socket; the caller made the file and its permissions.
    Unix(UnixListener),
}

/// A connection before its first byte, of no runtime yet; the TLS handshake is still to be done, on the connection's own task.
pub(super) enum Accepted {
    Tcp(net::TcpStream),
    Tls(net::TcpStream, TlsAcceptor),
    Unix(unix::net::UnixStream),
}

impl Listener {
    /// The TCP address bound, which tells the port where 0 was asked for; `None` for a Unix socket.
    pub fn address(&self) -> Option<SocketAddr> {
        match self {
            Self::Tcp(listener) | Self::Tls(listener, _) => listener.local_addr().ok(),
            Self::Unix(_) => None,
        }
    }

    pub(super) async fn accept(&self) -> io::Result<(Accepted, Peer)> {
        match self {
            Self::Tcp(listener) => {
                let (stream, peer) = accept_tcp(listener).await?;
                Ok((Accepted::Tcp(stream), peer))
            }
            Self::Tls(listener, tls) => {
                let (stream, peer) = accept_tcp(listener).await?;
                Ok((Accepted::Tls(stream, tls.acceptor()), peer))
            }
            Self::Unix(listener) => {
                let (stream, _) = listener.accept().await?;
                let credentials = stream.peer_cred()?;
                let peer = Peer::Unix { uid: credentials.uid(), pid: credentials.pid() };
                Ok((Accepted::Unix(stream.into_std()?), peer))
            }
        }
    }
}

async fn accept_tcp(listener: &TcpListener) -> io::Result<(net::TcpStream, Peer)> {
    let (stream, peer) = listener.accept().await?;
    // Answers are written whole; waiting to fill a segment would only delay them. Failing means the peer has gone.
    let _ = stream.set_nodelay(true);
    Ok((stream.into_std()?, Peer::Tcp(peer)))
}
