//! Addresses in settings: sockets, networks, URLs, mailboxes.
//!
//! A URL that carries a user or a password is refused without being quoted: it would end up in logs.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;
use url::Url;

use super::read::Field;

/// A plain mailbox, `porter@example.com`: ASCII, no display name, no quoting.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Email(String);

impl Email {
    /// Takes `text` if it is a plain mailbox: a dot-separated local part of at most 64 bytes, and a host name.
    pub fn new(text: &str) -> Option<Self> {
        let (local, domain) = text.rsplit_once('@')?;
        let atext = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+/=?^_`{|}~-".contains(&byte);
        let atom = |part: &str| !part.is_empty() && part.bytes().all(atext);
        let good = local.len() <= 64 && local.split('.').all(atom) && is_host_name(domain) && text.len() <= 254;
        good.then(|| Self(text.to_owned()))
    }

    /// The mailbox as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Email {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

fn is_host_name(text: &str) -> bool {
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    text.len() <= 253 && text.split('.').all(label)
}

/// Reads a mailbox.
pub(crate) fn email(field: &Field<'_>) -> Result<Email, String> {
    let text = field.text()?;
    Email::new(text).ok_or_else(|| format!("expected an e-mail address such as ops@example.com, got \"{text}\""))
}

/// Reads an address and port.
pub(crate) fn socket(field: &Field<'_>) -> Result<SocketAddr, String> {
    let text = field.text()?;
    text.parse().map_err(|_| format!("expected an address and port such as 127.0.0.1:8080, got \"{text}\""))
}

/// Reads a network in CIDR form, or a single address.
pub(crate) fn network(field: &Field<'_>) -> Result<IpNet, String> {
    let text = field.text()?;
    let network = text.parse::<IpNet>().or_else(|_| text.parse::<IpAddr>().map(IpNet::from));
    let network = network.map_err(|_| format!("expected a network such as 10.0.0.0/8, got \"{text}\""))?;
    // Host bits left over usually mean that the prefix was mistyped.
    if network.trunc() != network {
        return Err(format!("\"{text}\" has bits beyond its prefix; did you mean {}?", network.trunc()));
    }
    Ok(network)
}

/// Reads an http or https URL without user, password and fragment.
pub(crate) fn web(field: &Field<'_>) -> Result<Url, String> {
    let url: Url = field.text()?.parse().map_err(|error| format!("expected a URL: {error}"))?;
    if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none_or(str::is_empty) {
        return Err("expected a URL that starts with http:// or https://".to_owned());
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err("a URL must not carry a user or a password".to_owned());
    }
    if url.fragment().is_some() {
        return Err("a URL must not carry a fragment (#…)".to_owned());
    }
    Ok(url)
}

/// Reads the origin of a site: scheme, host and port, nothing behind them.
pub(crate) fn origin(field: &Field<'_>) -> Result<Url, String> {
    let url = web(field)?;
    if url.path() != "/" || url.query().is_some() {
        return Err(format!("expected scheme and host only, such as {}", url.origin().ascii_serialization()));
    }
    Ok(url)
}

/// Whether traffic to this host never leaves the machine.
pub(crate) fn is_loopback(host: &str) -> bool {
    let address = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    host == "localhost" || address.is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mailbox_is_plain() {
        for good in ["ops@example.com", "a.b+c@mail.example", "root@localhost", "x@xn--o39a70m.kr"] {
            assert!(Email::new(good).is_some(), "{good}");
        }
        for bad in [
            "ops",
            "@example.com",
            "ops@",
            ".a@b.c",
            "a..b@c.d",
            "Ops <ops@example.com>",
            "a b@c.d",
            "ops@example.com\nBcc: x@y.z",
            "운영@example.com",
            "a@-b.c",
            "a@b..c",
        ] {
            assert!(Email::new(bad).is_none(), "{bad}");
        }
    }
}
