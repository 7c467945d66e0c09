//! The binary as its operator meets it: real processes, real signals, real sockets, in a temporary directory.
#![allow(clippy::disallowed_methods, reason = "tests spawn freely")]

mod cli {
    mod disk;
    pub(crate) mod house;
    mod sessions;
    mod sms;
}
#[path = "disk/small.rs"]
mod small;

use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::process::Stdio;

use cli::house::{self, House, Manager, done, get};
use serde_json::Value;

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

#[test]
fn version_help_and_wrong_usage_have_their_codes() {
    let house = House::new();
    assert_eq!(house.ok(&["version"]), format!("nightporter {}\n", env!("CARGO_PKG_VERSION")));
    assert_eq!(json(&house.ok(&["version", "--json"]))["version"], env!("CARGO_PKG_VERSION"));
    for command in
        ["serve", "backup", "restore", "status", "check-config", "doctor", "completions", "portal", "user", "version"]
    {
        let help = house.ok(&[command, "--help"]);
        assert!(help.contains("Exit codes:") && help.contains("78"), "{command}: {help}");
    }
    for wrong in
        [&["serve", "--lissten", "x"] as &[&str], &["token", "add", "a"], &["token", "add", "a", "--scope", "x"]]
    {
        assert_eq!(house.run(wrong).code, 2, "{wrong:?}");
    }
    assert!(house.ok(&["completions", "bash"]).contains("_nightporter"));
}

