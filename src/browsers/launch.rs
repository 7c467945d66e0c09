//! Launching: finds the program, gives it a profile, an account, a clean environment and a pipe, and waits until it talks.
//!
//! Never passes a debugging port, and `--no-sandbox` only on the operator's explicit word.

use std::ffi::OsString;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Arc, mpsc};
use std::time::Duration;

use command_fds::{CommandFdExt, FdMapping};
use tokio::net::unix::pipe;
use tokio::process::{Child, Command};
use tokio::sync::{Semaphore, oneshot};
use tokio_util::sync::CancellationToken;

use super::chrome::Chrome;
use super::error::BrowserError;
use super::pdeathsig::die_with_parent;
use super::process::Process;
use super::profile::{Profile, Profiles};
use super::settings::Settings;
use super::user::Account;
use crate::lifecycle::Lifecycle;

/// Where Chromium is looked for, programs before the wrapper scripts that start them.
const PLACES: [&str; 5] = [
    "/usr/lib/chromium/chromium",
    "/usr/lib/chromium-browser/chromium-browser",
    "/opt/google/chrome/chrome",
    "/usr/bin/google-chrome",
    "/usr/bin/chromium",
];

/// From spawn to the first answer. Cold starts take 0.4–1.3 s; twenty at once on two cores took 23 s.
const READY_LIMIT: Duration = Duration::from_secs(30);

/// More launches than this at once only slow one another down.
const LAUNCHES_AT_ONCE: usize = 2;

const FLAGS: [&str; 18] = [
    "--headless=new",
    "--remote-debugging-pipe",
    "--disable-background-networking",
    "--disable-component-update",
    // Without it an idle tab of the browser's own costs two renderers.
    "--no-startup-window",
    "--disable-default-apps",
    "--disable-dev-shm-usage",
    "--disable-extensions",
    // The suggestions below an address bar that nobody sees: a renderer of 44 MB for every open tab, and half the time that
    // a tab takes to open. A renderer kept in reserve costs another 20 MB and makes nothing faster.
    "--disable-features=WebUIOmniboxPopup,WebUIOmniboxAimPopup,SpareRendererForSitePerProcess",
    "--disable-gpu",
    "--disable-quic",
    "--disable-sync",
    // A tab that nobody looks at must not be slowed down: nobody ever looks.
    "--disable-background-timer-throttling",
    "--disable-backgrounding-occluded-windows",
    "--disable-renderer-backgrounding",
    "--no-default-browser-check",
    "--no-first-run",
    "--window-size=1280,1024",
];

/// Starts browsers of one program, two at a time with all others of its site.
#[derive(Clone, Debug)]
pub(super) struct Launcher {
    site: Arc<Site>,
    program: Option<PathBuf>,
}

/// What the launchers of all programs share.
#[derive(Debug)]
struct Site {
    settings: Settings,
    profiles: Profiles,
    spawner: Spawner,
    gate: Semaphore,
    life: Lifecycle,
}

/// A browser that answers, and the process it runs in.
#[derive(Debug)]
pub(super) struct Running {
    /// Speaks with it.
    pub(super) chrome: Chrome,
    /// Kills it.
    pub(super) process: Process,
}

impl Launcher {
    /// Prepares the runtime directory, removes leftovers of earlier runs and starts the spawning thread.
    pub(super) fn new(life: &Lifecycle, settings: Settings) -> Result<Self, BrowserError> {
        let owner = Account::for_browser(settings.user.as_deref())?;
        let profiles = Profiles::open(&settings.runtime_dir, owner)?;
        let spawner = Spawner::start(life)?;
        if !settings.sandbox {
            tracing::warn!("browser.sandbox = false: pages run without Chromium's sandbox");
        }
        let (program, gate) = (settings.binary.clone(), Semaphore::new(LAUNCHES_AT_ONCE));
        Ok(Self { site: Arc::new(Site { settings, profiles, spawner, gate, life: life.clone() }), program })
    }

    /// One that starts another program in the same place and by the same rules.
    pub(super) fn of_program(&self, program: &Path) -> Self {
        Self { site: Arc::clone(&self.site), program: Some(program.to_owned()) }
    }

