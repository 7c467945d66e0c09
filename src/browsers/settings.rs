//! What the operator may say about the browser. Plain values; reading the configuration file is another room's work.

use std::path::PathBuf;

use super::error::BrowserError;
use super::launch::find_program;
use super::recycle::Recycle;

/// How browsers are started. [`Settings::default`] suits a VPS with Debian's `chromium` package.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The browser's program. Default: the first of the usual places that exists, Debian's `/usr/lib/chromium/chromium`
    /// before wrappers.
    pub binary: Option<PathBuf>,
    /// The account the browser runs as when we are root. Default: `nightporter-browser` if `/etc/passwd` has it, else
    /// `nobody`. It must be able to traverse every directory above `runtime_dir`.
    pub user: Option<String>,
    /// Chromium's own sandbox. Default: true. False passes `--no-sandbox`: a hostile page that breaks out of the renderer
    /// then owns the browser's account and every session in it.
    pub sandbox: bool,
    /// Where each process gets its throw-away profile. Made when missing; must belong to us and be writable by nobody
    /// else. Keep it short: a Unix socket's path below it must fit in 107 bytes. Default: `nightporter-browsers-UID` in
    /// the system's temporary directory.
    pub runtime_dir: PathBuf,
    /// Languages that portals are told the reader prefers, as `ko-KR,ko,en`. Default: Chromium's own (`en-US`).
    pub languages: Option<String>,
    /// When a process is replaced by a fresh one.
    pub recycle: Recycle,
}

impl Settings {
    /// The program that will be started.
    ///
    /// # Errors
    /// [`BrowserError::NotInstalled`] with the places looked at.
    pub fn program(&self) -> Result<PathBuf, BrowserError> {
        find_program(self.binary.as_deref())
    }
}

impl Default for Settings {
    fn default() -> Self {
        let uid = rustix::process::geteuid().as_raw();
        Self {
            binary: None,
            user: None,
            sandbox: true,
            runtime_dir: std::env::temp_dir().join(format!("nightporter-browsers-{uid}")),
            languages: None,
            recycle: Recycle::default(),
        }
    }
}
