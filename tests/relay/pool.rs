//! Kept connections, and what becomes of a request when the portal closes one just as it leaves.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use futures_util::future::join_all;
use nightporter::clock::{Clock, within};
use reqwest::Method;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::Barrier;

use super::house::{House, PATIENCE, Running, Seed, held, problem};
use super::mirror::read_request;

/// A portal that keeps its connections, and closes one without a word when `/drop` comes as a later request on it.
#[derive(Clone)]
struct Keeping {
    /// Which connections a path came on.
    seen: Arc<Mutex<BTreeMap<String, Vec<usize>>>>,
    meeting: Arc<Barrier>,
}

impl Keeping {
    async fn start(clock: &Clock) -> (Self, Running) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let portal = Self { seen: Arc::default(), meeting: Arc::new(Barrier::new(4)) };
        let serving = portal.clone();
        tokio::spawn(async move {
            for number in 0.. {
                let Ok((stream, _)) = listener.accept().await else { return };
                let serving = serving.clone();
                tokio::spawn(async move { serving.serve(stream, number).await });
            }
        });
        let recipe = format!(
            "base_url = \"http://{address}\"\n[login]\nsteps = [{{ goto = \"/login\" }}]\n[check]\n\
             request = {{ path = \"/check\" }}\nalive = {{ status = [200] }}\nexpired = [{{ status = [401] }}]\n"
        );
        let running = House::new(&recipe, &[Seed::new("a", "sid-a")], clock).await.start().await;
        (portal, running)
    }

    async fn serve(&self, mut stream: TcpStream, number: usize) {
        let mut first = true;
        while let Some(seen) = read_request(&mut stream).await {
            self.seen.lock().unwrap().entry(seen.path().to_owned()).or_default().push(number);
            match seen.path() {
                "/drop" if !first => return,
                "/meet" => drop(within(PATIENCE, self.meeting.wait()).await.unwrap()),
                _ => {}
            }
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await;
            first = false;
        }
    }

    fn seen(&self, path: &str) -> Vec<usize> {
        self.seen.lock().unwrap().get(path).cloned().unwrap_or_default()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_met_a_dying_connection_is_sent_again_on_a_new_one() {
    let clock = held();
    let (portal, running) = Keeping::start(&clock).await;
    // Four connections are kept from now on, and every one of them will die under the next request.
    for answer in join_all((0..4).map(|_| running.get("/meet"))).await {
        assert_eq!(answer.text().await.unwrap(), "ok");
    }
    for (calls, key) in [(2, None), (4, Some("k"))] {
        let request = running.relay(if key.is_some() { Method::POST } else { Method::GET }, "/drop");
        let request = key.into_iter().fold(request, |request, key| request.header("idempotency-key", key));
        assert_eq!(request.send().await.unwrap().status().as_u16(), 200);
        let seen = portal.seen("/drop");
        assert_eq!(seen.len(), calls, "{seen:?}");
        assert!(seen[calls - 2] < 4 && seen[calls - 1] >= 4, "first on a kept one, then on a new one: {seen:?}");
    }
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_may_not_be_sent_twice_stays_off_connections_that_others_left_idle() {
    let clock = held();
    let (portal, running) = Keeping::start(&clock).await;
    for answer in join_all((0..4).map(|_| running.get("/meet"))).await {
        assert_eq!(answer.text().await.unwrap(), "ok");
    }
    // On one of the four it would have died, and nobody could have said whether the portal has acted.
    let post = running.relay(Method::POST, "/drop").body("x").send().await.unwrap();
    assert_eq!(post.status().as_u16(), 200);
    assert!(portal.seen("/drop")[0] >= 4);
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_portal_that_hangs_up_is_in_doubt_and_one_that_is_gone_is_not() {
    let clock = held();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let recipe = nightporter::demo::portal::recipe_toml(&format!("http://{}", listener.local_addr().unwrap()));
    let running = House::new(&recipe, &[Seed::new("a", "sid-a")], &clock).await.start().await;
    let hangs_up = async {
        let (mut stream, _) = listener.accept().await.unwrap();
        read_request(&mut stream).await.unwrap();
    };
    let (_, answer) = tokio::join!(hangs_up, running.relay(Method::POST, "/x").body("x").send());
    assert_eq!(problem(answer.unwrap()).await, (502, "in_doubt".to_owned()));
    let address = listener.local_addr().unwrap();
    drop(listener);
    // Bound again, so that nobody else gets the port, and not listening.
    let held = TcpSocket::new_v4().unwrap();
    held.set_reuseaddr(true).unwrap();
    held.bind(address).unwrap();
    let answer = running.relay(Method::POST, "/x").body("x").send().await.unwrap();
    assert_eq!(problem(answer).await, (502, "portal_unreachable".to_owned()));
    running.stop().await;
}
