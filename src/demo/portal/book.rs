//! What the portal remembers: who visits, who is a member, what was ordered, and a count of everything.
//!
//! Plain data and the portal's own rules, without HTTP. Callers hold the lock for one call and pass the time and the
//! random values in, so nothing here waits, draws or knows of a clock.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use serde::Serialize;

use super::faults::TICKET_GRACE;
use super::{Account, Settings};
use crate::clock::Time;
use crate::secret::{self, Secret};

/// Visits kept at once; the longest unused one makes room.
const VISITS: usize = 512;
/// Superseded tickets kept for one session, all of them younger than the grace.
const TICKETS: usize = 1024;
/// Login ids remembered for one account.
const LOGINS: usize = 1024;
/// Values of a rotating session cookie that count: the present one and the last one before it.
const COOKIES: usize = 2;
/// Wrong passwords in a row that lock an account.
const LOCK_AFTER: u32 = 5;
/// How long an account stays locked.
const LOCK: Duration = Duration::from_secs(600);
/// Wrong codes that end a login.
const CODE_TRIES: u32 = 5;

/// What the portal has counted for one account since it started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Counters {
    /// Login forms sent with this user name, locked and wrong ones included.
    pub logins_attempted: u64,
    /// Passwords that were right.
    pub passwords_accepted: u64,
    /// Passwords that were wrong, or came while the account was locked.
    pub passwords_rejected: u64,
    /// SMS codes sent.
    pub codes_sent: u64,
    /// Codes that completed a login.
    pub codes_accepted: u64,
    /// Codes that were refused, by fault or because they were wrong, old or void.
    pub codes_rejected: u64,
    /// Refused codes that had been refused in the same login before: somebody types in a loop.
    pub codes_repeated: u64,
    /// Calls of `/api` inside a live session.
    pub api_calls: u64,
    /// Calls of `/api/orders` inside a live session.
    pub order_calls: u64,
    /// Home pages shown inside a live session; counted before [`super::Faults::home_page`] holds them.
    pub home_pages: u64,
    /// Orders made.
    pub orders_created: u64,
    /// Calls refused for a missing or stale `x-csrf`.
    pub csrf_refused: u64,
    /// Answers that said "logged out" to a session of this account that had ended.
    pub expired_answers: u64,
}

/// A live session as the portal sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Member {
    /// The portal's short name for the session, as in `X-Portal-Session`. Tells nothing about the cookie.
    pub id: String,
    /// The account.
    pub user: String,
    /// When the login was completed.
    pub since: Time,
    /// The last request.
    pub last_seen: Time,
}

/// One browser's cookie, from the first look at the login page on.
pub(super) struct Visit {
    pub(super) id: String,
    pub(super) token: String,
    pub(super) stage: Stage,
    created_at: Time,
    last_seen: Time,
    /// The rotating cookie's values, none at all being the first; with the moment at which each was superseded.
    tickets: VecDeque<(Option<String>, Option<Time>)>,
    /// The values of the session cookie that open the door, newest last; the first one at the beginning is its own key.
    cookies: VecDeque<String>,
}

/// How far a visit has come.
#[derive(Clone)]
pub(super) enum Stage {
    Stranger,
    PasswordAccepted { user: String },
    CodeSent { user: String, code: Option<(String, Time)>, refused: Vec<String> },
    Member { user: String, since: Time },
}

impl Stage {
    pub(super) fn user(&self) -> Option<&str> {
        match self {
            Self::Stranger => None,
            Self::PasswordAccepted { user } | Self::CodeSent { user, .. } | Self::Member { user, .. } => Some(user),
        }
    }
}

/// What became of a password.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PasswordVerdict {
    Accepted,
    Wrong,
    Locked,
}

/// What became of a code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CodeVerdict {
    Accepted,
    Refused,
    /// Too many wrong ones: the login starts over.
    Thrown,
    NotAsked,
}

/// Why a cookie does not make a member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct NotAMember;

