//! The mail server in raw SMTP dialogue.

use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

use super::*;

const LIMIT: Duration = Duration::from_secs(20);

struct Client(BufReader<TcpStream>);

impl Client {
    async fn connect(mailbox: &Mailbox) -> Self {
        let mut client = Self(BufReader::new(TcpStream::connect(mailbox.address()).await.unwrap()));
        assert!(client.reply().await.starts_with("220 "));
        client
    }

    async fn reply(&mut self) -> String {
        let mut reply = String::new();
        loop {
            let mut line = String::new();
            let read = clock::within(LIMIT, self.0.read_line(&mut line)).await.unwrap().unwrap();
            let last = read == 0 || line.as_bytes().get(3) != Some(&b'-');
            reply.push_str(&line);
            if last {
                return reply;
            }
        }
    }

    async fn say(&mut self, line: &str) -> String {
        self.0.get_mut().write_all(format!("{line}\r\n").as_bytes()).await.unwrap();
        self.reply().await
    }

    async fn send(&mut self, mail: &str) -> String {
        assert!(self.say("MAIL FROM:<porter@example.com>").await.starts_with("250"));
        assert!(self.say("RCPT TO:<ops@example.com>").await.starts_with("250"));
        assert!(self.say("DATA").await.starts_with("354"));
        self.say(&format!("{mail}\r\n.")).await
    }

    async fn is_closed(&mut self) -> bool {
        clock::within(LIMIT, self.0.read_u8()).await.unwrap().is_err()
    }
}

async fn mailbox(credentials: Option<(String, Secret)>) -> (Mailbox, Lifecycle) {
    let life = Lifecycle::new();
    let clock = Clock::held(crate::clock::Time::from_millis(1_700_000_000_000));
    (Mailbox::start(credentials, &clock, &life).await.unwrap(), life)
}

#[tokio::test]
async fn a_mail_arrives_with_its_korean_subject_and_text() {
    let (mailbox, _life) = mailbox(None).await;
    let mut client = Client::connect(&mailbox).await;
    assert!(client.say("EHLO porter").await.starts_with("250-"));
    let sent = client
        .send(
            "Subject: =?utf-8?B?7ZWc67mb7YOd67Cw?=\r\n =?utf-8?Q?_=EB=A1=9C=EA=B7=B8=EC=9D=B8?= [vroong]\r\n\
             Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: base64\r\n\r\n\
             66Gc6re47J247J20IO2VhOyalO2V\r\nqeuLiOuLpA==",
        )
        .await;
    assert!(sent.starts_with("250"), "{sent}");
    let mail = mailbox.nth(1, LIMIT).await.unwrap();
    assert_eq!(mail.subject(), "한빛택배 로그인 [vroong]");
    assert_eq!(mail.body(), "로그인이 필요합니다");
    assert_eq!((mail.from.as_str(), mail.to.as_slice()), ("porter@example.com", &["ops@example.com".to_owned()][..]));
    assert_eq!(mail.at, crate::clock::Time::from_millis(1_700_000_000_000));

    client
        .send(
            "Subject: plain\r\nContent-Type: multipart/alternative; boundary=\"b1\"\r\n\r\n--b1\r\n\
             Content-Type: text/html\r\n\r\n<p>no</p>\r\n--b1\r\nContent-Type: text/plain; charset=utf-8\r\n\
             Content-Transfer-Encoding: quoted-printable\r\n\r\n=EC=98=88=\r\n!\r\n..dot\r\n--b1--",
        )
        .await;
    let mail = mailbox.nth(2, LIMIT).await.unwrap();
    assert_eq!((mail.subject().as_str(), mail.body().as_str()), ("plain", "예!\n.dot"));
    assert!(client.say("QUIT").await.starts_with("221"));
    assert_eq!((mailbox.count(), mailbox.all().len()), (2, 2));
}

#[tokio::test]
async fn refusals_are_real_and_end_when_switched_off() {
    let (mailbox, _life) = mailbox(None).await;
    let mut client = Client::connect(&mailbox).await;
    client.say("EHLO porter").await;
    mailbox.faults(|faults| faults.refuse = Some(451));
    assert!(client.say("MAIL FROM:<a@example.com>").await.starts_with("451"));
    mailbox.faults(|faults| faults.refuse = None);
    assert!(client.send("Subject: now").await.starts_with("250"));
    mailbox.faults(|faults| faults.refuse = Some(421));
    assert!(client.say("MAIL FROM:<a@example.com>").await.starts_with("421"));
    assert!(client.is_closed().await);
    assert_eq!(mailbox.count(), 1);
}

#[tokio::test]
async fn a_closed_port_refuses_and_opens_again_with_the_mails_kept() {
    let (mailbox, life) = mailbox(None).await;
    let mut client = Client::connect(&mailbox).await;
    client.say("EHLO porter").await;
    client.send("Subject: one").await;
    mailbox.close().await;
    assert!(client.is_closed().await);
    assert!(TcpStream::connect(mailbox.address()).await.is_err());
    mailbox.reopen().await.unwrap();
    let mut client = Client::connect(&mailbox).await;
    client.say("EHLO porter").await;
    client.send("Subject: two").await;
    let subjects: Vec<_> = mailbox.all().iter().map(Mail::subject).collect();
    assert_eq!(subjects, ["one", "two"]);
    assert!(life.shutdown(LIMIT).await);
}

#[tokio::test]
async fn what_is_too_large_is_refused_and_the_connection_ends() {
    let (mailbox, _life) = mailbox(None).await;
    let mut client = Client::connect(&mailbox).await;
    client.say("EHLO porter").await;
    let line = "x".repeat(1000) + "\r\n";
    let sent = client.send(&line.repeat(1100)).await;
    assert!(sent.starts_with("552"), "{sent}");
    assert!(client.is_closed().await);
    assert_eq!(mailbox.count(), 0);
}

#[tokio::test]
async fn with_credentials_only_the_right_ones_may_send() {
    let (mailbox, _life) = mailbox(Some(("porter".into(), Secret::new("geheim")))).await;
    let mut client = Client::connect(&mailbox).await;
    assert!(client.say("EHLO porter").await.contains("AUTH PLAIN"));
    assert!(client.say("MAIL FROM:<a@example.com>").await.starts_with("503"));
    let plain = |password: &str| data_encoding::BASE64.encode(format!("\0porter\0{password}").as_bytes());
    assert!(client.say(&format!("AUTH PLAIN {}", plain("wrong"))).await.starts_with("535"));
    assert!(client.say(&format!("AUTH PLAIN {}", plain("geheim"))).await.starts_with("235"));
    assert!(client.send("Subject: in").await.starts_with("250"));
}
