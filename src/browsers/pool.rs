//! The pool: two seats, one browser process on each, replaced when it dies, hangs, or has had enough.
//!
//! A portal keeps its active session on one seat and its standby on the other; a promotion moves nothing, the seats only
//! change their meaning for that portal. Whoever keeps sessions watches [`Pool::watch`] to learn that a process died or
//! retires, and restores its contexts into the next generation. A portal that needs another program gets another pool,
//! made when it is first asked for; its processes end when nobody holds it any more.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use tokio::sync::watch;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::chrome::{Context, ContextOptions};
use super::error::BrowserError;
use super::launch::Launcher;
use super::recycle::{Recycle, Recycler};
use super::seat::{Health, Keeper, Place, Seat};
use super::settings::Settings;
use crate::lifecycle::Lifecycle;

/// Programs that may have a pool at once: two processes each.
const PROGRAMS: usize = 4;

/// Two browser processes of one program; clones share them. They end with the last clone, or with the [`Lifecycle`] that the
/// first pool was made in.
#[derive(Clone, Debug)]
pub struct Pool(Arc<Seats>);

#[derive(Debug)]
struct Seats {
    places: [Place; 2],
    family: Arc<Family>,
    _end: DropGuard,
}

/// The pools of all programs.
#[derive(Debug)]
struct Family {
    /// Starts the program that the operator configured.
    launcher: Launcher,
    recycle: Recycle,
    life: Lifecycle,
    // A plain mutex: held to look something up, never across an await.
    pools: Mutex<BTreeMap<PathBuf, Weak<Seats>>>,
}

impl Pool {
    /// Prepares both seats; the processes start when first wanted.
    ///
    /// # Errors
    /// [`BrowserError::Launch`] when the runtime directory or the account for the browser is not usable.
    pub fn new(life: &Lifecycle, settings: Settings) -> Result<Self, BrowserError> {
        let recycle = settings.recycle;
        let launcher = Launcher::new(life, settings)?;
        let first = Arc::new(launcher.clone());
        let family = Arc::new(Family { launcher, recycle, life: life.clone(), pools: Mutex::default() });
        let pool = family.seats(&first);
        if let Ok(program) = first.program() {
            family.pools.lock().unwrap_or_else(PoisonError::into_inner).insert(program, Arc::downgrade(&pool));
        }
        Ok(Self(pool))
    }

    /// The pool of another program in the same place and by the same rules: the one that there is, or a new one.
    ///
    /// # Errors
    /// [`BrowserError::NotInstalled`] when there is no such program, [`BrowserError::Launch`] when more than four programs
    /// would have a pool.
    pub fn of_program(&self, program: &Path) -> Result<Self, BrowserError> {
        let family = &self.0.family;
        let launcher = Arc::new(family.launcher.of_program(program));
        let program = launcher.program()?;
        let mut pools = family.pools.lock().unwrap_or_else(PoisonError::into_inner);
        pools.retain(|_, pool| pool.strong_count() > 0);
        if let Some(pool) = pools.get(&program).and_then(Weak::upgrade) {
            return Ok(Self(pool));
        }
        if pools.len() >= PROGRAMS {
            let reason = format!("{} would be one more than the {PROGRAMS} programs that may run", program.display());
            return Err(BrowserError::Launch { reason });
        }
        let pool = family.seats(&launcher);
        pools.insert(program, Arc::downgrade(&pool));
        Ok(Self(pool))
    }

    /// Starts both processes and waits until both answer.
    ///
    /// # Errors
    /// The first reason why one does not.
    pub async fn warm(&self) -> Result<(), BrowserError> {
        let (a, b) = tokio::join!(self.place(Seat::A).enter(), self.place(Seat::B).enter());
        a.and(b).map(drop)
    }

    /// Opens an incognito context in the process on `seat`, starting that if need be.
    ///
    /// # Errors
    /// Why there is no process, or [`BrowserError::Gone`] when it died meanwhile.
    pub async fn open(&self, seat: Seat, options: ContextOptions) -> Result<Context, BrowserError> {
        Context::open(self.place(seat).enter().await?, options).await
    }

    /// How the process on `seat` is doing, and every change of it.
    pub fn watch(&self, seat: Seat) -> watch::Receiver<Health> {
        self.place(seat).watch()
    }

    fn place(&self, seat: Seat) -> &Place {
        &self.0.places[seat.index()]
    }
}

/// Handles to the same two processes are equal.
impl PartialEq for Pool {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Family {
    /// Two seats with somebody who keeps them, and somebody who looks after the age of both.
    fn seats(self: &Arc<Self>, launcher: &Arc<Launcher>) -> Arc<Seats> {
        let end: CancellationToken = self.life.stopping().child_token();
        let places = [Seat::A, Seat::B].map(|seat| {
            let (place, orders) = Place::new(seat);
            let keeper = Keeper::new(place.clone(), Arc::clone(launcher), end.clone(), self.life.clone());
            self.life.spawn(format!("browser {seat:?}"), keeper.run(orders));
            place
        });
        let recycler = Recycler { places: places.clone(), limits: self.recycle, stop: end.clone() };
        self.life.spawn("browser recycler", recycler.run());
        Arc::new(Seats { places, family: Arc::clone(self), _end: end.drop_guard() })
    }
}
