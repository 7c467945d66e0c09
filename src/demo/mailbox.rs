//! A mail server on loopback that keeps what it is sent: the proof that exactly one mail went out.
//!
//! It speaks real SMTP, with optional AUTH PLAIN, can refuse, be slow, or close its port and open it again. It forwards
//! nothing anywhere.

mod mail;
mod smtp;

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio_util::sync::CancellationToken;

use crate::clock::{self, Clock, DeadlineExceeded};
use crate::lifecycle::Lifecycle;
use crate::secret::Secret;

pub use mail::Mail;

/// Mails kept; the oldest makes room.
const KEPT: usize = 256;
/// Connections served at once.
const CONNECTIONS: usize = 32;
/// The pause after a failed accept, so that running out of descriptors does not become a busy loop.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// What is wrong with the mail server; the default is nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Faults {
    /// Refuse every `MAIL FROM` with this code: 421 (and hang up), 451 for now, 550 for good.
    pub refuse: Option<u16>,
    /// Take this long, of real time, for every reply.
    pub slow: Duration,
}

/// A running mail server; clones are the same one. It runs until its [`Lifecycle`] stops.
#[derive(Clone)]
pub struct Mailbox(Arc<Shared>);

impl fmt::Debug for Mailbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mailbox")
            .field("address", &self.0.address)
            .field("mails", &self.count())
            .finish_non_exhaustive()
    }
}

struct Shared {
    address: SocketAddr,
    credentials: Option<(String, Secret)>,
    clock: Clock,
    life: Lifecycle,
    faults: watch::Sender<Faults>,
    /// Ends the listener and its connections; present while the port is open.
    open: Mutex<Option<CancellationToken>>,
    /// How many listeners and connections of this server live.
    alive: watch::Sender<usize>,
    mails: Mutex<Mails>,
    changed: watch::Sender<()>,
}

#[derive(Default)]
struct Mails {
    kept: VecDeque<Mail>,
    total: usize,
}

impl Mailbox {
    /// Opens a mail server on a free port of loopback. With `credentials` a client has to authenticate.
    ///
    /// # Errors
    /// When no port can be bound.
    pub async fn start(credentials: Option<(String, Secret)>, clock: &Clock, life: &Lifecycle) -> io::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let mailbox = Self(Arc::new(Shared {
            address: listener.local_addr()?,
            credentials,
            clock: clock.clone(),
            life: life.clone(),
            faults: watch::Sender::default(),
            open: Mutex::default(),
            alive: watch::Sender::new(0),
            mails: Mutex::default(),
            changed: watch::Sender::new(()),
        }));
        mailbox.listen(listener);
        Ok(mailbox)
    }

    /// Where it listens, also while the port is closed.
    pub fn address(&self) -> SocketAddr {
        self.0.address
    }

    /// Its URL as configuration has it: `smtp://127.0.0.1:PORT`.
    pub fn url(&self) -> String {
        format!("smtp://{}", self.0.address)
    }

    /// Switches faults; a connection sees the change at its next command.
    pub fn faults(&self, switch: impl FnOnce(&mut Faults)) {
        self.0.faults.send_modify(switch);
    }

    /// Closes the port and every connection; returns when that is so. The mails stay.
    pub async fn close(&self) {
        if let Some(open) = self.open().take() {
            open.cancel();
        }
        // The sender lives in `self`, so this ends only when nothing lives any more.
        let _ = self.0.alive.subscribe().wait_for(|alive| *alive == 0).await;
    }

    /// Opens the same port again; does nothing when it is open.
    ///
    /// # Errors
    /// When somebody else took the port in the meantime.
    pub async fn reopen(&self) -> io::Result<()> {
        if self.open().is_none() {
            let listener = TcpListener::bind(self.0.address).await?;
            self.listen(listener);
        }
        Ok(())
    }

    /// How many mails were accepted since the start.
    pub fn count(&self) -> usize {
        self.mails().total
    }

    /// The mails kept, oldest first (the last 256).
    pub fn all(&self) -> Vec<Mail> {
        self.mails().kept.iter().cloned().collect()
    }

    /// Waits, at most `limit` of real time, for the mail number `number`, counted from 1 since the start.
    ///
    /// # Errors
    /// [`DeadlineExceeded`] when it did not come in time, or came so long ago that it is no longer kept.
    pub async fn nth(&self, number: usize, limit: Duration) -> Result<Mail, DeadlineExceeded> {
        let mut changes = self.0.changed.subscribe();
        let mail = clock::within(limit, async {
            loop {
                changes.mark_unchanged();
                if self.count() >= number || changes.changed().await.is_err() {
                    return self.kept(number);
                }
            }
        });
        mail.await?.ok_or(DeadlineExceeded)
    }

    fn kept(&self, number: usize) -> Option<Mail> {
        let mails = self.mails();
        let dropped = mails.total - mails.kept.len();
        mails.kept.get(number.checked_sub(dropped + 1)?).cloned()
    }

    fn keep(&self, mail: Mail) {
        let mut mails = self.mails();
        mails.kept.push_back(mail);
        mails.total += 1;
        if mails.kept.len() > KEPT {
            mails.kept.pop_front();
        }
        drop(mails);
        self.0.changed.send_replace(());
    }

    fn mails(&self) -> MutexGuard<'_, Mails> {
        self.0.mails.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn open(&self) -> MutexGuard<'_, Option<CancellationToken>> {
        self.0.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn listen(&self, listener: TcpListener) {
        let stop = self.0.life.stopping().child_token();
        *self.open() = Some(stop.clone());
        let alive = Alive::new(&self.0.alive);
        let mailbox = self.clone();
        self.0.life.spawn("demo mailbox", async move { mailbox.accept(listener, stop, alive).await });
    }

    async fn accept(self, listener: TcpListener, stop: CancellationToken, alive: Alive) {
        let places = Arc::new(Semaphore::new(CONNECTIONS));
        loop {
            let accepted = async {
                let place = Arc::clone(&places).acquire_owned().await;
                (listener.accept().await, place)
            };
            let (accepted, place) = tokio::select! {
                accepted = accepted => accepted,
                () = stop.cancelled() => break,
            };
            let Ok((stream, peer)) = accepted else {
                clock::pause(ACCEPT_PAUSE).await;
                continue;
            };
            let (mailbox, stop, alive) = (self.clone(), stop.clone(), Alive::new(&self.0.alive));
            self.0.life.spawn("demo mailbox connection", async move {
                mailbox.converse(stream, peer, stop).await;
                drop((place, alive));
            });
        }
        drop(listener);
        drop(alive);
    }

    async fn converse(&self, stream: TcpStream, peer: SocketAddr, stop: CancellationToken) {
        tokio::select! {
            ended = smtp::converse(self, stream, peer.ip()) => {
                if let Err(error) = ended {
                    tracing::debug!(%error, %peer, "demo mailbox: connection ended");
                }
            }
            () = stop.cancelled() => {}
        }
    }
}

/// Counts a listener or a connection for as long as it lives.
struct Alive(watch::Sender<usize>);

impl Alive {
    fn new(count: &watch::Sender<usize>) -> Self {
        count.send_modify(|count| *count += 1);
        Self(count.clone())
    }
}

impl Drop for Alive {
    fn drop(&mut self) {
        self.0.send_modify(|count| *count -= 1);
    }
}

#[cfg(test)]
mod tests;
