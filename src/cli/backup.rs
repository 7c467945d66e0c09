//! `nightporter backup`: a snapshot of the store in a file of the caller's, written with the caller's rights. The running
//! server streams it; without one the store is opened here.

use std::io::{self, IsTerminal, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, Receiver, SyncSender};

use anyhow::{Context, anyhow};
use bytes::{Buf, Bytes};
use clap::Args;
use hyper::Method;
use serde::Serialize;
use tokio::signal::unix::{SignalKind, signal};

use super::control::{self, Pieces};
use super::exit::{self, Exit, Failure};
use super::{Shared, output, progress, store};
use crate::clock::Clock;
use crate::config;
use crate::lifecycle::Lifecycle;
use crate::store::Store;
use crate::store::snapshot::{self, Manifest, NewFile, Snapshot};

/// Write a snapshot of the store, as it is at one moment, while the server runs or not. It holds every record, secrets sealed
/// as they are in the store; the key that opens them (store.key) is not in it: keep a copy of that elsewhere.
#[derive(Debug, Args)]
#[command(after_long_help = exit::HELP)]
pub(super) struct Backup {
    /// The file to write, mode 0600; - for standard output
    file: PathBuf,
    /// Replace the file if it exists
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    shared: Shared,
}

/// What was written.
#[derive(Debug, Serialize)]
struct Written {
    file: PathBuf,
    bytes: u64,
    #[serde(flatten)]
    manifest: Manifest,
}

impl Backup {
    pub(super) async fn run(self) -> Result<Exit, Failure> {
        let config = self.shared.settings.load()?;
        let to_stdout = self.file == Path::new("-");
        // Before anything is asked of the server: a name that is taken costs it nothing.
        let mut sink = if to_stdout { Sink::stdout()? } else { Sink::file(&self.file, self.force)? };
        let mut source = Source::open(&config.store).await?;
        let copied = tokio::select! {
            copied = copy(&mut source, &mut sink) => copied,
            stopped = asked_to_stop() => Err(stopped),
        };
        source.close().await;
        let bytes = copied?;
        let manifest = sink.finish().await?;
        let written = Written { file: self.file, bytes, manifest };
        match (to_stdout, self.shared.json) {
            (true, false) => output::complain(&told(&written)),
            (true, true) => output::complain(&format!("{}\n", serde_json::to_string(&written).context("result")?)),
            (false, false) => output::print(&told(&written))?,
            (false, true) => output::print_json(&written)?,
        }
        Ok(Exit::Good)
    }
}

fn told(written: &Written) -> String {
    let Written { file, bytes, manifest } = written;
    let (size, at) = (progress::size(*bytes), manifest.created_at.local());
    format!("{}: {} records as of {at}, {size}\n", file.display(), manifest.records)
}

/// Carries everything over; tells how many bytes that was.
async fn copy(source: &mut Source, sink: &mut Sink) -> Result<u64, Failure> {
    let mut line = progress::Line::new();
    let mut bytes = 0;
    while let Some(piece) = source.next().await? {
        bytes += piece.len() as u64;
        sink.append(piece).await?;
        line.say(|| format!("{} written", progress::size(bytes)));
    }
    Ok(bytes)
}

/// Waits for a signal that ends the command, so that nothing half written is left behind.
pub(super) async fn asked_to_stop() -> Failure {
    let hear = || {
        let kinds = [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()];
        let [a, b, c] = kinds.map(signal);
        Ok::<_, io::Error>((a?, b?, c?))
    };
    match hear() {
        Err(error) => return Failure::from(anyhow!(error).context("signals")),
        Ok((mut interrupt, mut terminate, mut hangup)) => tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
            _ = hangup.recv() => {}
        },
    }
    Failure::told(Exit::Failed, "broken off; nothing was changed")
}

/// Where the bytes come from.
enum Source {
    Server(Pieces),
    Ourselves(Option<Snapshot>, Store, Lifecycle),
}

impl Source {
    async fn open(config: &config::Store) -> Result<Self, Failure> {
        if let Some(client) = control::reach(&config.path).await? {
            return Ok(Self::Server(client.pieces(Method::POST, "/snapshot").await?));
        }
        if !Store::exists(&config.path) {
            return Err(Failure::told(Exit::Failed, format!("there is no store in {}", config.path.display())));
        }
        let (clock, life) = (Clock::system(), Lifecycle::new());
        let store = store::open(config, &clock, &life)?;
        let snapshot = store.snapshot().await?;
        Ok(Self::Ourselves(Some(snapshot), store, life))
    }

    async fn next(&mut self) -> Result<Option<Bytes>, Failure> {
        match self {
            Self::Server(pieces) => pieces.next().await,
            Self::Ourselves(Some(snapshot), ..) => Ok(snapshot.chunk().await?),
            Self::Ourselves(None, ..) => Ok(None),
        }
    }

    async fn close(self) {
        if let Self::Ourselves(snapshot, store, life) = self {
            drop(snapshot);
            store::close(store, &life).await;
        }
    }
}

/// Where they go.
enum Sink {
    File(NewFile),
    /// Standard output, and a thread that reads along, because what has been printed cannot be read again.
    Stdout(SyncSender<Bytes>, tokio::task::JoinHandle<Result<Manifest, snapshot::Damage>>),
}

impl Sink {
    fn file(path: &Path, force: bool) -> Result<Self, Failure> {
        Ok(Self::File(NewFile::create(path, force)?))
    }

    fn stdout() -> Result<Self, Failure> {
        if io::stdout().is_terminal() {
            return Err(Failure::told(Exit::Failed, "a snapshot is nothing to look at: send it to a file or a pipe"));
        }
        let (along, read) = mpsc::sync_channel(4);
        let reading = tokio::task::spawn_blocking(move || snapshot::verify(Along { read, rest: Bytes::new() }));
        Ok(Self::Stdout(along, reading))
    }

    async fn append(&mut self, piece: Bytes) -> Result<(), Failure> {
        match self {
            Self::File(file) => Ok(file.append(piece).await?),
            Self::Stdout(along, _) => {
                let along = along.clone();
                let written = tokio::task::spawn_blocking(move || {
                    let written = io::stdout().lock().write_all(&piece);
                    // The reader has gone only when it has found damage, which it tells in the end.
                    let _ = along.send(piece);
                    written
                });
                Ok(written.await.context("standard output")?.context("standard output")?)
            }
        }
    }

    async fn finish(self) -> Result<Manifest, Failure> {
        match self {
            Self::File(file) => Ok(file.finish().await?),
            Self::Stdout(along, reading) => {
                drop(along);
                io::stdout().flush().context("standard output")?;
                let read = reading.await.context("standard output")?;
                read.map_err(|damage| Failure::told(Exit::Damaged, format!("what was written is not whole: {damage}")))
            }
        }
    }
}

/// Reads what is sent to it.
struct Along {
    read: Receiver<Bytes>,
    rest: Bytes,
}

impl Read for Along {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.rest.is_empty() {
            match self.read.recv() {
                Ok(more) => self.rest = more,
                Err(mpsc::RecvError) => return Ok(0),
            }
        }
        let length = buffer.len().min(self.rest.len());
        self.rest.copy_to_slice(&mut buffer[..length]);
        Ok(length)
    }
}
