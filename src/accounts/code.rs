//! Codes that were sent by mail: six digits, five tries, a moment at which they end. Kept as an HMAC whose key is not in the
//! database: a copy of it does not tell them, though there are only a million. The digits themselves are only in the mail.

use serde::{Deserialize, Serialize};

use crate::clock::Time;
use crate::ids::Random;
use crate::secret::{Secret, Vault, same};

/// The digits of a code.
pub(super) const DIGITS: usize = 6;
/// Wrong guesses that a code takes.
pub(super) const TRIES: u8 = 5;

/// What a code is for; one for one thing is none for another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    Registration,
    Login,
    Reset,
}

/// A code without its digits.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Code {
    print: [u8; 32],
    pub(super) tries: u8,
    pub(super) expires_at: Time,
}

/// The fingerprint of the digits that somebody has typed, or that are about to be sent.
#[derive(Clone, Copy, Debug)]
pub(super) struct Print([u8; 32]);

impl Print {
    /// Of `digits` for an account, and for one registration of it.
    pub(super) fn of(vault: &Vault, purpose: Purpose, account: &str, ticket: &str, digits: &Secret) -> Self {
        let purpose: &[u8] = match purpose {
            Purpose::Registration => b"account code: registration",
            Purpose::Login => b"account code: login",
            Purpose::Reset => b"account code: reset",
        };
        Self(vault.fingerprint(&[purpose, account.as_bytes(), ticket.as_bytes(), digits.expose().as_bytes()]))
    }
}

/// New digits.
pub(super) fn draw(random: &Random) -> Secret {
    Secret::new(random.code(DIGITS))
}

/// Whether `text` can be a code at all; what cannot is no guess.
pub(super) fn is_code(text: &str) -> bool {
    text.len() == DIGITS && text.bytes().all(|byte| byte.is_ascii_digit())
}

impl Code {
    pub(super) fn new(print: Print, expires_at: Time) -> Self {
        Self { print: print.0, tries: TRIES, expires_at }
    }

    /// Other digits in place of these; the tries stay as they are.
    pub(super) fn renew(&mut self, print: Print, expires_at: Time) {
        *self = Self { tries: self.tries, ..Self::new(print, expires_at) };
    }

    /// Whether `print` is this code's.
    pub(super) fn is(&self, print: Print) -> bool {
        same(&self.print, &print.0)
    }

    /// Judges a guess with one of this code's tries; None: it has none.
    pub(super) fn guess(&mut self, print: Print) -> Option<bool> {
        let right = self.is(print);
        guess(&mut self.tries, right)
    }
}

/// Judges a guess with one of `tries`, of which a wrong one is gone; None: there is none, so that it counts for nothing.
pub(super) fn guess(tries: &mut u8, right: bool) -> Option<bool> {
    let left = tries.checked_sub(1)?;
    if !right {
        *tries = left;
    }
    Some(right)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn five_wrong_guesses_are_judged_and_no_more() {
        let vault = Vault::from_hex(&"ab".repeat(32), Path::new("test")).unwrap();
        let print =
            |purpose, account, ticket, digits| Print::of(&vault, purpose, account, ticket, &Secret::new(digits));
        let right = print(Purpose::Login, "a", "", "123456");
        let mut code = Code::new(right, Time::from_millis(1));
        for wrong in [
            print(Purpose::Reset, "a", "", "123456"),
            print(Purpose::Login, "b", "", "123456"),
            print(Purpose::Login, "a", "t", "123456"),
            print(Purpose::Login, "a", "", "123457"),
        ] {
            assert_eq!(code.guess(wrong), Some(false));
        }
        assert_eq!(code.guess(right), Some(true));
        assert_eq!(code.guess(print(Purpose::Login, "a", "", "000000")), Some(false));
        assert_eq!(code.guess(right), None);
        code.renew(right, Time::from_millis(2));
        assert_eq!(code.guess(right), None, "other digits bring no tries");
    }

    #[test]
    fn only_six_ascii_digits_are_a_guess() {
        assert!(is_code("000000"));
        for bad in ["", "12345", "1234567", "12345a", "１２３４５６", " 12345", "12345\n"] {
            assert!(!is_code(bad), "{bad}");
        }
    }
}
