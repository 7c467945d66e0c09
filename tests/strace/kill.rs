//! A test of this binary that is run on its own and killed at the step of its work that is asked for.

use std::path::Path;
use std::process::{Command, Stdio};

/// The calls that change what a directory holds, or make sure of it.
const STEPS: &str = "mkdir,rename,unlinkat,rmdir,fsync";

/// Runs the ignored test `name` until it makes its `step`th call of [`STEPS`]; false when it ended before that.
pub(crate) fn killed_at(step: usize, name: &str, environment: &[(&str, &Path)]) -> bool {
    let mut strace = Command::new("strace");
    strace.args(["-f", "-qq", "-o", "/dev/null", "-e", &format!("trace={STEPS}")]);
    strace.args(["-e", &format!("inject={STEPS}:signal=KILL:when={step}")]);
    strace.arg(std::env::current_exe().unwrap()).args(["--ignored", "--exact", name]).envs(environment.iter().copied());
    !strace.stdout(Stdio::null()).stderr(Stdio::null()).status().unwrap().success()
}
