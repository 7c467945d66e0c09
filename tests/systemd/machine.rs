//! A machine with a systemd of its own, booted for one test from this one's files and gone with the test.

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::Duration;

/// From the start to a running systemd. Takes 0.5 s on an idle machine.
const BOOT: Duration = Duration::from_secs(60);
/// Between two looks at something that another process brings about.
const LOOK: Duration = Duration::from_millis(50);

/// Where this test's own program is in every machine.
pub(crate) const TESTS: &str = "/usr/local/lib/nightporter-tests";

/// A booted machine; dropped, everything in it ends.
pub(crate) struct Machine {
    name: String,
    host: Child,
    leader: u32,
    console: tempfile::NamedTempFile,
}

impl Machine {
    /// Boots one with the unit and all that belongs to it installed, or says why that cannot be done here: without the
    /// rights of root, which `make test` gets from sudo where it can.
    pub(crate) fn boot() -> Option<Self> {
        if !rustix::process::geteuid().is_root() {
            // Past the test's captured output: nobody must believe that this ran.
            let _ = std::io::stdout().write_all(b"\nnot run: tests/systemd.rs, which needs root to boot a systemd\n");
            return None;
        }
        let nspawn = Path::new("/usr/bin/systemd-nspawn");
        assert!(nspawn.exists(), "systemd-nspawn is missing: `apt-get install systemd-container`, or run `make test`");
        static BOOTED: AtomicU32 = AtomicU32::new(0);
        let name = format!("nightporter-test-{}-{}", std::process::id(), BOOTED.fetch_add(1, Ordering::Relaxed));
        let console = tempfile::NamedTempFile::new().unwrap();
        let tests = std::env::current_exe().unwrap();
        let host = Command::new("setpriv")
            // The kernel takes it down with the thread that started it, so with the test, however that ends.
            .args(["--pdeathsig", "KILL", "unshare", "--mount", "--pid", "--fork", "--kill-child"])
            .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/systemd/boot"))
            .arg(&name)
            .arg(format!("--bind-ro={}:/usr/local/bin/nightporter", env!("CARGO_BIN_EXE_nightporter")))
            .arg(format!("--bind-ro={}:{TESTS}", tests.display()))
            .stdin(Stdio::null())
            .stdout(console.reopen().unwrap())
            .stderr(console.reopen().unwrap())
            .spawn()
            .expect("setpriv of util-linux starts");
        let mut machine = Self { name, host, leader: 0, console };
        machine.leader = machine.until("a first process", BOOT, || machine.find_leader());
        machine.until("a running systemd", BOOT, || {
            let state = machine.run(&["systemctl", "is-system-running"]).stdout;
            matches!(state.trim_ascii(), b"running" | b"degraded").then_some(())
        });
        machine.install();
        Some(machine)
    }

    /// The machine's first process, seen from here: below `unshare` and nspawn, and number 1 two namespaces deeper.
    fn find_leader(&self) -> Option<u32> {
        let nspawn = children(self.host.id()).into_iter().next()?;
        children(nspawn).into_iter().find(|pid| {
            let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
            let numbers = field(&status, "NSpid");
            numbers.split_whitespace().count() == 3 && numbers.ends_with("\t1")
        })
    }

    fn install(&self) {
        self.write("/etc/systemd/system/nightporter.service", include_str!("../../systemd/nightporter.service"));
        self.write("/etc/nightporter/nightporter.toml", include_str!("../../systemd/nightporter.toml"));
        self.write("/usr/lib/sysusers.d/nightporter.conf", include_str!("../../systemd/nightporter.sysusers"));
        self.good(&["systemd-sysusers"]);
        self.good(&["systemctl", "daemon-reload"]);
    }

    /// Writes a file that everybody in the machine may read.
    pub(crate) fn write(&self, path: &str, text: &str) {
        let path = self.outside(path);
        std::fs::create_dir_all(Path::new(&path).parent().unwrap()).unwrap();
        File::create(path).unwrap().write_all(text.as_bytes()).unwrap();
    }

    /// A path of the machine as this process sees it.
    pub(crate) fn outside(&self, path: &str) -> String {
        format!("/proc/{}/root{path}", self.leader)
    }

