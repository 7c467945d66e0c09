//! The portals' present state as gauges, written at the moment somebody asks: a portal that left the configuration leaves
//! no series behind, and none is older than the answer.

use std::fmt::Write as _;

use crate::clock::Time;
use crate::portals::Portals;
use crate::portals::portal::{SlotView, View};

/// Every state that a portal can show.
const STATES: [&str; 6] = ["starting", "live", "degraded", "recovering", "down", "paused"];

/// One gauge: its name, what it says, and its samples as label text and value.
type Gauge = (&'static str, &'static str, fn(&View) -> Vec<(String, f64)>);

const GAUGES: [Gauge; 5] = [
    ("nightporter_portal_state", "1 for the state that a portal is in, 0 for the others", state),
    ("nightporter_portal_epoch", "Grows by one with every change of the active session", epoch),
    ("nightporter_portal_sessions", "1 for the status of a portal's active and standby session", sessions),
    ("nightporter_portal_last_check_timestamp_seconds", "When a session was last checked, in Unix time", last_check),
    ("nightporter_portal_last_check_ok", "1 when a session was alive at its last check, else 0", last_check_ok),
];

/// The gauges in Prometheus' text format. Labels are names from the configuration and words of the API.
pub(super) fn page(portals: &Portals) -> String {
    let views: Vec<View> = portals.all().iter().filter_map(|portal| portal.view().ok()).collect();
    let mut page = String::new();
    for (name, help, samples) in GAUGES {
        // Writing to a string does not fail.
        let _ = writeln!(page, "# HELP {name} {help}\n# TYPE {name} gauge");
        for view in &views {
            for (labels, value) in samples(view) {
                let _ = writeln!(page, "{name}{{portal=\"{}\"{labels}}} {value}", view.portal);
            }
        }
        page.push('\n');
    }
    page
}

fn state(view: &View) -> Vec<(String, f64)> {
    STATES.map(|state| (format!(",state=\"{state}\""), number(state == view.state))).to_vec()
}

fn epoch(view: &View) -> Vec<(String, f64)> {
    vec![(String::new(), view.epoch as f64)]
}

fn sessions(view: &View) -> Vec<(String, f64)> {
    slots(view, |slot| Some((format!(",status=\"{}\"", slot.status), 1.0)))
}

fn last_check(view: &View) -> Vec<(String, f64)> {
    let seconds = |at: Time| at.as_millis() as f64 / 1000.0;
    slots(view, |slot| Some((String::new(), seconds(slot.last_check_at?))))
}

fn last_check_ok(view: &View) -> Vec<(String, f64)> {
    slots(view, |slot| Some((String::new(), number(slot.last_check_ok?))))
}

fn slots(view: &View, sample: impl Fn(&SlotView) -> Option<(String, f64)>) -> Vec<(String, f64)> {
    let slots = [("active", &view.active), ("standby", &view.standby)];
    let named = slots.into_iter().filter_map(|(name, slot)| Some((name, sample(slot.as_ref()?)?)));
    named.map(|(name, (labels, value))| (format!(",slot=\"{name}\"{labels}"), value)).collect()
}

const fn number(truth: bool) -> f64 {
    if truth { 1.0 } else { 0.0 }
}
