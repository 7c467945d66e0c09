//! Recipes as an operator meets them: the contract's example, every mistake with its words, the shipped files.

use std::borrow::Cow;

use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::browsers::Key;
use crate::config::{Place, Sources};

mod mistakes;

/// The example of the contract, word for word.
const CONTRACT: &str = r##"
base_url = "https://acme.example"
[browser]
keep_tab = false                          # true for portals that live in sessionStorage
# binary, user_agent, allowed_origins
[login]
timeout = "3m"
steps = [                                 # in order; a selector is CSS
  { goto = "/login" },
  { fill = "#user", value = "{{username}}" },
  { fill = "#pass", value = "{{password}}" },
  { click = "#go" },
  { branch = [ { if = "#send", next = "2fa" }, { if = "#account", next = "done" }, { if = ".error", fail = "bad_credentials" } ] },
  { label = "2fa" },
  { click = "#send", sends_code = true }, # codes count from just before this click
  { code = "#code", resend = "#resend" }, # waits for the phone, types it; { totp = "#code" } for an authenticator app
  { click = "#ok" },
  { label = "done" },
  { wait_for = "#account" },              # also: wait_for_url, select, press, expect_text
  { save = "csrf", selector = "meta[name=csrf]", attribute = "content" },
]
[code]
length = 6
senders = ["15881234"]                    # empty: any
anchors = ["인증번호"]                     # words near the code; pattern = '…' overrides
timeout = "2m"
[check]                                   # is the session alive?
every = "60s"
request = { method = "GET", path = "/api/orders?limit=1", headers = { x-csrf = "{{csrf}}" } }
alive = { status = [200], json = { "/ok" = true } }
expired = [ { status = [401] }, { redirect = "/login" }, { json = { "/error" = "login_required" } }, { body = "로그인이 필요" } ]
[relay]
via = "http"                              # http: cookie jar; browser: fetch() in the page
headers = { x-csrf = "{{csrf}}" }
refresh = { status = [403], page = "/home", save = "csrf" }
[limits]
logins_per_hour = 5
attempts = 3
backoff = "5s"
"##;

const CHECK: &str = "request = { path = \"/me\" }\nalive = { status = [200] }\nexpired = [{ status = [401] }]\n";

/// A recipe with these steps, one a line from line 3 on, and `rest` behind them.
fn with_steps(steps: &[&str], rest: &str) -> String {
    format!("base_url = \"https://acme.example\"\nlogin.steps = [\n{},\n]\n{rest}[check]\n{CHECK}", steps.join(",\n"))
}

fn parse(text: &str) -> Result<Recipe, RecipeError> {
    Recipe::parse(text, Path::new("acme.toml"))
}

fn problems(text: &str) -> String {
    parse(text).unwrap_err().to_string()
}

fn warnings(text: &str) -> Vec<String> {
    parse(text).unwrap().warnings.iter().map(ToString::to_string).collect()
}

#[test]
fn the_contracts_example_is_read_whole() {
    let recipe = parse(CONTRACT).unwrap();
    assert_eq!(recipe.warnings, []);
    assert_eq!(recipe.login.steps.len(), 12);
    assert!(recipe.needs_phone());
    let Action::Branch(arms) = &recipe.login.steps[4].action else { panic!("no branch") };
    let then: Vec<Then> = arms.iter().map(|arm| arm.then).collect();
    assert_eq!(then, [Then::Next(5), Then::Next(9), Then::Fail(Cause::BadCredentials)]);
    assert_eq!(recipe.login.steps[6].to_string(), "click \"#send\" (line 15)");
    assert_eq!(recipe.login.steps[2].to_string(), "fill \"#pass\" (line 11)");
    let code = recipe.code.as_ref().unwrap();
    assert_eq!((code.length, code.timeout), (6, Duration::from_secs(120)));
    assert_eq!(code.anchors, ["인증번호"]);
    assert_eq!(recipe.check.request.url.as_str(), "https://acme.example/api/orders?limit=1");
    let (header, value) = &recipe.check.request.headers[0];
    assert_eq!(header.as_str(), "x-csrf");
    assert_eq!(value.render(|_| Some(Cow::Borrowed("t"))).unwrap().expose(), "t");
    assert_eq!(recipe.relay.refresh.as_ref().unwrap().page.path(), "/home");
    assert_eq!(recipe.saves("csrf").count(), 1);
    assert_eq!(recipe, parse(CONTRACT).unwrap());
    assert_ne!(recipe.fingerprint, parse(&CONTRACT.replace("60s", "61s")).unwrap().fingerprint);
}

