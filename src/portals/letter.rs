//! The letter that asks a person to help a portal: what happened, what was tried, what to do now. It quotes no code, no
//! message and no secret, but for the one-time link that is made for it.

use std::fmt::Write;

use super::login::StepTaken;
use super::recipe::Cause;
use super::state::{Event, EventKind, PortalRecord};
use crate::alerts::Alert;
use crate::clock::Time;
use crate::outbox::Attachment;

/// Events quoted.
const EVENTS: usize = 6;
/// Failed attempts quoted.
const ATTEMPTS: usize = 6;
/// The longest line about one step or event, in bytes.
const LINE: usize = 200;

/// What a letter is written from.
#[derive(Debug)]
pub(super) struct Need<'a> {
    /// The portal's name.
    pub(super) name: &'a str,
    /// What is known of it.
    pub(super) record: &'a PortalRecord,
    /// Why a person is needed.
    pub(super) cause: Cause,
    /// In words.
    pub(super) detail: &'a str,
    /// The page at which the last login failed, with secrets masked.
    pub(super) picture: Option<Vec<u8>>,
    /// The last steps of that login.
    pub(super) steps: &'a [StepTaken],
    /// The way to type a code by hand, where that would help.
    pub(super) by_hand: Option<ByHand>,
}

/// How a person can type a code.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum ByHand {
    /// By a link that opens until then.
    Link { url: String, until: Time },
    /// By the API and the command line: no public address is known that a link could have.
    Api,
}

/// The mail that asks for a person: what happened, what to do, what was tried.
pub(super) fn needed(need: Need<'_>) -> Alert {
    let Need { name, record, cause, detail, .. } = need;
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
    let mut body = format!("{title}\n\n{detail}\n{serving}\n\n");
    // Writing to a string cannot fail.
    let _ = writeln!(body, "What to do: {}", advice(cause, name));
    if let Some(by_hand) = &need.by_hand {
        let _ = write!(body, "\n{}", typing(by_hand, name));
    }
    tried(&mut body, record);
    paragraph(&mut body, "The last steps of that login:", need.steps.iter().map(ToString::to_string));
    let others = |event: &&Event| !matches!(event.kind, EventKind::LoginFailed | EventKind::LoginStarted);
    let told = record.events.iter().rev().filter(others).take(EVENTS).map(|event| {
        format!("  {}  {}  {}", event.at.local(), event.kind.as_str(), event.detail).trim_end().to_owned()
    });
    paragraph(&mut body, "What else happened, the latest first:", told);
    let picture = need.picture;
    let attachments =
        picture.map(|bytes| Attachment { name: "page.png".to_owned(), mime: "image/png".to_owned(), bytes });
    Alert { cause: cause.as_str().to_owned(), title, body, attachments: attachments.into_iter().collect() }
}

fn paragraph(body: &mut String, title: &str, lines: impl Iterator<Item = String>) {
    let mut lines = lines.peekable();
    if lines.peek().is_some() {
        let _ = writeln!(body, "\n{title}");
    }
    for line in lines {
        let _ = writeln!(body, "{}", &line[..line.floor_char_boundary(LINE)]);
    }
}

/// The failed attempts since a login last went well, and what follows by itself.
fn tried(body: &mut String, record: &PortalRecord) {
    let since = record.events.iter().rposition(|event| event.kind == EventKind::Authenticated).map_or(0, |at| at + 1);
    let failed: Vec<_> = record.events[since..].iter().filter(|event| event.kind == EventKind::LoginFailed).collect();
    let shown = &failed[failed.len().saturating_sub(ATTEMPTS)..];
    let title = match failed.len() {
        0 => return,
        1 => "What was tried: one login, which failed.".to_owned(),
        all => format!("What was tried: {all} logins, which failed."),
    };
    paragraph(body, &title, shown.iter().map(|event| format!("  {}  {}", event.at.local(), event.detail)));
    let next = match record.recovery.retry_at {
        Some(at) => format!("By itself it is tried again at {}, and at once when you ask.", at.local()),
        None => "Nothing is tried by itself: it waits for you.".to_owned(),
    };
    let _ = writeln!(body, "{next}");
}

fn typing(by_hand: &ByHand, name: &str) -> String {
    match by_hand {
        ByHand::Link { url, until } => format!(
            "To type a code by hand, open this link, press \"Log in now\" and type the code that the portal sends:\n\n  \
             {url}\n\nIt works for this portal only, until {}, and ends when a code was accepted.\n",
            until.local()
        ),
        ByHand::Api => format!(
            "To type a code by hand, on the server:\n\n  nightporter portal reauth {name}\n  nightporter portal code {name}\n\n\
             the second one when the code has come; or POST /api/portals/{name}/reauth and POST /api/portals/{name}/code \
             {{\"code\":\"…\"}}. With server.public_url set, a letter like this one carries a link for it.\n"
        ),
    }
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
        Cause::OneSession => "the portal ends one session when the other logs in",
    }
}

