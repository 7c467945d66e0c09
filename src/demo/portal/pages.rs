//! The portal's pages: Korean HTML with inline style and script, no external resource.
//!
//! Templates are filled by name; every value is escaped but those whose placeholder says `{{!name}}`, which only this
//! file fills. No rule lives here.

use axum::http::StatusCode;
use axum::http::header::CACHE_CONTROL;
use axum::response::{Html, IntoResponse, Response};

use super::orders::Order;

const STYLE: &str = include_str!("pages/style.css");
const GUARD: &str = include_str!("pages/guard.js");
const ENTRANCE: &str = include_str!("pages/entrance.html");
const LOGIN: &str = include_str!("pages/login.html");
const VERIFY: &str = include_str!("pages/verify.html");
const CODE: &str = include_str!("pages/code.html");
const CAPTCHA: &str = include_str!("pages/captcha.html");
/// What a page does by itself once it is shown.
const BUSY: &str = include_str!("pages/busy.js");
const HOME: &str = include_str!("pages/home.html");
const APP: &str = include_str!("pages/app.html");
const MAINTENANCE: &str = "<h1>서비스 점검 중입니다</h1><p class=\"sub\">더 나은 서비스를 위해 시스템을 점검하고 있습니다. \
    잠시 후 다시 접속해 주세요.</p>";

