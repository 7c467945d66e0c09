//! A page: what a person does with a tab, step by step, with a limit on every step.
//!
//! Clicks, keys and typing go through the browser's input, so the page receives trusted events. Waiting is looking again
//! every 20 ms, which no navigation, style change or script of the page can escape. Limits are real time.

use std::collections::BTreeSet;
use std::time::Duration;

use futures_util::future::try_join_all;
use headless_chrome::protocol::cdp::Input::InsertText;
use headless_chrome::protocol::cdp::Page::{CaptureScreenshot, CaptureScreenshotFormatOption};
use serde::Deserialize;
use serde_json::json;
use url::Url;

use super::address::{origin_of, without_query};
use super::context::Origins;
use super::eyes::LOOK_AGAIN;
use super::keys::Key;
use super::pointer::Point;
use super::tab::{Tab, Traffic};
use super::{Chrome, wire};
use crate::browsers::error::{BrowserError, NetCause};
use crate::clock;
use crate::secret::Secret;

/// The most of a document that [`Page::html`] returns, in UTF-16 units as the browser counts.
const HTML_LIMIT: usize = 512 * 1024;
/// The most of a document that [`Page::outline`] returns, counted likewise.
const OUTLINE_LIMIT: usize = 128 * 1024;
/// Always masked in pictures, whatever else is.
const SECRET_FIELDS: [&str; 2] = ["input[type=password]", "input[autocomplete=one-time-code]"];
/// Pictures that may turn out to show another document than was masked, before giving up.
const PICTURES: usize = 3;

/// What a page may do.
#[derive(Clone, Debug, Default)]
pub struct PageOptions {
    /// The origins that the page may load anything from, as `https://acme.example`. `None`: no restriction. Not covered
    /// are WebSockets, workers, and what a frame of another allowed site loads inside itself.
    pub allowed_origins: Option<Vec<String>>,
}

/// Where a navigation has ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Landing {
    /// The address after redirects.
    pub url: String,
    /// The HTTP status of the main document; 0 for one that came by no HTTP (`about:blank`).
    pub status: u16,
}

/// A tab, closed when dropped. Windows that it opens are closed at once; a recipe goes to their address instead.
#[derive(Debug)]
pub struct Page {
    pub(super) tab: Tab,
}

/// What `eyes.js` says about something it was to use: done, or what is in the way.
#[derive(Debug, Deserialize)]
struct Attempt {
    problem: Option<String>,
    point: Option<Point>,
    found: Option<bool>,
    empty: Option<bool>,
}

#[derive(Deserialize)]
struct Arrival {
    loaded: bool,
    url: String,
    status: u16,
}

#[derive(Deserialize)]
struct Attribute {
    found: bool,
    value: Option<String>,
}

impl Page {
    pub(super) async fn open(
        chrome: &Chrome,
        context: &str,
        user_agent: Option<&str>,
        options: PageOptions,
        visited: Origins,
    ) -> Result<Self, BrowserError> {
        Ok(Self { tab: Tab::open(chrome, context, user_agent, options.into(), visited).await? })
    }

    /// Loads `url` and waits until its document is parsed.
    ///
    /// # Errors
    /// [`BrowserError::Navigation`] when the portal cannot be reached or does not answer within `limit`. An answer with a
    /// bad HTTP status is a [`Landing`].
    pub async fn goto(&self, url: &str, limit: Duration) -> Result<Landing, BrowserError> {
        let failed = |cause| BrowserError::Navigation { url: without_query(url), cause };
        let loading = async {
            let navigated = self.tab.session.call_within(limit, wire::navigate(url)).await?;
            match navigated.error_text.as_deref() {
                None => self.landing().await,
                // An error status with an empty body: Chromium shows a page of its own, the status is the portal's.
                Some("net::ERR_HTTP_RESPONSE_CODE_FAILURE") => {
                    Ok(Landing { url: url.to_owned(), ..self.landing().await? })
                }
                Some(text) => {
                    // A crash also aborts the navigation; then this look fails and says so.
                    self.url().await?;
                    Err(failed(NetCause::from_chromium(text)))
                }
            }
        };
        match clock::within(limit, loading).await {
            Ok(Err(BrowserError::Hung { call: "Page.navigate", .. })) | Err(_) => Err(failed(NetCause::TimedOut)),
            Ok(landed) => landed,
        }
    }

