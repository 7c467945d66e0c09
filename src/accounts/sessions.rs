//! Device sessions: one for each login, inside the account's own record, so that a login, a logout and a changed password
//! are one change. What is here is pure: it works on the list that a closure of `Store::update` holds, and never asks
//! the store, the clock or the generator.
//!
//! A session ends 24 hours after its login however much it is used, and earlier when it is not: `idle_ttl` counts from the
//! last refresh, because checking an access token writes nothing.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use uuid::Uuid;

use super::refresh::{Chain, Fresh, Mint, Presented, Turn};
use crate::clock::Time;
use crate::ids::Random;
use crate::secret::Secret;

/// Sessions of one account; of more, the one that has been idle for longest makes room.
pub(super) const MAX: usize = 50;
/// The longest name of a program that is kept, in bytes.
pub const MAX_AGENT: usize = 256;

/// The name of a session: 128 random bits, written as 32 hexadecimal digits. Knowing one proves nothing.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionId([u8; 16]);

/// The text is no session id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a session id has 32 hexadecimal digits in lower case")]
pub struct InvalidSessionId;

impl SessionId {
    /// A new one.
    pub fn draw(random: &Random) -> Self {
        Self(random.bytes())
    }

    pub(super) const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    pub(super) const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&data_encoding::HEXLOWER.encode(&self.0))
    }
}

impl fmt::Debug for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for SessionId {
    type Err = InvalidSessionId;

    fn from_str(text: &str) -> Result<Self, InvalidSessionId> {
        let bytes = data_encoding::HEXLOWER.decode(text.as_bytes()).map_err(|_| InvalidSessionId)?;
        bytes.try_into().map(Self).map_err(|_| InvalidSessionId)
    }
}

impl Serialize for SessionId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() { serializer.collect_str(self) } else { self.0.serialize(serializer) }
    }
}

impl<'de> Deserialize<'de> for SessionId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        if deserializer.is_human_readable() {
            let text = std::borrow::Cow::<'_, str>::deserialize(deserializer)?;
            text.parse().map_err(de::Error::custom)
        } else {
            <[u8; 16]>::deserialize(deserializer).map(Self)
        }
    }
}

/// How long sessions live.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// From the login on, whatever happens.
    pub session_ttl: Duration,
    /// From the last refresh on.
    pub idle_ttl: Duration,
    /// How long a refresh token that was used still gets the successor that it got.
    pub refresh_grace: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        let hour = Duration::from_secs(3600);
        Self { session_ttl: 24 * hour, idle_ttl: 8 * hour, refresh_grace: Duration::from_secs(10) }
    }
}

/// Where a request came from, as far as it is known: told to the user, noted in the audit log, never trusted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Device {
    /// The client's address.
    pub ip: Option<IpAddr>,
    /// What its program calls itself, at most [`MAX_AGENT`] bytes.
    pub agent: String,
}

impl Device {
    /// The device at `ip` whose program says that it is `agent`; what is too long is cut, control characters become spaces.
    pub fn new(ip: Option<IpAddr>, agent: &str) -> Self {
        let agent: String = agent.chars().map(|letter| if letter.is_control() { ' ' } else { letter }).collect();
        Self { ip, agent: agent[..agent.floor_char_boundary(MAX_AGENT)].to_owned() }
    }
}

/// A session as the account's record keeps it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LoginSession {
    /// Its name.
    pub id: SessionId,
    /// When somebody logged in.
    pub begun_at: Time,
    /// When it ends at the latest.
    pub ends_at: Time,
    /// When it was last refreshed.
    pub used_at: Time,
    /// With what.
    pub device: Device,
    refresh: Chain,
}

impl LoginSession {
    /// From when on it is over if nobody refreshes it.
    pub fn over_at(&self, limits: &Limits) -> Time {
        self.ends_at.min(self.used_at + limits.idle_ttl)
    }
}

/// A session that is about to begin: drawn before the closure that begins it, which may run again.
#[derive(Debug)]
pub(super) struct Draft {
    id: SessionId,
    fresh: Fresh,
    device: Device,
}

/// A session that has begun.
#[derive(Clone, Debug)]
pub(super) struct Begun {
    /// Its name.
    pub id: SessionId,
    /// When it ends at the latest.
    pub ends_at: Time,
    /// What gets the next access token.
    pub refresh: Secret,
}

impl Draft {
    /// Draws the name and the secret of a session on `device`.
    pub(super) fn new(random: &Random, device: Device) -> Self {
        Self { id: SessionId::draw(random), fresh: Fresh::draw(random), device }
    }
}

/// Begins the session `draft` of `user` in `sessions`, which must be stored then. What is over leaves the list, and with
/// [`MAX`] of them the one that has been idle for longest.
pub(super) fn begin(
    sessions: &mut Vec<LoginSession>,
    draft: &Draft,
    user: Uuid,
    now: Time,
    limits: &Limits,
    mint: &Mint,
) -> Begun {
    sessions.retain(|session| session.over_at(limits) > now);
    if sessions.len() >= MAX
        && let Some((idlest, _)) = sessions.iter().enumerate().min_by_key(|(_, session)| session.used_at)
    {
        sessions.remove(idlest);
    }
    let (text, refresh) = mint.first(user, draft.id, &draft.fresh);
    let ends_at = now + limits.session_ttl;
    let device = draft.device.clone();
    sessions.push(LoginSession { id: draft.id, begun_at: now, ends_at, used_at: now, device, refresh });
    Begun { id: draft.id, ends_at, refresh: text }
}

/// Ends the session `id`; false when there is none that lives.
pub(super) fn end(sessions: &mut Vec<LoginSession>, id: SessionId, now: Time, limits: &Limits) -> bool {
    let before = sessions.iter().any(|session| session.id == id && session.over_at(limits) > now);
    sessions.retain(|session| session.id != id);
    before
}

/// Takes the refresh token `presented` and puts `fresh` in its place, or says why not. A token that was replaced longer
/// than [`Limits::refresh_grace`] ago ends its session: two hold it, and nobody knows which is the thief.
pub(super) fn refresh(
    sessions: &mut Vec<LoginSession>,
    presented: &Presented,
    fresh: &Fresh,
    now: Time,
    limits: &Limits,
    mint: &Mint,
) -> Turn {
    let found = sessions.iter_mut().find(|session| session.id == presented.session());
    let Some(session) = found.filter(|session| session.over_at(limits) > now) else { return Turn::Over };
    let turn = session.refresh.turn(presented, fresh, now, limits.refresh_grace, mint);
    match turn {
        Turn::Next { .. } => session.used_at = now,
        Turn::Replayed => sessions.retain(|session| session.id != presented.session()),
        Turn::Same { .. } | Turn::Over => {}
    }
    turn
}

#[cfg(test)]
mod tests;