/// What a page has to tell beside its form.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Message {
    #[default]
    None,
    /// `.error`: the user did something wrong.
    Error(&'static str),
    /// `.code-error`: the code was refused.
    CodeError(&'static str),
    /// `.notice`: something to know.
    Notice(&'static str),
    /// `.blocked`: what was sent was not typed by a person.
    Blocked,
}

/// The selectors of the pages, before and after a redesign.
type Ids = [(&'static str, &'static str); 8];

const IDS: Ids = [
    ("id_user", "user"),
    ("id_pass", "pass"),
    ("id_go", "go"),
    ("id_send", "send"),
    ("id_code", "code"),
    ("id_ok", "ok"),
    ("id_resend", "resend"),
    ("id_account", "account"),
];
const REDESIGNED: Ids = [
    ("id_user", "loginId"),
    ("id_pass", "loginPassword"),
    ("id_go", "btnLogin"),
    ("id_send", "btnRequestOtp"),
    ("id_code", "otpNumber"),
    ("id_ok", "btnConfirm"),
    ("id_resend", "btnRetry"),
    ("id_account", "profileName"),
];

/// Draws pages, in the old or the new design.
#[derive(Clone, Copy)]
pub(super) struct Pages {
    pub(super) redesigned: bool,
}

/// What the home page shows.
pub(super) struct Overview {
    pub(super) user: String,
    pub(super) session: String,
    pub(super) csrf: String,
    pub(super) total: usize,
    pub(super) moving: usize,
    pub(super) done: usize,
    pub(super) waiting: usize,
    pub(super) latest: Vec<Order>,
    /// Whether the page makes calls by itself.
    pub(super) busy: bool,
}

impl Pages {
    pub(super) fn login(self, token: &str, message: Message) -> Response {
        self.entrance(StatusCode::OK, "로그인", LOGIN, &[("token", token)], message)
    }

    pub(super) fn captcha(self) -> Response {
        self.entrance(StatusCode::OK, "보안 문자 확인", CAPTCHA, &[], Message::None)
    }

    pub(super) fn maintenance(self) -> Response {
        self.entrance(StatusCode::SERVICE_UNAVAILABLE, "서비스 점검", MAINTENANCE, &[], Message::None)
    }

    pub(super) fn verify(self, token: &str, user: &str, number: &str, message: Message) -> Response {
        let values = [("token", token), ("user", user), ("number", &masked(number))];
        self.entrance(StatusCode::OK, "휴대폰 본인 확인", VERIFY, &values, message)
    }

    pub(super) fn code(self, token: &str, number: &str, message: Message) -> Response {
        let values = [("token", token), ("number", &*masked(number))];
        self.entrance(StatusCode::OK, "인증번호 입력", CODE, &values, message)
    }

    pub(super) fn home(self, overview: &Overview) -> Response {
        let Overview { user, session, csrf, total, moving, done, waiting, latest, busy } = overview;
        let rows: String = latest.iter().map(row).collect();
        let counts = [total, moving, done, waiting].map(ToString::to_string);
        let mut values = vec![("user", user.as_str()), ("session", session), ("csrf", csrf), ("rows", &rows)];
        values.extend(["total", "moving", "done", "waiting"].into_iter().zip(counts.iter().map(String::as_str)));
        values.extend([("style", STYLE), ("busy", if *busy { BUSY } else { "" })]);
        values.extend(self.ids());
        page(StatusCode::OK, fill(HOME, &values))
    }

    /// The single-page app: everything that it shows it fetches itself.
    pub(super) fn app(self) -> Response {
        page(StatusCode::OK, fill(APP, &[("style", STYLE)]))
    }

    fn ids(self) -> Ids {
        if self.redesigned { REDESIGNED } else { IDS }
    }

    fn entrance(
        self,
        status: StatusCode,
        title: &str,
        template: &str,
        values: &[(&str, &str)],
        message: Message,
    ) -> Response {
        let shown = match message {
            Message::None | Message::Blocked => String::new(),
            Message::Error(text) => format!("<p class=\"say error\" role=\"alert\">{text}</p>"),
            Message::CodeError(text) => format!("<p class=\"say code-error\" role=\"alert\">{text}</p>"),
            Message::Notice(text) => format!("<p class=\"say notice\">{text}</p>"),
        };
        let mut values = values.to_vec();
        values.push(("message", &shown));
        values.extend(self.ids());
        let content = fill(template, &values);
        let blocked = if message == Message::Blocked { "" } else { " hidden" };
        let frame =
            [("title", title), ("style", STYLE), ("guard", GUARD), ("content", content.as_str()), ("blocked", blocked)];
        page(status, fill(ENTRANCE, &frame))
    }
}

fn page(status: StatusCode, html: String) -> Response {
    (status, [(CACHE_CONTROL, "no-store")], Html(html)).into_response()
}

fn row(order: &Order) -> String {
    const ROW: &str = "<tr><td class=\"num\">{{id}}</td><td>{{recipient}}</td><td>{{item}}</td><td>{{address}}</td>\
        <td><span class=\"tag {{kind}}\">{{status}}</span></td></tr>\n";
    let kind = match order.status.as_str() {
        "배송완료" => "done",
        "접수대기" => "wait",
        _ => "",
    };
    let Order { id, recipient, item, address, status, .. } = order;
    let values =
        [("id", id.as_str()), ("recipient", recipient), ("item", item), ("address", address), ("status", status)];
    fill(ROW, &[&values[..], &[("kind", kind)]].concat())
}

/// `010-1234-5678` as `010-****-5678`.
fn masked(number: &str) -> String {
    let digits: Vec<char> = number.chars().filter(char::is_ascii_digit).collect();
    let tail: String = digits.iter().skip(digits.len().saturating_sub(4)).collect();
    let head: String = digits.iter().take(3).collect();
    format!("{head}-****-{tail}")
}

/// Fills `{{name}}` with the escaped value and `{{!name}}` with the value as it is; an unknown name becomes nothing.
fn fill(template: &str, values: &[(&str, &str)]) -> String {
    let mut filled = String::with_capacity(template.len() * 2);
    let mut rest = template;
    while let Some((before, after)) = rest.split_once("{{") {
        let (name, tail) = after.split_once("}}").unwrap_or((after, ""));
        filled.push_str(before);
        let (raw, name) = name.strip_prefix('!').map_or((false, name), |name| (true, name));
        let value = values.iter().find(|(known, _)| *known == name).map_or("", |(_, value)| value);
        if raw {
            filled.push_str(value);
        } else {
            escape(value, &mut filled);
        }
        rest = tail;
    }
    filled.push_str(rest);
    filled
}

fn escape(text: &str, into: &mut String) {
    for character in text.chars() {
        match character {
            '&' => into.push_str("&amp;"),
            '<' => into.push_str("&lt;"),
            '>' => into.push_str("&gt;"),
            '"' => into.push_str("&quot;"),
            '\'' => into.push_str("&#39;"),
            other => into.push(other),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_escaped_unless_the_template_trusts_them() {
        let filled = fill("{{a}}|{{!a}}|{{none}}|{{b}}", &[("a", "<b>\"&'"), ("b", "한빛")]);
        assert_eq!(filled, "&lt;b&gt;&quot;&amp;&#39;|<b>\"&'||한빛");
        assert_eq!(masked("010-2345-6789"), "010-****-6789");
    }
}
