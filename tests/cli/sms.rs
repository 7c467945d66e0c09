//! `nightporter sms explain`: its words, its JSON and its exit codes.

use std::io::Write;
use std::process::Stdio;

use serde_json::{Value, json};

use super::house::{Done, House};

const RECIPE: &str = r##"
base_url = "https://login.acme.example"
[login]
steps = [ { goto = "/login" }, { click = "#go", sends_code = true }, { code = "#code" }, { wait_for = "#account" } ]
[code]
length = 6
senders = ["15881234"]
[check]
every = "60s"
request = { method = "GET", path = "/api/orders" }
alive = { status = [200] }
expired = [ { status = [401] } ]
"##;

fn house() -> House {
    let house = House::new();
    house.write("acme.toml", RECIPE);
    house
}

fn explain(house: &House, arguments: &[&str]) -> Done {
    house.run(&[&["sms", "explain", "--recipe", "acme.toml"], arguments].concat())
}

const MESSAGE: &str = "[Web발신]\r\n[한빛택배] 인증번호 [５７２９１３] 를 입력해 주세요.\n주문 998877, 12,345원, 3분 이내, \
    20251120 14:35, 카드(5678), 승인 AB998877, 문의 1588-1234 https://acme.example/998877";

#[test]
fn people_see_every_number_and_what_became_of_it() {
    let house = house();
    let done = explain(&house, &["--from", "+82 1588-1234", "--text", MESSAGE]);
    let told = "\
code        572913
decided by  the words near the numbers
sender      +82 1588-1234: allowed by the recipe (15881234)

in the text:
572913                       the code: \"인증번호\" says so
998877                       something else: \"주문\" stands before it
12,345원                     an amount
3                            too short: 1, not 6
20251120                     a date
14:35                        a time
카드(5678                    a card or an account
998877                       part of something longer
1588-1234                    a phone number
https://acme.example/998877  a link
";
    assert_eq!((done.code, done.out.as_str(), done.err.as_str()), (0, told, ""));
    let tie = explain(&house, &["--text", "인증번호 111222 또는 333444"]);
    let told = "\
code        none: several could be it, and a wrong one costs an attempt
decided by  the words near the numbers
sender      not given, not checked; the recipe allows 15881234

in the text:
111222  as likely as another one, by \"인증번호\"
333444  as likely as another one, by \"인증번호\"
";
    assert_eq!((tie.code, tie.out.as_str()), (4, told));
    let empty = explain(&house, &["--text", "", "--from", "KB"]);
    let told = "\
code        none: the message is not read, its sender is not allowed
decided by  the words near the numbers
sender      KB: not allowed, the recipe wants 15881234
";
    assert_eq!((empty.code, empty.out.as_str()), (4, told));
}

#[test]
fn programs_get_stable_words() {
    let house = house();
    let done = explain(&house, &["--json", "--from", "15881234", "--text", "인증번호: 572913\u{200b} 문의 1588-1234"]);
    let answer: Value = serde_json::from_str(&done.out).unwrap();
    let expected = json!({
        "code": "572913", "reason": null, "decided_by": "words", "length": 6,
        "sender": {"from": "15881234", "allowed": true, "expected": ["15881234"]},
        "text": "인증번호: 572913 문의 1588-1234",
        "candidates": [
            {"text": "572913", "verdict": "code", "word": "인증번호"},
            {"text": "1588-1234", "verdict": "phone"},
        ],
    });
    assert_eq!((done.code, answer), (0, expected));
    let cases = [
        (&["--text", "572913", "--from", "1"] as &[&str], "sender_not_allowed", "alone"),
        (&["--text", "인증번호 572913 또는 111222"], "ambiguous", "words"),
        (&["--text", "코드 572913\n@evil.example #572913"], "no_code", "domain_bound"),
        (&["--text", &"1".repeat(5000)], "no_code", "text_too_long"),
    ];
    for (arguments, reason, rule) in cases {
        let done = explain(&house, &[&["--json"], arguments].concat());
        let answer: Value = serde_json::from_str(&done.out).unwrap();
        assert_eq!((done.code, &answer["code"]), (4, &Value::Null), "{arguments:?}");
        assert_eq!((answer["reason"].as_str(), answer["decided_by"].as_str()), (Some(reason), Some(rule)));
    }
}

#[test]
fn the_message_also_comes_by_standard_input() {
    let house = house();
    let mut command = house.command(&["sms", "explain", "--recipe", "acme.toml", "--text", "-"]);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all("인증번호\n572913\n".as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success() && output.stdout.starts_with(b"code        572913\n"), "{output:?}");
}

#[test]
fn a_recipe_that_reads_no_message_is_told() {
    let house = house();
    house.write(
        "codeless.toml",
        &RECIPE.replace("{ code = \"#code\" }, ", "").replace("[code]\nlength = 6\nsenders = [\"15881234\"]\n", ""),
    );
    house.write("bad.toml", &RECIPE.replace("length = 6", "length = 66"));
    for (recipe, told) in [
        ("codeless.toml", "codeless.toml: there is no [code] section"),
        ("bad.toml", "code.length"),
        ("no.toml", "no.toml"),
    ] {
        let done = house.run(&["sms", "explain", "--recipe", recipe, "--text", "572913"]);
        assert!(done.code == 78 && done.err.contains(told) && !done.err.contains("572913"), "{done:?}");
    }
}
