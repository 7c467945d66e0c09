//! How commands reach the running server: HTTP over its control socket. Knows paths and outcomes, not what they mean.

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::path::Path;
use std::pin::Pin;
use std::time::Duration;

use anyhow::{Context, anyhow};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::header::{CONTENT_TYPE, HOST};
use hyper::{Method, Request};
use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::net::UnixStream;

use super::Settings;
use super::exit::{Exit, Failure};
use crate::clock;
use crate::http::control::socket;

/// How long the server may take to answer; a change waits for a disk, which may be busy.
const LIMIT: Duration = Duration::from_secs(30);

/// The server answered that it cannot, or will not.
#[derive(Debug, thiserror::Error)]
#[error("{detail}")]
pub(super) struct Refused {
    /// The word that a program switches on.
    pub(super) code: String,
    /// In the server's words.
    detail: String,
}

/// A running server.
#[derive(Debug)]
pub(super) struct Client(UnixStream);

/// The server of the store in `directory`, or None when there is none.
pub(super) async fn reach(directory: &Path) -> Result<Option<Client>, Failure> {
    socket::check(directory).map_err(|error| Failure::new(Exit::Config, error))?;
    let path = socket::path(directory);
    let silent = || Failure::told(Exit::Unavailable, format!("the server at {} does not answer", path.display()));
    match clock::within(LIMIT, UnixStream::connect(&path)).await.map_err(|_| silent())? {
        Ok(stream) => Ok(Some(Client(stream))),
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused) => Ok(None),
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            let message = format!("{}: permission denied; use the account that the server runs as", path.display());
            Err(Failure::told(Exit::NotAllowed, message))
        }
        Err(error) => Err(anyhow!(error).context(path.display().to_string()).into()),
    }
}

/// The running server, for what only it can do.
pub(super) async fn server(settings: &Settings) -> Result<Client, Failure> {
    let config = settings.load()?;
    let none =
        || Failure::told(Exit::NotRunning, format!("no server runs on the store {}", config.store.path.display()));
    reach(&config.store.path).await?.ok_or_else(none)
}

impl Client {
    /// Asks for `path`, and reads the answer into `T`.
    pub(super) async fn get<T: DeserializeOwned>(self, path: &str) -> Result<T, Failure> {
        self.call(Method::GET, path, None).await
    }

    /// Sends one request; a refusal is a failure in the server's words.
    pub(super) async fn call<T: DeserializeOwned>(
        self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<T, Failure> {
        let bytes = self.fetch(method, path, body).await?;
        let answer = serde_json::from_slice(&bytes);
        Ok(answer.context("the server's answer is not understood; is it another version?")?)
    }

    /// Sends one request and returns the answer's body as it is; a refusal is a failure in the server's words.
    pub(super) async fn fetch(self, method: Method, path: &str, body: Option<&Value>) -> Result<Bytes, Failure> {
        let (sent, driving) = self.send(method, path, body).await?;
        let reading = async { Ok::<_, Failure>(sent.collect().await.context("the server hung up")?.to_bytes()) };
        driven(driving, within(reading)).await
    }

    /// Sends one request whose answer is a line of JSON for each thing that happens.
    pub(super) async fn lines(self, method: Method, path: &str, body: Option<&Value>) -> Result<Lines, Failure> {
        let (body, driving) = self.send(method, path, body).await?;
        Ok(Lines { pieces: Pieces { body, driving }, unread: Vec::new() })
    }

    /// Sends one request whose answer is too long to be held in memory.
    pub(super) async fn pieces(self, method: Method, path: &str) -> Result<Pieces, Failure> {
        let (body, driving) = self.send(method, path, None).await?;
        Ok(Pieces { body, driving })
    }

    /// Sends one request and waits for the head of its answer, which is a good one.
    async fn send(self, method: Method, path: &str, body: Option<&Value>) -> Result<(Incoming, Driving), Failure> {
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(self.0)).await.context("control socket")?;
        let bytes = body.map(|body| Bytes::from(body.to_string())).unwrap_or_default();
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(HOST, "localhost")
            .header(CONTENT_TYPE, "application/json")
            .body(Full::new(bytes))
            .context("request")?;
        // The connection only has to be driven. Its end is no outcome: the answer knows whether it is whole.
        let mut driving: Driving = Box::pin(async move {
            let _ = connection.await;
        });
        let talking = async { Ok::<_, Failure>(sender.send_request(request).await.context("the server hung up")?) };
        let answer = driven(driving.as_mut(), within(talking)).await?;
        let status = answer.status();
        if status.is_success() {
            return Ok((answer.into_body(), driving));
        }
        let reading = async { Ok::<_, Failure>(answer.into_body().collect().await.context("the server hung up")?) };
        let problem = driven(driving, within(reading)).await?.to_bytes();
        let problem: Value = serde_json::from_slice(&problem).unwrap_or_default();
        let text = |member: &str| problem[member].as_str().unwrap_or(status.as_str()).to_owned();
        Err(Failure::new(Exit::Failed, Refused { code: text("code"), detail: text("detail") }))
    }
}

/// A connection that has to be polled for as long as something is expected of it.
type Driving = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Polls the connection while `work` goes on; the work ends by itself when the connection does.
async fn driven<T>(driving: impl Future<Output = ()>, work: impl Future<Output = T>) -> T {
    let forever = async {
        driving.await;
        std::future::pending::<Infallible>().await
    };
    tokio::select! {
        biased;
        done = work => done,
        never = forever => match never {},
    }
}

async fn within<T>(work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    match clock::within(LIMIT, work).await {
        Ok(done) => done,
        Err(_) => Err(Failure::told(Exit::Unavailable, "the server does not answer")),
    }
}

/// An answer that comes piece by piece.
pub(super) struct Pieces {
    body: Incoming,
    driving: Driving,
}

impl Pieces {
    /// The next piece, which the server has no long pause before, or None at the end.
    pub(super) async fn next(&mut self) -> Result<Option<Bytes>, Failure> {
        within(self.whenever()).await
    }

    /// The next piece, whenever it comes, or None at the end.
    async fn whenever(&mut self) -> Result<Option<Bytes>, Failure> {
        loop {
            match driven(self.driving.as_mut(), self.body.frame()).await {
                None => return Ok(None),
                Some(frame) => {
                    if let Ok(bytes) = frame.context("the server hung up")?.into_data() {
                        return Ok(Some(bytes));
                    }
                }
            }
        }
    }
}

/// An answer that comes line by line, for as long as it takes.
pub(super) struct Lines {
    pieces: Pieces,
    unread: Vec<u8>,
}

impl Lines {
    /// The next line, or None at the end.
    pub(super) async fn next<T: DeserializeOwned>(&mut self) -> Result<Option<T>, Failure> {
        loop {
            if let Some(end) = self.unread.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.unread.drain(..=end).collect();
                let told = serde_json::from_slice(&line);
                return Ok(Some(told.context("the server's answer is not understood; is it another version?")?));
            }
            match self.pieces.whenever().await? {
                None => return Ok(None),
                Some(bytes) => self.unread.extend_from_slice(&bytes),
            }
        }
    }
}
