//! Every mistake in a recipe, with the words that tell of it.

use super::{CONTRACT, problems, with_steps};

/// The step that is wrong, and what is said behind its key.
struct At(usize, &'static str);

/// Steps, what follows them in the file, and what is said.
const STEPS: &[(&[&str], &str, At)] = &[
    (&["{ clik = \"#go\" }"], "", At(0, ".clik: unknown key, did you mean \"click\"?")),
    (&["{ fil = \"#go\", value = \"x\" }"], "", At(0, ".fil: unknown key, did you mean \"fill\"?")),
    (
        &["{ click = \"#go\", sends = true }"],
        "",
        At(0, ".sends: unknown key; known: label, timeout, click and sends_code"),
    ),
    (
        &["{ click = \"#go\", fill = \"#x\", value = \"y\" }"],
        "",
        At(0, ": two things in one step: fill and click; make it two steps"),
    ),
    (
        &["{ timeout = \"5s\" }"],
        "",
        At(
            0,
            ": says nothing to do: a step has one of goto, fill, click, branch, code, totp, wait_for, \
                 wait_for_url, select, press, expect_text, save or label",
        ),
    ),
    (&["\"click\""], "", At(0, ": expected a table, got text")),
    (&["{ fill = \"#x\" }"], "", At(0, ".value: missing")),
    (
        &["{ fill = \"#x\", value = \"{{pasword}}\" }"],
        "",
        At(0, ".value: unknown name {{pasword}}, did you mean \"password\"?"),
    ),
    (&["{ click = \"a[\" }"], "", At(0, ".click: \"a[\" is not a CSS selector: \"]\" is missing")),
    (
        &["{ click = \"#x\", timeout = \"5\" }"],
        "",
        At(0, ".timeout: a duration needs a unit: ms, s, m, h or d, as in \"30s\", got \"5\""),
    ),
    (&["{ goto = \"//evil.example/login\" }"], "", At(0, ".goto: leaves the portal's own site")),
    (
        &["{ goto = \"https://evil.example/login\" }"],
        "",
        At(0, ".goto: https://evil.example is not an allowed origin; see browser.allowed_origins"),
    ),
    (&["{ press = \"Entr\" }"], "", At(0, ".press: unknown value \"Entr\", did you mean \"Enter\"?")),
    (&["{ save = \"password\", selector = \"#x\" }"], "", At(0, ".save: {{password}} is the account's own")),
    (&["{ label = \"a\" }", "{ label = \"a\" }"], "", At(1, ".label: the label \"a\" is given twice")),
    (
        &["{ label = \"done\" }", "{ branch = [{ if = \"#a\", next = \"dnoe\" }] }"],
        "",
        At(1, ".branch[0].next: unknown label \"dnoe\", did you mean \"done\"?"),
    ),
    (
        &["{ branch = [{ if = \"#a\", fail = \"wrong_password\" }] }"],
        "",
        At(
            0,
            ".branch[0].fail: unknown cause \"wrong_password\"; known: bad_credentials, no_sms, code_rejected, \
                 page_changed, portal_down, captcha, budget_spent, browser_failed, phone_silent and one_session",
        ),
    ),
    (&["{ branch = [{ if = \"#a\" }] }"], "", At(0, ".branch[0]: an arm has either next or fail")),
    (&["{ branch = [] }"], "", At(0, ".branch: a branch has between 1 and 20 arms, got 0")),
    (
        &["{ click = \"#x\", sends_code = true }", "{ code = \"#code\" }"],
        "",
        At(1, ": waits for a code, but there is no [code] section that tells what it looks like"),
    ),
    (
        &[
            "{ branch = [{ if = \"#a\", next = \"type\" }, { if = \"#b\", next = \"send\" }] }",
            "{ click = \"#x\", sends_code = true, label = \"send\" }",
            "{ code = \"#code\", label = \"type\" }",
        ],
        "[code]\n",
        At(2, ": can be reached before a click with sends_code = true: codes count from that click"),
    ),
    (
        &[
            "{ fill = \"#p\", value = \"{{password}}\", label = \"again\" }",
            "{ branch = [{ if = \"#a\", next = \"again\" }, { if = \"#b\", next = \"done\" }] }",
            "{ label = \"done\" }",
        ],
        "",
        At(0, ": types the password, and a branch leads back to it: a wrong password is tried once"),
    ),
];

/// A piece of the contract's example, what stands in its place, and what is said.
const SECTIONS: &[(&str, &str, &str)] = &[
    (
        "https://acme.example\"",
        "ftp://acme.example\"",
        "2: base_url: expected a URL that starts with http:// or https://",
    ),
    (
        "https://acme.example\"",
        "https://u:hunter2@acme.example\"",
        "2: base_url: a URL must not carry a user or a password",
    ),
    (
        "https://acme.example\"",
        "https://acme.example/?a=1\"",
        "2: base_url: expected scheme and host only, such as https://acme.example",
    ),
    ("keep_tab = false", "keep_tab = \"no\"", "4: browser.keep_tab: expected true or false, got text"),
    (
        "keep_tab = false",
        "binary = \"/nowhere/brave\"",
        "4: browser.binary: cannot read /nowhere/brave: No such file or directory (os error 2)",
    ),
    ("keep_tab = false", "binary = \"/etc/passwd\"", "4: browser.binary: /etc/passwd is not executable"),
    ("timeout = \"3m\"", "timeout = \"3h\"", "7: login.timeout: expected between 1s and 30m, got \"3h\""),
    ("length = 6", "length = 3", "23: code.length: expected between 4 and 10, got 3"),
    ("length = 6", "pattern = '(\\d+'", "23: code.pattern: not a regular expression: error: unclosed group"),
    (
        "length = 6",
        "pattern = '(a)(\\d+)'",
        "23: code.pattern: at most one group can be the code, got 2; write (?:…) for the others",
    ),
    ("every = \"60s\"", "every = \"4s\"", "28: check.every: expected between 5s and 1d, got \"4s\""),
    ("\"GET\"", "\"DELETE\"", "29: check.request.method: expected GET, HEAD or POST, got \"DELETE\""),
    ("\"GET\"", "\"HEAD\"", "27: check: alive looks into the body, but the answer to HEAD has none"),
    ("/api/orders", "api/orders", "29: check.request.path: expected a path that starts with \"/\""),
    ("/api/orders", "/\\\\evil.example/", "29: check.request.path: leaves the portal's own site"),
    (
        "x-csrf = \"{{csrf}}\" } }",
        "\"x csrf\" = \"\" } }",
        "29: check.request.headers.x csrf: is not the name of an HTTP header",
    ),
    (
        "x-csrf = \"{{csrf}}\" } }",
        "Cookie = \"a\" } }",
        "29: check.request.headers.Cookie: is set by Nightporter itself",
    ),
    (
        "x-csrf = \"{{csrf}}\" } }",
        "x-csrf = \"토큰\" } }",
        "29: check.request.headers.x-csrf: a header value is printable ASCII, got \"토큰\"",
    ),
    (
        "x-csrf = \"{{csrf}}\" } }",
        "x-csrf = \"{{crsf}}\" } }",
        "29: check.request.headers.x-csrf: unknown name {{crsf}}, did you mean \"csrf\"?",
    ),
    ("[200]", "[99]", "30: check.alive.status[0]: expected an HTTP status between 100 and 599, got 99"),
    ("\"/ok\" = true", "\"ok\" = true", "30: check.alive.json.ok: a JSON pointer starts with \"/\": write \"/ok\""),
    ("{ status = [401] }", "{}", "31: check.expired[0]: needs at least one of status, redirect, json and body"),
    ("via = \"http\"", "via = \"htp\"", "33: relay.via: unknown value \"htp\", did you mean \"http\"?"),
    (
        "via = \"http\"                              # http: cookie jar; browser: fetch() in the page\nheaders = { x-csrf = \"{{csrf}}\" }",
        "via = \"browser\"\nheaders = { a = \"{{sessionStorage.a}}\" }",
        "32: relay: {{sessionStorage.a}} is gone with the tab: set keep_tab = true in [browser]",
    ),
    (
        "x-csrf = \"{{csrf}}\" } }",
        "x-csrf = \"{{localStorage.a}}\" } }",
        "27: check: {{localStorage.a}} is known to the page alone: set via = \"browser\" in [relay]",
    ),
    ("save = \"csrf\" }", "save = \"token\" }", "35: relay.refresh.save: unknown saved name \"token\"; known: csrf"),
    (
        "[limits]",
        "[[relay.cache]]\npath = \"/api?x\"\nttl = \"0s\"\nage = 1\n[limits]",
        "37: relay.cache[0].path: expected a plain path such as \"/api/orders\", without query, escapes or dots\n\
             acme.toml:38: relay.cache[0].ttl: expected between 1s and 1d, got \"0s\"\n\
             acme.toml:39: relay.cache[0].age: unknown key; known: path and ttl",
    ),
    (
        "[limits]",
        "[[relay.cache]]\npath = \"/a\"\nttl = \"1s\"\n[[relay.cache]]\npath = \"/a/\"\nttl = \"1m\"\n[limits]",
        "39: relay.cache[1]: the path /a is there twice",
    ),
    ("attempts = 3", "attempts = 0", "38: limits.attempts: expected between 1 and 10, got 0"),
    ("[limits]", "[limit]", "36: limit: unknown key, did you mean \"limits\"?"),
];

#[test]
fn every_bad_step_is_told_with_line_and_reason() {
    for (steps, rest, At(index, reason)) in STEPS {
        let expected = format!("acme.toml:{}: login.steps[{index}]{reason}", index + 3);
        assert_eq!(problems(&with_steps(steps, rest)), expected, "{steps:?}");
    }
}

#[test]
fn a_login_must_be_able_to_end() {
    let steps = ["{ branch = [{ if = \"#a\", fail = \"captcha\" }] }"];
    let expected = "acme.toml:3: login.steps: no way through the steps leads to their end";
    assert_eq!(problems(&with_steps(&steps, "")), expected);
}

#[test]
fn every_bad_section_is_told_with_line_and_reason() {
    for (from, to, expected) in SECTIONS {
        assert!(CONTRACT.contains(from), "{from}");
        assert_eq!(problems(&CONTRACT.replacen(from, to, 1)), format!("acme.toml:{expected}"), "{to}");
    }
}
