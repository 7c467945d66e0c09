//! What a page looked like when a login failed: kept without secrets, there after a restart, for whom it is meant.

use nightporter::demo::portal::LoggedOut;
use serde_json::{Value, json};

use crate::stage::{PORTAL, Scene, Stage};

/// A login page that is not recognised need not be looked at for long.
const QUICK: (&str, &str) =
    ("{ if = \"#user\", next = \"form\" },\n  ] },", "{ if = \"#user\", next = \"form\" },\n  ], timeout = \"3s\" },");

async fn list(stage: &Stage) -> Vec<Value> {
    stage.get(&format!("{PORTAL}/evidence")).await.json()["evidence"].as_array().unwrap().clone()
}

async fn page(stage: &Stage, id: u64) -> String {
    let answer = stage.get(&format!("{PORTAL}/evidence/{id}/page")).await;
    assert_eq!((answer.status.as_u16(), answer.header("content-type")), (200, "text/plain; charset=utf-8"));
    assert_eq!(answer.header("x-content-type-options"), "nosniff");
    String::from_utf8(answer.body.to_vec()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_login_leaves_its_page_and_a_captcha_waits_for_an_operator() {
    let mut stage = Stage::set(Scene { recipe: &[QUICK], ..Scene::default() }).await;
    stage.portal.faults(|faults| faults.captcha = true);
    stage.start().await;
    stage.when("down", |state| state["last_failure"]["cause"] == "captcha").await;
    let mail = stage.mail(1).await;
    assert!(String::from_utf8_lossy(&mail.raw).contains("image/png"));
    stage.stop().await;
    stage.start().await;
    stage.reload().await;
    let shown = list(&stage).await;
    assert_eq!(shown.len(), 1, "it was not tried again: {shown:?}");
    let expected = json!({"id": 1, "cause": "captcha", "picture": true, "page": true});
    assert!(expected.as_object().unwrap().iter().all(|(key, value)| shown[0][key] == *value), "{shown:?}");
    assert!(page(&stage, 1).await.contains("id=\"captcha\""));

    // A page that the recipe does not know, and after it a refused password with the name filled in.
    stage.portal.faults(|faults| (faults.captcha, faults.page_changed) = (false, true));
    assert_eq!(stage.wish("reauth").await.0, 202);
    stage.happened("reauth_failed", 2).await;
    let told = page(&stage, 3).await;
    assert!(told.contains("id=\"loginId\"") && told.contains("한빛택배"), "{told}");
    assert!(
        told.contains("value=\"…\"") && !told.contains("<script>//") && !told.contains("addEventListener"),
        "{told}"
    );
    stage.portal.faults(|faults| (faults.page_changed, faults.logged_out) = (false, LoggedOut::LoginPage));
    stage.portal.set_password("partner01", nightporter::secret::Secret::new("another"));
    assert_eq!(stage.wish("reauth").await.0, 202);
    stage.happened("reauth_failed", 3).await;
    let told = page(&stage, 4).await;
    assert!(told.contains("비밀번호가 올바르지 않습니다") && !told.contains(stage.password.expose()), "{told}");

    let picture = stage.get(&format!("{PORTAL}/evidence/4/picture")).await;
    assert_eq!((picture.status.as_u16(), picture.header("content-type")), (200, "image/png"));
    assert!(picture.body.starts_with(b"\x89PNG\r\n\x1a\n"));
    let causes: Vec<_> = list(&stage).await.iter().map(|shown| shown["cause"].clone()).collect();
    assert_eq!(causes, ["bad_credentials", "page_changed", "page_changed", "captcha"]);
    for (path, code) in [("evidence/9/page", "unknown_evidence"), ("evidence/x/page", "invalid_path")] {
        let answer = stage.get(&format!("{PORTAL}/{path}")).await;
        assert!(answer.status.is_client_error(), "{path}");
        assert!(answer.json()["code"] == code || path.contains('x'), "{}", answer.json());
    }
    stage.strike().await;
}
