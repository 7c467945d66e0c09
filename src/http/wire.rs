//! The byte stream of one connection, between the socket and hyper.
//!
//! Hands hyper one request head at a time, each only when it is complete and found sound. A head that must be refused is
//! replaced by one that says nothing, and the service answers it in its turn with the problem, behind the answers to
//! earlier requests. That also makes the two silences of a client distinguishable, which hyper's single timer is not:
//! a head that does not end (408) and an idle connection (closed). Bytes are never altered otherwise.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::http::StatusCode;
use bytes::{Buf, BytesMut};
use memchr::memmem;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::OwnedSemaphorePermit;
use tokio_io_timeout::TimeoutStream;

use super::chunks::{Chunks, Scan};
use super::exchange::Exchange;
use super::head::{self, Framing, Refusal};
use super::limits::Limits;
use crate::clock::{self, Stopwatch};

/// Bytes asked of the socket at once.
const READ: usize = 16 * 1024;
const REPLACEMENT: &[u8] = b"GET / HTTP/1.1\r\nHost: refused\r\nConnection: close\r\n\r\n";
// An answer to HEAD has no body, also when it is a refusal.
const REPLACEMENT_HEAD: &[u8] = b"HEAD / HTTP/1.1\r\nHost: refused\r\nConnection: close\r\n\r\n";

type Timer = Pin<Box<dyn Future<Output = ()> + Send>>;

/// The stream. Holds the connection's place among the allowed ones until the socket itself is gone, also when it has
/// become something else than HTTP.
pub(super) struct Wire<S> {
    io: Pin<Box<TimeoutStream<S>>>,
    exchange: Arc<Exchange>,
    limits: Limits,
    expect: Expect,
    /// Read, not yet handed on. Never longer than a head may be, plus one read.
    input: BytesMut,
    /// How much of the beginning of `input` is understood and may be handed on.
    ready: usize,
    /// The part of `input` already searched for the end of the head.
    searched: usize,
    /// What is being waited for, and since when.
    silence: Option<(Wait, Stopwatch)>,
    /// Goes off when the silence may have lasted too long. It outlives the silence that it was set for: to set one for every
    /// request would cost more than to look again when it goes off too early. With the span that it was set for: for a shorter
    /// one it would go off too late.
    timer: Option<(Duration, Timer)>,
    /// Something was written since the silence began.
    wrote: bool,
    /// No request has come yet.
    fresh: bool,
    lingering: Option<Timer>,
    _place: OwnedSemaphorePermit,
}

/// What the next bytes from the client are.
enum Expect {
    Head,
    Length(u64),
    Chunks(Chunks),
    /// Not HTTP any more.
    Anything,
    /// Not wanted: the connection ends with the answer under way.
    Nothing,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Wait {
    Head,
    Idle,
}

impl<S: AsyncRead + AsyncWrite> Wire<S> {
    pub(super) fn new(io: S, exchange: Arc<Exchange>, limits: Limits, place: OwnedSemaphorePermit) -> Self {
        let mut io = TimeoutStream::new(io);
        io.set_write_timeout(Some(limits.write_stall));
        Self {
            io: Box::pin(io),
            exchange,
            limits,
            expect: Expect::Head,
            input: BytesMut::new(),
            ready: 0,
            searched: 0,
            silence: None,
            timer: None,
            wrote: false,
            fresh: true,
            lingering: None,
            _place: place,
        }
    }

    /// Looks how much of `input` can be understood, when everything that was has been handed on.
    fn advance(&mut self) {
        if self.exchange.is_upgraded() {
            self.expect = Expect::Anything;
        }
        let length = self.input.len();
        self.ready = match &mut self.expect {
            Expect::Head => return self.advance_head(),
            Expect::Nothing => return self.input.clear(),
            Expect::Anything => length,
            Expect::Length(left) => {
                let taken = (*left).min(length as u64);
                *left -= taken;
                if *left == 0 {
                    self.expect = Expect::Head;
                }
                taken as usize
            }
            Expect::Chunks(chunks) => match chunks.scan(&self.input) {
                Scan::More => length,
                Scan::End(taken) => {
                    self.expect = Expect::Head;
                    taken
                }
                Scan::Broken => {
                    // hyper shall see what is wrong with it, and nothing behind it.
                    self.expect = Expect::Nothing;
                    length
                }
            },
        };
    }

    fn advance_head(&mut self) {
        // An empty line before a request is forgiven (RFC 9112, 2.2).
        while self.input.starts_with(b"\r\n") {
            self.input.advance(2);
            self.searched = 0;
        }
        if !self.input.first().is_none_or(|first| first.is_ascii_graphic() || *first == b'\r') {
            return self.refuse(head::malformed("This is not HTTP."));
        }
        let Some(end) = end_of_head(&self.input, self.searched) else {
            self.searched = self.input.len();
            if self.input.len() > self.limits.max_head {
                self.refuse(self.too_large());
            }
            return;
        };
        if end > self.limits.max_head {
            return self.refuse(self.too_large());
        }
        match head::judge(&self.input[..end]) {
            Err(refusal) => self.refuse(refusal),
            Ok(framing) => {
                self.ready = end;
                self.expect = match framing {
                    Framing::Length(0) => Expect::Head,
                    Framing::Length(length) => Expect::Length(length),
                    Framing::Chunked => Expect::Chunks(Chunks::START),
                };
                self.head_done(None);
            }
        }
    }

