//! A session's record is one thing to everybody: eight clients write and read the same few records over HTTP while the
//! real binary is killed with SIGKILL and started again, and afterwards an order of all requests must exist that explains
//! every answer, those that never came included.
#![allow(clippy::disallowed_methods, reason = "tests spawn freely")]

#[path = "linearizability/appliance.rs"]
mod appliance;
#[path = "linearizability/checker.rs"]
mod checker;
#[path = "linearizability/session.rs"]
mod session;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use appliance::{Appliance, Caller};
use checker::{Spanned, linearizable};
use nightporter::ids::Random;
use session::{Answer, Data, Request, Session};
use tokio::sync::watch;

const CLIENTS: u64 = 8;
const RECORDS: u32 = 4;

/// Requests with their answers, by record.
type History = BTreeMap<String, Vec<Spanned<(Request, Answer)>>>;

/// What all clients share.
struct World {
    /// Gives each event its moment.
    moments: AtomicU64,
    answered: watch::Sender<u64>,
    history: Mutex<History>,
    /// Where the server is, and how often it was started; an empty address ends the clients.
    server: watch::Sender<(u64, String)>,
    /// When each of the servers was dead.
    deaths: Mutex<BTreeMap<u64, u64>>,
}

impl World {
    fn moment(&self) -> u64 {
        self.moments.fetch_add(1, Ordering::SeqCst)
    }

    /// One client: asks one thing after another until the world ends.
    async fn client(self: Arc<Self>, number: u64, seed: u64, token: String) {
        let (caller, random) = (Caller::new(&token), Random::seeded(seed * CLIENTS + number));
        let mut seen = BTreeMap::<String, u64>::new();
        let mut server = self.server.subscribe();
        for serial in 0_u64.. {
            let (start, url) = server.borrow_and_update().clone();
            if url.is_empty() {
                return;
            }
            let id = format!("r{}", random.below(RECORDS));
            let request = draw(&random, number, serial, seen.get(&id).copied());
            let call = self.moment();
            let answer = caller.ask(&url, &id, &request).await;
            let known = answer.as_ref().is_some_and(|answer| *answer != Answer::Unknown);
            if let Some(Answer::Is(version, _)) = &answer {
                seen.insert(id.clone(), *version);
            }
            // What was cut off can have taken effect until its server was dead, which is filled in at the end.
            let end = if known { self.moment() } else { u64::MAX - start };
            if let Some(answer) = answer {
                self.history.lock().unwrap().entry(id).or_default().push(Spanned {
                    call,
                    end,
                    operation: (request, answer),
                });
            }
            if known {
                self.answered.send_modify(|answered| *answered += 1);
            } else {
                server.wait_for(|(next, _)| *next > start).await.unwrap();
            }
        }
    }

    /// Lets them work until so many more requests have been answered.
    async fn work(&self, requests: u64) {
        let goal = *self.answered.borrow() + requests;
        self.answered.subscribe().wait_for(|answered| *answered >= goal).await.unwrap();
    }

    /// Everything that was asked, each with its end, but for what was asked of a server that was dead already.
    fn history(&self) -> History {
        let (mut history, deaths) = (self.history.lock().unwrap().clone(), self.deaths.lock().unwrap());
        for asked in history.values_mut() {
            asked.retain_mut(|asked| {
                if asked.operation.1 == Answer::Unknown {
                    asked.end = deaths[&(u64::MAX - asked.end)];
                }
                asked.call < asked.end
            });
        }
        history
    }
}

fn draw(random: &Random, client: u64, serial: u64, seen: Option<u64>) -> Request {
    let data = Data::from([(format!("c{client}"), serial.to_string())]);
    match (random.below(10), seen) {
        (0..3, _) => Request::Read,
        (3..6, _) => Request::Merge(data),
        (6..8, Some(version)) => Request::Replace { version, data },
        (8, _) => Request::Delete { version: seen.filter(|_| random.below(2) == 0) },
        _ => Request::Create(data),
    }
}

/// Eight clients and so many kills, each after `requests` answers or a few more.
async fn storm(kills: u64, requests: u32, seed: u64) -> History {
    let (mut appliance, random) = (Appliance::new(), Random::seeded(seed));
    let world = Arc::new(World {
        moments: AtomicU64::new(1),
        answered: watch::Sender::new(0),
        history: Mutex::default(),
        server: watch::Sender::new((0, appliance.url.clone())),
        deaths: Mutex::default(),
    });
    let clients: Vec<_> = (0..CLIENTS)
        .map(|number| tokio::spawn(Arc::clone(&world).client(number, seed, appliance.token.clone())))
        .collect();
    for start in 0..kills {
        world.work(u64::from(requests + random.below(requests))).await;
        appliance.kill();
        world.deaths.lock().unwrap().insert(start, world.moment());
        appliance.start();
        world.server.send_replace((start + 1, appliance.url.clone()));
    }
    world.work(requests.into()).await;
    world.server.send_replace((kills + 1, String::new()));
    for client in clients {
        client.await.unwrap();
    }
    world.history()
}

/// Checks every record's history; returns how many requests there were, and how many without an answer.
fn judge(history: &History) -> (usize, usize) {
    for (id, asked) in history {
        if let Err((explained, next)) = linearizable(Session::default(), asked) {
            let next: Vec<_> = next.iter().map(|index| format!("{:?}", asked[*index])).collect();
            panic!("{id}: {explained} of {} can be explained, none of these next:\n{}", asked.len(), next.join("\n"));
        }
    }
    let unknown = history.values().flatten().filter(|asked| asked.operation.1 == Answer::Unknown).count();
    (history.values().map(Vec::len).sum(), unknown)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_is_one_thing_to_all_clients_through_kills() {
    let history = storm(4, 250, 40).await;
    let (requests, unknown) = judge(&history);
    println!("4 kills, {requests} requests, {unknown} of them without an answer: linearizable");

    // The same history with one answer from the past is not: the proof can fail.
    let mut forged = history;
    let asked = forged.values_mut().max_by_key(|asked| asked.len()).unwrap();
    asked.sort_by_key(|asked| asked.call);
    let first = asked.iter().find(|asked| matches!(asked.operation.1, Answer::Is(..))).unwrap().operation.1.clone();
    let is_read = |asked: &&mut Spanned<(Request, Answer)>| matches!(asked.operation, (Request::Read, Answer::Is(..)));
    asked.iter_mut().rfind(is_read).unwrap().operation.1 = first;
    assert!(linearizable(Session::default(), asked).is_err(), "a read of a replaced version was accepted");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes minutes: make torture"]
async fn long_a_record_is_one_thing_to_all_clients_through_100_kills() {
    let (mut requests, mut unknown) = (0, 0);
    for seed in 0..10 {
        let judged = judge(&storm(10, 400, 50 + seed).await);
        (requests, unknown) = (requests + judged.0, unknown + judged.1);
        println!("{} kills, {requests} requests, {unknown} of them without an answer: linearizable", (seed + 1) * 10);
    }
}
