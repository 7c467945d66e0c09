//! The alert webhook: JSON, signed with HMAC-SHA256 over timestamp, a dot and the raw body.
//!
//! The receiver checks the signature and the age of the timestamp, and drops an `Idempotency-Key` that it has seen: the
//! same message comes twice when our end died before its answer was noted. Files are named, not sent.

use bytes::Bytes;
use http_body_util::Full;
use hyper::header::CONTENT_TYPE;
use hyper::{Request, StatusCode};

use super::channel::{Failure, Outgoing};
use super::settings::WebhookSettings;
use super::web::Web;
use crate::clock::Clock;
use crate::secret::hmac_sha256;

/// Posts to one address.
#[derive(Debug)]
pub(super) struct Webhook {
    settings: WebhookSettings,
    web: Web,
    clock: Clock,
}

impl Webhook {
    pub(super) const fn new(settings: WebhookSettings, web: Web, clock: Clock) -> Self {
        Self { settings, web, clock }
    }

    pub(super) async fn deliver(&self, message: &Outgoing<'_>) -> Result<(), Failure> {
        let files: Vec<_> = message
            .files
            .iter()
            .map(|file| serde_json::json!({ "name": file.name, "mime": file.mime, "bytes": file.bytes.len() }))
            .collect();
        let body = serde_json::json!({
            "id": message.id,
            "subject": message.content.subject,
            "text": message.content.text,
            "created_at": message.created_at,
            "attachments": files,
        })
        .to_string();
        // The time of this attempt in Unix seconds, so that a receiver can refuse what was recorded and played again.
        let timestamp = (self.clock.now().as_millis() / 1000).to_string();
        let key = self.settings.secret.expose().as_bytes();
        let tag = hmac_sha256(key, &[timestamp.as_bytes(), b".", body.as_bytes()]);
        let request = Request::post(self.settings.url.expose())
            .header(CONTENT_TYPE, "application/json")
            .header("idempotency-key", message.id)
            .header("x-nightporter-timestamp", timestamp)
            .header("x-nightporter-signature", data_encoding::HEXLOWER.encode(&tag))
            .body(Full::new(Bytes::from(body)));
        // The error of a request that cannot be built quotes its address.
        let request = request.map_err(|_| Failure::Final("the webhook's address or the id is not one".to_owned()))?;
        let answer = self.web.post(request).await?;
        let reason = format!("the webhook answered {}", answer.status.as_u16());
        match answer.status {
            status if status.is_success() => Ok(()),
            StatusCode::TOO_MANY_REQUESTS => Err(Failure::Channel { reason, retry_after: answer.retry_after }),
            _ => Err(Failure::Message(reason)),
        }
    }
}
