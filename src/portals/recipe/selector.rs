//! A plausibility check for CSS selectors, for the mistakes people make: XPath, an unclosed bracket, `#2fa`.
//!
//! The browser's own parser has the last word at login; this one only keeps a typo from waiting until then.

/// The longest selector, in bytes.
const LONGEST: usize = 1024;

/// Why `text` cannot be a CSS selector, or that it may be one.
pub(super) fn check(text: &str) -> Result<(), String> {
    let trimmed = text.trim();
    if trimmed.is_empty() {
        return Err("a selector must not be empty".to_owned());
    }
    if text.len() > LONGEST {
        return Err(format!("a selector is at most {LONGEST} bytes long"));
    }
    if trimmed.starts_with("//") || trimmed.starts_with("xpath=") {
        return Err("this looks like XPath; a selector is CSS, such as \"form.login input[name=id]\"".to_owned());
    }
    balanced(trimmed)?;
    let ends_open = trimmed.ends_with([',', '>', '+', '~', '#', '.', ':']);
    if ends_open || trimmed.starts_with([',', '>', '+', '~']) {
        return Err(format!("\"{trimmed}\" is not a CSS selector: something is missing at its end or start"));
    }
    Ok(())
}

/// Walks the selector once: quotes and brackets must close in order, and `#` or `.` must be followed by a name.
fn balanced(text: &str) -> Result<(), String> {
    let wrong = |what: &str| Err(format!("\"{text}\" is not a CSS selector: {what}"));
    let mut open = Vec::new();
    let mut chars = text.chars().peekable();
    while let Some(char) = chars.next() {
        match char {
            '\\' if chars.next().is_none() => return wrong("it ends in a backslash"),
            quote @ ('"' | '\'') => {
                let closed = skip_quoted(&mut chars, quote);
                if !closed {
                    return wrong("a quote does not close");
                }
            }
            '(' => open.push(')'),
            '[' => open.push(']'),
            ')' | ']' if open.pop() != Some(char) => return wrong(&format!("\"{char}\" closes nothing")),
            '{' | '}' | ';' | '<' | '@' => return wrong(&format!("\"{char}\" has no place in one")),
            '#' | '.' if open.is_empty() => match chars.peek() {
                Some(next) if next.is_alphabetic() || matches!(next, '_' | '-' | '\\') => {}
                Some(next) if next.is_ascii_digit() => {
                    return wrong(&format!("a name after \"{char}\" must not start with a digit; write [id=\"…\"]"));
                }
                _ => return wrong(&format!("a name is missing after \"{char}\"")),
            },
            control if control.is_control() => return wrong("it holds a control character"),
            _ => {}
        }
    }
    open.pop().map_or(Ok(()), |missing| wrong(&format!("\"{missing}\" is missing")))
}

fn skip_quoted(chars: &mut impl Iterator<Item = char>, quote: char) -> bool {
    while let Some(char) = chars.next() {
        if char == '\\' {
            chars.next();
        } else if char == quote {
            return true;
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn selectors_people_write_pass() {
        for good in [
            "#go",
            ".error",
            "form#login > input[name=\"user[id]\"]:not([disabled])",
            "meta[name=csrf]",
            "a[href*='logout'], button.로그아웃",
            "li:nth-child(2n + 1) ~ .x.y",
            "#\\32 fa",
            "input[value=\"{\"]",
        ] {
            assert_eq!(check(good), Ok(()), "{good}");
        }
    }

    #[test]
    fn mistakes_people_make_are_told() {
        for (bad, reason) in [
            ("", "a selector must not be empty"),
            ("//input", "this looks like XPath; a selector is CSS, such as \"form.login input[name=id]\""),
            ("a[b", "\"a[b\" is not a CSS selector: \"]\" is missing"),
            ("a)", "\"a)\" is not a CSS selector: \")\" closes nothing"),
            ("a[b='c]", "\"a[b='c]\" is not a CSS selector: a quote does not close"),
            (
                "#2fa",
                "\"#2fa\" is not a CSS selector: a name after \"#\" must not start with a digit; write [id=\"…\"]",
            ),
            ("#", "\"#\" is not a CSS selector: a name is missing after \"#\""),
            ("a >", "\"a >\" is not a CSS selector: something is missing at its end or start"),
            ("a { b }", "\"a { b }\" is not a CSS selector: \"{\" has no place in one"),
        ] {
            assert_eq!(check(bad), Err(reason.to_owned()), "{bad}");
        }
    }
}