    async fn landing(&self) -> Result<Landing, BrowserError> {
        loop {
            let arrival: Arrival = self.tab.eyes.see("landing", json!([])).await?;
            if arrival.loaded {
                return Ok(Landing { url: arrival.url, status: arrival.status });
            }
            clock::pause(LOOK_AGAIN).await;
        }
    }

    /// Waits until `selector` shows something.
    ///
    /// # Errors
    /// [`BrowserError::NotFound`] when nothing visible matched within `limit`.
    pub async fn wait_for(&self, selector: &str, limit: Duration) -> Result<(), BrowserError> {
        self.first_of(&[selector], limit).await.map(drop)
    }

    /// Waits until one of `selectors` shows something and returns its index; the earlier one if several do.
    ///
    /// # Errors
    /// [`BrowserError::NotFound`] when nothing visible matched within `limit`.
    pub async fn first_of(&self, selectors: &[&str], limit: Duration) -> Result<usize, BrowserError> {
        let all = || selectors.join(", ");
        let looking = async {
            loop {
                let index: i64 = self.see(&all(), "first", json!([selectors])).await?;
                if let Ok(index) = usize::try_from(index) {
                    return Ok(index);
                }
                clock::pause(LOOK_AGAIN).await;
            }
        };
        clock::within(limit, looking).await.unwrap_or_else(|_| Err(BrowserError::NotFound { selector: all() }))
    }

    /// Whether `selector` matches anything now, visible or not.
    ///
    /// # Errors
    /// When the page has gone or does not answer.
    pub async fn exists(&self, selector: &str) -> Result<bool, BrowserError> {
        self.see(selector, "exists", json!([selector])).await
    }

    /// Waits until the address is one that `matches`; `wanted` says in an error which one that would be.
    ///
    /// # Errors
    /// [`BrowserError::UrlMismatch`] when it was not within `limit`.
    pub async fn wait_for_url(
        &self,
        matches: impl Fn(&Url) -> bool,
        wanted: &str,
        limit: Duration,
    ) -> Result<String, BrowserError> {
        let looking = async {
            loop {
                let url = self.url().await?;
                if Url::parse(&url).is_ok_and(|url| matches(&url)) {
                    return Ok(url);
                }
                clock::pause(LOOK_AGAIN).await;
            }
        };
        let mismatch = || BrowserError::UrlMismatch { pattern: wanted.to_owned() };
        clock::within(limit, looking).await.unwrap_or_else(|_| Err(mismatch()))
    }

    /// Clicks the middle of what `selector` shows, once it is visible, enabled, at rest and covered by nothing.
    ///
    /// # Errors
    /// [`BrowserError::NotFound`] or [`BrowserError::NotUsable`] with what was in the way when `limit` came.
    pub async fn click(&self, selector: &str, limit: Duration) -> Result<(), BrowserError> {
        let mut before = None;
        let aim = |aim: Attempt| {
            // The same place twice: what is still sliding in would be missed.
            let at_rest = aim.point.filter(|point| before.replace(*point) == Some(*point));
            at_rest.ok_or_else(|| aim.problem.unwrap_or_else(|| "moving".to_owned()))
        };
        let point = self.attempt(selector, limit, "aim", json!([selector]), aim).await?;
        self.click_at(point).await
    }

    /// Replaces the content of the field `selector` by `value`, as if typed.
    ///
    /// # Errors
    /// [`BrowserError::NotFound`] or [`BrowserError::NotUsable`] with what was in the way when `limit` came.
    pub async fn fill(&self, selector: &str, value: &str, limit: Duration) -> Result<(), BrowserError> {
        self.grip(selector, limit).await?;
        // A person clicks into the field; where a label lies over it, the focus it has must do.
        let aim: Attempt = self.see(selector, "aim", json!([selector])).await?;
        if let Some(point) = aim.point {
            self.click_at(point).await?;
        }
        let empty = self.grip(selector, limit).await?;
        match value {
            "" if empty => Ok(()),
            "" => self.press(Key::Delete).await,
            text => self.tab.session.call(InsertText { text: text.to_owned() }).await.map(drop),
        }
    }

