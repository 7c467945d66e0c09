//! Codes of an authenticator app: RFC 6238 with the parameters that all such apps share, SHA-1, 30 s, six digits.

use std::time::Duration;

use zeroize::Zeroizing;

use crate::clock::Time;
use crate::secret::{self, Secret};

/// How long a code counts.
const STEP: Duration = Duration::from_secs(30);
/// A code that ends sooner than this is not typed any more: the page and the portal need a moment too.
const MARGIN: Duration = Duration::from_secs(3);
/// Ten to the number of digits.
const MODULUS: u32 = 1_000_000;

/// The key that the portal and the app share.
pub(super) struct Key(Zeroizing<Vec<u8>>);

impl Key {
    /// Reads the base32 text that the portal showed; None when it is none.
    pub(super) fn new(text: &Secret) -> Option<Self> {
        secret::base32(text.expose()).map(Self)
    }

    /// The code that counts at `now`.
    pub(super) fn code(&self, now: Time) -> Secret {
        let counter = now.as_millis() / step();
        let tag = secret::hmac_sha1(&self.0, &counter.to_be_bytes());
        // RFC 4226, 5.3: the last four bits say where in the tag the number begins.
        let offset = usize::from(tag[19] & 0xf);
        let number = tag[offset..offset + 4].iter().fold(0_u32, |number, byte| number << 8 | u32::from(*byte));
        Secret::new(format!("{:06}", (number & 0x7fff_ffff) % MODULUS))
    }
}

/// When a code is worth typing: now, or at the beginning of the next one if the present one is about to end.
pub(super) fn good_from(now: Time) -> Time {
    let left = Duration::from_millis(step() - now.as_millis() % step());
    if left < MARGIN { now + left } else { now }
}

const fn step() -> u64 {
    STEP.as_secs() * 1000
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Time {
        Time::from_millis(seconds * 1000)
    }

    #[test]
    fn codes_are_those_of_the_rfc() {
        // RFC 6238, appendix B, SHA-1; its key is the text 12345678901234567890, its codes have eight digits.
        let key = Key::new(&Secret::new("gezd gnbv gy3t qojq GEZD-GNBV-GY3T-QOJQ====")).unwrap();
        for (seconds, code) in [
            (59, "287082"),
            (1_111_111_109, "081804"),
            (1_111_111_111, "050471"),
            (1_234_567_890, "005924"),
            (2_000_000_000, "279037"),
            (20_000_000_000, "353130"),
        ] {
            assert_eq!(key.code(at(seconds)).expose(), code, "{seconds}");
        }
        assert!(Key::new(&Secret::new("not base32!")).is_none() && Key::new(&Secret::new("")).is_none());
    }

    #[test]
    fn a_code_that_is_about_to_end_is_left_out() {
        assert_eq!(good_from(at(30)), at(30));
        assert_eq!(good_from(at(56)), at(56));
        assert_eq!(good_from(at(58)), at(60));
    }
}
