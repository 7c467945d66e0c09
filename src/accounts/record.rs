//! The record of one address: everything about an account is in it, so that everything about it changes in one step: the user
//! with its mail, the login with the code that it used up, the new password with the end of all logins.
//!
//! Also the hint from a user's id to the address: written before the user is, and checked against the account's record by
//! whoever follows it, as the store's expiry index is.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::address::Address;
use super::audit::{self, Full, Line};
use super::budget::{Budget, Sent};
use super::code::Code;
use super::registration::Registration;
use super::sessions::LoginSession;
use crate::clock::Time;
use crate::outbox::{Carrier, Pending};
use crate::store::{Expires, Kind, Record};

/// How long a record without a user keeps what the outbox and the audit log take within moments.
const CARRIED: Duration = Duration::from_secs(24 * 3600);

/// Everything about one address.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccountRecord {
    /// Mails go here.
    pub(super) address: Address,
    /// Who has proven to own the address.
    pub(super) user: Option<User>,
    /// The user's logins.
    pub(super) sessions: Vec<LoginSession>,
    /// Those who say that they own the address and have not proven it.
    pub(super) pending: Vec<Registration>,
    /// The code that logs the user in.
    pub(super) login_code: Option<Code>,
    /// The code that sets a new password.
    pub(super) reset_code: Option<Code>,
    /// Wrong guesses, over all doors.
    pub(super) budget: Budget,
    /// Mails with codes.
    pub(super) sent: Sent,
    /// Mails that the outbox has not taken yet.
    pub(super) mails: Vec<Pending>,
    /// Lines that the audit log has not taken yet.
    pub(super) lines: Vec<Line>,
    /// Users who were deleted and of whom something may be left elsewhere.
    pub(super) gone: Vec<Gone>,
}

/// A user who was deleted: what is left elsewhere goes as well, and then this.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Gone {
    pub(super) user: Uuid,
    /// Mails that were written after this are somebody else's.
    pub(super) at: Time,
}

/// A user.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct User {
    /// Never changes, and is never used again.
    pub id: Uuid,
    /// As the user wrote it.
    pub full_name: String,
    /// The password's hash as a PHC string; None: logs in with codes alone.
    pub(super) password: Option<String>,
    /// Whether logins are let in.
    pub state: State,
    /// Grows when every login before must end: tokens of another one are void.
    pub(super) epoch: u64,
    /// When the account was asked for.
    pub created_at: Time,
    /// When the address was proven to be the user's own.
    pub verified_at: Time,
}

/// Whether a user may log in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// Yes.
    Active,
    /// An operator has said no.
    Disabled,
}

/// The account of a user, by the user's id.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Hint {
    /// The key of the account's record.
    pub(super) account: String,
}

/// The kinds of records that are kept here.
pub(super) const KINDS: &[Kind] = &[Kind::of::<AccountRecord>(), Kind::of::<Hint>()];

impl Record for AccountRecord {
    const SPACE: &'static str = "account";
    const SCHEMA: u8 = 1;

    /// A logout, a disabled user, a new password: a thief must not stay because the disk is full.
    fn ends(before: &Self, after: &Self) -> bool {
        let active = |record: &Self| record.user.as_ref().is_some_and(|user| user.state == State::Active);
        let is_old = |session: &LoginSession| before.sessions.iter().any(|old| old.id == session.id);
        let fewer = after.sessions.len() < before.sessions.len() || (active(before) && !active(after));
        fewer && after.sessions.iter().all(is_old)
    }
}

impl Record for Hint {
    const SPACE: &'static str = "account-user";
    const SCHEMA: u8 = 1;
}

impl Carrier for AccountRecord {
    fn pending(&self) -> &[Pending] {
        &self.mails
    }

    fn pending_mut(&mut self) -> &mut Vec<Pending> {
        &mut self.mails
    }
}

impl audit::Carrier for AccountRecord {
    fn lines(&self) -> &[Line] {
        &self.lines
    }

    fn lines_mut(&mut self) -> &mut Vec<Line> {
        &mut self.lines
    }

    fn expires(&self, now: Time) -> Expires {
        Self::expires(self, now)
    }
}

impl AccountRecord {
    /// Of an address that nobody has asked about.
    pub(super) fn new(address: Address) -> Self {
        Self {
            address,
            user: None,
            sessions: Vec::new(),
            pending: Vec::new(),
            login_code: None,
            reset_code: None,
            budget: Budget::default(),
            sent: Sent::default(),
            mails: Vec::new(),
            lines: Vec::new(),
            gone: Vec::new(),
        }
    }

    /// Drops what has ended by `now`: an expired code is gone for every reader from that millisecond on.
    pub(super) fn forget(&mut self, now: Time) {
        self.pending.retain(|pending| now < pending.code.expires_at);
        self.login_code.take_if(|code| code.expires_at <= now);
        self.reset_code.take_if(|code| code.expires_at <= now);
        self.sent.forget(now);
    }

    /// When the record may go: never while there is a user; otherwise when nothing in it matters any more. What still has to go
    /// elsewhere has a day for that.
    pub(super) fn expires(&self, now: Time) -> Expires {
        if self.user.is_some() {
            return Expires::Never;
        }
        let carries = !(self.mails.is_empty() && self.lines.is_empty() && self.gone.is_empty());
        let codes = self.pending.iter().map(|pending| pending.code.expires_at);
        let ends =
            codes.chain(self.sent.over_at()).chain([self.budget.full_at()]).chain(carries.then(|| now + CARRIED));
        Expires::At(ends.max().unwrap_or_default())
    }

