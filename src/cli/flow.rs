//! `nightporter flow …`: what an operator sees of the flows and does about one that is stuck, asked of the running server.

use clap::builder::NonEmptyStringValueParser;
use clap::{Args, Subcommand};
use hyper::Method;
use serde_json::Value;

use super::exit::{self, Exit, Failure};
use super::output::{time, word};
use super::{Settings, control, output};

/// See the flows of the running server, and try again what has failed.
#[derive(Debug, Args)]
#[command(after_long_help = exit::HELP)]
pub(super) struct Flow {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// The kinds of flows, or the flows of a kind by state and age.
    #[command(after_long_help = exit::HELP)]
    List(List),
    /// Everything about one flow.
    #[command(after_long_help = exit::HELP)]
    Show(One),
    /// Try again what has failed in the background, from the call that failed.
    #[command(after_long_help = exit::HELP)]
    Retry(One),
}

#[derive(Debug, Args)]
struct List {
    /// The kind, as in the configuration; all kinds without it
    flow: Option<String>,
    /// Only those in this state
    #[arg(long, requires = "flow")]
    status: Option<String>,
    /// Only those that have been in their state for so long, such as 30m
    #[arg(long, value_name = "DURATION", requires = "flow")]
    older_than: Option<String>,
    /// Only those that are stuck
    #[arg(long, requires = "flow")]
    stuck: bool,
    /// Go on where a list before has ended
    #[arg(long, requires = "flow")]
    cursor: Option<String>,
    #[command(flatten)]
    settings: Settings,
    /// As JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
struct One {
    /// The kind, as in the configuration
    #[arg(value_parser = NonEmptyStringValueParser::new())]
    flow: String,
    /// Its id
    #[arg(value_parser = NonEmptyStringValueParser::new())]
    id: String,
    #[command(flatten)]
    settings: Settings,
    /// As JSON
    #[arg(long)]
    json: bool,
}

impl Flow {
    pub(super) async fn run(self) -> Result<Exit, Failure> {
        match self.action {
            Action::List(list) => {
                let answer = ask(&list.settings, Method::GET, &list.path()).await?;
                print(&answer, list.json, if list.flow.is_some() { flows } else { kinds })?;
            }
            Action::Show(one) => print(&ask(&one.settings, Method::GET, &one.path("")).await?, one.json, flow)?,
            Action::Retry(one) => {
                let answer = ask(&one.settings, Method::POST, &one.path("/retry")).await?;
                print(&answer, one.json, |flow| format!("{} is tried again\n", word(&flow["running"])))?;
            }
        }
        Ok(Exit::Good)
    }
}

impl List {
    fn path(&self) -> String {
        let Some(flow) = &self.flow else { return String::new() };
        let mut query = url::form_urlencoded::Serializer::new(String::new());
        let given = [("status", &self.status), ("older_than", &self.older_than), ("cursor", &self.cursor)];
        for (name, value) in given {
            query.extend_pairs(value.iter().map(|value| (name, value)));
        }
        if self.stuck {
            query.append_pair("stuck", "true");
        }
        format!("/{}?{}", encoded(flow), query.finish())
    }
}

impl One {
    fn path(&self, rest: &str) -> String {
        format!("/{}/{}{rest}", encoded(&self.flow), encoded(&self.id))
    }
}

fn encoded(text: &str) -> String {
    percent_encoding::utf8_percent_encode(text, percent_encoding::NON_ALPHANUMERIC).to_string()
}

async fn ask(settings: &Settings, method: Method, path: &str) -> Result<Value, Failure> {
    control::server(settings).await?.call(method, &format!("/api/flows{path}"), None).await
}

fn print(answer: &Value, json: bool, show: impl Fn(&Value) -> String) -> Result<(), Failure> {
    let printed = if json { output::print_json(answer) } else { output::print(&show(answer)) };
    Ok(printed?)
}

fn listed(answer: &Value) -> impl Iterator<Item = &Value> {
    answer["flows"].as_array().into_iter().flatten()
}

/// A line for each kind.
fn kinds(answer: &Value) -> String {
    let mut rows = vec![["FLOW", "LIVES", "FIRST STATE", "TRANSITIONS"].map(str::to_owned).to_vec()];
    for kind in listed(answer) {
        let names = kind["transitions"].as_array().into_iter().flatten().map(|one| word(&one["name"]));
        let names: Vec<String> = names.collect();
        rows.push(vec![word(&kind["flow"]), word(&kind["ttl"]), word(&kind["initial"]), names.join(", ")]);
    }
    if rows.len() == 1 { "no flow is configured\n".to_owned() } else { output::table(&rows) }
}

/// A line for each flow of a kind.
fn flows(answer: &Value) -> String {
    let mut rows = vec![["ID", "STATE", "SINCE", "RUNNING", "STUCK", "EXPIRES"].map(str::to_owned).to_vec()];
    for flow in listed(answer) {
        let age = format!("{} s", flow["age_seconds"].as_u64().unwrap_or_default());
        let (running, stuck) = (word(&flow["running"]), word(&flow["stuck"]));
        rows.push(vec![word(&flow["id"]), word(&flow["status"]), age, running, stuck, time(&flow["expires_at"])]);
    }
    let mut text = if rows.len() == 1 { "no such flow\n".to_owned() } else { output::table(&rows) };
    if let Some(next) = answer["next"].as_str() {
        text.push_str(&format!("more: --cursor {next}\n"));
    }
    text
}

/// Everything about a flow but its data, which is its application's.
fn flow(view: &Value) -> String {
    let flags = view["progress"].as_object().into_iter().flatten();
    let set: Vec<&str> = flags.filter(|(_, set)| **set == true).map(|(flag, _)| flag.as_str()).collect();
    let mut rows = vec![
        vec!["flow".to_owned(), format!("{} {}", word(&view["flow"]), word(&view["id"]))],
        vec!["state".to_owned(), word(&view["status"])],
        vec!["flags".to_owned(), if set.is_empty() { "-".to_owned() } else { set.join(", ") }],
        vec!["running".to_owned(), word(&view["running"])],
        vec!["begun".to_owned(), time(&view["created_at"])],
        vec!["expires".to_owned(), time(&view["expires_at"])],
    ];
    for message in view["messages"].as_array().into_iter().flatten() {
        rows.push(vec![time(&message["timestamp"]), word(&message["type"]), word(&message["message"])]);
    }
    output::table(&rows)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn flows_line_up_and_a_list_that_goes_on_says_how() {
        let one = json!({"id": "ab", "status": "실패", "age_seconds": 90, "running": null, "stuck": "failed", "expires_at": "x"});
        let shown = flows(&json!({"flows": [one], "next": "ab"}));
        let expected =
            "ID  STATE  SINCE  RUNNING  STUCK   EXPIRES\nab  실패   90 s   -        failed  x\nmore: --cursor ab\n";
        assert_eq!(shown, expected);
        assert_eq!(flows(&json!({"flows": [], "next": null})), "no such flow\n");
        let view = json!({"flow": "identity", "id": "ab", "status": "started", "progress": {"a": true, "b": false},
            "messages": [{"timestamp": "x", "type": "info", "message": "안녕"}]});
        let shown = flow(&view);
        assert!(shown.contains("flags    a\n") && shown.contains("info") && shown.contains("안녕\n"), "{shown}");
    }
}
