//! Operators and their programs: who may ask for what, proven by a token.
//!
//! A token is told once, when it is made, and kept only as its SHA-256. Making and revoking one takes effect with the
//! next request, because every request reads the record. No token ever reaches a log or an error.

pub mod limits;
pub mod places;
mod scope;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::sync::Mutex;

use crate::clock::{Clock, Time};
use crate::ids::Random;
use crate::secret::{self, Secret};
use crate::store::{Decision, Expires, Kind, Record, Store, StoreError};
pub use scope::{Scope, UnknownScope};

/// What every token begins with, so that scanners for leaked secrets know one.
const PREFIX: &str = "npt_";
/// Random bytes in an id: enough that two never meet, short enough to type.
const ID_BYTES: usize = 5;
/// Random bytes in a token's secret part.
const SECRET_BYTES: usize = 32;
/// Live tokens at once. Every addition looks at all of them.
const MAX_TOKENS: usize = 1000;
/// The longest name, in bytes.
const MAX_NAME: usize = 64;

/// The right to change the set of names, taken among all processes that share the store.
const LEASE: &str = "operator tokens";

/// The tokens; clones share them.
#[derive(Clone, Debug)]
pub struct Operators {
    store: Store,
    clock: Clock,
    random: Random,
    adding: Arc<Mutex<()>>,
}

/// Who a token belongs to and what it allows; handlers find it in the request's extensions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Principal {
    /// The token's id; stable, and safe to log.
    pub id: String,
    /// The name that the operator gave it.
    pub name: String,
    /// What it allows.
    pub scopes: BTreeSet<Scope>,
}

impl Principal {
    /// Whether `scope` is allowed; `admin` allows all.
    pub fn allows(&self, scope: Scope) -> bool {
        self.scopes.contains(&scope) || self.scopes.contains(&Scope::Admin)
    }
}

/// A token as it is shown; never the token itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Token {
    /// The part of the token that names it.
    pub id: String,
    /// The operator's name for it, unique among live tokens.
    pub name: String,
    /// What it allows.
    pub scopes: BTreeSet<Scope>,
    /// When it was made.
    pub created_at: Time,
    /// From when on it is no longer good.
    pub expires_at: Option<Time>,
}

/// A token that was just made: the only moment at which its text is known.
#[derive(Clone, Debug)]
pub struct Added {
    /// What was made.
    pub token: Token,
    /// What the bearer sends.
    pub text: Secret,
}

/// Why tokens could not be changed or read.
#[derive(Debug, thiserror::Error)]
pub enum OperatorError {
    /// The name cannot be one.
    #[error("a token's name has 1 to {MAX_NAME} of the characters A-Z a-z 0-9 . _ -")]
    InvalidName,
    /// A live token has this name.
    #[error("there is a token named {0} already; revoke it first, or choose another name")]
    NameTaken(String),
    /// A token without a scope would allow nothing.
    #[error("a token needs at least one scope")]
    NoScope,
    /// It would have expired at once.
    #[error("a token must live for at least a second")]
    TooShort,
    /// No live token has this name or id.
    #[error("there is no token with the name or id {0}")]
    Unknown(String),
    /// No more tokens fit.
    #[error("there are {MAX_TOKENS} tokens already; revoke some first")]
    TooMany,
    /// Another process that shares the store is adding a token.
    #[error("another process is adding a token; try again")]
    Busy,
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// A token as it is stored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Kept {
    name: String,
    scopes: BTreeSet<Scope>,
    fingerprint: String,
    created_at: Time,
}

/// The kinds of records that are kept here.
pub const KINDS: &[Kind] = &[Kind::of::<Kept>()];

impl Record for Kept {
    const SPACE: &'static str = "operator-token";
    const SCHEMA: u8 = 1;
}

impl Operators {
    /// The tokens in `store`.
    pub fn new(store: Store, clock: Clock, random: Random) -> Self {
        Self { store, clock, random, adding: Arc::default() }
    }

    /// Makes a token named `name` that allows `scopes`, for `lifetime` or for good.
    ///
    /// # Errors
    /// When name, scopes or lifetime cannot be, when a live token has the name, or when the store fails.
    pub async fn add(
        &self,
        name: &str,
        scopes: BTreeSet<Scope>,
        lifetime: Option<Duration>,
    ) -> Result<Added, OperatorError> {
        let good = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
        if name.is_empty() || name.len() > MAX_NAME || !name.bytes().all(good) {
            return Err(OperatorError::InvalidName);
        }
        if scopes.is_empty() {
            return Err(OperatorError::NoScope);
        }
        if lifetime.is_some_and(|lifetime| lifetime < Duration::from_secs(1)) {
            return Err(OperatorError::TooShort);
        }
        let _in_line = self.adding.lock().await;
        let _alone = self.store.lease(LEASE).ok_or(OperatorError::Busy)?;
        let live = self.list().await?;
        // An id counts as a name here, or `revoke` could mean two tokens.
        if live.iter().any(|token| token.name == name || token.id == name) {
            return Err(OperatorError::NameTaken(name.to_owned()));
        }
        if live.len() >= MAX_TOKENS {
            return Err(OperatorError::TooMany);
        }
        self.keep(name, scopes, lifetime).await
    }

