//! What is observed of the calls that a page makes for us: that one has left, the head of its answer, or why none came.
//!
//! A script is told neither where a redirect leads nor what cookies an answer sets, so the head is taken from the
//! browser's own network events. A call is known in them by its URL's fragment, which never leaves the browser.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{mpsc, watch};

use super::connection::Event;
use super::wire;

/// What every fragment of ours begins with.
const MARK: &str = "#nightporter-";
/// Heads and failures that came before the event that tells whose they are. The page's own requests pass through here.
const EARLY: usize = 64;

/// The calls of one tab; clones share them.
#[derive(Clone, Debug, Default)]
pub(super) struct Calls(Arc<Mutex<Book>>);

#[derive(Debug, Default)]
struct Book {
    next: u64,
    waiting: HashMap<u64, Ends>,
    /// Our call by the browser's name for the request.
    requests: HashMap<String, u64>,
    early: VecDeque<(String, News)>,
}

#[derive(Debug)]
struct Ends {
    left: watch::Sender<bool>,
    news: mpsc::Sender<News>,
}

/// What became of a request.
#[derive(Debug)]
pub(super) enum News {
    /// An answer has begun.
    Head(Head),
    /// None came, or it broke off; in Chromium's words.
    Failed(String),
}

/// The head of an answer, as it came over the wire.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) status: u16,
    pub(super) headers: Vec<(String, String)>,
}

/// One call's news. The channel ends without any when the document has gone.
#[derive(Debug)]
pub(super) struct Awaited {
    calls: Calls,
    pub(super) number: u64,
    /// Becomes true when the request has left the page.
    pub(super) left: watch::Receiver<bool>,
    pub(super) news: mpsc::Receiver<News>,
}

impl Awaited {
    /// What the URL of this call must end with.
    pub(super) fn fragment(&self) -> String {
        format!("{MARK}{}", self.number)
    }
}

impl Drop for Awaited {
    fn drop(&mut self) {
        self.calls.forget(self.number);
    }
}

impl Calls {
    /// Expects the events of one more call.
    pub(super) fn expect(&self) -> Awaited {
        // A head, and the failure that may follow it.
        let ((left, has_left), (news, heard)) = (watch::channel(false), mpsc::channel(2));
        let mut book = self.book();
        book.next += 1;
        let number = book.next;
        book.waiting.insert(number, Ends { left, news });
        Awaited { calls: self.clone(), number, left: has_left, news: heard }
    }

    /// Takes in an event of the tab.
    pub(super) fn hear(&self, event: Event) {
        match event.method.as_str() {
            "Network.requestWillBeSent" => {
                if let Some(sent) = event.read::<wire::RequestWillBeSent>() {
                    self.left(&sent);
                }
            }
            "Network.responseReceivedExtraInfo" => {
                if let Some(extra) = event.read::<wire::ResponseExtra>() {
                    self.told(extra.request_id.clone(), News::Head(Head::from(extra)));
                }
            }
            "Network.loadingFailed" => {
                if let Some(wire::LoadingFailed { request_id, error_text }) = event.read() {
                    self.told(request_id, News::Failed(error_text));
                }
            }
            _ => {}
        }
    }

    /// Ends every call: the document that made them has gone.
    pub(super) fn end(&self) {
        let mut book = self.book();
        book.waiting.clear();
        book.requests.clear();
    }

    fn left(&self, sent: &wire::RequestWillBeSent) {
        let fragment = sent.request.url_fragment.as_deref().and_then(|fragment| fragment.strip_prefix(MARK));
        let Some(number) = fragment.and_then(|number| number.parse().ok()) else { return };
        let mut book = self.book();
        let Some(ends) = book.waiting.get(&number) else { return };
        ends.left.send_replace(true);
        book.requests.insert(sent.request_id.clone(), number);
        if let Some(index) = book.early.iter().position(|(of, _)| *of == sent.request_id)
            && let Some((_, news)) = book.early.remove(index)
        {
            book.pass_on(number, news);
        }
    }

    fn told(&self, request: String, news: News) {
        let mut book = self.book();
        match book.requests.get(&request).copied() {
            Some(number) => book.pass_on(number, news),
            None => {
                if book.early.len() == EARLY {
                    book.early.pop_front();
                }
                book.early.push_back((request, news));
            }
        }
    }

    fn forget(&self, number: u64) {
        let mut book = self.book();
        book.waiting.remove(&number);
        book.requests.retain(|_, of| *of != number);
    }

    // A plain mutex: held for map operations, never across an await.
    fn book(&self) -> MutexGuard<'_, Book> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Book {
    fn pass_on(&self, number: u64, news: News) {
        if let Some(ends) = self.waiting.get(&number) {
            // There is room for all that can come; whoever has gone away needs none of it.
            let _ = ends.news.try_send(news);
        }
    }
}

impl From<wire::ResponseExtra> for Head {
    fn from(extra: wire::ResponseExtra) -> Self {
        let split = |line: &str| line.split_once(':').map(|(name, value)| (name.to_owned(), value.trim().to_owned()));
        let headers = match &extra.headers_text {
            Some(text) => text.split("\r\n").skip(1).filter_map(split).collect(),
            // HTTP/2 has no text; several headers of one name are lines of one value here.
            None => extra
                .headers
                .iter()
                .flat_map(|(name, value)| value.split('\n').map(move |line| (name.clone(), line.to_owned())))
                .collect(),
        };
        Self { status: extra.status_code, headers }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn extra(id: &str, text: Option<&str>) -> wire::ResponseExtra {
        let headers = [("set-cookie".to_owned(), "a=1\nb=2".to_owned())].into();
        wire::ResponseExtra { request_id: id.into(), status_code: 302, headers, headers_text: text.map(str::to_owned) }
    }

    fn sent(id: &str, fragment: &str) -> wire::RequestWillBeSent {
        wire::RequestWillBeSent {
            request_id: id.into(),
            request: wire::SentRequest { url_fragment: Some(fragment.into()) },
        }
    }

    #[test]
    fn a_head_is_read_line_by_line() {
        let head = Head::from(extra("1", Some("HTTP/1.1 302 Found\r\nX-A: 1\r\nX-A: 2\r\nX-K: 가: 나\r\n\r\n")));
        let pairs: Vec<_> = head.headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        assert_eq!((head.status, pairs), (302, vec![("X-A", "1"), ("X-A", "2"), ("X-K", "가: 나")]));
        assert_eq!(Head::from(extra("1", None)).headers.len(), 2);
    }

    #[test]
    fn news_find_their_call_in_either_order_and_nobody_elses() {
        let calls = Calls::default();
        let (mut one, mut two) = (calls.expect(), calls.expect());
        calls.told("r2".into(), News::Failed("net::ERR_X".into()));
        calls.left(&sent("r1", &one.fragment()));
        calls.left(&sent("r3", "#nightporter-99"));
        calls.left(&sent("r4", "#top"));
        assert!(*one.left.borrow() && one.news.try_recv().is_err());
        calls.told("r1".into(), News::Head(Head { status: 200, headers: Vec::new() }));
        assert!(matches!(one.news.try_recv(), Ok(News::Head(Head { status: 200, .. }))));
        calls.left(&sent("r2", &two.fragment()));
        assert!(matches!(two.news.try_recv(), Ok(News::Failed(_))));
        drop(one);
        let counts = |book: &Book| (book.waiting.len(), book.requests.len());
        assert_eq!(counts(&calls.book()), (1, 1), "a call that is over is forgotten");
        calls.end();
        assert!(two.news.try_recv().is_err_and(|error| error == mpsc::error::TryRecvError::Disconnected));
    }
}
