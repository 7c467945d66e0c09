//! Accounts: the team's own users. They sign up with a code by e-mail, log in by password or by a code, and prove it with
//! tokens.
//!
//! One record an address, changed in one step and by one function alone: a user is never without the mail that belongs to the
//! change, nor a mail without its change. What is answered about an address does not tell whether it has an account: the same
//! status, the same body, the same work. Nothing here knows HTTP; no code, no password and no address reaches a log.

mod address;
pub mod audit;
mod budget;
mod code;
mod error;
mod gate;
mod keys;
mod letters;
mod limits;
mod login;
mod password;
pub mod people;
mod record;
mod records;
mod refresh;
mod registration;
mod reset;
mod sessions;
mod tokens;
mod visits;

use std::io;
use std::sync::{Arc, PoisonError, RwLock};

use tokio::sync::{Mutex, MutexGuard};
use uuid::Uuid;

use crate::clock::{Clock, Time};
use crate::config;
use crate::ids::Random;
use crate::lifecycle::Lifecycle;
use crate::outbox::{Content, Outbox, Pending};
use crate::secret::{Secret, Vault};
use crate::store::{self, Store, StoreError};
pub use address::{Address, InvalidAddress};
use audit::{Audit, Line, What, Who};
use code::{Print, Purpose};
pub use error::AccountError;
pub use gate::{Gate, Visitor};
use keys::SigningKeys;
pub use keys::{KeyView, Keys, KeysError, MAX_AGE, Rotation};
use letters::Writer;
use limits::{Limiter, Rates};
use password::{Cost, Passwords};
pub use password::{MAX as MAX_PASSWORD, MIN as MIN_PASSWORD, Unfit};
use people::People;
pub use record::{AccountRecord, State, User};
use records::Records;
use refresh::Mint;
pub use registration::{Mailed, Verified, Wish};
pub use sessions::{Device, InvalidSessionId, LoginSession, MAX_AGENT, SessionId};
use tokens::Tokens;
pub use tokens::{Grant, Refused};
pub use visits::SessionView;

/// The kinds of records that are kept here.
pub fn kinds() -> Vec<store::Kind> {
    [record::KINDS, keys::KINDS, audit::KINDS].concat()
}

/// Turns at comparing passwords.
const TURNS: usize = 1024;

/// The accounts; clones share them.
#[derive(Clone, Debug)]
pub struct Accounts(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    store: Store,
    outbox: Outbox,
    vault: Arc<Vault>,
    clock: Clock,
    random: Random,
    records: Records,
    settings: RwLock<Arc<Settings>>,
    passwords: Passwords,
    limiter: Limiter,
    /// Passwords about one address are compared one after the other; two addresses share a turn with probability 1/1024, which
    /// only costs waiting.
    turns: Vec<Mutex<()>>,
    mint: Mint,
    keys: Keys,
    tokens: Tokens,
    gate: Gate,
    audit: Audit,
}

/// Why accounts cannot be kept.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// There are no signing keys.
    #[error(transparent)]
    Keys(#[from] KeysError),
    /// There are no threads to hash passwords on.
    #[error("no thread for hashing passwords: {0}")]
    Threads(#[from] io::Error),
}

/// What the operator wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// `[accounts]`.
    pub accounts: Arc<config::Accounts>,
    /// Whether there is a mail server.
    pub mail: bool,
    /// Where users find the service, for mails and tokens.
    pub public_url: Option<String>,
}

/// What accounts are built on.
#[derive(Clone, Debug)]
pub struct Tools {
    /// Where they are kept.
    pub store: Store,
    /// What delivers their mails.
    pub outbox: Outbox,
    /// What makes fingerprints of codes and seals keys.
    pub vault: Arc<Vault>,
    /// The time.
    pub clock: Clock,
    /// Randomness.
    pub random: Random,
}

impl Settings {
    fn writer(&self) -> Writer {
        Writer::new(self.accounts.locale, self.public_url.as_deref())
    }
}

