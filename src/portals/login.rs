//! One login: the recipe's steps in a fresh browser context, with the code from the phone, to a session that works.
//!
//! It holds its turn at the phone from the first step to the last, so that a code that comes early has somewhere to go.
//! It spends one login of the account's budget just before it first touches the page, and gives it back when the portal
//! turns out to be down before it has sent a code. It decides nothing about trying again: it says the cause.

mod trace;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::check::{self, Verdict};
use super::evidence;
use super::inbox::{Busy, Code, Expected, NoCode, Turn};
use super::portal::Portal;
use super::recipe::{Action, Arm, Cause, Recipe, Step, Template, Then, Variable};
use super::session::Session;
use super::state::{EventKind, PortalRecord};
use super::tab;
use super::totp;
use super::upkeep::Purpose;
use crate::browsers::{BrowserError, Context, ContextOptions, Kind, Page, PageOptions, Seat};
use crate::clock::{self, Time};
use crate::secret::Secret;
pub(super) use trace::Trace;
pub use trace::{News, Outcome, Progress, StepTaken};

/// How long a step may take unless the recipe says otherwise.
const STEP: Duration = Duration::from_secs(20);
/// How long a login waits for its turn at the phone before its keeper looks whether it is still wanted: twenty others with
/// half a minute each, and some that take longer.
pub(super) const TURN: Duration = Duration::from_secs(900);
/// Steps that one login may make: a recipe whose branches go in circles ends here.
const MOST_STEPS: usize = 500;
/// How long the evidence of a failure may take.
const EVIDENCE: Duration = Duration::from_secs(8);

/// Why a login failed.
#[derive(Debug)]
pub(super) struct LoginFailure {
    /// What to do about it depends on this.
    pub(super) cause: Cause,
    /// In words, without secrets.
    pub(super) detail: String,
    /// The page as it was, as PNG with secrets masked.
    pub(super) picture: Option<Vec<u8>>,
    /// The last steps, the one that failed at the end.
    pub(super) steps: Vec<StepTaken>,
    /// The document as it was, without values.
    pub(super) page: Option<String>,
}

/// Why there is no session.
#[derive(Debug)]
pub(super) enum NoLogin {
    /// The phone serves others. The portal has seen nothing, so this is no attempt.
    Busy(Busy),
    /// The login failed.
    Failed(LoginFailure),
}

impl<T: Into<LoginFailure>> From<T> for NoLogin {
    fn from(failure: T) -> Self {
        Self::Failed(failure.into())
    }
}

/// A login to be made.
#[derive(Debug)]
pub(super) struct Errand {
    /// The id of the session to be.
    pub(super) id: String,
    /// The browser that it shall live in.
    pub(super) seat: Seat,
    /// What it is for.
    pub(super) purpose: Purpose,
    /// A place that was kept ready for it.
    pub(super) ready: Option<Context>,
    /// Where its steps are recorded, and whoever follows them is told.
    pub(super) trace: Trace,
}

impl LoginFailure {
    fn new(cause: Cause, detail: impl Into<String>) -> Self {
        Self { cause, detail: detail.into(), picture: None, page: None, steps: Vec::new() }
    }
}

impl From<BrowserError> for LoginFailure {
    fn from(error: BrowserError) -> Self {
        let cause = match error.kind() {
            Kind::PortalDown => Cause::PortalDown,
            Kind::PageChanged => Cause::PageChanged,
            Kind::BrowserFailed => Cause::BrowserFailed,
        };
        Self::new(cause, error.to_string())
    }
}

/// Why there was nothing to type.
fn no_code(portal: &Portal, error: &NoCode, patience: Duration) -> LoginFailure {
    match error {
        NoCode::Late => no_sms(portal, format!("no code came within {} s", patience.as_secs())),
        other => failed_inside(other),
    }
}

/// The wait for a code was in vain.
fn no_sms(portal: &Portal, detail: String) -> LoginFailure {
    if portal.tools().inbox.all_missed(&portal.settings().phones) {
        let detail = format!("{detail}, and the phone has not been heard of for long");
        return LoginFailure::new(Cause::PhoneSilent, detail);
    }
    LoginFailure::new(Cause::NoSms, detail)
}

/// Our own part failed: as with a browser that does, trying again may help.
fn failed_inside(error: &dyn std::error::Error) -> LoginFailure {
    LoginFailure::new(Cause::BrowserFailed, error.to_string())
}

