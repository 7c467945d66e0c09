//! The real binary, killed in the middle: what was acknowledged is there, nothing is there twice, and what was under way is
//! taken up or given up.

use std::collections::BTreeMap;
use std::fs;
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use futures_util::future::join_all;
use nightporter::clock;
use reqwest::{Client, Method};
use serde_json::{Value, json};

use crate::desk::{PATIENCE, STEPS};
use crate::provider::{Mood, Provider};
use crate::told::Told;

/// An appliance in a process of its own.
struct Appliance {
    dir: tempfile::TempDir,
    provider: Provider,
    child: Option<Child>,
    address: String,
    token: String,
    starts: usize,
}

impl Appliance {
    async fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let provider = Provider::start().await;
        let shipped = concat!(env!("CARGO_MANIFEST_DIR"), "/data/flows/identity.toml");
        let identity = fs::read_to_string(shipped).unwrap().replace("127.0.0.1:9000", provider.address());
        fs::write(dir.path().join("identity.toml"), identity).unwrap();
        fs::write(dir.path().join("steps.toml"), STEPS.replace("PROVIDER", provider.address())).unwrap();
        let config = "[server]\nlisten = \"127.0.0.1:0\"\n[store]\nurl = \"sled:store\"\n\
            [flows.identity]\nfile = \"identity.toml\"\nsecrets = { provider_key = \"k\" }\n\
            [flows.steps]\nfile = \"steps.toml\"\n";
        fs::write(dir.path().join("nightporter.toml"), config).unwrap();
        let (address, token) = (String::new(), String::new());
        let mut appliance = Self { dir, provider, child: None, address, token, starts: 0 };
        appliance.serve().await;
        let made = appliance.program(&["token", "add", "app", "--scope", "flows"]).output().unwrap();
        let text = String::from_utf8(made.stdout).unwrap();
        appliance.token = text.split_whitespace().find(|word| word.starts_with("npt_")).unwrap().to_owned();
        appliance
    }

    fn program(&self, words: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_nightporter"));
        command.args(words).arg("--config").arg(self.dir.path().join("nightporter.toml")).stdin(Stdio::null());
        command
    }

    async fn serve(&mut self) {
        self.starts += 1;
        let log = self.dir.path().join(format!("log{}", self.starts));
        let stderr = fs::File::create(&log).unwrap();
        self.child = Some(self.program(&["serve"]).stderr(stderr).stdout(Stdio::null()).spawn().unwrap());
        let listening = async {
            loop {
                let text = fs::read_to_string(&log).unwrap();
                if let Some((_, rest)) = text.split_once("listening on http://").filter(|(_, rest)| rest.contains('\n'))
                {
                    return rest.split_whitespace().next().unwrap().to_owned();
                }
                clock::pause(std::time::Duration::from_millis(20)).await;
            }
        };
        self.address = clock::within(PATIENCE, listening)
            .await
            .unwrap_or_else(|_| panic!("{}", fs::read_to_string(&log).unwrap()));
    }

    /// SIGKILL, and another process on the same store.
    async fn die_and_come_back(&mut self) {
        self.kill();
        self.serve().await;
    }

    fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    /// None when the connection broke, or the answer is a refusal.
    async fn send(&self, client: &Client, method: Method, path: &str, body: &str) -> Option<Told> {
        self.send_once(client, method, path, body, None).await.filter(|told| told.status < 400)
    }

    /// None when the connection broke.
    async fn send_once(
        &self,
        client: &Client,
        method: Method,
        path: &str,
        body: &str,
        key: Option<&str>,
    ) -> Option<Told> {
        let url = format!("http://{}/api/flows/{path}", self.address);
        let mut request = client.request(method, url).bearer_auth(&self.token);
        if !body.is_empty() {
            request = request.header("content-type", "application/json").body(body.to_owned());
        }
        if let Some(key) = key {
            request = request.header("idempotency-key", key);
        }
        Some(Told::of(request.send().await.ok()?).await)
    }

    async fn until(&self, client: &Client, path: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let look = async {
            loop {
                let flow = self.send(client, Method::GET, path, "").await.unwrap().body;
                if wanted(&flow) {
                    return flow;
                }
                clock::pause(std::time::Duration::from_millis(20)).await;
            }
        };
        clock::within(PATIENCE, look).await.expect("it never came to that")
    }
}

