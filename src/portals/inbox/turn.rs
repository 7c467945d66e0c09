//! A turn: one login's exclusive use of its phones, from before it asks for a code until it is done.
//!
//! Where a portal has several phones, the first that brings a code wins, and the same or another code from the others counts
//! no more. Dropping the turn ends it, whatever happened to the login, and the next in the queue gets the phones.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::future::try_join_all;
use futures_util::stream::FuturesUnordered;
use tokio::sync::OwnedSemaphorePermit;
use tokio::sync::watch::Receiver;

use super::line::{Line, Window};
use super::record::{Mark, Phone, Print};
use super::{Expected, Inbox, InboxError};
use crate::clock::Time;
use crate::secret::{Secret, VaultError};

/// The guard of a turn; made by [`Inbox::turn`].
#[derive(Debug)]
pub struct Turn {
    inbox: Inbox,
    portal: String,
    /// Its phones, the first choice first. Without any, no code can come.
    posts: Vec<Post>,
    last: Option<Given>,
}

/// A phone that the turn has.
#[derive(Debug)]
pub(super) struct Post {
    pub(super) phone: String,
    pub(super) line: Arc<Line>,
    pub(super) _door: OwnedSemaphorePermit,
}

/// The code that was given out last.
#[derive(Clone, Copy, Debug)]
pub(super) struct Given {
    print: Print,
    /// Which phone brought it, and when it was sent; none for what an operator typed.
    by: Option<(usize, Mark)>,
}

/// A code to type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Code {
    /// The code.
    pub secret: Secret,
    /// How long it had been here.
    pub age: Duration,
    /// Whether it was here before anybody waited.
    pub buffered: bool,
}

/// Why there is no code.
#[derive(Debug, thiserror::Error)]
pub enum NoCode {
    /// None came in time: ask the portal to send another, or give up with `no_sms`.
    #[error("no code came in time")]
    Late,
    /// The process is stopping.
    #[error("stopping")]
    Stopping,
    /// The inbox could not do its work.
    #[error(transparent)]
    Failed(#[from] InboxError),
}

impl Turn {
    /// The turn of a login at `portal` that has every door.
    pub(super) fn begin(inbox: Inbox, portal: &str, posts: Vec<Post>) -> Self {
        posts.iter().for_each(|post| post.line.enter(portal));
        Self { inbox, portal: portal.to_owned(), posts, last: None }
    }

    /// Says that a code is about to be asked for: to be called right before each click that sends one. Codes count from
    /// now on, on each phone; what came before is dropped. The wait begins with [`Turn::code`].
    ///
    /// # Errors
    /// When the store failed; then do not click.
    pub async fn expect(&mut self, expected: Expected) -> Result<(), InboxError> {
        let (since, expected) = (self.inbox.now(), Arc::new(expected));
        let opened = self.posts.iter().map(|post| self.inbox.change(&post.phone, |phone| phone.open_window()));
        let numbers = try_join_all(opened).await?;
        for (post, number) in self.posts.iter().zip(numbers) {
            post.line.open(Window { number, since, expected: Arc::clone(&expected) });
        }
        Ok(())
    }

    /// Waits for the code until `deadline`, at most for the recipe's timeout. One that an operator typed comes first.
    ///
    /// Drop the wait only together with the turn: a code that is just being taken goes with it.
    ///
    /// # Errors
    /// [`NoCode::Late`] when the time ran out; the phones count as silent then.
    pub async fn code(&mut self, deadline: Time) -> Result<Code, NoCode> {
        let lines: Vec<_> = self.posts.iter().map(|post| Arc::clone(&post.line)).collect();
        let _waiting: Vec<_> = lines.iter().map(|line| line.wait()).collect();
        let mut bells: Vec<_> = lines.iter().map(|line| line.listen()).collect();
        let window = lines.iter().find_map(|line| line.window());
        let limit = window.map(|window| self.inbox.now() + window.expected.timeout);
        let deadline = limit.map_or(deadline, |limit| limit.min(deadline));
        let inbox = self.inbox.clone();
        let end = inbox.sleep(deadline.since(inbox.now()));
        tokio::pin!(end);
        let mut buffered = true;
        loop {
            bells.iter_mut().for_each(Receiver::mark_unchanged);
            if let Some(code) = self.look(buffered).await? {
                return Ok(code);
            }
            buffered = false;
            let mut rung: FuturesUnordered<_> = bells.iter_mut().map(Receiver::changed).collect();
            tokio::select! {
                biased;
                () = self.inbox.stopping() => return Err(NoCode::Stopping),
                Some(_) = rung.next() => {}
                () = &mut end => break,
            }
        }
        self.in_vain().await?;
        Err(NoCode::Late)
    }