/// An account and what happened to it.
struct Ledger {
    password: Secret,
    counters: Counters,
    logins: VecDeque<String>,
    wrong_in_a_row: u32,
    locked_until: Option<Time>,
}

/// The portal's memory.
pub(super) struct Book {
    visits: BTreeMap<String, Visit>,
    /// Later values of rotating session cookies, each with the key of its visit.
    renewed: BTreeMap<String, String>,
    ledgers: BTreeMap<String, Ledger>,
    /// Cookies of ended sessions and whose they were, so that an expired call is counted for its account.
    ended: VecDeque<(String, String)>,
    idle: Option<Duration>,
    absolute: Option<Duration>,
    code_lifetime: Duration,
}

impl Book {
    pub(super) fn new(settings: &Settings) -> Self {
        let ledger = |account: &Account| Ledger {
            password: account.password.clone(),
            counters: Counters::default(),
            logins: VecDeque::new(),
            wrong_in_a_row: 0,
            locked_until: None,
        };
        Self {
            visits: BTreeMap::new(),
            renewed: BTreeMap::new(),
            ledgers: settings.accounts.iter().map(|account| (account.user.clone(), ledger(account))).collect(),
            ended: VecDeque::new(),
            idle: settings.idle,
            absolute: settings.absolute,
            code_lifetime: settings.code_lifetime,
        }
    }

    pub(super) fn count(&mut self, user: &str, count: impl FnOnce(&mut Counters)) {
        if let Some(ledger) = self.ledgers.get_mut(user) {
            count(&mut ledger.counters);
        }
    }

    pub(super) fn counters(&self, user: &str) -> Counters {
        self.ledgers.get(user).map(|ledger| ledger.counters).unwrap_or_default()
    }

    pub(super) fn logins(&self, user: &str) -> Vec<String> {
        self.ledgers.get(user).map(|ledger| ledger.logins.iter().cloned().collect()).unwrap_or_default()
    }

    pub(super) fn set_password(&mut self, user: &str, password: Secret) {
        if let Some(ledger) = self.ledgers.get_mut(user) {
            ledger.password = password;
        }
    }

    /// The visit of this cookie, whatever its stage.
    pub(super) fn visit(&self, sid: &str) -> Option<&Visit> {
        self.visits.get(sid)
    }

    /// Starts a visit under a fresh cookie.
    pub(super) fn welcome(&mut self, sid: &str, token: String, stage: Stage, now: Time) {
        while self.visits.len() >= VISITS {
            let oldest = self.visits.iter().min_by_key(|(_, visit)| visit.last_seen).map(|(sid, _)| sid.clone());
            match oldest {
                Some(oldest) => self.end(&oldest),
                None => break,
            }
        }
        let id = secret::fingerprint(sid.as_bytes())[..8].to_owned();
        let (tickets, cookies) = (VecDeque::new(), VecDeque::from([sid.to_owned()]));
        let visit = Visit { id, token, stage, created_at: now, last_seen: now, tickets, cookies };
        self.visits.insert(sid.to_owned(), visit);
    }

    /// Ends a visit; its cookie opens nothing any more.
    pub(super) fn end(&mut self, sid: &str) {
        let Some(visit) = self.visits.remove(sid) else { return };
        for cookie in visit.cookies {
            self.renewed.remove(&cookie);
            if let Stage::Member { user, .. } = &visit.stage {
                self.ended.push_back((cookie, user.clone()));
            }
        }
        while self.ended.len() > VISITS {
            self.ended.pop_front();
        }
    }

    /// The key of the visit that a cookie opens. One that opens nothing comes back as it is.
    pub(super) fn key(&self, cookie: &str) -> String {
        let superseded =
            self.visits.get(cookie).is_some_and(|visit| !visit.cookies.iter().any(|valid| valid == cookie));
        // What is superseded is no key any more: a stranger's.
        let unknown = if superseded { String::new() } else { cookie.to_owned() };
        self.renewed.get(cookie).cloned().unwrap_or(unknown)
    }

