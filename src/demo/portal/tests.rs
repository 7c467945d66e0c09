//! The portal over real sockets, with a client that keeps cookies and reads forms as a browser would.

use std::collections::BTreeMap;
use std::path::Path;

use reqwest::redirect::Policy;
use reqwest::{Method, Response, StatusCode};
use serde_json::{Value, json};

use super::*;
use crate::clock::Time;
use crate::demo::phone::{Mode, Phone, Settings as PhoneSettings};
use crate::portals::recipe::Recipe;

const LIMIT: Duration = Duration::from_secs(20);
const USER: &str = "partner01";

struct Stage {
    portal: Portal,
    controls: Controls,
    phone: Phone,
    clock: Clock,
    life: Lifecycle,
}

impl Stage {
    async fn new() -> Self {
        Self::with(|_| {}).await
    }

    async fn with(adjust: impl FnOnce(&mut Settings)) -> Self {
        let (life, clock, random) =
            (Lifecycle::new(), Clock::held(Time::from_millis(1_700_000_000_000)), Random::seeded(11));
        let phone = Phone::start(PhoneSettings::capcom6("office", Secret::new("key")), &clock, &random, &life);
        phone.set_mode(Mode::Silent);
        let mut account = Account::partner(&random, phone.line());
        account.password = Secret::new("열려라!");
        let mut settings = Settings::of(account);
        adjust(&mut settings);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let portal = Portal::start(listener, settings, &clock, &random, &life).unwrap();
        let controls = portal.controls();
        Self { portal, controls, phone, clock, life }
    }

    fn browser(&self) -> Browser {
        let client = reqwest::Client::builder().redirect(Policy::none()).no_proxy().timeout(LIMIT).build().unwrap();
        Browser { client, base: self.portal.base_url(), cookies: BTreeMap::new() }
    }

    /// The code in the SMS number `count` since the start.
    async fn code(&self, count: usize) -> String {
        let inbox = self.phone.received(count, LIMIT).await.unwrap();
        let text = &inbox[count - 1].text;
        assert!(text.starts_with("[Web발신]\n[한빛택배] 인증번호 ["), "{text}");
        text.chars().filter(char::is_ascii_digit).collect()
    }

    async fn logged_in(&self) -> Browser {
        let mut browser = self.browser();
        browser.password("열려라!").await;
        browser.submit("/login/verify", &[]).await;
        let code = self.code(self.controls.counters(USER).codes_sent as usize).await;
        let answer = browser.submit("/login/code", &[("code", &code)]).await;
        assert_eq!(answer.headers()["location"], "/home");
        browser
    }
}

/// A client that keeps cookies and reads hidden fields like a browser, and follows no redirect.
struct Browser {
    client: reqwest::Client,
    base: String,
    cookies: BTreeMap<String, String>,
}

