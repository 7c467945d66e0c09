//! Telegram: one `sendMessage`, or `sendPhoto` with the text as its caption, so that a message is always one call.
//!
//! The token is part of the address; it reaches no log and no error. A 429 tells how long to wait, and that is obeyed.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::header::CONTENT_TYPE;
use hyper::{Request, StatusCode};

use super::channel::{Enclosure, Failure, Outgoing};
use super::settings::TelegramSettings;
use super::web::{Answer, Web};
use crate::secret::fingerprint;

/// The longest message in UTF-16 units (core.telegram.org/bots/api#sendmessage).
const MESSAGE: usize = 4096;
/// The longest caption of a photo in UTF-16 units.
const CAPTION: usize = 1024;

/// Writes to one chat.
#[derive(Debug)]
pub(super) struct Telegram {
    settings: TelegramSettings,
    web: Web,
}

impl Telegram {
    pub(super) const fn new(settings: TelegramSettings, web: Web) -> Self {
        Self { settings, web }
    }

    pub(super) async fn deliver(&self, message: &Outgoing<'_>) -> Result<(), Failure> {
        let text = format!("{}\n\n{}", message.content.subject, message.content.text);
        if let Some(picture) = message.files.iter().find(|file| file.mime == "image/png") {
            let answer = self.send_photo(&cut(&text, CAPTION), picture).await?;
            // A 400 is about the picture (too large, odd proportions) or the chat; the plain message tells which.
            if answer.status != StatusCode::BAD_REQUEST {
                return self.judge(&answer);
            }
        }
        let answer = self.send_message(&cut(&text, MESSAGE)).await?;
        self.judge(&answer)
    }

    async fn send_message(&self, text: &str) -> Result<Answer, Failure> {
        let body = serde_json::json!({ "chat_id": self.settings.chat_id, "text": text }).to_string();
        self.call("sendMessage", "application/json", body.into()).await
    }

    async fn send_photo(&self, caption: &str, picture: &Enclosure) -> Result<Answer, Failure> {
        // 128 bits of the picture's hash do not occur in the caption or by chance in the picture.
        let boundary = &fingerprint(&picture.bytes)[..32];
        let mut body = Vec::with_capacity(picture.bytes.len() + 1024);
        for (name, value) in [("chat_id", self.settings.chat_id.as_str()), ("caption", caption)] {
            let head = format!("--{boundary}\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n");
            body.extend_from_slice(head.as_bytes());
        }
        let disposition = "Content-Disposition: form-data; name=\"photo\"; filename=\"picture.png\"";
        body.extend_from_slice(format!("--{boundary}\r\n{disposition}\r\nContent-Type: image/png\r\n\r\n").as_bytes());
        body.extend_from_slice(&picture.bytes);
        body.extend_from_slice(format!("\r\n--{boundary}--\r\n").as_bytes());
        self.call("sendPhoto", &format!("multipart/form-data; boundary={boundary}"), body.into()).await
    }

    async fn call(&self, method: &str, content_type: &str, body: Bytes) -> Result<Answer, Failure> {
        let url = format!("{}/bot{}/{method}", self.settings.api, self.settings.token.expose());
        let request = Request::post(url).header(CONTENT_TYPE, content_type).body(Full::new(body));
        // The error of a request that cannot be built quotes its address.
        let request = request.map_err(|_| Failure::Final("the Telegram address is not one".to_owned()))?;
        self.web.post(request).await
    }

    fn judge(&self, answer: &Answer) -> Result<(), Failure> {
        if answer.status.is_success() {
            return Ok(());
        }
        let said: serde_json::Value = serde_json::from_slice(&answer.body).unwrap_or_default();
        let description: String = said["description"].as_str().unwrap_or_default().chars().take(200).collect();
        let reason = format!("Telegram answered {}: {description}", answer.status.as_u16());
        let reason = reason.replace(self.settings.token.expose(), "[secret]");
        if answer.status == StatusCode::TOO_MANY_REQUESTS {
            let asked = said["parameters"]["retry_after"].as_u64().map(Duration::from_secs);
            return Err(Failure::Channel { reason, retry_after: asked.or(answer.retry_after) });
        }
        Err(Failure::Message(reason))
    }
}

/// `text` within `limit` UTF-16 units, the cut marked.
fn cut(text: &str, limit: usize) -> String {
    if text.encode_utf16().count() <= limit {
        return text.to_owned();
    }
    let mut left = limit - 1;
    let fits = |c: &char| {
        let fits = c.len_utf16() <= left;
        left = left.saturating_sub(c.len_utf16());
        fits
    };
    text.chars().take_while(fits).chain(['…']).collect()
}

#[cfg(test)]
mod tests {
    use super::cut;

    #[test]
    fn a_cut_counts_as_telegram_does() {
        assert_eq!(cut("가나다", 3), "가나다");
        assert_eq!(cut("가나다라", 3), "가나…");
        assert_eq!(cut("😀😀😀", 4), "😀…");
    }
}
