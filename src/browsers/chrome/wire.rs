//! Messages of our own where headless_chrome's generated ones do not fit: it sends `null` for "no parameters", takes one
//! cookie where the protocol has a list, and its events refuse values that a newer browser has invented. Only fields that
//! we read are here. Below them, the generated calls that need more words than they mean.

use std::collections::BTreeMap;

use headless_chrome::protocol::cdp::types::Method;
use headless_chrome::protocol::cdp::{Fetch, Network, Page, Runtime, Target};
use serde::{Deserialize, Serialize};

use crate::browsers::state::{Cookie, Partition, SameSite};
use crate::clock::Time;

/// An answer that says nothing but "done".
#[derive(Debug, Deserialize)]
pub(super) struct Done {}

macro_rules! plain_methods {
    ($($name:ident = $method:literal),+ $(,)?) => {$(
        #[doc = concat!("`", $method, "`, without parameters.")]
        #[derive(Debug, Serialize)]
        pub(super) struct $name {}

        impl Method for $name {
            const NAME: &'static str = $method;
            type ReturnObject = Done;
        }
    )+};
}

plain_methods! {
    Close = "Browser.close",
    InspectorEnable = "Inspector.enable",
    PageEnable = "Page.enable",
    PageCrash = "Page.crash",
}

/// `Target.getBrowserContexts`.
#[derive(Debug, Serialize)]
pub(super) struct GetBrowserContexts {}

/// The contexts beside the one that every browser has.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct BrowserContexts {
    /// Their names.
    pub(super) browser_context_ids: Vec<String>,
}

impl Method for GetBrowserContexts {
    const NAME: &'static str = "Target.getBrowserContexts";
    type ReturnObject = BrowserContexts;
}

/// `Storage.getCookies`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct GetCookies {
    /// Whose.
    pub(super) browser_context_id: String,
}

impl Method for GetCookies {
    const NAME: &'static str = "Storage.getCookies";
    type ReturnObject = Cookies;
}

/// The answer to [`GetCookies`].
#[derive(Debug, Deserialize)]
pub(super) struct Cookies {
    /// All of them.
    pub(super) cookies: Vec<WireCookie>,
}

/// `Storage.setCookies`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct SetCookies<'a> {
    /// Whose.
    pub(super) browser_context_id: &'a str,
    /// Which.
    pub(super) cookies: &'a [WireCookie],
}

impl Method for SetCookies<'_> {
    const NAME: &'static str = "Storage.setCookies";
    type ReturnObject = Done;
}

/// A cookie as CDP writes and reads it.
#[derive(Clone, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct WireCookie {
    name: String,
    value: String,
    domain: String,
    path: String,
    /// Seconds since the epoch; -1 is how the browser says, and absence how it is told, "session cookie".
    #[serde(default, skip_serializing_if = "Option::is_none")]
    expires: Option<f64>,
    secure: bool,
    http_only: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    same_site: Option<SameSite>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    partition_key: Option<WirePartition>,
}

#[derive(Clone, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
struct WirePartition {
    top_level_site: String,
    has_cross_site_ancestor: bool,
}

impl WireCookie {
    /// Its name, which is no secret.
    pub(super) fn name(&self) -> &str {
        &self.name
    }
}

impl std::fmt::Debug for WireCookie {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "WireCookie({})", self.name)
    }
}

impl From<WireCookie> for Cookie {
    fn from(wire: WireCookie) -> Self {
        let expires = wire.expires.filter(|seconds| *seconds >= 0.0);
        Self {
            name: wire.name,
            value: wire.value,
            domain: wire.domain,
            path: wire.path,
            expires: expires.map(|seconds| Time::from_millis((seconds * 1000.0) as u64)),
            secure: wire.secure,
            http_only: wire.http_only,
            same_site: wire.same_site,
            partition: wire.partition_key.map(|key| Partition {
                top_level_site: key.top_level_site,
                cross_site_ancestor: key.has_cross_site_ancestor,
            }),
        }
    }
}

