//! An appliance in this process without portals, and an application that keeps its sessions there.

use std::collections::BTreeSet;
use std::time::Duration;

use nightporter::app::{self, App, Setup};
use nightporter::clock::{Clock, Time};
use nightporter::config::Sources;
use nightporter::http::metrics::Metrics;
use nightporter::ids::Random;
use nightporter::operators::Scope;
use reqwest::{Client, Method, RequestBuilder};

use crate::stream::Stream;
use crate::told::Told;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// What no test waits longer for; only a hang reaches it.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// The appliance and its client.
pub(crate) struct Desk {
    pub(crate) clock: Clock,
    dir: tempfile::TempDir,
    client: Client,
    starts: u64,
    app: Option<App>,
    token: String,
}

impl Desk {
    /// With what `[sessions]` says.
    pub(crate) async fn new(settings: &str) -> Self {
        Self::durable("acknowledged", settings).await
    }

    /// As [`Desk::new`], with that durability.
    pub(crate) async fn durable(durability: &str, settings: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let clock = Clock::held(Time::from_millis(1_800_000_000_000));
        let store = dir.path().join("store").display().to_string();
        let config = format!(
            "[server]\nlisten = \"127.0.0.1:0\"\ndrain = \"10m\"\n[store]\nurl = \"sled:{store}\"\ndurability = \"{durability}\"\n\
             [sessions]\n{settings}\n"
        );
        std::fs::write(dir.path().join("nightporter.toml"), config).unwrap();
        let client = Client::builder().no_proxy().timeout(PATIENCE).build().unwrap();
        let mut desk = Self { clock, dir, client, starts: 0, app: None, token: String::new() };
        desk.start().await;
        let scopes = BTreeSet::from([Scope::Sessions]);
        let added = desk.app().parts().operators.add("app", scopes, None).await.unwrap();
        desk.token = added.text.expose().to_owned();
        desk
    }

    /// The changes in a space, from behind the event `last` if there is one.
    pub(crate) async fn follow(&self, space: &str, last: Option<&str>) -> Stream {
        Stream::of(self.ask(Method::GET, &format!("{space}/changes")), last).await
    }

    fn app(&self) -> &App {
        self.app.as_ref().unwrap()
    }

    async fn start(&mut self) {
        self.starts += 1;
        let sources = Sources { file: Some(self.dir.path().join("nightporter.toml")), ..Sources::default() };
        let setup = Setup {
            config: app::load(&sources).unwrap_or_else(|error| panic!("{error:?}")),
            sources,
            clock: self.clock.clone(),
            random: Random::seeded(self.starts),
            metrics: Metrics::install().unwrap(),
            log: None,
        };
        self.app = Some(App::start(setup).await.unwrap());
    }

    /// Another token with these scopes.
    pub(crate) async fn token(&self, name: &str, scopes: &[Scope]) -> String {
        let scopes = scopes.iter().copied().collect();
        self.app().parts().operators.add(name, scopes, None).await.unwrap().text.expose().to_owned()
    }

    pub(crate) async fn restart(&mut self) {
        assert!(self.app.take().unwrap().stop(PATIENCE).await, "something did not end in time");
        self.start().await;
    }

    pub(crate) async fn stop(mut self) {
        assert!(self.app.take().unwrap().stop(PATIENCE).await, "something did not end in time");
    }

    /// A request to `/api/sessions/{path}`, still to be sent.
    pub(crate) fn ask(&self, method: Method, path: &str) -> RequestBuilder {
        self.ask_as(&self.token, method, path)
    }

    /// The same in another's name.
    pub(crate) fn ask_as(&self, token: &str, method: Method, path: &str) -> RequestBuilder {
        let url = format!("http://{}/api/sessions/{path}", self.app().address());
        self.client.request(method, url).bearer_auth(token)
    }

    /// A creation in another's name.
    pub(crate) async fn make_as(&self, token: &str, space: &str, body: &str, headers: &[(&str, &str)]) -> Told {
        let request = self.ask_as(token, Method::POST, space).header("content-type", "application/json");
        let request = headers.iter().fold(request, |request, (name, value)| request.header(*name, *value));
        Told::of(request.body(body.to_owned()).send().await.unwrap()).await
    }

    /// Ends a token.
    pub(crate) async fn revoke(&self, name: &str) {
        self.app().parts().operators.revoke(name).await.unwrap();
    }

    /// A request whose path no client may tidy; everything that came back.
    pub(crate) async fn raw(&self, method: &str, path: &str, headers: &str, body: &str) -> String {
        let (token, length) = (&self.token, body.len());
        let request = format!(
            "{method} /api/sessions/{path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\nAuthorization: Bearer {token}\r\n\
             Content-Type: application/json\r\nContent-Length: {length}\r\n{headers}\r\n{body}"
        );
        let mut stream = TcpStream::connect(self.app().address()).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }

    /// What the sweeper does every second.
    pub(crate) async fn sweep(&self) {
        self.app().parts().store.sweep().await.unwrap();
    }

    pub(crate) async fn get(&self, path: &str) -> Told {
        Told::of(self.ask(Method::GET, path).send().await.unwrap()).await
    }

    /// Sends a body.
    pub(crate) async fn send(&self, method: Method, path: &str, body: &str) -> Told {
        self.send_if(method, path, body, &[]).await
    }

    /// Sends a body with further headers.
    pub(crate) async fn send_if(&self, method: Method, path: &str, body: &str, headers: &[(&str, &str)]) -> Told {
        Told::to(self.ask(method, path), body, headers).await
    }
}
