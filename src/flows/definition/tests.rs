//! What is shipped is good, and everything that can be wrong in a definition is told with line, key and reason.

use std::path::Path;

use super::*;

const GOOD: &str = r#"ttl = "1h"
initial = "new"
final = ["done", "failed"]
progress = ["asked", "told"]
[[transition]]
name = "ask"
from = ["new"]
to = "asked"
set = ["asked"]
call = { url = "https://a.example/{{data.id}}", headers = { Key = "{{secret.key}}" }, json = { n = "{{data.n}}" }, expect = { status = [200] }, save = { "a.b" = "/x" } }
message = { type = "info", text = "물었습니다" }
[[transition]]
name = "tell"
from = ["asked"]
to = "telling"
copy = { c = "a.b" }
background = { calls = [ { method = "GET", url = "https://a.example" } ], done = "done", set = ["told"], failed = "failed" }
"#;

/// The problems with a changed definition, as told.
fn told(change: (&str, &str)) -> Vec<String> {
    assert!(GOOD.contains(change.0), "{}", change.0);
    let (_, problems, ..) = parse(&GOOD.replacen(change.0, change.1, 1), Path::new("flow.toml"));
    problems.iter().map(ToString::to_string).collect()
}

#[test]
fn what_is_shipped_and_the_sample_are_good() {
    let flows = Path::new(env!("CARGO_MANIFEST_DIR")).join("data/flows");
    for (name, secrets) in [("identity.toml", ["provider_key"]), ("email-change.toml", ["app_token"])] {
        let checked = inspect(&flows.join(name));
        assert_eq!((checked.problems, checked.warnings), (Vec::new(), Vec::new()));
        let named: std::collections::BTreeSet<_> = checked.secrets.unwrap().into_iter().map(|used| used.name).collect();
        assert_eq!(named.into_iter().collect::<Vec<_>>(), secrets);
    }
    let (definition, problems, ..) = parse(GOOD, Path::new("flow.toml"));
    assert_eq!(problems, []);
    let definition = definition.unwrap();
    assert_eq!(definition.finals, ["done", "failed"]);
    assert!(definition.is_final("done") && !definition.is_final("telling") && !definition.knows("elsewhere"));
}

#[test]
fn states_and_flags_that_do_not_agree_are_told() {
    for (change, problem) in [
        (
            ("from = [\"asked\"]", "from = [\"askd\"]"),
            "flow.toml:14: transition[1].from[0]: unknown state \"askd\", did you mean \"asked\"?: nothing leads there",
        ),
        (
            ("to = \"asked\"", "to = \"aksed\""),
            "flow.toml:8: transition[0].to: unknown state \"aksed\", did you mean \"asked\"?: nothing leads out of it, and it \
             is not among final",
        ),
        (
            ("done = \"done\"", "done = \"dome\""),
            "flow.toml:17: transition[1].background.done: unknown state \"dome\", did you mean \"done\"?: nothing leads out of \
             it, and it is not among final",
        ),
        (
            ("initial = \"new\"", "initial = \"now\""),
            "flow.toml:7: transition[0].from[0]: unknown state \"new\", did you mean \"now\"?: nothing leads there",
        ),
        (
            ("\"failed\"]", "\"failed\", \"asked\"]"),
            "flow.toml:3: final[2]: \"asked\" is final, but a transition leads out of it",
        ),
        (("\"failed\"]", "\"failed\", \"lost\"]"), "flow.toml:3: final[2]: unknown state \"lost\""),
        (
            ("\"told\"]\n[[", "\"told\", \"sung\"]\n[["),
            "flow.toml:4: progress[2]: no transition sets the flag \"sung\"",
        ),
        (
            ("set = [\"asked\"]", "set = [\"asked\", \"tol\"]"),
            "flow.toml:9: transition[0].set[1]: unknown flag \"tol\", did you mean \"told\"?",
        ),
        (("\"told\"]\n[[", "\"told\", \"told\"]\n[["), "flow.toml:4: progress[2]: \"told\" is there already"),
        (
            (
                "[[transition]]\nname = \"tell\"",
                "[[transition]]\nname = \"x\"\nfrom = [\"z\"]\nto = \"z\"\n[[transition]]\nname = \"tell\"",
            ),
            "flow.toml:14: transition[1].from[0]: the state \"z\" cannot be reached from \"new\"",
        ),
    ] {
        let problems = told(change);
        assert!(problems.iter().any(|told| told.starts_with(problem)), "{change:?}: {problems:#?}");
    }
    let round = "initial = \"a\"\n[[transition]]\nname = \"x\"\nfrom = [\"a\"]\nto = \"b\"\n\
        [[transition]]\nname = \"y\"\nfrom = [\"b\"]\nto = \"a\"\n";
    let (_, problems, ..) = parse(round, Path::new("flow.toml"));
    assert_eq!(problems[0].to_string(), "flow.toml: there is no final state: a transition leads out of every state");
    let trap = format!("{round}[[transition]]\nname = \"z\"\nfrom = [\"a\"]\nto = \"c\"\n")
        .replace("from = [\"b\"]\nto = \"a\"", "from = [\"b\"]\nto = \"b\"");
    let (_, problems, ..) = parse(&trap, Path::new("flow.toml"));
    assert_eq!(problems[0].to_string(), "flow.toml:5: transition[0].to: no way leads from \"b\" to a final state");
}

