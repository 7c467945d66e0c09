//! The rules themselves: tables, and for each a function from a file to its breaches.

use proc_macro2::{Delimiter, TokenTree};

use super::source::{Breach, Source, begins, breach, delimited, inside, is, line, walk};

/// Every room with the rooms that it may know, each room after those that it may know: so no arrow points up.
pub(crate) const ROOMS: &[(&str, &[&[&str]])] = &[
    ("clock", &[]),
    ("ids", &[&["clock"]]),
    ("secret", &[&["clock", "ids"]]),
    ("lifecycle", &[&["clock"]]),
    ("config", &[GROUND]),
    ("logs", &[GROUND, &["config"]]),
    ("store", &[GROUND]),
    ("document", &[]),
    ("calls", &[GROUND, &["config"]]),
    ("outbox", &[BASE]),
    ("alerts", &[BASE, &["outbox"]]),
    // Domains do not know one another, but for those named here.
    ("browsers", &[GROUND]),
    ("accounts", &[DOMAIN]),
    ("operators", &[DOMAIN]),
    ("portals", &[DOMAIN, &["browsers", "calls"]]),
    ("sessions", &[BASE, &["document"]]),
    ("flows", &[BASE, &["document", "calls"]]),
    ("snapshots", &[DOMAIN]),
    // The edge and what stands on it.
    ("http", &[DOMAIN, DOMAINS]),
    ("console", &[DOMAIN, DOMAINS, &["http"]]),
    ("demo", &[GROUND, &["config", "portals"]]),
    ("app", &[DOMAIN, DOMAINS, &["http", "console", "logs", "demo"]]),
    ("cli", &[DOMAIN, DOMAINS, &["http", "logs", "demo", "app"]]),
    ("main", &[&["cli"]]),
];
const GROUND: &[&str] = &["clock", "ids", "secret", "lifecycle"];
const BASE: &[&str] = &["clock", "ids", "secret", "lifecycle", "config", "store"];
const DOMAIN: &[&str] = &["clock", "ids", "secret", "lifecycle", "config", "store", "outbox", "alerts"];
const DOMAINS: &[&str] = &["accounts", "browsers", "flows", "operators", "portals", "sessions", "snapshots"];

/// Crates that only some files may use, and which. An entry that ends with `/` is a folder.
const CRATES: &[(&str, &[&str])] = &[
    ("sled", &["src/store/engine/sled.rs"]),
    ("lettre", &["src/outbox/mail.rs"]),
    ("headless_chrome", &["src/browsers/chrome.rs", "src/browsers/chrome/"]),
    ("bincode", &["src/store/codec.rs"]),
    ("anyhow", &["src/cli.rs", "src/cli/", "src/main.rs"]),
];

/// Calls and words that only some files may say.
const WORDS: &[(&str, &[&str])] = &[
    ("SystemTime : : now", &["src/clock.rs"]),
    ("Instant : : now", &["src/clock.rs"]),
    ("Timestamp : : now", &["src/clock.rs"]),
    ("unsafe", &["src/store/engine/power.rs", "src/browsers/pdeathsig.rs"]),
];

/// Names that say nothing about what is inside.
const EMPTY_NAMES: &[&str] = &["util", "utils", "helper", "helpers", "common", "misc"];

/// Macros, and where they may stand.
const MACROS: &[(&str, &[&str])] = &[
    ("todo", &[]),
    ("unimplemented", &[]),
    ("dbg", &[]),
    ("print", PRINTERS),
    ("println", PRINTERS),
    ("eprint", PRINTERS),
    ("eprintln", PRINTERS),
];
const PRINTERS: &[&str] = &["src/cli.rs", "src/cli/", "src/demo.rs", "src/demo/", "src/main.rs"];

const FUNCTION_LINES: usize = 70;
const FILE_LINES: usize = 700;

/// The first arrow in the table that does not point to an earlier room.
pub(crate) fn first_way_up(rooms: &[(&'static str, &[&[&'static str]])]) -> Option<(&'static str, &'static str)> {
    rooms.iter().enumerate().find_map(|(index, (room, known))| {
        let below = &rooms[..index];
        known
            .iter()
            .copied()
            .flatten()
            .find(|known| below.iter().all(|(name, _)| name != *known))
            .map(|known| (*room, *known))
    })
}