/// Logs in anew.
pub(super) async fn log_in(portal: &Portal, errand: Errand) -> Result<Arc<Session>, NoLogin> {
    let Errand { id, seat, purpose, ready, trace } = errand;
    let turn = turn(portal).await.map_err(NoLogin::Busy)?;
    portal.publish_login(|login| login.queued = false);
    let recipe = portal.recipe();
    let user_agent = recipe.browser.user_agent.clone();
    let context = match ready.filter(|context| context.is_alive() && !context.is_retiring()) {
        Some(context) => context,
        None => portal.pool().open(seat, ContextOptions { restore: None, user_agent }).await?,
    };
    let page = Arc::new(context.page(page_options(portal)).await?);
    let deadline = portal.now() + recipe.login.timeout;
    let mut attempt = Attempt {
        portal,
        page,
        turn,
        values: BTreeMap::new(),
        typed: vec![portal.settings().password.clone()],
        trace,
        purpose,
        spent: None,
        step: 0,
        code_asked: false,
        code_awaited: false,
        code_typed: false,
        deadline,
    };
    let result = match portal.tools().clock.until(deadline, attempt.walk()).await {
        Ok(result) => result,
        Err(_) => Err(attempt.too_long().await),
    };
    match result {
        Ok(()) => Ok(attempt.finish(&id, context).await?),
        Err(failure) => Err(attempt.explain(failure).await.into()),
    }
}

/// Where the portal's pages may load from.
pub(super) fn page_options(portal: &Portal) -> PageOptions {
    let recipe = portal.recipe();
    let others = &recipe.browser.allowed_origins;
    let allowed = others.iter().chain([&recipe.base_url]).map(|url| url.origin().ascii_serialization()).collect();
    // Without a list the portal may load from wherever it likes, as in any browser.
    PageOptions { allowed_origins: (!others.is_empty()).then_some(allowed) }
}

/// Waits for the phones, if the recipe needs one.
async fn turn(portal: &Portal) -> Result<Option<Turn>, Busy> {
    let phones = &portal.settings().phones;
    if phones.is_empty() || !portal.recipe().needs_phone() {
        return Ok(None);
    }
    let deadline = portal.now() + TURN;
    portal.tools().inbox.turn(phones, portal.name(), deadline).await.map(Some)
}

/// A login on its way.
struct Attempt<'a> {
    portal: &'a Portal,
    page: Arc<Page>,
    turn: Option<Turn>,
    values: BTreeMap<String, String>,
    /// What no picture may show: the password and every code.
    typed: Vec<Secret>,
    trace: Trace,
    /// What it was begun for.
    purpose: Purpose,
    /// When a login of the budget was taken.
    spent: Option<Time>,
    /// The step that is being made, from 0.
    step: usize,
    /// Whether the portal was asked for a code: an SMS then, and an attempt that it counts.
    code_asked: bool,
    /// Whether that code is being waited for.
    code_awaited: bool,
    code_typed: bool,
    deadline: Time,
}

/// Where a step leads.
enum Next {
    Following,
    To(usize),
}

