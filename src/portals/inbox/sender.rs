//! Senders: whether an SMS comes from who a recipe expects.
//!
//! The same number is written in many ways (`1588-1234`, `+82 10-1234-5678`, `010 1234 5678`); a name is compared without
//! regard to case. A sender is easily forged: this keeps chatter out, it proves nothing.

/// The shortest national number that may be recognised inside an international one.
const NATIONAL: usize = 7;

/// The letters and digits of a sender, with the `+` of an international number.
pub(super) fn plain(sender: &str) -> String {
    let sender = sender.trim();
    let kept: String = sender.chars().filter(|c| c.is_alphanumeric()).flat_map(char::to_lowercase).collect();
    match kept.strip_prefix("00") {
        Some(rest) if digits(&kept) => format!("+{rest}"),
        _ if sender.starts_with('+') => format!("+{kept}"),
        _ => kept,
    }
}

/// Whether `from` is one of `senders`; without any, everybody is.
pub fn allowed(from: &str, senders: &[String]) -> bool {
    let from = plain(from);
    senders.is_empty() || senders.iter().map(|sender| plain(sender)).any(|sender| same(&from, &sender))
}

fn same(a: &str, b: &str) -> bool {
    a == b || within(a, b) || within(b, a)
}

/// Whether `international` is `national` with a country code of one to three digits in place of the leading zero.
fn within(international: &str, national: &str) -> bool {
    let Some(whole) = international.strip_prefix('+') else { return false };
    let number = national.strip_prefix('0').unwrap_or(national);
    digits(national)
        && number.len() >= NATIONAL
        && whole.strip_suffix(number).is_some_and(|country| (1..=3).contains(&country.len()))
}

fn digits(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    #[test]
    fn one_number_is_one_sender_however_written() {
        let allowed = |from: &str, sender: &str| super::allowed(from, &[sender.to_owned()]);
        for from in ["15881234", "1588-1234", " 1588 1234", "+8215881234"] {
            assert!(allowed(from, "1588-1234"), "{from}");
        }
        for from in ["01012345678", "+82 10-1234-5678", "0082 10 1234 5678"] {
            assert!(allowed(from, "010-1234-5678") && allowed(from, "+821012345678"), "{from}");
        }
        assert!(allowed("ACME", "Acme") && allowed("부릉", "부릉"));
        assert!(super::allowed("anybody", &[]));
        for (from, sender) in [("15881235", "15881234"), ("915881234", "15881234"), ("+1114", "114"), ("", "15881234")]
        {
            assert!(!allowed(from, sender), "{from}");
        }
    }
}