#[test]
fn every_kind_of_step_is_read() {
    let recipe = parse(&with_steps(
        &[
            "{ goto = \"https://acme.example/in\", timeout = \"20s\" }",
            "{ select = \"#carrier\", value = \"SKT\" }",
            "{ press = \"Enter\", selector = \"#pass\", label = \"누름\" }",
            "{ expect_text = \"h1\", text = \"환영합니다\" }",
            "{ wait_for_url = \"/홈\" }",
            "{ branch = [{ if = \"#a\", next = \"누름\" }, { if = \"#b\", next = \"end\" }] }",
            "{ label = \"end\" }",
        ],
        "",
    ))
    .unwrap();
    let steps = &recipe.login.steps;
    assert_eq!(steps[0].timeout, Some(Duration::from_secs(20)));
    assert_eq!(steps[2].action, Action::Press { key: Key::Enter, selector: Some("#pass".into()) });
    assert_eq!(steps[2].label.as_deref(), Some("누름"));
    let Action::WaitForUrl(target) = &steps[4].action else { panic!("no wait_for_url") };
    assert!(target.matches(&Url::parse("https://acme.example/홈/1?x").unwrap()));
    assert!(!target.matches(&Url::parse("https://acme.example/").unwrap()));
    assert!(!recipe.needs_phone());
}

#[test]
fn all_problems_of_a_file_are_told_together() {
    let text = "base_url = 3\n[login]\nsteps = [{ clik = \"#a\" }, { save = \"csrf\", selector = \"\" }]\n[code]\n\
                length = 99\n[check]\nevery = \"1s\"\n[relay]\nheaders = { x-csrf = \"{{csrf}}\" }\n";
    assert_eq!(
        problems(text),
        "acme.toml:1: base_url: expected text, got an integer\n\
         acme.toml:3: login.steps[0].clik: unknown key, did you mean \"click\"?\n\
         acme.toml:3: login.steps[1].selector: a selector must not be empty\n\
         acme.toml:5: code.length: expected between 4 and 10, got 99\n\
         acme.toml:6: check.alive: missing\n\
         acme.toml:6: check.expired: missing\n\
         acme.toml:6: check.request: missing\n\
         acme.toml:7: check.every: expected between 5s and 1d, got \"1s\""
    );
    assert_eq!(
        problems(""),
        "acme.toml: the section [check] is missing: how to tell that the session is alive\n\
         acme.toml: the section [login] is missing: how to log in\n\
         acme.toml: base_url: missing"
    );
}

#[test]
fn what_works_but_is_odd_is_a_warning() {
    let steps = [
        "{ click = \"#x\", sends_code = true, label = \"send\" }",
        "{ branch = [{ if = \"#a\", next = \"done\" }, { if = \"#b\", next = \"send\" }] }",
        "{ click = \"#lost\" }",
        "{ label = \"done\" }",
        "{ label = \"never\" }",
    ];
    let text = with_steps(&steps, "[code]\n").replace("https", "http");
    assert_eq!(
        warnings(&text),
        [
            "acme.toml: [code] is not used: no step waits for a code",
            "acme.toml:1: base_url: http:// sends the password in the clear",
            "acme.toml:3: login.steps[0]: sends a code, and a branch leads back to it: every round costs an SMS",
            "acme.toml:5: login.steps[2]: is never reached",
            "acme.toml:7: login.steps[4]: no branch leads to the label \"never\"",
        ]
    );
    assert_eq!(
        warnings(&CONTRACT.replace("\"3m\"", "\"2m\"")),
        ["acme.toml: login.timeout ends before code.timeout: the login gives up before the code is late"]
    );
    assert_eq!(warnings(&CONTRACT.replace("https://acme.example", "http://127.0.0.1:9")), [""; 0]);
}

#[test]
fn answers_are_told_apart() {
    let check = parse(CONTRACT).unwrap().check;
    let login = Url::parse("https://sso.example/login.do?next=/").unwrap();
    let home = Url::parse("https://acme.example/home/login").unwrap();
    let alive = json!({"ok": true, "orders": ["가"]}).to_string();
    let refused = json!({"ok": false, "error": "login_required"}).to_string();
    let page = "<p>로그인이 필요합니다</p>";
    for (status, location, body, expected) in [
        (200, None, Some(alive.as_str()), (true, false)),
        (200, None, Some("\u{feff}{\"ok\":true}"), (true, false)),
        (200, None, Some("{\"ok\":\"true\"}"), (false, false)),
        (200, None, None, (false, false)),
        (500, None, Some(alive.as_str()), (false, false)),
        (401, None, None, (false, true)),
        (302, Some(&login), None, (false, true)),
        (302, Some(&home), None, (false, false)),
        (201, Some(&login), None, (false, false)),
        (200, None, Some(refused.as_str()), (false, true)),
        (200, None, Some(page), (false, true)),
        (200, None, Some("<p>로그인</p>"), (false, false)),
    ] {
        let answer = Answer { status, location, body: body.map(str::as_bytes) };
        assert_eq!((check.alive.matches(&answer), check.is_expired(&answer)), expected, "{answer:?}");
    }
    assert!(check.alive.needs_body() && check.expiry_needs_body());
    assert!(!check.expired[0].needs_body() && !check.expired[1].needs_body());
}