    /// Focuses a field and selects its content; says whether it was empty.
    async fn grip(&self, selector: &str, limit: Duration) -> Result<bool, BrowserError> {
        let judge = |grip: Attempt| grip.empty.ok_or(grip.problem.unwrap_or_default());
        self.attempt(selector, limit, "grip", json!([selector]), judge).await
    }

    /// Chooses the option of the list `selector` whose value, or else label, is `option`. The events are the only ones of
    /// ours that are not trusted: a list's popup is no part of the page.
    ///
    /// # Errors
    /// [`BrowserError::NoOption`] when the list has no such option by `limit`, or why the list cannot be used.
    pub async fn select(&self, selector: &str, option: &str, limit: Duration) -> Result<(), BrowserError> {
        const MISSING: &str = "no such option";
        let judge = |choice: Attempt| match choice.found {
            Some(true) => Ok(()),
            _ => Err(choice.problem.unwrap_or_else(|| MISSING.to_owned())),
        };
        let chosen = self.attempt(selector, limit, "choose", json!([selector, option]), judge).await;
        match chosen {
            Err(BrowserError::NotUsable { selector, why }) if why == MISSING => {
                Err(BrowserError::NoOption { selector, option: option.to_owned() })
            }
            done => done,
        }
    }

    /// Presses a key where the focus is.
    ///
    /// # Errors
    /// When the page has gone or does not answer.
    pub async fn press(&self, key: Key) -> Result<(), BrowserError> {
        for stroke in key.strokes() {
            self.tab.session.call(stroke).await?;
        }
        Ok(())
    }

    /// The text of what `selector` shows, as a person reads it; at most 64 Ki characters.
    ///
    /// # Errors
    /// [`BrowserError::NotFound`] when nothing matches now.
    pub async fn text(&self, selector: &str) -> Result<String, BrowserError> {
        let text: Option<String> = self.see(selector, "text", json!([selector])).await?;
        text.ok_or_else(|| not_found(selector))
    }

    /// The attribute `name` of what matches `selector`, if it has one.
    ///
    /// # Errors
    /// [`BrowserError::NotFound`] when nothing matches now.
    pub async fn attribute(&self, selector: &str, name: &str) -> Result<Option<String>, BrowserError> {
        let attribute: Attribute = self.see(selector, "attribute", json!([selector, name])).await?;
        if attribute.found { Ok(attribute.value) } else { Err(not_found(selector)) }
    }

    /// The present address.
    ///
    /// # Errors
    /// When the page has gone or does not answer.
    pub async fn url(&self) -> Result<String, BrowserError> {
        self.tab.eyes.see("url", json!([])).await
    }

    /// The document's title.
    ///
    /// # Errors
    /// When the page has gone or does not answer.
    pub async fn title(&self) -> Result<String, BrowserError> {
        self.tab.eyes.see("title", json!([])).await
    }

    /// The document as it is now, its first 512 Ki characters. Typed values are not part of it, unless the page copies them
    /// into attributes.
    ///
    /// # Errors
    /// When the page has gone or does not answer.
    pub async fn html(&self) -> Result<String, BrowserError> {
        self.tab.eyes.see("html", json!([HTML_LIMIT])).await
    }

    /// The document as evidence, its first 128 Ki characters: HTML without scripts, with the attributes that selectors need
    /// and the text that a person reads. Values of fields, hidden ones and those in other attributes, are not in it.
    ///
    /// # Errors
    /// When the page has gone or does not answer.
    pub async fn outline(&self) -> Result<String, BrowserError> {
        self.tab.eyes.see("outline", json!([OUTLINE_LIMIT])).await
    }

    /// What the page's dialogs (alert, confirm, prompt, "leave this page?") have said, oldest first; the last ten. They are
    /// accepted at once.
    pub fn dialogs(&self) -> Vec<String> {
        self.tab.dialogs()
    }