#[test]
fn a_reader_that_has_seen_enough_is_no_failure() {
    let house = House::new();
    let mut child =
        house.command(&["completions", "bash"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
}

#[test]
fn a_configuration_is_checked_before_any_port_is_bound() {
    let house = House::new();
    house.write("good.toml", "[server]\nlisten = \"127.0.0.1:0\"\n");
    assert!(house.ok(&["check-config", "--config", "good.toml"]).contains("configuration is good"));
    house.write("bad.toml", "[server]\nlissten = \"127.0.0.1:0\"\n[log]\nlevel = \"loud\"\n");
    let checked = house.run(&["check-config", "--config", "bad.toml"]);
    assert_eq!((checked.code, checked.out.as_str()), (78, ""));
    let served = house.run(&["serve", "--config", "bad.toml"]);
    assert_eq!((served.code, served.out.as_str()), (78, ""));
    for told in [&checked.err, &served.err] {
        assert!(told.contains("bad.toml:2: server.lissten: unknown key, did you mean \"listen\"?"), "{told}");
        assert!(told.contains("bad.toml:4: log.level"), "{told}");
    }
    assert!(!house.path("data").exists(), "a refused configuration must not make a store");
    let report = house.run(&["check-config", "--config", "bad.toml", "--json"]);
    assert_eq!((report.code, json(&report.out)["errors"].as_array().unwrap().len()), (78, 2));
    let flag = house.run(&["serve", "--listen", "nowhere"]);
    assert!(flag.code == 78 && flag.err.contains("--listen: server.listen"), "{flag:?}");
    let long = house.run(&["serve", "--store", &"x".repeat(120)]);
    assert!(long.code == 78 && long.err.contains("control socket"), "{long:?}");
}

#[test]
fn tokens_are_made_with_and_without_a_server_and_end_at_once() {
    let house = House::new();
    let first = json(&house.ok(&["token", "add", "first", "--scope", "metrics", "--json"]));
    let first = first["token"].as_str().unwrap();
    let server = house.serve(&[]);
    let second = house.ok(&["token", "add", "second", "--scope", "portals:read", "sms", "--expires", "90d"]);
    let second = second.trim();
    assert_eq!(server.get("/metrics", Some(first)).0, 200);
    let (status, answer) = server.get("/metrics", None);
    assert!(status == 401 && answer.to_lowercase().contains("www-authenticate: bearer"), "{answer}");
    let (status, answer) = server.get("/metrics", Some(second));
    assert!(status == 403 && answer.contains("insufficient_scope") && answer.contains("metrics"), "{answer}");
    let taken = house.run(&["token", "add", "first", "--scope", "sms"]);
    assert!(taken.code == 1 && taken.out.is_empty() && taken.err.contains("named first"), "{taken:?}");
    let listed = house.ok(&["token", "list"]);
    assert!(listed.contains("portals:read sms") && !listed.contains(second), "{listed}");
    house.ok(&["token", "revoke", "first"]);
    assert_eq!(server.get("/metrics", Some(first)).0, 401);
    assert_eq!(house.run(&["token", "revoke", "first"]).code, 1);
}

#[test]
fn status_tells_of_the_running_server_and_of_none() {
    let house = House::new();
    let none = house.run(&["status"]);
    assert!(none.code == 3 && none.err.contains("no server runs"), "{none:?}");
    let server = house.serve(&[]);
    let status = json(&house.ok(&["status", "--json"]));
    assert_eq!(
        (status["pid"].as_u64(), status["url"].as_str()),
        (Some(server.pid().into()), Some(server.url.as_str()))
    );
    assert!(status["ready"] == true && status["parts"]["store"] == "ready", "{status}");
    assert!(house.ok(&["status"]).contains("part store  ready"));
    let (code, answer) = server.get("/readyz", None);
    assert!(code == 200 && answer.ends_with("{\"status\":\"ok\"}"), "{answer}");
}

#[test]
fn the_second_server_of_a_store_is_told_who_has_it() {
    let house = House::new();
    let server = house.serve(&[]);
    let second = house.run(&["serve", "--listen", "127.0.0.1:0"]);
    assert_eq!(second.code, 75);
    assert!(second.err.contains(&format!("in use by process {}", server.pid())), "{}", second.err);
    // The first one's socket must have survived the second's attempt.
    house.ok(&["status"]);
    std::fs::remove_file(house.path("data/store/control.sock")).unwrap();
    let mute = house.run(&["token", "list"]);
    assert!(mute.code == 75 && mute.err.contains("no server answers on the control socket"), "{mute:?}");
}

#[test]
fn a_server_whose_lock_file_was_removed_keeps_its_store() {
    let house = House::new();
    house.ok(&["token", "add", "kept", "--scope", "metrics"]);
    house.ok(&["backup", "a.snapshot"]);
    std::fs::create_dir(house.path("data/store-snapshots")).unwrap();
    let snapshot = house.path("data/store-snapshots/nightporter-20270115T080000000Z.snapshot");
    std::fs::copy(house.path("a.snapshot"), snapshot).unwrap();
    let server = house.serve(&[]);
    std::fs::remove_file(house.path("data/store/lock")).unwrap();
    for arguments in
        [&["serve", "--restore-latest", "--listen", "127.0.0.1:0"] as &[&str], &["restore", "a.snapshot", "--force"]]
    {
        let second = house.run(arguments);
        assert!(second.code == 75 && second.err.contains("in use by another process"), "{second:?}");
    }
    let aside =
        |name: std::io::Result<std::fs::DirEntry>| name.unwrap().file_name().to_string_lossy().contains("sled.");
    assert!(!std::fs::read_dir(house.path("data/store")).unwrap().any(aside));
    assert!(house.ok(&["token", "list"]).contains("kept"));
    assert_eq!(server.get("/readyz", None).0, 200);
}

#[test]
fn a_store_that_cannot_be_had_is_told_with_its_path_and_user() {
    let house = House::new();
    house.write("notes", "a file in its way");
    for store in ["notes/store", "/dev/null/store", "/proc/store"] {
        let refused = house.run(&["serve", "--store", store, "--listen", "127.0.0.1:0"]);
        assert!(refused.code == 1 && refused.err.contains(store), "{refused:?}");
        assert_eq!(refused.err.matches("(os error").count(), 1, "{refused:?}");
    }
    if !rustix::process::geteuid().is_root() {
        return;
    }
    house.ok(&["token", "add", "first", "--scope", "metrics"]);
    let mut foreign = std::process::Command::new("setpriv");
    foreign.args(["--reuid=65534", "--regid=65534", "--clear-groups", env!("CARGO_BIN_EXE_nightporter"), "serve"]);
    foreign.args(["--listen", "127.0.0.1:0"]).current_dir(house.path(""));
    let open = |name: &str| {
        std::fs::set_permissions(house.path(name), std::fs::Permissions::from_mode(0o755)).unwrap();
    };
    ["", "data", "data/store"].into_iter().for_each(open);
    let foreign = done(foreign);
    assert_eq!(foreign.code, 77, "{foreign:?}");
    assert!(foreign.err.contains("user 65534") && foreign.err.contains("data/store/"), "{foreign:?}");
}

#[test]
fn a_taken_port_is_told_with_its_key() {
    let house = House::new();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let refused = house.run(&["serve", "--listen", &taken.local_addr().unwrap().to_string()]);
    assert!(refused.code == 69 && refused.err.contains("server.listen"), "{refused:?}");
}

#[test]
fn sigterm_ends_in_order_and_the_socket_is_gone() {
    let house = House::new();
    let mut server = house.serve(&[]);
    assert_eq!(std::fs::metadata(house.path("data/store/control.sock")).unwrap().permissions().mode() & 0o777, 0o600);
    server.signal("TERM");
    server.wait_for("stopped");
    assert_eq!(server.end().code(), Some(0));
    assert!(!house.path("data/store/control.sock").exists());
}

/// A request that the server has begun to read and whose last byte is still to come.
fn half_a_request(house: &House) -> UnixStream {
    let mut client = UnixStream::connect(house.path("data/store/control.sock")).unwrap();
    client.set_read_timeout(Some(house::PATIENCE)).unwrap();
    let head = "POST /tokens HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\nexpect: 100-continue\r\n";
    write!(client, "{head}content-length: {}\r\n\r\n", REQUEST.len()).unwrap();
    // The server says so when somebody reads the body.
    let mut interim = [0; 25];
    client.read_exact(&mut interim).unwrap();
    assert_eq!(&interim, b"HTTP/1.1 100 Continue\r\n\r\n");
    client
}

const REQUEST: &str = r#"{"name":"late","scopes":["sms"]}"#;

#[test]
fn what_is_under_way_may_end_while_the_server_stops() {
    let house = House::new();
    let mut server = house.serve(&[]);
    let mut client = half_a_request(&house);
    server.signal("TERM");
    server.wait_for("stopping");
    client.write_all(REQUEST.as_bytes()).unwrap();
    let mut answer = String::new();
    client.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 201 "), "{answer}");
    assert_eq!(server.end().code(), Some(0));
    assert!(house.ok(&["token", "list"]).contains("late"), "an answer was given for what was not kept");
}

#[test]
fn a_second_signal_cuts_what_is_under_way() {
    let house = House::new();
    let mut server = house.serve(&[]);
    let mut client = half_a_request(&house);
    server.signal("TERM");
    server.wait_for("stopping");
    server.signal("INT");
    server.wait_for("asked to stop again");
    assert_eq!(server.end().code(), Some(1));
    let mut answer = Vec::new();
    let _ = client.read_to_end(&mut answer);
    assert!(answer.is_empty(), "{}", String::from_utf8_lossy(&answer));
}

#[test]
fn a_broken_reload_keeps_the_old_configuration_and_says_why() {
    let house = House::new();
    house.write("porter.toml", "[log]\nlevel = \"info\"\n");
    let server = house.serve(&["--config", "porter.toml"]);
    house.write("porter.toml", "[log]\nlevel = \"loud\"\n[mail]\nurl = 7\n");
    server.signal("HUP");
    let line = server.wait_for("stays as it was");
    assert!(line.contains("porter.toml:2: log.level"), "{line}");
    server.wait_for("porter.toml:4: mail.url");
    house.write("porter.toml", "[log]\nlevel = \"info\n");
    server.signal("HUP");
    let line = server.wait_for("place=porter.toml:2");
    assert!(line.contains("stays as it was: porter.toml:2: ") && !line.contains("key="), "{line}");
    assert_eq!(server.get("/livez", None).0, 200);
    house.write("porter.toml", "[log]\nlevel = \"debug\"\n[server]\nmax_body = \"2 MiB\"\n");
    server.signal("HUP");
    server.wait_for("server.max_body has changed; it is taken over at the next restart");
    server.wait_for("the configuration was read again");
    server.get("/livez", None);
    // Told only at the level that the new configuration brought.
    server.wait_for("GET /livez answered 200");
}

#[test]
fn the_service_manager_hears_of_every_turn() {
    let house = House::new();
    let manager = Manager::new(&house);
    let socket = house.path("notify").display().to_string();
    let mut server = house.serve_with(&[], &[("NOTIFY_SOCKET", &socket), ("WATCHDOG_USEC", "200000")]);
    assert_eq!(manager.hear_news(), "READY=1\n");
    for _ in 0..3 {
        assert_eq!(manager.hear(), "WATCHDOG=1\n");
    }
    server.signal("HUP");
    let reloading = manager.hear_news();
    assert!(reloading.starts_with("RELOADING=1\nMONOTONIC_USEC="), "{reloading}");
    assert_eq!(manager.hear_news(), "READY=1\n");
    server.signal("TERM");
    assert_eq!(manager.hear_news(), "STOPPING=1\n");
    assert_eq!(server.end().code(), Some(0));
}

#[test]
fn nothing_acknowledged_is_lost_by_kill_9() {
    let house = House::new();
    let mut server = house.serve(&[]);
    let token = house.ok(&["token", "add", "batch", "--scope", "metrics"]);
    server.signal("KILL");
    server.end();
    assert!(house.path("data/store/control.sock").exists(), "the stale socket is what this test is about");
    assert_eq!(house.run(&["status"]).code, 3);
    let server = house.serve(&[]);
    assert_eq!(server.get("/metrics", Some(token.trim())).0, 200);
    house.ok(&["status"]);
}

#[test]
fn a_store_opens_with_its_own_key_only() {
    let house = House::new();
    drop(house.serve(&[]));
    let key = house.path("data/store/store.key");
    let own = std::fs::read_to_string(&key).unwrap();
    let refused = |told: &str| {
        let done = house.run(&["serve", "--listen", "127.0.0.1:0"]);
        assert!(done.code == 78 && done.err.contains(told), "{told}: {done:?}");
    };
    std::fs::write(&key, "ab".repeat(32)).unwrap();
    refused("not the one that this store was sealed with");
    std::fs::remove_file(&key).unwrap();
    refused("is gone");
    assert!(!key.exists(), "a new key would only hide what happened");
    std::fs::write(&key, &own).unwrap();
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o644)).unwrap();
    refused("make it 0600");
    std::fs::remove_file(&key).unwrap();
    // The same key by another way is the same key.
    std::fs::create_dir(house.path("credentials")).unwrap();
    house.write("credentials/store.key", &own);
    let credentials = house.path("credentials").display().to_string();
    drop(house.serve_with(&[], &[("CREDENTIALS_DIRECTORY", &credentials)]));
}

