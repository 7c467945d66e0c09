//! Users as operators see them in JSON, and read it again on the command line.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use crate::accounts::audit::Numbered;
use crate::accounts::people::{Everything, Person, Sight};
use crate::accounts::{Device, SessionView, State};
use crate::clock::Time;
use crate::outbox;

/// A user.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[schema(as = Person)]
pub struct PersonView {
    /// Never changes, and is never used again.
    #[schema(value_type = String)]
    pub id: Uuid,
    /// The canonical address.
    pub email: String,
    /// As the user wrote it.
    pub full_name: String,
    /// `active` or `disabled`.
    #[schema(value_type = String)]
    pub state: State,
    /// Without one a login takes a code.
    pub has_password: bool,
    /// When the account was asked for.
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Time,
    /// When the address was proven to be the user's own.
    #[schema(value_type = String, format = DateTime)]
    pub verified_at: Time,
}

/// A page of users, in the order in which they came.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct PersonList {
    /// Without logins and mails.
    pub users: Vec<PersonView>,
    /// The cursor of the next page; null at the end.
    pub next: Option<String>,
}

/// A user with what is going on.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[schema(as = PersonSight)]
pub struct SightView {
    /// Who it is.
    #[serde(flatten)]
    pub user: PersonView,
    /// The logins that last, the latest first.
    pub sessions: Vec<DeviceView>,
    /// The mails to the address, newest first: for two days after they were delivered, for thirty after they failed.
    pub mails: Vec<MailView>,
    /// When the next guess about the address is taken; null: now.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub next_guess_at: Option<Time>,
    /// When the next code may be asked for; null: now.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub next_code_at: Option<Time>,
}

/// A login of a user.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[schema(as = PersonDevice)]
pub struct DeviceView {
    /// Its name, which proves nothing.
    pub id: String,
    /// What the device calls itself.
    pub device: String,
    /// Where it was at the login.
    pub ip: Option<String>,
    /// When the user logged in.
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Time,
    /// When it was last refreshed.
    #[schema(value_type = String, format = DateTime)]
    pub last_used_at: Time,
    /// When it ends if nobody refreshes it.
    #[schema(value_type = String, format = DateTime)]
    pub expires_at: Time,
}

/// A mail to a user, without its text.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[schema(as = PersonMail)]
pub struct MailView {
    /// As in the log.
    pub id: String,
    /// Never has a code in it.
    pub subject: String,
    /// `queued`, `sending`, `sent` or `failed`.
    pub state: String,
    /// When it was written.
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Time,
    /// When the mail server took it.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub sent_at: Option<Time>,
    /// How often it was tried.
    pub attempts: u32,
    /// When it is tried next, if it waits.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub next_at: Option<Time>,
    /// Why it has failed, or what the last attempt that failed said.
    pub last_error: Option<String>,
}

/// Everything that is held about a user.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[schema(as = PersonExport)]
pub struct ExportView {
    /// The user, the logins and the mails.
    #[serde(flatten)]
    pub sight: SightView,
    /// What the audit log says of the user, newest first.
    #[schema(value_type = Vec<Object>)]
    pub audit: Vec<Numbered>,
    /// Whether these are all lines; an export has the last 10,000.
    pub audit_complete: bool,
}

/// Whose guesses were forgotten.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct Unbanned {
    /// The user of the address, if it has one.
    #[schema(value_type = Option<String>)]
    pub id: Option<Uuid>,
}

impl From<Person> for PersonView {
    fn from(person: Person) -> Self {
        let Person { id, address, full_name, state, has_password, created_at, verified_at } = person;
        Self { id, email: address.as_str().to_owned(), full_name, state, has_password, created_at, verified_at }
    }
}

impl PersonList {
    /// A page, and where the next one begins.
    pub fn new(people: Vec<Person>, next: Option<Uuid>) -> Self {
        let users = people.into_iter().map(PersonView::from).collect();
        Self { users, next: next.map(|id| id.to_string()) }
    }
}

impl From<Sight> for SightView {
    fn from(sight: Sight) -> Self {
        let Sight { person, sessions, mails, next_guess_at, next_code_at } = sight;
        let sessions = sessions.into_iter().map(DeviceView::from).collect();
        let mails = mails.into_iter().map(MailView::from).collect();
        Self { user: person.into(), sessions, mails, next_guess_at, next_code_at }
    }
}

impl From<SessionView> for DeviceView {
    fn from(session: SessionView) -> Self {
        let SessionView { id, begun_at, used_at, ends_at, device: Device { ip, agent }, .. } = session;
        let (id, ip) = (id.to_string(), ip.map(|ip| ip.to_string()));
        Self { id, device: agent, ip, created_at: begun_at, last_used_at: used_at, expires_at: ends_at }
    }
}

impl From<outbox::Entry> for MailView {
    fn from(entry: outbox::Entry) -> Self {
        let outbox::Entry { id, subject, created_at, state, attempts, next_at, last_error, .. } = entry;
        let (state, sent_at, last_error) = match state {
            outbox::State::Queued => ("queued", None, last_error),
            outbox::State::Sending => ("sending", None, last_error),
            outbox::State::Sent(at) => ("sent", Some(at), last_error),
            outbox::State::Failed(reason) => ("failed", None, Some(reason)),
        };
        Self { id, subject, state: state.to_owned(), created_at, sent_at, attempts, next_at, last_error }
    }
}

impl From<Everything> for ExportView {
    fn from(everything: Everything) -> Self {
        let Everything { sight, lines, all_lines } = everything;
        Self { sight: sight.into(), audit: lines, audit_complete: all_lines }
    }
}