fn advice(cause: Cause, name: &str) -> String {
    let again = format!("run `nightporter portal reauth {name}` on the server, or POST /api/portals/{name}/reauth.");
    match cause {
        Cause::BadCredentials => {
            format!("check the account, change portals.{name}.password and reload; it is not tried again before.")
        }
        Cause::NoSms | Cause::PhoneSilent => {
            format!("look at the phone (battery, network, forwarding app), then {again}")
        }
        Cause::CodeRejected => {
            format!("see which SMS the portal sends and compare with [code] in the recipe, then {again}")
        }
        Cause::PageChanged => "compare the picture with the recipe's steps, mend the recipe and reload.".to_owned(),
        Cause::PortalDown => "nothing, if the portal is being maintained: it is tried every minute.".to_owned(),
        Cause::Captcha => format!("log in by hand once, in a browser of your own, then {again}"),
        Cause::BudgetSpent => {
            format!("find out why sessions expire so often; GET /api/portals/{name}/events shows it.")
        }
        Cause::BrowserFailed => format!("see what `nightporter doctor` on the server says and mend that, then {again}"),
        Cause::OneSession => {
            format!("set portals.{name}.sessions to \"single\" and reload; until then no standby is logged in.")
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::portals::login::Outcome;
    use crate::portals::state::{Failure, Limits};

    fn at(seconds: u64) -> Time {
        Time::from_millis(1_800_000_000_000 + seconds * 1000)
    }

    fn letter(by_hand: Option<ByHand>) -> String {
        let mut record = PortalRecord::default();
        record.admit("a", true, "", at(0));
        record.expire("a", "answered 401", at(5));
        let limits = Limits { attempts: 2, backoff: Duration::from_secs(5), logins_per_hour: 5 };
        for second in [10, 20] {
            let detail = "step 9 (line 31): no code came within 120 s".to_owned();
            record.note(at(second), EventKind::LoginStarted, None, "");
            record.fail(&Failure { cause: Cause::NoSms, detail, at: at(second) }, limits, "", |pause| pause);
        }
        let what = "code \"#인증번호\"".to_owned();
        let outcome = Outcome::Failed("no code came within 120 s".to_owned());
        let took = Duration::from_secs(120);
        let step = StepTaken { number: 9, line: 31, what, started: at(20), took, outcome };
        let detail = "no code came within 120 s";
        let (picture, steps) = (Some(vec![1]), [step]);
        needed(Need { name: "한빛", record: &record, cause: Cause::NoSms, detail, picture, steps: &steps, by_hand })
            .body
    }

    #[test]
    fn it_says_what_was_tried_and_what_comes() {
        let body = letter(None);
        for part in [
            "Portal 한빛 needs you: no SMS code arrived",
            "No session is alive",
            "What was tried: 2 logins, which failed.",
            "no_sms: step 9 (line 31): no code came within 120 s",
            "By itself it is tried again at ",
            "  9  code \"#인증번호\"  120.0 s  FAILED: no code came within 120 s",
            "expired  answered 401",
        ] {
            assert!(body.contains(part), "{part} is not in\n{body}");
        }
        assert_eq!(body.matches("login_started").count(), 0, "{body}");
    }

    #[test]
    fn where_a_login_is_to_be_asked_for_the_command_is_there() {
        for cause in Cause::ALL {
            let asks = matches!(
                cause,
                Cause::NoSms | Cause::PhoneSilent | Cause::CodeRejected | Cause::Captcha | Cause::BrowserFailed
            );
            let told = advice(cause, "hanbit");
            let both = ["`nightporter portal reauth hanbit`", "POST /api/portals/hanbit/reauth"];
            assert_eq!(both.map(|way| told.contains(way)), [asks; 2], "{cause}: {told}");
        }
    }

    #[test]
    fn it_says_how_to_type_a_code_with_and_without_a_public_address() {
        let url = "https://porter.example/code/abc".to_owned();
        let linked = letter(Some(ByHand::Link { url, until: at(1800) }));
        assert!(linked.contains("\n  https://porter.example/code/abc\n"), "{linked}");
        let api = letter(Some(ByHand::Api));
        for part in
            ["POST /api/portals/한빛/code {\"code\":\"…\"}", "nightporter portal code 한빛", "server.public_url"]
        {
            assert!(api.contains(part), "{part} is not in\n{api}");
        }
    }
}
