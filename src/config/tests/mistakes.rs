//! Every mistake in a configuration file, with the words that tell of it.

use super::Desk;

/// A file and what is said about it.
const MISTAKES: &[(&str, &str)] = &[
    ("[server]\nlissten = \"x\"", "nightporter.toml:2: server.lissten: unknown key, did you mean \"listen\"?"),
    ("[serverr]\n", "nightporter.toml:1: serverr: unknown key, did you mean \"server\"?"),
    (
        "[streams.identity]\nfile = \"x\"",
        "nightporter.toml:1: streams: unknown key; known: server, store, backup, log, mail, alerts, limits, browser, \
             sessions, phones, portals, flows and accounts",
    ),
    ("server = 3", "nightporter.toml:1: server: expected a table, got an integer"),
    ("[server]\nlisten = 8080", "nightporter.toml:2: server.listen: expected text, got an integer"),
    (
        "[server]\nlisten = \"localhost\"",
        "nightporter.toml:2: server.listen: expected an address and port such as 127.0.0.1:8080, got \"localhost\"",
    ),
    (
        "[server]\nlisten = \"127.0.0.1:1\"\nmetrics_listen = \"127.0.0.1:1\"",
        "nightporter.toml:1: server: metrics_listen must differ from listen",
    ),
    (
        "[server]\ndrain = \"20\"",
        "nightporter.toml:2: server.drain: a duration needs a unit: ms, s, m, h or d, as in \"30s\", got \"20\"",
    ),
    ("[server]\ndrain = \"1h\"", "nightporter.toml:2: server.drain: expected between 0s and 10m, got \"1h\""),
    (
        "[server]\ndrain = 20",
        "nightporter.toml:2: server.drain: expected text, got an integer; a duration is written like \"30s\"",
    ),
    (
        "[server]\ntrusted_proxies = [\n  \"10.0.0.0/8\",\n  \"10.0.0.1/8\"]",
        "nightporter.toml:4: server.trusted_proxies[1]: \"10.0.0.1/8\" has bits beyond its prefix; did you mean \
             10.0.0.0/8?",
    ),
    (
        "[server]\npublic_url = \"https://u:hunter2@x.example\"",
        "nightporter.toml:2: server.public_url: a URL must not carry a user or a password",
    ),
    (
        "[server]\npublic_url = \"https://x.example/app\"",
        "nightporter.toml:2: server.public_url: expected scheme and host only, such as https://x.example",
    ),
    (
        "[backup]\nevery = \"daily\"\nkeep = 0\ndrill = \"7d\"",
        "nightporter.toml:2: backup.every: expected a whole number and a unit, as in \"250ms\", \"30s\", \"15m\" or \
             \"24h\", got \"daily\"; \"off\" for none\n\
             nightporter.toml:3: backup.keep: expected between 1 and 10000, got 0\n\
             nightporter.toml:4: backup.drill: unknown key; known: every, keep, directory and drill_every",
    ),
    (
        "[server]\nmax_body = \"1 MB\"",
        "nightporter.toml:2: server.max_body: expected a number of bytes, or text with KiB and MiB",
    ),
    ("[server]\nmax_body = 5", "nightporter.toml:2: server.max_body: expected between 1 KiB and 256 MiB, got 5 bytes"),
    (
        "[server]\ntls = { cert = \"no.pem\" }",
        "nightporter.toml:2: server.tls.cert: cannot read no.pem: No such file or directory (os error 2)\n\
             nightporter.toml:2: server.tls.key: missing",
    ),
    (
        "[store]\nurl = \"redis://x\"\ndurability = \"interva\"",
        "nightporter.toml:2: store.url: expected \"sled:DIRECTORY\", the embedded store\n\
             nightporter.toml:3: store.durability: unknown value \"interva\", did you mean \"interval\"?",
    ),
    ("[store]\nkey = \"abc\"", "nightporter.toml:2: store.key: expected 64 hexadecimal digits"),
    (
        "[sessions]\nmax_ttl = \"2h\"\nttl = \"3h\"",
        "nightporter.toml:3: sessions.ttl: does not go with max_ttl: ttl is 3h, and max_ttl is 2h",
    ),
    (
        "[sessions]\nmax_ttl = \"2h\"",
        "nightporter.toml:2: sessions.max_ttl: does not go with ttl: ttl is 1d, and max_ttl is 2h",
    ),
    ("[log]\nformat = \"xml\"", "nightporter.toml:2: log.format: unknown value \"xml\"; known: text and json"),
    (
        "[mail]\nurl = \"http://x\"\nfrom = \"Porter <p@x.example>\"",
        "nightporter.toml:2: mail.url: expected smtp://HOST:PORT, smtps://HOST:PORT or smtp+starttls://HOST:PORT\n\
             nightporter.toml:3: mail.from: expected an e-mail address such as ops@example.com, got \"Porter \
             <p@x.example>\"",
    ),
    (
        "[mail]\nurl = \"smtps://u:hunter2@x\"\nfrom = \"p@x.example\"",
        "nightporter.toml:2: mail.url: a URL must not carry a user or a password; set mail.user and \
             mail.password_file",
    ),
    (
        "[mail]\nurl = \"smtps://x\"\nfrom = \"p@x.example\"\nuser = \"u\"",
        "nightporter.toml:1: mail.password: missing: set password, or password_file, or the credential \
             \"mail.password\"",
    ),
    (
        "[alerts]\nemail = [\"ops@example.com\"]",
        "nightporter.toml:2: alerts.email: mail cannot be sent without a [mail] section",
    ),
    (
        "[alerts]\ntelegram = { token = \"t\", chat_id = \"ops\" }",
        "nightporter.toml:2: alerts.telegram.chat_id: expected the number of a chat, or @name of a channel",
    ),
    (
        "[phones.Office]\nforwarder = \"json\"",
        "nightporter.toml:1: phones.Office: a name is 1 to 64 of a-z, 0-9, \"_\" and \"-\", and starts with a \
             letter or a digit",
    ),
    (
        "[phones.office]\nforwarder = \"twilio\"\nsecret = \"s\"\n[phones.home]\nforwarder = \"httpsms\"\nsecret = \"s\"",
        "nightporter.toml:1: phones.office: twilio signs the address that it sends to: set server.public_url\n\
             nightporter.toml:4: phones.home: httpsms signs the address that it sends to: set server.public_url",
    ),
    (
        "[phones.office]\nforwarder = \"json\"\nsecret = \"s\"\nsilent_after = \"1m\"",
        "nightporter.toml:4: phones.office.silent_after: expected between 10m and 60d, got \"1m\"; or \"learned\" or \"off\"",
    ),
    (
        "[phones.a]\nforwarder = \"json\"\nsecret = \"s\"\n[portals.acme]\nrecipe = \"acme.toml\"\nusername = \"u\"\n\
         password = \"p\"\nphone = \"a\"\nphones = [\"a\"]",
        "nightporter.toml:9: portals.acme.phones: phone and phones are both set; keep one",
    ),
    (
        "[phones.a]\nforwarder = \"json\"\nsecret = \"s\"\n[portals.acme]\nrecipe = \"acme.toml\"\nusername = \"u\"\n\
         password = \"p\"\nphones = [\"a\", \"b\", \"a\"]",
        "nightporter.toml:8: portals.acme.phones[1]: unknown phone \"b\", did you mean \"a\"?",
    ),
    (
        "[phones.a]\nforwarder = \"json\"\nsecret = \"s\"\n[portals.acme]\nrecipe = \"acme.toml\"\nusername = \"u\"\n\
         password = \"p\"\nphones = [\"a\", \"a\"]",
        "nightporter.toml:8: portals.acme.phones: \"a\" is there twice",
    ),
    (
        "[phones.office]\nforwarder = \"capcom\"",
        "nightporter.toml:1: phones.office.secret: missing: set secret, or secret_file, or the credential \
             \"phones.office.secret\"\n\
             nightporter.toml:2: phones.office.forwarder: unknown value \"capcom\", did you mean \"capcom6\"?",
    ),
    (
        "[portals.acme]\nrecipe = \"gone.toml\"\nusername = \"\"\npassword_file = \"gone\"\nphone = \"home\"",
        "nightporter.toml:2: portals.acme.recipe: cannot read gone.toml: No such file or directory (os error 2)\n\
             nightporter.toml:3: portals.acme.username: must not be empty\n\
             nightporter.toml:4: portals.acme.password_file: cannot read gone: No such file or directory (os error 2)\n\
             nightporter.toml:5: portals.acme.phone: unknown phone \"home\"",
    ),
    (
        "[accounts]\nlocale = \"kr\"\nresend_after = \"0s\"\npassword_memory = \"8 MiB\"\nclient_per_minute = 0",
        "nightporter.toml:2: accounts.locale: unknown value \"kr\", did you mean \"ko\"?\n\
             nightporter.toml:3: accounts.resend_after: expected between 1s and 1h, got \"0s\"\n\
             nightporter.toml:4: accounts.password_memory: expected between 19 MiB and 1024 MiB, got 8 MiB\n\
             nightporter.toml:5: accounts.client_per_minute: expected between 1 and 60000000, got 0",
    ),
    (
        "[limits]\nrelay_per_minute = 0\nrelay_concurrency = \"many\"\nrelay_per_hour = 1",
        "nightporter.toml:2: limits.relay_per_minute: expected between 1 and 60000000, got 0\n\
             nightporter.toml:3: limits.relay_concurrency: expected an integer, got text\n\
             nightporter.toml:4: limits.relay_per_hour: unknown key; known: relay_per_minute and relay_concurrency",
    ),
    ("a = 1\na = 2", "nightporter.toml:2: not valid TOML: duplicate key"),
    (
        "a = x\nb = y",
        "nightporter.toml:1: not valid TOML: string values must be quoted, expected literal string\n\
             nightporter.toml:2: not valid TOML: string values must be quoted, expected literal string",
    ),
];

#[test]
fn every_bad_setting_is_told_with_file_line_and_key() {
    for (config, expected) in MISTAKES {
        let desk = Desk::new(config);
        assert_eq!(desk.problems(&desk.sources()), *expected, "in:\n{config}");
    }
}
