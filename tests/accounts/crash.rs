//! The real binary, killed at each step of a sign-up: what was answered is there afterwards, nothing is there twice, and a mail
//! is never without its change nor a change without its mail.

use std::collections::HashSet;
use std::fs;
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use nightporter::clock::{self, Clock};
use nightporter::demo::mailbox::{Mail, Mailbox};
use nightporter::lifecycle::Lifecycle;
use reqwest::Client;
use serde_json::{Value, json};

use crate::desk::{PASSWORD, PATIENCE, code, other};
use crate::told::Told;

/// An appliance in a process of its own, and its mail server, which outlives it.
pub(crate) struct Appliance {
    dir: tempfile::TempDir,
    mailbox: Mailbox,
    /// How many mails were looked at, and the Message-IDs among them.
    looked_at: usize,
    message_ids: HashSet<String>,
    client: Client,
    child: Option<Child>,
    address: String,
    starts: usize,
}

impl Appliance {
    pub(crate) async fn start(life: &Lifecycle) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mailbox = Mailbox::start(None, &Clock::system(), life).await.unwrap();
        let config = format!(
            "[server]\nlisten = \"127.0.0.1:0\"\n[store]\nurl = \"sled:store\"\n\
             [mail]\nurl = \"{}\"\nfrom = \"porter@a.example\"\n[accounts]\nresend_after = \"1s\"\n",
            mailbox.url()
        );
        fs::write(dir.path().join("nightporter.toml"), config).unwrap();
        let client = Client::builder().no_proxy().timeout(PATIENCE).build().unwrap();
        let (looked_at, message_ids) = (0, HashSet::new());
        let mut appliance =
            Self { dir, mailbox, looked_at, message_ids, client, child: None, address: String::new(), starts: 0 };
        appliance.serve().await;
        appliance
    }

    pub(crate) async fn serve(&mut self) {
        self.starts += 1;
        let log = self.dir.path().join(format!("log{}", self.starts));
        let stderr = fs::File::create(&log).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_nightporter"));
        command.arg("serve").arg("--config").arg(self.dir.path().join("nightporter.toml"));
        self.child = Some(command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(stderr).spawn().unwrap());
        let listening = async {
            loop {
                let text = fs::read_to_string(&log).unwrap();
                if let Some((_, rest)) = text.split_once("listening on http://").filter(|(_, rest)| rest.contains('\n'))
                {
                    return rest.split_whitespace().next().unwrap().to_owned();
                }
                clock::pause(Duration::from_millis(20)).await;
            }
        };
        self.address = clock::within(PATIENCE, listening)
            .await
            .unwrap_or_else(|_| panic!("{}", fs::read_to_string(&log).unwrap()));
    }

    pub(crate) fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    /// SIGKILL, and another process on the same store.
    async fn die_and_come_back(&mut self) {
        self.kill();
        self.serve().await;
    }

    /// The next mail that was not there before. A kill between the mail server's yes and our note of it sends a mail
    /// again, as `outbox` says, under the same Message-ID.
    pub(crate) async fn next_mail(&mut self) -> Mail {
        loop {
            self.looked_at += 1;
            let mail = self.mailbox.nth(self.looked_at, PATIENCE).await.expect("what was answered has its mail");
            if self.message_ids.insert(mail.header("Message-ID").unwrap()) {
                return mail;
            }
        }
    }

    pub(crate) async fn post(&self, path: &str, body: &Value) -> Told {
        let url = format!("http://{}/api/auth/{path}", self.address);
        Told::to(self.client.post(url), &body.to_string(), &[]).await
    }

    /// Sends a request and kills the process while it is under way, after about so long; None: nobody was answered.
    async fn post_and_kill(&mut self, path: &str, body: &Value, after: Duration) -> Option<Told> {
        let url = format!("http://{}/api/auth/{path}", self.address);
        let request = self.client.post(url).header("content-type", "application/json").body(body.to_string());
        let asking = tokio::spawn(async move {
            match request.send().await {
                Ok(answer) => Told::whole(answer).await.ok(),
                Err(_) => None,
            }
        });
        clock::pause(after).await;
        self.kill();
        let told = asking.await.unwrap();
        self.serve().await;
        told
    }
}