    /// Renews the session cookie of a visit. Of the values before it only the last one still counts.
    pub(super) fn renew(&mut self, sid: &str, fresh: String) {
        let Some(visit) = self.visits.get_mut(sid) else { return };
        visit.cookies.push_back(fresh.clone());
        self.renewed.insert(fresh, sid.to_owned());
        while visit.cookies.len() > COOKIES {
            if let Some(superseded) = visit.cookies.pop_front() {
                self.renewed.remove(&superseded);
            }
        }
    }

    /// Ends the members' sessions that `which` picks; returns their ids.
    pub(super) fn end_members(&mut self, which: impl Fn(&Member) -> bool) -> Vec<String> {
        let picked: Vec<_> = self.members_by_cookie().filter(|(_, member)| which(member)).collect();
        for (sid, _) in &picked {
            self.end(sid);
        }
        picked.into_iter().map(|(_, member)| member.id).collect()
    }

    /// The live sessions, oldest login first.
    pub(super) fn members(&self, now: Time) -> Vec<Member> {
        let alive = |sid: &String| self.visits.get(sid).is_some_and(|visit| !self.outlived(visit, now));
        let mut members: Vec<_> =
            self.members_by_cookie().filter(|(sid, _)| alive(sid)).map(|(_, member)| member).collect();
        // Logins of the same millisecond keep the order in which they were completed.
        let order = |member: &Member| self.logins(&member.user).iter().position(|id| *id == member.id);
        members.sort_by_key(|member| (member.since, order(member)));
        members
    }

    fn members_by_cookie(&self) -> impl Iterator<Item = (String, Member)> {
        self.visits.iter().filter_map(|(sid, visit)| match &visit.stage {
            Stage::Member { user, since } => {
                let (id, user) = (visit.id.clone(), user.clone());
                Some((sid.clone(), Member { id, user, since: *since, last_seen: visit.last_seen }))
            }
            _ => None,
        })
    }

    fn outlived(&self, visit: &Visit, now: Time) -> bool {
        let over = |limit: Option<Duration>, since: Time| limit.is_some_and(|limit| now.since(since) >= limit);
        over(self.idle, visit.last_seen) || over(self.absolute, visit.created_at)
    }

    /// Lets a member in and renews the idle time.
    ///
    /// # Errors
    /// When the cookie is no live member's; a session that has outlived itself ends here.
    pub(super) fn enter(&mut self, sid: &str, now: Time) -> Result<Member, NotAMember> {
        if self.visits.get(sid).is_some_and(|visit| self.outlived(visit, now)) {
            self.end(sid);
        }
        if let Some(visit) = self.visits.get_mut(sid) {
            if let Stage::Member { user, since } = &visit.stage {
                visit.last_seen = now;
                let (id, user) = (visit.id.clone(), user.clone());
                return Ok(Member { id, user, since: *since, last_seen: now });
            }
        } else if let Some((_, user)) = self.ended.iter().find(|(ended, _)| ended == sid) {
            let user = user.clone();
            self.count(&user, |counters| counters.expired_answers += 1);
        }
        Err(NotAMember)
    }

    /// Checks the rotating cookie and supersedes it with `fresh`.
    ///
    /// # Errors
    /// When `shown` is neither the newest value nor one superseded within the grace.
    pub(super) fn rotate(
        &mut self,
        sid: &str,
        shown: Option<&str>,
        fresh: String,
        now: Time,
    ) -> Result<(), NotAMember> {
        let visit = self.visits.get_mut(sid).ok_or(NotAMember)?;
        visit.tickets.retain(|(_, superseded)| superseded.is_none_or(|at| now.since(at) < TICKET_GRACE));
        if visit.tickets.is_empty() {
            // The cookie was introduced just now; nobody can have one yet, nor can calls that are already on their way.
            visit.tickets.push_back((None, None));
        } else if !visit.tickets.iter().any(|(value, _)| value.as_deref() == shown) {
            return Err(NotAMember);
        }
        for (_, superseded) in &mut visit.tickets {
            superseded.get_or_insert(now);
        }
        visit.tickets.push_back((Some(fresh), None));
        if visit.tickets.len() > TICKETS {
            visit.tickets.pop_front();
        }
        Ok(())
    }

