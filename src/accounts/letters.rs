//! What users are told by mail, in their language: one function a letter. No letter repeats what somebody typed who has not
//! proven to own the address, neither a name nor a password: that would let anybody write to anybody in our name. The
//! code stands in the text alone, never in the subject, which mailboxes show and the outbox keeps.
//!
//! A letter goes out as plain text and as a page that says the same. The page loads nothing and links nowhere, so it tells
//! nobody that it was read, and teaches nobody to click.

use std::time::Duration;

use askama::Template;

use crate::clock::Time;
use crate::config::Locale;
use crate::outbox::Content;
use crate::secret::Secret;

/// Writes the letters of one service in one language.
#[derive(Clone, Debug)]
pub(super) struct Writer {
    locale: Locale,
    /// What the service is called: the host that users know.
    site: Option<String>,
}

/// What a letter says, before it has a form.
struct Said<'a> {
    subject: &'a str,
    before: &'a [&'a str],
    code: Option<&'a Secret>,
    after: &'a [&'a str],
}

#[derive(Template)]
#[template(path = "letter.html")]
struct Page<'a> {
    language: &'a str,
    site: &'a str,
    subject: &'a str,
    before: &'a [&'a str],
    label: &'a str,
    code: &'a str,
    after: &'a [&'a str],
}

impl Writer {
    /// For the service at `public_url`.
    pub(super) fn new(locale: Locale, public_url: Option<&str>) -> Self {
        let host = |url: &str| url::Url::parse(url).ok()?.host_str().map(str::to_owned);
        Self { locale, site: public_url.and_then(host) }
    }

    /// The code that proves a new account's address.
    pub(super) fn registration_code(&self, code: &Secret, life: Duration) -> Content {
        let span = self.span(life);
        match self.locale {
            Locale::English => self.letter(&Said {
                subject: "Confirm your e-mail address",
                before: &["Somebody, probably you, has asked for an account with this e-mail address."],
                code: Some(code),
                after: &[&format!(
                    "It counts for {span}. If it was not you, do nothing: without the code there is no account."
                )],
            }),
            Locale::Korean => self.letter(&Said {
                subject: "이메일 주소를 확인해 주세요",
                before: &["이 이메일 주소로 회원가입 요청이 들어왔습니다."],
                code: Some(code),
                after: &[&format!(
                    "{span} 동안 유효합니다. 본인이 요청하지 않았다면 아무것도 하지 않으셔도 됩니다. 인증번호를 입력하지 않으면 \
                     계정은 만들어지지 않습니다."
                )],
            }),
        }
    }

    /// Somebody has asked for an account at an address that has one.
    pub(super) fn already_registered(&self) -> Content {
        match self.locale {
            Locale::English => self.plain(
                "You already have an account",
                &[
                    "Somebody, probably you, has asked for an account with this e-mail address. There is one already, and \
                     nothing was changed: log in, or set a new password if you have forgotten yours.",
                    "If it was not you, do nothing.",
                ],
            ),
            Locale::Korean => self.plain(
                "이미 가입된 이메일 주소입니다",
                &[
                    "이 이메일 주소로 회원가입 요청이 들어왔지만, 이미 가입된 계정이 있어 아무것도 바뀌지 않았습니다. 로그인하시거나, \
                     비밀번호가 기억나지 않으면 비밀번호를 재설정해 주세요.",
                    "본인이 요청하지 않았다면 아무것도 하지 않으셔도 됩니다.",
                ],
            ),
        }
    }

    /// The code that logs in.
    pub(super) fn login_code(&self, code: &Secret, life: Duration) -> Content {
        let span = self.span(life);
        match self.locale {
            Locale::English => self.letter(&Said {
                subject: "Your login code",
                before: &[],
                code: Some(code),
                after: &[&format!(
                    "It counts for {span} and for one login. Give it to nobody, whoever asks for it. If you did not ask for \
                     it, somebody else has typed your address; without the code they cannot log in."
                )],
            }),
            Locale::Korean => self.letter(&Said {
                subject: "로그인 인증번호",
                before: &[],
                code: Some(code),
                after: &[&format!(
                    "{span} 동안 한 번만 사용할 수 있습니다. 누가 묻더라도 알려 주지 마세요. 본인이 요청하지 않았다면 다른 사람이 \
                     이메일 주소를 입력한 것이며, 인증번호 없이는 로그인할 수 없습니다."
                )],
            }),
        }
    }

