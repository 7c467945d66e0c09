//! The browser pool on real Chromium, against portals served from this file on loopback. Nothing is mocked: what dies here
//! is killed, what hangs is stopped.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::time::Duration;

use axum::Router;
use axum::http::{HeaderMap, header};
use axum::response::{Html, IntoResponse, Redirect};
use axum::routing::get;
use nightporter::browsers::{
    Area, BrowserError, CallError, Context, ContextOptions, Health, Key, Kind, NetCause, Page, PageCall, PageOptions,
    Piece, Pool, SavedState, Seat, Settings, StorageText,
};
use nightporter::clock;
use nightporter::lifecycle::Lifecycle;
use nightporter::secret::Secret;
use rustix::process::Pid;

#[path = "browsers/death.rs"]
mod death;
#[path = "browsers/pages.rs"]
mod pages;
#[path = "browsers/recycling.rs"]
mod recycling;
#[path = "browsers/scarcity.rs"]
mod scarcity;
#[path = "disk/small.rs"]
mod small;

/// Enough for two cores that are building something else meanwhile; nothing waits for it to pass.
const LIMIT: Duration = Duration::from_secs(60);
/// For what must not happen. Long enough for a look at the page while the machine does something else.
const SHORT: Duration = Duration::from_secs(2);

/// A pool of its own, in a directory of its own.
struct House {
    pool: Pool,
    life: Lifecycle,
    run: tempfile::TempDir,
}

impl House {
    fn open() -> Self {
        Self::open_with(Settings::default())
    }

    fn open_with(settings: Settings) -> Self {
        let run = tempfile::tempdir().unwrap();
        // The browser's account must be able to pass through.
        fs::set_permissions(run.path(), std::os::unix::fs::PermissionsExt::from_mode(0o711)).unwrap();
        let life = Lifecycle::new();
        let pool = Pool::new(&life, Settings { runtime_dir: run.path().to_owned(), ..settings }).unwrap();
        Self { pool, life, run }
    }

    async fn context(&self) -> Context {
        self.pool.open(Seat::A, ContextOptions::default()).await.unwrap()
    }

    async fn page(&self) -> (Context, Page) {
        let context = self.context().await;
        let page = context.page(PageOptions::default()).await.unwrap();
        (context, page)
    }

    /// Waits until the processes of the pool are as wanted.
    async fn processes_become(&self, what: &str, wanted: impl Fn(&BTreeSet<i32>) -> bool) {
        let becoming = async {
            while !wanted(&processes_of(self.run.path())) {
                clock::pause(Duration::from_millis(20)).await;
            }
        };
        let became = clock::within(LIMIT, becoming).await;
        assert!(became.is_ok(), "waited in vain for {what}: {:?}", processes_of(self.run.path()));
    }

    fn pid(&self, seat: Seat) -> Pid {
        Pid::from_raw(self.pool.watch(seat).borrow().pid.unwrap().cast_signed()).unwrap()
    }

    async fn becomes(&self, seat: Seat, wanted: impl FnMut(&Health) -> bool) -> Health {
        let mut health = self.pool.watch(seat);
        clock::within(LIMIT, health.wait_for(wanted)).await.unwrap().unwrap().clone()
    }

    /// Ends everything and sees that nothing is left.
    async fn close(self) {
        assert!(self.life.shutdown(LIMIT).await, "something did not stop");
        assert_eq!(fs::read_dir(self.run.path()).unwrap().count(), 0, "profiles are left");
        assert_gone(self.run.path()).await;
    }
}

/// Numbers of the live processes whose command line mentions `directory`.
fn processes_of(directory: &Path) -> BTreeSet<i32> {
    let marker = directory.to_str().unwrap();
    let numbers = fs::read_dir("/proc").unwrap().filter_map(|entry| entry.unwrap().file_name().to_str()?.parse().ok());
    // A zombie has an empty command line: it is dead, and waits for whoever inherited it.
    numbers.filter(|pid| command_line(*pid).contains(marker)).collect()
}

fn command_line(pid: i32) -> String {
    String::from_utf8_lossy(&fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default()).into_owned()
}

