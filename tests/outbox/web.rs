//! A small HTTP endpoint on loopback that records what is posted and answers from a list.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};

use axum::body::Bytes;
use axum::http::{HeaderMap, StatusCode, Uri};
use tokio::sync::mpsc;

/// What was posted.
#[derive(Debug)]
pub(crate) struct Post {
    pub(crate) path: String,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Post {
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers[name].to_str().unwrap()
    }

    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap()
    }
}

pub(crate) struct Endpoint {
    pub(crate) address: SocketAddr,
    pub(crate) posts: mpsc::UnboundedReceiver<Post>,
}

impl Endpoint {
    /// Gives `answers` one after the other, then 200 with `{"ok":true}`.
    pub(crate) async fn start(answers: Vec<(u16, String)>) -> Self {
        let answers = Arc::new(Mutex::new(answers.into_iter()));
        let (tell, posts) = mpsc::unbounded_channel();
        let app = axum::Router::new().fallback(move |uri: Uri, headers: HeaderMap, body: Bytes| async move {
            tell.send(Post { path: uri.path().to_owned(), headers, body }).unwrap();
            let (status, text) = answers.lock().unwrap().next().unwrap_or((200, "{\"ok\":true}".to_owned()));
            (StatusCode::from_u16(status).unwrap(), text)
        });
        let listener = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move { axum::serve(listener, app).await });
        Self { address, posts }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }
}
