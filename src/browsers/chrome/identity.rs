//! What the browser says about itself to a portal. Not derived but measured: a throw-away tab loads a page from a listener
//! of ours on loopback (which counts as a secure origin, so client hints are sent), and what arrives there is the truth.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use headless_chrome::protocol::cdp::Target;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::OnceCell;

use super::context::Origins;
use super::tab::{Tab, Traffic};
use super::{CALL_LIMIT, Chrome, Litter, wire};
use crate::browsers::error::BrowserError;
use crate::clock;

/// The most of a request that is read.
const HEAD_LIMIT: usize = 16 * 1024;

/// Headers that belong to one request or one connection and say nothing about the browser. `accept-encoding` is among
/// them: whoever sends the request must be able to decode the answer.
const NOT_IDENTITY: [&str; 6] = ["host", "connection", "accept-encoding", "referer", "cookie", "content-length"];

/// The browser's own headers, names in lower case, in its order. A relay that sends the same looks like the same visitor.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// `user-agent`.
    pub user_agent: String,
    /// `accept-language`.
    pub accept_language: String,
    /// `sec-ch-ua`, `sec-ch-ua-mobile`, `sec-ch-ua-platform`; none when the user agent is overridden.
    pub client_hints: Vec<(String, String)>,
    /// All headers of a request for a document, typed into the address bar.
    pub document: Vec<(String, String)>,
    /// All headers of a same-origin `fetch()`.
    pub fetch: Vec<(String, String)>,
}

/// What the browser says of itself by the user agent that it is told to be; clones share it. A process does not change its
/// mind, so it is asked once.
#[derive(Clone, Debug, Default)]
pub(super) struct Identities(Arc<Mutex<ByUserAgent>>);

/// None is the browser's own user agent.
type ByUserAgent = BTreeMap<Option<String>, Arc<OnceCell<Identity>>>;

impl Identities {
    /// The identity as `user_agent`, measured if nobody has done so; those who come meanwhile wait for the same.
    pub(super) async fn of(&self, chrome: &Chrome, user_agent: Option<&str>) -> Result<Identity, BrowserError> {
        let known = Arc::clone(self.cells().entry(user_agent.map(str::to_owned)).or_default());
        known.get_or_try_init(|| measure(chrome, user_agent)).await.cloned()
    }

    fn cells(&self) -> MutexGuard<'_, ByUserAgent> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Has a throw-away context load our page and returns what it sent.
async fn measure(chrome: &Chrome, user_agent: Option<&str>) -> Result<Identity, BrowserError> {
    let context = chrome.call(wire::create_context()).await?.browser_context_id;
    let measured = clock::within(CALL_LIMIT, visit(chrome, &context, user_agent)).await;
    if measured.is_err() {
        chrome.discard(Litter::Context(context));
        return Err(failed("the browser did not come"));
    }
    chrome.call(Target::DisposeBrowserContext { browser_context_id: context }).await?;
    measured.unwrap_or_else(|_| Err(failed("the browser did not come")))
}

async fn visit(chrome: &Chrome, context: &str, user_agent: Option<&str>) -> Result<Identity, BrowserError> {
    let tab = Tab::open(chrome, context, user_agent, Traffic::Free, Origins::default()).await?;
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.map_err(failed)?;
    let address = listener.local_addr().map_err(failed)?;
    // The context's id is random, so nobody else on this machine knows the path and passes for the browser.
    let listen = Listening { listener, document: format!("/{context}"), fetch: format!("/{context}/fetch") };
    let url = format!("http://{address}{}", listen.document);
    let (navigated, heard) = tokio::join!(tab.session.call(wire::navigate(&url)), listen.both());
    navigated?;
    let (document, fetch) = heard.map_err(failed)?;
    tab.close().await?;
    Ok(Identity {
        user_agent: value_of(&document, "user-agent"),
        accept_language: value_of(&document, "accept-language"),
        client_hints: document.iter().filter(|(name, _)| name.starts_with("sec-ch-")).cloned().collect(),
        document,
        fetch,
    })
}

type Headers = Vec<(String, String)>;

struct Listening {
    listener: TcpListener,
    document: String,
    fetch: String,
}

impl Listening {
    /// Answers until both the document and the fetch have come. Connections are served together: browsers open spare ones
    /// and leave them silent.
    async fn both(self) -> std::io::Result<(Headers, Headers)> {
        let (mut document, mut fetch) = (None, None);
        let mut requests = FuturesUnordered::new();
        loop {
            tokio::select! {
                accepted = self.listener.accept() => requests.push(self.answer(accepted?.0)),
                Some(Some((path, headers))) = requests.next(), if !requests.is_empty() => {
                    if path == self.document {
                        document = Some(headers);
                    } else if path == self.fetch {
                        fetch = Some(headers);
                    }
                    if let (Some(document), Some(fetch)) = (&mut document, &mut fetch) {
                        return Ok((std::mem::take(document), std::mem::take(fetch)));
                    }
                }
            }
        }
    }

    async fn answer(&self, mut stream: TcpStream) -> Option<(String, Headers)> {
        let mut head = Vec::new();
        while !head.windows(4).any(|four| four == b"\r\n\r\n") {
            if head.len() > HEAD_LIMIT || stream.read_buf(&mut head).await.ok()? == 0 {
                return None;
            }
        }
        let request = parse(&String::from_utf8_lossy(&head))?;
        let page = if request.0 == self.document {
            format!("<script>fetch('{}')</script>", self.fetch)
        } else {
            String::new()
        };
        let reply = format!(
            "HTTP/1.1 200 OK\r\ncontent-type: text/html\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{page}",
            page.len()
        );
        stream.write_all(reply.as_bytes()).await.ok()?;
        stream.shutdown().await.ok()?;
        Some(request)
    }
}

/// Path and identifying headers of an HTTP/1.1 request.
fn parse(head: &str) -> Option<(String, Headers)> {
    let mut lines = head.lines();
    let path = lines.next()?.split(' ').nth(1)?.to_owned();
    let headers = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
        .filter(|(name, _)| !NOT_IDENTITY.contains(&name.as_str()))
        .collect();
    Some((path, headers))
}

fn value_of(headers: &[(String, String)], wanted: &str) -> String {
    headers.iter().find(|(name, _)| name == wanted).map(|(_, value)| value.clone()).unwrap_or_default()
}

fn failed(reason: impl std::fmt::Display) -> BrowserError {
    BrowserError::Protocol { call: "measuring the browser's identity", detail: reason.to_string() }
}
