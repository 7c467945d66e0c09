//! The stage: the neighbours in this process, and the appliance as a process of its own, so that it can be killed.

use std::fs;
use std::io;
use std::net::Ipv4Addr;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::process::{Child, Command};

use super::caller::Caller;
use super::mailbox::Mailbox;
use super::phone::{self, Phone};
use super::portal::{self, Controls, Portal};
use crate::clock::{self, Clock, Stopwatch};
use crate::ids::Random;
use crate::lifecycle::Lifecycle;
use crate::secret::Secret;

/// How long the appliance may take to become ready, a slow disk included.
const READY: Duration = Duration::from_secs(60);
/// How long it may take to stop when asked to.
const STOP: Duration = Duration::from_secs(30);
/// The pause between two looks at it.
const LOOK: Duration = Duration::from_millis(20);

/// The neighbours and the appliance.
#[derive(Debug)]
pub(super) struct Stage {
    pub(super) dir: PathBuf,
    pub(super) user: String,
    pub(super) password: Secret,
    pub(super) portal: Controls,
    pub(super) portal_url: String,
    pub(super) phone: Phone,
    pub(super) mailbox: Mailbox,
    pub(super) url: String,
    appliance: Option<Child>,
}

impl Stage {
    /// Starts the neighbours and writes the appliance's configuration; the appliance itself is not started.
    pub(super) async fn set(clock: &Clock, random: &Random, life: &Lifecycle) -> io::Result<Self> {
        let dir = std::env::temp_dir().join(format!("nightporter-demo-{}", std::process::id()));
        fs::DirBuilder::new().mode(0o700).create(&dir)?;
        let secret = data_encoding::HEXLOWER.encode(&random.bytes::<16>());
        let phone = Phone::start(
            phone::Settings {
                backoff: Duration::from_secs(1),
                ..phone::Settings::capcom6("office", Secret::new(&secret))
            },
            clock,
            random,
            life,
        );
        let account = portal::Account::partner(random, phone.line());
        let (user, password) = (account.user.clone(), account.password.clone());
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let portal = Portal::start(listener, portal::Settings::of(account), clock, random, life)?;
        let mailbox = Mailbox::start(None, clock, life).await?;
        // Found free now and used in a moment: after the kill the appliance must come back at the same address.
        let listen = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?.local_addr()?;
        let url = format!("http://{listen}");
        phone.connect(&url);
        let recipe = hurried(&portal::recipe_toml(&portal.base_url()));
        write(&dir.join("hanbit.toml"), &recipe)?;
        write(&dir.join("password"), password.expose())?;
        write(&dir.join("phone-secret"), &secret)?;
        let config = configuration(&listen.to_string(), &mailbox.url(), &user);
        write(&dir.join("nightporter.toml"), &config)?;
        let (portal_url, portal) = (portal.base_url(), portal.controls());
        Ok(Self { dir, user, password, portal, portal_url, phone, mailbox, url, appliance: None })
    }

    fn program(&self) -> io::Result<Command> {
        let mut command = Command::new(std::env::current_exe()?);
        for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("NIGHTPORTER_")) {
            command.env_remove(name);
        }
        command.current_dir(&self.dir).env_remove("NOTIFY_SOCKET").stdin(Stdio::null());
        Ok(command)
    }

    /// Starts the appliance and waits until it is ready; returns how long that took.
    pub(super) async fn start(&mut self) -> io::Result<Duration> {
        let watch = Stopwatch::start();
        let log = fs::OpenOptions::new().create(true).append(true).mode(0o600).open(self.log())?;
        let mut command = self.program()?;
        command.args(["serve", "--config", "nightporter.toml"]).stdout(Stdio::null()).stderr(log).kill_on_drop(true);
        let mut child = command.spawn()?;
        let probe = Caller::new(&self.url, Secret::new(""));
        let ready = async {
            loop {
                if probe.get("/readyz").await.is_ok_and(|answer| answer.status.is_success()) {
                    return Ok(());
                }
                if let Some(status) = child.try_wait()? {
                    return Err(io::Error::other(format!("the appliance ended with {status}")));
                }
                clock::pause(LOOK).await;
            }
        };
        let ready = clock::within(READY, ready).await.unwrap_or_else(|late| Err(io::Error::other(late)));
        ready.map_err(|error| io::Error::other(format!("{error}; its log is {}", self.log().display())))?;
        self.appliance = Some(child);
        Ok(watch.elapsed())
    }

    /// Where the appliance logs.
    pub(super) fn log(&self) -> PathBuf {
        self.dir.join("appliance.log")
    }

    /// Makes a token as an operator does.
    pub(super) async fn token(&self) -> io::Result<Secret> {
        let mut command = self.program()?;
        command.args(["token", "add", "demo", "--config", "nightporter.toml"]);
        for scope in ["portals:read", "portals:relay", "portals:manage"] {
            command.args(["--scope", scope]);
        }
        let output = command.output().await?;
        let text = String::from_utf8_lossy(&output.stdout);
        match text.split_whitespace().find(|word| word.starts_with("npt_")) {
            Some(token) if output.status.success() => Ok(Secret::new(token)),
            _ => Err(io::Error::other(String::from_utf8_lossy(&output.stderr).into_owned())),
        }
    }

    /// The process number of the appliance.
    pub(super) fn pid(&self) -> Option<u32> {
        self.appliance.as_ref().and_then(Child::id)
    }

    /// Kills the appliance with SIGKILL, as a crash or the kernel would.
    pub(super) async fn kill(&mut self) -> io::Result<()> {
        match self.appliance.take() {
            Some(mut child) => child.kill().await,
            None => Ok(()),
        }
    }

    /// Stops the appliance in order and removes everything.
    pub(super) async fn strike(mut self) -> io::Result<()> {
        if let Some(mut child) = self.appliance.take() {
            if let Some(pid) = child.id().and_then(|id| rustix::process::Pid::from_raw(id.cast_signed())) {
                rustix::process::kill_process(pid, rustix::process::Signal::TERM)?;
            }
            if clock::within(STOP, child.wait()).await.is_err() {
                child.kill().await?;
            }
        }
        fs::remove_dir_all(&self.dir)
    }
}

fn write(path: &Path, text: &str) -> io::Result<()> {
    io::Write::write_all(
        &mut fs::OpenOptions::new().create_new(true).write(true).mode(0o600).open(path)?,
        text.as_bytes(),
    )
}

/// The shipped recipe with less patience, so that the silent phone does not take minutes to show.
fn hurried(recipe: &str) -> String {
    let changes = [
        ("timeout = \"2m\"", "timeout = \"6s\""),
        ("logins_per_hour = 5", "logins_per_hour = 20"),
        ("attempts = 3", "attempts = 2"),
        ("backoff = \"5s\"", "backoff = \"1s\""),
        ("every = \"60s\"", "every = \"5s\""),
    ];
    changes.iter().fold(recipe.to_owned(), |recipe, (from, to)| recipe.replace(from, to))
}

fn configuration(listen: &str, mail: &str, user: &str) -> String {
    format!(
        r#"[server]
listen = "{listen}"

[store]
url = "sled:store"

[browser]
recycle_after = "45s"

[mail]
url = "{mail}"
from = "porter@example.com"

[alerts]
email = ["ops@example.com"]

[phones.office]
forwarder = "capcom6"
secret_file = "phone-secret"

[portals.hanbit]
recipe = "hanbit.toml"
phone = "office"
username = "{user}"
password_file = "password"
"#
    )
}