impl Browser {
    async fn call(&mut self, method: Method, path: &str, headers: &[(&str, &str)], body: String) -> Response {
        let cookies: Vec<_> = self.cookies.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let mut request = self.client.request(method, format!("{}{path}", self.base)).body(body);
        if !cookies.is_empty() {
            request = request.header("cookie", cookies.join("; "));
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let answer = request.send().await.unwrap();
        for cookie in answer.headers().get_all("set-cookie") {
            let (name, value) = cookie.to_str().unwrap().split(';').next().unwrap().split_once('=').unwrap();
            self.cookies.insert(name.into(), value.into());
        }
        answer
    }

    async fn get(&mut self, path: &str) -> Response {
        self.call(Method::GET, path, &[], String::new()).await
    }

    async fn page(&mut self, path: &str) -> String {
        self.get(path).await.text().await.unwrap()
    }

    /// Posts a form as the page's script would after a trusted click.
    async fn submit(&mut self, path: &str, fields: &[(&str, &str)]) -> Response {
        let page = self.page(path).await;
        let token = attribute(&page, "name=\"token\" value=\"");
        let proof: String = token.chars().rev().collect();
        let mut form = url::form_urlencoded::Serializer::new(String::new());
        form.append_pair("token", &token).append_pair("proof", &proof);
        form.extend_pairs(fields);
        self.form(path, form.finish()).await
    }

    async fn form(&mut self, path: &str, form: String) -> Response {
        self.call(Method::POST, path, &[("content-type", "application/x-www-form-urlencoded")], form).await
    }

    async fn password(&mut self, password: &str) -> Response {
        self.submit("/login", &[("user", USER), ("pass", password)]).await
    }

    async fn order(&mut self, csrf: &str, key: &str) -> Response {
        let headers = [("content-type", "application/json"), ("x-csrf", csrf), ("idempotency-key", key)];
        let wish = json!({"recipient": "홍길동", "item": "떡볶이"}).to_string();
        self.call(Method::POST, "/api/orders", &headers, wish).await
    }

    async fn csrf(&mut self) -> String {
        attribute(&self.page("/home").await, "name=\"csrf\" content=\"")
    }
}

fn attribute(page: &str, before: &str) -> String {
    page.split_once(before).unwrap_or_else(|| panic!("no {before} in {page}")).1.split('"').next().unwrap().into()
}

async fn json(answer: Response) -> Value {
    answer.json().await.unwrap()
}

#[tokio::test]
async fn a_whole_login_by_form_and_sms() {
    let stage = Stage::new().await;
    let mut browser = stage.browser();
    let login = browser.page("/login").await;
    for part in ["id=\"user\"", "id=\"pass\"", "id=\"go\"", "lang=\"ko\"", "charset=\"utf-8\"", "협력사 로그인"] {
        assert!(login.contains(part), "{part}");
    }
    assert!(!login.contains("say error") && !login.contains("로그인이 필요"));
    assert_eq!(browser.cookies["lang"], "ko");
    let before = browser.cookies["SID"].clone();
    let wrong = browser.password("닫혀라!").await.text().await.unwrap();
    assert!(wrong.contains("class=\"say error\""));
    assert_eq!(browser.password("열려라!").await.headers()["location"], "/login/verify");
    assert_ne!(browser.cookies["SID"], before, "a step up brings a new cookie");
    assert!(browser.page("/login/verify").await.contains("id=\"send\""));
    assert_eq!(browser.submit("/login/verify", &[]).await.headers()["location"], "/login/code");
    let refused = browser.submit("/login/code", &[("code", "12")]).await.text().await.unwrap();
    assert!(refused.contains("code-error") && refused.contains("id=\"resend\""));
    let code = stage.code(1).await;
    let answer = browser.submit("/login/code", &[("code", &format!(" {code} "))]).await;
    assert_eq!((answer.status(), &answer.headers()["location"]), (StatusCode::SEE_OTHER, &"/home".parse().unwrap()));
    let home = browser.page("/home").await;
    assert!(home.contains("id=\"account\">partner01<"));
    let counters = stage.controls.counted(USER, LIMIT, |counters| counters.codes_accepted == 1).await.unwrap();
    let expected = Counters {
        logins_attempted: 2,
        passwords_accepted: 1,
        passwords_rejected: 1,
        codes_sent: 1,
        home_pages: 1,
        codes_accepted: 1,
        codes_rejected: 1,
        ..Counters::default()
    };
    assert_eq!(counters, expected);
    let member = &stage.controls.sessions(USER)[0];
    assert!(home.contains(&member.id));
    assert_eq!(stage.controls.logins(USER), std::slice::from_ref(&member.id));
    let token = browser.csrf().await;
    browser.form("/logout", format!("token={token}")).await;
    assert!(stage.controls.sessions(USER).is_empty());
}

#[tokio::test]
async fn a_form_without_the_proof_of_a_trusted_click_is_refused() {
    let stage = Stage::new().await;
    let mut browser = stage.browser();
    let token = attribute(&browser.page("/login").await, "name=\"token\" value=\"");
    let answer = browser.form("/login", format!("token={token}&user={USER}&pass=x")).await;
    assert_eq!(answer.status(), StatusCode::BAD_REQUEST);
    let page = answer.text().await.unwrap();
    assert!(page.contains("data-blocked>") && !page.contains("say error"));
    let answer = browser.form("/login", format!("token=other&user={USER}&pass=x")).await;
    assert_eq!(answer.status(), StatusCode::FORBIDDEN);
    assert_eq!(stage.controls.counters(USER), Counters::default());
}

#[tokio::test]
async fn a_code_is_void_after_a_resend_a_refusal_or_its_time() {
    let stage = Stage::new().await;
    let mut browser = stage.browser();
    browser.password("열려라!").await;
    browser.submit("/login/verify", &[]).await;
    let first = stage.code(1).await;
    let token = attribute(&browser.page("/login/code").await, "name=\"token\" value=\"");
    let proof: String = token.chars().rev().collect();
    let answer = browser.form("/login/code/resend", format!("token={token}&proof={proof}")).await;
    assert_eq!(answer.headers()["location"], "/login/code");
    let second = stage.code(2).await;
    assert_eq!(browser.submit("/login/code", &[("code", &first)]).await.status(), StatusCode::OK);
    stage.controls.faults(|faults| faults.reject_codes = 1);
    for _ in 0..2 {
        assert_eq!(browser.submit("/login/code", &[("code", &second)]).await.status(), StatusCode::OK);
    }
    let counters = stage.controls.counters(USER);
    assert_eq!((counters.codes_sent, counters.codes_rejected, counters.codes_repeated), (2, 3, 1));
    browser.submit("/login/verify", &[]).await;
    let third = stage.code(3).await;
    stage.clock.advance(Duration::from_secs(180));
    assert_eq!(browser.submit("/login/code", &[("code", &third)]).await.status(), StatusCode::OK);
    let thrown = browser.submit("/login/code", &[("code", "000")]).await;
    assert_eq!(thrown.headers()["location"], "/login", "after five wrong ones the login starts over");
}

#[tokio::test]
async fn the_code_comes_early_when_its_page_is_held() {
    let stage = Stage::new().await;
    let mut browser = stage.browser();
    browser.password("열려라!").await;
    stage.controls.faults(|faults| faults.code_page = Pace::Held);
    browser.submit("/login/verify", &[]).await;
    let code = stage.code(1).await;
    let mut other = stage.browser();
    let page = {
        let mut held = std::pin::pin!(browser.page("/login/code"));
        let round_trips = async {
            for _ in 0..3 {
                other.page("/login").await;
            }
        };
        tokio::select! {
            biased;
            _ = &mut held => panic!("the held page came before it was released"),
            () = round_trips => {}
        }
        stage.controls.faults(|faults| faults.code_page = Pace::Prompt);
        held.await
    };
    assert!(page.contains("id=\"code\""));
    assert_eq!(browser.submit("/login/code", &[("code", &code)]).await.headers()["location"], "/home");
}

#[tokio::test]
async fn an_ended_session_is_told_in_each_of_the_four_ways() {
    let stage = Stage::new().await;
    let mut browser = stage.logged_in().await;
    let answer = browser.get("/api/orders?limit=3").await;
    let id = answer.headers()["x-portal-session"].to_str().unwrap().to_owned();
    let body = json(answer).await;
    assert_eq!((&body["ok"], &body["session"]), (&json!(true), &json!(id)));
    assert_eq!(body["orders"].as_array().unwrap().len(), 3);
    assert!(body["orders"][0]["recipient"].as_str().unwrap().chars().all(|letter| letter >= '가'));
    let order = body["orders"][0]["id"].as_str().unwrap().to_owned();
    assert_eq!(json(browser.get(&format!("/api/orders/{order}")).await).await["order"]["id"], order);

    assert!(stage.controls.expire(&id));
    assert!(!stage.controls.expire(&id));
    let answer = browser.get("/api/orders").await;
    assert_eq!(answer.status(), StatusCode::UNAUTHORIZED);
    assert_eq!(json(answer).await["error"], "login_required");
    assert_eq!(browser.get("/home").await.headers()["location"], "/login");

    stage.controls.faults(|faults| faults.logged_out = LoggedOut::Redirect);
    let answer = browser.get("/api/orders").await;
    assert_eq!((answer.status(), &answer.headers()["location"]), (StatusCode::FOUND, &"/login".parse().unwrap()));

    stage.controls.faults(|faults| faults.logged_out = LoggedOut::PoliteJson);
    let answer = browser.get("/api/orders").await;
    assert_eq!(answer.status(), StatusCode::OK);
    assert_eq!(json(answer).await["error"], "login_required");
    assert_eq!(stage.controls.counters(USER).expired_answers, 4);

    stage.controls.faults(|faults| faults.logged_out = LoggedOut::LoginPage);
    let answer = browser.get("/api/orders").await;
    assert_eq!(answer.status(), StatusCode::OK);
    assert!(answer.text().await.unwrap().contains("로그인이 필요"));
}

#[tokio::test]
async fn sessions_end_by_idleness_by_age_and_by_hand() {
    let minutes = |minutes: u64| Some(Duration::from_secs(60 * minutes));
    let stage = Stage::with(|settings| (settings.idle, settings.absolute) = (minutes(10), minutes(30))).await;
    let mut busy = stage.logged_in().await;
    let mut idle = stage.logged_in().await;
    for _ in 0..3 {
        stage.clock.advance(Duration::from_secs(300));
        assert_eq!(busy.get("/api/orders").await.status(), StatusCode::OK);
    }
    assert_eq!(idle.get("/api/orders").await.status(), StatusCode::UNAUTHORIZED);
    stage.clock.advance(Duration::from_secs(500));
    assert_eq!(busy.get("/api/orders").await.status(), StatusCode::OK);
    stage.clock.advance(Duration::from_secs(500));
    assert_eq!(busy.get("/api/orders").await.status(), StatusCode::UNAUTHORIZED);

    let (mut oldest, mut newest) = (stage.logged_in().await, stage.logged_in().await);
    let logins = stage.controls.logins(USER);
    assert_eq!(stage.controls.expire_of(USER, Pick::Newest).as_ref(), logins.last());
    assert_eq!(newest.get("/api/orders").await.status(), StatusCode::UNAUTHORIZED);
    assert_eq!(oldest.get("/api/orders").await.status(), StatusCode::OK);
    stage.controls.faults(|faults| faults.single_session = true);
    let mut only = stage.logged_in().await;
    assert_eq!(oldest.get("/api/orders").await.status(), StatusCode::UNAUTHORIZED);
    assert_eq!(stage.controls.expire_all().len(), 1);
    assert_eq!(only.get("/api/orders").await.status(), StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn an_order_needs_the_fresh_token_and_a_key_makes_it_once() {
    let stage = Stage::new().await;
    let mut browser = stage.logged_in().await;
    let stale = browser.csrf().await;
    stage.controls.renew_tokens(USER);
    assert_eq!(browser.order(&stale, "k1").await.status(), StatusCode::FORBIDDEN);
    let fresh = browser.csrf().await;
    let made = browser.order(&fresh, "k1").await;
    assert_eq!(made.status(), StatusCode::CREATED);
    let (made, again) = (json(made).await, browser.order(&fresh, "k1").await);
    assert_eq!(again.status(), StatusCode::OK);
    assert_eq!(json(again).await["order"]["id"], made["order"]["id"]);
    let counters = stage.controls.counters(USER);
    assert_eq!((counters.orders_created, counters.csrf_refused, stage.controls.submissions("k1")), (1, 1, 2));
    assert_eq!(stage.controls.orders(1)[0].recipient, "홍길동");
}

#[tokio::test]
async fn the_rotating_cookie_forgives_for_its_grace_only() {
    let stage = Stage::new().await;
    let mut browser = stage.logged_in().await;
    stage.controls.faults(|faults| faults.rotating_cookie = true);
    browser.get("/api/orders").await;
    let old = browser.cookies["TICKET"].clone();
    browser.get("/api/orders").await;
    assert_ne!(browser.cookies["TICKET"], old);
    let new = browser.cookies.insert("TICKET".into(), old.clone()).unwrap();
    assert_eq!(browser.get("/api/orders").await.status(), StatusCode::OK);
    stage.clock.advance(TICKET_GRACE);
    browser.cookies.insert("TICKET".into(), new);
    assert_eq!(browser.get("/api/orders").await.status(), StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn the_relay_s_mirrors_tell_what_arrived() {
    let stage = Stage::new().await;
    let mut browser = stage.logged_in().await;
    let told = json(browser.call(Method::PATCH, "/api/echo?q=%ED%95%9C", &[("x-a", "1")], "한글".into()).await).await;
    assert_eq!(
        (&told["method"], &told["query"], &told["body"]),
        (&json!("PATCH"), &json!("q=%ED%95%9C"), &json!("한글"))
    );
    assert_eq!(told["headers"]["x-a"], json!(["1"]));
    assert_eq!(told["cookies"], json!(["SID", "lang"]));
    assert_eq!(told["headers"].get("cookie"), None);
    let body = "가".repeat(1_000_000);
    let told = json(browser.call(Method::POST, "/api/upload", &[], body.clone()).await).await;
    assert_eq!((&told["bytes"], &told["crc32"]), (&json!(3_000_000), &json!(crc32fast::hash(body.as_bytes()))));
    let big = browser.get("/api/big?bytes=200001").await.bytes().await.unwrap();
    assert_eq!(big.len(), 200_001);
    assert!(browser.get("/api/big?bytes=200001&cut=70000").await.bytes().await.is_err());
    assert_eq!(json(browser.get("/api/slow?ms=1").await).await["ok"], true);
    let away = browser.get("/api/redirect?to=http://127.0.0.2:1/x").await;
    assert_eq!(
        (away.status(), &away.headers()["location"]),
        (StatusCode::FOUND, &"http://127.0.0.2:1/x".parse().unwrap())
    );
}

#[tokio::test]
async fn outages_refuse_hang_up_or_leave_in_doubt() {
    let stage = Stage::new().await;
    let mut browser = stage.logged_in().await;
    let csrf = browser.csrf().await;
    stage.controls.faults(|faults| faults.outage = Some(Outage::Maintenance));
    assert_eq!(browser.get("/login").await.status(), StatusCode::SERVICE_UNAVAILABLE);
    stage.controls.faults(|faults| faults.outage = Some(Outage::CutAnswers));
    let url = format!("{}/api/orders", browser.base);
    let request = browser.client.post(url).header("cookie", format!("SID={}", browser.cookies["SID"]));
    let wish = json!({"recipient": "홍길동", "item": "떡볶이"});
    assert!(request.header("x-csrf", csrf).json(&wish).send().await.is_err());
    assert_eq!(stage.controls.counters(USER).orders_created, 1);
    stage.controls.faults(|faults| faults.outage = Some(Outage::Closing));
    assert!(browser.client.get(format!("{}/login", browser.base)).send().await.is_err());
    stage.controls.heal();
    assert_eq!(browser.get("/api/orders").await.status(), StatusCode::OK);
    assert!(stage.life.shutdown(LIMIT).await);
}

#[tokio::test]
async fn a_redesign_renames_and_a_captcha_replaces_the_form() {
    let stage = Stage::new().await;
    let mut browser = stage.browser();
    stage.controls.faults(|faults| faults.page_changed = true);
    let page = browser.page("/login").await;
    assert!(page.contains("id=\"loginId\"") && !page.contains("id=\"user\""));
    stage.controls.faults(|faults| faults.captcha = true);
    let page = browser.page("/login").await;
    assert!(page.contains("id=\"captcha\"") && !page.contains("type=\"password\""));
}

#[tokio::test]
async fn five_wrong_passwords_lock_the_account_for_a_while() {
    let stage = Stage::new().await;
    let mut browser = stage.browser();
    for _ in 0..5 {
        browser.password("닫혀라!").await;
    }
    assert!(browser.password("열려라!").await.text().await.unwrap().contains("계정이 잠겼습니다"));
    stage.clock.advance(Duration::from_secs(600));
    assert_eq!(browser.password("열려라!").await.status(), StatusCode::SEE_OTHER);
}

#[test]
fn the_shipped_recipe_is_valid_for_the_address_given() {
    let text = recipe_toml("http://127.0.0.1:4711");
    let recipe = Recipe::parse(&text, Path::new("demo.toml")).unwrap();
    assert_eq!(recipe.base_url.as_str(), "http://127.0.0.1:4711/");
    assert!(recipe.needs_phone() && recipe.warnings.is_empty(), "{:?}", recipe.warnings);
    assert_eq!(recipe.saves("csrf").count(), 1);
}
