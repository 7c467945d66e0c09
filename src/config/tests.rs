//! The configuration as an operator meets it: what is read, what is refused, and with which words.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::time::Duration;

use proptest::prelude::*;

use super::*;

mod mistakes;

/// A directory with a configuration file, and whatever it refers to.
struct Desk(tempfile::TempDir);

impl Desk {
    fn new(config: &str) -> Self {
        let desk = Self(tempfile::tempdir().unwrap());
        desk.put("nightporter.toml", config, 0o600);
        desk.put("acme.toml", "", 0o600);
        desk
    }

    fn put(&self, name: &str, text: &str, mode: u32) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn sources(&self) -> Sources {
        Sources { file: Some(self.path("nightporter.toml")), ..Sources::default() }
    }

    /// What is wrong, with the directory left out.
    fn problems(&self, sources: &Sources) -> String {
        self.plain(&Config::load(sources).unwrap_err().to_string())
    }

    fn warnings(&self, sources: &Sources) -> Vec<String> {
        Config::load(sources).unwrap().warnings.iter().map(|warning| self.plain(&warning.to_string())).collect()
    }

    fn plain(&self, text: &str) -> String {
        text.replace(&format!("{}/", self.0.path().display()), "")
    }
}

fn env(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

fn flag(name: &str, key: &str, value: &str) -> Flag {
    Flag { name: name.to_owned(), key: key.to_owned(), value: value.to_owned() }
}

const PORTAL: &str = "[phones.office]\nforwarder = \"capcom6\"\nsecret = \"s1\"\n\n[portals.acme]\n\
                      recipe = \"acme.toml\"\nphone = \"office\"\nusername = \"u\"\npassword = \"비밀\"\n";

#[test]
fn nothing_configured_is_the_documented_default() {
    let config = Config::load(&Sources::default()).unwrap();
    assert_eq!(config.server.listen.to_string(), "127.0.0.1:8080");
    assert_eq!(config.server.max_body, 1024 * 1024);
    assert_eq!(config.server.drain, Duration::from_secs(20));
    assert_eq!(config.store.path, PathBuf::from("data/store"));
    assert_eq!(config.store.durability, Durability::Acknowledged);
    assert_eq!(config.log, Log { format: LogFormat::Text, level: tracing::Level::INFO });
    assert_eq!(config.alerts.cooldown, Duration::from_secs(600));
    assert_eq!((config.limits.relay_per_minute.get(), config.limits.relay_concurrency.get()), (600_000, 256));
    let Browser { sandbox, recycle_after, recycle_navigations, recycle_memory, .. } = &*config.browser;
    assert!(*sandbox);
    assert_eq!((*recycle_after, *recycle_navigations), (Duration::from_secs(86_400), 500));
    assert_eq!(*recycle_memory, 1 << 30);
    assert!(config.mail.is_none() && config.portals.is_empty() && config.warnings.is_empty());
}

#[test]
fn a_flag_beats_the_environment_beats_the_file_beats_the_default() {
    let desk = Desk::new("[server]\nlisten = \"127.0.0.1:1\"\nmax_body = 2048\n[log]\nlevel = \"warn\"\n");
    let mut sources = desk.sources();
    assert_eq!(Config::load(&sources).unwrap().server.listen.port(), 1);
    sources.env = env(&[("NIGHTPORTER_SERVER__LISTEN", "127.0.0.1:2"), ("NIGHTPORTER_SERVER__MAX_BODY", "4096")]);
    assert_eq!(Config::load(&sources).unwrap().server.listen.port(), 2);
    sources.flags = vec![flag("--listen", "server.listen", "127.0.0.1:3")];
    let config = Config::load(&sources).unwrap();
    assert_eq!(config.server.listen.port(), 3);
    assert_eq!(config.server.max_body, 4096);
    assert_eq!(config.log.level, tracing::Level::WARN);
}

#[test]
fn what_a_flag_covers_is_looked_at_too() {
    let desk = Desk::new("[store]\nurl = \"redis://x\"\n");
    let sources = Sources { flags: vec![flag("--store", "store.url", "sled:elsewhere")], ..desk.sources() };
    let told = "nightporter.toml:2: store.url: expected \"sled:DIRECTORY\", the embedded store; it does not count, --store does";
    assert_eq!(desk.warnings(&sources), [told]);
    assert_eq!(Config::load(&sources).unwrap().store.path, PathBuf::from("elsewhere"));
}

#[test]
fn the_environment_sets_lists_tables_and_named_sections() {
    let desk = Desk::new(&PORTAL.replace("[portals.acme]", "[portals.acme-kr]"));
    desk.put("pw", "다른 비밀\n", 0o600);
    let sources = Sources {
        env: env(&[
            ("NIGHTPORTER_CONFIG", desk.path("nightporter.toml").to_str().unwrap()),
            ("NIGHTPORTER_BROWSER__SANDBOX", "false"),
            ("NIGHTPORTER_SERVER__TRUSTED_PROXIES", "[\"10.0.0.0/8\", \"::1\"]"),
            ("NIGHTPORTER_PHONES__HOME", "{ forwarder = \"json\" }"),
            ("NIGHTPORTER_PHONES__HOME__SECRET", "1234"),
            ("NIGHTPORTER_PORTALS__ACME_KR__SESSIONS", "cold-standby"),
            ("NIGHTPORTER_PORTALS__ACME_KR__QUIET_HOURS", "23:00-04:30"),
            ("NIGHTPORTER_PORTALS__ACME_KR__DRILL", "off"),
            ("PATH", "/bin"),
        ]),
        ..Sources::default()
    };
    let config = Config::load(&sources).unwrap();
    assert!(!config.browser.sandbox);
    assert!(config.server.trusted_proxies[0].contains(&"10.1.2.3".parse::<std::net::IpAddr>().unwrap()));
    assert_eq!(config.phones["home"].forwarder, Forwarder::Json);
    assert_eq!(config.phones["home"].secret.expose(), "1234", "a number-like secret is text");
    assert_eq!(config.portals["acme-kr"].sessions, Sessions::ColdStandby);
    let acme = &config.portals["acme-kr"];
    assert_eq!((acme.quiet_hours.to_string().as_str(), acme.drill), ("23:00-04:30", None));
    assert_eq!(config.portals["acme-kr"].recipe, desk.path("acme.toml"));
}

#[test]
fn snapshots_lie_beside_their_own_store_or_where_one_says() {
    let desk = Desk::new("[store]\nurl = \"sled:here/store\"\n[backup]\nevery = \"off\"\n");
    let backup = Config::load(&desk.sources()).unwrap().backup;
    assert_eq!((backup.every, backup.keep), (None, 7));
    assert_eq!(backup.directory, desk.path("here/store-snapshots"));
    desk.put("nightporter.toml", "[backup]\ndirectory = \"data/store/kept\"\n", 0o600);
    assert_eq!(Config::load(&desk.sources()).unwrap().backup.directory, desk.path("data/store/kept"));
    assert_eq!(
        desk.warnings(&desk.sources()),
        ["nightporter.toml:1: backup: directory is inside the store's own: who loses the one loses both"]
    );
}

#[test]
fn a_bad_variable_or_flag_is_told_by_its_name() {
    let desk = Desk::new("[server]\nlisten = \"127.0.0.1:1\"\n");
    for (name, value, expected) in [
        (
            "NIGHTPORTER_SERVER__LISSTEN",
            "x",
            "NIGHTPORTER_SERVER__LISSTEN: server.lissten: unknown key, did you mean \"listen\"?",
        ),
        (
            "NIGHTPORTER_BROWSER__SANDBOX",
            "maybe",
            "NIGHTPORTER_BROWSER__SANDBOX: browser.sandbox: expected true or false, got text",
        ),
        (
            "NIGHTPORTER_SERVER__LISTEN__PORT",
            "1",
            "NIGHTPORTER_SERVER__LISTEN__PORT: server.listen.port: its parent is text, not a table",
        ),
    ] {
        let sources = Sources { env: env(&[(name, value)]), ..desk.sources() };
        assert_eq!(desk.problems(&sources), expected);
    }
    let sources = Sources { flags: vec![flag("--listen", "server.listen", "x")], ..desk.sources() };
    assert_eq!(
        desk.problems(&sources),
        "--listen: server.listen: expected an address and port such as 127.0.0.1:8080, got \"x\""
    );
    let sources = Sources { file: Some(desk.path("none.toml")), ..Sources::default() };
    assert_eq!(desk.problems(&sources), "none.toml: cannot be read: No such file or directory (os error 2)");
}

#[test]
fn a_secret_comes_from_one_of_three_places() {
    let text = PORTAL.replace("password = \"비밀\"\n", "");
    let desk = Desk::new(&text);
    let missing = "nightporter.toml:5: portals.acme.password: missing: set password, or password_file, or the \
                   credential \"portals.acme.password\"";
    assert_eq!(desk.problems(&desk.sources()), missing);

    desk.put("pw", " 비밀 \r\n", 0o600);
    desk.put("nightporter.toml", &format!("{text}password_file = \"pw\"\n"), 0o600);
    let config = Config::load(&desk.sources()).unwrap();
    assert_eq!(config.portals["acme"].password.expose(), " 비밀 ");

    desk.put("credentials/portals.acme.password", "two\n\n", 0o400);
    let sources = Sources { credentials_dir: Some(desk.path("credentials")), ..desk.sources() };
    assert_eq!(
        desk.problems(&sources),
        "nightporter.toml:9: portals.acme.password: given more than once: portals.acme.password_file \
         (nightporter.toml:9) and the credential \"portals.acme.password\"; keep one"
    );
    desk.put("nightporter.toml", &text, 0o600);
    assert_eq!(Config::load(&sources).unwrap().portals["acme"].password.expose(), "two\n");

    let both = env(&[("NIGHTPORTER_PORTALS__ACME__PASSWORD", "a"), ("NIGHTPORTER_PORTALS__ACME__PASSWORD_FILE", "b")]);
    assert_eq!(
        desk.problems(&Sources { env: both, ..desk.sources() }),
        "NIGHTPORTER_PORTALS__ACME__PASSWORD: portals.acme.password: given more than once: portals.acme.password \
         (NIGHTPORTER_PORTALS__ACME__PASSWORD) and portals.acme.password_file \
         (NIGHTPORTER_PORTALS__ACME__PASSWORD_FILE); keep one"
    );
    let sources = Sources { flags: vec![flag("--password", "portals.acme.password", "hunter2")], ..desk.sources() };
    assert_eq!(
        desk.problems(&sources),
        "--password: portals.acme.password: a secret is never taken from the command line, where every user can read it"
    );
}

#[test]
fn upkeep_where_one_session_is_tolerated_is_warned_of() {
    let desk = Desk::new("");
    for (more, warned) in [
        ("sessions = \"single\"\ndrill = \"7d\"\n", &["portals.acme.drill"][..]),
        (
            "sessions = \"cold-standby\"\ndrill = \"1d\"\nquiet_hours = \"01:00-02:00\"\n",
            &["portals.acme.drill", "portals.acme.quiet_hours"],
        ),
        ("sessions = \"single\"\ndrill = \"off\"\n", &[]),
        ("sessions = \"single\"\n", &[]),
        ("drill = \"1d\"\nquiet_hours = \"01:00-02:00\"\n", &[]),
    ] {
        desk.put("nightporter.toml", &format!("{PORTAL}{more}"), 0o600);
        let told = desk.warnings(&desk.sources());
        let told: Vec<_> = told.iter().filter(|told| told.contains("does nothing with sessions = \"")).collect();
        assert_eq!(told.len(), warned.len(), "{more}: {told:?}");
        assert!(told.iter().zip(warned).all(|(told, key)| told.contains(key)), "{more}: {told:?}");
    }
}

#[test]
fn exposed_secrets_and_other_risks_are_warned_of() {
    let desk = Desk::new(PORTAL);
    assert_eq!(
        desk.warnings(&desk.sources()),
        ["nightporter.toml: alerts: no channel is set: nobody is told when a portal stays down"]
    );
    desk.put("pw", "x", 0o604);
    let text = PORTAL.replace("password = \"비밀\"", "password_file = \"pw\"")
        + "[mail]\nurl = \"smtp://mail.example\"\nfrom = \"p@x.example\"\nuser = \"u\"\npassword = \"p\"\n[alerts]\n\
           email = [\"ops@x.example\"]\n[browser]\nsandbox = false\n[server]\ntrusted_proxies = [\"0.0.0.0/0\"]\n";
    desk.put("nightporter.toml", &text, 0o644);
    assert_eq!(
        desk.warnings(&desk.sources()),
        [
            "nightporter.toml:3: phones.office.secret: a secret is written in a file that every user can read (mode \
             644); make it 0640, or use phones.office.secret_file",
            "nightporter.toml:9: portals.acme.password_file: pw is readable by every user (mode 604); make it 0600",
            "nightporter.toml:10: mail: smtp:// sends the password in the clear; use smtps:// or smtp+starttls://",
            "nightporter.toml:14: mail.password: a secret is written in a file that every user can read (mode 644); \
             make it 0640, or use mail.password_file",
            "nightporter.toml:17: browser: sandbox = false: a portal's page that breaks out of Chromium's renderer \
             owns this account",
            "nightporter.toml:19: server: trusted_proxies has 0.0.0.0/0: every client can claim any address",
        ]
    );
}

#[test]
fn no_secret_is_ever_printed() {
    let desk = Desk::new(
        &(PORTAL.replace("\"s1\"", "\"hunter2\"").replace("비밀", "hunter2")
            + "[alerts]\ntelegram = { token = \"hunter2\", chat_id = -5 }\n\
               webhook = { url = \"https://h.example/hunter2\", secret = \"hunter2\" }\n"),
    );
    let sources = Sources { env: env(&[("NIGHTPORTER_X", "hunter2")]), ..desk.sources() };
    assert!(!format!("{sources:?}").contains("hunter2"));
    let report = check(&desk.sources(), &Inspectors::none());
    let config = report.config.clone().unwrap();
    assert_eq!(config.alerts.webhook.as_ref().unwrap().url.path(), "/hunter2");
    let json = serde_json::to_string(&report).unwrap();
    for text in [format!("{config:?}"), report.to_string(), json] {
        assert!(!text.contains("hunter2"), "{text}");
    }
    let shown = desk.plain(&report.to_string());
    for line in [
        "portals.acme.password = [secret]  (nightporter.toml:9)",
        "alerts.webhook.url = https://h.example/…  (nightporter.toml:12)",
        "server.listen = 127.0.0.1:8080  (default)",
    ] {
        assert!(shown.lines().any(|shown| shown == line), "{line} in\n{shown}");
    }
}

#[test]
fn a_check_covers_the_recipes() {
    let desk = Desk::new(&PORTAL.replace("phone = \"office\"\n", ""));
    let report = check(
        &desk.sources(),
        &Inspectors { recipe: &|_| RecipeCheck { needs_phone: true, ..RecipeCheck::default() }, ..Inspectors::none() },
    );
    assert_eq!(
        desk.plain(&report.errors[0].to_string()),
        "nightporter.toml:5: portals.acme: acme.toml waits for an SMS, but no phone is set"
    );
    assert!(report.config.is_none() && !report.is_good());
    let report = check(
        &desk.sources(),
        &Inspectors { recipe: &|_| RecipeCheck { needs_totp: true, ..RecipeCheck::default() }, ..Inspectors::none() },
    );
    assert_eq!(
        desk.plain(&report.errors[0].to_string()),
        "nightporter.toml:5: portals.acme: acme.toml types an authenticator's code, but no totp_secret is set"
    );
    let problem = Problem { place: Place::Default, key: "login".into(), reason: "is bad".into() };
    let report = check(
        &desk.sources(),
        &Inspectors {
            recipe: &|_| RecipeCheck { problems: vec![problem.clone()], ..RecipeCheck::default() },
            ..Inspectors::none()
        },
    );
    assert_eq!(report.errors, [problem]);
    assert_eq!(serde_json::to_value(&report).unwrap()["errors"][0]["source"], "default");
}

#[test]
fn a_reload_knows_what_waits_for_a_restart() {
    let config = |text: &str| {
        let desk = Desk::new(text);
        Config::load(&Sources { env: env(&[("NIGHTPORTER_STORE__URL", "sled:/x")]), ..desk.sources() }).unwrap()
    };
    let old = config("");
    assert!(old.needs_restart(&config("[log]\nlevel = \"debug\"\n")).is_empty());
    let new = config(
        "[server]\nlisten = \"127.0.0.1:1\"\nmax_body = 2048\n[log]\nformat = \"json\"\n[browser]\nuser = \"nobody\"\n",
    );
    assert_eq!(old.needs_restart(&new), ["server.listen", "server.max_body", "log.format", "browser"]);
    assert_eq!(old, old.clone());
    assert_ne!(old.server, new.server);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn no_text_panics_and_a_failure_says_why(
        text in "(\\[[a-z.]{1,12}\\]\n|[a-z_]{1,9} = (\"[^\"\n]{0,9}\"|[0-9]{1,25}|\\{[a-z =1]{0,9}\\}|\\[[1, ]{0,5}\\])\n|.{0,20}\n){0,8}",
        value in ".{0,20}",
    ) {
        let desk = Desk::new(&text);
        let env = vec![("NIGHTPORTER_SERVER__TLS".to_owned(), value), ("NIGHTPORTER_SERVER__TLS__CERT".to_owned(), text)];
        for env in [Vec::new(), env] {
            let report = check(&Sources { env, ..desk.sources() }, &Inspectors::none());
            prop_assert_eq!(report.config.is_some(), report.errors.is_empty());
        }
    }
}
