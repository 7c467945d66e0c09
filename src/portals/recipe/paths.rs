//! The ways through a login: what can follow what, and what must not be possible on any way.

use super::step::{Action, Step, Then};
use crate::config::{Place, Reading};

/// Looks at every way from the first step to the end, and notes what is wrong with any of them.
pub(super) fn check(steps: &[Step], reading: &Reading, file: &std::path::Path) {
    let place = |index: usize| Place::File { file: file.to_owned(), line: steps[index].line };
    let key = |index: usize| format!("login.steps[{index}]");
    let reachable = reach(steps, 0, |_| true);
    if !reachable[steps.len()] {
        reading.problem(&place(0), "login.steps", "no way through the steps leads to their end");
    }
    // Steps that can be reached while no click has sent a code yet.
    let uncoded = reach(steps, 0, |index| !steps[index].sends_code());
    for (index, step) in steps.iter().enumerate() {
        let after = successors(steps, index);
        let repeats = after.iter().any(|next| reach(steps, *next, |_| true)[index]);
        if !reachable[index] {
            reading.warning(&place(index), &key(index), "is never reached");
        } else if matches!(step.action, Action::Code { .. }) && uncoded[index] {
            let reason = "can be reached before a click with sends_code = true: codes count from that click";
            reading.problem(&place(index), &key(index), reason);
        } else if repeats && step.types_password() {
            let reason = "types the password, and a branch leads back to it: a wrong password is tried once";
            reading.problem(&place(index), &key(index), reason);
        } else if repeats && step.sends_code() {
            let reason = "sends a code, and a branch leads back to it: every round costs an SMS";
            reading.warning(&place(index), &key(index), reason);
        }
        if let Some(label) = &step.label
            && !steps.iter().any(|step| jumps_to(step, index))
        {
            reading.warning(&place(index), &key(index), format!("no branch leads to the label \"{label}\""));
        }
    }
}

fn jumps_to(step: &Step, index: usize) -> bool {
    matches!(&step.action, Action::Branch(arms) if arms.iter().any(|arm| arm.then == Then::Next(index)))
}

/// What can follow a step; the number of steps stands for the end.
fn successors(steps: &[Step], index: usize) -> Vec<usize> {
    let next = |then: &Then| if let Then::Next(next) = then { Some(*next) } else { None };
    match &steps[index].action {
        Action::Branch(arms) => arms.iter().filter_map(|arm| next(&arm.then)).collect(),
        _ => vec![index + 1],
    }
}

/// Which steps can be reached from `start`, going on only from those that `passable` lets through.
fn reach(steps: &[Step], start: usize, passable: impl Fn(usize) -> bool) -> Vec<bool> {
    let mut reached = vec![false; steps.len() + 1];
    let mut open = vec![start];
    while let Some(index) = open.pop() {
        if !std::mem::replace(&mut reached[index], true) && index < steps.len() && passable(index) {
            open.extend(successors(steps, index));
        }
    }
    reached
}
