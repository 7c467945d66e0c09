//! `nightporter backup` and `restore`, as an operator uses them.

use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use serde_json::Value;

use super::shelf::{aside, names};
use crate::house::{House, done};

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

fn tokens(house: &House, store: &str) -> Vec<String> {
    let listed = json(&house.ok(&["token", "list", "--json", "--store", store]));
    listed["tokens"].as_array().unwrap().iter().map(|token| token["name"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn a_backup_is_taken_with_and_without_a_server_and_restored() {
    let house = House::new();
    let none = house.run(&["backup", "none.snapshot"]);
    assert!(none.code == 1 && none.err.contains("there is no store"), "{none:?}");
    assert!(!house.path("data").exists() && !house.path("none.snapshot").exists());
    house.ok(&["token", "add", "first", "--scope", "metrics"]);
    house.ok(&["backup", "cold.snapshot"]);
    let server = house.serve(&[]);
    house.ok(&["token", "add", "second", "--scope", "metrics"]);
    let told = json(&house.ok(&["backup", "--json", "warm.snapshot"]));
    let bytes = std::fs::metadata(house.path("warm.snapshot")).unwrap();
    assert_eq!((told["bytes"].as_u64(), bytes.permissions().mode() & 0o777), (Some(bytes.len()), 0o600));
    assert!(told["format"] == 1 && told["kinds"]["vault"]["schemas"] == serde_json::json!([1]), "{told}");
    let running = house.run(&["restore", "warm.snapshot", "--force"]);
    assert!(running.code == 75 && running.err.contains(&format!("process {}", server.pid())), "{running:?}");
    drop(server);

    let refused = house.run(&["restore", "warm.snapshot"]);
    assert!(refused.code == 1 && refused.err.contains("not empty; --force"), "{refused:?}");
    let key = std::fs::read(house.path("data/store/store.key")).unwrap();
    let restored = json(&house.ok(&["restore", "cold.snapshot", "--force", "--json"]));
    assert_eq!(tokens(&house, "data/store"), ["first"]);
    assert_eq!(
        restored["aside"],
        "data/store/".to_owned() + aside(&house.path("data/store")).unwrap().file_name().unwrap().to_str().unwrap()
    );
    assert_eq!(std::fs::read(house.path("data/store/store.key")).unwrap(), key);
    let elsewhere = done(house.command(&["restore", "warm.snapshot", "--store", "other"]));
    assert!(elsewhere.code == 0 && elsewhere.err.contains("other/store.key"), "{elsewhere:?}");
    assert_eq!(tokens(&house, "other"), ["first", "second"]);
}

#[test]
fn a_file_that_exists_is_replaced_only_when_told_to() {
    let house = House::new();
    house.ok(&["token", "add", "first", "--scope", "metrics"]);
    house.write("notes.txt", "mine");
    let exists = house.run(&["backup", "notes.txt"]);
    assert!(exists.code == 1 && exists.err.contains("notes.txt exists; --force replaces it"), "{exists:?}");
    assert_eq!(std::fs::read_to_string(house.path("notes.txt")).unwrap(), "mine");
    house.ok(&["backup", "notes.txt", "--force"]);
    assert!(house.ok(&["restore", "--verify", "notes.txt"]).contains("whole"));
    let directory = house.run(&["backup", "data", "--force"]);
    assert!(directory.code == 1 && directory.err.contains("is no file"), "{directory:?}");
    let nowhere = house.run(&["backup", "missing/x.snapshot"]);
    assert!(nowhere.code == 1 && nowhere.err.contains("error: missing/x.snapshot: No such file"), "{nowhere:?}");
    assert_eq!(names(&house.path("")), ["data", "notes.txt"]);
}

#[test]
fn what_a_killed_backup_has_left_goes_with_the_next_one_and_nothing_else_does() {
    let house = House::new();
    house.ok(&["token", "add", "first", "--scope", "metrics"]);
    house.ok(&["backup", "whole.snapshot"]);
    let half = std::fs::read(house.path("whole.snapshot")).unwrap()[..64].to_vec();
    let dead = {
        let mut child = Command::new("true").spawn().unwrap();
        child.wait().unwrap();
        child.id()
    };
    let left = |name: &str, pid: u32, content: &[u8]| {
        let name = format!(".{name}.{pid}.unfinished");
        std::fs::write(house.path(&name), content).unwrap();
        name
    };
    let gone = [left("monday.snapshot", dead, &half), left("tuesday.snapshot", dead, b"")];
    let kept = [left("living", std::process::id(), &half), left("notes", dead, b"somebody else's")];
    house.ok(&["backup", "new.snapshot"]);
    assert!(gone.iter().all(|name| !house.path(name).exists()) && kept.iter().all(|name| house.path(name).exists()));
}

#[test]
fn a_full_disk_leaves_the_old_file_and_no_other() {
    let house = House::new();
    house.ok(&["token", "add", "first", "--scope", "metrics"]);
    let server = house.serve(&[]);
    house.write("old.snapshot", "the one before");
    let mut limited = Command::new("sh");
    // One block of 512 bytes; the signal that would say so is ignored, as a full disk sends none.
    let script = "trap '' XFSZ; ulimit -f 1; exec \"$0\" backup old.snapshot --force";
    limited.args(["-c", script, env!("CARGO_BIN_EXE_nightporter")]).current_dir(house.path("")).env("TZ", "UTC");
    let full = done(limited);
    assert!(full.code == 1 && full.err.contains("old.snapshot: File too large"), "{full:?}");
    assert_eq!(std::fs::read_to_string(house.path("old.snapshot")).unwrap(), "the one before");
    assert_eq!(names(&house.path("")), ["data", "old.snapshot"]);
    // The server gives that snapshot up as soon as it sees that nobody takes it.
    let mut new = house.run(&["backup", "new.snapshot"]);
    while new.err.contains("another snapshot of this store is being taken") {
        new = house.run(&["backup", "new.snapshot"]);
    }
    assert_eq!(new.code, 0, "{new:?}");
    drop(server);
}

#[test]
fn a_backup_may_go_to_a_pipe_and_damage_has_its_code() {
    let house = House::new();
    house.ok(&["token", "add", "first", "--scope", "metrics"]);
    let output = house.command(&["backup", "-"]).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    std::fs::write(house.path("a.snapshot"), &output.stdout).unwrap();
    let whole = json(&house.ok(&["restore", "--dry-run", "--json", "a.snapshot"]));
    assert_eq!((whole["restored"].as_bool(), whole["records"].as_u64()), (Some(false), Some(1)));
    std::fs::write(house.path("a.snapshot"), &output.stdout[..output.stdout.len() - 1]).unwrap();
    for arguments in [&["restore", "--verify", "a.snapshot"] as &[&str], &["restore", "a.snapshot", "--force"]] {
        let damaged = house.run(arguments);
        let place = format!("a.snapshot: at byte {}: the file is cut off here", output.stdout.len() - 1);
        assert!(damaged.code == 65 && damaged.err.contains(&place), "{damaged:?}");
    }
    assert_eq!(tokens(&house, "data/store"), ["first"]);
    let missing = house.run(&["restore", "missing.snapshot"]);
    assert!(missing.code == 1 && missing.err.contains("missing.snapshot: No such file"), "{missing:?}");
}
