//! A real SMTP server on loopback, on the sans-io state machine of `mailin`, whose mood a test can set.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};

use mailin::{Action, AuthMechanism, Handler, Response, SessionBuilder, response};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::mpsc;

/// How the server behaves towards the next command.
#[derive(Clone, Debug, Default)]
pub(crate) struct Mood {
    /// Recipients that get a 550.
    pub(crate) unknown: Vec<String>,
    /// Recipients that get a 451.
    pub(crate) busy: Vec<String>,
    /// Only this user and password may send.
    pub(crate) login: Option<(String, String)>,
}

/// A mail as it arrived.
#[derive(Clone, Debug)]
pub(crate) struct Mail {
    pub(crate) to: Vec<String>,
    pub(crate) raw: String,
}

pub(crate) struct Smtp {
    pub(crate) address: SocketAddr,
    pub(crate) mood: Arc<Mutex<Mood>>,
    pub(crate) mails: mpsc::UnboundedReceiver<Mail>,
}

/// A port that refuses connections until [`Closed::open`]: bound, so that nobody else gets it, but not listening.
pub(crate) struct Closed(TcpSocket);

impl Closed {
    pub(crate) fn new() -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
        Self(socket)
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.0.local_addr().unwrap()
    }

    pub(crate) fn open(self, mood: Mood) -> Smtp {
        Smtp::serve(self.0.listen(64).unwrap(), mood)
    }
}

impl Smtp {
    pub(crate) fn start(mood: Mood) -> Self {
        Closed::new().open(mood)
    }

    pub(crate) fn url(&self) -> String {
        format!("smtp://{}", self.address)
    }

    fn serve(listener: TcpListener, mood: Mood) -> Self {
        let (address, mood) = (listener.local_addr().unwrap(), Arc::new(Mutex::new(mood)));
        let (tell, mails) = mpsc::unbounded_channel();
        let shared = mood.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(talk(stream, shared.clone(), tell.clone()));
            }
        });
        Self { address, mood, mails }
    }
}

async fn talk(stream: TcpStream, mood: Arc<Mutex<Mood>>, tell: mpsc::UnboundedSender<Mail>) {
    let mut builder = SessionBuilder::new("mailbox");
    if mood.lock().unwrap().login.is_some() {
        builder.enable_auth(AuthMechanism::Plain).insecure_enable_plaintext_auth();
    }
    let clerk = Clerk { mood, tell, to: Vec::new(), raw: Vec::new() };
    let mut session = builder.build(IpAddr::V4(Ipv4Addr::LOCALHOST), clerk);
    let (read, mut write) = stream.into_split();
    let mut read = BufReader::new(read);
    let mut answer = session.greeting();
    loop {
        let mut bytes = Vec::new();
        answer.write_to(&mut bytes).unwrap();
        if write.write_all(&bytes).await.is_err() || answer.action == Action::Close {
            return;
        }
        let mut line = Vec::new();
        match read.read_until(b'\n', &mut line).await {
            Ok(1..) => answer = session.process(&line),
            _ => return,
        }
    }
}

struct Clerk {
    mood: Arc<Mutex<Mood>>,
    tell: mpsc::UnboundedSender<Mail>,
    to: Vec<String>,
    raw: Vec<u8>,
}

impl Handler for Clerk {
    fn rcpt(&mut self, to: &str) -> Response {
        let mood = self.mood.lock().unwrap();
        if mood.unknown.iter().any(|unknown| unknown == to) {
            response::NO_MAILBOX
        } else if mood.busy.iter().any(|busy| busy == to) {
            response::INTERNAL_ERROR
        } else {
            response::OK
        }
    }

    fn data_start(&mut self, _domain: &str, _from: &str, _is8bit: bool, to: &[String]) -> Response {
        (self.to, self.raw) = (to.to_vec(), Vec::new());
        response::OK
    }

    fn data(&mut self, line: &[u8]) -> std::io::Result<()> {
        self.raw.extend_from_slice(line);
        Ok(())
    }

    fn data_end(&mut self) -> Response {
        let raw = String::from_utf8(std::mem::take(&mut self.raw)).unwrap();
        self.tell.send(Mail { to: std::mem::take(&mut self.to), raw }).unwrap();
        response::OK
    }

    fn auth_plain(&mut self, _: &str, user: &str, password: &str) -> Response {
        let right = self.mood.lock().unwrap().login.clone();
        if right == Some((user.to_owned(), password.to_owned())) {
            response::AUTH_OK
        } else {
            response::INVALID_CREDENTIALS
        }
    }
}

impl Mail {
    /// A header, unfolded and with its encoded words decoded.
    pub(crate) fn header(&self, name: &str) -> Option<String> {
        let head = self.raw.split("\r\n\r\n").next()?.replace("\r\n ", " ").replace("\r\n\t", " ");
        let line =
            head.split("\r\n").find(|line| line.to_lowercase().starts_with(&format!("{}:", name.to_lowercase())))?;
        let value = line.split_once(':')?.1.trim();
        let mut text = String::new();
        let mut last_encoded = false;
        for word in value.split(' ') {
            let encoded = word.strip_prefix("=?utf-8?b?").and_then(|word| word.strip_suffix("?="));
            match encoded {
                Some(word) => {
                    let glue = if text.is_empty() || last_encoded { "" } else { " " };
                    let bytes = data_encoding::BASE64.decode(word.as_bytes()).unwrap();
                    text += &format!("{glue}{}", String::from_utf8(bytes).unwrap());
                }
                None => text += &format!("{}{word}", if text.is_empty() { "" } else { " " }),
            }
            last_encoded = encoded.is_some();
        }
        Some(text)
    }

    /// The bodies of its parts, decoded; one for a mail without attachments.
    pub(crate) fn parts(&self) -> Vec<Vec<u8>> {
        let kind = self.header("Content-Type").unwrap();
        let Some((_, boundary)) = kind.split_once("boundary=\"") else { return vec![body(&self.raw)] };
        let boundary = format!("--{}", boundary.split('"').next().unwrap());
        let parts = self.raw.split(&boundary).skip(1).filter(|part| !part.starts_with("--"));
        parts.map(|part| body(part.trim_start_matches("\r\n"))).collect()
    }

    /// The text of its first part, with plain newlines.
    pub(crate) fn text(&self) -> String {
        String::from_utf8(self.parts().remove(0)).unwrap().replace("\r\n", "\n")
    }
}

fn body(part: &str) -> Vec<u8> {
    let (head, body) = part.split_once("\r\n\r\n").unwrap();
    let head = head.to_lowercase();
    if head.contains("content-transfer-encoding: base64") {
        let text: Vec<u8> = body.bytes().filter(|byte| !byte.is_ascii_whitespace()).collect();
        data_encoding::BASE64.decode(&text).unwrap()
    } else if head.contains("content-transfer-encoding: quoted-printable") {
        quoted_printable(body)
    } else {
        body.as_bytes().to_vec()
    }
}

fn quoted_printable(text: &str) -> Vec<u8> {
    let text = text.replace("=\r\n", "");
    let mut bytes = text.bytes();
    let mut out = Vec::new();
    while let Some(byte) = bytes.next() {
        if byte == b'=' {
            let hex = [bytes.next().unwrap(), bytes.next().unwrap()];
            out.extend(data_encoding::HEXUPPER.decode(&hex).unwrap());
        } else {
            out.push(byte);
        }
    }
    out
}