    /// Says that a wait for the code was in vain that was not left to [`Turn::code`] to end: the phones count as silent.
    ///
    /// # Errors
    /// When the store failed.
    pub async fn in_vain(&self) -> Result<(), InboxError> {
        let now = self.inbox.now();
        let vain = self.posts.iter().map(|post| self.inbox.change(&post.phone, |phone| phone.vain_at = Some(now)));
        try_join_all(vain).await.map(drop)
    }

    /// Says that the portal rejected the last code. It is not given out again, in whatever message it comes, by this login
    /// or by one after it; only a newer one counts.
    ///
    /// A stale code that was never typed and says the very second of the request cannot be told from the right one: phones
    /// tell seconds, and their clocks differ from ours by more. It costs one attempt, and this keeps it from costing two.
    ///
    /// # Errors
    /// When the store failed. This login remembers it all the same.
    pub async fn rejected(&mut self) -> Result<(), InboxError> {
        let Some(given) = self.last else { return Ok(()) };
        let now = self.inbox.now();
        self.posts.iter().for_each(|post| post.line.reject(given.print));
        for post in &self.posts {
            self.inbox.change(&post.phone, |phone| phone.reject(given.print, now)).await?;
        }
        Ok(())
    }

    /// Says that the portal accepted the last code, which proves the phone that it came from.
    ///
    /// # Errors
    /// When the store failed. The login is no worse for it.
    pub async fn accepted(&mut self) -> Result<(), InboxError> {
        if let Some((index, _)) = self.last.and_then(|given| given.by) {
            let now = self.inbox.now();
            self.inbox.change(&self.posts[index].phone, |phone| phone.accepted_at = Some(now)).await?;
        }
        Ok(())
    }

    async fn look(&mut self, buffered: bool) -> Result<Option<Code>, InboxError> {
        if let Some(secret) = self.posts.iter().find_map(|post| post.line.take_typed()) {
            tracing::info!(portal = self.portal, "portal {} uses a code typed by an operator", self.portal);
            return Ok(Some(self.give(secret, None, Duration::ZERO, buffered)));
        }
        for index in 0..self.posts.len() {
            if let Some(code) = self.look_at(index, buffered).await? {
                return Ok(Some(code));
            }
        }
        Ok(None)
    }

    /// Takes the code that one phone has.
    async fn look_at(&mut self, index: usize, buffered: bool) -> Result<Option<Code>, InboxError> {
        let Post { phone, line, .. } = &self.posts[index];
        let Some(window) = line.window() else { return Ok(None) };
        let (rejected, now) = (line.rejected(), self.inbox.now());
        // What the same phone brought is ordered in its record already.
        let last = self.last.and_then(|given| given.by).filter(|(by, _)| *by != index).map(|(_, mark)| mark);
        let take = |phone: &mut Phone| phone.take(window.number, &rejected, last, now);
        let Some(held) = self.inbox.change(phone, take).await? else { return Ok(None) };
        for (other, post) in self.posts.iter().enumerate() {
            if other != index {
                post.line.rest(held.print);
            }
        }
        if !buffered {
            line.hand(held.print);
        }
        let plain = self.inbox.open(phone, &held.sealed)?;
        let text = std::str::from_utf8(&plain).map_err(|_| VaultError::Sealed)?;
        let age = now.since(held.mark.arrived_at);
        if buffered {
            let (portal, early) = (&self.portal, age.as_secs_f64());
            tracing::info!(portal, early, phone, "SMS code for portal {portal} was {early:.1} s early");
        }
        Ok(Some(self.give(Secret::new(text), Some((index, held.mark)), age, buffered)))
    }

    fn give(&mut self, secret: Secret, by: Option<(usize, Mark)>, age: Duration, buffered: bool) -> Code {
        self.last = Some(Given { print: self.inbox.code_print(&secret), by });
        Code { secret, age, buffered }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        // Before the doors open for the next, which happens when the fields are dropped.
        self.posts.iter().for_each(|post| post.line.leave());
    }
}
