//! A delivery company's portal ("한빛택배 협력사 포털") that has no API to log in with: a login page, an SMS code, sessions
//! that end, CSRF tokens, and the orders that batch jobs want.
//!
//! It is what the appliance is for, so it behaves as portals do: a form refuses what a script clicked, the session
//! cookie changes at login, a superseded code is void. It lives in memory and on loopback only; it must never be
//! reachable by others, since it has an open redirect and echoes requests on purpose.

mod api;
mod app;
mod book;
mod controls;
mod faults;
mod login;
mod orders;
mod pages;
mod serve;
#[cfg(test)]
mod tests;

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::http::HeaderMap;
use axum::http::header::COOKIE;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::clock::{self, Clock};
use crate::demo::phone::Line;
use crate::ids::Random;
use crate::lifecycle::Lifecycle;
use crate::secret::Secret;

use book::Book;
pub use book::{Counters, Member};
pub use controls::{Controls, Pick};
pub use faults::{Faults, LoggedOut, Outage, Pace, TICKET_GRACE};
pub use orders::Order;
use orders::Orders;
use pages::Pages;

/// The shipped recipe for this portal, with its placeholder address.
const RECIPE: &str = include_str!("../../data/portals/demo.toml");
/// The shipped recipe for its single-page app.
const APP_RECIPE: &str = include_str!("../../data/portals/demo-app.toml");
/// The address in the shipped recipes.
const PLACEHOLDER: &str = "http://127.0.0.1:8600";
/// How long [`Pace::Held`] holds at most.
const HELD_AT_MOST: Duration = Duration::from_secs(120);

/// The recipe that logs in to a portal at `base_url` (`http://127.0.0.1:PORT`).
pub fn recipe_toml(base_url: &str) -> String {
    RECIPE.replace(PLACEHOLDER, base_url)
}

/// The recipe that logs in to the single-page app of a portal at `base_url`.
pub fn app_recipe_toml(base_url: &str) -> String {
    APP_RECIPE.replace(PLACEHOLDER, base_url)
}

/// Who may log in, and how long sessions and codes live.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The accounts.
    pub accounts: Vec<Account>,
    /// The number that the SMS come from.
    pub sender: String,
    /// Sessions end after this long without a request; on the portal's clock, like the next two.
    pub idle: Option<Duration>,
    /// Sessions end this long after the login page was opened, whatever happens.
    pub absolute: Option<Duration>,
    /// How long a code is good.
    pub code_lifetime: Duration,
}

impl Settings {
    /// One account, sessions that end only by hand, codes good for three minutes.
    pub fn of(account: Account) -> Self {
        Self {
            accounts: vec![account],
            sender: "15881234".into(),
            idle: None,
            absolute: None,
            code_lifetime: Duration::from_secs(180),
        }
    }
}

/// One customer of the portal.
#[derive(Clone, Debug)]
pub struct Account {
    /// The user name.
    pub user: String,
    /// The password.
    pub password: Secret,
    /// The phone number that codes go to.
    pub number: String,
    /// The phone that rings under that number.
    pub line: Line,
}

impl Account {
    /// The account `partner01` with a password drawn from `random`.
    pub fn partner(random: &Random, line: Line) -> Self {
        let password = format!("Hb!{}", &random.session_id()[..12]);
        Self { user: "partner01".into(), password: Secret::new(password), number: "010-2345-6789".into(), line }
    }
}

/// A running portal. It runs until its [`Lifecycle`] stops.
#[derive(Debug)]
pub struct Portal {
    address: SocketAddr,
    controls: Controls,
}

impl Portal {
    /// Opens the portal on `listener`, which should be bound to loopback.
    ///
    /// # Errors
    /// When the listener has no address.
    pub fn start(
        listener: TcpListener,
        settings: Settings,
        clock: &Clock,
        random: &Random,
        life: &Lifecycle,
    ) -> io::Result<Self> {
        let address = listener.local_addr()?;
        let site = Site(Arc::new(Shared {
            book: Mutex::new(Book::new(&settings)),
            orders: Mutex::new(Orders::new(clock.now())),
            changed: watch::Sender::new(()),
            faults: watch::Sender::new(Faults::default()),
            settings,
            clock: clock.clone(),
            random: random.clone(),
            stop: life.stopping(),
        }));
        let router = login::routes(&site).merge(app::routes(&site)).merge(api::routes(&site));
        serve::start(listener, router, &site, life);
        Ok(Self { address, controls: Controls::new(site) })
    }

    /// Where it listens, as a recipe's `base_url`: `http://127.0.0.1:PORT`.
    pub fn base_url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// What a test or the demo pulls and reads; clones act on the same portal.
    pub fn controls(&self) -> Controls {
        self.controls.clone()
    }
}

/// What every handler shares; clones are the same portal.
#[derive(Clone)]
struct Site(Arc<Shared>);

struct Shared {
    book: Mutex<Book>,
    orders: Mutex<Orders>,
    changed: watch::Sender<()>,
    faults: watch::Sender<Faults>,
    settings: Settings,
    clock: Clock,
    random: Random,
    stop: CancellationToken,
}

impl Site {
    /// Reads or changes the memory, and wakes whoever waits for a change of it.
    fn book<T>(&self, act: impl FnOnce(&mut Book) -> T) -> T {
        // No invariant of the book spans two calls, so a poisoned one is still a book.
        let done = act(&mut self.0.book.lock().unwrap_or_else(PoisonError::into_inner));
        self.0.changed.send_replace(());
        done
    }

    fn orders(&self) -> MutexGuard<'_, Orders> {
        self.0.orders.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn faults(&self) -> Faults {
        self.0.faults.borrow().clone()
    }

    fn pages(&self) -> Pages {
        Pages { redesigned: self.0.faults.borrow().page_changed }
    }

    fn account(&self, user: &str) -> Option<&Account> {
        self.0.settings.accounts.iter().find(|account| account.user == user)
    }

    /// Takes the time that `pick` says something takes now.
    async fn pace(&self, pick: impl Fn(&Faults) -> Pace) {
        let pace = pick(&self.0.faults.borrow());
        let mut faults = self.0.faults.subscribe();
        let wait = async {
            match pace {
                Pace::Prompt => {}
                Pace::After(span) => clock::pause(span).await,
                Pace::Held => {
                    // The sender lives in `self`, so this ends only when the gate opens.
                    let _ = faults.wait_for(|faults| pick(faults) != Pace::Held).await;
                }
            }
        };
        tokio::select! {
            // After the limit things go on as if released: a forgotten gate must not hang a test.
            _ = clock::within(HELD_AT_MOST, wait) => {}
            () = self.0.stop.cancelled() => {}
        }
    }
}

/// The value of the request's cookie `name`.
fn cookie<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    cookies(headers).find(|(known, _)| *known == name).map(|(_, value)| value)
}

/// The request's cookies, in the order in which they came.
fn cookies(headers: &HeaderMap) -> impl Iterator<Item = (&str, &str)> {
    let lines = headers.get_all(COOKIE).into_iter().filter_map(|line| line.to_str().ok());
    lines.flat_map(|line| line.split(';')).filter_map(|pair| pair.trim().split_once('='))
}