impl Attempt<'_> {
    async fn walk(&mut self) -> Result<(), LoginFailure> {
        let portal = self.portal;
        let steps = &portal.recipe().login.steps;
        for _ in 0..MOST_STEPS {
            let Some(step) = steps.get(self.step) else { return Ok(()) };
            self.trace.begin(self.step, step, portal.now());
            let next = self.make(step).await?;
            self.trace.done();
            let (name, number) = (portal.name(), self.step + 1);
            tracing::debug!(portal = name, step = number, "portal {name}: step {number} done: {}", step.words());
            match next {
                Next::Following => self.step += 1,
                Next::To(index) => self.step = index,
            }
        }
        Err(LoginFailure::new(
            Cause::PageChanged,
            format!("no end after {MOST_STEPS} steps: the recipe goes in circles"),
        ))
    }

    async fn make(&mut self, step: &Step) -> Result<Next, LoginFailure> {
        let limit = step.timeout.unwrap_or(STEP);
        if touches(&step.action) {
            self.spend().await?;
        }
        match &step.action {
            Action::Label => {}
            Action::Goto(url) => self.goto(url.as_str(), limit).await?,
            Action::Fill { selector, value } => {
                let text = self.render(value)?;
                self.page.fill(selector, text.expose(), limit).await?;
            }
            Action::Click { selector, sends_code } => {
                if *sends_code {
                    self.expect_code().await?;
                    self.code_asked = true;
                }
                self.page.click(selector, limit).await?;
            }
            Action::Branch(arms) => return self.branch(arms, limit).await,
            Action::Code { selector, resend } => self.code(selector, resend.as_deref(), limit).await?,
            Action::Totp { selector } => self.totp(selector, limit).await?,
            Action::WaitFor { selector } => self.page.wait_for(selector, limit).await?,
            Action::WaitForUrl(target) => self.wait_for_url(target, limit).await?,
            Action::Select { selector, value } => {
                let text = self.render(value)?;
                self.page.select(selector, text.expose(), limit).await?;
            }
            Action::Press { key, selector } => {
                if let Some(selector) = selector {
                    self.page.click(selector, limit).await?;
                }
                self.page.press(*key).await?;
            }
            Action::ExpectText { selector, text } => self.expect_text(selector, text, limit).await?,
            Action::Save { name, selector, attribute } => {
                let value = read_value(&self.page, selector, attribute.as_deref(), limit).await?;
                self.values.insert(name.clone(), value);
            }
        }
        Ok(Next::Following)
    }

    async fn goto(&self, url: &str, limit: Duration) -> Result<(), LoginFailure> {
        let landing = self.page.goto(url, limit).await?;
        if landing.status >= 500 {
            return Err(LoginFailure::new(Cause::PortalDown, format!("the portal answered {}", landing.status)));
        }
        Ok(())
    }

    async fn branch(&mut self, arms: &[Arm], limit: Duration) -> Result<Next, LoginFailure> {
        let selectors: Vec<_> = arms.iter().map(|arm| arm.selector.as_str()).collect();
        let chosen = self.page.first_of(&selectors, limit).await?;
        self.trace.saw(format!("\"{}\" is there", selectors.get(chosen).unwrap_or(&"")));
        match arms.get(chosen).map(|arm| arm.then) {
            Some(Then::Next(index)) => Ok(Next::To(index)),
            Some(Then::Fail(cause)) => {
                if let (Cause::CodeRejected, Some(turn)) = (cause, &mut self.turn)
                    && let Err(error) = turn.rejected().await
                {
                    tracing::error!(portal = self.portal.name(), "a rejected code was not noted: {error}");
                }
                Err(LoginFailure::new(cause, format!("the page shows {}", arms[chosen].selector)))
            }
            None => Ok(Next::Following),
        }
    }

    /// Codes count from now on.
    async fn expect_code(&mut self) -> Result<(), LoginFailure> {
        let (Some(turn), Some(expected)) = (&mut self.turn, expected(self.portal.recipe())) else { return Ok(()) };
        turn.expect(expected).await.map_err(|error| failed_inside(&error))
    }

    async fn code(&mut self, selector: &str, resend: Option<&str>, limit: Duration) -> Result<(), LoginFailure> {
        let patience = self.portal.recipe().code.as_ref().map_or(Duration::from_secs(120), |code| code.timeout);
        // A page without the field is a changed page, and no reason to blame the phone minutes later. A code that comes
        // meanwhile is kept by the turn.
        self.page.wait_for(selector, limit).await?;
        self.awaiting_code(true);
        let code = self.wait_for_code(patience, resend, limit).await;
        self.awaiting_code(false);
        let code = code?;
        let how = if code.buffered {
            format!("a code came {:.1} s before it was waited for", code.age.as_secs_f64())
        } else {
            "a code came while it was waited for".to_owned()
        };
        let now = self.portal.now();
        let noted = self.portal.change(|record| record.note(now, EventKind::CodeUsed, None, &how)).await;
        noted.map_err(|error| failed_inside(&error))?;
        self.typed.push(code.secret.clone());
        self.trace.saw(how);
        self.page.fill(selector, code.secret.expose(), limit).await?;
        self.code_typed = true;
        Ok(())
    }

    async fn wait_for_code(
        &mut self,
        patience: Duration,
        resend: Option<&str>,
        limit: Duration,
    ) -> Result<Code, LoginFailure> {
        let end = self.portal.now() + patience;
        let first = if resend.is_some() { self.portal.now() + patience / 2 } else { end };
        let code = match (self.turn()?.code(first).await, resend) {
            (Err(NoCode::Late), Some(resend)) => {
                tracing::info!(portal = self.portal.name(), "portal {}: asking for the code again", self.portal.name());
                self.expect_code().await?;
                self.page.click(resend, limit).await?;
                self.turn()?.code(end).await
            }
            (code, _) => code,
        };
        code.map_err(|error| no_code(self.portal, &error, patience))
    }

    fn turn(&mut self) -> Result<&mut Turn, LoginFailure> {
        let none = || LoginFailure::new(Cause::NoSms, "the portal wants a code and no phone is configured");
        self.turn.as_mut().ok_or_else(none)
    }

    /// Types the code of the account's authenticator app. One that ends within a moment would be stale when it arrives, so
    /// the next one is waited for.
    async fn totp(&mut self, selector: &str, limit: Duration) -> Result<(), LoginFailure> {
        let none = || LoginFailure::new(Cause::CodeRejected, "no totp_secret is set for this portal");
        let key = self.portal.settings().totp_secret.as_ref().and_then(totp::Key::new).ok_or_else(none)?;
        self.page.wait_for(selector, limit).await?;
        self.portal.tools().clock.sleep_until(totp::good_from(self.portal.now())).await;
        let code = key.code(self.portal.now());
        self.typed.push(code.clone());
        self.page.fill(selector, code.expose(), limit).await?;
        Ok(())
    }

    fn awaiting_code(&mut self, waiting: bool) {
        self.code_awaited = waiting;
        if waiting {
            self.trace.awaits_code();
        }
        self.portal.publish_login(|login| login.awaiting_code = waiting);
    }

    async fn wait_for_url(&self, target: &super::recipe::Target, limit: Duration) -> Result<(), LoginFailure> {
        self.page.wait_for_url(|url| target.matches(url), &target.to_string(), limit).await?;
        Ok(())
    }

    async fn expect_text(&self, selector: &str, text: &str, limit: Duration) -> Result<(), LoginFailure> {
        self.page.wait_for(selector, limit).await?;
        if self.page.text(selector).await?.contains(text) {
            return Ok(());
        }
        Err(LoginFailure::new(Cause::PageChanged, format!("{selector} does not say {text:?}")))
    }

    fn render(&self, template: &Template) -> Result<super::recipe::Rendered, LoginFailure> {
        let settings = self.portal.settings();
        let rendered = template.render(|variable| match variable {
            Variable::Username => Some(Cow::Borrowed(settings.username.as_str())),
            Variable::Password => Some(Cow::Borrowed(settings.password.expose())),
            Variable::Saved(name) => self.values.get(name).map(|value| Cow::Borrowed(value.as_str())),
            Variable::Stored { .. } => None,
        });
        rendered.map_err(|missing| LoginFailure::new(Cause::PageChanged, missing.to_string()))
    }

    /// Takes one login out of the budget, once, durably, before the portal sees anything of it.
    async fn spend(&mut self) -> Result<(), LoginFailure> {
        if self.spent.is_some() {
            return Ok(());
        }
        // One that was begun ahead of the second look goes no further before it.
        let mut live = self.portal.live();
        let confirmed = live.wait_for(|live| live.login.as_ref().is_none_or(|login| login.confirmed));
        confirmed.await.map_err(|error| failed_inside(&error))?;
        let (now, limit, purpose) = (self.portal.now(), self.portal.limits().logins_per_hour, self.purpose);
        let spend = |record: &mut PortalRecord| {
            let per_hour = limit.saturating_sub(record.spares(purpose));
            record.spend_login(per_hour, now).map_err(|when| (per_hour, when))
        };
        // Before it is: cut in between, it is looked for all the same.
        self.spent = Some(now);
        match self.portal.change(spend).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err((per_hour, when))) => {
                self.spent = None;
                let detail =
                    format!("{per_hour} logins within an hour are spent; the next is possible at {}", when.local());
                Err(LoginFailure::new(Cause::BudgetSpent, detail))
            }
            Err(error) => Err(failed_inside(&error)),
        }
    }

    /// Turns a finished walk into a session, and makes sure that it is one.
    async fn finish(mut self, id: &str, context: Context) -> Result<Arc<Session>, LoginFailure> {
        let keep_tab = self.portal.recipe().browser.keep_tab;
        let state = if keep_tab {
            context.export_with(&self.page, None).await?
        } else {
            context.export_beside(&self.page).await?
        };
        let identity = context.identity().await?;
        let held = state.cookies.clone();
        let session = Session::new(id.to_owned(), state, std::mem::take(&mut self.values), identity);
        let context = Arc::new(context);
        session.set_context(Some(Arc::clone(&context)));
        if keep_tab {
            self.page.take_calls(page_options(self.portal)).await?;
            tab::adopt(self.portal, &session, Arc::clone(&self.page), context, held).await;
        }
        let verdict = check::check(self.portal, &session).await;
        if let Verdict::Expired(why) = verdict {
            let detail = format!("the steps went through, but the check says that nobody is logged in: {why}");
            return Err(self.explain(LoginFailure::new(Cause::PageChanged, detail)).await);
        }
        session.set_checked(self.portal.now(), verdict == Verdict::Alive);
        if let Some(turn) = self.turn.as_mut().filter(|_| self.code_typed)
            && let Err(error) = turn.accepted().await
        {
            // The session works; what is lost is only that the phone has proven itself.
            tracing::error!(portal = self.portal.name(), "an accepted code was not noted: {error}");
        }
        // With this the tab goes, unless the session keeps it; the context stays with the session.
        Ok(Arc::new(session))
    }

    async fn too_long(&self) -> LoginFailure {
        let detail = format!("the login was not done by {}", self.deadline.local());
        let Some(turn) = self.turn.as_ref().filter(|_| self.code_awaited) else {
            return LoginFailure::new(Cause::PageChanged, detail);
        };
        if let Err(error) = turn.in_vain().await {
            tracing::error!(portal = self.portal.name(), "a wait in vain was not noted: {error}");
        }
        no_sms(self.portal, format!("{detail}: no code had come"))
    }

    /// Adds where it happened and what the page looked like, and looks again whether the portal is simply down.
    async fn explain(&mut self, mut failure: LoginFailure) -> LoginFailure {
        self.trace.failed(&failure.detail);
        failure.steps = self.trace.last();
        let steps = &self.portal.recipe().login.steps;
        if let Some(step) = steps.get(self.step) {
            failure.detail = format!("step {} (line {}): {}", self.step + 1, step.line, failure.detail);
        }
        if let Ok(Ok(picture)) = clock::within(EVIDENCE, self.page.screenshot(&[], &self.typed)).await {
            failure.picture = Some(picture);
        }
        if let Ok(Ok(page)) = clock::within(EVIDENCE, self.page.outline()).await {
            // The page may say it in plain words: "user … with password … is unknown".
            let secrets = self.typed.iter().map(Secret::expose).chain(self.values.values().map(String::as_str));
            failure.page = Some(evidence::without(page, secrets));
        }
        if failure.cause == Cause::PageChanged && self.portal_is_down().await {
            failure.cause = Cause::PortalDown;
        }
        // Once a code was asked for, a portal that breaks down after it would get a login and an SMS each minute for ever.
        if let (Cause::PortalDown, Some(spent), false) = (failure.cause, self.spent, self.code_asked) {
            let refund = self.portal.change(|record| record.refund_login(spent)).await;
            if let Err(error) = refund {
                tracing::error!(portal = self.portal.name(), "a login was not given back: {error}");
            }
        }
        failure
    }

    /// A page that is not what the recipe expects may be the portal's way of being down.
    async fn portal_is_down(&self) -> bool {
        let start = self.portal.recipe().base_url.as_str();
        match clock::within(EVIDENCE, self.page.goto(start, EVIDENCE)).await {
            Ok(Ok(landing)) => landing.status >= 500,
            Ok(Err(error)) => error.kind() == Kind::PortalDown,
            Err(_) => true,
        }
    }
}

