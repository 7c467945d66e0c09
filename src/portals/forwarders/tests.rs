//! All formats as a stranger meets them: what is signed is read, what was touched is not, and no bytes make a reader fall.

use proptest::prelude::*;
use serde_json::{Value, json};
use url::Url;

use super::*;
use crate::secret::{hmac_sha1, hmac_sha256};

const NOW: Time = Time::from_millis(1_700_000_000_000);
const TEXT: &str = "[Web발신]\n인증번호 [572913] 를 입력해 주세요. \"타인노출금지\" & 100%+";
const URL: &str = "https://porter.example.com/api/phones/office/sms";
const TARGET: &str = "/api/phones/office/sms";
/// Base64 of a signature that the app's own function made.
const PUBLISHED: &str = "OuzzJR5+xZ4/EYwqtNt6sMYZQMTa/HEGvc9miJe7XzY=";

/// A request that can be touched.
#[derive(Clone, Debug)]
struct Post {
    header: (&'static str, String),
    body: Vec<u8>,
    target: &'static str,
}

impl Post {
    fn new(name: &'static str, value: impl Into<String>, body: impl Into<Vec<u8>>) -> Self {
        Self { header: (name, value.into()), body: body.into(), target: TARGET }
    }

    fn read_at(&self, forwarder: &dyn Forwarder, now: Time) -> Result<Event, Rejected> {
        let header = |name: &str| if name == self.header.0 { Some(self.header.1.as_str()) } else { None };
        forwarder.read(&Incoming { header: &header, target: self.target, body: &self.body, now })
    }

