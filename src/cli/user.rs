//! `nightporter user …`: the team's own users, through the running server, or on the store itself when none runs.

mod desk;

use anyhow::anyhow;
use clap::builder::NonEmptyStringValueParser;
use clap::{Args, Subcommand};

use super::exit::{self, Exit, Failure};
use super::{Shared, output};
use crate::accounts::State;
use crate::clock::Time;
use crate::http::users::{PersonList, PersonView, SightView};
use desk::Desk;

/// See the users of the accounts, and shut out, let in, export or delete one. Works on the running server, or on the store itself when
/// none runs. Every change is noted in the audit log.
#[derive(Debug, Args)]
#[command(after_long_help = exit::HELP)]
pub(super) struct User {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// The users, in the order in which they came.
    #[command(after_long_help = exit::HELP)]
    List {
        /// Go on where a list before has ended
        #[arg(long)]
        cursor: Option<String>,
        /// How many
        #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u16).range(1..=500))]
        limit: u16,
        #[command(flatten)]
        shared: Shared,
    },
    /// One user with logins, and with the mails to the address and what became of them.
    #[command(after_long_help = exit::HELP)]
    Show(One),
    /// Shut a user out: every login ends at once, and no further one is let in.
    #[command(after_long_help = exit::HELP)]
    Disable(One),
    /// Let a user log in again.
    #[command(after_long_help = exit::HELP)]
    Enable(One),
    /// Have a user set a new password: the old one counts no more, every login ends at once, and a code goes to the address.
    #[command(after_long_help = exit::HELP)]
    Reset(One),
    /// Print everything that is held about a user as JSON: logins, mails, and what the audit log says. No hashes, no codes.
    #[command(after_long_help = exit::HELP)]
    Export(One),
    /// Delete a user: the account, its logins and the mails to its address. The audit log stays, and knows the id alone.
    #[command(after_long_help = exit::HELP)]
    Delete {
        #[command(flatten)]
        one: One,
        /// Yes, although nothing but a snapshot brings the user back
        #[arg(long)]
        yes: bool,
    },
    /// Forget the wrong guesses about an address, and how many codes were sent to it.
    #[command(after_long_help = exit::HELP)]
    Unban {
        /// The address; it need not have a user
        #[arg(value_parser = NonEmptyStringValueParser::new())]
        address: String,
        #[command(flatten)]
        shared: Shared,
    },
}

#[derive(Debug, Args)]
struct One {
    /// The user's address or id
    #[arg(value_name = "ADDRESS|ID", value_parser = NonEmptyStringValueParser::new())]
    user: String,
    #[command(flatten)]
    shared: Shared,
}

/// What is done about one user and answered with that user.
#[derive(Clone, Copy)]
pub(super) enum Deed {
    Disable,
    Enable,
    Reset,
    Delete,
}

impl User {
    pub(super) async fn run(self) -> Result<Exit, Failure> {
        match self.action {
            Action::List { cursor, limit, shared } => {
                let desk = Desk::open(&shared.settings).await?;
                let list = desk.list(cursor.as_deref(), limit.into()).await;
                print(&desk.closed(list).await?, shared.json, listed)?;
            }
            Action::Show(One { user, shared }) => {
                let desk = Desk::open(&shared.settings).await?;
                let shown = desk.show(&user).await;
                print(&desk.closed(shown).await?, shared.json, sight)?;
            }
            Action::Export(One { user, shared }) => {
                let desk = Desk::open(&shared.settings).await?;
                let everything = desk.export(&user).await;
                output::print_json(&desk.closed(everything).await?)?;
            }
            Action::Unban { address, shared } => {
                let desk = Desk::open(&shared.settings).await?;
                let unbanned = desk.unban(&address).await;
                let told = |_: &_| format!("nothing is held against {address} any more\n");
                print(&desk.closed(unbanned).await?, shared.json, told)?;
            }
            Action::Disable(one) => one.undergo(Deed::Disable).await?,
            Action::Enable(one) => one.undergo(Deed::Enable).await?,
            Action::Reset(one) => one.undergo(Deed::Reset).await?,
            Action::Delete { one, yes: true } => one.undergo(Deed::Delete).await?,
            Action::Delete { one, yes: false } => {
                let refused = anyhow!("{} would be gone for good; --yes deletes the user", one.user);
                return Err(Failure::new(Exit::Failed, refused));
            }
        }
        Ok(Exit::Good)
    }
}

