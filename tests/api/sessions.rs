//! The session routes made to answer everything that the document promises of them and that a sound server can answer.

use reqwest::RequestBuilder;

/// A request to a session route: a method, the path that the document knows, the path that is asked, headers and a body.
pub(crate) struct Request {
    pub(crate) method: &'static str,
    pub(crate) route: &'static str,
    pub(crate) target: String,
    headers: Vec<(&'static str, &'static str)>,
    body: Option<String>,
}

impl Request {
    fn new(method: &'static str, route: &'static str, target: &str) -> Self {
        Self::at(method, route, format!("/api/sessions/{target}"))
    }

    /// To a route of another kind.
    pub(crate) fn at(method: &'static str, route: &'static str, target: String) -> Self {
        Self { method, route, target, headers: Vec::new(), body: None }
    }

    /// Without the slash at its end.
    pub(crate) fn trimmed(mut self) -> Self {
        self.target = self.target.trim_end_matches('/').to_owned();
        self
    }

    pub(crate) fn with(mut self, name: &'static str, value: &'static str) -> Self {
        self.headers.push((name, value));
        self
    }

    pub(crate) fn body(self, body: &str) -> Self {
        self.typed("application/json", body)
    }

    /// With a body of that type.
    pub(crate) fn typed(mut self, media_type: &'static str, body: &str) -> Self {
        self.body = Some(body.to_owned());
        self.with("content-type", media_type)
    }

    pub(crate) fn dress(&self, request: RequestBuilder) -> RequestBuilder {
        let request = self.headers.iter().fold(request, |request, (name, value)| request.header(*name, *value));
        self.body.iter().fold(request, |request, body| request.body(body.clone()))
    }
}

const SPACE: &str = "/api/sessions/{space}";
const CHANGES: &str = "/api/sessions/{space}/changes";
const ONE: &str = "/api/sessions/{space}/{id}";
const TOUCH: &str = "/api/sessions/{space}/{id}/touch";
const GOOD: &str = r#"{"data":{"이름":"민서"}}"#;

/// In an order that makes each answer occur.
pub(crate) fn conversation() -> Vec<Request> {
    let huge = format!(r#"{{"data":{{"x":"{}"}}}}"#, "x".repeat(2 << 20));
    let put = |target: &str| Request::new("PUT", ONE, target);
    let mut all = vec![
        Request::new("GET", SPACE, "shop"),
        Request::new("GET", SPACE, "shop?limit=0"),
        Request::new("GET", CHANGES, "shop/changes"),
        Request::new("GET", CHANGES, "shop/changes").with("last-event-id", "7"),
        Request::new("POST", SPACE, "shop").body(GOOD),
        put("shop/a").with("if-none-match", "*").body(GOOD),
        put("shop/a").with("if-match", "\"1\"").body(GOOD),
        put("shop/a").with("if-match", "\"1\"").body(GOOD),
        put("shop/a").body(GOOD),
        put("second/a").with("if-none-match", "*").body(GOOD),
        put("shop/b").with("if-none-match", "*").body(GOOD),
        Request::new("POST", SPACE, "shop").body(GOOD),
        Request::new("GET", ONE, "shop/a"),
        Request::new("GET", ONE, "shop/a").with("if-none-match", "\"2\""),
        Request::new("PATCH", ONE, "shop/a").body(GOOD),
        Request::new("POST", TOUCH, "shop/a/touch"),
    ];
    for (method, route, target) in
        [("POST", SPACE, "shop"), ("PUT", ONE, "shop/a"), ("PATCH", ONE, "shop/a"), ("POST", TOUCH, "shop/a/touch")]
    {
        for body in ["no JSON", r#"{"data":7,"ttl":7}"#, &huge] {
            all.push(Request::new(method, route, target).with("if-match", "*").body(body));
        }
        all.push(Request::new(method, route, target).with("if-match", "*").typed("text/plain", GOOD));
    }
    for (method, route, target) in
        [("GET", ONE, ""), ("DELETE", ONE, ""), ("PATCH", ONE, ""), ("POST", TOUCH, "/touch")]
    {
        let body = |request: Request| if method == "PATCH" { request.body(GOOD) } else { request };
        all.push(body(Request::new(method, route, &format!("NO/a{target}"))));
        all.push(body(Request::new(method, route, &format!("shop/none{target}"))));
        if method != "GET" {
            all.push(body(Request::new(method, route, &format!("shop/a{target}")).with("if-match", "\"1\"")));
        }
    }
    all.push(Request::new("DELETE", ONE, "shop/a"));
    all
}
