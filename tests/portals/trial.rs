//! `nightporter portal try`: a recipe tried on the demo's portal with the real binary, watched on its standard output.

use std::os::unix::fs::PermissionsExt;
use std::process::{Output, Stdio};

use nightporter::clock;
use nightporter::demo::phone::Mode;
use nightporter::secret::Secret;
use rustix::process::{Pid, Signal, kill_process};
use tokio::io::AsyncWriteExt;
use tokio::process::{Child, Command};

use crate::stage::{PATIENCE, Scene, Stage};

fn attempt(stage: &Stage, arguments: &[&str]) -> Command {
    let mut command = stage.program();
    command.args(["portal", "try", "hanbit.toml", "--config", "nightporter.toml"]).args(arguments);
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

async fn end(child: Child) -> (i32, String) {
    let Output { status, stdout, stderr } = clock::within(PATIENCE, child.wait_with_output()).await.unwrap().unwrap();
    let told = format!("{}{}", String::from_utf8(stdout).unwrap(), String::from_utf8(stderr).unwrap());
    (status.code().unwrap(), told)
}

async fn run(stage: &Stage, arguments: &[&str]) -> (i32, String) {
    end(attempt(stage, arguments).spawn().unwrap()).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_running_server_counts_it_and_hands_its_phones_code_over() {
    let recipe = [("logins_per_hour = 20", "logins_per_hour = 3")];
    let mut stage = Stage::set(Scene { sessions: "single", recipe: &recipe, ..Scene::default() }).await;
    stage.start().await;
    let before = stage.live().await;
    let (code, told) = run(&stage, &[]).await;
    for part in [
        "This is a real login",
        "may end the one that serves",
        "in the budget of hanbit: 1 more in this hour",
        "The phone office hands its code over",
        "goto /login",
        "✓",
        "the code came by the phone office",
        "Saved: csrf.",
        "of this session: alive, as it should",
        "logged out: expired (answered 401), as it should",
        "Logged in.",
    ] {
        assert!(told.contains(part), "{part} is not in\n{told}");
    }
    assert!(told.lines().all(|line| line.chars().count() <= 80), "{told}");
    assert!(code == 0 && !told.contains('✗') && !told.contains('\x1b'), "{code}\n{told}");
    assert_eq!(stage.state().await["active"]["session_id"], before["active"]["session_id"], "nothing is kept");
    assert_eq!(stage.told_of("login_started").await.last().unwrap(), "an operator tries a recipe on the command line");
    assert_eq!(run(&stage, &[]).await.0, 0);
    let (code, told) = run(&stage, &[]).await;
    assert!(code == 1 && told.contains("error: 3 logins within an hour are spent"), "{told}");
    let password = stage.path("password");
    let account = ["--username", "partner01", "--password-file", password.to_str().unwrap()];
    let (code, told) = run(&stage, &account).await;
    assert!(code == 1 && told.contains("error: 3 logins within an hour are spent"), "the account is the same: {told}");
    assert_eq!(stage.counters().codes_accepted, 3);
    stage.strike().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_server_the_code_is_typed() {
    let stage = Stage::set(Scene::default()).await;
    stage.phone.set_mode(Mode::Silent);
    let password = stage.path("password");
    let account = ["--username", "partner01", "--password-file", password.to_str().unwrap()];
    let mut child = attempt(&stage, &account).stdin(Stdio::piped()).spawn().unwrap();
    let screen = stage.phone.received(1, PATIENCE).await.unwrap();
    let code: String = screen[0].text.chars().filter(char::is_ascii_digit).collect();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(format!("not a code!\n{code}\n").as_bytes()).await.unwrap();
    let (status, told) = end(child).await;
    assert!(status == 0 && told.contains("the login is in no budget.\nIts code is typed here."), "{told}");
    for part in ["waits for the code; type it here", "codes have 6 digits; type it again", "Logged in."] {
        assert!(told.contains(part), "{part} is not in\n{told}");
    }
    assert!(told.contains("No server runs"), "{told}");
    assert!(!told.contains(&code) && !told.contains(stage.password.expose()), "{told}");
    assert!(!stage.path("store").exists(), "a trial makes no store");
    assert_eq!(stage.counters().codes_accepted, 1);
    stage.strike().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_interrupted_one_leaves_nothing_behind() {
    let stage = Stage::set(Scene::default()).await;
    stage.phone.set_mode(Mode::Silent);
    std::fs::create_dir(stage.path("scratch")).unwrap();
    let mut command = attempt(&stage, &[]);
    let child = command.env("TMPDIR", stage.path("scratch")).stdin(Stdio::piped()).spawn().unwrap();
    stage.phone.received(1, PATIENCE).await.unwrap();
    assert!(!stage.browsers().is_empty());
    assert_eq!(std::fs::read_dir(stage.path("scratch")).unwrap().count(), 1);
    kill_process(Pid::from_raw(child.id().unwrap().cast_signed()).unwrap(), Signal::INT).unwrap();
    let (code, told) = end(child).await;
    assert!(code == 1 && told.contains("error: interrupted; nothing is kept"), "{told}");
    assert!(stage.browsers().is_empty() && !told.contains("Logged in"), "{told}");
    assert_eq!(std::fs::read_dir(stage.path("scratch")).unwrap().count(), 0);
    stage.strike().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_step_leaves_its_picture() {
    let quick = (
        "{ if = \"#user\", next = \"form\" },\n  ] },",
        "{ if = \"#user\", next = \"form\" },\n  ], timeout = \"3s\" },",
    );
    let stage = Stage::set(Scene { recipe: &[quick], ..Scene::default() }).await;
    stage.portal.set_password("partner01", Secret::new("Hb!another"));
    let (code, told) = run(&stage, &[]).await;
    assert!(code == 1 && told.contains("✗") && told.contains("Not logged in: bad_credentials\nstep "), "{told}");
    stage.portal.faults(|faults| faults.page_changed = true);
    std::fs::create_dir(stage.path("pictures")).unwrap();
    let (code, told) = run(&stage, &["--portal", "hanbit", "--pictures", "pictures"]).await;
    assert!(code == 1 && told.contains("Not logged in: page_changed\nstep 2 (line "), "{told}");
    assert!(told.contains("The page as it was: pictures/hanbit-step-2.png"), "{told}");
    let picture = stage.path("pictures/hanbit-step-2.png");
    assert!(std::fs::read(&picture).unwrap().starts_with(b"\x89PNG\r\n\x1a\n"));
    assert_eq!(std::fs::metadata(&picture).unwrap().permissions().mode() & 0o777, 0o600);
    stage.strike().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_tried_is_told_before_the_portal_sees_anything() {
    let stage = Stage::set(Scene::default()).await;
    let (code, told) = run(&stage, &["--portal", "hanbi"]).await;
    assert!(code == 1 && told.contains("did you mean \"hanbit\"?"), "{told}");
    let (code, told) = run(&stage, &["--pictures", "nowhere"]).await;
    assert!(code == 1 && told.contains("--pictures nowhere: No such file or directory"), "{told}");
    let (code, told) = run(&stage, &["--username", "partner01"]).await;
    assert!(code == 2 && told.contains("--password-file"), "{told}");
    let recipe = std::fs::read_to_string(stage.path("hanbit.toml")).unwrap();
    stage.write("hanbit.toml", &recipe.replace("{ goto = \"/login\" }", "{ gotto = \"/login\" }"));
    let (code, told) = run(&stage, &["--portal", "hanbit"]).await;
    assert!(code == 78 && told.contains("error: hanbit.toml:"), "{told}");
    assert_eq!(stage.counters().logins_attempted, 0);
    stage.strike().await;
}
