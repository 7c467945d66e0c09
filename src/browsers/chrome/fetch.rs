//! Calls made by a page: one request with the cookies and the storage that are its own, and the portal's answer to it.
//!
//! What the browser decides stays its own: its `User-Agent`, `Accept-Encoding`, `Origin` and so on. Redirects are
//! answers, nothing comes from the cache, and a body arrives as fast as it is taken, so that a large one needs no memory.
//! Nothing here sends twice; Chromium itself does where a kept connection breaks before an answer has begun.

use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::calls::{Awaited, Head, News};
use super::eyes::Lost;
use super::page::Page;
use super::session::Session;
use super::{CALL_LIMIT, Chrome, Litter};
use crate::browsers::error::{BrowserError, NetCause};
use crate::clock;

/// How long the events of an answer may lag behind the answer.
const NEWS: Duration = Duration::from_secs(5);

/// A request for a page to make.
#[derive(Clone, Debug)]
pub struct PageCall {
    /// The page's origin, in ASCII. A page that has gone elsewhere refuses.
    pub origin: String,
    /// The whole address, on that origin and without a fragment.
    pub url: String,
    /// `GET`, or another one that browsers send: not `CONNECT`, `TRACE` or `TRACK`.
    pub method: String,
    /// Header names and what their values are made of. What a script may not set is ignored by the browser.
    pub headers: Vec<(String, Vec<Piece>)>,
    /// The body; must be `None` for GET and HEAD.
    pub body: Option<Bytes>,
}

/// A part of a header's value.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum Piece {
    /// Itself; each character is one byte on the wire.
    Text {
        /// The characters, none above U+00FF.
        text: String,
    },
    /// What the page has stored at that moment. Where it has nothing, the header is left out.
    Stored {
        /// Which storage.
        area: Area,
        /// Under which key.
        key: String,
        /// Where in the JSON that is stored there, as a JSON pointer.
        pointer: Option<String>,
    },
}

/// A storage of a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub enum Area {
    /// `sessionStorage`: the tab's own.
    #[serde(rename = "sessionStorage")]
    Session,
    /// `localStorage`: shared by the tabs of the session.
    #[serde(rename = "localStorage")]
    Local,
}

/// The portal's answer.
#[derive(Debug)]
pub struct PageAnswer {
    /// Its status, a redirect's too.
    pub status: u16,
    /// Its headers as they came, cookies included. `Content-Encoding` is undone already.
    pub headers: Vec<(String, String)>,
    /// Its body, decoded; that of a redirect is lost.
    pub body: PageBody,
}

/// A body on its way out of the page; dropped, the call is given up.
#[derive(Debug)]
pub struct PageBody {
    ahead: Option<Piecewise>,
    rest: Option<Handle>,
}

/// Why a page's call has no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// The request never reached the portal.
    #[error("{0}")]
    NotSent(String),
    /// The page could not send it: it has just gone, has crashed, or does not answer. Another one may.
    #[error("{0}")]
    Page(String),
    /// The page is on another origin than the call.
    #[error("the page has gone to another site")]
    Away,
    /// It may have reached the portal: the connection broke, the page went away, or no answer came in time.
    #[error("{0}")]
    Lost(String),
}

/// What `calls.js` says about a body, or about the call as a whole.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Piecewise {
    body: String,
    done: bool,
    failed: bool,
    away: bool,
}

/// The page's side of a call, given up when dropped.
#[derive(Debug)]
struct Handle {
    chrome: Chrome,
    session: Session,
    world: u32,
    number: u64,
}