impl From<&Cookie> for WireCookie {
    fn from(cookie: &Cookie) -> Self {
        Self {
            name: cookie.name.clone(),
            value: cookie.value.clone(),
            domain: cookie.domain.clone(),
            path: cookie.path.clone(),
            expires: cookie.expires.map(|time| time.as_millis() as f64 / 1000.0),
            secure: cookie.secure,
            http_only: cookie.http_only,
            same_site: cookie.same_site,
            partition_key: cookie.partition.as_ref().map(|partition| WirePartition {
                top_level_site: partition.top_level_site.clone(),
                has_cross_site_ancestor: partition.cross_site_ancestor,
            }),
        }
    }
}

/// `Emulation.setFocusEmulationEnabled`: a tab behaves as if it were looked at, however many are open.
#[derive(Debug, Serialize)]
pub(super) struct SetFocusEmulationEnabled {
    /// On or off.
    pub(super) enabled: bool,
}

impl Method for SetFocusEmulationEnabled {
    const NAME: &'static str = "Emulation.setFocusEmulationEnabled";
    type ReturnObject = Done;
}

/// `Network.enable`, without copies of the bodies that pass.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct NetworkEnable {
    max_total_buffer_size: u32,
    max_resource_buffer_size: u32,
    max_post_data_size: u32,
}

impl NetworkEnable {
    pub(super) const QUIET: Self =
        Self { max_total_buffer_size: 0, max_resource_buffer_size: 0, max_post_data_size: 0 };
}

impl Method for NetworkEnable {
    const NAME: &'static str = "Network.enable";
    type ReturnObject = Done;
}

/// `Network.requestWillBeSent`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct RequestWillBeSent {
    /// Its name in the protocol.
    pub(super) request_id: String,
    /// What is sent.
    pub(super) request: SentRequest,
}

/// A request that leaves a page, as far as we care.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct SentRequest {
    /// What stands behind its address, `#` included.
    pub(super) url_fragment: Option<String>,
}

/// `Network.responseReceivedExtraInfo`: the head of an answer as it came.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ResponseExtra {
    /// Which request's.
    pub(super) request_id: String,
    /// The status.
    pub(super) status_code: u16,
    /// The headers; those of one name joined by a line feed.
    pub(super) headers: BTreeMap<String, String>,
    /// The same as text, where the protocol has one.
    pub(super) headers_text: Option<String>,
}

/// `Network.loadingFailed`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct LoadingFailed {
    /// Which request.
    pub(super) request_id: String,
    /// Chromium's name for the failure.
    pub(super) error_text: String,
}

/// `Fetch.authRequired`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct AuthRequired {
    /// How to answer it.
    pub(super) request_id: String,
}

/// `Runtime.evaluate` in its shortest form: does the page's main thread still answer?
#[derive(Debug, Serialize)]
pub(super) struct Pulse {
    expression: &'static str,
}

impl Default for Pulse {
    fn default() -> Self {
        Self { expression: "0" }
    }
}

impl Method for Pulse {
    const NAME: &'static str = "Runtime.evaluate";
    type ReturnObject = Done;
}

/// `Target.targetCreated`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct TargetCreated {
    /// What was created.
    pub(super) target_info: TargetInfo,
}

/// The part of a target's description that tells a popup from a tab of ours.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct TargetInfo {
    /// Its name in the protocol.
    pub(super) target_id: String,
    /// The page that opened it.
    pub(super) opener_id: Option<String>,
}

/// `Target.detachedFromTarget`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Detached {
    /// The session that ended.
    pub(super) session_id: String,
}

/// `Page.javascriptDialogOpening`.
#[derive(Debug, Deserialize)]
pub(super) struct DialogOpening {
    /// What it says.
    pub(super) message: String,
}

/// `Page.frameNavigated`.
#[derive(Debug, Deserialize)]
pub(super) struct FrameNavigated {
    /// The frame that has a new document.
    pub(super) frame: Frame,
}

/// A frame, as far as we care.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Frame {
    /// Absent for the page itself.
    pub(super) parent_id: Option<String>,
    /// The document's address.
    pub(super) url: String,
}

