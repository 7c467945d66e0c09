//! Sessions kept by the real binary, which is killed in the middle of making them.

use std::collections::BTreeMap;
use std::sync::Mutex;

use futures_util::future::join_all;
use nightporter::ids::Random;
use reqwest::Client;
use serde_json::Value;

use crate::cli::house::{House, PATIENCE, Server};

const ROUNDS: usize = 8;
const CLIENTS: usize = 8;

/// What became of the creations, by key: the id that was told, or none when the answer never came.
type Asked = Mutex<BTreeMap<String, Option<String>>>;

struct Application {
    client: Client,
    token: String,
}

impl Application {
    /// Status and answer of a creation; None when the server was gone before it answered.
    async fn make(&self, server: &Server, key: &str) -> Option<(u16, Value)> {
        let request = self.client.post(format!("{}/api/sessions/a", server.url)).bearer_auth(&self.token);
        let request = request.header("idempotency-key", key).header("content-type", "application/json");
        let answer = request.body(format!(r#"{{"data":{{"주문":"{key}"}}}}"#)).send().await.ok()?;
        let status = answer.status().as_u16();
        Some((status, answer.json().await.ok()?))
    }

    /// Makes sessions until the server is gone.
    async fn make_on(&self, server: &Server, name: &str, asked: &Asked, answered: impl Fn()) {
        for n in 0.. {
            let key = format!("{name}-{n}");
            let told = self.make(server, &key).await;
            let id = told.map(|(status, body)| {
                assert_eq!(status, 201, "{body}");
                body["id"].as_str().unwrap().to_owned()
            });
            let gone = id.is_none();
            asked.lock().unwrap().insert(key, id);
            if gone {
                return;
            }
            answered();
        }
    }

    /// The keys of all sessions that are there, as their data tells them.
    async fn all(&self, server: &Server) -> Vec<String> {
        let (mut all, mut cursor) = (Vec::new(), String::new());
        loop {
            let url = format!("{}/api/sessions/a?limit=500{cursor}", server.url);
            let page: Value = self.client.get(url).bearer_auth(&self.token).send().await.unwrap().json().await.unwrap();
            let sessions = page["sessions"].as_array().unwrap();
            all.extend(sessions.iter().map(|one| one["data"]["주문"].as_str().unwrap().to_owned()));
            let Some(next) = page["next"].as_str() else { return all };
            cursor = format!("&cursor={next}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_creation_that_kill_9_cut_short_is_neither_lost_nor_made_twice() {
    let house = House::new();
    let token = house.ok(&["token", "add", "app", "--scope", "sessions"]).trim().to_owned();
    let client = Client::builder().no_proxy().timeout(PATIENCE).build().unwrap();
    let (application, asked, random) = (Application { client, token }, Asked::default(), Random::seeded(9));
    for round in 0..ROUNDS {
        let mut server = house.serve(&[]);
        let left = Mutex::new(1 + random.below(60));
        let answered = || {
            let mut left = left.lock().unwrap();
            *left = left.saturating_sub(1);
            if *left == 0 {
                server.signal("KILL");
            }
        };
        let making = (0..CLIENTS).map(|client| {
            let (application, server, asked, answered) = (&application, &server, &asked, &answered);
            async move { application.make_on(server, &format!("{round}-{client}"), asked, answered).await }
        });
        join_all(making).await;
        server.end();
    }
    let server = house.serve(&[]);
    let asked = asked.into_inner().unwrap();
    for (key, id) in &asked {
        let (status, body) = application.make(&server, key).await.unwrap();
        assert_eq!(status, 201, "{key}: {body}");
        assert!(id.as_deref().is_none_or(|id| body["id"] == id), "{key} was {id:?}, is {body}");
    }
    let mut all = application.all(&server).await;
    all.sort();
    assert_eq!(all, asked.into_keys().collect::<Vec<_>>());
}
