//! Refresh tokens: each gets one access token and its own successor. A second use within the grace gets the same
//! successor, because answers are lost and tabs ask at once; a later one means that two hold the token.
//!
//! A token is `npr_` and 120 characters: user, session, generation, 32 random bytes, and a tag of the store's key over
//! all of them. The tag is looked at first: what is made up costs no look into the store, and cannot pass for an old token
//! and end somebody's session. The record keeps hashes; a successor rests there sealed for as long as the grace.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use uuid::Uuid;
use zeroize::Zeroizing;

use super::sessions::SessionId;
use crate::clock::Time;
use crate::ids::Random;
use crate::secret::{Secret, Vault, VaultError, same};

/// What every refresh token begins with.
const PREFIX: &str = "npr_";
/// Replaced tokens that still get their successors: more than four rotations within the grace are nobody's habit.
const MAX_REPLACED: usize = 4;

const BODY: usize = 16 + 16 + 8 + 32;
const TAG: usize = 16;

/// Makes refresh tokens and tells its own from others.
#[derive(Clone, Debug)]
pub(super) struct Mint(Arc<Vault>);

/// The secret of a token that is about to be made: drawn before the closure that may make it.
pub(super) struct Fresh(Zeroizing<[u8; 32]>);

impl std::fmt::Debug for Fresh {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Fresh")
    }
}

impl Fresh {
    /// Draws one.
    pub(super) fn draw(random: &Random) -> Self {
        Self(Zeroizing::new(random.bytes()))
    }
}

/// A token that we made, whether or not it is still good.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Presented {
    user: Uuid,
    session: SessionId,
    generation: u64,
    hash: [u8; 32],
}

impl std::fmt::Debug for Presented {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { user, session, generation, .. } = self;
        write!(f, "generation {generation} of session {session} of user {user}")
    }
}

impl Presented {
    /// Whose it is.
    pub(super) const fn user(&self) -> Uuid {
        self.user
    }

    /// Of which session.
    pub(super) const fn session(&self) -> SessionId {
        self.session
    }
}

/// What a session's record knows of its tokens.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Chain {
    generation: u64,
    /// Recognises the one token that is good.
    current: [u8; 32],
    /// The latest that were good, newest last.
    replaced: Vec<Replaced>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Replaced {
    hash: [u8; 32],
    at: Time,
    /// The successor's text, sealed.
    successor: Vec<u8>,
}

/// What became of a token that was presented.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Turn {
    /// It was good; this is its successor.
    Next {
        /// The new token.
        refresh: Secret,
    },
    /// It was used within the grace; this is what it got then.
    Same {
        /// The same token as then.
        refresh: Secret,
    },
    /// It was used before, and not just now: the session is ended.
    Replayed,
    /// Its session is over.
    Over,
}

impl Mint {
    /// A mint that stamps with the key of `vault`.
    pub(super) const fn new(vault: Arc<Vault>) -> Self {
        Self(vault)
    }

    /// Reads a token; None when it is none of ours.
    pub(super) fn read(&self, text: &str) -> Option<Presented> {
        let bytes = Zeroizing::new(data_encoding::BASE64URL_NOPAD.decode(text.strip_prefix(PREFIX)?.as_bytes()).ok()?);
        let (body, tag) = bytes.split_at_checked(BODY)?;
        if !same(tag, &self.tag(body)) {
            return None;
        }
        let (user, rest) = body.split_first_chunk::<16>()?;
        let (session, rest) = rest.split_first_chunk::<16>()?;
        let generation = u64::from_be_bytes(*rest.first_chunk::<8>()?);
        let (user, session) = (Uuid::from_bytes(*user), SessionId::from_bytes(*session));
        Some(Presented { user, session, generation, hash: self.hash(text) })
    }

    /// The first token of a session, and what its record is to know of it.
    pub(super) fn first(&self, user: Uuid, session: SessionId, fresh: &Fresh) -> (Secret, Chain) {
        let text = self.text(user, session, 0, fresh);
        let chain = Chain { generation: 0, current: self.hash(text.expose()), replaced: Vec::new() };
        (text, chain)
    }

    fn text(&self, user: Uuid, session: SessionId, generation: u64, fresh: &Fresh) -> Secret {
        let mut bytes = Zeroizing::new(Vec::with_capacity(BODY + TAG));
        bytes.extend_from_slice(user.as_bytes());
        bytes.extend_from_slice(session.as_bytes());
        bytes.extend_from_slice(&generation.to_be_bytes());
        bytes.extend_from_slice(&*fresh.0);
        let tag = self.tag(&bytes);
        bytes.extend_from_slice(&tag);
        Secret::new(format!("{PREFIX}{}", &*Zeroizing::new(data_encoding::BASE64URL_NOPAD.encode(&bytes))))
    }

    fn tag(&self, body: &[u8]) -> [u8; TAG] {
        let mut tag = [0; TAG];
        tag.copy_from_slice(&self.0.fingerprint(&[b"refresh token", body])[..TAG]);
        tag
    }

    fn hash(&self, text: &str) -> [u8; 32] {
        self.0.fingerprint(&[b"refresh token kept", text.as_bytes()])
    }

    fn seal(&self, session: SessionId, text: &Secret) -> Result<Vec<u8>, VaultError> {
        self.0.seal(&context(session), text.expose().as_bytes())
    }

    fn open(&self, session: SessionId, sealed: &[u8]) -> Option<Secret> {
        let text = self.0.open(&context(session), sealed).ok()?;
        Some(Secret::new(std::str::from_utf8(&text).ok()?))
    }
}

impl Chain {
    /// Takes `presented`. A successor that does not open again (another store key) counts as over: log in again.
    pub(super) fn turn(
        &mut self,
        presented: &Presented,
        fresh: &Fresh,
        now: Time,
        grace: Duration,
        mint: &Mint,
    ) -> Turn {
        let Presented { user, session, generation, hash: shown } = *presented;
        if same(&shown, &self.current) {
            let refresh = mint.text(user, session, generation + 1, fresh);
            let Ok(successor) = mint.seal(session, &refresh) else { return Turn::Over };
            self.replaced.retain(|replaced| within(replaced.at, now, grace));
            if self.replaced.len() >= MAX_REPLACED {
                self.replaced.remove(0);
            }
            self.replaced.push(Replaced { hash: shown, at: now, successor });
            (self.generation, self.current) = (generation + 1, mint.hash(refresh.expose()));
            return Turn::Next { refresh };
        }
        let replaced = self.replaced.iter().find(|replaced| same(&replaced.hash, &shown));
        match replaced.filter(|replaced| within(replaced.at, now, grace)) {
            Some(replaced) => {
                mint.open(session, &replaced.successor).map_or(Turn::Over, |refresh| Turn::Same { refresh })
            }
            // Ours, of this session, and of an earlier turn.
            None if generation <= self.generation => Turn::Replayed,
            // From after a restored snapshot: the record is older than the token.
            None => Turn::Over,
        }
    }
}

/// Whether `now` is within `grace` of `at`, on either side: the clock may have been set back.
fn within(at: Time, now: Time, grace: Duration) -> bool {
    now.since(at) <= grace && at.since(now) <= grace
}

fn context(session: SessionId) -> String {
    format!("accounts/refresh/{session}")
}