impl Page {
    /// Has the page send `call`; the answer must begin within `limit`.
    ///
    /// # Errors
    /// [`CallError`], told apart by whether the portal may have the request.
    pub async fn call(&self, call: &PageCall, limit: Duration) -> Result<PageAnswer, CallError> {
        let mut awaited = self.tab.calls.expect();
        let body = call.body.as_ref().map(|body| data_encoding::BASE64.encode(body));
        let url = format!("{}{}", call.url, awaited.fragment());
        let arguments = json!([awaited.number, call.origin, url, call.method, call.headers, body]);
        let world = match self.tab.eyes.world().await {
            Ok(world) => world,
            Err(error) => {
                if matches!(error, BrowserError::Hung { .. }) {
                    self.give_up().await;
                }
                return Err(CallError::Page(error.to_string()));
            }
        };
        let mut handle = Handle {
            chrome: self.tab.chrome.clone(),
            session: self.tab.session.clone(),
            world,
            number: awaited.number,
        };
        let expression = format!("porter.send(...{arguments})");
        let sent = handle.run(&expression, limit);
        let said = tokio::select! {
            biased;
            said = sent => said,
            () = stuck(&awaited, limit) => {
                self.give_up().await;
                return Err(CallError::Page("the page does not answer".to_owned()));
            }
        };
        let said: Piecewise = match said {
            Ok(said) => said,
            Err(Lost::Before(why)) => {
                self.tab.eyes.forget(world).await;
                return Err(CallError::Page(why));
            }
            Err(Lost::Within(why)) => return Err(CallError::Lost(why)),
        };
        if said.done || said.failed || said.away {
            // There is nothing to give up any more.
            handle.number = 0;
        }
        if said.away {
            return Err(CallError::Away);
        }
        let head = head(&mut awaited, limit).await?;
        let rest = (!said.done && !said.failed).then_some(handle);
        Ok(answer(head, PageBody { ahead: Some(said), rest }))
    }
}

/// Ends when a call that may take `limit` has not even left the page in time.
async fn stuck(awaited: &Awaited, limit: Duration) {
    let mut left = awaited.left.clone();
    if clock::within(CALL_LIMIT.min(limit / 2), left.wait_for(|left| *left)).await.is_ok() {
        std::future::pending::<()>().await;
    }
}

/// The head of the answer, or why there is none.
async fn head(awaited: &mut Awaited, limit: Duration) -> Result<Head, CallError> {
    match clock::within(NEWS.min(limit), awaited.news.recv()).await {
        Ok(Some(News::Head(head))) => Ok(head),
        Ok(Some(News::Failed(text))) => Err(failure(&text)),
        Ok(None) => Err(CallError::Lost("the page has gone".to_owned())),
        Err(_) if !*awaited.left.borrow() => Err(CallError::NotSent(
            "the page did not let the request out; its Content-Security-Policy may forbid it".to_owned(),
        )),
        Err(_) => Err(CallError::Lost("the browser does not tell what came of it".to_owned())),
    }
}

/// Whether a failed request can have reached the portal, by Chromium's name for the failure.
fn failure(text: &str) -> CallError {
    let cause = NetCause::from_chromium(text);
    match cause {
        NetCause::Refused | NetCause::Dns | NetCause::Tls | NetCause::NotAllowed => {
            CallError::NotSent(cause.to_string())
        }
        NetCause::Other(_) if NOT_SENT.contains(&text) => CallError::NotSent(cause.to_string()),
        _ => CallError::Lost(cause.to_string()),
    }
}

/// Failures to connect beside those that [`NetCause`] has words for.
const NOT_SENT: [&str; 5] = [
    "net::ERR_ADDRESS_UNREACHABLE",
    "net::ERR_CONNECTION_FAILED",
    "net::ERR_INTERNET_DISCONNECTED",
    "net::ERR_PROXY_CONNECTION_FAILED",
    "net::ERR_UNSAFE_PORT",
];

/// The codings that Chromium undoes.
const UNDONE: [&str; 5] = ["gzip", "x-gzip", "deflate", "br", "zstd"];

/// The answer as it is after the browser: what described the body on the wire does not describe this one.
fn answer(mut head: Head, body: PageBody) -> PageAnswer {
    let named = |name: &str, wanted: &str| name.eq_ignore_ascii_case(wanted);
    let codings = head.headers.iter().filter(|(name, _)| named(name, "content-encoding"));
    let undone = |coding: &str| UNDONE.contains(&coding.trim().to_ascii_lowercase().as_str());
    let decoded = codings.clone().next().is_some() && codings.flat_map(|(_, value)| value.split(',')).all(undone);
    let empty = body.rest.is_none() && body.ahead.as_ref().is_some_and(|piece| piece.done && piece.body.is_empty());
    let redirect = matches!(head.status, 301 | 302 | 303 | 307 | 308);
    if decoded && !empty {
        head.headers.retain(|(name, _)| !named(name, "content-encoding") && !named(name, "content-length"));
    } else if empty && redirect {
        head.headers.retain(|(name, _)| !named(name, "content-length"));
    }
    PageAnswer { status: head.status, headers: head.headers, body }
}

