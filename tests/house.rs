//! The house rules of the sources, read from the sources: which room may know which, what only one place may say, how
//! files and functions are shaped. A breach is told with file, line and the rule in plain words.
//!
//! Files are read as Rust tokens, so comments and the inside of strings never count, and macro bodies always do. What
//! is compiled for tests only is free to reach further. To improve the house, change it and the tables here together.

mod house {
    pub(crate) mod rules;
    pub(crate) mod source;
}

use std::path::Path;

use house::rules;
use house::source::{Breach, Source};

/// The repository.
fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Every Rust file below `src` and `tests`.
fn sources() -> Vec<Source> {
    let sources: Vec<_> = house::source::files(root(), &["src", "tests"])
        .into_iter()
        .filter(|path| path.ends_with(".rs"))
        .map(|path| Source::parse(&path, &house::source::read(root(), &path)))
        .collect();
    assert!(sources.iter().any(|source| source.path == "src/main.rs"), "the sources were not found");
    sources
}

/// Fails with every breach at once.
fn keep(breaches: impl Iterator<Item = Breach>) {
    let told: Vec<_> = breaches.map(|breach| breach.to_string()).collect();
    assert!(told.is_empty(), "{} house rules are broken:\n{}", told.len(), told.join("\n"));
}

/// What `rule` says to a file of that name and content, as text.
fn said(rule: impl Fn(&Source) -> Vec<Breach>, path: &str, text: &str) -> String {
    rule(&Source::parse(path, text)).iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

#[test]
fn arrows_between_rooms_point_down() {
    keep(sources().iter().flat_map(rules::arrows));
}

#[test]
fn an_arrow_that_points_up_is_noticed() {
    let told = said(rules::arrows, "src/store/key.rs", "//! k\nuse crate::{clock, http::{Edge, json}};");
    assert_eq!(told, "src/store/key.rs:2: the room `store` must not know `http`");
    let told = said(rules::arrows, "src/store/engine.rs", "//! e\nfn f() { super::super::portals::open() }");
    assert_eq!(told, "src/store/engine.rs:2: the room `store` must not know `portals`");
    let told = said(rules::arrows, "src/clock.rs", "//! c\nmod a { mod b { use super::super::super::store; } }");
    assert_eq!(told, "src/clock.rs:2: the room `clock` must not know `store`");
    let told = said(rules::arrows, "src/main.rs", "//! m\nuse nightporter::store::Store;");
    assert_eq!(told, "src/main.rs:2: the room `main` must not know `store`");
    let told = said(rules::arrows, "src/attic.rs", "//! a");
    assert!(told.starts_with("src/attic.rs:1: `attic` is not in the table of rooms"), "{told}");
    let free =
        "//! c\n// use crate::http;\n#[cfg(test)]\nmod tests { use crate::portals; }\n#[cfg(test)]\nuse crate::http;";
    assert_eq!(said(rules::arrows, "src/clock.rs", free), "");
    assert_eq!(said(rules::arrows, "src/store.rs", "//! s\nuse crate::store::key; use self::x; use super::clock;"), "");
}

#[test]
fn the_table_of_rooms_has_no_way_back_up() {
    assert_eq!(rules::first_way_up(rules::ROOMS), None);
    assert_eq!(
        rules::first_way_up(&[("a", &[]), ("b", &[&["a"]]), ("c", &[&["a"], &["d"]]), ("d", &[])]),
        Some(("c", "d"))
    );
}

#[test]
fn some_words_have_only_one_place() {
    keep(sources().iter().flat_map(rules::only_places));
}

#[test]
fn a_word_in_the_wrong_place_is_noticed() {
    let told = said(rules::only_places, "src/outbox.rs", "//! o\n// lettre\nuse lettre::Message;");
    assert_eq!(told, "src/outbox.rs:3: `lettre` may be said only in src/outbox/mail.rs");
    let told = said(rules::only_places, "src/store/record.rs", "//! r\nfn f() { log!(std::time::Instant::now()) }");
    assert!(told.starts_with("src/store/record.rs:2: `Instant::now` may be said only in src/clock.rs"), "{told}");
    let told = said(rules::only_places, "src/http.rs", "//! h\n#[allow(unsafe_code)]\nfn f() { unsafe { g() } }");
    assert!(told.starts_with("src/http.rs:3: `unsafe` may be said only in "), "{told}");
    let told = said(
        rules::only_places,
        "src/store/commit.rs",
        "//! c\nuse super::engine::sled::open;\nfn f(e: sled::Error) {}",
    );
    assert!(told.starts_with("src/store/commit.rs:3: `sled` may be said only in src/store/engine/sled.rs"), "{told}");
    assert_eq!(said(rules::only_places, "src/store/engine/sled.rs", "//! s\nuse sled::Db;"), "");
    assert_eq!(said(rules::only_places, "src/store/engine.rs", "//! e\nmod sled;\nuse self::sled::open;"), "");
    assert!(said(rules::only_places, "src/store.rs", "//! s\nuse {sled as s, std::io};").contains("`sled`"));
    assert_eq!(said(rules::only_places, "src/config.rs", "//! c\nconst URL: &str = \"sled:data/store\";"), "");
    assert_eq!(said(rules::only_places, "src/store/key.rs", "//! k\n#[cfg(test)]\nmod tests { use bincode::x; }"), "");
}

#[test]
fn files_say_what_they_are_for_and_are_named_after_it() {
    keep(sources().iter().flat_map(rules::opening).chain(sources().iter().flat_map(rules::names)));
}

#[test]
fn a_silent_file_and_an_empty_name_are_noticed() {
    let told = said(rules::opening, "src/clock.rs", "use std::fmt;\n//! late");
    assert_eq!(told, "src/clock.rs:1: a file opens with `//!`: what it is for and what it must never do");
    assert!(said(rules::names, "src/store/mod.rs", "").contains("no mod.rs"));
    assert!(said(rules::names, "src/store/helpers/key.rs", "").contains("`helpers` says nothing"));
    let told = said(rules::names, "src/store.rs", "//! s\n\nmod utils;");
    assert!(told.starts_with("src/store.rs:3: `utils` says nothing"), "{told}");
    assert_eq!(said(rules::names, "src/store/commit.rs", "//! c\nmod sweep;"), "");
}

#[test]
fn functions_and_files_stay_short() {
    keep(sources().iter().flat_map(rules::lengths));
}

#[test]
fn a_long_function_and_a_long_file_are_noticed() {
    let function = |lines: usize| format!("//! x\n/// d\nfn f()\n{{{}}}", "\n".repeat(lines - 2));
    assert_eq!(said(rules::lengths, "src/a.rs", &function(70)), "");
    assert_eq!(said(rules::lengths, "src/a.rs", &function(71)), "src/a.rs:3: `f` has 71 lines, a function at most 70");
    let hidden = format!(
        "//! x\ntrait T {{ fn a(&self);\n}}\nmacro_rules! m {{ () => {{ fn g() {{ r#\"{}\"# }} }} }}",
        "\n".repeat(70)
    );
    assert_eq!(said(rules::lengths, "src/a.rs", &hidden), "src/a.rs:4: `g` has 71 lines, a function at most 70");
    assert_eq!(said(rules::lengths, "src/a.rs", &"// x\n".repeat(700)), "");
    assert_eq!(said(rules::lengths, "src/a.rs", &"// x\n".repeat(701)), "src/a.rs:701: a file has at most 700 lines");
}

#[test]
fn every_record_has_golden_bytes_and_a_place_in_the_list_of_kinds() {
    keep(rules::records(&sources()).into_iter());
}

#[test]
fn a_record_without_golden_bytes_is_noticed() {
    let text = "//! x\nimpl Record for Kept {}\n#[cfg(test)]\nmod tests { impl Record for Other {} }";
    let told = rules::records(&[Source::parse("src/a.rs", text)]);
    let told: Vec<_> = told.iter().map(ToString::to_string).collect();
    assert_eq!(told.len(), 2, "{told:?}");
    assert!(told[0].starts_with("src/a.rs:2: the record `Kept` has no golden bytes"), "{told:?}");
    let good = "//! x\nconst KINDS: &[Kind] = &[Kind::of::<Kept>()];\nimpl Record for Kept {}";
    let sources =
        [Source::parse("src/a.rs", good), Source::parse("src/a/tests.rs", "//! t\nfn f() { golden::<Kept>(&x, y); }")];
    assert!(rules::records(&sources).is_empty());
}

#[test]
fn nothing_is_left_unfinished_or_printed_by_the_way() {
    keep(sources().iter().flat_map(rules::macros));
}

#[test]
fn an_unfinished_or_printing_place_is_noticed() {
    assert!(
        said(rules::macros, "src/cli/status.rs", "//! s\nfn f() { todo!() }").contains("src/cli/status.rs:2: `todo!`")
    );
    assert!(said(rules::macros, "src/demo.rs", "//! d\nfn f() { std::dbg!(1); }").contains("`dbg!`"));
    assert!(said(rules::macros, "src/store.rs", "//! s\nfn f() { println!(\"x\"); }").contains("`println!`"));
    assert_eq!(said(rules::macros, "src/cli/status.rs", "//! s\nfn f() { println!(\"todo!\"); } // todo!()"), "");
    assert_eq!(said(rules::macros, "src/store.rs", "//! s\nfn f(todo: bool) -> bool { todo != true }"), "");
}

#[test]
fn no_file_names_a_package_registry() {
    let texts = house::source::files(root(), &["."]).into_iter().filter(|path| path != "Cargo.lock");
    let told: Vec<_> = texts.flat_map(|path| rules::registries(&path, &house::source::read(root(), &path))).collect();
    keep(told.into_iter());
}

#[test]
fn a_registry_in_a_text_is_noticed() {
    let host = ["index", "crates", "io"].join(".");
    let told = rules::registries("deny.toml", &format!("[sources]\nallow = [\"https://{host}\"]"));
    assert!(told[0].to_string().starts_with("deny.toml:2: names "), "{}", told[0]);
    assert!(rules::registries("README.md", "crates and io, io.crates").is_empty());
}
