//! A machine that has too little of something: disk, shared memory, room for everybody at once.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use futures_util::future::join_all;
use nightporter::browsers::{BrowserError, ContextOptions, PageOptions, Pool, Seat, Settings};
use nightporter::clock;
use nightporter::lifecycle::Lifecycle;

use crate::small::SmallDisk;
use crate::{House, LIMIT, portal};

/// Has bitmaps of several megabytes cross between processes.
pub(crate) const LARGE: &str = r#"<!doctype html><title>large</title><canvas id=c width=4000 height=3000></canvas>
<script>const g = c.getContext("2d"); for (let n = 0; n < 4000; n += 7) { g.fillStyle = `hsl(${n} 80% 50%)`; g.fillRect(n, 0, 5, 3000); }
c.toBlob((blob) => { const i = new Image(); i.id = "done"; i.src = URL.createObjectURL(blob); document.body.prepend(i); })</script>"#;

#[tokio::test]
async fn a_full_disk_is_named_and_when_there_is_room_again_browsers_start() {
    let dir = tempfile::tempdir().unwrap();
    fs::set_permissions(dir.path(), PermissionsExt::from_mode(0o711)).unwrap();
    let Some(disk) = SmallDisk::mount(dir.path().join("run"), "60m") else { return };
    disk.leave(0);
    let life = Lifecycle::new();
    let pool = Pool::new(&life, Settings { runtime_dir: disk.path().to_owned(), ..Settings::default() }).unwrap();
    let error = pool.open(Seat::A, ContextOptions::default()).await.unwrap_err();
    assert!(matches!(error, BrowserError::Launch { .. }) && error.to_string().contains("is full"), "{error}");
    let mut health = pool.watch(Seat::A);
    assert!(health.borrow().reason.as_ref().unwrap().contains("is full"));
    disk.clear();
    clock::within(LIMIT, health.wait_for(|health| health.up)).await.unwrap().unwrap();
    let context = pool.open(Seat::A, ContextOptions::default()).await.unwrap();
    let page = context.page(PageOptions::default()).await.unwrap();
    let portal = portal().await;
    page.goto(&format!("{portal}/large"), LIMIT).await.unwrap();

    // It fills up under a running browser: what cannot go on dies, and what comes after works once there is room.
    disk.leave(0);
    let _ = page.goto(&format!("{portal}/large"), LIMIT).await;
    drop((page, context));
    disk.clear();
    let working = async {
        loop {
            let Ok(context) = pool.open(Seat::A, ContextOptions::default()).await else { continue };
            let Ok(page) = context.page(PageOptions::default()).await else { continue };
            if page.goto(&format!("{portal}/home"), LIMIT).await.is_ok() {
                return;
            }
        }
    };
    clock::within(LIMIT, working).await.unwrap();
    assert!(life.shutdown(LIMIT).await);
    assert_eq!(fs::read_dir(disk.path()).unwrap().count(), 0);
}

#[tokio::test]
async fn a_small_dev_shm_does_not_matter() {
    let run = tempfile::tempdir().unwrap();
    let open = |path: &Path| fs::set_permissions(path, PermissionsExt::from_mode(0o755)).unwrap();
    open(run.path());
    // The real program, in a world where /dev/shm has a single page.
    let confined = run.path().join("confined");
    let tiny = "mount -t tmpfs -o size=4k tmpfs /dev/shm && exec /usr/lib/chromium/chromium \"$@\"";
    let script =
        format!("#!/bin/sh\nexec unshare --user --mount --map-current-user --keep-caps sh -c '{tiny}' sh \"$@\"\n");
    fs::write(&confined, script).unwrap();
    open(&confined);
    let house = House::open_with(Settings { binary: Some(confined), ..Settings::default() });
    let portal = portal().await;
    let (_context, page) = house.page().await;
    let shm = format!("/proc/{}/root/dev/shm", house.pid(Seat::A).as_raw_pid());
    assert_eq!(rustix::fs::statvfs(&shm).unwrap().f_blocks, 1, "it is as small as we think");
    page.goto(&format!("{portal}/large"), LIMIT).await.unwrap();
    page.wait_for("#done", LIMIT).await.unwrap();
    for _ in 0..3 {
        assert!(page.screenshot(&[], &[]).await.unwrap().len() > 10_000);
    }
    assert_eq!(house.pool.watch(Seat::A).borrow().deaths, 0);
    house.close().await;
}

#[tokio::test]
async fn twenty_that_come_at_once_are_all_served() {
    let house = House::open();
    let portal = portal().await;
    let one = async |number: usize| {
        let seat = if number.is_multiple_of(2) { Seat::A } else { Seat::B };
        let context = house.pool.open(seat, ContextOptions::default()).await.unwrap();
        let page = context.page(PageOptions::default()).await.unwrap();
        page.goto(&format!("{portal}/login"), LIMIT * 2).await.unwrap();
        page.fill("#user", &format!("손님 {number}"), LIMIT * 2).await.unwrap();
        page.fill("#pass", "비밀 '\"\\번호", LIMIT * 2).await.unwrap();
        page.click("#go", LIMIT * 2).await.unwrap();
        assert!(page.text("#who").await.unwrap().starts_with(&format!("손님 {number}/")));
        page.close().await.unwrap();
        context.dispose().await.unwrap();
    };
    join_all((0..20).map(one)).await;
    for seat in [Seat::A, Seat::B] {
        let health = house.pool.watch(seat).borrow().clone();
        assert_eq!((health.generation, health.deaths), (1, 0));
    }
    house.close().await;
}
