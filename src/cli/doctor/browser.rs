//! Chromium: whether it is there, and whether a session can be opened in it with its sandbox on.

use std::path::Path;
use std::time::Duration;

use super::{Finding, machine};
use crate::app;
use crate::browsers::{BrowserError, ContextOptions, Pool, Seat, Settings};
use crate::config;
use crate::lifecycle::Lifecycle;

/// How long the browser may take to end.
const END_LIMIT: Duration = Duration::from_secs(10);

pub(super) async fn look(config: &config::Browser) -> Vec<Finding> {
    let settings = app::browser_settings(config);
    let program = match settings.program() {
        Ok(program) => program,
        Err(error) => {
            let remedy = "`apt install chromium`, or set browser.binary";
            return vec![Finding::failed("browser", error.to_string(), remedy)];
        }
    };
    let mut findings = vec![version(&program).await];
    findings.push(launch(settings).await);
    findings
}

async fn version(program: &Path) -> Finding {
    let shown = program.display();
    match machine::run(program, &["--version"]).await {
        Some(version) => Finding::good("browser", format!("{shown}, {}", version.trim())),
        None => Finding::advice("browser", format!("{shown} does not tell its version"), "is it really Chromium?"),
    }
}

/// Opens a session the way a login does.
async fn launch(settings: Settings) -> Finding {
    const CHECK: &str = "browser sandbox";
    let sandbox = settings.sandbox;
    let life = Lifecycle::new();
    let opened = async {
        let context = Pool::new(&life, settings)?.open(Seat::A, ContextOptions::default()).await?;
        context.dispose().await
    };
    let opened: Result<(), BrowserError> = opened.await;
    life.shutdown(END_LIMIT).await;
    match opened {
        Ok(()) if sandbox => Finding::good(CHECK, "a session opens with the sandbox on"),
        Ok(()) => Finding::advice(
            CHECK,
            "a session opens, but browser.sandbox is off: a hostile page owns the browser's account",
            "remove browser.sandbox = false",
        ),
        Err(error @ BrowserError::Sandbox { .. }) => Finding::failed(
            CHECK,
            error.to_string(),
            "`sysctl -w kernel.unprivileged_userns_clone=1` (Debian) or \
             `sysctl -w kernel.apparmor_restrict_unprivileged_userns=0` (Ubuntu); under systemd use the shipped unit",
        ),
        Err(error) => {
            Finding::failed(CHECK, error.to_string(), "start the program by hand as the same user to see more")
        }
    }
}