    /// Somebody has asked to log in, or for a new password, at an address without an account.
    pub(super) fn no_account(&self) -> Content {
        match self.locale {
            Locale::English => self.plain(
                "There is no account with this address",
                &[
                    "Somebody, probably you, has tried to log in or to set a new password with this e-mail address. There is \
                     no account with it: register first, or use the address that you have registered with.",
                    "If it was not you, do nothing.",
                ],
            ),
            Locale::Korean => self.plain(
                "가입되지 않은 이메일 주소입니다",
                &[
                    "이 이메일 주소로 로그인 또는 비밀번호 재설정 요청이 들어왔지만, 가입된 계정이 없습니다. 먼저 회원가입을 하시거나 \
                     가입할 때 사용한 이메일 주소를 입력해 주세요.",
                    "본인이 요청하지 않았다면 아무것도 하지 않으셔도 됩니다.",
                ],
            ),
        }
    }

    /// The code that sets a new password.
    pub(super) fn reset_code(&self, code: &Secret, life: Duration) -> Content {
        let span = self.span(life);
        match self.locale {
            Locale::English => self.letter(&Said {
                subject: "Your code for a new password",
                before: &[],
                code: Some(code),
                after: &[&format!(
                    "It counts for {span}. Who has it can set a new password: give it to nobody. If you did not ask for it, \
                     do nothing; your password stays as it is."
                )],
            }),
            Locale::Korean => self.letter(&Said {
                subject: "비밀번호 재설정 인증번호",
                before: &[],
                code: Some(code),
                after: &[&format!(
                    "{span} 동안 유효합니다. 이 번호로 비밀번호를 바꿀 수 있으니 누구에게도 알려 주지 마세요. 본인이 요청하지 \
                     않았다면 아무것도 하지 않으셔도 되며, 비밀번호는 그대로 유지됩니다."
                )],
            }),
        }
    }

    /// An operator has taken the password away; the code sets a new one.
    pub(super) fn password_taken(&self, code: &Secret, life: Duration) -> Content {
        let span = self.span(life);
        match self.locale {
            Locale::English => self.letter(&Said {
                subject: "Please set a new password",
                before: &[
                    "Whoever runs this service has ended all of your logins and asks you to set a new password; the one \
                     before counts no more.",
                ],
                code: Some(code),
                after: &[&format!(
                    "It counts for {span}. Give it to nobody, whoever asks for it. If it has ended before you use it, ask \
                     for another one as for a forgotten password."
                )],
            }),
            Locale::Korean => self.letter(&Said {
                subject: "비밀번호를 새로 설정해 주세요",
                before: &[
                    "서비스 운영자가 모든 로그인을 종료하고 비밀번호를 새로 설정하도록 요청했습니다. 이전 비밀번호는 더 이상 사용할 수 \
                     없습니다.",
                ],
                code: Some(code),
                after: &[&format!(
                    "{span} 동안 유효합니다. 누가 묻더라도 알려 주지 마세요. 그 전에 사용하지 못했다면 비밀번호 찾기에서 인증번호를 다시 \
                     요청해 주세요."
                )],
            }),
        }
    }

    /// The password is another one from now on.
    pub(super) fn password_changed(&self, at: Time) -> Content {
        let at = at.local();
        match self.locale {
            Locale::English => self.plain(
                "Your password was changed",
                &[
                    &format!(
                        "The password of your account was changed at {at}. Every login from before has ended."
                    ),
                    "If it was not you, somebody else can read your mail or knows your password: set a new one at once.",
                ],
            ),
            Locale::Korean => self.plain(
                "비밀번호가 변경되었습니다",
                &[
                    &format!("계정의 비밀번호가 {at}에 변경되었습니다. 이전의 모든 로그인은 종료되었습니다."),
                    "본인이 변경하지 않았다면 다른 사람이 메일을 읽거나 비밀번호를 알고 있는 것이니, 바로 비밀번호를 재설정해 주세요.",
                ],
            ),
        }
    }

