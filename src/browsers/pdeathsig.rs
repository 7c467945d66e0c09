//! Death together: the kernel kills the browser when we end, even by SIGKILL. The room's only `unsafe`, and nothing else.
#![expect(unsafe_code, reason = "only pre_exec can ask for the parent-death signal between fork and exec")]

use std::io;

use rustix::process::{Signal, getpid, getppid, set_parent_process_death_signal};
use tokio::process::Command;

/// Makes the process that `command` starts receive SIGKILL when the *thread* that spawned it ends: spawn it from a thread
/// that lives as long as we do.
pub(super) fn die_with_parent(command: &mut Command) {
    let parent = getpid();
    // SAFETY: the closure runs in the forked child before exec. It allocates nothing, takes no lock and makes two system
    // calls, all of which are safe to do there. Changing the user would clear the signal; std has done that by then.
    unsafe {
        command.pre_exec(move || {
            set_parent_process_death_signal(Some(Signal::KILL))?;
            // Had the parent died before the line above, no signal would ever come.
            if getppid() == Some(parent) { Ok(()) } else { Err(io::Error::from(io::ErrorKind::BrokenPipe)) }
        });
    }
}