    /// Changes the unit as an operator would, with a drop-in.
    pub(crate) fn change_unit(&self, lines: &str) {
        self.write("/etc/systemd/system/nightporter.service.d/test.conf", lines);
        self.good(&["systemctl", "daemon-reload"]);
    }

    /// Runs a command in the machine as root, for a minute at most.
    pub(crate) fn run(&self, command: &[&str]) -> Output {
        let leader = self.leader.to_string();
        let enter = ["--kill-after=5", "60", "nsenter", "--target", &leader, "--all"];
        Command::new("timeout").args(enter).args(command).stdin(Stdio::null()).output().unwrap()
    }

    /// Runs a command that must succeed and returns what it printed.
    pub(crate) fn good(&self, command: &[&str]) -> String {
        let output = self.run(command);
        let (out, error) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "{command:?}: {}\n{out}{error}", output.status);
        out.trim().to_owned()
    }

    /// Runs the program as the service's user.
    pub(crate) fn nightporter(&self, arguments: &[&str]) -> String {
        let user = ["setpriv", "--reuid=nightporter", "--regid=nightporter", "--clear-groups", "nightporter"];
        let config = ["--config", "/etc/nightporter/nightporter.toml"];
        self.good(&[user.as_slice(), arguments, config.as_slice()].concat())
    }

    /// A property of the service, such as `ActiveState`.
    pub(crate) fn property(&self, name: &str) -> String {
        self.good(&["systemctl", "show", "--property", name, "--value", "nightporter.service"])
    }

    /// The main process's number in the machine.
    pub(crate) fn main_pid(&self) -> String {
        self.property("MainPID")
    }

    /// The status line and body with which the service answers a GET.
    pub(crate) fn get(&self, path: &str) -> String {
        let dialogue = "exec 3<>/dev/tcp/127.0.0.1/8080 && printf 'GET %s HTTP/1.1\\r\\nHost: localhost\\r\\n\
                        Connection: close\\r\\n\\r\\n' \"$0\" >&3 && cat <&3";
        self.good(&["bash", "-c", dialogue, path])
    }

    /// Looks again and again until there is something to see, at most `limit`.
    pub(crate) fn until<T>(&self, what: &str, limit: Duration, mut look: impl FnMut() -> Option<T>) -> T {
        for _ in 0..limit.as_millis() / LOOK.as_millis() {
            if let Some(seen) = look() {
                return seen;
            }
            thread::sleep(LOOK);
        }
        panic!("after {limit:?} there is no {what}");
    }
}

impl Drop for Machine {
    #[expect(clippy::print_stderr, reason = "belongs to the failed test's output")]
    fn drop(&mut self) {
        if thread::panicking() {
            let console = std::fs::read_to_string(self.console.path()).unwrap_or_default();
            eprintln!("--- the machine's console\n{console}");
            if self.leader != 0 {
                let journal = self.run(&["journalctl", "--no-pager", "--lines=80", "--output=short-monotonic"]);
                eprintln!("--- its journal\n{}", String::from_utf8_lossy(&journal.stdout));
            }
        }
        // `unshare` takes nspawn with it, and nspawn, as the first of its process namespace, everything else.
        let _ = self.host.kill();
        let _ = self.host.wait();
        let unified = Path::new("/sys/fs/cgroup/unified");
        let cgroups = if unified.is_dir() { unified } else { Path::new("/sys/fs/cgroup") };
        // It can be removed once the last of them is gone. Should that take too long, the next run does it.
        for _ in 0..100 {
            if remove_cgroup(&cgroups.join(&self.name)).is_ok() {
                return;
            }
            thread::sleep(LOOK);
        }
    }
}

/// Removes a cgroup and those below it; it fails while a process is in one of them.
fn remove_cgroup(path: &Path) -> std::io::Result<()> {
    for entry in std::fs::read_dir(path)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            remove_cgroup(&entry.path())?;
        }
    }
    std::fs::remove_dir(path)
}

/// A field of `/proc/PID/status`.
pub(crate) fn field<'a>(status: &'a str, name: &str) -> &'a str {
    status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).unwrap_or_default().trim()
}

fn children(pid: u32) -> Vec<u32> {
    let list = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    list.split_whitespace().filter_map(|pid| pid.parse().ok()).collect()
}