    /// A refresh token came a second time: its session was ended.
    pub(super) fn session_stolen(&self, at: Time) -> Content {
        let at = at.local();
        match self.locale {
            Locale::English => self.plain(
                "A login of yours was ended",
                &[
                    &format!(
                        "One of your logins was used from two places at {at}, as happens when somebody has copied it from a \
                         device of yours. It has ended on both: log in again where you want to go on."
                    ),
                    "If you do not know why that was, end your other logins as well and set a new password.",
                ],
            ),
            Locale::Korean => self.plain(
                "로그인이 종료되었습니다",
                &[
                    &format!(
                        "{at}에 하나의 로그인이 두 곳에서 사용되었습니다. 다른 사람이 기기에서 로그인 정보를 복사했을 때 일어나는 \
                         일입니다. 두 곳 모두에서 로그인이 종료되었으니, 계속하려면 다시 로그인해 주세요."
                    ),
                    "이유를 알 수 없다면 다른 로그인도 모두 종료하고 비밀번호를 재설정해 주세요.",
                ],
            ),
        }
    }

    fn plain(&self, subject: &str, paragraphs: &[&str]) -> Content {
        self.letter(&Said { subject, before: paragraphs, code: None, after: &[] })
    }

    /// One letter in both forms, with the service's name.
    fn letter(&self, said: &Said<'_>) -> Content {
        let (language, label) = match self.locale {
            Locale::English => ("en", "Your code:"),
            Locale::Korean => ("ko", "인증번호:"),
        };
        let code = said.code.map_or("", Secret::expose);
        let line = said.code.map(|_| format!("{label} {code}"));
        let paragraphs = said.before.iter().copied().chain(line.as_deref()).chain(said.after.iter().copied());
        let text = paragraphs.collect::<Vec<_>>().join("\n\n");
        let content = match &self.site {
            Some(site) => Content::new(&format!("[{site}] {}", said.subject), format!("{text}\n\n-- \n{site}\n")),
            None => Content::new(said.subject, format!("{text}\n")),
        };
        let (site, Said { subject, before, after, .. }) = (self.site.as_deref().unwrap_or_default(), said);
        let page = Page { language, site, subject, before, label, code, after };
        // Writing into a string does not fail; without the page the text says the same.
        content.with_html(page.render().unwrap_or_default())
    }

    /// How long a code counts, in words.
    fn span(&self, life: Duration) -> String {
        let seconds = life.as_secs();
        let in_minutes = seconds >= 120 && seconds.is_multiple_of(60);
        match (self.locale, in_minutes) {
            (Locale::English, true) => format!("{} minutes", seconds / 60),
            (Locale::English, false) => format!("{seconds} seconds"),
            (Locale::Korean, true) => format!("{}분", seconds / 60),
            (Locale::Korean, false) => format!("{seconds}초"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_letter_is_in_the_language_and_no_subject_has_the_code() {
        let digits = Secret::new("135790");
        for locale in [Locale::English, Locale::Korean] {
            let writer = Writer::new(locale, Some("https://porter.example.com"));
            let life = Duration::from_secs(900);
            let coded = [
                writer.registration_code(&digits, life),
                writer.login_code(&digits, life),
                writer.reset_code(&digits, life),
                writer.password_taken(&digits, life),
            ];
            for letter in &coded {
                assert!(
                    letter.text().contains("135790")
                        && (letter.text().contains("15 minutes") || letter.text().contains("15분")),
                    "{}",
                    letter.text()
                );
            }
            let plain = [
                writer.already_registered(),
                writer.no_account(),
                writer.password_changed(Time::from_millis(0)),
                writer.session_stolen(Time::from_millis(0)),
            ];
            for letter in coded.iter().chain(&plain) {
                assert!(letter.subject().starts_with("[porter.example.com] ") && !letter.subject().contains("135790"));
                assert!(letter.text().ends_with("-- \nporter.example.com\n"));
                for paragraph in letter.text().trim_end_matches("\n\n-- \nporter.example.com\n").split("\n\n") {
                    let words = paragraph.strip_suffix(" 135790").unwrap_or(paragraph);
                    assert!(letter.html().contains(&format!(">{words}</p>")), "{}", letter.html());
                }
                assert_eq!(letter.html().contains(">135790</p>"), letter.text().contains("135790"));
                assert_eq!(letter.text().contains("니다"), locale == Locale::Korean, "{}", letter.text());
            }
        }
        let unnamed = Writer::new(Locale::English, None).no_account();
        assert_eq!(unnamed.subject(), "There is no account with this address");
    }
}
