//! `nightporter doctor`: looks at the machine with the eyes of the server, and says in plain words what to do. Changes
//! nothing but what a start would change too.

mod browser;
mod machine;
mod store;

use clap::Args;
use serde::Serialize;

use super::exit::{self, Exit, Failure};
use super::{Settings, control, output};
use crate::app::INSPECTORS;
use crate::config::{self, Config};
use crate::http::control as wire;

/// Look whether this machine has what Nightporter needs, and say what to do about what is missing. Run it as the account
/// that the server runs as, with the same configuration.
#[derive(Debug, Args)]
#[command(after_long_help = exit::HELP)]
pub(super) struct Doctor {
    #[command(flatten)]
    settings: Settings,
    /// As JSON
    #[arg(long)]
    json: bool,
}

/// What one look found.
#[derive(Debug, Serialize)]
struct Finding {
    check: &'static str,
    state: State,
    detail: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    remedy: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum State {
    /// Nothing to do.
    Good,
    /// It works, but not as well as it could.
    Advice,
    /// It does not work.
    Failed,
    /// There was nothing to look at.
    Skipped,
}

impl Finding {
    fn good(check: &'static str, detail: impl Into<String>) -> Self {
        Self { check, state: State::Good, detail: detail.into(), remedy: None }
    }

    fn skipped(check: &'static str, detail: impl Into<String>) -> Self {
        Self { check, state: State::Skipped, detail: detail.into(), remedy: None }
    }

    fn advice(check: &'static str, detail: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { check, state: State::Advice, detail: detail.into(), remedy: Some(remedy.into()) }
    }

    fn failed(check: &'static str, detail: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { check, state: State::Failed, detail: detail.into(), remedy: Some(remedy.into()) }
    }
}

#[derive(Serialize)]
struct Report<'a> {
    good: bool,
    findings: &'a [Finding],
}

impl Doctor {
    pub(super) async fn run(self) -> Result<Exit, Failure> {
        let findings = self.examine().await;
        let good = findings.iter().all(|finding| finding.state != State::Failed);
        if self.json {
            output::print_json(&Report { good, findings: &findings })?;
        } else {
            output::print(&show(&findings))?;
        }
        Ok(if good { Exit::Good } else { Exit::Failed })
    }

    async fn examine(&self) -> Vec<Finding> {
        let (mut findings, config) = configuration(&self.settings);
        if let Some(config) = &config {
            let server = running(config).await;
            findings.extend(store::look(&config.store, server.as_ref()));
            findings.extend(machine::ports(&config.server, server.as_ref()));
            findings.extend(browser::look(&config.browser).await);
        } else {
            findings.push(Finding::skipped("store, ports, browser", "they wait for a good configuration"));
        }
        findings.push(machine::fonts().await);
        findings.extend(machine::clock().await);
        findings
    }
}

fn configuration(settings: &Settings) -> (Vec<Finding>, Option<Config>) {
    const CHECK: &str = "configuration";
    let report = config::check(&settings.sources(), &INSPECTORS);
    let failed =
        |problem: &config::Problem| Finding::failed(CHECK, problem.to_string(), "mend it, then run check-config");
    let advice = |problem: &config::Problem| Finding::advice(CHECK, problem.to_string(), "consider changing it");
    let mut findings: Vec<Finding> = report.errors.iter().map(failed).collect();
    if report.is_good() {
        let file = settings.sources().config_file();
        let origin = file.map_or("no file: defaults".to_owned(), |file| file.display().to_string());
        findings.push(Finding::good(CHECK, origin));
    }
    findings.extend(report.warnings.iter().map(advice));
    (findings, report.config)
}

/// The server that runs on this configuration's store.
async fn running(config: &Config) -> Option<wire::Status> {
    let client = control::reach(&config.store.path).await.ok()??;
    client.get("/status").await.ok()
}

fn show(findings: &[Finding]) -> String {
    let mut text = String::new();
    for Finding { check, state, detail, remedy } in findings {
        let mark = match state {
            State::Good => "ok    ",
            State::Advice => "advice",
            State::Failed => "FAILED",
            State::Skipped => "-     ",
        };
        text.push_str(&format!("{mark}  {check}: {detail}\n"));
        if let Some(remedy) = remedy {
            text.push_str(&format!("        → {remedy}\n"));
        }
    }
    let count = |wanted: State| findings.iter().filter(|finding| finding.state == wanted).count();
    match (count(State::Failed), count(State::Advice)) {
        (0, 0) => text.push_str("all is well\n"),
        (0, advice) => text.push_str(&format!("all that is needed is there; {advice} piece(s) of advice\n")),
        (failed, _) => text.push_str(&format!("{failed} check(s) failed\n")),
    }
    text
}
