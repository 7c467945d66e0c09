//! `nightporter portal …` against the running appliance: the operator's wishes without a token, and what is said when one
//! cannot be.

use std::os::unix::fs::PermissionsExt;
use std::process::{Output, Stdio};

use nightporter::demo::phone::Mode;
use nightporter::demo::portal::Pace;
use serde_json::Value;
use tokio::io::AsyncWriteExt;

use crate::stage::{PATIENCE, Scene, Stage, id_of};

/// Runs `nightporter portal …` with `input` on its standard input.
async fn portal(stage: &Stage, arguments: &[&str], input: &str) -> Output {
    let mut command = stage.program();
    command.arg("portal").args(arguments).args(["--config", "nightporter.toml"]);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    // A command that needs no input may have ended before it is given some.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes()).await;
    child.wait_with_output().await.unwrap()
}

async fn ok(stage: &Stage, arguments: &[&str]) -> String {
    let output = portal(stage, arguments, "").await;
    assert!(output.status.success(), "{arguments:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// The exit code and what was complained about.
async fn fails(stage: &Stage, arguments: &[&str], input: &str) -> (i32, String) {
    let output = portal(stage, arguments, input).await;
    assert_eq!(output.stdout, b"", "{arguments:?}");
    (output.status.code().unwrap(), String::from_utf8(output.stderr).unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_operator_wishes_for_on_the_command_line() {
    let mut stage = Stage::set(Scene::default()).await;
    let (code, told) = fails(&stage, &["list"], "").await;
    assert!(code == 3 && told.contains("no server runs on the store"), "{code}: {told}");
    stage.start().await;
    let live = stage.live().await;

    let list = ok(&stage, &["list"]).await;
    let line = list.lines().nth(1).unwrap();
    assert!(line.starts_with("hanbit  live   authenticated  authenticated  office (proven)"), "{list}");
    let shown = ok(&stage, &["show", "hanbit"]).await;
    assert!(shown.contains(&format!("authenticated, {}", &id_of(&live, "active")[..8])), "{shown}");
    let json: Value = serde_json::from_str(&ok(&stage, &["show", "hanbit", "--json"]).await).unwrap();
    assert_eq!((&json["portal"], &json["epoch"]), (&live["portal"], &live["epoch"]));

    assert!(ok(&stage, &["failover", "hanbit"]).await.contains("session that stood by; its state is live"));
    assert_eq!(id_of(&stage.state().await, "active"), id_of(&live, "standby"));
    assert!(ok(&stage, &["pause", "hanbit"]).await.contains("its state is paused"));
    assert!(ok(&stage, &["resume", "hanbit"]).await.contains("its state is live"));
    let picture = stage.path("look.png");
    ok(&stage, &["screenshot", "hanbit", "--slot", "standby", "--output", picture.to_str().unwrap()]).await;
    assert!(std::fs::read(&picture).unwrap().starts_with(b"\x89PNG\r\n\x1a\n"));
    assert_eq!(std::fs::metadata(&picture).unwrap().permissions().mode() & 0o777, 0o600);
    let events = ok(&stage, &["events", "hanbit"]).await;
    assert!(events.lines().next().unwrap().contains("resumed") && events.contains("failover"), "{events}");

    let (code, told) = fails(&stage, &["show", ""], "").await;
    assert!(code == 2 && told.contains("a value is required for '<NAME>'"), "{code} {told}");
    let unknown = fails(&stage, &["show", "hanbi"], "").await;
    assert_eq!(unknown, (1, "error: no portal is called hanbi; known: hanbit\n".to_owned()));
    let (code, told) = fails(&stage, &["code", "hanbit"], "123456\n").await;
    assert!(code == 1 && told.contains("no login of this portal waits for a code"), "{told}");
    let (code, told) = fails(&stage, &["code", "hanbit"], "\n").await;
    assert!(code == 1 && told.contains("no code was given"), "{told}");
    stage.strike().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_code_comes_from_standard_input_and_not_from_the_arguments() {
    let mut stage = Stage::set(Scene { sessions: "single", ..Scene::default() }).await;
    stage.phone.set_mode(Mode::Silent);
    stage.portal.faults(|faults| faults.code_page = Pace::Prompt);
    stage.start().await;
    stage.when("the wait", |state| state["active"]["status"] == "awaiting_code").await;
    let screen = stage.phone.received(1, PATIENCE).await.unwrap();
    let code: String = screen[0].text.chars().filter(char::is_ascii_digit).collect();
    let (status, told) = fails(&stage, &["code", "hanbit", &code], "").await;
    assert!(status == 2 && told.contains("unexpected argument"), "{told}");
    let typed = portal(&stage, &["code", "hanbit"], &format!("{code}\n")).await;
    assert_eq!(String::from_utf8_lossy(&typed.stdout), "the login of hanbit has the code\n", "{typed:?}");
    stage.live().await;
    assert_eq!(stage.told_of("code_typed").await, ["by an operator"]);
    stage.strike().await;
}