#[test]
fn the_log_suits_a_journal_and_a_program() {
    let house = House::new();
    let server = house.serve_with(&[], &[("JOURNAL_STREAM", "8:1")]);
    server.signal("HUP");
    let line = server.wait_for("was read again");
    assert!(line.starts_with("<6>") && !line.contains("20") && !line.contains('\u{1b}'), "{line}");
    drop(server);
    house.write("porter.toml", "[log]\nformat = \"json\"\n");
    let server = house.serve(&["--config", "porter.toml"]);
    server.signal("HUP");
    let line = json(&server.wait_for("was read again"));
    assert_eq!(
        (line["level"].as_str(), line["message"].as_str()),
        (Some("INFO"), Some("the configuration was read again"))
    );
}

#[test]
fn metrics_on_a_listener_of_their_own_need_no_token() {
    let house = House::new();
    house.write("porter.toml", "[server]\nmetrics_listen = \"127.0.0.1:0\"\n");
    let server = house.serve(&["--config", "porter.toml"]);
    let status = json(&house.ok(&["status", "--json", "--config", "porter.toml"]));
    let url = status["metrics_url"].as_str().unwrap();
    server.get("/livez", None);
    let (code, answer) = get(url, "/metrics", None);
    assert!(code == 200 && answer.contains("nightporter_http_requests_total"), "{answer}");
    assert_eq!(get(url, "/livez", None).0, 404);
}

