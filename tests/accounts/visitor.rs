//! Somebody who has logged in, as a program with a bearer token or as a browser with cookies.

use nightporter::accounts::audit::{Line, What};
use reqwest::{Client, Method};
use serde_json::{Value, json};

use crate::desk::{Desk, PASSWORD, PATIENCE};
use crate::told::Told;

/// What a login gave.
#[derive(Clone, Debug)]
pub(crate) struct Login {
    pub(crate) access: String,
    pub(crate) refresh: String,
    pub(crate) session: String,
}

impl Login {
    pub(crate) fn of(told: &Told) -> Self {
        assert_eq!(told.status, 200, "{}", told.text);
        let text = |member: &str| told.body[member].as_str().unwrap().to_owned();
        Self { access: text("access_token"), refresh: text("refresh_token"), session: text("session_id") }
    }
}

impl Desk {
    /// A request to any path.
    pub(crate) async fn ask(&self, method: Method, path: &str, headers: &[(&str, &str)], body: &str) -> Told {
        let client = Client::builder().no_proxy().timeout(PATIENCE).build().unwrap();
        let url = format!("http://{}{path}", self.app().address());
        let told = Told::to(client.request(method, url), body, headers).await;
        if path.starts_with("/api/auth") {
            assert_eq!(told.header("cache-control"), "no-store", "{path} {}", told.text);
        }
        if told.status == 401 {
            assert!(told.header("www-authenticate").starts_with("Bearer"), "{path} {}", told.text);
        }
        told
    }

    /// A request to `/api/auth/{path}` with a bearer token.
    pub(crate) async fn with(&self, token: &str, method: Method, path: &str) -> Told {
        let bearer = format!("Bearer {token}");
        self.ask(method, &format!("/api/auth/{path}"), &[("authorization", &bearer)], "").await
    }

    /// The status of `/api/auth/me` with that token.
    pub(crate) async fn me(&self, token: &str) -> u16 {
        self.with(token, Method::GET, "me").await.status
    }

    /// A request by cookie, as a browser sends it from a page at `site`.
    pub(crate) async fn browse(&self, method: Method, path: &str, cookie: &str, site: &[(&str, &str)]) -> Told {
        let headers = [&[("cookie", cookie)], site].concat();
        self.ask(method, &format!("/api/auth/{path}"), &headers, "").await
    }

    pub(crate) async fn refresh(&self, token: &str) -> Told {
        self.post("refresh", &json!({ "refresh_token": token })).await
    }

    /// A user who has logged in.
    pub(crate) async fn visitor(&self, email: &str) -> Login {
        self.user(email, PASSWORD).await;
        Login::of(&self.login(email, PASSWORD).await)
    }

    /// The audit log, oldest line first, once nothing waits to be moved to it.
    pub(crate) async fn noted(&self, at_least: usize) -> Vec<Line> {
        let audit = self.app().parts().accounts.audit().clone();
        self.until(async || audit.list(None, 1000).await.unwrap().len() >= at_least).await;
        let verdict = audit.verify().await.unwrap();
        assert_eq!(verdict.broken, None);
        audit.list(None, 1000).await.unwrap().into_iter().rev().map(|numbered| numbered.line).collect()
    }

    /// What was noted of that kind, once there are so many.
    pub(crate) async fn noted_of(&self, what: What, count: usize) -> Vec<Line> {
        let audit = self.app().parts().accounts.audit().clone();
        let found = async || -> Vec<Line> {
            let lines = audit.list(None, 1000).await.unwrap().into_iter().map(|numbered| numbered.line);
            lines.filter(|line| line.what == what).collect()
        };
        self.until(async || found().await.len() >= count).await;
        found().await
    }
}

/// The part of a JSON Web Token.
pub(crate) fn part(token: &str, at: usize) -> Value {
    let bytes = data_encoding::BASE64URL_NOPAD.decode(token.split('.').nth(at).unwrap().as_bytes()).unwrap();
    serde_json::from_slice(&bytes).unwrap()
}