impl Accounts {
    /// Starts them under `life`: mails that records carry go to the outbox, those left by the last process first.
    ///
    /// # Errors
    /// [`StartError`].
    pub async fn start(tools: Tools, settings: Settings, life: &Lifecycle) -> Result<Self, StartError> {
        let Tools { store, outbox, vault, clock, random } = tools;
        let age = settings.accounts.key_ttl;
        let keys = Keys::start(store.clone(), vault.clone(), clock.clone(), random.clone(), age, life).await?;
        let tokens = Tokens::new(keys.clone(), clock.clone(), random.clone(), token_settings(&settings));
        let idle_ttl = settings.accounts.idle_ttl;
        let gate = Gate::start(tokens.clone(), store.clone(), clock.clone(), idle_ttl, life).await?;
        let audit = Audit::new(store.clone(), vault.clone(), clock.clone());
        audit.carry::<AccountRecord>(life);
        audit.carry::<SigningKeys>(life);
        let passwords = Passwords::start(cost(&settings.accounts), random.clone(), life)?;
        outbox.carry::<AccountRecord>(life);
        let gate_to = Some(gate.clone());
        let records = Records { store: store.clone(), vault: vault.clone(), clock: clock.clone(), gate: gate_to };
        let accounts = Self(Arc::new(Inner {
            limiter: Limiter::new(rates(&settings.accounts), clock.clone()),
            settings: RwLock::new(Arc::new(settings)),
            turns: (0..TURNS).map(|_| Mutex::default()).collect(),
            mint: Mint::new(vault.clone()),
            store,
            outbox,
            vault,
            clock,
            random,
            passwords,
            keys,
            tokens,
            gate,
            audit,
            records,
        }));
        accounts.people().finish_under(life);
        Ok(accounts)
    }

    /// What operators see and do.
    pub fn people(&self) -> People {
        let Inner { store, outbox, vault, clock, random, records, audit, .. } = &*self.0;
        let tools = Tools {
            store: store.clone(),
            outbox: outbox.clone(),
            vault: vault.clone(),
            clock: clock.clone(),
            random: random.clone(),
        };
        People::new(records.clone(), tools, audit.clone(), self.settings())
    }

    /// Uses other settings for what is asked from now on; the cost of passwords changes with the next start.
    pub fn reconfigure(&self, settings: Settings) {
        self.0.limiter.reconfigure(rates(&settings.accounts));
        self.0.tokens.reconfigure(token_settings(&settings));
        self.0.keys.reconfigure(settings.accounts.key_ttl);
        self.0.gate.reconfigure(settings.accounts.idle_ttl);
        *self.0.settings.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(settings);
    }

    /// Where access tokens are checked.
    pub fn gate(&self) -> &Gate {
        &self.0.gate
    }

    /// What signs them.
    pub fn keys(&self) -> &Keys {
        &self.0.keys
    }

    /// The keys as others fetch them to check our tokens themselves: an RFC 7517 key set.
    pub fn key_set(&self) -> serde_json::Value {
        self.0.tokens.key_set()
    }

    /// Where users find the service.
    pub fn public_url(&self) -> Option<String> {
        self.settings().public_url.clone()
    }

    /// What was done by whom.
    pub fn audit(&self) -> &Audit {
        &self.0.audit
    }

    /// Notes what an operator has done that no account's record tells of.
    ///
    /// # Errors
    /// When the store failed; the line may be there or not.
    pub async fn note_operator(&self, who: Who, what: What, detail: impl Into<String>) -> Result<(), StoreError> {
        let now = self.0.clock.now();
        self.0.audit.append(&Line::new(self.0.random.uuid(now), now, who, what).detail(detail)).await
    }

