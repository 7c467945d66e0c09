//! Portals and their history as text for people. Reads what the API answers, members it does not know included.

use serde_json::Value;

use crate::cli::output::{self, time, word};

/// The portals of a list.
pub(super) fn portals(answer: &Value) -> impl Iterator<Item = &Value> {
    answer["portals"].as_array().into_iter().flatten()
}

/// The phones of a portal.
fn phones(portal: &Value) -> impl Iterator<Item = &Value> {
    portal["phones"].as_array().into_iter().flatten()
}

/// A line for each portal.
pub(super) fn list(answer: &Value) -> String {
    let mut rows = vec![["PORTAL", "STATE", "ACTIVE", "STANDBY", "PHONE", "LAST FAILURE"].map(str::to_owned).to_vec()];
    for portal in portals(answer) {
        let slot = |slot: &str| portal[slot]["status"].as_str().unwrap_or("-").to_owned();
        let phones: Vec<_> =
            phones(portal).map(|it| format!("{} ({})", word(&it["name"]), word(&it["state"]))).collect();
        let phones = if phones.is_empty() { "-".to_owned() } else { phones.join(", ") };
        let failure = match portal["last_failure"]["cause"].as_str() {
            Some(cause) => format!("{cause}, {}", time(&portal["last_failure"]["at"])),
            None => "-".to_owned(),
        };
        rows.push(vec![
            word(&portal["portal"]),
            word(&portal["state"]),
            slot("active"),
            slot("standby"),
            phones,
            failure,
        ]);
    }
    if rows.len() == 1 { "no portal is configured\n".to_owned() } else { output::table(&rows) }
}

/// Everything about a portal.
pub(super) fn portal(view: &Value) -> String {
    let mut rows = vec![("portal", word(&view["portal"])), ("state", word(&view["state"]))];
    rows.push(("epoch", view["epoch"].to_string()));
    for name in ["active", "standby"] {
        rows.push((name, slot(&view[name])));
    }
    for phone in phones(view) {
        let seen = time(&phone["last_seen_at"]);
        rows.push(("phone", format!("{}, {}, last seen {seen}", word(&phone["name"]), word(&phone["state"]))));
    }
    let failure = &view["last_failure"];
    if failure.is_object() {
        rows.push(("last failure", format!("{}, {}", word(&failure["cause"]), time(&failure["at"]))));
        rows.push(("", word(&failure["detail"])));
    }
    for (name, limit) in [("lives unused", "idle"), ("lives at most", "absolute")] {
        if let Some(seconds) = view["learned"][limit].as_f64() {
            rows.push((name, format!("{:.0} min, as learned", seconds / 60.0)));
        }
    }
    rows.push(("next check", time(&view["next_check_at"])));
    let drill = &view["last_drill"];
    if drill.is_object() {
        rows.push(("last drill", format!("{}, {}", word(&drill["detail"]), time(&drill["at"]))));
    }
    if view["next_drill_at"].is_string() {
        rows.push(("next drill", time(&view["next_drill_at"])));
    }
    let rows: Vec<_> = rows.into_iter().map(|(key, value)| vec![key.to_owned(), value]).collect();
    output::table(&rows)
}

fn slot(slot: &Value) -> String {
    if !slot.is_object() {
        return "-".to_owned();
    }
    let mut text = word(&slot["status"]);
    if let Some(id) = slot["session_id"].as_str() {
        text.push_str(&format!(", {}", id.get(..8).unwrap_or(id)));
    }
    if slot["authenticated_at"].is_string() {
        text.push_str(&format!(", since {}", time(&slot["authenticated_at"])));
    }
    match slot["last_check_ok"].as_bool() {
        Some(true) => text.push_str(&format!(", alive {}", time(&slot["last_check_at"]))),
        Some(false) => text.push_str(&format!(", not known to live {}", time(&slot["last_check_at"]))),
        None => {}
    }
    text
}

/// A line for each event, newest first.
pub(super) fn events(answer: &Value) -> String {
    let event = |event: &Value| {
        let session = event["session_id"].as_str().map(|id| id.get(..8).unwrap_or(id)).unwrap_or_default();
        vec![time(&event["at"]), word(&event["kind"]), session.to_owned(), word(&event["detail"])]
    };
    let rows: Vec<_> = answer["events"].as_array().into_iter().flatten().map(event).collect();
    if rows.is_empty() { "nothing has happened yet\n".to_owned() } else { output::table(&rows) }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn portals_line_up_and_missing_things_are_dashes() {
        let answer = json!({"portals": [
            {"portal": "한빛", "state": "degraded", "active": {"status": "authenticated"}, "standby": {"status": "failed"},
             "phones": [{"name": "office", "state": "silent"}], "last_failure": null},
            {"portal": "acme", "state": "paused", "active": null, "standby": null, "phones": [], "last_failure": null},
        ]});
        let expected = "\
PORTAL  STATE     ACTIVE         STANDBY  PHONE            LAST FAILURE
한빛    degraded  authenticated  failed   office (silent)  -
acme    paused    -              -        -                -
";
        assert_eq!(list(&answer), expected);
        let two = json!({"phones": [{"name": "office", "state": "silent"}, {"name": "backup", "state": "proven"}],
            "last_drill": {"ok": true, "at": "x", "detail": "logged in"}, "learned": {"idle": 1800, "absolute": null}});
        let shown = portal(&two);
        for row in
            ["office, silent", "backup, proven", "last drill    logged in, x\n", "lives unused  30 min, as learned\n"]
        {
            assert!(shown.contains(row), "{shown}");
        }
        assert_eq!(list(&json!({"portals": []})), "no portal is configured\n");
        assert_eq!(events(&json!({"events": []})), "nothing has happened yet\n");
    }
}