impl One {
    async fn undergo(self, deed: Deed) -> Result<(), Failure> {
        let desk = Desk::open(&self.shared.settings).await?;
        let done = desk.undergo(&self.user, deed).await;
        let told = |user: &PersonView| {
            let what = match deed {
                Deed::Disable => "is disabled",
                Deed::Enable => "may log in",
                Deed::Reset => "gets a code by mail, to set a new password with",
                Deed::Delete => "is deleted",
            };
            format!("{} ({}) {what}\n", user.email, user.id)
        };
        print(&desk.closed(done).await?, self.shared.json, told)
    }
}

fn print<T: serde::Serialize>(answer: &T, json: bool, show: impl Fn(&T) -> String) -> Result<(), Failure> {
    let printed = if json { output::print_json(answer) } else { output::print(&show(answer)) };
    Ok(printed?)
}

fn listed(list: &PersonList) -> String {
    let mut rows = vec![["ADDRESS", "ID", "NAME", "STATE", "SINCE"].map(str::to_owned).to_vec()];
    for user in &list.users {
        let (id, since) = (user.id.to_string(), user.verified_at.local());
        rows.push(vec![user.email.clone(), id, user.full_name.clone(), state(user).to_owned(), since]);
    }
    let mut text = if rows.len() == 1 { "no users\n".to_owned() } else { output::table(&rows) };
    if let Some(next) = &list.next {
        text.push_str(&format!("more: --cursor {next}\n"));
    }
    text
}

const fn state(user: &PersonView) -> &'static str {
    match user.state {
        State::Active => "active",
        State::Disabled => "disabled",
    }
}

fn sight(sight: &SightView) -> String {
    let SightView { user, sessions, mails, next_guess_at, next_code_at } = sight;
    let now_or = |at: Option<Time>| at.map_or_else(|| "now".to_owned(), Time::local);
    let row = |name: &str, text: String| vec![name.to_owned(), text];
    let mut text = output::table(&[
        row("address", user.email.clone()),
        row("id", user.id.to_string()),
        row("name", user.full_name.clone()),
        row("state", state(user).to_owned()),
        row("password", if user.has_password { "yes" } else { "none: codes alone" }.to_owned()),
        row("since", user.verified_at.local()),
        row("next guess", now_or(*next_guess_at)),
        row("next code", now_or(*next_code_at)),
    ]);
    let mut logins = vec![["LOGIN", "BEGUN", "USED", "FROM", "DEVICE"].map(str::to_owned).to_vec()];
    for login in sessions {
        let (begun, used) = (login.created_at.local(), login.last_used_at.local());
        let from = login.ip.clone().unwrap_or_else(|| "-".to_owned());
        logins.push(vec![login.id.clone(), begun, used, from, login.device.clone()]);
    }
    let mut letters = vec![["MAIL", "STATE", "TRIES", "LAST ERROR", "SUBJECT"].map(str::to_owned).to_vec()];
    for mail in mails {
        let error = mail.last_error.clone().unwrap_or_else(|| "-".to_owned());
        let tries = mail.attempts.to_string();
        letters.push(vec![mail.created_at.local(), mail.state.clone(), tries, error, mail.subject.clone()]);
    }
    for table in [logins, letters].iter().filter(|table| table.len() > 1) {
        text.push_str(&format!("\n{}", output::table(table)));
    }
    text
}
