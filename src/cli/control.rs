//! How commands reach the running server: HTTP over its control socket. Knows paths and outcomes, not what they mean.

use std::io;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::header::{CONTENT_TYPE, HOST};
use hyper::{Method, Request};
use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::net::UnixStream;

use super::exit::{Exit, Failure};
use crate::clock;
use crate::http::control::socket;

/// How long the server may take to answer; a change waits for a disk, which may be busy.
const LIMIT: Duration = Duration::from_secs(30);

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
        match clock::within(LIMIT, self.exchange(method, path, body)).await {
            Ok(answer) => Ok(answer?),
            Err(_) => Err(Failure::told(Exit::Unavailable, "the server does not answer")),
        }
    }

    async fn exchange<T: DeserializeOwned>(
        self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> anyhow::Result<T> {
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
        let talking = async {
            let answer = sender.send_request(request).await?;
            let status = answer.status();
            Ok::<_, hyper::Error>((status, answer.into_body().collect().await?.to_bytes()))
        };
        // The connection only has to be driven. Its end is no outcome: the answer above knows whether it is whole.
        let driving = async {
            let _ = connection.await;
            std::future::pending::<()>().await;
        };
        let (status, bytes) = tokio::select! {
            done = talking => done.context("the server hung up")?,
            () = driving => bail!("the server hung up"),
        };
        if status.is_success() {
            return serde_json::from_slice(&bytes)
                .context("the server's answer is not understood; is it another version?");
        }
        let problem: Value = serde_json::from_slice(&bytes).unwrap_or_default();
        bail!("{}", problem["detail"].as_str().unwrap_or(status.as_str()))
    }
}
