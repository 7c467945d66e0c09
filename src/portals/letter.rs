//! The letter that asks a person to help a portal: what happened, what was tried, what to do now. It quotes no code, no
//! message and no secret.

use std::fmt::Write;

use super::recipe::Cause;
use super::state::PortalRecord;
use crate::alerts::Alert;
use crate::outbox::Attachment;

/// Events quoted.
const EVENTS: usize = 8;

/// The mail that asks for a person: what happened, what was tried, what to do.
pub(super) fn needed(name: &str, record: &PortalRecord, cause: Cause, detail: &str, picture: Option<Vec<u8>>) -> Alert {
    // A login that was made ahead of need: nothing fails yet, and it must not read as if something did.
    let ahead = record.upkeep.given_up == Some(cause) && record.whole(true);
    let serving = match record.serving() {
        Some(_) if ahead => "Both sessions are alive and calls are served; when the sessions expire, they will not be.",
        Some(_) => "One session is still alive and serves; when it expires, calls will fail.",
        None => "No session is alive: calls to this portal fail.",
    };
    let title = match ahead {
        true => format!("Portal {name} will need you: a login that is not needed yet failed: {}", says(cause)),
        false => format!("Portal {name} needs you: {}", says(cause)),
    };
    let mut body = format!("{title}\n\n{detail}\n{serving}\n\nWhat to do: {}\n", advice(cause, name));
    body.push_str("\nWhat happened last:\n");
    for event in record.events.iter().rev().take(EVENTS) {
        // Writing to a string cannot fail.
        let line = format!("  {}  {}  {}", event.at.local(), event.kind.as_str(), event.detail);
        let _ = writeln!(body, "{}", line.trim_end());
    }
    let attachments =
        picture.map(|bytes| Attachment { name: "page.png".to_owned(), mime: "image/png".to_owned(), bytes });
    Alert { cause: cause.as_str().to_owned(), title, body, attachments: attachments.into_iter().collect() }
}

fn says(cause: Cause) -> &'static str {
    match cause {
        Cause::BadCredentials => "the portal refuses user name or password",
        Cause::NoSms => "no SMS code arrived",
        Cause::CodeRejected => "the portal refuses the SMS codes",
        Cause::PageChanged => "the login page is not what the recipe expects",
        Cause::PortalDown => "the portal cannot be reached",
        Cause::Captcha => "the portal asks for a CAPTCHA",
        Cause::BudgetSpent => "too many logins within an hour",
        Cause::BrowserFailed => "the browser does not work",
        Cause::PhoneSilent => "the phone has not been heard of",
    }
}

fn advice(cause: Cause, name: &str) -> String {
    match cause {
        Cause::BadCredentials => {
            format!("check the account, change portals.{name}.password and reload; it is not tried again before.")
        }
        Cause::NoSms | Cause::PhoneSilent => {
            format!("look at the phone (battery, network, forwarding app), then POST /api/portals/{name}/reauth.")
        }
        Cause::CodeRejected => format!(
            "see which SMS the portal sends and compare with [code] in the recipe, then POST /api/portals/{name}/reauth."
        ),
        Cause::PageChanged => "compare the picture with the recipe's steps, mend the recipe and reload.".to_owned(),
        Cause::PortalDown => "nothing, if the portal is being maintained: it is tried every minute.".to_owned(),
        Cause::Captcha => format!("log in by hand once, then POST /api/portals/{name}/reauth."),
        Cause::BudgetSpent => {
            format!("find out why sessions expire so often; GET /api/portals/{name}/events shows it.")
        }
        Cause::BrowserFailed => "run `nightporter doctor` on the host.".to_owned(),
    }
}
