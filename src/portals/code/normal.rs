//! The form of a text in which codes are looked for.
//!
//! NFKC first: full-width and other stylish digits become ASCII, spaces of all kinds plain ones, Korean that came apart into
//! letters whole again. Then what has no width goes, and brackets and dashes become one kind each. Lines stay lines: one of
//! them may be domain-bound.

use icu_normalizer::ComposingNormalizerBorrowed;

/// The text in plain form, without blanks at either end.
pub(super) fn form(text: &str) -> String {
    // A full-width comma ends a clause; as a plain one it would join "204817，5" to one number.
    let text = text.replace('，', ", ").replace("\r\n", "\n");
    let plain: String = ComposingNormalizerBorrowed::new_nfkc().normalize(&text).chars().filter_map(plain).collect();
    plain.trim().to_owned()
}

fn plain(c: char) -> Option<char> {
    match c {
        '\u{3010}' | '\u{3014}' | '\u{300C}' | '\u{300E}' => Some('['),
        '\u{3011}' | '\u{3015}' | '\u{300D}' | '\u{300F}' => Some(']'),
        '\u{2010}'..='\u{2015}' | '\u{2212}' => Some('-'),
        '\n' | '\r' | '\u{2028}' | '\u{2029}' => Some('\n'),
        '\u{00AD}' | '\u{200B}'..='\u{200F}' | '\u{202A}'..='\u{202E}' | '\u{2060}'..='\u{2069}' | '\u{FEFF}' => None,
        // They choose how the character before them is drawn.
        '\u{FE00}'..='\u{FE0F}' => None,
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
        assert_eq!(form("코드\u{a0}【𝟏𝟐𝟑】\r끝"), "코드 [123]\n끝");
        assert_eq!(form("验证码204817，5分钟"), "验证码204817, 5分钟");
    }

    #[test]
    fn korean_in_pieces_is_put_together() {
        assert_eq!(form("\u{110B}\u{1175}\u{11AB}\u{110C}\u{1173}\u{11BC} 1"), "인증 1");
    }
}
