//! The keys that sign access tokens: Ed25519, sealed in one record of the store, known to every instance.
//!
//! A new key is published before it signs, so that whoever keeps our key set for a while knows it in time; an old one is
//! published until everything that it signed has expired. Only the first key ever, and one made because another was stolen,
//! signs at once. Nothing here knows what a token says.

mod ring;

use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use serde::{Deserialize, Serialize};
use tokio::sync::broadcast::error::RecvError;
use zeroize::Zeroizing;

use super::audit::{self, Line, What, Who};
use crate::clock::{Clock, Time};
use crate::ids::Random;
use crate::lifecycle::Lifecycle;
use crate::secret::{Vault, VaultError};
use crate::store::{self, Decision, Expires, Record, Store, StoreError, Stored};
pub(super) use ring::{Ring, Signer};

/// How long others may keep our key set without asking again.
pub const MAX_AGE: Duration = Duration::from_secs(5 * 60);
/// From being published until signing: everybody's copy of the key set is older than [`MAX_AGE`] by then.
pub(super) const LEAD: Duration = Duration::from_secs(10 * 60);
/// The longest life that an access token may be given, so that what an old key signed has expired for certain.
pub(super) const MAX_ACCESS_TTL: Duration = Duration::from_secs(3600);
/// What others may allow for clocks that differ; an old key stays that much longer.
const LEEWAY: Duration = Duration::from_secs(2 * 60);
/// How often a key's age is looked at.
const LOOK: Duration = Duration::from_secs(15 * 60);
/// The pause after the store failed.
const PAUSE: Duration = Duration::from_secs(5);

const RING: &str = "ring";

/// All signing keys.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct SigningKeys {
    keys: Vec<Kept>,
    lines: Vec<Line>,
}

/// One key as it is stored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Kept {
    kid: String,
    public: [u8; 32],
    /// The private seed, sealed.
    seed: Vec<u8>,
    created_at: Time,
    /// It signs from now on.
    active_at: Time,
    /// It is not known any more from now on; None: no successor yet.
    gone_at: Option<Time>,
}

/// The kinds of records that are kept here.
pub(super) const KINDS: &[store::Kind] = &[store::Kind::of::<SigningKeys>()];

impl Record for SigningKeys {
    const SPACE: &'static str = "account-keys";
    const SCHEMA: u8 = 1;
    // One record; without it nobody could log in to a house whose disk is nearly full.
    const URGENT: bool = true;
}

impl audit::Carrier for SigningKeys {
    fn lines(&self) -> &[Line] {
        &self.lines
    }

    fn lines_mut(&mut self) -> &mut Vec<Line> {
        &mut self.lines
    }

    fn expires(&self, _: Time) -> Expires {
        Expires::Never
    }
}

/// A key as an operator sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyView {
    /// Its RFC 7638 thumbprint; tokens name it in their heads.
    pub kid: String,
    /// When it was made.
    pub created_at: Time,
    /// When it begins to sign, or began.
    pub active_at: Time,
    /// From when on it is not known any more.
    pub gone_at: Option<Time>,
}

/// How a new key takes over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rotation {
    /// In ten minutes, when everybody has seen it; what the old one signed stays good.
    Overlap,
    /// Now, and what the old ones signed is good no more: they may be in wrong hands.
    AtOnce,
}

impl std::fmt::Display for Rotation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Overlap => "with overlap",
            Self::AtOnce => "at once",
        })
    }
}