    fn too_large(&self) -> Refusal {
        if self.input.contains(&b'\n') {
            head::too_large("The request head is too large.")
        } else {
            Refusal::new(StatusCode::URI_TOO_LONG, "target_too_long", "The request line is too long.")
        }
    }

    fn refuse(&mut self, refusal: Refusal) {
        let replacement = if self.input.starts_with(b"HEAD ") { REPLACEMENT_HEAD } else { REPLACEMENT };
        self.input.clear();
        self.input.extend_from_slice(replacement);
        self.ready = replacement.len();
        self.expect = Expect::Nothing;
        self.head_done(Some(refusal));
    }

    fn head_done(&mut self, refusal: Option<Refusal>) {
        self.exchange.pass(refusal);
        self.searched = 0;
        self.fresh = false;
        self.silence = None;
    }

    /// The silence that has lasted too long, if one has. Arranges to be woken when one will have.
    fn overdue(&mut self, cx: &mut Context<'_>) -> Option<Wait> {
        let wait = match self.expect {
            Expect::Head if !self.input.is_empty() => Wait::Head,
            Expect::Head if !self.exchange.is_busy() => Wait::Idle,
            _ => {
                self.silence = None;
                return None;
            }
        };
        let span = if wait == Wait::Head || self.fresh { self.limits.header_read } else { self.limits.keep_alive };
        loop {
            let since = match self.silence {
                Some((kind, since)) if kind == wait => since,
                _ => {
                    self.wrote = false;
                    self.silence.insert((wait, Stopwatch::start())).1
                }
            };
            match &mut self.timer {
                Some((set, timer)) if *set == span => {
                    if timer.as_mut().poll(cx).is_pending() {
                        return None;
                    }
                    self.timer = None;
                }
                timer => *timer = Some((span, Box::pin(clock::pause(span.saturating_sub(since.elapsed()))))),
            }
            if self.timer.is_none() && since.elapsed() >= span {
                self.silence = None;
                // The rest of an answer was still going out: the client was not idle.
                if !(wait == Wait::Idle && self.wrote) {
                    return Some(wait);
                }
            }
        }
    }

    fn fill(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        self.input.reserve(READ);
        tokio_util::io::poll_read_buf(self.io.as_mut(), cx, &mut self.input)
    }

    /// Whether the client may still be sending something that nobody will read.
    fn is_interrupted(&self) -> bool {
        match self.expect {
            Expect::Head => !self.input.is_empty(),
            Expect::Anything => false,
            Expect::Length(_) | Expect::Chunks(_) | Expect::Nothing => true,
        }
    }
}

/// The length of the head at the start of `input`, empty line included. Where no line is empty but for a bare LF it ends there, so
/// that it is judged, and refused, instead of waited for.
fn end_of_head(input: &[u8], searched: usize) -> Option<usize> {
    let from = searched.saturating_sub(3);
    let after = |line: &[u8]| memmem::find(&input[from..], line).map(|at| from + at + line.len());
    after(b"\n\r\n").or_else(|| after(b"\n\n"))
}

impl<S: AsyncRead + AsyncWrite> AsyncRead for Wire<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        this.exchange.watch(cx.waker());
        loop {
            if this.ready == 0 {
                this.advance();
            }
            if this.ready > 0 {
                let taken = this.ready.min(buf.remaining());
                buf.put_slice(&this.input[..taken]);
                this.input.advance(taken);
                this.ready -= taken;
                return Poll::Ready(Ok(()));
            }
            if matches!(this.expect, Expect::Nothing) {
                // Not the end of the stream, which hyper would take for a client that has gone away.
                return Poll::Pending;
            }
            match this.fill(cx) {
                Poll::Ready(Ok(0)) => return Poll::Ready(Ok(())),
                Poll::Ready(Ok(_)) => {}
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => match this.overdue(cx) {
                    None => return Poll::Pending,
                    Some(Wait::Idle) => return Poll::Ready(Ok(())),
                    Some(Wait::Head) => this.refuse(Refusal::new(
                        StatusCode::REQUEST_TIMEOUT,
                        "request_timeout",
                        "The request head did not arrive in time.",
                    )),
                },
            }
        }
    }
}

impl<S: AsyncRead + AsyncWrite> AsyncWrite for Wire<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let written = ready!(self.io.as_mut().poll_write(cx, buf));
        self.wrote = true;
        Poll::Ready(written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = ready!(self.io.as_mut().poll_write_vectored(cx, bufs));
        self.wrote = true;
        Poll::Ready(written)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.io.as_mut().poll_flush(cx)
    }

    /// Closes our half; then, if the client is still sending, reads what comes into nowhere for a while. Closing the
    /// socket with unread bytes in it would send a reset, and the client might never see the answer.
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.lingering.is_none() {
            ready!(self.io.as_mut().poll_shutdown(cx))?;
            if !self.is_interrupted() {
                return Poll::Ready(Ok(()));
            }
            self.lingering = Some(Box::pin(clock::pause(self.limits.linger)));
        }
        loop {
            if self.lingering.as_mut().is_some_and(|timer| timer.as_mut().poll(cx).is_ready()) {
                return Poll::Ready(Ok(()));
            }
            self.input.clear();
            match ready!(self.fill(cx)) {
                Ok(1..) => {}
                Ok(0) | Err(_) => return Poll::Ready(Ok(())),
            }
        }
    }
}
