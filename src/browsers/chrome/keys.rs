//! Keys that a recipe can press, as the browser wants them described.

use std::str::FromStr;

use headless_chrome::protocol::cdp::Input::{DispatchKeyEvent, DispatchKeyEventTypeOption as Stroke};

/// A key on the keyboard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are on the keys")]
pub enum Key {
    Enter,
    Tab,
    Escape,
    Backspace,
    Delete,
    Space,
    ArrowUp,
    ArrowDown,
    ArrowLeft,
    ArrowRight,
    Home,
    End,
    PageUp,
    PageDown,
}

/// All keys with the name that DOM events and recipes use, and the Windows key code that older pages read.
const KEYS: [(Key, &str, u32); 14] = [
    (Key::Enter, "Enter", 13),
    (Key::Tab, "Tab", 9),
    (Key::Escape, "Escape", 27),
    (Key::Backspace, "Backspace", 8),
    (Key::Delete, "Delete", 46),
    (Key::Space, "Space", 32),
    (Key::ArrowUp, "ArrowUp", 38),
    (Key::ArrowDown, "ArrowDown", 40),
    (Key::ArrowLeft, "ArrowLeft", 37),
    (Key::ArrowRight, "ArrowRight", 39),
    (Key::Home, "Home", 36),
    (Key::End, "End", 35),
    (Key::PageUp, "PageUp", 33),
    (Key::PageDown, "PageDown", 34),
];

/// No key has that name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "unknown key {0:?}; known are Enter, Tab, Escape, Backspace, Delete, Space, Arrow…, Home, End, PageUp, PageDown"
)]
pub struct UnknownKey(pub String);

impl FromStr for Key {
    type Err = UnknownKey;

    fn from_str(name: &str) -> Result<Self, UnknownKey> {
        let found = KEYS.iter().find(|(_, known, _)| known.eq_ignore_ascii_case(name));
        found.map(|(key, ..)| *key).ok_or_else(|| UnknownKey(name.to_owned()))
    }
}

impl Key {
    /// The two strokes of pressing this key once.
    pub(super) fn strokes(self) -> [DispatchKeyEvent; 2] {
        let (code, number) =
            KEYS.iter().find(|(key, ..)| *key == self).map_or(("", 0), |(_, code, number)| (*code, *number));
        // The text is what makes Enter submit a form and Space tick a box.
        let (key, text) = match self {
            Self::Enter => (code, Some("\r")),
            Self::Space => (" ", Some(" ")),
            _ => (code, None),
        };
        let stroke = |kind, text: Option<&str>| DispatchKeyEvent {
            Type: kind,
            modifiers: None,
            timestamp: None,
            text: text.map(Into::into),
            unmodified_text: text.map(Into::into),
            key_identifier: None,
            code: Some(code.into()),
            key: Some(key.into()),
            windows_virtual_key_code: Some(number),
            native_virtual_key_code: None,
            auto_repeat: None,
            is_keypad: None,
            is_system_key: None,
            location: None,
            commands: None,
        };
        let down = if text.is_some() { Stroke::KeyDown } else { Stroke::RawKeyDown };
        [stroke(down, text), stroke(Stroke::KeyUp, None)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_found_by_name_whatever_the_case() {
        assert_eq!("enter".parse(), Ok(Key::Enter));
        assert_eq!("ArrowDown".parse(), Ok(Key::ArrowDown));
        assert!("Any".parse::<Key>().is_err());
        assert!(KEYS.iter().all(|(key, name, _)| name.parse() == Ok(*key)));
    }
}
