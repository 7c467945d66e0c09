//! A phone's line: who has it now, who waits for it, and what the login under way is doing. In memory, because a login
//! ends with the process.
//!
//! Plain locks, held for a field access and never across an await.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{Semaphore, watch};

use super::record::{Held, Print};
use super::{Expected, Receipt};
use crate::clock::Time;
use crate::secret::Secret;

/// How many rejected codes of one login are known by value; a login that has more is stopped by its budget long before.
const REJECTED_MAX: usize = 16;

/// One phone's line.
#[derive(Debug)]
pub(super) struct Line {
    /// Lets one login in at a time, first come first served.
    pub(super) door: Arc<Semaphore>,
    queued: AtomicUsize,
    login: Mutex<Option<Login>>,
    /// What the last login waited for here, when another phone brought it and this one may still do so.
    outrun: Mutex<Option<Awaited>>,
    bell: watch::Sender<()>,
}

/// The login that has the line.
#[derive(Debug)]
struct Login {
    portal: String,
    window: Option<Window>,
    waiting: bool,
    typed: Option<Secret>,
    rejected: Vec<Print>,
    /// The code that ended the last wait.
    handed: Option<Print>,
    /// Whether another phone has brought the code; then this one's are of no use until the login waits again.
    resting: bool,
}

/// The time since a login asked for a code.
#[derive(Clone, Debug)]
pub(super) struct Window {
    /// Its number in the phone's record.
    pub(super) number: u64,
    /// When the code was asked for.
    pub(super) since: Time,
    /// What the code looks like.
    pub(super) expected: Arc<Expected>,
}

/// What a message is judged by.
#[derive(Clone, Debug)]
pub(super) struct Awaited {
    pub(super) window: Window,
    pub(super) rejected: Vec<Print>,
    /// Whether another phone of this login has brought its code.
    pub(super) resting: bool,
}

impl Line {
    pub(super) fn new() -> Self {
        Self {
            door: Arc::new(Semaphore::new(1)),
            queued: AtomicUsize::new(0),
            login: Mutex::default(),
            outrun: Mutex::default(),
            bell: watch::Sender::new(()),
        }
    }

    /// Counts one more in the queue of at most `limit`; None when it is full.
    pub(super) fn queue(&self, limit: usize) -> Option<Place<'_>> {
        let place = Place(&self.queued);
        let before = self.queued.fetch_add(1, Ordering::SeqCst);
        (before < limit).then_some(place)
    }

    pub(super) fn enter(&self, portal: &str) {
        let portal = portal.to_owned();
        let (window, typed, handed, rejected) = (None, None, None, Vec::new());
        *self.outrun.lock().unwrap_or_else(PoisonError::into_inner) = None;
        *self.login() = Some(Login { portal, window, waiting: false, typed, rejected, handed, resting: false });
    }

    pub(super) fn leave(&self) {
        let outrun = self.awaited().filter(|awaited| awaited.resting);
        *self.outrun.lock().unwrap_or_else(PoisonError::into_inner) = outrun;
        *self.login() = None;
    }

    /// What the login before waited for here until another phone brought it.
    pub(super) fn outrun(&self) -> Option<Awaited> {
        self.outrun.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn open(&self, window: Window) {
        self.with(|login| (login.window, login.resting) = (Some(window), false));
    }

    /// Another phone has brought this code: here it counts no more, and neither does another until the next wait.
    pub(super) fn rest(&self, code: Print) {
        self.reject(code);
        self.with(|login| login.resting = true);
    }

    pub(super) fn window(&self) -> Option<Window> {
        self.with(|login| login.window.clone()).flatten()
    }

    /// The login that has asked for a code, if there is one.
    pub(super) fn awaited(&self) -> Option<Awaited> {
        self.with(|login| {
            let window = login.window.clone()?;
            Some(Awaited { window, rejected: login.rejected.clone(), resting: login.resting })
        })
        .flatten()
    }

    /// What became of a code kept for this window; None when its login has gone on or ended meanwhile.
    pub(super) fn receipt(&self, held: &Held) -> Option<Receipt> {
        self.with(|login| {
            login.window.as_ref().filter(|window| window.number == held.window && !login.resting)?;
            let portal = login.portal.clone();
            // A wait that some other ring woke may have found the code before its own message got here.
            let handed = login.waiting || login.handed == Some(held.print);
            Some(if handed { Receipt::Handed { portal } } else { Receipt::Buffered { portal } })
        })
        .flatten()
    }

    /// Notes that this code ends the wait.
    pub(super) fn hand(&self, code: Print) {
        self.with(|login| login.handed = Some(code));
    }

    /// Gives a typed code to the login of this portal; false when that is not the one on the line.
    pub(super) fn type_code(&self, portal: &str, code: &Secret) -> bool {
        let typed = self.with(|login| {
            let ours = login.portal == portal;
            if ours {
                login.typed = Some(code.clone());
            }
            ours
        });
        self.bell.send_replace(());
        typed.unwrap_or(false)
    }

    pub(super) fn take_typed(&self) -> Option<Secret> {
        self.with(|login| login.typed.take()).flatten()
    }

    pub(super) fn reject(&self, code: Print) {
        self.with(|login| {
            login.rejected.push(code);
            let excess = login.rejected.len().saturating_sub(REJECTED_MAX);
            login.rejected.drain(..excess);
        });
    }

    pub(super) fn rejected(&self) -> Vec<Print> {
        self.with(|login| login.rejected.clone()).unwrap_or_default()
    }

    /// Marks the login as waiting until the guard goes.
    pub(super) fn wait(&self) -> Waiting<'_> {
        self.with(|login| (login.waiting, login.resting) = (true, false));
        Waiting(self)
    }

    /// Wakes at every ring from now on.
    pub(super) fn listen(&self) -> watch::Receiver<()> {
        self.bell.subscribe()
    }

    /// Rings when the guard goes, however that happens: a request whose client has left may still have stored its code.
    pub(super) const fn ring_after(&self) -> Ring<'_> {
        Ring(self)
    }

    fn with<T>(&self, act: impl FnOnce(&mut Login) -> T) -> Option<T> {
        self.login().as_mut().map(act)
    }

    fn login(&self) -> MutexGuard<'_, Option<Login>> {
        self.login.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A place in the queue.
pub(super) struct Place<'a>(&'a AtomicUsize);

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

/// A login that waits for its code.
pub(super) struct Waiting<'a>(&'a Line);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.with(|login| login.waiting = false);
    }
}

/// A ring to come.
pub(super) struct Ring<'a>(&'a Line);

impl Drop for Ring<'_> {
    fn drop(&mut self) {
        self.0.bell.send_replace(());
    }
}