/// The code that a login by `recipe` expects, if it expects one.
pub(super) fn expected(recipe: &Recipe) -> Option<Expected> {
    let code = recipe.code.as_ref().filter(|_| recipe.needs_phone())?;
    let rules = code.rules(&recipe.base_url);
    Some(Expected { rules, senders: code.senders.clone(), timeout: code.timeout })
}

/// Whether a step tells the portal anything about the account.
const fn touches(action: &Action) -> bool {
    matches!(
        action,
        Action::Fill { .. }
            | Action::Click { .. }
            | Action::Select { .. }
            | Action::Press { .. }
            | Action::Code { .. }
            | Action::Totp { .. }
    )
}

/// Reads what a `save` step names from a page.
pub(super) async fn read_value(
    page: &Page,
    selector: &str,
    attribute: Option<&str>,
    limit: Duration,
) -> Result<String, BrowserError> {
    // Not `wait_for`: what is worth saving is often invisible, as a meta element is.
    let not_found = || BrowserError::NotFound { selector: selector.to_owned() };
    let read = async {
        loop {
            let found = match attribute {
                Some(attribute) => page.attribute(selector, attribute).await,
                None => page.text(selector).await.map(Some),
            };
            match found {
                Ok(Some(value)) => return Ok(value),
                Ok(None) => return Err(not_found()),
                Err(BrowserError::NotFound { .. }) => clock::pause(Duration::from_millis(50)).await,
                Err(error) => return Err(error),
            }
        }
    };
    clock::within(limit, read).await.unwrap_or_else(|_| Err(not_found()))
}
