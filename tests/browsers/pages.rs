//! Pages that misbehave: each costs at most its own tab, and its callers are told what happened.

use std::collections::BTreeSet;

use nightporter::browsers::{BrowserError, Kind, PageOptions, Seat};

use crate::{House, LIMIT, command_line, portal, processes_of};

/// Well for long enough to be seen on a busy machine, then busy for ever.
pub(crate) const SPIN: &str = r#"<!doctype html><title>spin</title><p id=ready>ready</p>
<script>setTimeout(() => { while (true); }, 3000)</script>"#;

/// Does not want to be left.
pub(crate) const LEAVE: &str = r#"<!doctype html><title>leave</title><button id=touch>touch</button><p id=said>no</p>
<script>
  addEventListener("beforeunload", (event) => { event.preventDefault(); event.returnValue = "stay"; });
  touch.onclick = () => { said.textContent = "yes"; };
</script>"#;

/// Opens windows that close themselves, and one that is closed by its opener.
pub(crate) const WINDOWS: &str = r#"<!doctype html><title>windows</title><button id=open>open</button><p id=said>nothing</p>
<script>
  document.getElementById("open").onclick = () => {
    for (let n = 0; n < 5; n++) {
      const popup = open("/home", "_blank", "width=200,height=200");
      popup?.close();
      open("about:blank")?.document.write("<script>close()</scr" + "ipt>");
    }
    document.getElementById("said").textContent = "opened";
  };
</script>"#;

#[tokio::test]
async fn a_crashed_renderer_fails_its_calls_at_once_and_spares_the_context() {
    let house = House::open();
    let portal = portal().await;
    let (context, page) = house.page().await;
    page.goto(&format!("{portal}/set"), LIMIT).await.unwrap();
    // Without the crash being noticed both would end at their limits, with other errors.
    let (crash, waiting) = tokio::join!(page.goto("chrome://crash", LIMIT), page.wait_for("#never", LIMIT));
    assert_eq!(crash.unwrap_err(), BrowserError::Crashed);
    assert_eq!(waiting.unwrap_err(), BrowserError::Crashed);
    assert_eq!(page.url().await.unwrap_err(), BrowserError::Crashed);
    let fresh = context.page(PageOptions::default()).await.unwrap();
    fresh.goto(&format!("{portal}/who"), LIMIT).await.unwrap();
    assert!(fresh.text("#who").await.unwrap().contains("sid=s3cret"));
    house.close().await;
}

#[tokio::test]
async fn a_page_that_spins_for_ever_costs_its_tab_and_nothing_else() {
    let house = House::open();
    let portal = portal().await;
    let (context, page) = house.page().await;
    page.goto(&format!("{portal}/set"), LIMIT).await.unwrap();
    let renderers = || -> BTreeSet<i32> {
        let all = processes_of(house.run.path()).into_iter();
        all.filter(|pid| command_line(*pid).contains("--type=renderer")).collect()
    };
    let bystanders = renderers();
    let spinning = context.page(PageOptions::default()).await.unwrap();
    spinning.goto(&format!("{portal}/spin"), LIMIT).await.unwrap();
    spinning.wait_for("#ready", LIMIT).await.unwrap();
    let its_own: BTreeSet<_> = renderers().difference(&bystanders).copied().collect();
    assert!(!its_own.is_empty());
    let given_up = spinning.wait_for("#never", LIMIT * 2).await.unwrap_err();
    assert_eq!((given_up.kind(), given_up), (Kind::BrowserFailed, BrowserError::Unresponsive));
    assert_eq!(spinning.screenshot(&[], &[]).await.unwrap_err(), BrowserError::Unresponsive);
    house.processes_become("the end of the renderer", |now| now.is_disjoint(&its_own)).await;
    assert_eq!(page.title().await.unwrap(), "", "the other tab of the context goes on");
    page.goto(&format!("{portal}/who"), LIMIT).await.unwrap();
    assert!(page.text("#who").await.unwrap().contains("sid=s3cret"));
    let fresh = context.page(PageOptions::default()).await.unwrap();
    fresh.goto(&format!("{portal}/home"), LIMIT).await.unwrap();
    let health = house.pool.watch(Seat::A).borrow().clone();
    assert_eq!((health.generation, health.deaths), (1, 0), "the browser itself is well");
    house.close().await;
}

#[tokio::test]
async fn a_context_whose_page_spins_can_be_disposed_of() {
    let house = House::open();
    let portal = portal().await;
    let (context, page) = house.page().await;
    page.goto(&format!("{portal}/spin"), LIMIT).await.unwrap();
    page.wait_for("#ready", LIMIT).await.unwrap();
    let is_renderer = |pid: &i32| command_line(*pid).contains("--type=renderer");
    drop(page);
    context.dispose().await.unwrap();
    house.processes_become("the end of its renderers", |now| !now.iter().any(is_renderer)).await;
    house.close().await;
}

#[tokio::test]
async fn popups_and_dialogs_do_not_disturb() {
    let house = House::open();
    let portal = portal().await;
    let (_context, page) = house.page().await;
    page.goto(&format!("{portal}/popup"), LIMIT).await.unwrap();
    for _ in 0..3 {
        page.click("#open", LIMIT).await.unwrap();
    }
    assert_eq!(page.text("#said").await.unwrap(), "true:true");
    assert_eq!(page.dialogs(), ["공지사항", "계속할까요?"].repeat(3));
    house.close().await;
}

#[tokio::test]
async fn windows_that_open_and_close_do_not_disturb() {
    let house = House::open();
    let portal = portal().await;
    let (_context, page) = house.page().await;
    page.goto(&format!("{portal}/windows"), LIMIT).await.unwrap();
    for _ in 0..3 {
        page.click("#open", LIMIT).await.unwrap();
        page.goto(&format!("{portal}/windows"), LIMIT).await.unwrap();
    }
    assert_eq!(page.title().await.unwrap(), "windows");
    let health = house.pool.watch(Seat::A).borrow().clone();
    assert_eq!((health.generation, health.deaths), (1, 0));
    house.close().await;
}

#[tokio::test]
async fn a_page_that_does_not_want_to_be_left_is_left() {
    let house = House::open();
    let portal = portal().await;
    let (context, page) = house.page().await;
    let enter = async || {
        page.goto(&format!("{portal}/leave"), LIMIT).await.unwrap();
        // Only a page that was touched may ask.
        page.click("#touch", LIMIT).await.unwrap();
        assert_eq!(page.text("#said").await.unwrap(), "yes");
    };
    enter().await;
    page.goto(&format!("{portal}/home"), LIMIT).await.unwrap();
    assert_eq!(page.title().await.unwrap(), "home");
    assert_eq!(page.dialogs().len(), 1, "it has asked");
    enter().await;
    page.close().await.unwrap();
    let export = context.export().await;
    assert!(export.is_ok(), "{export:?}");
    house.close().await;
}
