//! `nightporter status`.

use clap::Args;

use super::exit::{self, Exit, Failure};
use super::{Settings, control, output};
use crate::http::control as wire;

/// Say how the running server is doing.
#[derive(Debug, Args)]
#[command(after_long_help = exit::HELP)]
pub(super) struct Status {
    #[command(flatten)]
    settings: Settings,
    /// As JSON
    #[arg(long)]
    json: bool,
}

impl Status {
    pub(super) async fn run(self) -> Result<Exit, Failure> {
        let config = self.settings.load()?;
        let Some(client) = control::reach(&config.store.path).await? else {
            let message = format!("no server runs on the store {}", config.store.path.display());
            return Err(Failure::told(Exit::NotRunning, message));
        };
        let status: wire::Status = client.get("/status").await?;
        if self.json {
            output::print_json(&status)?;
        } else {
            output::print(&show(&status))?;
        }
        Ok(Exit::Good)
    }
}

fn show(status: &wire::Status) -> String {
    let mut rows = vec![
        ("state", if status.ready { "ready".to_owned() } else { "not ready".to_owned() }),
        ("url", status.url.clone()),
    ];
    rows.extend(status.metrics_url.clone().map(|url| ("metrics", url)));
    rows.extend([
        ("version", status.version.clone()),
        ("pid", status.pid.to_string()),
        ("started", status.started_at.local()),
        ("uptime", uptime(status.uptime_seconds)),
        ("store", status.store.display().to_string()),
    ]);
    let mut rows: Vec<Vec<String>> = rows.into_iter().map(|(key, value)| vec![key.to_owned(), value]).collect();
    rows.extend(status.parts.iter().map(|(part, state)| vec![format!("part {part}"), state.clone()]));
    rows.extend(status.portals.iter().map(|(portal, state)| vec![format!("portal {portal}"), state.clone()]));
    output::table(&rows)
}

/// `2d 3h 4m 5s`, without leading zeros.
fn uptime(seconds: u64) -> String {
    let parts = [(seconds / 86_400, "d"), (seconds / 3600 % 24, "h"), (seconds / 60 % 60, "m")];
    let mut text = String::new();
    for (count, unit) in parts {
        if count > 0 || !text.is_empty() {
            text.push_str(&format!("{count}{unit} "));
        }
    }
    text + &format!("{}s", seconds % 60)
}

#[cfg(test)]
mod tests {
    #[test]
    fn an_uptime_starts_with_its_largest_unit() {
        assert_eq!(super::uptime(59), "59s");
        assert_eq!(super::uptime(3600), "1h 0m 0s");
        assert_eq!(super::uptime(93_784), "1d 2h 3m 4s");
    }
}
