//! A trial: one login with a recipe that is being written, watched step by step, of which nothing is kept.
//!
//! It is a real login, and the portal counts it like one. [`Trial`] makes it with tools of its own, beside whatever server
//! runs; that server takes it out of the account's budget and lends its phone ([`Portal::count_trial`],
//! [`Portal::lend_phone`]). The session is dropped with the trial.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::PortalsError;
use super::check::{self, Verdict};
use super::inbox::{Busy, Code, Expected, InboxError, NoCode, NotTyped, Turn};
use super::login::{self, Errand, LoginFailure, NoLogin, Trace};
use super::portal::{By, Portal, PortalError, Tools};
use super::recipe::{Cause, Recipe};
use super::session::Session;
use super::state::EventKind;
use super::upkeep::Purpose;
use crate::browsers::{SavedState, Seat};
use crate::clock::Time;
use crate::config;
use crate::secret::Secret;
use crate::store::StoreError;
pub use login::{News, Outcome, Progress, StepTaken};

/// What the trial's phone is called inside; nobody sees it.
const PHONE: &str = "trial";

/// A login to be tried.
#[derive(Clone, Debug)]
pub struct Trial {
    portal: Portal,
}

/// Why a trial cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum TrialError {
    /// The recipe, or the browser that it names, cannot be used.
    #[error(transparent)]
    Portal(#[from] PortalsError),
    /// The trial's own store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// A login that went well.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoggedIn {
    /// What the recipe's check says about the session.
    pub check: Verdict,
    /// What it says about somebody who is not logged in: anything but expired would never be noticed as an expiry.
    pub stranger: Verdict,
    /// The names of the values that were saved.
    pub saved: Vec<String>,
}

/// A login that did not.
#[derive(Clone, Debug)]
pub struct Failed {
    /// Why, as alerts would say it.
    pub cause: Cause,
    /// In words, with step and line.
    pub detail: String,
    /// The number of the step in which it failed, from 1.
    pub step: Option<usize>,
    /// The page as it was, as PNG with secrets masked.
    pub picture: Option<Vec<u8>>,
    /// The document as it was, without values.
    pub page: Option<String>,
}

impl Trial {
    /// A login at the portal of `account`, whose phone does not count: codes come by [`Trial::type_code`].
    ///
    /// # Errors
    /// [`TrialError`].
    pub fn new(tools: Tools, account: &config::Portal) -> Result<Self, TrialError> {
        let account = config::Portal { phones: vec![PHONE.to_owned()], ..account.clone() };
        let settings = super::settings(&account, &tools)?;
        // Nobody sends orders to a portal without a keeper.
        let portal = Portal::load("trial", settings, tools)?;
        Ok(Self { portal })
    }

    /// The recipe that is tried.
    pub fn recipe(&self) -> &Recipe {
        self.portal.recipe()
    }

    /// Gives a code to the login that is under way.
    ///
    /// # Errors
    /// [`NotTyped`] when it is none, or no login is under way.
    pub fn type_code(&self, code: &Secret) -> Result<(), NotTyped> {
        self.recipe().code.as_ref().map_or(Ok(()), |rules| rules.admit(code))?;
        self.portal.tools().inbox.type_code(self.portal.name(), code)
    }

    /// Makes the login. Whoever holds the other end of `trace` hears of each step.
    ///
    /// # Errors
    /// [`Failed`].
    pub async fn run(&self, trace: Watched) -> Result<LoggedIn, Failed> {
        let id = self.portal.tools().random.session_id();
        let errand = Errand { id, seat: Seat::A, purpose: Purpose::Need, ready: None, trace: trace.0 };
        let session = match login::log_in(&self.portal, errand).await {
            Ok(session) => session,
            Err(NoLogin::Busy(busy)) => {
                let (cause, detail) = (Cause::NoSms, busy.to_string());
                return Err(Failed { cause, detail, step: None, picture: None, page: None });
            }
            Err(NoLogin::Failed(LoginFailure { cause, detail, picture, steps, page })) => {
                let failed = steps.last().filter(|step| matches!(step.outcome, Outcome::Failed(_)));
                return Err(Failed { cause, detail, step: failed.map(|step| step.number), picture, page });
            }
        };
        let saved = session.value_names();
        let check = self.check(&session).await;
        let (state, identity) = (SavedState::default(), session.identity().clone());
        let stranger = Arc::new(Session::new(String::new(), state, BTreeMap::new(), identity));
        Ok(LoggedIn { check, stranger: self.check(&stranger).await, saved })
    }

    async fn check(&self, session: &Session) -> Verdict {
        check::check(&self.portal, session).await
    }
}

/// The login's end of the news.
#[derive(Debug)]
pub struct Watched(Trace);

/// The two ends of the news of a login.
pub fn watch() -> (Watched, News) {
    let (trace, news) = Trace::watched();
    (Watched(trace), news)
}

impl Portal {
    /// Takes one login out of the account's budget for a trial, and says how many are left in this hour.
    ///
    /// # Errors
    /// [`PortalError::BudgetSpent`], or when the store fails.
    pub async fn count_trial(&self) -> Result<u32, PortalError> {
        let (now, per_hour) = (self.now(), self.limits().logins_per_hour);
        let told = format!("{} tries a recipe on the command line", By::Operator);
        let spent = self.change(|record| {
            record.spend_login(per_hour, now)?;
            record.note(now, EventKind::LoginStarted, None, &told);
            Ok::<_, Time>(per_hour.saturating_sub(u32::try_from(record.logins.len()).unwrap_or(u32::MAX)))
        });
        spent.await?.map_err(|until| PortalError::BudgetSpent { per_hour, until })
    }

    /// The phones of this portal, for a trial with `recipe`: None when it has none, or the recipe asks for no code. Waits
    /// behind the logins that use them now; codes count from then on.
    ///
    /// # Errors
    /// [`NoPhone`].
    pub async fn lend_phone(&self, recipe: &Recipe) -> Result<Option<Turn>, NoPhone> {
        let phones = self.phone_names();
        let Some(expected) = login::expected(recipe).filter(|_| !phones.is_empty()) else { return Ok(None) };
        let mut turn = self.tools().inbox.turn(phones, self.name(), self.now() + login::TURN).await?;
        // The steps before the code are made elsewhere, and may take most of the login: until it ends, no phone is silent.
        turn.expect(Expected { timeout: recipe.login.timeout, ..expected }).await?;
        Ok(Some(turn))
    }

    /// The phones that get the codes.
    pub fn phone_names(&self) -> &[String] {
        &self.settings().phones
    }

    /// Waits for the code of a lent phone, at most as long as the whole login may take.
    ///
    /// # Errors
    /// Why there is none.
    pub async fn lent_code(&self, turn: &mut Turn, recipe: &Recipe) -> Result<Code, NoCode> {
        turn.code(self.now() + recipe.login.timeout).await
    }
}

/// Why a phone is not lent.
#[derive(Debug, thiserror::Error)]
pub enum NoPhone {
    /// Other logins have it.
    #[error(transparent)]
    Busy(#[from] Busy),
    /// It could not be prepared.
    #[error(transparent)]
    Inbox(#[from] InboxError),
}