/// Killed processes need a moment to be gone.
async fn assert_gone(directory: &Path) {
    let leaving = async {
        while !processes_of(directory).is_empty() {
            clock::pause(Duration::from_millis(20)).await;
        }
    };
    let left = clock::within(LIMIT, leaving).await;
    assert!(left.is_ok(), "still running: {:?}", processes_of(directory));
}

const LOGIN: &str = r##"<!doctype html><title>로그인</title>
<style>#late { display: none }</style>
<input id=user value="old text"><input id=pass type=password>
<select id=branch><option value=s>서울</option><option value=b>부산</option></select>
<button id=go disabled>들어가기</button><p id=late>어서 오세요 <b id=who></b></p><pre id=log></pre>
<script>
  const log = (event) => document.getElementById("log").append(`${event.type}:${event.target.id}:${event.isTrusted} `);
  for (const type of ["click", "input", "change", "keydown"]) addEventListener(type, log, true);
  // Pages that replace what scripts rely on must not confuse us.
  Array.from = JSON.stringify = document.querySelector = () => { throw new Error("tampered"); };
  const $ = (id) => document.getElementById(id);
  $("pass").oninput = () => { $("go").disabled = $("pass").value !== "비밀 '\"\\번호"; };
  $("go").onclick = () => { $("who").textContent = $("user").value + "/" + $("branch").value; $("late").style.display = "block"; };
</script>"##;

// The greeting sticks out of its box, and repeats what is typed.
const FORM: &str = r#"<!doctype html><title>form</title><input id=user><input id=pass type=password><button>go</button>
<div id=greeting style="width:30px;height:20px;white-space:nowrap"></div>
<script>user.oninput = () => { greeting.textContent = `안녕하세요 ${user.value}`; };</script>"#;

/// A wait that outlives two documents before it sees what it waits for.
const HOPS: &str = r#"<!doctype html><title>hop</title><script>
  const hop = Number(new URLSearchParams(location.search).get("n"));
  if (hop < 3) setTimeout(() => location.replace(`/hops?n=${hop + 1}`), 100);
  else setTimeout(() => { document.body.innerHTML = "<p id=arrived style='visibility:hidden'>arrived</p>";
    setTimeout(() => { document.getElementById("arrived").style.visibility = "visible"; }, 50); }, 100);
</script>"#;

const HOME: &str = r#"<!doctype html><title>home</title><p id=seen></p>
<script>document.getElementById("seen").textContent = String(localStorage.getItem("token"));</script>"#;

const REPEATED: &str = r#"<!doctype html><meta charset=utf-8>
    <style>body, input, button, textarea, select { font: 16px monospace; } .box { width: 1em }</style>
    <input id=wanted><button id=repeat>repeat</button><span id=woken></span><div id=stage></div>
    <script>
    let woken = 0;
    const stage = document.getElementById("stage");
    new MutationObserver(() => document.getElementById("woken").textContent = ++woken)
        .observe(stage, { subtree: true, childList: true, attributes: true, characterData: true });
    document.getElementById("repeat").onclick = () => {
        const code = document.getElementById("wanted").value, digits = Array.from(code);
        const wide = digits.map((digit) => String.fromCharCode(digit.charCodeAt(0) + 0xfee0)).join("");
        const boxes = digits.map((digit) => `<input class=box value=${digit}>`).join("");
        stage.innerHTML = `<p id=plain>인증번호 ${code} 확인</p><p>${digits.map((digit) => `<b>${digit}</b>`).join(" ")}</p>
            <p>${code.slice(0, 3)}-${code.slice(3)} ${wide}</p><p>${boxes}</p><input value="code: ${code}"><input placeholder="${code}">
            <textarea>${code}</textarea><select><option>${code}</option></select><div id=host></div>`;
        const shadow = document.getElementById("host").attachShadow({ mode: "open" });
        shadow.innerHTML = `<p>in the shadow ${code}</p><div><i>not this</i><input value=${code}></div>`;
    };
    </script>"#;
