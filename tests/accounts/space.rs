//! Accounts on a disk that is nearly full.

use nightporter::accounts::audit::What;
use reqwest::Method;

use crate::desk::{Desk, MINUTE, PASSWORD, UNLIMITED};
use crate::small::SmallDisk;
use crate::visitor::Login;

const EMAIL: &str = "minseo@example.com";

#[tokio::test(flavor = "multi_thread")]
async fn on_a_nearly_full_disk_nobody_logs_in_and_everybody_can_log_out() {
    let dir = tempfile::tempdir().unwrap();
    let Some(disk) = SmallDisk::mount(dir.path().join("disk"), "64m") else { return };
    let store = format!("url = \"sled:{}\"\nreserve = \"16 MiB\"", disk.path().join("store").display());
    let desk = Desk::keeping(dir, store, UNLIMITED).await;
    let login = desk.visitor(EMAIL).await;
    let [second, third] =
        [Login::of(&desk.login(EMAIL, PASSWORD).await), Login::of(&desk.login(EMAIL, PASSWORD).await)];
    disk.leave(10 << 20);
    desk.until(async || desk.login(EMAIL, PASSWORD).await.status == 507).await;
    assert_eq!(desk.me(&login.access).await, 200);
    let other = format!("sessions/{}", third.session);
    assert_eq!(desk.with(&login.access, Method::DELETE, &other).await.status, 204);
    assert_eq!(desk.with(&login.access, Method::POST, "logout").await.status, 204);
    assert_eq!((desk.me(&third.access).await, desk.me(&login.access).await), (401, 401));
    assert_eq!(desk.with(&second.access, Method::POST, "logout-all").await.status, 204);
    assert_eq!(desk.me(&second.access).await, 401);
    disk.clear();
    desk.until(async || desk.login(EMAIL, PASSWORD).await.status == 200).await;
    // What the log could not take meanwhile is in it now.
    for what in [What::SessionRevoked, What::LoggedOut, What::LoggedOutEverywhere] {
        desk.until(async || {
            desk.clock.advance(MINUTE);
            desk.noted(0).await.iter().any(|line| line.what == what)
        })
        .await;
    }
    desk.stop().await;
}
