//! The real binary, killed in the middle: what was acknowledged is there, nothing is there twice, and what was under way is
//! taken up or given up.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use futures_util::future::join_all;
use nightporter::clock;
use reqwest::{Client, Method};
use serde_json::{Value, json};

use crate::appliance::Appliance;
use crate::desk::PATIENCE;
use crate::provider::Mood;

fn client() -> Client {
    Client::builder().no_proxy().timeout(PATIENCE).build().unwrap()
}

const WRITERS: usize = 64;
/// Of those, who repeat what was not answered, with an idempotency key; the others go on with the next.
const REPEATERS: usize = 4;

/// 64 writers who append to one flow while the process dies under them again and again.
struct Siege {
    /// Messages of each writer.
    each: usize,
    /// Where each writer is.
    next: Vec<AtomicUsize>,
    acknowledged: AtomicUsize,
    /// What those who do not repeat were told is kept, by its version: a repeated request is shown the flow as it is, or as
    /// its first answer did.
    told: Mutex<BTreeMap<u64, String>>,
    /// Flags that were set when the last death was over.
    flags: usize,
}

fn flags(flow: &Value) -> usize {
    flow["progress"].as_object().unwrap().values().filter(|set| **set == true).count()
}

fn text(writer: usize, number: usize) -> String {
    format!("{writer}/{number} 안녕하세요")
}

impl Siege {
    fn new(each: usize) -> Self {
        let next = (0..WRITERS).map(|_| AtomicUsize::new(0)).collect();
        Self { each, next, acknowledged: AtomicUsize::new(0), told: Mutex::default(), flags: 0 }
    }

    fn acknowledged(&self) -> usize {
        self.acknowledged.load(Ordering::SeqCst)
    }

    /// Appends what is left of a writer's messages, until the connection breaks.
    async fn write(&self, appliance: &Appliance, path: &str, writer: usize) {
        let client = client();
        loop {
            let number = self.next[writer].load(Ordering::SeqCst);
            if number == self.each {
                return;
            }
            let text = text(writer, number);
            let body = json!({"type": "info", "message": text}).to_string();
            let repeats = writer < REPEATERS;
            let (path, key) = (format!("{path}/messages"), format!("{writer}-{number}"));
            let answer = appliance.send_once(&client, Method::POST, &path, &body, repeats.then_some(&key)).await;
            if answer.is_some() || !repeats {
                self.next[writer].store(number + 1, Ordering::SeqCst);
            }
            let Some(answer) = answer else { return };
            assert_eq!(answer.status, 201, "{}", answer.text);
            self.acknowledged.fetch_add(1, Ordering::SeqCst);
            if !repeats {
                assert!(flags(&answer.body) >= self.flags, "no flag falls back");
                assert_eq!(self.told.lock().unwrap().insert(answer.version(), text), None, "one version, one change");
            }
        }
    }

    /// Lets all write until so many messages are acknowledged, and the process dies, or until all are written.
    async fn write_until(&self, appliance: &mut Appliance, path: &str, acknowledged: Option<usize>) {
        let mut child = appliance.child.take().unwrap();
        let shared = &*appliance;
        let killer = async {
            let Some(wanted) = acknowledged else { return std::future::pending().await };
            while self.acknowledged() < wanted {
                clock::pause(std::time::Duration::from_millis(1)).await;
            }
            child.kill().unwrap();
            child.wait().unwrap();
        };
        let writers = async {
            join_all((0..WRITERS).map(|writer| self.write(shared, path, writer))).await;
        };
        match acknowledged {
            Some(_) => {
                tokio::join!(killer, writers);
                appliance.serve().await;
            }
            None => {
                tokio::select! { () = killer => {} () = writers => {} }
                appliance.child = Some(child);
            }
        }
    }

    /// Everything that was acknowledged is there, nothing twice, in the order of the versions, and no version was spent on
    /// anything else than a message or one of the `others`, which left `said` messages.
    fn check(&mut self, flow: &Value, (first, others, said): (u64, u64, usize)) {
        assert!(flags(flow) >= self.flags, "no flag falls back");
        self.flags = flags(flow);
        let messages = flow["messages"].as_array().unwrap().iter().map(|message| message["message"].as_str().unwrap());
        let mut places = BTreeMap::new();
        for (place, text) in messages.enumerate() {
            assert_eq!(places.insert(text, place), None, "{text} is there twice");
        }
        let mut last = None;
        for text in self.told.lock().unwrap().values() {
            let place = places.get(text.as_str()).unwrap_or_else(|| panic!("{text} was acknowledged and is gone"));
            assert!(last < Some(place), "{text}: the order of versions is the order of messages");
            last = Some(place);
        }
        for (writer, next) in self.next.iter().enumerate().take(REPEATERS) {
            let gone = (0..next.load(Ordering::SeqCst)).find(|number| !places.contains_key(&*text(writer, *number)));
            assert_eq!(gone, None, "who repeats until it is answered loses nothing");
        }
        let appended = (places.len() - said) as u64;
        assert_eq!(flow["version"].as_u64().unwrap(), first + others + appended, "the versions have no gap");
    }
}

/// 64 writers append `each` messages while the process dies so many times and the flow goes from state to state. How many
/// appends were acknowledged, and how many are stored.
async fn besiege(each: usize, deaths: usize) -> (usize, usize) {
    let mut appliance = Appliance::start().await;
    let client = client();
    let begun = appliance.send(&client, Method::POST, "identity", crate::desk::USER).await.unwrap();
    let path = format!("identity/{}", begun.id());
    let mut siege = Siege::new(each);
    // A claim and its end, then one change more; a message from each.
    let (mut others, mut said) = (0, 0);
    for death in 0..deaths {
        if let Some((transition, changes)) = [("simple-auth", 2), ("manual-auth-complete", 1)].get(death) {
            let taken = appliance.send(&client, Method::POST, &format!("{path}/{transition}"), "").await.unwrap();
            assert_eq!((taken.status, flags(&taken.body)), (200, death + 1));
            siege.flags = death + 1;
            (others, said) = (others + changes, said + 1);
        }
        let wanted = WRITERS * each * (death + 1) / (deaths + 1);
        siege.write_until(&mut appliance, &path, Some(wanted)).await;
        let flow = appliance.send(&client, Method::GET, &path, "").await.unwrap().body;
        siege.check(&flow, (begun.version(), others, said));
    }
    siege.write_until(&mut appliance, &path, None).await;
    let flow = appliance.send(&client, Method::GET, &path, "").await.unwrap().body;
    siege.check(&flow, (begun.version(), others, said));
    let stored = flow["messages"].as_array().unwrap().len() - said;
    (siege.acknowledged(), stored)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_64_writers_were_told_is_there_once_after_kill_9() {
    besiege(50, 2).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "64,000 appends: part of make torture"]
async fn long_64_writers_append_a_thousand_times_each_under_kill_9() {
    let (acknowledged, stored) = besiege(1000, 8).await;
    println!("8 deaths, {acknowledged} appends were acknowledged, {stored} are stored");
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