    async fn keep(
        &self,
        name: &str,
        scopes: BTreeSet<Scope>,
        lifetime: Option<Duration>,
    ) -> Result<Added, OperatorError> {
        let created_at = self.clock.now();
        let expires_at = lifetime.map(|lifetime| created_at + lifetime);
        let expires = expires_at.map_or(Expires::Never, Expires::At);
        // Two draws of 40 bits rarely meet; a token must never replace another all the same.
        for _ in 0..8 {
            let (id, text) = self.draw();
            let fingerprint = secret::fingerprint(text.expose().as_bytes());
            let kept = Kept { name: name.to_owned(), scopes: scopes.clone(), fingerprint, created_at };
            let put = self.store.update::<Kept, _>(&id, |old| match old {
                Some(_) => Decision::Keep(false),
                None => Decision::Put(kept.clone(), expires, true),
            });
            if put.await?.answer {
                let token = Token { id, name: name.to_owned(), scopes, created_at, expires_at };
                return Ok(Added { token, text });
            }
        }
        Err(OperatorError::Busy)
    }

    /// Every live token, by name.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn list(&self) -> Result<Vec<Token>, OperatorError> {
        let page = self.store.list::<Kept>(None, MAX_TOKENS).await?;
        let show = |(id, stored): (String, crate::store::Stored<Kept>)| {
            let Kept { name, scopes, created_at, .. } = stored.value;
            Token { id, name, scopes, created_at, expires_at: stored.expires }
        };
        let mut tokens: Vec<Token> = page.into_iter().map(show).collect();
        tokens.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(tokens)
    }

    /// Ends the token with this name or id, from the next request on; returns which it was.
    ///
    /// # Errors
    /// [`OperatorError::Unknown`] when there is none, or a failure of the store.
    pub async fn revoke(&self, name_or_id: &str) -> Result<Token, OperatorError> {
        let unknown = || OperatorError::Unknown(name_or_id.to_owned());
        let live = self.list().await?;
        let named = |token: &Token| token.name == name_or_id || token.id == name_or_id;
        let token = live.into_iter().find(named).ok_or_else(unknown)?;
        let gone = self.store.update::<Kept, _>(&token.id, |old| match old {
            Some(_) => Decision::Delete(true),
            None => Decision::Keep(false),
        });
        if gone.await?.answer { Ok(token) } else { Err(unknown()) }
    }

    /// Who `token` belongs to; None when it is no token, or not a good one any more.
    ///
    /// # Errors
    /// When the store fails: the token may be good.
    pub fn authenticate(&self, token: &str) -> Result<Option<Principal>, OperatorError> {
        let Some(id) = id_of(token) else { return Ok(None) };
        let Some(kept) = self.store.get::<Kept>(id)?.map(|stored| stored.value) else { return Ok(None) };
        let shown = secret::fingerprint(token.as_bytes());
        let same = secret::same(shown.as_bytes(), kept.fingerprint.as_bytes());
        Ok(same.then(|| Principal { id: id.to_owned(), name: kept.name, scopes: kept.scopes }))
    }

    /// Whether the token with this id is still good, for answers that go on after the request was let in.
    ///
    /// # Errors
    /// When the store fails: the token may be good.
    pub fn is_good(&self, id: &str) -> Result<bool, OperatorError> {
        Ok(self.store.get::<Kept>(id)?.is_some())
    }

    fn draw(&self) -> (String, Secret) {
        let id = base32(&self.random.bytes::<ID_BYTES>());
        let secret = zeroize::Zeroizing::new(base32(&*zeroize::Zeroizing::new(self.random.bytes::<SECRET_BYTES>())));
        let text = Secret::new(format!("{PREFIX}{id}_{}", *secret));
        (id, text)
    }
}

/// Lowercase base32: no character that looks like another, none that a shell or a double click treats specially.
fn base32(bytes: &[u8]) -> String {
    data_encoding::BASE32_NOPAD.encode(bytes).to_ascii_lowercase()
}

/// The id in a text that has the shape of a token.
fn id_of(token: &str) -> Option<&str> {
    let (id, secret) = token.strip_prefix(PREFIX)?.split_once('_')?;
    let digits = |part: &str| part.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'2'..=b'7'));
    let fits = id.len() == (ID_BYTES * 8).div_ceil(5) && secret.len() == (SECRET_BYTES * 8).div_ceil(5);
    (fits && digits(id) && digits(secret)).then_some(id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bytes_on_disk_are_golden() {
        let kept = Kept {
            name: "batch".to_owned(),
            scopes: BTreeSet::from([Scope::PortalsRead, Scope::Sms]),
            fingerprint: "ab".to_owned(),
            created_at: Time::from_millis(1_700_000_000_000),
        };
        let golden = "056261746368020c706f7274616c733a7265616403736d73026162fd0068e5cf8b010000";
        crate::store::golden::<Kept>(&kept, golden);
    }

    #[test]
    fn only_what_has_the_shape_of_a_token_is_looked_up() {
        let (id, secret) = ("a2b3c4d5", "a".repeat(52));
        assert_eq!(id_of(&format!("npt_{id}_{secret}")), Some(id));
        for bad in [
            format!("npx_{id}_{secret}"),
            format!("npt_{id}_{secret}a"),
            format!("npt_{id}a_{secret}"),
            format!("npt_{id}{secret}"),
            format!("npt_{}_{secret}", "A2B3C4D5"),
            format!("npt_{id}_{}한", "a".repeat(49)),
            String::new(),
        ] {
            assert_eq!(id_of(&bad), None, "{bad}");
        }
    }
}
