//! The machine around: ports, fonts, the clock.

use std::ffi::OsStr;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tokio::process::Command;

use super::Finding;
use crate::clock::{self, Clock, Time};
use crate::config;
use crate::http::control::Status;

/// How long a program that is asked something may take.
const ASK_LIMIT: Duration = Duration::from_secs(10);

/// What a clock must be past: this program was not there before.
const NOT_BEFORE: Time = Time::from_millis(1_767_225_600_000); // 2026-01-01

/// What `program` prints, if it can be run and succeeds in time.
pub(super) async fn run(program: impl AsRef<OsStr>, arguments: &[&str]) -> Option<String> {
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true);
    let output = clock::within(ASK_LIMIT, command.output()).await.ok()?.ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Whether the ports can be bound, or are by the running server.
pub(super) fn ports(config: &config::Server, server: Option<&Status>) -> Vec<Finding> {
    let running = |url: Option<&String>, address: &SocketAddr| {
        url.is_some_and(|url| url.split("://").nth(1) == Some(address.to_string().as_str()))
    };
    let mut findings = Vec::new();
    let wanted = [
        ("server.listen", Some(config.listen), server.map(|server| &server.url)),
        ("server.metrics_listen", config.metrics_listen, server.and_then(|server| server.metrics_url.as_ref())),
    ];
    for (key, address, served) in wanted {
        let Some(address) = address else { continue };
        findings.push(match TcpListener::bind(address) {
            Ok(_) => Finding::good("port", format!("{address} ({key}) is free")),
            Err(_) if running(served, &address) => {
                Finding::good("port", format!("{address} ({key}) is served by the running server"))
            }
            Err(error) => {
                let remedy = format!("see who has it (`ss -ltnp`), or set {key} to another");
                Finding::failed("port", format!("{address} ({key}): {error}"), remedy)
            }
        });
    }
    findings
}

/// Whether screenshots can show Korean.
pub(super) async fn fonts() -> Finding {
    const CHECK: &str = "Korean fonts";
    let listed = run("fc-list", &[":lang=ko", "family"]).await;
    let found = match &listed {
        Some(families) => families.lines().map(str::trim).find(|family| !family.is_empty()).map(str::to_owned),
        None => font_file(Path::new("/usr/share/fonts")).or_else(|| font_file(Path::new("/usr/local/share/fonts"))),
    };
    match found {
        Some(family) => Finding::good(CHECK, family),
        None => {
            let detail = "none: screenshots of Korean pages show boxes instead of letters";
            Finding::advice(CHECK, detail, "`apt install fonts-nanum`")
        }
    }
}

/// A font file below `root` whose name is that of a Korean family; for machines without fontconfig's tools.
fn font_file(root: &Path) -> Option<String> {
    const KNOWN: [&str; 6] = ["nanum", "cjk", "baekmuk", "unbatang", "undotum", "pretendard"];
    let mut rooms = vec![root.to_owned()];
    // Font directories are two or three levels deep; the bound is for links that lead in circles.
    for _ in 0..10_000 {
        let entries = std::fs::read_dir(rooms.pop()?);
        let paths: Vec<PathBuf> = entries.into_iter().flatten().flatten().map(|entry| entry.path()).collect();
        for path in paths {
            let name = path.file_name().unwrap_or_default().to_string_lossy().to_lowercase();
            if path.is_dir() {
                rooms.push(path);
            } else if KNOWN.iter().any(|known| name.contains(known)) {
                return Some(path.display().to_string());
            }
        }
    }
    None
}

/// Whether the clock can be right: codes and tokens expire by it.
pub(super) async fn clock() -> Vec<Finding> {
    let now = Clock::system().now();
    if now < NOT_BEFORE {
        let detail = format!("{now} lies in the past");
        return vec![Finding::failed("clock", detail, "`timedatectl set-ntp true`, or set it with `date -s`")];
    }
    let mut findings = vec![Finding::good("clock", now.local())];
    findings.push(
        match run("timedatectl", &["show", "--property=NTPSynchronized", "--value"]).await.as_deref().map(str::trim) {
            Some("yes") => Finding::good("time service", "the clock is synchronised"),
            Some(_) => Finding::advice(
                "time service",
                "the clock is not synchronised: codes may look too old or too new",
                "`timedatectl set-ntp true`, or install chrony",
            ),
            None => Finding::skipped("time service", "timedatectl does not answer here"),
        },
    );
    findings
}
