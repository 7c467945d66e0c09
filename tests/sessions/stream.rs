//! A stream of server-sent events, read event by event.

use std::time::Duration;

use futures_util::StreamExt;
use nightporter::clock::{self, Clock};
use reqwest::RequestBuilder;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::desk::PATIENCE;

/// Lets this process open as many files as it may: hundreds of streams take two each, and many systems begin with 1024.
pub(crate) fn open_many() {
    let maximum = getrlimit(Resource::Nofile).maximum;
    setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }).unwrap();
}

/// A reader of server-sent events.
pub(crate) struct Stream {
    answer: futures_util::stream::BoxStream<'static, reqwest::Result<bytes::Bytes>>,
    text: String,
    /// The beginning of a letter.
    begun: Vec<u8>,
}

/// An event: its kind, its id, its data.
pub(crate) type Event = (String, String, String);

impl Stream {
    /// The answer to `request`, from behind the event `last` if there is one.
    pub(crate) async fn of(request: RequestBuilder, last: Option<&str>) -> Self {
        let request = last.into_iter().fold(request, |request, last| request.header("last-event-id", last));
        let answer = request.send().await.unwrap();
        assert_eq!(
            (answer.status().as_u16(), &answer.headers()["content-type"]),
            (200, &"text/event-stream".parse().unwrap())
        );
        Self { answer: answer.bytes_stream().boxed(), text: String::new(), begun: Vec::new() }
    }

    pub(crate) async fn next(&mut self) -> Event {
        loop {
            if let Some((event, rest)) = self.text.split_once("\n\n") {
                let field = |name: &str| {
                    event.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default().trim_start().to_owned()
                };
                let found = (field("event:"), field("id:"), field("data:"));
                self.text = rest.to_owned();
                if !found.0.is_empty() {
                    return found;
                }
                continue;
            }
            let piece = clock::within(PATIENCE, self.answer.next()).await.expect("no event").expect("the end").unwrap();
            self.take(&piece);
        }
    }

    /// Waits for the end; true when nothing came before it.
    pub(crate) async fn ended(&mut self) -> bool {
        let end = async {
            while let Some(Ok(piece)) = self.answer.next().await {
                self.take(&piece);
            }
        };
        clock::within(PATIENCE, end).await.is_ok() && !self.text.contains("event:")
    }

    /// As [`Stream::ended`], while time passes in steps of 15 s.
    pub(crate) async fn ended_in_time(&mut self, clock: &Clock) -> bool {
        let time_passes = async {
            loop {
                clock.advance(Duration::from_secs(15));
                tokio::task::yield_now().await;
            }
        };
        tokio::select! {
            ended = self.ended() => ended,
            () = time_passes => false,
        }
    }

    /// A piece may end in the middle of a letter.
    fn take(&mut self, piece: &[u8]) {
        self.begun.extend_from_slice(piece);
        let whole = std::str::from_utf8(&self.begun).map_or_else(|error| error.valid_up_to(), str::len);
        self.text += std::str::from_utf8(&self.begun[..whole]).unwrap();
        self.begun.drain(..whole);
    }
}
