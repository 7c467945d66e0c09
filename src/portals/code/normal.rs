//! The form of a text in which codes are looked for.
//!
//! Full-width characters become ASCII (as NFKC would have it), spaces of all kinds become plain ones, and what has no
//! width goes. Lines stay lines: the last one may be domain-bound.

/// The text in plain form, without blanks at either end.
pub(super) fn form(text: &str) -> String {
    let plain: String = text.chars().filter_map(plain).collect();
    plain.replace("\r\n", "\n").replace('\r', "\n").trim().to_owned()
}

fn plain(c: char) -> Option<char> {
    match c {
        // The full-width block mirrors ASCII from '!' on.
        '\u{FF01}'..='\u{FF5E}' => char::from_u32(c as u32 - 0xFEE0),
        '\u{3010}' | '\u{3014}' | '\u{300C}' => Some('['),
        '\u{3011}' | '\u{3015}' | '\u{300D}' => Some(']'),
        '\u{2010}'..='\u{2015}' | '\u{2212}' => Some('-'),
        '\n' | '\r' => Some(c),
        '\u{00AD}' | '\u{200B}'..='\u{200F}' | '\u{202A}'..='\u{202E}' | '\u{2060}'..='\u{2069}' | '\u{FEFF}' => None,
        c if c.is_whitespace() => Some(' '),
        c if c.is_control() => None,
        c => Some(c),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_of_any_width_become_plain_and_lines_stay() {
        assert_eq!(form("\u{FEFF}인증번호：１２３４５６\u{3000}입니다\r\n끝\n\n"), "인증번호:123456 입니다\n끝");
        assert_eq!(form("12\u{200B}3456"), "123456");
    }
}