#[test]
fn the_control_socket_hears_nobody_else() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("skipped: only root can become another user");
        return;
    }
    let house = House::new();
    let _server = house.serve(&[]);
    let as_nobody = |arguments: &[&str]| {
        let mut command = std::process::Command::new("setpriv");
        command.args(["--reuid=65534", "--regid=65534", "--clear-groups", env!("CARGO_BIN_EXE_nightporter")]);
        command.args(arguments);
        command.current_dir(house.path(""));
        done(command)
    };
    let open = |name: &str, mode| {
        std::fs::set_permissions(house.path(name), std::fs::Permissions::from_mode(mode)).unwrap();
    };
    open("", 0o755);
    let locked_out = as_nobody(&["status"]);
    assert_eq!(locked_out.code, 77, "{locked_out:?}");
    // Even with every permission given away, the kernel still says who is at the other end.
    open("data", 0o755);
    open("data/store", 0o755);
    open("data/store/control.sock", 0o666);
    for arguments in [&["status"] as &[&str], &["token", "add", "thief", "--scope", "admin"]] {
        let refused = as_nobody(arguments);
        assert!(refused.code == 1 && refused.err.contains("own user and root"), "{refused:?}");
    }
    assert!(!house.ok(&["token", "list"]).contains("thief"));
}

#[test]
fn the_doctor_says_what_to_do() {
    let house = House::new();
    house.write("porter.toml", "[browser]\nbinary = \"/bin/false\"\n");
    let sick = house.run(&["doctor", "--json", "--config", "porter.toml"]);
    assert_eq!(sick.code, 1, "{sick:?}");
    let report = json(&sick.out);
    let find = |check: &str| {
        let findings = report["findings"].as_array().unwrap();
        findings.iter().find(|finding| finding["check"] == check).unwrap_or_else(|| panic!("{check}: {report}")).clone()
    };
    assert!(find("browser sandbox")["state"] == "failed" && find("browser sandbox")["remedy"].is_string());
    assert_eq!(find("store directory")["state"], "good");
    assert!(!house.path("data").exists(), "looking must not make a store");
    let server = house.serve(&[]);
    let listen = server.url.strip_prefix("http://").unwrap().to_owned();
    house.write("porter.toml", &format!("[server]\nlisten = \"{listen}\"\n[browser]\nbinary = \"/bin/false\"\n"));
    let seen = house.run(&["doctor", "--config", "porter.toml"]).out;
    assert!(seen.contains(&format!("{listen} (server.listen) is served by the running server")), "{seen}");
    assert!(seen.contains("store lock: held by the running server"), "{seen}");
}