const POPUP: &str = r#"<!doctype html><title>popup</title><button id=open>open</button><p id=said>nothing</p>
<script>
  document.getElementById("open").onclick = () => {
    const popup = open("/home", "_blank", "width=200,height=200");
    alert("공지사항");
    document.getElementById("said").textContent = confirm("계속할까요?") + ":" + (popup !== null);
  };
</script>"#;

const COVERED: &str = r#"<!doctype html><button id=under>under</button><button id=moving>moving</button>
<div id=veil style="position:fixed;inset:0;background:#fffc"></div><input id=fixed readonly><i id=empty></i>"#;

/// A portal on a port of its own; returns its origin.
#[expect(clippy::disallowed_methods, reason = "it ends with its test's runtime and needs no other owner")]
async fn portal() -> String {
    let page = |html: &'static str| get(move || async move { Html(html) });
    let app = Router::new()
        .route("/login", page(LOGIN))
        .route("/home", page(HOME))
        .route("/form", page(FORM))
        .route("/hops", page(HOPS))
        .route("/popup", page(POPUP))
        .route("/repeated", page(REPEATED))
        .route("/spin", page(pages::SPIN))
        .route("/leave", page(pages::LEAVE))
        .route("/windows", page(pages::WINDOWS))
        .route("/large", page(scarcity::LARGE))
        .route("/covered", page(COVERED))
        .route("/set", get(set_session))
        .route("/who", get(async |headers: HeaderMap| Html(format!("<p id=who>{:?}</p>", headers.get(header::COOKIE)))))
        .route("/old", get(async || Redirect::to("/home?from=old")))
        .route("/busy", get(busy))
        .route("/mirror", get(async |headers: HeaderMap| format!("{headers:?}")));
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
    format!("http://{address}")
}

/// A page that allows its scripts its own site only, whose button never comes back, and that has its own idea of `fetch`.
async fn busy() -> impl IntoResponse {
    let policy = "default-src 'none'; script-src 'unsafe-inline'; connect-src 'self'";
    let page = r#"<button id=spin onclick="for (;;);">spin</button><script>window.fetch = null</script>"#;
    ([(header::CONTENT_SECURITY_POLICY, policy)], Html(page))
}

async fn set_session() -> impl IntoResponse {
    let script = "<script>localStorage.setItem('token', '토큰\\ud800'); localStorage.setItem('b', '2')</script>";
    let cookies = [
        "sid=s3cret; HttpOnly; Path=/; SameSite=Lax",
        "kept=1; Max-Age=86400; Path=/",
        "__Host-x=y; Secure; HttpOnly; Path=/",
    ];
    (axum::response::AppendHeaders(cookies.map(|cookie| (header::SET_COOKIE, cookie))), Html(script))
}

#[tokio::test]
async fn a_login_form_is_filled_and_clicked_by_trusted_events() {
    let house = House::open();
    let portal = portal().await;
    let (_context, page) = house.page().await;
    let landing = page.goto(&format!("{portal}/login"), LIMIT).await.unwrap();
    assert_eq!((landing.status, landing.url), (200, format!("{portal}/login")));
    assert_eq!(page.title().await.unwrap(), "로그인");
    page.fill("#user", "김 검침", LIMIT).await.unwrap();
    page.select("#branch", "부산", LIMIT).await.unwrap();
    assert_eq!(page.first_of(&["#late", "#nothing"], SHORT).await.unwrap_err().kind(), Kind::PageChanged);
    let disabled = page.click("#go", SHORT).await.unwrap_err();
    assert_eq!(disabled, BrowserError::NotUsable { selector: "#go".into(), why: "disabled".into() });
    page.fill("#pass", "비밀 '\"\\번호", LIMIT).await.unwrap();
    page.press(Key::Tab).await.unwrap();
    page.click("#go", LIMIT).await.unwrap();
    assert_eq!(page.first_of(&[".error", "#late"], LIMIT).await.unwrap(), 1);
    assert_eq!(page.text("#late").await.unwrap(), "어서 오세요 김 검침/b");
    let log = page.text("#log").await.unwrap();
    for trusted in ["click:user:true", "input:user:true", "input:pass:true", "keydown:pass:true", "click:go:true"] {
        assert!(log.contains(trusted), "{trusted} is not in {log}");
    }
    assert!(log.contains("change:branch:false"), "{log}");
    assert_eq!(page.attribute("#pass", "type").await.unwrap().as_deref(), Some("password"));
    assert_eq!(page.attribute("#pass", "name").await.unwrap(), None);
    assert!(page.exists("#late").await.unwrap() && !page.exists("#nothing").await.unwrap());
    assert!(page.html().await.unwrap().contains("들어가기"));
    page.fill("#user", "", LIMIT).await.unwrap();
    page.click("#go", LIMIT).await.unwrap();
    assert_eq!(page.text("#who").await.unwrap(), "/b");
    house.close().await;
}