    /// Gives the members' sessions of `user` new CSRF tokens, as `draw` makes them.
    pub(super) fn renew_tokens(&mut self, user: &str, draw: impl Fn() -> String) {
        for visit in self.visits.values_mut() {
            if matches!(&visit.stage, Stage::Member { user: of, .. } if of == user) {
                visit.token = draw();
            }
        }
    }

    pub(super) fn password(&mut self, user: &str, password: &Secret, now: Time) -> PasswordVerdict {
        let Some(ledger) = self.ledgers.get_mut(user) else { return PasswordVerdict::Wrong };
        ledger.counters.logins_attempted += 1;
        if ledger.locked_until.is_some_and(|until| now < until) {
            ledger.counters.passwords_rejected += 1;
            return PasswordVerdict::Locked;
        }
        ledger.locked_until = None;
        if ledger.password == *password {
            ledger.wrong_in_a_row = 0;
            ledger.counters.passwords_accepted += 1;
            return PasswordVerdict::Accepted;
        }
        ledger.counters.passwords_rejected += 1;
        ledger.wrong_in_a_row += 1;
        if ledger.wrong_in_a_row < LOCK_AFTER {
            return PasswordVerdict::Wrong;
        }
        ledger.wrong_in_a_row = 0;
        ledger.locked_until = Some(now + LOCK);
        PasswordVerdict::Locked
    }

    /// Notes that `code` was sent to this visit; a code sent before is void. Returns the user.
    pub(super) fn code_sent(&mut self, sid: &str, code: &str, now: Time) -> Option<String> {
        let visit = self.visits.get_mut(sid)?;
        let user = match &visit.stage {
            Stage::PasswordAccepted { user } | Stage::CodeSent { user, .. } => user.clone(),
            _ => return None,
        };
        let refused = match &mut visit.stage {
            Stage::CodeSent { refused, .. } => std::mem::take(refused),
            _ => Vec::new(),
        };
        visit.stage = Stage::CodeSent { user: user.clone(), code: Some((code.to_owned(), now)), refused };
        self.count(&user, |counters| counters.codes_sent += 1);
        Some(user)
    }

    /// Judges a typed code. A right one that is refused by fault (`refuse`) is void afterwards.
    pub(super) fn code(&mut self, sid: &str, typed: &str, refuse: bool, now: Time) -> CodeVerdict {
        let lifetime = self.code_lifetime;
        let Some(Visit { stage: Stage::CodeSent { user, code, refused }, .. }) = self.visits.get_mut(sid) else {
            return CodeVerdict::NotAsked;
        };
        let user = user.clone();
        let right = code.as_ref().is_some_and(|(code, sent)| code == typed && now.since(*sent) < lifetime);
        if right && !refuse {
            self.count(&user, |counters| counters.codes_accepted += 1);
            return CodeVerdict::Accepted;
        }
        if right {
            *code = None;
        }
        let repeated = refused.iter().any(|before| before == typed);
        refused.push(typed.to_owned());
        let thrown = refused.len() >= CODE_TRIES as usize;
        self.count(&user, |counters| {
            counters.codes_rejected += 1;
            counters.codes_repeated += u64::from(repeated);
        });
        if thrown {
            self.end(sid);
            return CodeVerdict::Thrown;
        }
        CodeVerdict::Refused
    }

    /// Whether `typed` is the code that this visit waits for.
    pub(super) fn expects(&self, sid: &str, typed: &str) -> bool {
        matches!(self.visits.get(sid).map(|visit| &visit.stage),
            Some(Stage::CodeSent { code: Some((code, _)), .. }) if code == typed)
    }

    /// Remembers a completed login by its id.
    pub(super) fn logged_in(&mut self, user: &str, id: String) {
        if let Some(ledger) = self.ledgers.get_mut(user) {
            ledger.logins.push_back(id);
            if ledger.logins.len() > LOGINS {
                ledger.logins.pop_front();
            }
        }
    }
}