    /// The program that it starts.
    pub(super) fn program(&self) -> Result<PathBuf, BrowserError> {
        find_program(self.program.as_deref())
    }

    /// Starts one browser and waits for its first answer. When `stop` comes meanwhile, what was started is buried.
    pub(super) async fn launch(&self, stop: &CancellationToken) -> Result<Running, BrowserError> {
        let Site { profiles, spawner, gate, life, .. } = &*self.site;
        let turn =
            tokio::select! { () = stop.cancelled() => return Err(BrowserError::Gone), turn = gate.acquire() => turn };
        let _turn = turn.map_err(|_| BrowserError::Gone)?;
        let profile = profiles.create()?;
        let (command, near) = self.command(&profile)?;
        let child = spawner.spawn(command).await?;
        let process = Process::adopt(child, profile, spawner.clone(), life);
        let chrome = Chrome::connect(near.to, near.from, life);
        let ready = tokio::select! {
            biased;
            () = stop.cancelled() => Err(BrowserError::Gone),
            ready = chrome.ready(READY_LIMIT) => ready,
        };
        match ready {
            Ok(()) => Ok(Running { chrome, process }),
            Err(error) => {
                let words = process.last_words();
                chrome.abandon();
                process.bury().await;
                Err(diagnose(&error, &words))
            }
        }
    }

    fn command(&self, profile: &Profile) -> Result<(Command, NearEnds), BrowserError> {
        let Site { settings, profiles, .. } = &*self.site;
        let mut command = Command::new(self.program()?);
        command.args(FLAGS).arg(flag("--user-data-dir=", profile.data()));
        if let Some(languages) = &settings.languages {
            command.arg(flag("--accept-lang=", languages));
        }
        if !settings.sandbox {
            command.arg("--no-sandbox");
        }
        clean_environment(&mut command, profile);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        command.current_dir(profile.home()).process_group(0).kill_on_drop(true);
        if let Some(account) = profiles.owner() {
            // With a user and no groups set, std also drops every supplementary group.
            command.uid(account.uid).gid(account.gid);
        }
        let near = connect_pipes(&mut command).map_err(launch_error)?;
        die_with_parent(&mut command);
        Ok((command, near))
    }
}

/// Our ends of the two pipes.
struct NearEnds {
    to: pipe::Sender,
    from: pipe::Receiver,
}

/// Chromium reads commands from descriptor 3 and writes answers to descriptor 4.
fn connect_pipes(command: &mut Command) -> std::io::Result<NearEnds> {
    let (far_read, near_write) = std::io::pipe()?;
    let (near_read, far_write) = std::io::pipe()?;
    let mapping = |parent_fd: OwnedFd, child_fd| FdMapping { parent_fd, child_fd };
    command
        .as_std_mut()
        .fd_mappings(vec![mapping(far_read.into(), 3), mapping(far_write.into(), 4)])
        .map_err(std::io::Error::other)?;
    Ok(NearEnds {
        to: pipe::Sender::from_owned_fd(near_write.into())?,
        from: pipe::Receiver::from_owned_fd(near_read.into())?,
    })
}

/// Nothing of our environment reaches the browser but the time zone: it may hold secrets.
fn clean_environment(command: &mut Command, profile: &Profile) {
    command.env_clear().env("PATH", "/usr/bin:/bin").env("LANG", "C.UTF-8");
    if let Some(zone) = std::env::var_os("TZ") {
        command.env("TZ", zone);
    }
    let home = profile.home();
    for (name, place) in [("XDG_CONFIG_HOME", "config"), ("XDG_CACHE_HOME", "cache"), ("XDG_DATA_HOME", "share")] {
        command.env(name, home.join(place));
    }
    command.env("TMPDIR", profile.temporary()).env("XDG_RUNTIME_DIR", profile.temporary()).env("HOME", home);
    // Otherwise it searches for a session bus, and may start one.
    command.env("DBUS_SESSION_BUS_ADDRESS", "disabled:");
}