#[test]
fn what_a_call_cannot_be_is_told() {
    for (change, problem) in [
        (("{{data.id}}", "{{date.id}}"), "flow.toml:10: transition[0].call.url: \"{{date.id}}\" is not a name"),
        (("{{data.id}}", "{{data.id"), "flow.toml:10: transition[0].call.url: \"{{\" without \"}}\""),
        (
            ("https://a.example/{{data.id}}", "https://{{data.host}}/"),
            "flow.toml:10: transition[0].call.url: expected an address such as",
        ),
        (
            ("https://a.example/{{data.id}}", "file:///etc/passwd"),
            "flow.toml:10: transition[0].call.url: expected an address",
        ),
        (("Key = ", "Host = "), "flow.toml:10: transition[0].call.headers.Host: host is set by itself"),
        (
            ("\"{{secret.key}}\"", "\"열쇠\""),
            "flow.toml:10: transition[0].call.headers.Key: a header's value is one line of",
        ),
        (
            ("save = { \"a.b\"", "save = { \"a.b.c\" = \"/y\", \"a.b\""),
            "flow.toml:10: transition[0].call: save: a.b.c and a.b are one within the other",
        ),
        (("\"/x\"", "\"x\""), "flow.toml:10: transition[0].call.save.a.b: a JSON pointer starts with \"/\""),
        (("\"a.b\" =", "\"a..b\" ="), "flow.toml:10: transition[0].call.save.a..b: \"a..b\" is no place in the data"),
        (
            ("status = [200]", "status = [20]"),
            "flow.toml:10: transition[0].call.expect.status[0]: expected an HTTP status",
        ),
        (("status = [200]", "stats = [200]"), "flow.toml:10: transition[0].call.expect.stats: unknown key"),
        (
            ("method = \"GET\"", "method = \"GETT\""),
            "flow.toml:17: transition[1].background.calls[0].method: unknown value",
        ),
        (
            ("calls = [ { method = \"GET\", url = \"https://a.example\" } ]", "calls = []"),
            "flow.toml:17: transition[1].background.calls: 0 calls",
        ),
    ] {
        let problems = told(change);
        assert!(problems.iter().any(|told| told.starts_with(problem)), "{change:?}: {problems:#?}");
    }
}

#[test]
fn what_a_flow_or_a_transition_cannot_be_is_told() {
    for (change, problem) in [
        (("ttl = \"1h\"", "ttl = 1"), "flow.toml:1: ttl: expected text, got an integer"),
        (("ttl = \"1h\"", "tll = \"1h\""), "flow.toml:1: tll: unknown key, did you mean \"ttl\"?"),
        (("initial = \"new\"", ""), "flow.toml: initial: missing"),
        (("name = \"tell\"", "name = \"ask\""), "flow.toml:12: transition[1]: there is a transition \"ask\" already"),
        (
            ("name = \"tell\"", "name = \"retry\""),
            "flow.toml:13: transition[1].name: \"retry\" is a route of every flow",
        ),
        (("name = \"tell\"", "name = \"말하기\""), "flow.toml:13: transition[1].name: a name is 1 to 64"),
        (("from = [\"asked\"]", ""), "flow.toml:12: transition[1]: from is missing"),
        (("type = \"info\"", "type = \"loud\""), "flow.toml:11: transition[0].message.type: unknown value \"loud\""),
        (
            ("copy = { c = \"a.b\" }", "call = { url = \"https://a.example\" }"),
            "flow.toml:16: transition[1].call: call and background are both set",
        ),
        (
            ("failed = \"failed\" }", "failed = \"failed\", attempts = 0 }"),
            "flow.toml:17: transition[1].background.attempts: expected between 1 and 20",
        ),
    ] {
        let problems = told(change);
        assert!(problems.iter().any(|told| told.starts_with(problem)), "{change:?}: {problems:#?}");
    }
    let flags: Vec<String> = (0..33).map(|number| format!("\"f{number}\"")).collect();
    let problems = told(("progress = [\"asked\", \"told\"]", &format!("progress = [{}]", flags.join(", "))));
    assert_eq!(problems[0], "flow.toml: progress: 33 flags, a flow has at most 32");
    let (_, problems, ..) = parse("initial = \"a\"\n", Path::new("flow.toml"));
    assert_eq!(problems[0].to_string(), "flow.toml: no [[transition]] is declared");
}

#[test]
fn a_secret_that_is_not_given_is_told_where_it_is_used() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("flow.toml"), GOOD).unwrap();
    let check = |secrets: &str| {
        let file = dir.path().join("nightporter.toml");
        std::fs::write(&file, format!("[flows.a]\nfile = \"flow.toml\"\n{secrets}")).unwrap();
        let inspectors = config::Inspectors { flow: &inspect, ..config::Inspectors::none() };
        let sources = config::Sources { file: Some(file), ..config::Sources::default() };
        let report = config::check(&sources, &inspectors);
        let plain = |problem: &Problem| problem.to_string().replace(&format!("{}/", dir.path().display()), "");
        (report.errors.iter().map(plain).collect::<Vec<_>>(), report.to_string())
    };
    let (errors, _) = check("");
    assert_eq!(
        errors,
        [
            "flow.toml:10: transition[0].call.headers.Key: no secret \"key\" is given to this flow: set flows.a.secrets.key or \
          flows.a.secrets.key_file, or the credential \"flows.a.secrets.key\""
        ]
    );
    let (errors, shown) = check("secrets = { key = \"hunter2\" }\n");
    assert!(errors.is_empty() && !shown.contains("hunter2"), "{errors:?} {shown}");
    let (errors, _) = check("secrets = { key = \"a\", kex = \"b\" }\n");
    assert_eq!(errors, ["nightporter.toml:3: flows.a.secrets.kex: unknown key, did you mean \"key\"?"]);
}
