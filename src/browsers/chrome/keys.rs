//! Keys that a recipe can press, as the browser wants them described.

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

impl Key {
    /// Every key by the name that DOM events and recipes use.
    pub const NAMES: &'static [(&'static str, Self)] = &[
        ("Enter", Self::Enter),
        ("Tab", Self::Tab),
        ("Escape", Self::Escape),
        ("Backspace", Self::Backspace),
        ("Delete", Self::Delete),
        ("Space", Self::Space),
        ("ArrowUp", Self::ArrowUp),
        ("ArrowDown", Self::ArrowDown),
        ("ArrowLeft", Self::ArrowLeft),
        ("ArrowRight", Self::ArrowRight),
        ("Home", Self::Home),
        ("End", Self::End),
        ("PageUp", Self::PageUp),
        ("PageDown", Self::PageDown),
    ];

    /// The Windows key code, which older pages read.
    const fn number(self) -> u32 {
        match self {
            Self::Enter => 13,
            Self::Tab => 9,
            Self::Escape => 27,
            Self::Backspace => 8,
            Self::Delete => 46,
            Self::Space => 32,
            Self::ArrowUp => 38,
            Self::ArrowDown => 40,
            Self::ArrowLeft => 37,
            Self::ArrowRight => 39,
            Self::Home => 36,
            Self::End => 35,
            Self::PageUp => 33,
            Self::PageDown => 34,
        }
    }

    /// The two strokes of pressing this key once.
    pub(super) fn strokes(self) -> [DispatchKeyEvent; 2] {
        let (code, _) = Self::NAMES.iter().find(|(_, key)| *key == self).copied().unwrap_or(("", self));
        let number = self.number();
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
    fn every_key_has_its_name_and_enter_and_space_carry_text() {
        for (name, key) in Key::NAMES {
            let [down, up] = key.strokes();
            assert_eq!((down.code.as_deref(), up.code.as_deref()), (Some(*name), Some(*name)));
            assert_eq!(down.text.is_some(), matches!(key, Key::Enter | Key::Space), "{name}");
        }
    }
}
