//! One SMTP conversation: lines between a socket and mailin's protocol machine. Knows nothing of what a mail contains.

use std::io;
use std::net::IpAddr;
use std::time::Duration;

use mailin::{Action, AuthMechanism, Handler, Response, SessionBuilder, response};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

use super::{Mail, Mailbox};
use crate::clock;
use crate::secret::Secret;

/// The longest line: RFC 5321 asks for 1000, and some clients send more.
const LINE: usize = 8 << 10;
/// The largest mail.
const MAIL: usize = 1 << 20;
/// The recipients of one mail, as RFC 5321 asks for.
const RECIPIENTS: usize = 100;
/// How long a client may think, and how long a reply may take to be taken.
const IDLE: Duration = Duration::from_secs(60);

/// Serves one client until it goes, misbehaves or is told to go.
pub(super) async fn converse(mailbox: &Mailbox, stream: TcpStream, peer: IpAddr) -> io::Result<()> {
    let mut builder = SessionBuilder::new("mail.demo.invalid");
    if mailbox.0.credentials.is_some() {
        builder.enable_auth(AuthMechanism::Plain).insecure_enable_plaintext_auth();
    }
    let mut session = builder.build(peer, Receiver::new(mailbox.clone()));
    let (reading, mut writing) = stream.into_split();
    let mut reading = BufReader::new(reading);
    let mut line = Vec::new();
    let mut reply = session.greeting();
    loop {
        let text = reply.buffer()?;
        if !text.is_empty() {
            let slow = mailbox.0.faults.borrow().slow;
            clock::pause(slow).await;
            clock::within(IDLE, writing.write_all(&text)).await.map_err(io::Error::other)??;
        }
        if reply.action == Action::Close || ends_data_in_error(&reply) {
            return Ok(());
        }
        line.clear();
        let bounded = &mut (&mut reading).take(LINE as u64);
        clock::within(IDLE, bounded.read_until(b'\n', &mut line)).await.map_err(io::Error::other)??;
        if !line.ends_with(b"\n") {
            return Ok(());
        }
        reply = session.process(&line);
    }
}

/// mailin stays in the data phase after it refused the data, and would take the next command for text: hang up.
fn ends_data_in_error(reply: &Response) -> bool {
    matches!(reply.code, 552 | 554)
}

struct Receiver {
    mailbox: Mailbox,
    from: String,
    to: Vec<String>,
    raw: Vec<u8>,
}

impl Receiver {
    fn new(mailbox: Mailbox) -> Self {
        Self { mailbox, from: String::new(), to: Vec::new(), raw: Vec::new() }
    }
}

impl Handler for Receiver {
    fn mail(&mut self, _ip: IpAddr, _domain: &str, from: &str) -> Response {
        let refuse = self.mailbox.0.faults.borrow().refuse;
        if let Some(code) = refuse {
            return Response::custom(code, "refused, as the demo was asked to".into());
        }
        from.clone_into(&mut self.from);
        self.to.clear();
        response::OK
    }

    fn rcpt(&mut self, to: &str) -> Response {
        if self.to.len() >= RECIPIENTS {
            return Response::custom(452, "too many recipients".into());
        }
        self.to.push(to.to_owned());
        response::OK
    }

    fn data_start(&mut self, _domain: &str, _from: &str, _is8bit: bool, _to: &[String]) -> Response {
        self.raw.clear();
        response::OK
    }

    fn data(&mut self, line: &[u8]) -> io::Result<()> {
        // One byte more than allowed is kept as the mark that the mail was too large; the end of the data refuses it.
        let room = (MAIL + 1).saturating_sub(self.raw.len());
        self.raw.extend_from_slice(&line[..line.len().min(room)]);
        Ok(())
    }

    fn data_end(&mut self) -> Response {
        if self.raw.len() > MAIL {
            return response::NO_STORAGE;
        }
        self.mailbox.keep(Mail {
            at: self.mailbox.0.clock.now(),
            from: std::mem::take(&mut self.from),
            to: std::mem::take(&mut self.to),
            raw: std::mem::take(&mut self.raw),
        });
        response::OK
    }

    fn auth_plain(&mut self, _authorization_id: &str, user: &str, password: &str) -> Response {
        match &self.mailbox.0.credentials {
            Some((known, secret)) if known == user && *secret == Secret::new(password) => response::AUTH_OK,
            _ => response::INVALID_CREDENTIALS,
        }
    }
}
