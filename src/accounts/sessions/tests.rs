//! Sessions and refresh tokens as they live in a record.

use std::path::Path;
use std::sync::Arc;

use super::*;
use crate::secret::Vault;

const SECOND: Duration = Duration::from_secs(1);
const USER: Uuid = Uuid::from_bytes([7; 16]);
const START: Time = Time::from_millis(1_800_000_000_000);

/// A user's sessions, as a record would hold them.
struct Desk {
    sessions: Vec<LoginSession>,
    random: Random,
    mint: Mint,
    limits: Limits,
    now: Time,
}

impl Desk {
    fn new() -> Self {
        let vault = Vault::from_hex(&"ab".repeat(32), Path::new("test")).unwrap();
        let limits = Limits { session_ttl: 86_400 * SECOND, idle_ttl: 28_800 * SECOND, refresh_grace: 10 * SECOND };
        let (random, mint) = (Random::seeded(3), Mint::new(Arc::new(vault)));
        Self { sessions: Vec::new(), random, mint, limits, now: START }
    }

    fn log_in(&mut self) -> Begun {
        let draft = Draft::new(&self.random, Device::new(None, "Firefox"));
        begin(&mut self.sessions, &draft, USER, self.now, &self.limits, &self.mint)
    }

    fn refresh(&mut self, token: &Secret) -> Turn {
        let presented = self.mint.read(token.expose()).unwrap();
        let fresh = Fresh::draw(&self.random);
        refresh(&mut self.sessions, &presented, &fresh, self.now, &self.limits, &self.mint)
    }

    fn next(&mut self, token: &Secret) -> Secret {
        let Turn::Next { refresh } = self.refresh(token) else { panic!("no successor") };
        refresh
    }
}

#[test]
fn a_replay_within_the_grace_gets_the_same_successor_and_a_later_one_ends_the_session() {
    let mut desk = Desk::new();
    let first = desk.log_in().refresh;
    let second = desk.next(&first);
    assert_ne!(first, second);
    desk.now = desk.now + 10 * SECOND;
    assert_eq!(desk.refresh(&first), Turn::Same { refresh: second.clone() });
    desk.now = desk.now + Duration::from_millis(1);
    assert_eq!(desk.refresh(&first), Turn::Replayed);
    assert!(desk.sessions.is_empty());
    assert_eq!(desk.refresh(&second), Turn::Over, "the whole family is gone");
}

#[test]
fn a_replay_gets_its_own_successor_also_when_that_was_used_meanwhile() {
    let mut desk = Desk::new();
    let first = desk.log_in().refresh;
    let second = desk.next(&first);
    let third = desk.next(&second);
    assert_eq!(desk.refresh(&first), Turn::Same { refresh: second.clone() });
    assert_eq!(desk.refresh(&second), Turn::Same { refresh: third.clone() });
    assert!(matches!(desk.refresh(&third), Turn::Next { .. }));
}

#[test]
fn the_oldest_token_of_a_long_family_is_still_known_as_a_replay() {
    let mut desk = Desk::new();
    let first = desk.log_in().refresh;
    let mut token = first.clone();
    for _ in 0..100 {
        desk.now = desk.now + 60 * SECOND;
        token = desk.next(&token);
    }
    let size = serde_json::to_vec(&desk.sessions).unwrap().len();
    assert!(size < 4096, "the family is not kept: {size} bytes");
    assert_eq!(desk.refresh(&first), Turn::Replayed);
}

#[test]
fn a_clock_that_is_set_back_does_not_open_the_grace_again() {
    let mut desk = Desk::new();
    let first = desk.log_in().refresh;
    desk.now = desk.now + 3600 * SECOND;
    desk.next(&first);
    desk.now = START;
    assert_eq!(desk.refresh(&first), Turn::Replayed);
}

#[test]
fn a_made_up_or_changed_token_ends_nothing() {
    let mut desk = Desk::new();
    let token = desk.log_in().refresh;
    let text = token.expose();
    assert_eq!(text.len(), 122);
    let stranger =
        Desk { mint: Mint::new(Arc::new(Vault::from_hex(&"cd".repeat(32), Path::new("t")).unwrap())), ..Desk::new() };
    assert_eq!(stranger.mint.read(text), None, "another store's token");
    for at in 0..text.len() {
        let mut bytes = text.as_bytes().to_vec();
        bytes[at] = if bytes[at] == b'A' { b'B' } else { b'A' };
        assert_eq!(desk.mint.read(std::str::from_utf8(&bytes).unwrap()), None, "byte {at}");
        assert_eq!(desk.mint.read(&text[..at]), None, "cut at {at}");
    }
    for other in ["", "npr_", "npt_a2b3c4d5_x", "한국어", &format!("{text}A"), &format!("{text}==")] {
        assert_eq!(desk.mint.read(other), None, "{other}");
    }
    assert!(matches!(desk.refresh(&token), Turn::Next { .. }));
}

#[test]
fn a_session_ends_after_its_day_however_much_it_is_used_and_earlier_when_it_is_not() {
    let mut desk = Desk::new();
    let (mut busy, idle) = (desk.log_in().refresh, desk.log_in().refresh);
    for _ in 0..23 {
        desk.now = desk.now + 3600 * SECOND;
        busy = desk.next(&busy);
    }
    assert_eq!(desk.refresh(&idle), Turn::Over, "eight hours without use");
    desk.now = START + desk.limits.session_ttl - Duration::from_millis(1);
    busy = desk.next(&busy);
    desk.now = desk.now + Duration::from_millis(1);
    assert_eq!(desk.refresh(&busy), Turn::Over);
}

#[test]
fn of_too_many_the_one_that_was_idle_for_longest_makes_room_and_ended_ones_leave() {
    let mut desk = Desk::new();
    let first = desk.log_in();
    desk.now = desk.now + SECOND;
    let second = desk.log_in();
    desk.now = desk.now + SECOND;
    desk.next(&first.refresh);
    for _ in 2..=MAX {
        desk.log_in();
    }
    assert_eq!(desk.sessions.len(), MAX);
    assert!(desk.sessions.iter().any(|session| session.id == first.id), "the first was refreshed");
    assert!(desk.sessions.iter().all(|session| session.id != second.id));
    let full = serde_json::to_vec(&desk.sessions).unwrap().len();
    assert!(full < 48 * 1024, "{full} bytes");
    desk.now = desk.now + desk.limits.session_ttl;
    desk.log_in();
    assert_eq!(desk.sessions.len(), 1);
}

#[test]
fn ids_are_128_bits_and_read_in_one_form_only() {
    let id = SessionId::draw(&Random::seeded(1));
    let text = id.to_string();
    assert_eq!((text.len(), text.parse()), (32, Ok(id)));
    for bad in ["", "00", &text.to_uppercase(), &format!("{text}00"), &format!(" {text}"), &"g".repeat(32)] {
        assert_eq!(bad.parse::<SessionId>(), Err(InvalidSessionId), "{bad}");
    }
}

#[test]
fn a_device_shows_no_control_characters_and_keeps_whole_letters() {
    let device = Device::new(None, &format!("\u{1b}[31m{}", "가".repeat(200)));
    assert!(device.agent.len() <= MAX_AGENT && !device.agent.contains('\u{1b}') && device.agent.ends_with('가'));
}
