//! What an appliance answered, read to its end.

use reqwest::{RequestBuilder, Response};
use serde_json::Value;

/// An answer.
#[derive(Clone, Debug)]
pub(crate) struct Told {
    pub(crate) status: u16,
    pub(crate) headers: reqwest::header::HeaderMap,
    pub(crate) text: String,
    pub(crate) body: Value,
}

impl Told {
    /// To a request with a body, if there is one, and further headers.
    pub(crate) async fn to(mut request: RequestBuilder, body: &str, headers: &[(&str, &str)]) -> Self {
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        if !body.is_empty() {
            request = request.header("content-type", "application/json").body(body.to_owned());
        }
        Self::of(request.send().await.unwrap()).await
    }

    pub(crate) async fn of(answer: Response) -> Self {
        Self::whole(answer).await.unwrap()
    }

    /// The same of an appliance that may be killed before the answer's last byte.
    pub(crate) async fn whole(answer: Response) -> reqwest::Result<Self> {
        let (status, headers) = (answer.status().as_u16(), answer.headers().clone());
        let text = answer.text().await?;
        let body = serde_json::from_str(&text).unwrap_or_default();
        Ok(Self { status, headers, text, body })
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    /// Status, `code` and `field` of a problem.
    pub(crate) fn problem(&self) -> (u16, &str, &str) {
        assert_eq!(self.header("content-type"), "application/problem+json", "{}", self.text);
        let text = |member: &str| self.body[member].as_str().unwrap_or_default();
        (self.status, text("code"), text("field"))
    }

    pub(crate) fn id(&self) -> &str {
        self.body["id"].as_str().unwrap_or_else(|| panic!("{}", self.text))
    }

    pub(crate) fn version(&self) -> u64 {
        self.body["version"].as_u64().unwrap_or_else(|| panic!("{}", self.text))
    }
}
