//! `nightporter user …` on the real binary, with a server and without, and a server that is killed while a user is deleted.

use std::time::Duration;

use nightporter::clock;
use nightporter::lifecycle::Lifecycle;
use serde_json::{Value, json};

use crate::crash::Appliance;
use crate::desk::{PASSWORD, PATIENCE, code};

impl Appliance {
    /// A user from the first step to the last; the id.
    async fn user(&mut self, email: &str) -> String {
        let register = json!({"email": email, "full_name": "김민서", "password": PASSWORD});
        let ticket = self.post("register", &register).await.body["registration_id"].clone();
        let right = code(&self.next_mail().await);
        let verify = json!({"email": email, "verification_code": right, "registration_id": ticket});
        self.post("verify-registration", &verify).await.id().to_owned()
    }

    async fn login(&self, email: &str) -> u16 {
        self.post("login", &json!({"email": email, "password": PASSWORD})).await.status
    }

    /// What a command says that must fail.
    fn fails(&self, words: &[&str]) -> (i32, String) {
        let output = self.output(words);
        assert!(output.stdout.is_empty(), "{output:?}");
        (output.status.code().unwrap(), String::from_utf8(output.stderr).unwrap())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn operators_see_and_change_users_with_a_server_and_without() {
    let life = Lifecycle::new();
    let mut appliance = Appliance::start(&life).await;
    let id = appliance.user("a@b.example").await;
    let by_server = appliance.command(&["user", "show", "A@B.example"]);
    appliance.kill();
    let by_itself = appliance.command(&["user", "show", &id]);
    assert_eq!(by_server, by_itself);
    assert_eq!((by_itself.0, &by_itself.1["email"], &by_itself.1["id"]), (0, &json!("a@b.example"), &json!(id)));
    assert_eq!(appliance.command(&["user", "list"]).1["users"][0]["full_name"], "김민서");
    assert_eq!(appliance.command(&["user", "disable", "a@b.example"]).1["state"], "disabled");
    appliance.serve().await;
    assert_eq!(appliance.login("a@b.example").await, 403);
    assert_eq!(appliance.command(&["user", "enable", &id]).1["state"], "active");
    assert_eq!(appliance.login("a@b.example").await, 200);
    for _ in 0..10 {
        appliance.post("login", &json!({"email": "a@b.example", "password": "wrong wrong wrong"})).await;
    }
    assert_eq!(appliance.login("a@b.example").await, 429);
    assert_eq!(appliance.command(&["user", "unban", "a@b.example"]), (0, json!({ "id": id })));
    assert_eq!(appliance.login("a@b.example").await, 200);
    appliance.kill();
    assert_eq!(appliance.command(&["user", "reset", "a@b.example"]).1["has_password"], false);
    let export = appliance.command(&["user", "export", "a@b.example"]).1;
    assert_eq!((&export["mails"][0]["state"], &export["sessions"]), (&json!("queued"), &json!([])), "{export}");
    let mut whats: Vec<&str> =
        export["audit"].as_array().unwrap().iter().map(|line| line["what"].as_str().unwrap()).collect();
    whats.retain(|what| what.starts_with("user_"));
    assert_eq!(whats, ["user_exported", "user_reset", "user_unbanned", "user_enabled", "user_disabled"]);
    let uid = format!("uid {}", std::os::unix::fs::MetadataExt::uid(&std::fs::metadata("/proc/self").unwrap()));
    assert_eq!(export["audit"][0]["who"], json!({ "operator": uid }), "who it was on this machine");
    for words in [&["user", "show", "no@b.example"][..], &["user", "disable", "no@b.example"]] {
        let (exit, said) = appliance.fails(words);
        assert_eq!((exit, said.contains("no user with the address no@b.example")), (1, true), "{said}");
    }
    let (exit, said) = appliance.fails(&["user", "delete", "a@b.example"]);
    assert_eq!((exit, said.contains("--yes")), (1, true), "{said}");
    assert_eq!(appliance.command(&["user", "show", &id]).0, 0, "nothing happens without it");
    appliance.serve().await;
    assert!(appliance.next_mail().await.subject().contains("set a new password"), "it waited for the server");
    appliance.kill();
    assert_eq!(appliance.command(&["user", "delete", "a@b.example", "--yes"]).0, 0);
    assert_eq!(appliance.command(&["user", "list"]).1["users"], json!([]));
    assert_eq!(appliance.command(&["audit", "verify"]).1["broken"], Value::Null);
    let last = appliance.command(&["audit", "list", "--limit", "1"]).1["lines"][0].clone();
    assert_eq!((&last["what"], &last["user"]), (&json!("user_deleted"), &json!(id)), "{last}");
    assert!(life.shutdown(PATIENCE).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kill_in_the_middle_of_a_deletion_leaves_a_user_whole_or_nothing() {
    let life = Lifecycle::new();
    let mut appliance = Appliance::start(&life).await;
    for (number, millis) in [0, 1, 2, 3, 5, 8, 13].into_iter().enumerate() {
        let email = format!("u{number}@b.example");
        let id = appliance.user(&email).await;
        assert_eq!(appliance.login(&email).await, 200);
        let mut deleting = appliance.begun(&["user", "delete", &id, "--yes"]);
        // The command itself takes some time to ask.
        clock::pause(Duration::from_millis(10 + 4 * millis)).await;
        appliance.kill();
        let _ = deleting.wait().unwrap();
        appliance.serve().await;
        let shown = appliance.output(&["user", "show", &id]);
        if shown.status.success() {
            assert_eq!(appliance.login(&email).await, 200, "whole");
            assert_eq!(appliance.command(&["user", "delete", &id, "--yes"]).0, 0);
        }
        assert_eq!(appliance.login(&email).await, 401, "gone");
        assert_ne!(appliance.user(&email).await, id, "and free for somebody else");
        assert_eq!(appliance.login(&email).await, 200);
        assert_eq!(appliance.command(&["user", "list"]).1["users"].as_array().unwrap().len(), number + 1);
    }
    appliance.kill();
    let lines = appliance.command(&["audit", "list", "--limit", "1000"]).1;
    let deleted = lines["lines"].as_array().unwrap().iter().filter(|line| line["what"] == "user_deleted").count();
    assert_eq!(deleted, 7, "each once");
    assert_eq!(appliance.command(&["audit", "verify"]).1["broken"], Value::Null);
    assert!(life.shutdown(PATIENCE).await);
}
