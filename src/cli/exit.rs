//! Exit codes: the one place that defines them and tells which failure ends with which.

use std::io;
use std::process::ExitCode;

use super::control::Refused;
use super::output;
use crate::app::StartError;
use crate::config::ConfigError;
use crate::flows::FlowsError;
use crate::http::control::socket::SocketError;
use crate::portals::PortalsError;
use crate::store::StoreError;
use crate::store::compact::CompactError;
use crate::store::engine::EngineError;
use crate::store::snapshot::SnapshotError;

/// What every command's long help says about them. The numbers from 65 on are those of `sysexits.h`.
pub(super) const HELP: &str = "\
Exit codes:
  0   done; for doctor and check-config: all is well; for portal try: logged in
  1   failed; standard error says why
  2   wrong usage
  3   the server is not running
  4   sms explain: no code would be taken
  65  the store, a snapshot or the audit log is damaged, or a newer program wrote it; the message says what to do
  69  unavailable: a port is taken, or the server does not answer
  75  the store is in use by another process
  77  the store belongs to another user, or cannot be written
  78  the configuration cannot be used";

/// How the process ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Exit {
    /// Done.
    Good = 0,
    /// Failed; the message says why.
    Failed = 1,
    /// The server is not running.
    NotRunning = 3,
    /// No code would be taken from the message.
    NoCode = 4,
    /// The store or a snapshot is damaged, or a newer program wrote it: another try cannot help.
    Damaged = 65,
    /// A port is taken, or the server does not answer.
    Unavailable = 69,
    /// The store is in use by another process.
    InUse = 75,
    /// The store belongs to another user, or cannot be written.
    NotAllowed = 77,
    /// The configuration cannot be used.
    Config = 78,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// A failure with the code it ends in.
#[derive(Debug)]
pub(super) struct Failure {
    exit: Exit,
    error: anyhow::Error,
}

impl Failure {
    /// A failure that ends in `exit`.
    pub(super) fn new(exit: Exit, error: impl Into<anyhow::Error>) -> Self {
        Self { exit, error: error.into() }
    }

    /// A failure told in words.
    pub(super) fn told(exit: Exit, message: impl std::fmt::Display) -> Self {
        Self::new(exit, anyhow::anyhow!("{message}"))
    }

    /// The same failure with what was being done in front.
    pub(super) fn context(self, doing: &'static str) -> Self {
        Self { exit: self.exit, error: self.error.context(doing) }
    }

    /// What the server answered, if that is what failed.
    pub(super) fn refused(&self) -> Option<&Refused> {
        self.error.downcast_ref()
    }

    /// Tells what failed, one problem a line.
    pub(super) fn report(&self) -> ExitCode {
        for line in told(&self.error).lines() {
            output::complain(&format!("error: {line}\n"));
        }
        self.exit.into()
    }
}

/// The failure and its causes, of which many say what the one below them said already.
fn told(error: &anyhow::Error) -> String {
    error.chain().fold(String::new(), |told, cause| {
        let cause = cause.to_string();
        match told.as_str() {
            "" => cause,
            _ if told.ends_with(&cause) => told,
            _ => format!("{told}: {cause}"),
        }
    })
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        Self::new(Exit::Failed, error)
    }
}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Self {
        Self::new(Exit::Config, error)
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        let exit = match &error {
            StoreError::Engine(EngineError::InUse { .. }) => Exit::InUse,
            StoreError::Engine(EngineError::Directory { path, source }) if is_forbidden(source) => {
                let (path, user) = (path.display(), rustix::process::geteuid().as_raw());
                return Self::told(Exit::NotAllowed, format!("user {user} cannot write the store: {path}: {source}"));
            }
            StoreError::NewerStore { .. } | StoreError::Newer { .. } => Exit::Damaged,
            damage if damage.is_damage() => Exit::Damaged,
            _ => Exit::Failed,
        };
        Self::new(exit, error)
    }
}

fn is_forbidden(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem)
}

impl From<SnapshotError> for Failure {
    fn from(error: SnapshotError) -> Self {
        match error {
            SnapshotError::Store(error) => error.into(),
            SnapshotError::Damaged { .. } => Self::new(Exit::Damaged, error),
            SnapshotError::Exists(_) => Self::told(Exit::Failed, format!("{error}; --force replaces it")),
            SnapshotError::NotEmpty(_) => Self::told(Exit::Failed, format!("{error}; --force puts it aside")),
            error => Self::new(Exit::Failed, error),
        }
    }
}

impl From<CompactError> for Failure {
    fn from(error: CompactError) -> Self {
        match error {
            CompactError::Store(error) => error.into(),
            CompactError::Differs { .. } | CompactError::Interrupted => Self::new(Exit::Failed, error),
        }
    }
}

impl From<StartError> for Failure {
    fn from(error: StartError) -> Self {
        let exit = match error {
            StartError::Store(error) => return error.into(),
            StartError::Damaged { .. } => Exit::Damaged,
            StartError::Vault(_)
            | StartError::WrongKey { .. }
            | StartError::KeyLost { .. }
            | StartError::Tls(_)
            | StartError::Channel(_)
            | StartError::Portals(PortalsError::Recipe(_))
            | StartError::Flows(FlowsError::Definition(_))
            | StartError::Control(SocketError::TooLong(_)) => Exit::Config,
            StartError::Listen { .. } => Exit::Unavailable,
            StartError::Control(_)
            | StartError::Snapshot(_)
            | StartError::Untold(_)
            | StartError::Outbox(_)
            | StartError::Browser(_)
            | StartError::Workers(_)
            | StartError::Authorities(_)
            | StartError::Bench(_)
            | StartError::Flows(_)
            | StartError::Accounts(_)
            | StartError::Portals(_) => Exit::Failed,
        };
        Self::new(exit, error)
    }
}