/// `Fetch.requestPaused`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct RequestPaused {
    /// How to answer it.
    pub(super) request_id: String,
    /// What the page asks for.
    pub(super) request: Request,
}

/// A request, as far as we care.
#[derive(Debug, Deserialize)]
pub(super) struct Request {
    /// Where to.
    pub(super) url: String,
}

/// Have new pages reported, popups among them.
pub(super) fn discover_pages() -> Target::SetDiscoverTargets {
    let pages = Target::FilterEntry { exclude: None, Type: Some("page".into()) };
    Target::SetDiscoverTargets { discover: true, filter: Some(vec![pages]) }
}

/// A new incognito context that ends with our connection.
pub(super) fn create_context() -> Target::CreateBrowserContext {
    Target::CreateBrowserContext {
        dispose_on_detach: Some(true),
        proxy_server: None,
        proxy_bypass_list: None,
        origins_with_universal_network_access: None,
    }
}

/// A blank tab in a window of its own: tabs that share one take turns at being visible.
pub(super) fn create_tab(context: &str) -> Target::CreateTarget {
    Target::CreateTarget {
        url: "about:blank".into(),
        left: None,
        top: None,
        width: None,
        height: None,
        window_state: None,
        browser_context_id: Some(context.into()),
        enable_begin_frame_control: None,
        new_window: Some(true),
        background: None,
        for_tab: None,
        hidden: None,
    }
}

/// Load `url` in the page's main frame.
pub(super) fn navigate(url: &str) -> Page::Navigate {
    Page::Navigate { url: url.into(), referrer: None, transition_Type: None, frame_id: None, referrer_policy: None }
}

/// Run `expression` in `context_id` and hand back the value of its promise.
pub(super) fn evaluate(expression: String, context_id: u32) -> Runtime::Evaluate {
    Runtime::Evaluate {
        expression,
        object_group: None,
        include_command_line_api: None,
        silent: Some(true),
        context_id: Some(context_id),
        return_by_value: Some(true),
        generate_preview: None,
        user_gesture: None,
        await_promise: Some(true),
        throw_on_side_effect: None,
        timeout: None,
        disable_breaks: None,
        repl_mode: None,
        // Portals forbid eval by policy; the inspector is not the page.
        allow_unsafe_eval_blocked_by_csp: Some(true),
        unique_context_id: None,
        serialization_options: None,
    }
}

/// Answer a paused request with an empty page, without asking the network.
pub(super) fn fulfil_empty(request_id: String) -> Fetch::FulfillRequest {
    let html = Fetch::HeaderEntry { name: "content-type".into(), value: "text/html".into() };
    Fetch::FulfillRequest {
        request_id,
        response_code: 200,
        response_headers: Some(vec![html]),
        binary_response_headers: None,
        body: None,
        response_phrase: None,
    }
}

/// Ask before requests leave and before a person would be asked for a password: all requests, or those that scripts make.
pub(super) fn intercept(scripts_only: bool) -> Fetch::Enable {
    let pattern = Fetch::RequestPattern {
        url_pattern: Some("*".into()),
        resource_Type: scripts_only.then_some(Network::ResourceType::Xhr),
        request_stage: Some(Fetch::RequestStage::Request),
    };
    Fetch::Enable { patterns: Some(vec![pattern]), handle_auth_requests: Some(true) }
}

/// Nobody is there to type a password: the page gets the answer as it is.
pub(super) fn no_password(request_id: String) -> Fetch::ContinueWithAuth {
    let response = Fetch::AuthChallengeResponseResponse::CancelAuth;
    let auth_challenge_response = Fetch::AuthChallengeResponse { response, username: None, password: None };
    Fetch::ContinueWithAuth { request_id, auth_challenge_response }
}

/// Let a paused request go on as it is.
pub(super) fn let_go(request_id: String) -> Fetch::ContinueRequest {
    Fetch::ContinueRequest {
        request_id,
        url: None,
        method: None,
        post_data: None,
        headers: None,
        intercept_response: None,
    }
}
