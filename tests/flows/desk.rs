//! An appliance in this process with flows, an application that uses them, and their provider.

use std::path::Path;
use std::time::Duration;

use nightporter::app::{self, App, Setup};
use nightporter::clock::{Clock, Time};
use nightporter::config::Sources;
use nightporter::http::metrics::Metrics;
use nightporter::ids::Random;
use nightporter::operators::Scope;
use nightporter::store::space::Room;
use reqwest::{Client, Method, RequestBuilder};
use serde_json::Value;
use tokio::sync::watch;

use crate::provider::Provider;
use crate::stream::Stream;
use crate::told::Told;

/// What no test waits longer for; only a hang reaches it.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// Who the identity flows are about.
pub(crate) const USER: &str = r#"{"data":{"user_info":{"name":"홍길동"}}}"#;

/// A flow whose work in the background takes three calls, of which the second carries a key; and one that is safe to call
/// twice before its transition.
pub(crate) const STEPS: &str = r#"
ttl = "1h"
initial = "new"
progress = ["looked", "done"]
[[transition]]
name = "look"
from = ["new"]
to = "seen"
set = ["looked"]
call = { method = "GET", url = "http://PROVIDER/look/{{data.who}}?id={{flow.id}}", headers = { X-Key = "{{call.key}}" }, save = { tx = "/ResultData/TxId" }, timeout = "5s" }
[[transition]]
name = "go"
from = ["new", "seen"]
to = "going"
[transition.background]
done = "done"
set = ["done"]
failed = "failed"
attempts = 3
backoff = "10s"
[[transition.background.calls]]
url = "http://PROVIDER/one"
save = { one = "/ResultData/TxId" }
[[transition.background.calls]]
url = "http://PROVIDER/two"
headers = { Idempotency-Key = "{{call.key}}" }
json = { one = "{{data.one}}", note = "첫째: {{data.one}}" }
save = { two = "/ResultData/TxId" }
[[transition.background.calls]]
method = "GET"
url = "http://PROVIDER/three"
save = { three = "" }
[[transition]]
name = "cancel"
from = ["going"]
to = "cancelled"
"#;

/// The appliance and its client.
pub(crate) struct Desk {
    pub(crate) clock: Clock,
    pub(crate) provider: Provider,
    dir: tempfile::TempDir,
    client: Client,
    starts: u64,
    app: Option<App>,
    token: String,
}

impl Desk {
    /// With the shipped identity flow and one of three calls, both at a provider of its own.
    pub(crate) async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = dir.path().join("store");
        Self::keeping(dir, &store, "").await
    }

    /// The same, with its store at `store` and further settings of it.
    pub(crate) async fn keeping(dir: tempfile::TempDir, store: &Path, settings: &str) -> Self {
        let clock = Clock::held(Time::from_millis(1_800_000_000_000));
        let provider = Provider::start().await;
        let store = store.display();
        let config = format!(
            "[server]\nlisten = \"127.0.0.1:0\"\ndrain = \"10m\"\n[store]\nurl = \"sled:{store}\"\n{settings}\n\
             [flows.identity]\nfile = \"identity.toml\"\nsecrets = {{ provider_key_file = \"key\" }}\n\
             [flows.steps]\nfile = \"steps.toml\"\n"
        );
        std::fs::write(dir.path().join("nightporter.toml"), config).unwrap();
        std::fs::write(dir.path().join("key"), "비밀 열쇠\n").unwrap();
        let shipped = concat!(env!("CARGO_MANIFEST_DIR"), "/data/flows/identity.toml");
        let identity = std::fs::read_to_string(shipped).unwrap().replace("127.0.0.1:9000", provider.address());
        std::fs::write(dir.path().join("identity.toml"), identity).unwrap();
        std::fs::write(dir.path().join("steps.toml"), STEPS.replace("PROVIDER", provider.address())).unwrap();
        let client = Client::builder().no_proxy().timeout(PATIENCE).build().unwrap();
        let mut desk = Self { clock, provider, dir, client, starts: 0, app: None, token: String::new() };
        desk.start().await;
        desk.token = desk.token("app", &[Scope::Flows]).await;
        desk
    }

    /// Begins an identity flow.
    pub(crate) async fn begin(&self) -> Told {
        let begun = self.send(Method::POST, "identity", USER).await;
        assert_eq!(begun.status, 201, "{}", begun.text);
        begun
    }

    /// The flow, as soon as it is as wanted.
    pub(crate) async fn until(&self, path: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let mut stream = self.follow(path, None).await;
        loop {
            let (kind, _, data) = stream.next().await;
            let flow: Value = serde_json::from_str(&data).unwrap();
            if kind == "version" && wanted(&flow) {
                return flow;
            }
            assert_ne!(kind, "end", "{data}");
        }
    }

    /// The flow's versions, from behind the version `last` if there is one.
    pub(crate) async fn follow(&self, path: &str, last: Option<&str>) -> Stream {
        Stream::of(self.ask(Method::GET, &format!("{path}/events")), last).await
    }

    /// What the command line says, asked of this appliance.
    pub(crate) async fn command(&self, words: &[&str]) -> String {
        let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_nightporter"));
        command.args(words).arg("--config").arg(self.dir.path().join("nightporter.toml"));
        let output = command.env("TZ", "UTC").output().await.unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    /// Writes a flow's declaration anew and has it read.
    pub(crate) async fn redeclare(&self, name: &str, change: impl Fn(String) -> String) -> Result<(), String> {
        let file = self.dir.path().join(name);
        std::fs::write(&file, change(std::fs::read_to_string(&file).unwrap())).unwrap();
        self.app().reload().await.map_err(|error| error.to_string())
    }

    /// The room that the store has.
    pub(crate) fn room(&self) -> watch::Receiver<Room> {
        self.app().parts().store.room()
    }

    /// The page of the metrics.
    pub(crate) async fn metrics(&self, token: &str) -> String {
        let url = format!("http://{}/metrics", self.app().address());
        self.client.get(url).bearer_auth(token).send().await.unwrap().text().await.unwrap()
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

    /// A request to `/api/flows/{path}`, still to be sent.
    pub(crate) fn ask(&self, method: Method, path: &str) -> RequestBuilder {
        self.ask_as(&self.token, method, path)
    }

    /// The same in another's name.
    pub(crate) fn ask_as(&self, token: &str, method: Method, path: &str) -> RequestBuilder {
        let url = format!("http://{}/api/flows/{path}", self.app().address());
        self.client.request(method, url.trim_end_matches('/')).bearer_auth(token)
    }

    /// Ends a token.
    pub(crate) async fn revoke(&self, name: &str) {
        self.app().parts().operators.revoke(name).await.unwrap();
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