#[tokio::test]
async fn a_wait_survives_navigations() {
    let house = House::open();
    let portal = portal().await;
    let (_context, page) = house.page().await;
    page.goto(&format!("{portal}/hops?n=0"), LIMIT).await.unwrap();
    assert_eq!(page.first_of(&["#nothing", "#arrived"], LIMIT).await.unwrap(), 1);
    assert_eq!(page.text("#arrived").await.unwrap(), "arrived");
    let third = page.wait_for_url(|url| url.query() == Some("n=3"), "?n=3", LIMIT).await.unwrap();
    assert_eq!(third, format!("{portal}/hops?n=3"));
    house.close().await;
}

#[tokio::test]
async fn what_is_in_the_way_is_named() {
    let house = House::open();
    let portal = portal().await;
    let (_context, page) = house.page().await;
    page.goto(&format!("{portal}/covered"), LIMIT).await.unwrap();
    let why = async |done: Result<(), BrowserError>| done.unwrap_err().to_string();
    let covered = why(page.click("#under", SHORT).await).await;
    assert!(covered.contains("covered by div#veil"), "{covered}");
    assert!(why(page.click("#empty", SHORT).await).await.contains("hidden"));
    assert!(why(page.fill("#fixed", "x", SHORT).await).await.contains("read-only"));
    assert!(why(page.select("#fixed", "x", SHORT).await).await.contains("not a list"));
    let invalid = page.click("#a[", SHORT).await.unwrap_err();
    assert_eq!(invalid, BrowserError::InvalidSelector { selector: "#a[".into() });
    let injected = page.exists("x\"); location = '/home'; (\"").await.unwrap_err();
    assert!(matches!(injected, BrowserError::InvalidSelector { .. }));
    assert!(page.url().await.unwrap().ends_with("/covered"));
    page.goto(&format!("{portal}/login"), LIMIT).await.unwrap();
    let option = page.select("#branch", "제주", SHORT).await.unwrap_err();
    assert_eq!(option, BrowserError::NoOption { selector: "#branch".into(), option: "제주".into() });
    house.close().await;
}

#[tokio::test]
async fn a_dead_portal_is_told_from_one_that_answers() {
    let house = House::open();
    let portal = portal().await;
    let (_context, page) = house.page().await;
    let missing = page.goto(&format!("{portal}/nothing"), LIMIT).await.unwrap();
    assert_eq!((missing.status, missing.url), (404, format!("{portal}/nothing")));
    let redirected = page.goto(&format!("{portal}/old"), LIMIT).await.unwrap();
    assert_eq!((redirected.status, redirected.url), (200, format!("{portal}/home?from=old")));
    page.wait_for_url(|url| url.path() == "/home", "/home", LIMIT).await.unwrap();
    let elsewhere = page.wait_for_url(|url| url.path() == "/elsewhere", "/elsewhere", SHORT).await.unwrap_err();
    assert_eq!(elsewhere, BrowserError::UrlMismatch { pattern: "/elsewhere".into() });

    // Bound, so that nobody else gets it, and not listening.
    let held = tokio::net::TcpSocket::new_v4().unwrap();
    held.bind(([127, 0, 0, 1], 0).into()).unwrap();
    let closed = held.local_addr().unwrap();
    let refused = page.goto(&format!("http://{closed}/?token=s3cret"), LIMIT).await.unwrap_err();
    let cause = NetCause::Refused;
    assert_eq!(refused, BrowserError::Navigation { url: format!("http://{closed}/"), cause });
    assert_eq!(refused.kind(), Kind::PortalDown);
    let unresolved = page.goto("http://nowhere.invalid/", LIMIT).await.unwrap_err();
    assert!(matches!(unresolved, BrowserError::Navigation { cause: NetCause::Dns, .. }), "{unresolved}");
    let mute = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let silent = page.goto(&format!("http://{}/", mute.local_addr().unwrap()), SHORT).await.unwrap_err();
    assert!(matches!(silent, BrowserError::Navigation { cause: NetCause::TimedOut, .. }), "{silent}");
    // And the page goes on.
    page.goto(&format!("{portal}/home"), LIMIT).await.unwrap();
    house.close().await;
}