    /// Puts a line of the audit log into this change.
    ///
    /// # Errors
    /// [`Full`]: the change must not be made then.
    pub(super) fn note(&mut self, line: Line) -> Result<(), Full> {
        audit::push(&mut self.lines, line)
    }

    /// As [`AccountRecord::note`], about the user. What strangers do about an address without one is not kept: the log has no
    /// end, and they could fill the disk with it.
    pub(super) fn note_about(&mut self, line: &Line) -> Result<(), Full> {
        match &self.user {
            Some(user) => self.note(line.clone().about(user.id)),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::Arc;

    use super::*;
    use crate::accounts::audit::{What, Who};
    use crate::accounts::code::{Print, Purpose};
    use crate::accounts::refresh::Mint;
    use crate::accounts::sessions::{self, Device, Draft, Limits};
    use crate::ids::Random;
    use crate::secret::{Secret, Vault};
    use crate::store::golden;

    fn whole() -> AccountRecord {
        let at = Time::from_millis(1_700_000_000_000);
        let vault = Vault::from_hex(&"ab".repeat(32), Path::new("test")).unwrap();
        let print = Print::of(&vault, Purpose::Login, "a", "", &Secret::new("123456"));
        let mut record = AccountRecord::new(Address::parse("a@b.example").unwrap());
        let user = Uuid::from_u128(7);
        record.user = Some(User {
            id: user,
            full_name: "민서".to_owned(),
            password: Some("$argon2id$".to_owned()),
            state: State::Disabled,
            epoch: 3,
            created_at: at,
            verified_at: at,
        });
        record.pending.push(Registration {
            id: "t".to_owned(),
            full_name: "n".to_owned(),
            password: None,
            code: Code::new(print, at),
            bare_tries: 4,
            created_at: at,
        });
        record.login_code = Some(Code::new(print, at));
        record.budget.take(at).unwrap();
        record.sent.take(at, Duration::ZERO).unwrap();
        record.gone.push(Gone { user: Uuid::from_u128(9), at });
        record.note(Line::new(Uuid::from_u128(8), at, Who::User(user), What::LoggedIn).about(user)).unwrap();
        record
    }

    #[test]
    fn the_bytes_on_disk_are_golden() {
        golden::<AccountRecord>(
            &whole(),
            "0b6140622e6578616d706c6501100000000000000000000000000000000706ebafbcec849c010a246172676f6e3269642401\
             03fd0068e5cf8b010000fd0068e5cf8b01000000010174016e00f153235248b4f6dd7f1064ab3f0e33ac02d1693545ef4b71\
             59e70bf44a7fdd3a05fd0068e5cf8b01000004fd0068e5cf8b01000001f153235248b4f6dd7f1064ab3f0e33ac02d1693545\
             ef4b7159e70bf44a7fdd3a05fd0068e5cf8b01000000fd40df00d08b01000001fd0068e5cf8b010000000110000000000000\
             00000000000000000008fd0068e5cf8b010000020210000000000000000000000000000000070110000000000000000000\
             000000000000070000\
             011000000000000000000000000000000009fd0068e5cf8b010000",
        );
        golden::<Hint>(&Hint { account: "ab".to_owned() }, "026162");
    }

    #[test]
    fn only_what_ends_a_login_needs_no_room() {
        let (random, now) = (Random::seeded(1), Time::from_millis(1_800_000_000_000));
        let mint = Mint::new(Arc::new(Vault::from_hex(&"ab".repeat(32), Path::new("test")).unwrap()));
        let mut before = whole();
        let begin = |record: &mut AccountRecord| {
            let draft = Draft::new(&random, Device::default());
            sessions::begin(&mut record.sessions, &draft, Uuid::from_u128(7), now, &Limits::default(), &mint);
        };
        begin(&mut before);
        before.user.as_mut().unwrap().state = State::Active;
        let changed = |change: &mut dyn FnMut(&mut AccountRecord)| {
            let mut after = before.clone();
            change(&mut after);
            AccountRecord::ends(&before, &after)
        };
        assert!(changed(&mut |record| record.sessions.clear()));
        assert!(changed(&mut |record| record.user.as_mut().unwrap().state = State::Disabled));
        assert!(!changed(&mut |record| record.budget.give_back()));
        assert!(!changed(&mut |record| begin(record)));
        let mut traded = |record: &mut AccountRecord| {
            record.sessions.clear();
            begin(record);
        };
        assert!(!changed(&mut traded), "another session takes its place");
        assert!(!AccountRecord::ends(&AccountRecord::new(before.address.clone()), &before));
    }

    #[test]
    fn a_record_without_a_user_goes_when_nothing_in_it_matters() {
        let at = Time::from_millis(1_800_000_000_000);
        let day = Duration::from_secs(24 * 3600);
        let mut record = AccountRecord::new(Address::parse("a@b.example").unwrap());
        record.budget.take(at).unwrap();
        assert_eq!(record.expires(at), Expires::At(at + Duration::from_secs(1800)));
        record.sent.take(at, Duration::ZERO).unwrap();
        assert_eq!(record.expires(at), Expires::At(at + day));
        let now = at + Duration::from_secs(60);
        record.note(Line::new(Uuid::from_u128(8), at, Who::Nobody, What::Failed)).unwrap();
        assert_eq!(record.expires(now), Expires::At(now + day), "what it carries has a day to get away");
        record.user = whole().user;
        assert_eq!(record.expires(now), Expires::Never);
    }
}
