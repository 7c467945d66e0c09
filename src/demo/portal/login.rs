//! The way in: login page, second factor, home page, logout. HTTP around the book's decisions; no rule of its own
//! beyond the form's proof that a person sent it.

use axum::Router;
use axum::extract::{Form, State};
use axum::http::header::{LOCATION, SET_COOKIE};
use axum::http::{HeaderMap, HeaderName, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use serde::Deserialize;

use super::book::{CodeVerdict, PasswordVerdict, Stage};
use super::pages::{Message, Overview};
use super::{LoggedOut, Site, api, cookie};
use crate::demo::phone::Sms;
use crate::secret::Secret;

/// The session cookie.
pub(super) const SID: &str = "SID";
/// Orders shown on the home page.
const SHOWN: usize = 8;

pub(super) fn routes(site: &Site) -> Router {
    Router::new()
        .route("/", get(async || to("/home")))
        .route("/login", get(login_page).post(login))
        .route("/login/verify", get(verify_page).post(send_code))
        .route("/login/code", get(code_page).post(enter_code))
        .route("/login/code/resend", post(send_code))
        .route("/home", get(home))
        .route("/logout", post(logout))
        .with_state(site.clone())
}

/// The fields of all the forms; each form sends some.
#[derive(Deserialize)]
struct Entry {
    token: String,
    #[serde(default)]
    proof: String,
    #[serde(default)]
    user: String,
    #[serde(default)]
    pass: String,
    #[serde(default)]
    code: String,
}

impl Entry {
    /// Whether a trusted click left its proof, as the page's script computes it.
    fn by_hand(&self) -> bool {
        !self.token.is_empty() && self.proof.chars().eq(self.token.chars().rev())
    }
}

/// A visit as one request finds it.
struct Seen {
    sid: String,
    token: String,
    stage: Stage,
}

impl Site {
    fn seen(&self, headers: &HeaderMap) -> Option<Seen> {
        let shown = cookie(headers, SID)?;
        self.book(|book| {
            let sid = book.key(shown);
            let visit = book.visit(&sid)?;
            let (token, stage) = (visit.token.clone(), visit.stage.clone());
            Some(Seen { sid, token, stage })
        })
    }

    /// Starts a visit, in place of the one under `old`, and returns its cookie and token. A new cookie at every step up
    /// is what protects a real portal against session fixation, and what a cookie jar has to follow.
    pub(super) fn welcome(&self, old: Option<&str>, stage: Stage) -> (String, String) {
        let (sid, token) = (self.0.random.session_id(), self.0.random.session_id());
        let now = self.0.clock.now();
        self.book(|book| {
            if let Some(old) = old {
                book.end(old);
            }
            book.welcome(&sid, token.clone(), stage, now);
        });
        (sid, token)
    }

    fn number(&self, stage: &Stage) -> String {
        stage.user().and_then(|user| self.account(user)).map(|account| account.number.clone()).unwrap_or_default()
    }
}

fn set_sid(sid: &str) -> [(HeaderName, String); 1] {
    [(SET_COOKIE, format!("{SID}={sid}; Path=/; HttpOnly; SameSite=Lax"))]
}

fn to(path: &'static str) -> Response {
    (StatusCode::SEE_OTHER, [(LOCATION, path)]).into_response()
}

async fn login_page(State(site): State<Site>, headers: HeaderMap) -> Response {
    if site.faults().captcha {
        return site.pages().captcha();
    }
    match site.seen(&headers) {
        Some(Seen { stage: Stage::Member { .. }, .. }) => to("/home"),
        Some(seen) => site.pages().login(&seen.token, Message::None),
        None => fresh_login_page(&site, Message::None),
    }
}

/// The login page for somebody without a cookie, or with one that means nothing any more.
pub(super) fn fresh_login_page(site: &Site, message: Message) -> Response {
    let (sid, token) = site.welcome(None, Stage::Stranger);
    let mut page = (set_sid(&sid), site.pages().login(&token, message)).into_response();
    let preference = axum::http::HeaderValue::from_static("lang=ko; Path=/; Max-Age=31536000; SameSite=Lax");
    page.headers_mut().append(SET_COOKIE, preference);
    page
}

/// The login page as the answer to a request that needed a login.
pub(super) fn login_required_page(site: &Site) -> Response {
    fresh_login_page(site, Message::Notice("로그인이 필요한 서비스입니다."))
}

async fn login(State(site): State<Site>, headers: HeaderMap, Form(entry): Form<Entry>) -> Response {
    if site.faults().captcha {
        return site.pages().captcha();
    }
    let Some(seen) = site.seen(&headers).filter(|seen| seen.token == entry.token) else {
        let page = fresh_login_page(&site, Message::Notice("페이지 유효 시간이 지났습니다. 다시 로그인해 주세요."));
        return (StatusCode::FORBIDDEN, page).into_response();
    };
    if !entry.by_hand() {
        return (StatusCode::BAD_REQUEST, site.pages().login(&seen.token, Message::Blocked)).into_response();
    }
    let password = Secret::new(entry.pass);
    let now = site.0.clock.now();
    match site.book(|book| book.password(&entry.user, &password, now)) {
        PasswordVerdict::Accepted => {
            let (sid, _) = site.welcome(Some(&seen.sid), Stage::PasswordAccepted { user: entry.user });
            (set_sid(&sid), to("/login/verify")).into_response()
        }
        PasswordVerdict::Wrong => {
            site.pages().login(&seen.token, Message::Error("아이디 또는 비밀번호가 올바르지 않습니다."))
        }
        PasswordVerdict::Locked => {
            let text = "비밀번호를 여러 번 잘못 입력하여 계정이 잠겼습니다. 10분 후 다시 시도해 주세요.";
            site.pages().login(&seen.token, Message::Error(text))
        }
    }
}

async fn verify_page(State(site): State<Site>, headers: HeaderMap) -> Response {
    site.pace(|faults| faults.verify_page).await;
    match site.seen(&headers) {
        Some(Seen { token, stage, .. }) if awaits_code(&stage) => {
            let user = stage.user().unwrap_or_default();
            site.pages().verify(&token, user, &site.number(&stage), Message::None)
        }
        _ => to("/login"),
    }
}

fn awaits_code(stage: &Stage) -> bool {
    matches!(stage, Stage::PasswordAccepted { .. } | Stage::CodeSent { .. })
}

async fn send_code(State(site): State<Site>, headers: HeaderMap, Form(entry): Form<Entry>) -> Response {
    let Some(seen) = site.seen(&headers).filter(|seen| seen.token == entry.token && awaits_code(&seen.stage)) else {
        return to("/login");
    };
    if !entry.by_hand() {
        let (user, number) = (seen.stage.user().unwrap_or_default(), site.number(&seen.stage));
        let page = site.pages().verify(&seen.token, user, &number, Message::Blocked);
        return (StatusCode::BAD_REQUEST, page).into_response();
    }
    site.send_code(&seen.sid);
    to("/login/code")
}

async fn code_page(State(site): State<Site>, headers: HeaderMap) -> Response {
    site.pace(|faults| faults.code_page).await;
    match site.seen(&headers) {
        Some(seen @ Seen { stage: Stage::CodeSent { .. }, .. }) => {
            site.pages().code(&seen.token, &site.number(&seen.stage), Message::None)
        }
        Some(Seen { stage: Stage::PasswordAccepted { .. }, .. }) => to("/login/verify"),
        _ => to("/login"),
    }
}

async fn enter_code(State(site): State<Site>, headers: HeaderMap, Form(entry): Form<Entry>) -> Response {
    let Some(seen) = site.seen(&headers).filter(|seen| seen.token == entry.token) else { return to("/login") };
    let number = site.number(&seen.stage);
    if !entry.by_hand() {
        let page = site.pages().code(&seen.token, &number, Message::Blocked);
        return (StatusCode::BAD_REQUEST, page).into_response();
    }
    let (typed, now) = (entry.code.trim(), site.0.clock.now());
    let refuse = site.book(|book| book.expects(&seen.sid, typed)) && site.refuse_next_code();
    match site.book(|book| book.code(&seen.sid, typed, refuse, now)) {
        CodeVerdict::Accepted => admit(&site, &seen),
        CodeVerdict::Refused => {
            let text = "인증번호가 일치하지 않습니다. 다시 확인해 주세요.";
            site.pages().code(&seen.token, &number, Message::CodeError(text))
        }
        CodeVerdict::Thrown | CodeVerdict::NotAsked => to("/login"),
    }
}

impl Site {
    /// Sends a code to whoever this visit is of; false when its password was not right yet.
    pub(super) fn send_code(&self, sid: &str) -> bool {
        let (code, now) = (self.0.random.code(6), self.0.clock.now());
        let sent = self.book(|book| book.code_sent(sid, &code, now));
        let Some(account) = sent.as_deref().and_then(|user| self.account(user)) else { return false };
        account.line.deliver(Sms {
            from: self.0.settings.sender.clone(),
            to: account.number.clone(),
            text: format!("[Web발신]\n[한빛택배] 인증번호 [{code}] 를 입력해 주세요."),
            sent_at: now,
        });
        true
    }

    /// Completes a login under a new cookie, which is returned with its token.
    pub(super) fn make_member(&self, old: &str, stage: &Stage) -> Option<(String, String)> {
        let user = stage.user()?.to_owned();
        if self.faults().single_session {
            self.book(|book| book.end_members(|member| member.user == user));
        }
        let member = Stage::Member { user: user.clone(), since: self.0.clock.now() };
        let (sid, token) = self.welcome(Some(old), member);
        self.book(|book| {
            if let Some(id) = book.visit(&sid).map(|visit| visit.id.clone()) {
                book.logged_in(&user, id);
            }
        });
        Some((sid, token))
    }

    /// Uses up one of the refusals that were switched on.
    pub(super) fn refuse_next_code(&self) -> bool {
        self.0.faults.send_if_modified(|faults| {
            let refuse = faults.reject_codes > 0;
            faults.reject_codes = faults.reject_codes.saturating_sub(1);
            refuse
        })
    }
}

fn admit(site: &Site, seen: &Seen) -> Response {
    match site.make_member(&seen.sid, &seen.stage) {
        Some((sid, _)) => (set_sid(&sid), to("/home")).into_response(),
        None => to("/login"),
    }
}

async fn home(State(site): State<Site>, headers: HeaderMap) -> Response {
    let entered = match api::enter(&site, &headers) {
        Ok(entered) => entered,
        Err(_) if site.faults().logged_out == LoggedOut::LoginPage => return login_required_page(&site),
        Err(_) => return to("/login"),
    };
    let overview = {
        let orders = site.orders();
        Overview {
            user: entered.member.user.clone(),
            session: entered.member.id.clone(),
            csrf: entered.token.clone(),
            total: orders.count(None),
            moving: orders.count(Some("배송중")),
            done: orders.count(Some("배송완료")),
            waiting: orders.count(Some("접수대기")),
            latest: orders.latest(SHOWN),
            busy: site.faults().busy_home,
        }
    };
    site.book(|book| book.count(&entered.member.user, |counters| counters.home_pages += 1));
    site.pace(|faults| faults.home_page).await;
    entered.sign(site.pages().home(&overview))
}

async fn logout(State(site): State<Site>, headers: HeaderMap, Form(entry): Form<Entry>) -> Response {
    if let Some(seen) = site.seen(&headers).filter(|seen| seen.token == entry.token) {
        site.book(|book| book.end(&seen.sid));
    }
    let gone = format!("{SID}=; Path=/; HttpOnly; SameSite=Lax; Max-Age=0");
    ([(SET_COOKIE, gone)], to("/login")).into_response()
}