#[tokio::test]
async fn a_page_stays_within_its_origins() {
    let house = House::open();
    let (inside, outside) = (portal().await, portal().await);
    let context = house.context().await;
    let options = PageOptions { allowed_origins: Some(vec![format!("{inside}/anything")]) };
    let page = context.page(options).await.unwrap();
    page.goto(&format!("{inside}/home"), LIMIT).await.unwrap();
    let refused = page.goto(&format!("{outside}/home"), LIMIT).await.unwrap_err();
    assert!(matches!(refused, BrowserError::Navigation { cause: NetCause::NotAllowed, .. }), "{refused}");
    house.close().await;
}

#[tokio::test]
async fn a_session_moves_to_a_new_process_with_cookies_and_storage() {
    let house = House::open();
    let portal = portal().await;
    let (context, page) = house.page().await;
    page.goto(&format!("{portal}/set"), LIMIT).await.unwrap();
    page.close().await.unwrap();
    let saved = context.export().await.unwrap();
    let mut names: Vec<_> = saved.cookies.iter().map(|cookie| (&*cookie.name, cookie.expires.is_some())).collect();
    names.sort_unstable();
    assert_eq!(names, [("__Host-x", false), ("kept", true), ("sid", false)]);
    assert!(saved.local_storage[&portal].0.contains("\\ud800"), "what is not Unicode is kept");
    context.dispose().await.unwrap();

    // Through the store's codec, into the other process.
    let saved: SavedState = bincode::deserialize(&bincode::serialize(&saved).unwrap()).unwrap();
    let options = ContextOptions { restore: Some(saved.clone()), ..ContextOptions::default() };
    let restored = house.pool.open(Seat::A.other(), options).await.unwrap();
    assert_eq!(restored.seat(), Seat::B);
    let page = restored.page(PageOptions::default()).await.unwrap();
    page.goto(&format!("{portal}/home"), LIMIT).await.unwrap();
    assert!(page.text("#seen").await.unwrap().starts_with("토큰"), "storage comes before the page's own scripts");
    page.goto(&format!("{portal}/who"), LIMIT).await.unwrap();
    let sent = page.text("#who").await.unwrap();
    assert!(["sid=s3cret", "kept=1", "__Host-x=y"].iter().all(|cookie| sent.contains(cookie)), "{sent}");
    let again = restored.export().await.unwrap();
    assert_eq!(again.local_storage, saved.local_storage);
    house.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_calls_with_what_it_has_stored_and_is_given_up_when_it_spins() {
    let (house, portal) = (House::open(), portal().await);
    let (context, page) = house.page().await;
    page.goto(&format!("{portal}/busy"), LIMIT).await.unwrap();
    page.take_calls(PageOptions::default()).await.unwrap();
    let stored = |area| Piece::Stored { area, key: "a".into(), pointer: Some("/b/0".into()) };
    let text = |text: &str| Piece::Text { text: text.into() };
    let headers = vec![
        ("x-local".to_owned(), vec![text("<"), stored(Area::Local), text(">")]),
        ("x-session".to_owned(), vec![stored(Area::Session)]),
    ];
    let (method, url) = ("GET".to_owned(), format!("{portal}/mirror"));
    let call = PageCall { origin: portal.clone(), url, method, headers, body: None };
    let storage = [(portal.clone(), StorageText(r#"[["a","{\"b\":[\"t0k\"]}"]]"#.into()))];
    let state = SavedState { local_storage: storage.into(), ..SavedState::default() };
    let other = house.pool.open(Seat::A, ContextOptions { restore: Some(state), user_agent: None }).await.unwrap();
    let blank = other.blank_page(&portal, PageOptions::default()).await.unwrap();
    let mut answer = blank.call(&call, LIMIT).await.unwrap();
    let told = String::from_utf8(answer.body.next(LIMIT).await.unwrap().unwrap().to_vec()).unwrap();
    assert!(told.contains(r#""x-local": "<t0k>""#) && !told.contains("x-session"), "{told}");
    assert_eq!((answer.status, page.call(&call, LIMIT).await.unwrap().status), (200, 200));
    let away = PageCall { origin: "http://other.example".into(), ..call.clone() };
    assert_eq!(blank.call(&away, LIMIT).await.unwrap_err(), CallError::Away);
    let spins = async {
        loop {
            // One that was under way when it began to spin is only late; the next one cannot leave.
            if let Err(error @ CallError::Page(_)) = page.call(&call, Duration::from_secs(2)).await {
                return error;
            }
        }
    };
    let (_, error) = tokio::join!(page.click("#spin", LIMIT), spins);
    assert!(!page.is_open() && context.is_alive(), "{error}");
    assert_eq!(context.page(PageOptions::default()).await.unwrap().url().await.unwrap(), "about:blank");
    drop((page, context, blank, other));
    house.close().await;
}

#[tokio::test]
async fn storage_of_any_origin_is_restored_without_the_network() {
    let house = House::open();
    let entries = |text: &str| StorageText(text.into());
    let local_storage = BTreeMap::from([
        ("http://plain.invalid".to_owned(), entries(r#"[["a","1"]]"#)),
        ("https://secure.invalid".to_owned(), entries(r#"[["가","나다"],["b","\\u2028'\"<"]]"#)),
        ("https://xn--9n2bp8q.invalid:8443".to_owned(), entries(r#"[["c",""]]"#)),
    ]);
    let saved = SavedState { local_storage, ..SavedState::default() };
    let options = ContextOptions { restore: Some(saved.clone()), ..ContextOptions::default() };
    let context = house.pool.open(Seat::A, options).await.unwrap();
    let read = |state: &SavedState| -> Vec<BTreeSet<Vec<String>>> {
        state.local_storage.values().map(|entries| serde_json::from_str(&entries.0).unwrap()).collect()
    };
    let exported = context.export().await.unwrap();
    assert!(exported.local_storage.keys().eq(saved.local_storage.keys()));
    assert_eq!(read(&exported), read(&saved));
    house.close().await;
}

#[tokio::test]
async fn an_export_fits_into_a_record_and_keeps_the_tokens() {
    let house = House::open();
    let cache = format!("[[\"cache\",\"{}\"],[\"token\",\"t\"]]", "캐시".repeat(20_000));
    let local_storage = BTreeMap::from([("https://acme.invalid".to_owned(), StorageText(cache))]);
    let restore = Some(SavedState { local_storage, ..SavedState::default() });
    let context = house.pool.open(Seat::A, ContextOptions { restore, ..ContextOptions::default() }).await.unwrap();
    let saved = context.export().await.unwrap();
    assert_eq!(saved.local_storage["https://acme.invalid"].0, r#"[["token","t"]]"#);
    house.close().await;
}

#[tokio::test]
async fn contexts_share_nothing_and_one_bad_cookie_costs_only_itself() {
    let house = House::open();
    let portal = portal().await;
    let (first, page) = house.page().await;
    page.goto(&format!("{portal}/set"), LIMIT).await.unwrap();
    let (second, other) = house.page().await;
    other.goto(&format!("{portal}/home"), LIMIT).await.unwrap();
    assert_eq!(other.text("#seen").await.unwrap(), "null");
    assert!(second.cookies().await.unwrap().is_empty());
    let mut cookies = first.cookies().await.unwrap();
    cookies[0].name = "bad name;\u{1}".into();
    second.set_cookies(&cookies).await.unwrap();
    assert_eq!(second.cookies().await.unwrap().len(), 2);
    house.close().await;
}

#[tokio::test]
async fn pictures_hide_secrets() {
    let house = House::open();
    let portal = portal().await;
    let (_context, page) = house.page().await;
    page.goto(&format!("{portal}/form"), LIMIT).await.unwrap();
    let picture = async |user: &str, pass: &str, masked: &[&str]| {
        page.fill("#user", user, LIMIT).await.unwrap();
        page.fill("#pass", pass, LIMIT).await.unwrap();
        // Away from the fields, so that no cursor blinks in a picture.
        page.press(Key::Tab).await.unwrap();
        page.screenshot(masked, &[]).await.unwrap()
    };
    let open = picture("kim", "abc", &[]).await;
    assert!(open.starts_with(b"\x89PNG"));
    assert!(open != picture("lee", "abc", &[]).await, "pictures show what is not masked");
    assert!(open == picture("kim", "abcdef", &[]).await, "the length of a password shows");
    let hidden = picture("kim", "abc", &["#user", "#greeting"]).await;
    assert!(hidden == picture("a longer name", "abc", &["#user", "#greeting"]).await, "what is masked shows");
    assert!(matches!(page.screenshot(&["#a["], &[]).await, Err(BrowserError::InvalidSelector { .. })));
    assert!(matches!(page.screenshot(&["a { } body"], &[]).await, Err(BrowserError::InvalidSelector { .. })));
    house.close().await;
}

#[tokio::test]
async fn pictures_hide_a_secret_wherever_the_page_repeats_it() {
    let house = House::open();
    let portal = portal().await;
    let (_context, page) = house.page().await;
    page.goto(&format!("{portal}/repeated"), LIMIT).await.unwrap();
    let secrets = |secrets: [&str; 2]| secrets.map(Secret::new);
    let (masked, mut pictures) = (["#wanted", "#woken"], Vec::new());
    for code in ["572913", "101010"] {
        page.fill("#wanted", code, LIMIT).await.unwrap();
        page.click("#repeat", LIMIT).await.unwrap();
        assert_eq!(page.text("#plain").await.unwrap(), format!("인증번호 {code} 확인"));
        pictures.push(page.screenshot(&masked, &secrets([code, "hunter two"])).await.unwrap());
        pictures.push(page.screenshot(&masked, &[]).await.unwrap());
    }
    let [hidden, open, hidden_too, open_too] = &pictures[..] else { panic!("four pictures") };
    assert!(open != open_too, "pictures show what is not hidden");
    assert!(hidden != open, "something is hidden");
    assert!(hidden == hidden_too, "a code shows");
    assert_eq!(page.text("#woken").await.unwrap(), "2", "only our two clicks changed the page");
    house.close().await;
}

#[tokio::test]
async fn the_renderer_is_sandboxed_and_nobody_is_root() {
    let house = House::open();
    let portal = portal().await;
    let (_context, page) = house.page().await;
    page.goto(&format!("{portal}/home"), LIMIT).await.unwrap();
    // It puts its filters on itself, as one of the first things that it does; there may be a spare one that has just begun.
    let filtered = |pid: &i32| {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        !command_line(*pid).contains("--type=renderer") || status.contains("\nSeccomp:\t2\n")
    };
    house.processes_become("filters of every renderer", |all| all.iter().all(filtered)).await;
    let mut renderers = 0;
    for pid in processes_of(house.run.path()) {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        let line =
            |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default().trim().to_owned();
        let command = command_line(pid);
        assert!(!line("Uid:").split('\t').any(|uid| uid == "0"), "root runs {command}");
        assert_eq!(line("Groups:"), "", "{command} kept supplementary groups");
        assert!(!command.contains("no-sandbox\0") && !command.contains("debugging-port"), "{command}");
        if command.contains("--type=renderer") {
            renderers += 1;
            assert_eq!(line("Seccomp:"), "2", "{command}");
        }
    }
    assert!(renderers > 0);
    let environment = fs::read(format!("/proc/{}/environ", house.pid(Seat::A).as_raw_pid())).unwrap();
    assert!(!String::from_utf8_lossy(&environment).contains("CARGO"), "our environment leaks");
    house.close().await;
}

#[tokio::test]
async fn the_identity_is_what_portals_really_get() {
    let house = House::open_with(Settings { languages: Some("ko-KR,ko".into()), ..Settings::default() });
    let portal = portal().await;
    let (context, page) = house.page().await;
    let identity = context.identity().await.unwrap();
    assert!(
        identity.user_agent.contains("Chrome/") && identity.accept_language.starts_with("ko-KR,ko;q="),
        "{identity:?}"
    );
    assert!(identity.client_hints.iter().any(|(name, value)| name == "sec-ch-ua" && value.contains("Chrom")));
    assert!(identity.fetch.iter().any(|(name, value)| name == "sec-fetch-mode" && value == "cors"));
    page.goto(&format!("{portal}/mirror"), LIMIT).await.unwrap();
    let seen = page.text("body").await.unwrap();
    for (name, value) in &identity.document {
        assert!(seen.contains(&format!("{name:?}: {value:?}")), "{name}: {value} is not in {seen}");
    }
    let options = ContextOptions { user_agent: Some("Porter/1".into()), ..ContextOptions::default() };
    let renamed = house.pool.open(Seat::A, options).await.unwrap();
    assert_eq!(renamed.identity().await.unwrap().user_agent, "Porter/1");
    house.close().await;
}

#[tokio::test]
async fn what_is_dropped_is_closed() {
    let house = House::open();
    let portal = portal().await;
    let (context, page) = house.page().await;
    page.goto(&format!("{portal}/home"), LIMIT).await.unwrap();
    let renderers =
        |run: &Path| processes_of(run).into_iter().filter(|pid| command_line(*pid).contains("--type=renderer"));
    let before = renderers(house.run.path()).count();
    drop((page, context));
    let closing = async {
        while renderers(house.run.path()).count() >= before {
            clock::pause(Duration::from_millis(20)).await;
        }
    };
    clock::within(LIMIT, closing).await.unwrap();
    house.close().await;
}

#[tokio::test]
async fn without_a_browser_the_error_says_how_to_get_one() {
    let run = tempfile::tempdir().unwrap();
    fs::set_permissions(run.path(), std::os::unix::fs::PermissionsExt::from_mode(0o711)).unwrap();
    let life = Lifecycle::new();
    let settings =
        Settings { runtime_dir: run.path().into(), binary: Some("/nowhere/chromium".into()), ..Settings::default() };
    let pool = Pool::new(&life, settings).unwrap();
    let error = pool.open(Seat::A, ContextOptions::default()).await.unwrap_err();
    assert!(matches!(&error, BrowserError::NotInstalled { tried } if tried == "/nowhere/chromium"), "{error}");
    assert_eq!(error.kind(), Kind::BrowserFailed);
    assert!(life.shutdown(LIMIT).await);
}

#[tokio::test]
async fn without_a_sandbox_the_error_names_the_cause_and_the_switch() {
    let run = tempfile::tempdir().unwrap();
    let open = |path: &Path| fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    open(run.path());
    // The real program, in a world where nobody may make the namespaces that its sandbox needs.
    let confined = run.path().join("confined");
    let no_namespaces = "echo 0 > /proc/sys/user/max_user_namespaces && exec /usr/lib/chromium/chromium \"$@\"";
    let script =
        format!("#!/bin/sh\nexec unshare --user --map-current-user --keep-caps sh -c '{no_namespaces}' sh \"$@\"\n");
    fs::write(&confined, script).unwrap();
    open(&confined);
    let launch = async |sandbox: bool| {
        let life = Lifecycle::new();
        let runtime_dir = run.path().join("run");
        let settings = Settings { runtime_dir, binary: Some(confined.clone()), sandbox, ..Settings::default() };
        let warmed = Pool::new(&life, settings).unwrap().warm().await;
        assert!(life.shutdown(LIMIT).await);
        warmed
    };
    let error = launch(true).await.unwrap_err();
    assert!(matches!(error, BrowserError::Sandbox { .. }), "{error}");
    assert!(error.to_string().contains("browser.sandbox = false"), "{error}");
    launch(false).await.expect("the operator's switch helps");
}
