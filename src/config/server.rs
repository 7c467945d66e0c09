//! The sections about the process itself: `[server]`, `[store]`, `[log]`, `[browser]`.

use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;
use url::Url;

use super::read::{Field, Section};
use super::{duration, network, secrets, words};
use crate::secret::Secret;

/// `[server]`: the edge.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    /// Where the API and the console are served. Default `127.0.0.1:8080`.
    pub listen: SocketAddr,
    /// A second listener that serves `/metrics` without a token; none by default.
    pub metrics_listen: Option<SocketAddr>,
    /// The origin that clients see, for links and for checking `Origin`.
    pub public_url: Option<Url>,
    /// Connections served at once by one listener; further ones wait. Default 1024.
    pub max_connections: u32,
    /// Networks whose forwarded headers count. Empty by default: none do.
    pub trusted_proxies: Vec<IpNet>,
    /// Certificate and key, when this process ends TLS itself.
    pub tls: Option<Tls>,
    /// The longest request body, in bytes. Default 1 MiB.
    pub max_body: usize,
    /// How long requests may go on after a stop was asked for. Default 20 s.
    pub drain: Duration,
}

/// `[server] tls`: the files to serve TLS with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tls {
    /// The certificate chain, PEM.
    pub cert: PathBuf,
    /// The private key, PEM.
    pub key: PathBuf,
}

/// `[store]`: where records live and what an answer promises.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Store {
    /// The directory of the embedded store, from `url = "sled:DIRECTORY"`. Default `data/store`.
    pub path: PathBuf,
    /// What an answer promises. Default [`Durability::Acknowledged`].
    pub durability: Durability,
    /// Free bytes on the disk below which new records are refused. Default 64 MiB, at least 16.
    pub reserve: u64,
    /// Whether a start that finds the store damaged restores the newest whole snapshot by itself. Default false.
    pub restore_latest: bool,
    /// The vault's key, 64 hexadecimal digits; without one the store keeps a key file of its own.
    pub key: Option<Secret>,
}

/// When a change counts as made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// An answer means that it is on disk.
    Acknowledged,
    /// A power cut may take the last 200 ms.
    Interval,
}

/// `[log]`: how the process tells what it does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Log {
    /// Default [`LogFormat::Text`].
    pub format: LogFormat,
    /// The least important level that is written. Default `info`.
    pub level: tracing::Level,
}

/// The shape of a log line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line, for programs.
    Json,
}

/// `[browser]`: the Chromium that logs in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Browser {
    /// The program; looked for in the usual places when not set.
    pub binary: Option<PathBuf>,
    /// The unprivileged user that the browser runs as when this process is root.
    pub user: Option<String>,
    /// Whether Chromium's sandbox is on. Turning it off is the operator's explicit choice. Default true.
    pub sandbox: bool,
    /// Where profiles live while a browser runs; the system's temporary directory when not set.
    pub runtime_dir: Option<PathBuf>,
    /// The age at which a browser process is replaced by a fresh one. Default 24 h.
    pub recycle_after: Duration,
    /// The number of documents after which it is. Default 500.
    pub recycle_navigations: u32,
    /// The memory in bytes, shared pages counted once, at which it is. Default 1 GiB.
    pub recycle_memory: usize,
}

/// `[sessions]`: what applications may keep here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionSettings {
    /// The life of a session whose creator names none. Default 24 h.
    pub ttl: Duration,
    /// The longest life that one may be given. Default 366 d.
    pub max_ttl: Duration,
    /// Live sessions in one space. Default 1,000,000.
    pub max_records: u32,
    /// Spaces in use at once. Default 100.
    pub max_spaces: u32,
}

const DURABILITIES: &[(&str, Durability)] =
    &[("acknowledged", Durability::Acknowledged), ("interval", Durability::Interval)];
const FORMATS: &[(&str, LogFormat)] = &[("text", LogFormat::Text), ("json", LogFormat::Json)];
const LEVELS: &[(&str, tracing::Level)] = &[
    ("error", tracing::Level::ERROR),
    ("warn", tracing::Level::WARN),
    ("info", tracing::Level::INFO),
    ("debug", tracing::Level::DEBUG),
    ("trace", tracing::Level::TRACE),
];

const MIB: usize = 1024 * 1024;
/// Less than a few seconds would have browsers replaced faster than sessions move.
const RECYCLE_AFTER: std::ops::RangeInclusive<Duration> = Duration::from_secs(10)..=Duration::from_secs(30 * 24 * 3600);

pub(super) fn server(root: &Section<'_>) -> Option<Server> {
    let section = root.section_or_empty("server")?;
    let listen = section.or("listen", "127.0.0.1:8080", network::socket);
    let metrics_listen = section.optional("metrics_listen", network::socket);
    let public_url = section.optional("public_url", network::origin);
    let trusted_proxies = section.list("trusted_proxies", network::network);
    let tls = section.section("tls").map(|section| tls(&section));
    let max_body = section.or("max_body", "1 MiB", words::bytes(1024..=256 * 1024 * 1024));
    let max_connections = section.or("max_connections", "1024", words::integer(16..=65_536));
    let drain = section.or("drain", "20s", duration::within(Duration::ZERO..=Duration::from_secs(600)));
    section.finish();
    if let (Some(listen), Some(metrics)) = (listen, metrics_listen)
        && listen == metrics
        && listen.port() != 0
    {
        section.problem("metrics_listen must differ from listen");
    }
    if let Some(open) = trusted_proxies.iter().flatten().find(|network| network.prefix_len() == 0) {
        section.warning(format!("trusted_proxies has {open}: every client can claim any address"));
    }
    let tls = match tls {
        Some(tls) => Some(tls?),
        None => None,
    };
    Some(Server {
        listen: listen?,
        metrics_listen,
        public_url,
        trusted_proxies: trusted_proxies?,
        tls,
        max_connections: max_connections?,
        max_body: max_body?,
        drain: drain?,
    })
}