impl Drop for Appliance {
    fn drop(&mut self) {
        self.kill();
    }
}

fn client() -> Client {
    Client::builder().no_proxy().timeout(PATIENCE).build().unwrap()
}

const WRITERS: usize = 64;

/// 64 writers append until the process dies under them; what each was told is kept with its version.
async fn append_until_it_dies(
    appliance: &mut Appliance,
    path: &str,
    round: usize,
    told: &Mutex<BTreeMap<u64, String>>,
) {
    let (dead, count, client) = (AtomicBool::new(false), AtomicUsize::new(0), client());
    let mut child = appliance.child.take().unwrap();
    let shared = &*appliance;
    let writers = (0..WRITERS).map(|writer| {
        let (dead, count, client) = (&dead, &count, &client);
        async move {
            for number in 0.. {
                let text = format!("{round}/{writer}/{number} 안녕하세요");
                let body = json!({"type": "info", "message": text}).to_string();
                let answer = shared.send(client, Method::POST, &format!("{path}/messages"), &body).await;
                let Some(answer) = answer.filter(|_| !dead.load(Ordering::SeqCst)) else { return };
                assert_eq!(told.lock().unwrap().insert(answer.version(), text), None, "one version, one change");
                count.fetch_add(1, Ordering::SeqCst);
            }
        }
    });
    let killer = async {
        while count.load(Ordering::SeqCst) < 1500 {
            clock::pause(std::time::Duration::from_millis(1)).await;
        }
        child.kill().unwrap();
    };
    tokio::join!(join_all(writers), killer);
    child.wait().unwrap();
    dead.store(true, Ordering::SeqCst);
    appliance.serve().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_64_writers_were_told_is_there_once_after_kill_9() {
    let mut appliance = Appliance::start().await;
    let client = client();
    let user = r#"{"data":{"user_info":{"name":"홍길동"}}}"#;
    let begun = appliance.send(&client, Method::POST, "identity", user).await.unwrap();
    let path = format!("identity/{}", begun.id());
    let told = Mutex::default();
    let mut flags = 0;
    for (round, transition) in ["simple-auth", "manual-auth-complete"].into_iter().enumerate() {
        let taken = appliance.send(&client, Method::POST, &format!("{path}/{transition}"), "").await.unwrap();
        assert_eq!(taken.status, 200);
        append_until_it_dies(&mut appliance, &path, round, &told).await;
        let flow = appliance.send(&client, Method::GET, &path, "").await.unwrap().body;
        let set = flow["progress"].as_object().unwrap().values().filter(|set| **set == true).count();
        assert!(set > flags, "no flag falls back");
        flags = set;
        let told = told.lock().unwrap();
        let messages: Vec<&str> =
            flow["messages"].as_array().unwrap().iter().map(|message| message["message"].as_str().unwrap()).collect();
        let mut places = BTreeMap::new();
        for (place, text) in messages.iter().enumerate() {
            assert_eq!(places.insert(*text, place), None, "{text} is there twice");
        }
        let mut last = None;
        for text in told.values() {
            let place = places.get(text.as_str()).unwrap_or_else(|| panic!("{text} was acknowledged and is gone"));
            assert!(last < Some(place), "{text}: the order of versions is the order of messages");
            last = Some(place);
        }
        // A claim and its end, the other transition, and otherwise messages: no version is spent on nothing.
        let changes = [2, 3][round] + messages.len() as u64 - [1, 2][round];
        assert_eq!(flow["version"].as_u64().unwrap(), begun.version() + changes);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_claim_that_a_crash_left_is_given_up_or_taken_up() {
    let mut appliance = Appliance::start().await;
    let client = client();
    let user = r#"{"data":{"user_info":{"name":"홍길동"},"who":"a"}}"#;
    let unsafe_one =
        format!("identity/{}", appliance.send(&client, Method::POST, "identity", user).await.unwrap().id());
    let safe_one = format!("steps/{}", appliance.send(&client, Method::POST, "steps", user).await.unwrap().id());
    appliance.provider.mood(Mood::Slow);
    for path in [format!("{unsafe_one}/simple-auth"), format!("{safe_one}/look")] {
        tokio::select! {
            _ = appliance.send(&client, Method::POST, &path, "") => panic!("nothing was answered yet"),
            () = appliance.provider.arrived() => {}
        }
    }
    appliance.provider.mood(Mood::Good);
    appliance.die_and_come_back().await;
    let given_up = appliance.until(&client, &unsafe_one, |flow| flow["running"].is_null()).await;
    assert_eq!((&given_up["status"], &given_up["messages"][0]["type"]), (&json!("started"), &json!("error")));
    let taken_up = appliance.until(&client, &safe_one, |flow| flow["status"] == "seen").await;
    assert_eq!(taken_up["progress"]["looked"], true);
    let asked = appliance.provider.requests();
    assert_eq!(asked.iter().filter(|one| one.path == "/simpleauth").count(), 1, "nobody knows whether it arrived");
    let looks: Vec<_> = asked.iter().filter(|one| one.path.starts_with("/look")).collect();
    assert_eq!((looks.len(), &looks[0].headers["x-key"]), (2, &looks[1].headers["x-key"]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_a_crash_cut_short_is_carried_out_when_it_is_repeated() {
    let mut appliance = Appliance::start().await;
    let client = client();
    let path = format!(
        "steps/{}",
        appliance.send(&client, Method::POST, "steps", r#"{"data":{"who":"a"}}"#).await.unwrap().id()
    );
    let look = format!("{path}/look");
    appliance.provider.mood(Mood::Slow);
    tokio::select! {
        _ = appliance.send_once(&client, Method::POST, &look, "", Some("k")) => panic!("nothing was answered yet"),
        () = appliance.provider.arrived() => {}
    }
    appliance.provider.mood(Mood::Good);
    appliance.die_and_come_back().await;
    let answered = async {
        loop {
            let told = appliance.send_once(&client, Method::POST, &look, "", Some("k")).await.unwrap();
            if told.status == 200 {
                return told;
            }
            // It is being taken up already.
            assert_eq!((told.status, told.header("retry-after")), (409, "1"), "{}", told.text);
            clock::pause(std::time::Duration::from_millis(20)).await;
        }
    };
    let told = clock::within(PATIENCE, answered).await.expect("it is carried out");
    assert_eq!((&told.body["status"], &told.body["progress"]["looked"]), (&json!("seen"), &json!(true)));
    assert_eq!(appliance.provider.requests().len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn work_in_the_background_goes_on_after_the_last_call_that_was_done() {
    let mut appliance = Appliance::start().await;
    let client = client();
    let path = format!("steps/{}", appliance.send(&client, Method::POST, "steps", "").await.unwrap().id());
    appliance.provider.moods(&[Mood::Good, Mood::Slow]);
    assert_eq!(appliance.send(&client, Method::POST, &format!("{path}/go"), "").await.unwrap().status, 202);
    appliance.provider.arrived().await;
    appliance.provider.arrived().await;
    appliance.provider.mood(Mood::Good);
    appliance.die_and_come_back().await;
    let done = appliance.until(&client, &path, |flow| flow["status"] == "done").await;
    assert_eq!(done["progress"]["done"], true);
    let asked = appliance.provider.requests();
    let paths: Vec<&str> = asked.iter().map(|one| one.path.as_str()).collect();
    assert_eq!(paths, ["/one", "/two", "/two", "/three"]);
    assert_eq!(asked[1].headers["idempotency-key"], asked[2].headers["idempotency-key"], "the provider can tell");
}