/// Rooms know only rooms below them.
pub(crate) fn arrows(source: &Source) -> Vec<Breach> {
    let modules = source.modules();
    let Some(room) = modules.first().filter(|_| source.path.starts_with("src/")) else { return Vec::new() };
    let Some((_, known)) = ROOMS.iter().find(|(name, _)| name == room) else {
        let rule = format!("`{room}` is not in the table of rooms in tests/house/rules.rs: say there what it may know");
        return vec![source.breach(1, rule)];
    };
    let depth = if *room == "main" { 0 } else { modules.len() };
    let mut mentioned = Vec::new();
    mentions(&source.shipped, depth, *room == "main", &mut mentioned);
    let strange = mentioned.into_iter().filter(|(name, _)| {
        let is_room = ROOMS.iter().any(|(other, _)| other == name);
        is_room && name != room && !known.iter().any(|known| known.contains(&name.as_str()))
    });
    strange.map(|(name, line)| source.breach(line, format!("the room `{room}` must not know `{name}`"))).collect()
}

/// Collects what follows the crate's root in paths: after `crate`, or after enough `super` for a module `depth` deep.
/// The binary's own `crate` is not the library's, which it calls by name.
fn mentions(tokens: &[TokenTree], depth: usize, binary: bool, found: &mut Vec<(String, usize)>) {
    let mut rest = tokens;
    while let [first, others @ ..] = rest {
        rest = others;
        let ups = climb(&tokens[tokens.len() - others.len() - 1..]);
        if ups > 0 {
            rest = &others[(ups * 3 - 1).min(others.len())..];
            if ups == depth {
                after_root(rest, found);
            }
        } else if is(first, if binary { "nightporter" } else { "crate" }) && begins(others, ": :") {
            rest = &others[2..];
            after_root(rest, found);
        }
        let module = is(first, "mod") && others.get(1).is_some_and(|body| delimited(body, Delimiter::Brace));
        if module {
            mentions(&inside(&others[1]), depth + 1, binary, found);
            rest = &others[2..];
        } else {
            mentions(&inside(first), depth, binary, found);
        }
    }
}

/// How many `super::` the tokens begin with.
fn climb(tokens: &[TokenTree]) -> usize {
    tokens.chunks(3).take_while(|part| begins(part, "super : :")).count()
}

/// The first names of the one path, or of the group of paths, that stands here.
fn after_root(tokens: &[TokenTree], found: &mut Vec<(String, usize)>) {
    match tokens.first() {
        Some(TokenTree::Ident(ident)) => found.push((ident.to_string(), line(&tokens[0]))),
        Some(group @ TokenTree::Group(_)) => {
            for path in inside(group).split(|token| is(token, ",")) {
                after_root(path, found);
            }
        }
        _ => {}
    }
}

/// Some crates, calls and words have only one place.
pub(crate) fn only_places(source: &Source) -> Vec<Breach> {
    let mut found = Vec::new();
    walk(&source.shipped, &mut |before, tokens| {
        let crates = CRATES.iter().filter(|(name, _)| uses_crate(before, tokens, name));
        let words = WORDS.iter().filter(|(word, _)| begins(tokens, word));
        for (word, places) in crates.chain(words).filter(|(_, places)| !stands_in(&source.path, places)) {
            let rule = format!("`{}` may be said only in {}", word.replace(" : : ", "::"), places.join(", "));
            found.push(source.breach(line(&tokens[0]), rule));
        }
    });
    found
}

/// Whether a crate of that name is meant here, and not a module, a field or a variable: it begins a path or is `use`d.
fn uses_crate(before: &[TokenTree], tokens: &[TokenTree], name: &str) -> bool {
    let deeper = before.len() >= 2 && begins(&before[before.len() - 2..], ": :");
    let used = before.last().is_some_and(|token| is(token, "use"));
    let named = begins(&tokens[1..], ": :") || tokens.get(1).is_some_and(|next| is(next, "as"));
    is(&tokens[0], name) && !deeper && (used || named)
}

fn stands_in(path: &str, places: &[&str]) -> bool {
    places.iter().any(|place| path == *place || (place.ends_with('/') && path.starts_with(place)))
}

/// A file says first what it is for.
pub(crate) fn opening(source: &Source) -> Vec<Breach> {
    let silent = !source.text.starts_with("//!");
    let rule = "a file opens with `//!`: what it is for and what it must never do";
    silent.then(|| source.breach(1, rule)).into_iter().collect()
}