    /// A PNG of the window. Password fields, one-time codes and everything that matches `masked` are grey boxes in it, and so
    /// is every field and every text that holds one of `secrets`: with spaces or dashes in it too, and spread over several
    /// boxes. Not looked into are frames and closed shadow trees. A secret of less than four characters is hidden only where
    /// it is all that a field holds.
    ///
    /// # Errors
    /// [`BrowserError::InvalidSelector`], or when the page has gone, does not answer, or keeps changing its document, so
    /// that no picture is sure to be masked.
    pub async fn screenshot(&self, masked: &[&str], secrets: &[Secret]) -> Result<Vec<u8>, BrowserError> {
        let selectors: BTreeSet<&str> = SECRET_FIELDS.iter().chain(masked).copied().collect();
        let secrets: Vec<&str> = secrets.iter().map(Secret::expose).collect();
        for _ in 0..PICTURES {
            self.see::<()>(&masked.join(", "), "mask", json!([selectors, secrets])).await?;
            let picture = self.tab.session.call(capture()).await;
            let was_masked: bool = self.tab.eyes.see("lift", json!([])).await?;
            if was_masked {
                let decoded = data_encoding::BASE64.decode(picture?.data.as_bytes());
                return decoded.map_err(|error| no_picture(error.to_string()));
            }
        }
        Err(no_picture("the document keeps changing".into()))
    }

    /// Closes the tab.
    ///
    /// # Errors
    /// When the browser has gone or does not answer.
    pub async fn close(self) -> Result<(), BrowserError> {
        self.tab.close().await
    }

    /// Looks, and names the selector should it be invalid.
    async fn see<T: serde::de::DeserializeOwned>(
        &self,
        selector: &str,
        function: &'static str,
        arguments: serde_json::Value,
    ) -> Result<T, BrowserError> {
        self.tab.eyes.see(function, arguments).await.map_err(|error| match error {
            BrowserError::InvalidSelector { .. } => BrowserError::InvalidSelector { selector: selector.to_owned() },
            error => error,
        })
    }

    /// Has `eyes.js` try `function` until `judge` accepts what it says; when `limit` comes first, the error says what was
    /// last in the way.
    async fn attempt<T>(
        &self,
        selector: &str,
        limit: Duration,
        function: &'static str,
        arguments: serde_json::Value,
        mut judge: impl FnMut(Attempt) -> Result<T, String>,
    ) -> Result<T, BrowserError> {
        let mut problem = String::new();
        let trying = async {
            loop {
                match judge(self.see(selector, function, arguments.clone()).await?) {
                    Ok(done) => return Ok(done),
                    Err(why) => problem = why,
                }
                clock::pause(LOOK_AGAIN).await;
            }
        };
        let tried = clock::within(limit, trying).await;
        tried.unwrap_or_else(|_| match problem.as_str() {
            "" | "missing" => Err(not_found(selector)),
            _ => Err(BrowserError::NotUsable { selector: selector.to_owned(), why: problem }),
        })
    }

    async fn click_at(&self, point: Point) -> Result<(), BrowserError> {
        // Sent together, in order: each is answered only in the page's next frame.
        try_join_all(point.click().map(|movement| self.tab.session.call(movement))).await.map(drop)
    }
}

const fn capture() -> CaptureScreenshot {
    CaptureScreenshot {
        format: Some(CaptureScreenshotFormatOption::Png),
        quality: None,
        clip: None,
        from_surface: None,
        capture_beyond_viewport: None,
        optimize_for_speed: Some(true),
    }
}

const fn no_picture(detail: String) -> BrowserError {
    BrowserError::Protocol { call: "Page.captureScreenshot", detail }
}

fn not_found(selector: &str) -> BrowserError {
    BrowserError::NotFound { selector: selector.to_owned() }
}

impl From<PageOptions> for Traffic {
    fn from(options: PageOptions) -> Self {
        let origins = |allowed: Vec<String>| allowed.into_iter().map(|url| origin_of(&url).unwrap_or(url)).collect();
        options.allowed_origins.map_or(Self::Free, |allowed| Self::Only(origins(allowed)))
    }
}