fn tls(section: &Section<'_>) -> Option<Tls> {
    let cert = section.required("cert", existing_file);
    let key = section.required("key", existing_file);
    section.finish();
    let tls = Tls { cert: cert?, key: key? };
    if let Some(mode) = secrets::exposed(&tls.key) {
        section.warning(format!("{} is readable by every user (mode {mode:o}); make it 0600", tls.key.display()));
    }
    Some(tls)
}

/// Reads the path of a file that is there.
pub(super) fn existing_file(field: &Field<'_>) -> Result<PathBuf, String> {
    let path = field.path()?;
    match std::fs::metadata(&path) {
        Ok(meta) if meta.is_file() => Ok(path),
        Ok(_) => Err(format!("{} is not a file", path.display())),
        Err(error) => Err(format!("cannot read {}: {error}", path.display())),
    }
}

/// Reads the path of a file that can be run.
pub(crate) fn program(field: &Field<'_>) -> Result<PathBuf, String> {
    let path = existing_file(field)?;
    let mode = std::fs::metadata(&path).map_or(0, |meta| meta.permissions().mode());
    if mode & 0o111 == 0 {
        return Err(format!("{} is not executable", path.display()));
    }
    Ok(path)
}

pub(super) fn store(root: &Section<'_>) -> Option<Store> {
    let section = root.section_or_empty("store")?;
    let path = section.or("url", "sled:data/store", |field| {
        let text = field.text()?;
        let Some(directory) = text.strip_prefix("sled:") else {
            return Err("expected \"sled:DIRECTORY\", the embedded store".to_owned());
        };
        field.path_from(directory)
    });
    let durability = section.or("durability", "acknowledged", words::choice(DURABILITIES));
    // sled writes up to 8 MiB between two looks at the disk, and rewrites its segments meanwhile.
    let reserve = section.or("reserve", "64 MiB", words::bytes(16 * MIB..=1024 * 1024 * MIB));
    let restore_latest = section.or("restore_latest", "false", words::boolean);
    let given = secrets::is_given(&section, "key");
    let key = secrets::optional(&section, "key");
    section.finish();
    if let Some(key) = &key
        && !(key.expose().len() == 64 && key.expose().bytes().all(|byte| byte.is_ascii_hexdigit()))
    {
        let place = secrets::place(&section, "key");
        section.reading().problem(&place, "store.key", "expected 64 hexadecimal digits");
        return None;
    }
    if given && key.is_none() {
        return None;
    }
    Some(Store { path: path?, durability: durability?, reserve: reserve? as u64, restore_latest: restore_latest?, key })
}

pub(super) fn log(root: &Section<'_>) -> Option<Log> {
    let section = root.section_or_empty("log")?;
    let format = section.or("format", "text", words::choice(FORMATS));
    let level = section.or("level", "info", words::choice(LEVELS));
    section.finish();
    Some(Log { format: format?, level: level? })
}

pub(super) fn sessions(root: &Section<'_>) -> Option<SessionSettings> {
    let section = root.section_or_empty("sessions")?;
    let life = || duration::within(Duration::from_millis(1)..=Duration::from_secs(10 * 366 * 86_400));
    let max_ttl = section.or("max_ttl", "366d", life());
    let ttl = section.or("ttl", "24h", life());
    let max_records = section.or("max_records", "1000000", words::integer(1..=100_000_000));
    let max_spaces = section.or("max_spaces", "100", words::integer(1..=10_000));
    section.finish();
    if let (Some(ttl), Some(max_ttl)) = (ttl, max_ttl)
        && ttl > max_ttl
    {
        // The default of the other is not the one to change.
        let (key, other) = if section.has("ttl") { ("ttl", "max_ttl") } else { ("max_ttl", "ttl") };
        let (ttl, max_ttl) = (duration::show(ttl), duration::show(max_ttl));
        section.problem_of(key, format!("does not go with {other}: ttl is {ttl}, and max_ttl is {max_ttl}"));
    }
    Some(SessionSettings { ttl: ttl?, max_ttl: max_ttl?, max_records: max_records?, max_spaces: max_spaces? })
}

pub(super) fn browser(root: &Section<'_>) -> Option<Browser> {
    let section = root.section_or_empty("browser")?;
    let binary = section.optional("binary", program);
    let user = section.optional("user", words::text);
    let sandbox = section.or("sandbox", "true", words::boolean);
    let runtime_dir = section.optional("runtime_dir", Field::path);
    let recycle_after = section.or("recycle_after", "24h", duration::within(RECYCLE_AFTER));
    let recycle_navigations = section.or("recycle_navigations", "500", words::integer(10..=1_000_000));
    // A process of its own with nothing in it takes 130 MiB.
    let recycle_memory = section.or("recycle_memory", "1024 MiB", words::bytes(256 * MIB..=64 * 1024 * MIB));
    section.finish();
    if sandbox == Some(false) {
        section.warning("sandbox = false: a portal's page that breaks out of Chromium's renderer owns this account");
    }
    Some(Browser {
        binary,
        user,
        sandbox: sandbox?,
        runtime_dir,
        recycle_after: recycle_after?,
        recycle_navigations: recycle_navigations?,
        recycle_memory: recycle_memory?,
    })
}
