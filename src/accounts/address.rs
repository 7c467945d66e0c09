//! E-mail addresses in their canonical form: whoever may read the mails of one is the account's owner, so two spellings that
//! reach one mailbox are one account, and none that reach different mailboxes ever are. Mails go to the canonical form,
//! never to what was typed: folding look-alikes cannot send another's code to oneself.

use std::fmt;

use idna::uts46::{AsciiDenyList, DnsLength, Hyphens, Uts46};
use serde::{Deserialize, Serialize};

use crate::config::Email;

/// The longest address in bytes: what fits SMTP's path (RFC 5321, erratum 1690).
const LONGEST: usize = 254;

/// A canonical address: ASCII, the local part in lower case, the host name as DNS has it.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Address(String);

/// Why a text is no address that an account can have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidAddress {
    /// It has no `@`, or nothing around it, or characters that no plain address has.
    #[error("expected an e-mail address such as user@example.com")]
    Malformed,
    /// It is too long.
    #[error("an e-mail address has at most {LONGEST} bytes")]
    TooLong,
    /// Spaces, line breaks, null bytes and other control characters.
    #[error("an e-mail address has no spaces and no control characters")]
    Control,
    /// What stands before the `@` is not ASCII, quoted, or has comments.
    #[error("what stands before the @ may be letters of ASCII, digits, dots and !#$%&'*+/=?^_`{{|}}~-")]
    Local,
    /// What stands behind the `@` is no host name.
    #[error("what stands behind the @ is not the name of a host")]
    Domain,
}

impl Address {
    /// The canonical form of `text`.
    ///
    /// Upper and lower case are told apart by no mail server that matters, so ASCII letters before the `@` become lower
    /// case, and no others: Unicode's rules would make `ſ` an `s`. Behind the `@` stands what a browser would look up
    /// (UTS 46), which is the same host however it was written.
    ///
    /// # Errors
    /// [`InvalidAddress`]; quoted local parts and addresses of machines (`user@[192.0.2.1]`) are refused.
    pub fn parse(text: &str) -> Result<Self, InvalidAddress> {
        // Before anything else looks at it: folding a megabyte is work.
        if text.len() > LONGEST {
            return Err(InvalidAddress::TooLong);
        }
        if text.chars().any(|letter| letter.is_control() || letter.is_whitespace()) {
            return Err(InvalidAddress::Control);
        }
        let (local, domain) = text.rsplit_once('@').ok_or(InvalidAddress::Malformed)?;
        if !local.is_ascii() {
            return Err(InvalidAddress::Local);
        }
        let host = Uts46::new()
            .to_ascii(domain.as_bytes(), AsciiDenyList::STD3, Hyphens::Check, DnsLength::Verify)
            .map_err(|_| InvalidAddress::Domain)?;
        // A name that ends in a number is an address of a machine to some resolvers.
        let last = host.rsplit('.').next().unwrap_or_default();
        if last.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(InvalidAddress::Domain);
        }
        let canonical = format!("{}@{host}", local.to_ascii_lowercase());
        if canonical.len() > LONGEST {
            return Err(InvalidAddress::TooLong);
        }
        if Email::new(&canonical).is_none() {
            return Err(InvalidAddress::Local);
        }
        Ok(Self(canonical))
    }

    /// The address as text. Never for a log: an account is named there by its key or its user's id.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Says nothing of the address, so that none reaches a log by accident.
impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[address]")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn canonical(text: &str) -> Result<String, InvalidAddress> {
        Address::parse(text).map(|address| address.0)
    }

    #[test]
    fn spellings_of_one_mailbox_are_one_address() {
        for (typed, one) in [
            ("Minseo.Kim+shop@Example.COM", "minseo.kim+shop@example.com"),
            ("user@ｅｘａｍｐｌｅ.com", "user@example.com"),
            ("user@한국.kr", "user@xn--3e0b707e.kr"),
            ("user@XN--3E0B707E.kr", "user@xn--3e0b707e.kr"),
            ("user@bücher.example", "user@xn--bcher-kva.example"),
            ("o'neil@mail.example", "o'neil@mail.example"),
            ("root@localhost", "root@localhost"),
        ] {
            assert_eq!(canonical(typed).as_deref(), Ok(one), "{typed}");
        }
    }

    #[test]
    fn look_alikes_reach_no_other_address() {
        let victim = canonical("kim@skype.example").unwrap();
        // Cyrillic letters, Turkish and Kelvin's, small capitals, zero width, full width before the @.
        for typed in [
            "kım@skype.example",
            "KİM@skype.example",
            "\u{212a}im@skype.example",
            "кim@skype.example",
            "ｋim@skype.example",
            "k\u{200b}im@skype.example",
            "kim\u{301}@skype.example",
        ] {
            assert_eq!(canonical(typed), Err(InvalidAddress::Local), "{typed}");
        }
        let host = canonical("kim@sкype.example").unwrap();
        assert_ne!(host, victim);
        assert!(host.starts_with("kim@xn--"));
    }

    #[test]
    fn what_is_no_plain_address_is_refused() {
        use InvalidAddress::{Control, Domain, Local, Malformed, TooLong};
        for (bad, why) in [
            ("", Malformed),
            ("kim", Malformed),
            ("kim@a.example\r\nBcc: all@b.example", Control),
            ("kim@a.example\n", Control),
            ("ki\0m@a.example", Control),
            ("kim@a.exa\u{85}mple", Control),
            (" kim@a.example", Control),
            ("k im@a.example", Control),
            ("@a.example", Local),
            ("\"kim\"@a.example", Local),
            ("kim(x)@a.example", Local),
            ("kim..lee@a.example", Local),
            (".kim@a.example", Local),
            ("a@b@c.example", Local),
            ("kim,lee@a.example", Local),
            ("<kim@a.example", Local),
            ("kim@", Domain),
            ("kim@a..example", Domain),
            ("kim@-a.example", Domain),
            ("kim@a_b.example", Domain),
            ("kim@[192.0.2.1]", Domain),
            ("kim@192.0.2.1", Domain),
            ("kim@a.example.", Domain),
            ("kim@a.example>", Domain),
            ("kim@a%2eexample", Domain),
        ] {
            assert_eq!(canonical(bad), Err(why), "{bad:?}");
        }
        let local = "a".repeat(64);
        assert!(canonical(&format!("{local}@a.example")).is_ok());
        assert_eq!(canonical(&format!("a{local}@a.example")), Err(Local));
        let host = |length: usize| [&["a".repeat(63).as_str(); 3].join("."), ".", &"a".repeat(length - 192)].concat();
        assert_eq!(canonical(&format!("{}@{}", "b".repeat(10), host(243))).unwrap().len(), 254);
        assert_eq!(canonical(&format!("{}@{}", "b".repeat(10), host(244))), Err(TooLong));
    }

    #[test]
    fn an_address_does_not_print() {
        assert_eq!(format!("{:?}", Address::parse("kim@a.example").unwrap()), "[address]");
    }
}
