//! A transition with a call: claimed, called, and carried out or given up. The call goes on when whoever asked leaves.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;

use super::definition::{Call, Values, Work};
use super::provider::{Failure, Saved};
use super::record::{Claim, FlowRecord, Token};
use super::running::Under;
use super::transition::{Outcome, Wish};
use super::{Declared, Flow, FlowError, Flows, Verdict, metrics, transition};
use crate::clock::{self, Time};

/// The wait before the second attempt of a call; doubled with each.
const BACKOFF: Duration = Duration::from_millis(200);
/// How long a call that is under way may go on when the process stops.
const LAST: Duration = Duration::from_secs(7);

/// How a claim came about.
enum Claimed {
    /// By this request.
    Now,
    /// By the same request, in a process that has died.
    Earlier,
    /// Not at all: the same request was carried out before.
    Done,
}

/// What was asked for.
pub(super) struct Asked {
    pub(super) declared: Arc<Declared>,
    pub(super) sent: String,
    pub(super) once: Option<u64>,
    pub(super) token: Token,
}

impl Flows {
    pub(super) async fn take_with_call(
        &self,
        flow: &str,
        id: &str,
        name: &str,
        asked: Asked,
    ) -> Result<Arc<Flow>, FlowError> {
        let key = super::key(flow, id).ok_or(FlowError::Absent)?;
        let running = || FlowError::Running { transition: name.to_owned() };
        // Before the claim, so that nobody takes it for one that was left behind.
        let under = self.0.running.begin(&key, asked.token).ok_or_else(running)?;
        let at = (flow.to_owned(), id.to_owned(), name.to_owned());
        let (this, (tell, told)) = (self.clone(), oneshot::channel());
        self.0.life.spawn("transition of a flow", async move {
            let (flow, id, name) = at;
            let taken = match this.claim(&flow, &id, &name, asked).await {
                Ok((flow, Claimed::Now)) => this.carry_on(&flow, &under).await,
                Ok((flow, Claimed::Earlier)) => this.carry_on_after(&flow, &under).await,
                Ok((flow, Claimed::Done)) => Ok(flow),
                Err(error) => Err(error),
            };
            drop(under);
            // Nobody waits for it any more if whoever asked has left.
            let _ = tell.send(taken);
        });
        told.await.unwrap_or(Err(FlowError::Stopping))
    }

    async fn claim(&self, flow: &str, id: &str, name: &str, asked: Asked) -> Result<(Arc<Flow>, Claimed), FlowError> {
        let (name, of) = (name.to_owned(), id.to_owned());
        let claim = move |old: Option<&FlowRecord>, now: Time| {
            let Asked { declared, sent, once, token } = &asked;
            let (Some(old), Some(transition)) = (old, declared.definition.transition(&name)) else {
                return Verdict::Keep(Err(FlowError::Absent));
            };
            let Work::Call(call) = &transition.work else { return Verdict::Keep(Err(FlowError::Absent)) };
            let definition = &declared.definition;
            let wish = Wish { definition, transition, sent, once: *once, token: *token, now };
            match wish.claim(old, call, &of, &declared.secrets) {
                Ok(Outcome::Changed(record)) => Verdict::Put(record, Ok(Claimed::Now)),
                Ok(Outcome::Repeated) => Verdict::Keep(Ok(Claimed::Done)),
                Ok(Outcome::Left) => Verdict::Keep(Ok(Claimed::Earlier)),
                Err(error) => Verdict::Keep(Err(error)),
            }
        };
        let (flow, claimed) = self.change(flow, id, None, claim).await?;
        let claimed = claimed?;
        Ok((flow.ok_or(FlowError::Absent)?, claimed))
    }

    /// Goes on with a claim that a process left behind when it died: whether its call arrived is unknown, so it is made
    /// again only if that is safe.
    pub(super) async fn carry_on_after(&self, flow: &Flow, under: &Under) -> Result<Arc<Flow>, FlowError> {
        let Some(claim) = flow.record.claim.clone() else { return Err(FlowError::Absent) };
        let declared = self.declared(&flow.flow)?;
        match declared.definition.transition(&claim.transition).map(|transition| &transition.work) {
            Some(Work::Call(call)) if call.is_safe() => self.carry_on(flow, under).await,
            _ => self.give_up(flow, claim, Failure::Interrupted).await,
        }
    }

    /// Makes the claimed call, and carries the transition out or gives it up.
    pub(super) async fn carry_on(&self, claimed: &Flow, under: &Under) -> Result<Arc<Flow>, FlowError> {
        let Some(claim) = claimed.record.claim.clone() else { return Err(FlowError::Absent) };
        let declared = self.declared(&claimed.flow)?;
        let work = declared.definition.transition(&claim.transition).map(|transition| &transition.work);
        let Some(Work::Call(call)) = work else { return self.give_up(claimed, claim, Failure::Undefined).await };
        let data = transition::merged(&claimed.record.data, &claim.sent)?;
        let key = data_encoding::HEXLOWER.encode(&claim.token);
        let values = Values { data: &data, secrets: &declared.secrets, id: &claimed.id, key: &key };
        match self.call(&claimed.flow, call, &values, under).await {
            Some(Ok(saved)) => self.settle(claimed, claim, saved, declared).await,
            Some(Err(failure)) => self.give_up(claimed, claim, failure).await,
            // Whoever did away with the flow, or the next process, does the rest.
            None => Err(FlowError::Absent),
        }
    }