    fn settings(&self) -> Arc<Settings> {
        Arc::clone(&self.0.settings.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn key(&self, address: &Address) -> String {
        self.0.records.key(address)
    }

    /// Lets a request from `device` through, as far as the rates go: to be asked first, before anything of it is looked at.
    ///
    /// # Errors
    /// [`AccountError::RateLimited`].
    pub fn admit(&self, device: &Device) -> Result<(), AccountError> {
        self.0.limiter.admit_client(device.ip)
    }

    /// Lets a request about `address` through, as far as the rate goes.
    fn admit_about(&self, address: &Address) -> Result<(), AccountError> {
        self.0.limiter.admit_about(&self.key(address))
    }

    /// The settings, where mails can be sent.
    fn mailing(&self) -> Result<Arc<Settings>, AccountError> {
        let settings = self.settings();
        if settings.mail { Ok(settings) } else { Err(AccountError::NoMail) }
    }

    /// A letter to `address`, for the change that it belongs to.
    fn mail(&self, address: &Address, letter: &Content) -> Result<Pending, AccountError> {
        records::mail(&self.0.outbox, &self.0.random, self.0.clock.now(), address, letter)
    }

    /// A line about what somebody on `device` does, who has not shown yet who they are.
    fn line(&self, device: &Device, what: What) -> Line {
        let now = self.0.clock.now();
        Line::new(self.0.random.uuid(now), now, Who::Nobody, what).from(device.ip)
    }

    fn print(&self, purpose: Purpose, address: &Address, ticket: &str, digits: &Secret) -> Print {
        Print::of(&self.0.vault, purpose, address.as_str(), ticket, digits)
    }

    /// Whether `password` may be that of `address`.
    fn check_password(&self, password: &Secret, address: &Address) -> Result<(), AccountError> {
        Ok(password::check(password, address, &password::names(self.settings().public_url.as_deref()))?)
    }

    async fn hash(&self, password: &Secret) -> Result<String, AccountError> {
        Ok(self.0.passwords.hash(password).await?)
    }

    /// The turn of a password about `address`.
    async fn turn(&self, address: &Address) -> MutexGuard<'_, ()> {
        let print = self.0.records.print(address);
        self.0.turns[usize::from(u16::from_le_bytes([print[0], print[1]])) % TURNS].lock().await
    }

    fn session_limits(&self) -> sessions::Limits {
        session_limits(&self.settings().accounts)
    }

    /// As [`Records::peek`].
    fn peek(&self, address: &Address) -> Result<Option<AccountRecord>, AccountError> {
        self.0.records.peek(address)
    }

    /// As [`Records::read`].
    async fn read(&self, user: Uuid) -> Result<Option<AccountRecord>, AccountError> {
        self.0.records.read(user).await
    }

    /// As [`Records::change`].
    async fn change<R>(
        &self,
        address: &Address,
        decide: impl FnMut(&mut AccountRecord, Time) -> R,
    ) -> Result<R, AccountError> {
        self.0.records.change(address, decide).await
    }

    /// As [`Records::change_user`].
    async fn change_user<R>(
        &self,
        user: Uuid,
        decide: impl FnMut(&mut AccountRecord, Time) -> R,
    ) -> Result<Option<R>, AccountError> {
        self.0.records.change_user(user, decide).await
    }
}

fn cost(settings: &config::Accounts) -> Cost {
    let memory = u32::try_from(settings.password_memory / 1024).unwrap_or(u32::MAX);
    Cost { memory, passes: settings.password_passes }
}

fn session_limits(settings: &config::Accounts) -> sessions::Limits {
    let config::Accounts { session_ttl, idle_ttl, refresh_grace, .. } = *settings;
    sessions::Limits { session_ttl, idle_ttl, refresh_grace }
}

fn rates(settings: &config::Accounts) -> Rates {
    let config::Accounts { client_per_minute, address_per_minute, total_per_minute, .. } = *settings;
    Rates { client: client_per_minute, address: address_per_minute, total: total_per_minute }
}

/// Tokens name the service as users know it; without an address of its own it is only known here.
fn token_settings(settings: &Settings) -> tokens::Settings {
    let public_url = settings.public_url.as_deref().map(|url| url.trim_end_matches('/').to_owned());
    let issuer = public_url.unwrap_or_else(|| "nightporter".to_owned());
    tokens::Settings { audience: issuer.clone(), issuer, access_ttl: settings.accounts.access_ttl }
}