impl PageBody {
    /// The next bytes, waiting at most `limit` for them; `None` at the end.
    ///
    /// # Errors
    /// When the body breaks off; there is no more of it then.
    pub async fn next(&mut self, limit: Duration) -> Result<Option<Bytes>, CallError> {
        loop {
            let piece = match (self.ahead.take(), &self.rest) {
                (Some(piece), _) => piece,
                (None, None) => return Ok(None),
                (None, Some(handle)) => {
                    let more = handle.run(&format!("porter.more({})", handle.number), limit).await;
                    more.map_err(|lost| CallError::Lost(lost.to_string()))?
                }
            };
            if piece.failed {
                self.rest = None;
                return Err(CallError::Lost("the answer broke off".to_owned()));
            }
            if piece.done
                && let Some(mut handle) = self.rest.take()
            {
                handle.number = 0;
            }
            if !piece.body.is_empty() {
                let bytes = data_encoding::BASE64.decode(piece.body.as_bytes());
                return bytes.map(|bytes| Some(bytes.into())).map_err(|error| CallError::Lost(error.to_string()));
            }
        }
    }
}

impl Handle {
    async fn run(&self, expression: &str, limit: Duration) -> Result<Piecewise, Lost> {
        super::eyes::run(&self.session, self.world, expression, limit).await
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        if self.number > 0 {
            let expression = format!("porter.cancel({})", self.number);
            self.chrome.discard(Litter::Call { session: self.session.clone(), world: self.world, expression });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn body(done: bool, text: &str) -> PageBody {
        PageBody { ahead: Some(Piecewise { body: text.into(), done, ..Piecewise::default() }), rest: None }
    }

    fn names(status: u16, headers: &[(&str, &str)], body: PageBody) -> Vec<String> {
        let headers = headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        answer(Head { status, headers }, body).headers.into_iter().map(|(name, _)| name).collect()
    }

    #[test]
    fn headers_that_described_the_coded_body_go_with_the_coding() {
        let coded = [("Content-Encoding", "gzip"), ("Content-Length", "9"), ("X-A", "1")];
        assert_eq!(names(200, &coded, body(true, "aGk=")), ["X-A"]);
        // An answer to HEAD has no body to undo, and one that nobody can undo stays.
        assert_eq!(names(200, &coded, body(true, "")).len(), 3);
        assert_eq!(names(200, &[("Content-Encoding", "gzip, aws-chunked")], body(true, "aGk=")).len(), 1);
        assert_eq!(names(302, &[("Location", "/x"), ("Content-Length", "5")], body(true, "")), ["Location"]);
    }

    #[test]
    fn only_what_certainly_did_not_arrive_counts_as_not_sent() {
        for text in ["net::ERR_CONNECTION_REFUSED", "net::ERR_CERT_DATE_INVALID", "net::ERR_ADDRESS_UNREACHABLE"] {
            assert!(matches!(failure(text), CallError::NotSent(_)), "{text}");
        }
        for text in ["net::ERR_EMPTY_RESPONSE", "net::ERR_CONNECTION_RESET", "net::ERR_ABORTED", "net::ERR_TIMED_OUT"] {
            assert!(matches!(failure(text), CallError::Lost(_)), "{text}");
        }
    }

    #[tokio::test]
    async fn a_body_that_failed_is_an_error_and_not_an_end() {
        let failed = Piecewise { failed: true, ..Piecewise::default() };
        let mut broken = PageBody { ahead: Some(failed), rest: None };
        assert!(broken.next(Duration::from_secs(1)).await.is_err());
        let mut whole = body(true, "aGk=");
        assert_eq!(whole.next(Duration::from_secs(1)).await, Ok(Some(Bytes::from_static(b"hi"))));
        assert_eq!(whole.next(Duration::from_secs(1)).await, Ok(None));
    }
}