    fn read(&self, forwarder: &dyn Forwarder) -> Result<Event, Rejected> {
        self.read_at(forwarder, NOW)
    }
}

fn secret() -> Secret {
    Secret::new("secret")
}

fn all() -> [Box<dyn Forwarder>; 7] {
    let url: Url = "https://porter.example.com".parse().unwrap();
    [
        Box::new(Capcom6::new(secret())),
        Box::new(HttpSms::new(secret(), URL.to_owned())),
        Box::new(SmsForwarder::new(secret())),
        Box::new(Bogkonstantin::new(secret())),
        Box::new(TextBee::new(secret())),
        Box::new(Twilio::new(secret(), &url)),
        Box::new(Json::new(secret())),
    ]
}

fn sms(from: &str, sent_at: Option<u64>, event_id: Option<&str>) -> Result<Event, Rejected> {
    let (from, event_id) = (from.to_owned(), event_id.map(str::to_owned));
    Ok(Event::Sms(Message { from, text: Secret::new(TEXT), sent_at: sent_at.map(Time::from_millis), event_id }))
}

fn field(read: Result<Event, Rejected>) -> String {
    match read {
        Err(Rejected::Malformed { field }) => field,
        other => panic!("{other:?}"),
    }
}

fn encoded(text: &str) -> String {
    percent_encoding::utf8_percent_encode(text, percent_encoding::NON_ALPHANUMERIC).to_string()
}

fn form(fields: &[(&str, &str)]) -> String {
    let pairs: Vec<_> = fields.iter().map(|(name, value)| format!("{name}={}", encoded(value))).collect();
    pairs.join("&")
}

fn jwt(claims: &Value, key: &str) -> String {
    let part = |value: &Value| data_encoding::BASE64URL_NOPAD.encode(value.to_string().as_bytes());
    let head = format!("{}.{}", part(&json!({"alg": "HS256", "typ": "JWT"})), part(claims));
    let tag = hmac_sha256(key.as_bytes(), &[head.as_bytes()]);
    format!("{head}.{}", data_encoding::BASE64URL_NOPAD.encode(&tag))
}

fn claims() -> Value {
    json!({"iss": "api.httpsms.com", "aud": [URL], "exp": 1_700_000_600, "iat": 1_700_000_000, "nbf": 1_699_999_400,
        "sub": "XtABz6zdeFMoBLoltz6SREDvRSh2"})
}

fn httpsms(claims: &Value, event: &Value) -> Post {
    Post::new("authorization", format!("Bearer {}", jwt(claims, "secret")), event.to_string())
}

fn cloud_event() -> Value {
    json!({"specversion": "1.0", "id": "f4aed1d3", "source": "/v1/messages/receive", "type": "message.phone.received",
        "time": "2023-11-14T22:13:21.524331882Z", "datacontenttype": "application/json", "data": {"message_id": "0b01",
        "user_id": "Xt", "owner": "+8210", "encrypted": false, "contact": "15881234", "sim": "SIM1",
        "timestamp": "2023-11-14T22:13:20.814Z", "content": TEXT}})
}

#[test]
fn an_httpsms_event_is_read_behind_its_token() {
    let forwarder = HttpSms::new(secret(), URL.to_owned());
    let read = |event: &Value| httpsms(&claims(), event).read(&forwarder);
    assert_eq!(read(&cloud_event()), sms("15881234", Some(1_700_000_000_814), Some("f4aed1d3")));
    for (kind, event) in [
        ("phone.heartbeat.online", Event::Ping),
        ("phone.heartbeat.offline", Event::Gone),
        ("message.phone.sent", Event::Other("message.phone.sent".to_owned())),
    ] {
        assert_eq!(read(&json!({"type": kind, "id": "x", "data": {}})), Ok(event));
    }
    let changed = |pointer: &str, value: Value| {
        let mut event = cloud_event();
        *event.pointer_mut(pointer).unwrap() = value;
        field(read(&event))
    };
    assert_eq!(changed("/type", Value::Null), "type");
    assert_eq!(changed("/data", Value::Null), "data");
    assert_eq!(changed("/data/contact", Value::Null), "data.contact");
    assert_eq!(changed("/data/content", json!(5)), "data.content");
    assert_eq!(changed("/data/timestamp", json!("noon")), "data.timestamp");
    assert_eq!(changed("/data/encrypted", json!(true)), "data.encrypted");
}

#[test]
fn an_httpsms_token_counts_for_its_webhook_and_its_time() {
    let forwarder = HttpSms::new(secret(), URL.to_owned());
    let with = |name: &str, value: Value| {
        let mut claims = claims();
        claims[name] = value;
        httpsms(&claims, &cloud_event()).read(&forwarder).map(drop)
    };
    assert_eq!(with("aud", json!(URL)), Ok(()));
    assert_eq!(with("aud", json!(["https://other.example", URL])), Ok(()));
    for (name, value) in [
        ("aud", json!(["https://porter.example.com/api/phones/home/sms"])),
        ("aud", json!([])),
        ("aud", Value::Null),
        ("iss", json!("api.example.com")),
        ("iss", Value::Null),
        ("exp", Value::Null),
        ("exp", json!("soon")),
    ] {
        assert_eq!(with(name, value.clone()), Err(Rejected::Signature), "{name} {value}");
    }
    for (name, seconds) in
        [("exp", 1_700_000_000_u64), ("exp", 1_700_000_901), ("exp", u64::MAX), ("nbf", 1_700_000_301)]
    {
        assert_eq!(with(name, json!(seconds)), Err(Rejected::Window), "{name} {seconds}");
    }
    let none = format!("{}.{}.", data_encoding::BASE64URL_NOPAD.encode(br#"{"alg":"none"}"#), {
        data_encoding::BASE64URL_NOPAD.encode(claims().to_string().as_bytes())
    });
    for token in
        [jwt(&claims(), "other"), none, "a.b.c".to_owned(), String::new(), jwt(&claims(), "secret")[1..].to_owned()]
    {
        let post = Post::new("authorization", format!("Bearer {token}"), cloud_event().to_string());
        assert_eq!(post.read(&forwarder), Err(Rejected::Signature), "{token}");
    }
}

fn smsforwarder_sign(timestamp: &str) -> String {
    data_encoding::BASE64.encode(&hmac_sha256(b"secret", &[timestamp.as_bytes(), b"\nsecret"]))
}

#[test]
fn the_published_signature_of_smsforwarder_passes_however_often_it_is_encoded() {
    assert_eq!(smsforwarder_sign("1700000000000"), PUBLISHED);
    let forwarder = SmsForwarder::new(secret());
    let signs = [PUBLISHED.to_owned(), encoded(PUBLISHED), encoded(&encoded(PUBLISHED)), PUBLISHED.replace('+', " ")];
    for sign in signs {
        let fields = [("from", "15881234"), ("content", TEXT), ("timestamp", "1700000000000"), ("sign", &sign)];
        assert_eq!(Post::new("", "", form(&fields)).read(&forwarder), sms("15881234", None, None), "{sign}");
        for timestamp in [json!(1_700_000_000_000_u64), json!("1700000000000")] {
            let body =
                json!({"from": "15881234", "content": TEXT, "timestamp": timestamp, "sign": sign, "sim": {"a": 1}});
            assert_eq!(Post::new("", "", body.to_string()).read(&forwarder), sms("15881234", None, None), "{body}");
        }
    }
    let read = |fields: &[(&str, &str)]| Post::new("", "", form(fields)).read(&forwarder);
    let proof = [("timestamp", "1700000000000"), ("sign", PUBLISHED)];
    assert_eq!(field(read(&[proof[0], proof[1], ("content", TEXT)])), "from");
    assert_eq!(field(read(&[proof[0], proof[1], ("from", "1")])), "content");
    assert_eq!(field(read(&[proof[0], proof[1], ("from", "1"), ("from", "2")])), "from");
    let invalid = format!("{}&from=1&content=%ff", form(&proof));
    assert_eq!(field(Post::new("", "", invalid).read(&forwarder)), "content");
    let wrong = json!({"from": 5, "content": TEXT, "timestamp": "1700000000000", "sign": PUBLISHED});
    assert_eq!(field(Post::new("", "", wrong.to_string()).read(&forwarder)), "from");
    for bare in [&proof[..1], &proof[1..], &[("timestamp", "1700000000001"), proof[1]], &[]] {
        assert_eq!(read(bare), Err(Rejected::Signature), "{bare:?}");
    }
    let post = Post::new("", "", form(&[proof[0], proof[1], ("from", "1"), ("content", "x")]));
    let minutes = |n: u64| std::time::Duration::from_secs(60 * n);
    assert!(post.read_at(&forwarder, NOW + minutes(5)).is_ok() && post.read_at(&forwarder, NOW - minutes(5)).is_ok());
    assert_eq!(post.read_at(&forwarder, NOW + minutes(6)), Err(Rejected::Window));
    assert_eq!(read(&[("timestamp", "noon"), ("sign", &smsforwarder_sign("noon"))]), Err(Rejected::Window));
}

#[test]
fn the_template_of_bogkonstantin_is_read_behind_its_token() {
    let forwarder = Bogkonstantin::new(secret());
    let read = |body: Value| Post::new("authorization", "Bearer secret", body.to_string()).read(&forwarder);
    for (sent, received, at) in [
        (json!(1_700_000_000_000_u64), json!(1_700_000_005_000_u64), Some(1_700_000_000_000)),
        (json!("1700000000000"), json!("1700000005000"), Some(1_700_000_000_000)),
        (json!(0), json!("1700000005000"), Some(1_700_000_005_000)),
        (json!(null), json!(null), None),
    ] {
        let body =
            json!({"from": "15881234", "text": TEXT, "sentStamp": sent, "receivedStamp": received, "sim": "sim1"});
        assert_eq!(read(body.clone()), sms("15881234", at, None), "{body}");
    }
    assert_eq!(field(read(json!({"text": "x"}))), "from");
    assert_eq!(field(read(json!({"from": "1", "text": ["x"]}))), "text");
    assert_eq!(field(read(json!({"from": "1", "text": "x", "sentStamp": "%sentStamp%"}))), "sentStamp");
    let stranger = Post::new("authorization", "Bearer guess", "{}");
    assert_eq!(stranger.read(&forwarder), Err(Rejected::Signature));
    assert_eq!(Post::new("", "", "{}").read(&forwarder), Err(Rejected::Signature));
}

fn textbee(body: &Value) -> Post {
    let body = body.to_string();
    let tag = hmac_sha256(b"secret", &[body.as_bytes()]);
    Post::new("x-signature", data_encoding::HEXLOWER.encode(&tag), body)
}

fn textbee_received() -> Value {
    json!({"smsId": "s1", "sender": "15881234", "message": TEXT, "receivedAt": "2023-11-14T22:13:20.000Z",
        "deviceId": "d", "webhookSubscriptionId": "w", "webhookEvent": "MESSAGE_RECEIVED", "new": [1]})
}

#[test]
fn a_textbee_webhook_is_read_behind_its_signature() {
    let forwarder = TextBee::new(secret());
    assert_eq!(textbee(&textbee_received()).read(&forwarder), sms("15881234", Some(1_700_000_000_000), Some("s1")));
    let sent = textbee(&json!({"webhookEvent": "MESSAGE_SENT"})).read(&forwarder);
    assert_eq!(sent, Ok(Event::Other("MESSAGE_SENT".to_owned())));
    for name in ["webhookEvent", "sender", "message"] {
        let mut body = textbee_received();
        body.as_object_mut().unwrap().remove(name);
        assert_eq!(field(textbee(&body).read(&forwarder)), name);
    }
}

fn twilio(origin: &str, target: &'static str, fields: &[(&str, &str)]) -> Post {
    let mut sorted = fields.to_vec();
    sorted.sort_unstable();
    let signed: String = sorted.iter().flat_map(|(name, value)| [*name, *value]).collect();
    let tag = hmac_sha1(b"secret", format!("{origin}{target}{signed}").as_bytes());
    let post = Post::new("x-twilio-signature", data_encoding::BASE64.encode(&tag), form(fields));
    Post { target, ..post }
}

const TWILIO: &[(&str, &str)] = &[
    ("MessageSid", "SM1"),
    ("From", "+8215881234"),
    ("To", "+1555"),
    ("NumMedia", "0"),
    ("Body", TEXT),
    ("Empty", ""),
];

#[test]
fn a_twilio_form_is_read_behind_the_signature_of_the_public_address() {
    let forwarder = |url: &str| Twilio::new(secret(), &url.parse().unwrap());
    let ours = forwarder("https://porter.example.com");
    let read = sms("+8215881234", None, Some("SM1"));
    for origin in ["https://porter.example.com", "https://porter.example.com:443"] {
        assert_eq!(twilio(origin, TARGET, TWILIO).read(&ours), read, "{origin}");
        let query = "/api/phones/office/sms?a=1&b=%EC%9D%B8";
        assert_eq!(twilio(origin, query, TWILIO).read(&ours), read, "{origin}");
    }
    let elsewhere = twilio("https://porter.example.com:8443", TARGET, TWILIO);
    assert_eq!(elsewhere.read(&forwarder("https://porter.example.com:8443")), read);
    assert_eq!(elsewhere.read(&ours), Err(Rejected::Signature));
    let moved = Post { target: "/api/phones/home/sms", ..twilio("https://porter.example.com", TARGET, TWILIO) };
    assert_eq!(moved.read(&ours), Err(Rejected::Signature));
    assert_eq!(twilio("http://porter.example.com", TARGET, TWILIO).read(&ours), Err(Rejected::Signature));
    let field = |fields: &[(&str, &str)]| field(twilio("https://porter.example.com", TARGET, fields).read(&ours));
    assert_eq!(field(&TWILIO[2..]), "From");
    assert_eq!(field(&TWILIO[..2]), "Body");
    assert_eq!(field(&[TWILIO[1], ("Body", "1"), ("Body", "2")]), "Body");
}

#[test]
fn an_empty_secret_opens_nothing() {
    let empty = || Secret::new("");
    let tag = |body: &str| data_encoding::HEXLOWER.encode(&hmac_sha256(b"", &[body.as_bytes()]));
    assert_eq!(Post::new("x-signature", tag("{}"), "{}").read(&TextBee::new(empty())), Err(Rejected::Signature));
    for forwarder in [Box::new(Json::new(empty())) as Box<dyn Forwarder>, Box::new(Bogkonstantin::new(empty()))] {
        assert_eq!(Post::new("authorization", "Bearer ", "{}").read(&*forwarder), Err(Rejected::Signature));
    }
    let token = Post::new("authorization", format!("Bearer {}", jwt(&claims(), "")), cloud_event().to_string());
    assert_eq!(token.read(&HttpSms::new(empty(), URL.to_owned())), Err(Rejected::Signature));
}

#[test]
fn a_touched_body_is_refused_where_the_signature_covers_it() {
    let twilio_reader = Twilio::new(secret(), &"https://porter.example.com".parse().unwrap());
    let textbee_reader = TextBee::new(secret());
    let covered: [(&dyn Forwarder, Post); 2] = [
        (&textbee_reader, textbee(&textbee_received())),
        (&twilio_reader, twilio("https://porter.example.com", TARGET, TWILIO)),
    ];
    for (reader, post) in covered {
        assert!(post.read(reader).is_ok());
        for bit in 0..post.body.len() * 8 {
            let mut touched = post.clone();
            touched.body[bit / 8] ^= 1 << (bit % 8);
            // Twilio's signature covers what a form says, not how its letters are encoded.
            let says = |body: &[u8]| {
                let form = form::Form::read(body).ok()?;
                Some(form.sorted()?.into_iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>())
            };
            let same = post.header.0 == "x-twilio-signature" && says(&touched.body) == says(&post.body);
            assert!(same || touched.read(reader) == Err(Rejected::Signature), "bit {bit} of {reader:?}");
        }
    }
}

#[test]
fn a_touched_signature_is_refused() {
    let fields = [("from", "1"), ("content", "x"), ("timestamp", "1700000000000")];
    let unsigned = form(&fields);
    let signed = |sign: &str| Post::new("", "", format!("{unsigned}&sign={}", encoded(sign)));
    assert!(signed(PUBLISHED).read(&SmsForwarder::new(secret())).is_ok());
    for (place, letter) in PUBLISHED.char_indices() {
        let other = if letter == 'A' { "B" } else { "A" };
        let touched = signed(&[&PUBLISHED[..place], other, &PUBLISHED[place + 1..]].concat());
        assert_eq!(touched.read(&SmsForwarder::new(secret())), Err(Rejected::Signature), "{place}");
    }
    let readers = all();
    let posts = [
        (1, httpsms(&claims(), &cloud_event())),
        (4, textbee(&textbee_received())),
        (5, twilio("https://porter.example.com", TARGET, TWILIO)),
    ];
    for (reader, post) in posts {
        let (name, value) = &post.header;
        let begin = value.find(' ').map_or(0, |space| space + 1);
        assert!(post.read(&*readers[reader]).is_ok());
        for place in begin..value.len() {
            // The neighbouring letter: in Base64 it differs in the last bits only, which a careless reader drops.
            let mut touched = value.clone().into_bytes();
            touched[place] ^= 1;
            let touched = Post { header: (name, String::from_utf8(touched).unwrap()), ..post.clone() };
            assert_eq!(touched.read(&*readers[reader]), Err(Rejected::Signature), "{name} at {place}");
        }
    }
}

#[test]
fn a_deep_or_huge_body_is_refused_and_not_followed() {
    let deep = format!("{{\"from\":\"1\",\"text\":\"x\",\"other\":{}{}}}", "[".repeat(50_000), "]".repeat(50_000));
    let post = Post::new("authorization", "Bearer secret", deep);
    for forwarder in [Box::new(Bogkonstantin::new(secret())) as Box<dyn Forwarder>, Box::new(Json::new(secret()))] {
        // Either answer will do, a stack that overflows will not.
        let _ = post.read(&*forwarder);
    }
    for field in ["sign", "timestamp", "other"] {
        let deep = format!("{{\"{field}\":{}", "[".repeat(50_000));
        assert_eq!(Post::new("", "", deep).read(&SmsForwarder::new(secret())), Err(Rejected::Signature));
    }
    let text = format!("{{\"from\":\"1\",\"text\":{}", "{\"a\":".repeat(50_000));
    assert_eq!(field(Post::new("authorization", "Bearer secret", text).read(&Bogkonstantin::new(secret()))), "text");
}

proptest! {
    #[test]
    fn no_bytes_make_a_reader_fall(
        body in prop::collection::vec(any::<u8>(), 0..400),
        text in "(\\{|\\[|\"|from|text|sign|timestamp|=|&|%|\\+|:|,|[0-9]{1,14}|\\}|\\]|.){0,60}",
        value in "(Bearer )?.{0,80}",
    ) {
        for name in ["authorization", "x-signature", "x-twilio-signature", ""] {
            for body in [&body[..], text.as_bytes()] {
                for forwarder in all() {
                    let read = Post::new(name, value.clone(), body).read(&*forwarder);
                    prop_assert!(matches!(read, Err(Rejected::Signature | Rejected::Window)), "{:?}", read);
                }
            }
        }
    }

    #[test]
    fn no_signed_bytes_make_a_reader_fall(
        body in prop::collection::vec(any::<u8>(), 0..400),
        text in "(\\{|\\[|\"|from|text|message|sender|webhookEvent|MESSAGE_RECEIVED|:|,|[0-9]{1,14}|\\}|\\]|.){0,60}",
    ) {
        for body in [&body[..], text.as_bytes()] {
            let tag = hmac_sha256(b"secret", &[body]);
            let _ = Post::new("x-signature", data_encoding::HEXLOWER.encode(&tag), body).read(&TextBee::new(secret()));
            let bearer = Post::new("authorization", "Bearer secret", body);
            let _ = (bearer.read(&Bogkonstantin::new(secret())), bearer.read(&Json::new(secret())));
            let token = Post::new("authorization", format!("Bearer {}", jwt(&claims(), "secret")), body);
            let _ = token.read(&HttpSms::new(secret(), URL.to_owned()));
        }
    }

    #[test]
    fn every_text_arrives_as_it_was_sent(text in ".{0,80}", from in ".{1,20}") {
        let fields = [("From", from.as_str()), ("Body", &text)];
        let post = twilio("https://porter.example.com", TARGET, &fields);
        let read = post.read(&Twilio::new(secret(), &"https://porter.example.com".parse().unwrap()));
        let expected = Message { from: from.clone(), text: Secret::new(text), sent_at: None, event_id: None };
        prop_assert_eq!(read, Ok(Event::Sms(expected)));
    }
}