/// Why keys could not be read or made.
#[derive(Debug, thiserror::Error)]
pub enum KeysError {
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A key does not open: the store's key is another one.
    #[error(transparent)]
    Vault(#[from] VaultError),
    /// What was opened is no key.
    #[error("the signing key {0} is damaged")]
    Damaged(String),
    /// A key that was made before has not begun to sign.
    #[error("a new key was made already and signs from {0} on; if the present one was stolen, rotate at once")]
    Pending(Time),
    /// The record carries as many audit lines as it may.
    #[error(transparent)]
    Full(#[from] audit::Full),
}

/// The keys; clones share them.
#[derive(Clone, Debug)]
pub struct Keys(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    store: Store,
    vault: Arc<Vault>,
    clock: Clock,
    random: Random,
    /// How long a key signs before the next one is made.
    age: RwLock<Duration>,
    ring: RwLock<Arc<Ring>>,
}

impl Keys {
    /// The keys in `store`, or the first one for a new store. A key older than `age` gets a successor by itself for as
    /// long as `life` lasts.
    ///
    /// # Errors
    /// [`KeysError`], but not `Pending`.
    pub async fn start(
        store: Store,
        vault: Arc<Vault>,
        clock: Clock,
        random: Random,
        age: Duration,
        life: &Lifecycle,
    ) -> Result<Self, KeysError> {
        let inner = Inner { store, vault, clock, random, age: RwLock::new(age), ring: RwLock::default() };
        let keys = Self(Arc::new(inner));
        // Heard from now on, so that nothing falls between the first look and the first wait.
        let changes = keys.0.store.changes::<SigningKeys>();
        keys.turn_if_due().await?;
        keys.load()?;
        let (this, stop) = (keys.clone(), life.stopping());
        life.supervise("signing keys", async move {
            tokio::select! {
                () = stop.cancelled() => {}
                () = this.keep(changes) => {}
            }
        });
        Ok(keys)
    }

    /// Lets keys sign for `age` from now on.
    pub fn reconfigure(&self, age: Duration) {
        *self.0.age.write().unwrap_or_else(PoisonError::into_inner) = age;
    }

    /// Makes a new key, by order of `who`; returns all of them.
    ///
    /// # Errors
    /// [`KeysError`].
    pub async fn rotate(&self, how: Rotation, who: Who) -> Result<Vec<KeyView>, KeysError> {
        self.change(who, |keys, now| match (how, keys.iter().find(|key| key.active_at > now)) {
            (Rotation::Overlap, Some(pending)) => Err(KeysError::Pending(pending.active_at)),
            _ => Ok(Some(how)),
        })
        .await?;
        Ok(self.list()?)
    }

    /// Every key that counts, oldest first.
    ///
    /// # Errors
    /// When the store fails.
    pub fn list(&self) -> Result<Vec<KeyView>, StoreError> {
        let kept = self.0.store.get::<SigningKeys>(RING)?.map(|stored| stored.value.keys).unwrap_or_default();
        let now = self.0.clock.now();
        let views = kept.into_iter().filter(|key| !key.is_gone(now)).map(|key| KeyView {
            kid: key.kid,
            created_at: key.created_at,
            active_at: key.active_at,
            gone_at: key.gone_at,
        });
        Ok(views.collect())
    }

    /// The keys as they are now.
    pub(super) fn ring(&self) -> Arc<Ring> {
        Arc::clone(&self.0.ring.read().unwrap_or_else(PoisonError::into_inner))
    }

    async fn keep(&self, mut changes: tokio::sync::broadcast::Receiver<store::Change>) {
        loop {
            let looked = tokio::select! {
                change = changes.recv() => match change {
                    Ok(_) | Err(RecvError::Lagged(_)) => self.load(),
                    Err(RecvError::Closed) => return std::future::pending().await,
                },
                () = self.0.clock.sleep(LOOK) => self.turn_if_due().await,
            };
            if let Err(error) = looked {
                tracing::error!(%error, "the signing keys stay as they are: {error}");
                self.0.clock.sleep(PAUSE).await;
            }
        }
    }

    /// Makes the first key, or the next one when the last has signed for long enough.
    async fn turn_if_due(&self) -> Result<(), KeysError> {
        let age = *self.0.age.read().unwrap_or_else(PoisonError::into_inner);
        let due = |keys: &[Kept], now: Time| match keys.last() {
            None => Ok(Some(Rotation::AtOnce)),
            Some(last) if last.active_at + age <= now => Ok(Some(Rotation::Overlap)),
            Some(_) => Ok(None),
        };
        self.change(Who::System, due).await
    }

    /// Makes a key if `wanted` says so, and takes it over here.
    async fn change(
        &self,
        who: Who,
        wanted: impl Fn(&[Kept], Time) -> Result<Option<Rotation>, KeysError>,
    ) -> Result<(), KeysError> {
        let now = self.0.clock.now();
        let fresh = self.draw(now)?;
        let line = Line::new(self.0.random.uuid(now), now, who, What::KeysRotated);
        let decide = |old: Option<&Stored<SigningKeys>>| {
            let mut next = old.map(|old| old.value.clone()).unwrap_or_default();
            let how = match wanted(&next.keys, now) {
                Ok(Some(how)) => how,
                Ok(None) => return Decision::Keep(Ok(())),
                Err(error) => return Decision::Keep(Err(error)),
            };
            let line = line.clone().detail(format!("{} {how}", fresh.kid));
            if let Err(full) = audit::push(&mut next.lines, line) {
                return Decision::Keep(Err(full.into()));
            }
            admit(&mut next.keys, fresh.clone(), how, now);
            Decision::Put(next, Expires::Never, Ok(()))
        };
        self.0.store.update::<SigningKeys, _>(RING, decide).await?.answer?;
        self.load()
    }

    fn draw(&self, now: Time) -> Result<Kept, KeysError> {
        let seed = Zeroizing::new(self.0.random.bytes::<32>());
        let pair = Ed25519KeyPair::from_seed_unchecked(&*seed).map_err(|_| KeysError::Damaged("drawn".to_owned()))?;
        let mut public = [0; 32];
        public.copy_from_slice(pair.public_key().as_ref());
        let kid = ring::thumbprint(&public);
        let seed = self.0.vault.seal(&context(&kid), &*seed)?;
        Ok(Kept { kid, public, seed, created_at: now, active_at: now, gone_at: None })
    }

    /// Takes over what the store has.
    fn load(&self) -> Result<(), KeysError> {
        let kept = self.0.store.get::<SigningKeys>(RING)?.map(|stored| stored.value.keys).unwrap_or_default();
        let open = |key: &Kept| {
            let seed = self.0.vault.open(&context(&key.kid), &key.seed)?;
            Signer::new(key, &seed).ok_or_else(|| KeysError::Damaged(key.kid.clone()))
        };
        let ring = Ring::new(kept.iter().map(open).collect::<Result<_, _>>()?);
        *self.0.ring.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(ring);
        Ok(())
    }
}

impl Kept {
    fn is_gone(&self, now: Time) -> bool {
        self.gone_at.is_some_and(|gone_at| gone_at <= now)
    }
}

/// Adds `fresh` to `keys`, and says when the others go.
fn admit(keys: &mut Vec<Kept>, mut fresh: Kept, how: Rotation, now: Time) {
    match how {
        Rotation::AtOnce => keys.clear(),
        Rotation::Overlap => {
            fresh.active_at = now + LEAD;
            keys.retain(|key| !key.is_gone(now));
            for key in keys.iter_mut() {
                key.gone_at.get_or_insert(fresh.active_at + MAX_ACCESS_TTL + LEEWAY);
            }
        }
    }
    keys.push(fresh);
}

fn context(kid: &str) -> String {
    format!("accounts/key/{kid}")
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOLDEN: &str = "\
        01016b0101010101010101010101010101010101010101010101010101010101010101020203fd0068e5cf8b010000fd0068e5cf8b01000000\
        011004040404040404040404040404040404fd0068e5cf8b0100000c03036f7073011005050505050505050505050505050505\
        01007f00000101076174206f6e6365";

    #[test]
    fn the_bytes_on_disk_are_golden() {
        let at = Time::from_millis(1_700_000_000_000);
        let key = Kept {
            kid: "k".to_owned(),
            public: [1; 32],
            seed: vec![2, 3],
            created_at: at,
            active_at: at,
            gone_at: None,
        };
        let line = Line::new(uuid::Uuid::from_bytes([4; 16]), at, Who::Operator("ops".to_owned()), What::KeysRotated)
            .about(uuid::Uuid::from_bytes([5; 16]))
            .from(Some([127, 0, 0, 1].into()))
            .detail("at once");
        store::golden::<SigningKeys>(&SigningKeys { keys: vec![key], lines: vec![line] }, GOLDEN);
    }
}