#[test]
fn a_redirect_may_name_another_site() {
    let text = CONTRACT.replace("redirect = \"/login\"", "redirect = \"https://sso.example/auth\"");
    let check = parse(&text).unwrap().check;
    for (location, expected) in
        [("https://sso.example/auth/in?x", true), ("https://acme.example/auth", false), ("https://sso.example/", false)]
    {
        let location = Url::parse(location).unwrap();
        let answer = Answer { status: 302, location: Some(&location), body: None };
        assert_eq!(check.is_expired(&answer), expected, "{location}");
    }
}

const RECIPES: config::Inspectors<'_> = config::Inspectors {
    recipe: &inspect,
    flow: &|_| config::FlowCheck { secrets: None, problems: Vec::new(), warnings: Vec::new() },
};

#[test]
fn what_is_shipped_is_good() {
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("data");
    let mut seen = 0;
    for entry in std::fs::read_dir(data.join("portals")).unwrap() {
        let recipe = Recipe::load(&entry.unwrap().path()).unwrap();
        assert!(recipe.warnings.iter().all(|warning| warning.key == "base_url"), "{:?}", recipe.warnings);
        seen += 1;
    }
    assert!(seen >= 3);
    let sources = Sources { file: Some(data.join("nightporter.example.toml")), ..Sources::default() };
    let report = config::check(&sources, &RECIPES);
    assert_eq!(report.errors, []);
    assert_eq!(report.config.unwrap().portals.len(), 2);
}

#[test]
fn a_check_of_the_configuration_tells_what_is_wrong_in_a_recipe() {
    let dir = tempfile::tempdir().unwrap();
    let config = "[portals.acme]\nrecipe = \"acme.toml\"\nusername = \"u\"\npassword = \"p\"\n";
    std::fs::write(dir.path().join("nightporter.toml"), config).unwrap();
    let check = |recipe: &str| {
        std::fs::write(dir.path().join("acme.toml"), recipe).unwrap();
        let sources = Sources { file: Some(dir.path().join("nightporter.toml")), ..Sources::default() };
        let errors = config::check(&sources, &RECIPES).errors;
        errors.into_iter().map(|error| (error.place, error.reason)).collect::<Vec<_>>()
    };
    let recipe = dir.path().join("acme.toml");
    assert_eq!(
        check(&CONTRACT.replace("length = 6", "length = 3")),
        [(Place::File { file: recipe.clone(), line: 23 }, "expected between 4 and 10, got 3".to_owned())]
    );
    let reason = format!("{} waits for an SMS, but no phone is set", recipe.display());
    assert_eq!(check(CONTRACT), [(Place::File { file: dir.path().join("nightporter.toml"), line: 1 }, reason)]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn no_text_panics(text in "([a-z_]{1,9} = (\"[^\"\n]{0,9}\"|[0-9]{1,9})\n|\\[[a-z]{1,6}\\]\n|.{0,20}\n){0,8}") {
        let error = parse(&text).unwrap_err();
        prop_assert!(!error.problems.is_empty());
    }

    #[test]
    fn no_damage_to_a_good_recipe_panics(from in 0..CONTRACT.len(), length in 0..40_usize, with in ".{0,6}") {
        let (start, end) = (CONTRACT.floor_char_boundary(from), CONTRACT.floor_char_boundary((from + length).min(CONTRACT.len())));
        let mut text = CONTRACT.to_owned();
        text.replace_range(start..end.max(start), &with);
        if let Err(error) = parse(&text) {
            prop_assert!(!error.problems.is_empty(), "{text}");
        }
    }
}

#[test]
fn a_typed_code_has_the_length_of_the_portal_s() {
    let code = |pattern: Option<&str>| Code {
        length: 6,
        senders: Vec::new(),
        anchors: Vec::new(),
        pattern: pattern.map(|pattern| Regex::new(pattern).unwrap()),
        timeout: Duration::from_secs(120),
    };
    let admits = |code: &Code, typed: &str| code.admit(&crate::secret::Secret::new(typed)).is_ok();
    assert!(admits(&code(None), "572913") && admits(&code(None), " 572913\n"));
    for wrong in ["12", "abcdef", "5729134", "57291３"] {
        assert!(!admits(&code(None), wrong), "{wrong}");
    }
    assert!(admits(&code(Some("[A-Z]{4}")), "ABCD"));
}
