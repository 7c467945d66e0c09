//! What the appliance holds at a moment: processes, descriptors, memory.

use std::fs;

use crate::stage::Stage;

/// The counts.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Census {
    pub(crate) browsers: usize,
    /// Chromium's processes, all of them.
    pub(crate) processes: usize,
    /// Those that hold pages, or are ready to.
    pub(crate) tabs: usize,
    /// The appliance's open file descriptors.
    pub(crate) descriptors: usize,
    /// The appliance's memory in KiB.
    pub(crate) rss: u64,
    /// Chromium's share of memory in KiB.
    pub(crate) chromium: u64,
}

impl Census {
    pub(crate) fn take(stage: &Stage) -> Self {
        let pid = stage.pid();
        let processes = stage.browser_processes();
        Self {
            browsers: stage.browsers().len(),
            tabs: processes.iter().filter(|pid| is_renderer(**pid)).count(),
            descriptors: fs::read_dir(format!("/proc/{pid}/fd")).map_or(0, Iterator::count),
            rss: kibibytes(&format!("/proc/{pid}/status"), "VmRSS:"),
            chromium: processes.iter().map(|pid| kibibytes(&format!("/proc/{pid}/smaps_rollup"), "Pss:")).sum(),
            processes: processes.len(),
        }
    }
}

fn is_renderer(pid: i32) -> bool {
    let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    String::from_utf8_lossy(&line).contains("--type=renderer")
}

/// The number after `key` in one of the kernel's tables; 0 for a process that has just ended.
fn kibibytes(path: &str, key: &str) -> u64 {
    let text = fs::read_to_string(path).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix(key)).unwrap_or_default();
    line.split_whitespace().next().and_then(|number| number.parse().ok()).unwrap_or(0)
}