fn flag(name: &str, value: impl Into<OsString>) -> OsString {
    let mut text = OsString::from(name);
    text.push(value.into());
    text
}

/// The first of the usual places that exists, or the one configured.
pub(super) fn find_program(configured: Option<&Path>) -> Result<PathBuf, BrowserError> {
    let candidates = configured.map_or_else(|| PLACES.map(PathBuf::from).to_vec(), |path| vec![path.to_owned()]);
    candidates.iter().find(|path| path.is_file()).cloned().ok_or_else(|| {
        let tried: Vec<_> = candidates.iter().map(|path| path.display().to_string()).collect();
        BrowserError::NotInstalled { tried: tried.join(", ") }
    })
}

/// What Chromium says when its sandbox cannot be set up, across versions.
const SANDBOX_COMPLAINTS: [&str; 6] = [
    "No usable sandbox",
    "Running as root without --no-sandbox",
    "Failed to move to new namespace",
    "setuid_sandbox_host",
    "sandbox_linux",
    "credentials.cc",
];

/// Turns an end before the first answer into its cause, by the process's last words.
fn diagnose(error: &BrowserError, words: &[String]) -> BrowserError {
    let complaint = words.iter().find(|line| SANDBOX_COMPLAINTS.iter().any(|known| line.contains(known)));
    if let Some(line) = complaint {
        return BrowserError::Sandbox { detail: line.clone() };
    }
    let said = words.iter().rev().take(3).rev().map(String::as_str).collect::<Vec<_>>().join(" | ");
    let reason = if said.is_empty() { error.to_string() } else { format!("{error}; it said: {said}") };
    BrowserError::Launch { reason }
}

fn launch_error(error: impl std::fmt::Display) -> BrowserError {
    BrowserError::Launch { reason: error.to_string() }
}

/// The permanent thread that spawns. The parent-death signal is tied to the thread that forked, so no thread of a runtime,
/// which may retire, must do it. Ends when the last clone is dropped, and every browser with it.
#[derive(Clone, Debug)]
pub(super) struct Spawner(mpsc::SyncSender<Order>);

#[derive(Debug)]
struct Order {
    command: Command,
    reply: oneshot::Sender<std::io::Result<Child>>,
}

impl Spawner {
    fn start(life: &Lifecycle) -> Result<Self, BrowserError> {
        // As many as may launch at once, so sending never waits.
        let (orders, inbox) = mpsc::sync_channel::<Order>(LAUNCHES_AT_ONCE);
        let runtime = tokio::runtime::Handle::current();
        life.thread("browser-spawner", move || {
            let _inside = runtime.enter();
            while let Ok(Order { mut command, reply }) = inbox.recv() {
                let _ = reply.send(command.spawn());
            }
        })
        .map_err(launch_error)?;
        Ok(Self(orders))
    }

    async fn spawn(&self, command: Command) -> Result<Child, BrowserError> {
        let (reply, answer) = oneshot::channel();
        self.0.try_send(Order { command, reply }).map_err(|_| launch_error("the spawning thread is gone"))?;
        answer.await.map_err(|_| launch_error("the spawning thread is gone"))?.map_err(launch_error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_browser_is_told_with_the_places_and_the_remedy() {
        let error = find_program(Some(Path::new("/nowhere/chromium"))).unwrap_err().to_string();
        assert!(error.contains("/nowhere/chromium") && error.contains("apt install chromium"), "{error}");
    }

    #[test]
    fn a_sandbox_that_cannot_work_is_told_from_other_ends() {
        let words =
            ["[1:FATAL:zygote_host_impl_linux.cc(129)] No usable sandbox! If you are running on Ubuntu…".to_owned()];
        let error = diagnose(&BrowserError::Gone, &words);
        assert!(matches!(error, BrowserError::Sandbox { .. }), "{error}");
        assert!(error.to_string().contains("browser.sandbox = false"));
        let words = ["error while loading shared libraries: libnss3.so".to_owned()];
        assert!(diagnose(&BrowserError::Gone, &words).to_string().contains("libnss3.so"));
    }
}
