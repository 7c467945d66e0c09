//! The real binary with flows and their provider, which can be killed.

use std::fs;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use nightporter::clock;
use reqwest::{Client, Method};
use serde_json::Value;

use crate::desk::{PATIENCE, STEPS};
use crate::provider::Provider;
use crate::told::Told;

/// An appliance in a process of its own.
pub(crate) struct Appliance {
    dir: tempfile::TempDir,
    pub(crate) provider: Provider,
    pub(crate) child: Option<Child>,
    address: String,
    token: String,
    starts: usize,
    /// The file of the certificates that are trusted; None: the machine's.
    pub(crate) trusted: Option<PathBuf>,
}

impl Appliance {
    pub(crate) async fn start() -> Self {
        Self::beside(Provider::start().await, None).await
    }

    /// With that provider, trusting only certificates of that file if there is one.
    pub(crate) async fn beside(provider: Provider, trusted: Option<PathBuf>) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let shipped = concat!(env!("CARGO_MANIFEST_DIR"), "/data/flows/identity.toml");
        let identity = fs::read_to_string(shipped).unwrap().replace("http://127.0.0.1:9000", &provider.base());
        fs::write(dir.path().join("identity.toml"), identity).unwrap();
        fs::write(dir.path().join("steps.toml"), STEPS.replace("http://PROVIDER", &provider.base())).unwrap();
        let config = "[server]\nlisten = \"127.0.0.1:0\"\n[store]\nurl = \"sled:store\"\n\
            [flows.identity]\nfile = \"identity.toml\"\nsecrets = { provider_key = \"k\" }\n\
            [flows.steps]\nfile = \"steps.toml\"\n";
        fs::write(dir.path().join("nightporter.toml"), config).unwrap();
        let (address, token) = (String::new(), String::new());
        let mut appliance = Self { dir, provider, child: None, address, token, starts: 0, trusted };
        appliance.serve().await;
        let made = appliance.program(&["token", "add", "app", "--scope", "flows"]).output().unwrap();
        let text = String::from_utf8(made.stdout).unwrap();
        appliance.token = text.split_whitespace().find(|word| word.starts_with("npt_")).unwrap().to_owned();
        appliance
    }

    fn program(&self, words: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_nightporter"));
        command.args(words).arg("--config").arg(self.dir.path().join("nightporter.toml")).stdin(Stdio::null());
        command.envs(self.trusted.iter().map(|file| ("SSL_CERT_FILE", file)));
        command
    }

    pub(crate) async fn serve(&mut self) {
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
    pub(crate) async fn die_and_come_back(&mut self) {
        self.kill();
        self.serve().await;
    }

    pub(crate) fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    /// None when the connection broke, or the answer is a refusal.
    pub(crate) async fn send(&self, client: &Client, method: Method, path: &str, body: &str) -> Option<Told> {
        self.send_once(client, method, path, body, None).await.filter(|told| told.status < 400)
    }

    /// None when the connection broke.
    pub(crate) async fn send_once(
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
        Told::whole(request.send().await.ok()?).await.ok()
    }

    pub(crate) async fn until(&self, client: &Client, path: &str, wanted: impl Fn(&Value) -> bool) -> Value {
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