/// Files and modules are named after what they are.
pub(crate) fn names(source: &Source) -> Vec<Breach> {
    let mut found = Vec::new();
    let empty = |name: &str| format!("`{name}` says nothing about what is inside: name it after that");
    let parts = source.path.trim_end_matches(".rs").split('/');
    found.extend(parts.filter(|part| EMPTY_NAMES.contains(part)).map(|part| source.breach(1, empty(part))));
    if source.path.ends_with("/mod.rs") {
        found.push(source.breach(1, "no mod.rs: `foo.rs` beside `foo/`"));
    }
    walk(&source.all, &mut |_, tokens| {
        if let [first, TokenTree::Ident(name), ..] = tokens
            && is(first, "mod")
            && EMPTY_NAMES.contains(&name.to_string().as_str())
        {
            found.push(source.breach(line(first), empty(&name.to_string())));
        }
    });
    found
}

/// Every kind of record shows that its bytes are still read, and is told of to whoever looks at all kinds.
pub(crate) fn records(sources: &[Source]) -> Vec<Breach> {
    let mut found = Vec::new();
    // What a fuzz target makes up is never stored.
    let stored = |source: &&Source| source.path.starts_with("src/") && !source.path.ends_with("/fuzz.rs");
    for source in sources.iter().filter(stored) {
        let folder = format!("{}/", source.path.trim_end_matches(".rs"));
        let family = || sources.iter().filter(|other| other.path == source.path || other.path.starts_with(&folder));
        walk(&source.shipped, &mut |_, tokens| {
            let [first, _, _, TokenTree::Ident(name), ..] = tokens else { return };
            if !begins(tokens, "impl Record for") {
                return;
            }
            let proof = format!("golden::<{name}>(");
            if !family().any(|other| other.text.contains(&proof)) {
                found.push(source.breach(line(first), format!("the record `{name}` has no golden bytes: `{proof}…)`")));
            }
            let told = format!("Kind::of::<{name}>()");
            if !source.text.contains(&told) {
                found.push(source.breach(line(first), format!("the record `{name}` is in no list of kinds: `{told}`")));
            }
        });
    }
    found
}

/// Functions and files stay short enough to be read at once.
pub(crate) fn lengths(source: &Source) -> Vec<Breach> {
    let mut found = Vec::new();
    walk(&source.all, &mut |_, tokens| {
        let [first, TokenTree::Ident(name), others @ ..] = tokens else { return };
        let end = others.iter().find(|token| is(token, ";") || delimited(token, Delimiter::Brace));
        if let (true, Some(TokenTree::Group(body))) = (is(first, "fn"), end) {
            let lines = body.span_close().end().line + 1 - line(first);
            if lines > FUNCTION_LINES {
                let rule = format!("`{name}` has {lines} lines, a function at most {FUNCTION_LINES}");
                found.push(source.breach(line(first), rule));
            }
        }
    });
    if source.text.lines().count() > FILE_LINES {
        found.push(source.breach(FILE_LINES + 1, format!("a file has at most {FILE_LINES} lines")));
    }
    found
}

/// Nothing unfinished ships, and only the command line and the demo print.
pub(crate) fn macros(source: &Source) -> Vec<Breach> {
    let mut found = Vec::new();
    walk(&source.shipped, &mut |_, tokens| {
        let called = tokens.get(2).is_some_and(|arguments| matches!(arguments, TokenTree::Group(_)));
        for (name, places) in MACROS {
            if called && begins(tokens, &format!("{name} !")) && !stands_in(&source.path, places) {
                found.push(source.breach(line(&tokens[0]), format!("`{name}!` does not belong here")));
            }
        }
    });
    found
}

/// Where packages come from is the business of each machine, not of the repository. The hosts are taken apart here,
/// because this file is looked at as well.
pub(crate) fn registries(path: &str, text: &str) -> Vec<Breach> {
    let hosts = [("crates", "io"), ("deb.debian", "org"), ("archive.ubuntu", "com"), ("pypi", "org"), ("npmjs", "com")];
    let hosts = hosts.map(|(name, end)| format!("{name}.{end}"));
    let lines = text.lines().enumerate();
    lines
        .filter_map(|(index, text)| {
            let host = hosts.iter().find(|host| text.contains(host.as_str()))?;
            Some(breach(path, index + 1, format!("names {host}, a package registry: each machine knows its own")))
        })
        .collect()
}