    /// Makes a call, again where that is safe and may help. None when it was cut.
    async fn call(
        &self,
        flow: &str,
        call: &Call,
        values: &Values<'_>,
        under: &Under,
    ) -> Option<Result<Saved, Failure>> {
        let mut attempt = 0;
        loop {
            let failure = match self.attempt(flow, call, values, under).await? {
                Err(failure) if attempt < call.retries && failure.is_worth_another(call.is_safe()) => failure,
                outcome => return Some(outcome),
            };
            tracing::debug!(%failure, "a call to {} is made again: {failure}", call.host());
            let wait = self.0.random.jitter(BACKOFF * 2_u32.pow(attempt), 20);
            attempt += 1;
            tokio::select! {
                () = clock::pause(wait) => {}
                () = under.cut() => return None,
                () = self.stopped() => return None,
            }
        }
    }

    /// Makes a call once. None when it was cut.
    pub(super) async fn attempt(
        &self,
        flow: &str,
        call: &Call,
        values: &Values<'_>,
        under: &Under,
    ) -> Option<Result<Saved, Failure>> {
        let request = match call.fill(values) {
            Ok(request) => request,
            Err(unfilled) => return Some(Err(Failure::Unfilled(unfilled.to_string()))),
        };
        let made = tokio::select! {
            biased;
            () = under.cut() => None,
            outcome = self.0.provider.send(call, request) => Some(outcome),
            () = self.stopped() => None,
        };
        made.inspect(|made| metrics::count_call(flow, made))
    }

    /// Done some time after the process was asked to stop.
    async fn stopped(&self) {
        self.0.life.stopping().cancelled().await;
        clock::pause(LAST).await;
    }

    async fn settle(
        &self,
        flow: &Flow,
        claim: Claim,
        saved: Saved,
        declared: Arc<Declared>,
    ) -> Result<Arc<Flow>, FlowError> {
        let settle = move |old: Option<&FlowRecord>, now: Time| match held(old, &claim) {
            None => Verdict::Keep(Err(FlowError::Absent)),
            Some(old) => {
                let Some(transition) = declared.definition.transition(&claim.transition) else {
                    return Verdict::Keep(Err(FlowError::UnknownTransition(claim.transition.clone())));
                };
                match transition::settle(old, &claim, transition, &saved, now) {
                    Ok(record) => Verdict::put(record, Ok(())),
                    // What the provider did is done; that it cannot be kept is said.
                    Err(error) => {
                        let text = format!("{} could not be completed: {error}", claim.transition);
                        let told = match error {
                            FlowError::TooLarge { .. } => {
                                let (transition, failure) = (claim.transition.clone(), Failure::TooLarge);
                                FlowError::Provider { transition, failure }
                            }
                            other => other,
                        };
                        Verdict::put(transition::release(old, &text, now), Err(told))
                    }
                }
            }
        };
        self.noted(&flow.flow, &flow.id, settle).await
    }

    /// Gives a claim up: the state stays, and a message says why.
    pub(super) async fn give_up(&self, flow: &Flow, claim: Claim, failure: Failure) -> Result<Arc<Flow>, FlowError> {
        let declared = self.declared(&flow.flow)?;
        let transition = claim.transition.clone();
        let known = declared.definition.transition(&transition);
        let own = known.and_then(|known| known.failure.clone());
        let host = match known.map(|known| &known.work) {
            Some(Work::Call(call)) => call.host(),
            _ => String::new(),
        };
        let (kind, id, code) = (&flow.flow, &flow.id, failure.code());
        tracing::warn!(flow = %kind, id = %id, transition, host, code, "{transition} of {kind} {id} failed: {failure}");
        let text = own.unwrap_or_else(|| format!("{transition} failed: {failure}"));
        let release = move |old: Option<&FlowRecord>, now: Time| match held(old, &claim) {
            None => Verdict::Keep(Err(FlowError::Absent)),
            Some(old) => Verdict::put(transition::release(old, &text, now), Ok(())),
        };
        self.noted(kind, id, release).await?;
        Err(FlowError::Provider { transition, failure })
    }
}

/// The record, if it still has this claim.
fn held<'a>(record: Option<&'a FlowRecord>, claim: &Claim) -> Option<&'a FlowRecord> {
    record.filter(|record| record.claim.as_ref().is_some_and(|held| held.token == claim.token))
}