impl Drop for Appliance {
    fn drop(&mut self) {
        self.kill();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sign_up_goes_on_after_a_kill_at_each_step() {
    let life = Lifecycle::new();
    let mut appliance = Appliance::start(&life).await;
    // A kill then mostly comes before the mail server's yes, so that mails come twice.
    appliance.mailbox.faults(|faults| faults.slow = Duration::from_millis(20));
    let email = "a@b.example";
    let registered =
        appliance.post("register", &json!({"email": email, "password": PASSWORD, "full_name": "민서"})).await;
    assert_eq!(registered.status, 202, "{}", registered.text);
    appliance.die_and_come_back().await;
    let right = code(&appliance.next_mail().await);
    let mut guess = json!({"email": email, "verification_code": other(&right), "registration_id": registered.body["registration_id"]});
    let wrong = appliance.post("verify-registration", &guess).await;
    assert_eq!(wrong.body["tries_left"], 4, "{}", wrong.text);
    appliance.die_and_come_back().await;
    assert_eq!(appliance.post("verify-registration", &guess).await.body["tries_left"], 3);
    guess["verification_code"] = right.into();
    let made = appliance.post("verify-registration", &guess).await;
    assert_eq!(made.status, 201, "{}", made.text);
    appliance.die_and_come_back().await;
    let login = json!({"email": email, "password": PASSWORD});
    assert_eq!(appliance.post("login", &login).await.status, 200);
    assert_eq!(appliance.post("password/forgot", &json!({"email": email})).await.status, 202);
    appliance.die_and_come_back().await;
    let right = code(&appliance.next_mail().await);
    let reset = json!({"email": email, "code": right, "new_password": "둘째 비밀번호"});
    assert_eq!(appliance.post("password/reset", &reset).await.status, 204);
    appliance.die_and_come_back().await;
    assert_eq!(appliance.post("login", &login).await.status, 401);
    let login = json!({"email": email, "password": "둘째 비밀번호"});
    assert_eq!(appliance.post("login", &login).await.status, 200);
    let letter = appliance.next_mail().await;
    assert!(letter.subject().contains("password was changed"));
    assert!(life.shutdown(PATIENCE).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kill_in_the_middle_leaves_a_user_whole_or_none() {
    let life = Lifecycle::new();
    let mut appliance = Appliance::start(&life).await;
    for (number, millis) in [0, 1, 2, 4, 8].into_iter().enumerate() {
        let email = format!("u{number}@b.example");
        let register = json!({"email": email, "full_name": "민서", "password": PASSWORD});
        let registered = appliance.post("register", &register).await;
        let right = code(&appliance.next_mail().await);
        let ticket = &registered.body["registration_id"];
        let verify = json!({"email": email, "verification_code": right, "registration_id": ticket});
        let told = appliance.post_and_kill("verify-registration", &verify, Duration::from_millis(millis)).await;
        let again = appliance.post("verify-registration", &verify).await;
        match told {
            Some(told) if told.status == 201 => assert_eq!(again.problem().1, "invalid_code", "made once"),
            _ => assert!(again.status == 201 || again.problem().1 == "invalid_code", "{}", again.text),
        }
        let login = appliance.post("login", &json!({"email": email, "password": PASSWORD})).await;
        assert_eq!(login.status, 200, "whole: {}", login.text);
    }
    assert!(life.shutdown(PATIENCE).await);
}

impl Appliance {
    /// What a command says, with its exit code.
    pub(crate) fn command(&self, words: &[&str]) -> (i32, Value) {
        let output = self.output(words);
        let told = serde_json::from_slice(&output.stdout);
        let told = told.unwrap_or_else(|_| panic!("{words:?}: {}", String::from_utf8_lossy(&output.stderr)));
        (output.status.code().unwrap(), told)
    }

    /// What the process that was started last has logged.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.dir.path().join(format!("log{}", self.starts))).unwrap()
    }

    /// What a command leaves behind.
    pub(crate) fn output(&self, words: &[&str]) -> Output {
        self.asking(words).output().unwrap()
    }

    /// A command that goes on by itself.
    pub(crate) fn begun(&self, words: &[&str]) -> Child {
        self.asking(words).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
    }

    fn asking(&self, words: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_nightporter"));
        command.args(words).args(["--json", "--config"]).arg(self.dir.path().join("nightporter.toml"));
        command.current_dir(self.dir.path());
        command
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn kills_in_the_middle_lose_no_session_and_no_line_and_write_none_twice() {
    let life = Lifecycle::new();
    let mut appliance = Appliance::start(&life).await;
    let register = json!({"email": "a@b.example", "password": PASSWORD, "full_name": "민서"});
    let ticket = appliance.post("register", &register).await.body["registration_id"].clone();
    let right = code(&appliance.next_mail().await);
    let verify = json!({"email": "a@b.example", "verification_code": right, "registration_id": ticket});
    assert_eq!(appliance.post("verify-registration", &verify).await.status, 201);
    let mut logins = 0;
    for millis in [0, 1, 2, 3, 5, 8] {
        let login = appliance.post("login", &json!({"email": "a@b.example", "password": PASSWORD})).await;
        assert_eq!(login.status, 200, "{}", login.text);
        logins += 1;
        let refresh = json!({ "refresh_token": login.body["refresh_token"] });
        // The line of the login is on its way to the chain meanwhile.
        let first = appliance.post_and_kill("refresh", &refresh, Duration::from_millis(millis)).await;
        let second = appliance.post("refresh", &refresh).await;
        assert_eq!(second.status, 200, "{}", second.text);
        if let Some(first) = first.filter(|told| told.status == 200) {
            assert_eq!(first.body["refresh_token"], second.body["refresh_token"], "the same successor");
        }
        let next = json!({ "refresh_token": second.body["refresh_token"] });
        assert_eq!(appliance.post("refresh", &next).await.status, 200);
    }
    let logged_in = |told: &Value| {
        let lines = told["lines"].as_array().unwrap().clone();
        lines.iter().filter(|line| line["what"] == "logged_in").count()
    };
    let moved = async {
        while logged_in(&appliance.command(&["audit", "list"]).1) < logins {
            clock::pause(Duration::from_millis(20)).await;
        }
    };
    clock::within(PATIENCE, moved).await.expect("a line was lost");
    appliance.kill();
    let (exit, verdict) = appliance.command(&["audit", "verify"]);
    assert_eq!((exit, &verdict["broken"]), (0, &Value::Null), "{verdict}");
    assert_eq!(logged_in(&appliance.command(&["audit", "list"]).1), logins, "each once");
    assert!(life.shutdown(PATIENCE).await);
}
