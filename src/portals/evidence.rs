//! What a page looked like when a login failed: its picture and its text, kept for the operator who mends the recipe.
//!
//! Both are made without secrets (see `Page::outline` and `Page::screenshot`) and sealed all the same: they show an account
//! from inside. They lie in the store in pieces, because a record holds 63 KiB; of each portal the last few are kept, for a
//! month at most.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::recipe::Cause;
use super::session::SaveError;
use super::state::shorten;
use crate::clock::Time;
use crate::secret::Vault;
use crate::store::{Decision, Expires, Kind, Record, Store, StoreError};

/// Failures whose evidence is kept for one portal.
const KEPT: u64 = 5;
/// How long it is kept.
const LIFE: Duration = Duration::from_secs(30 * 24 * 60 * 60);
/// The largest part in bytes; a larger one is left out. A full-page picture fits.
const LARGEST: usize = 1024 * 1024;
/// Bytes of a part in one record; sealing adds 28 of them.
const PIECE: usize = 60 * 1024;

/// A part of the evidence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// The window as PNG, secrets masked.
    Picture,
    /// The document as HTML, without scripts and without what was typed or hidden in it.
    Page,
}

/// What there is of one failure.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exhibit {
    /// Its number, counted for each portal from 1.
    pub number: u64,
    /// When the login failed.
    pub at: Time,
    /// Why, as recorded with the failure.
    pub cause: Cause,
    /// In words, without secrets.
    pub detail: String,
    /// Bytes of the picture; 0: there is none.
    pub picture: u32,
    /// Bytes of the page; 0: there is none.
    pub page: u32,
}

impl Exhibit {
    fn length(&self, part: Part) -> usize {
        match part {
            Part::Picture => self.picture as usize,
            Part::Page => self.page as usize,
        }
    }
}

/// A portal's evidence, oldest first.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Shelf {
    count: u64,
    kept: Vec<Exhibit>,
}

/// The kinds of records that are kept here.
pub(super) const KINDS: &[Kind] = &[Kind::of::<Shelf>(), Kind::of::<Piece>()];

impl Record for Shelf {
    const SPACE: &'static str = "portal-evidence";
    const SCHEMA: u8 = 1;
}

/// One sealed piece.
#[derive(Serialize, Deserialize)]
struct Piece(Vec<u8>);

impl Record for Piece {
    const SPACE: &'static str = "portal-evidence-piece";
    const SCHEMA: u8 = 1;
}

/// Keeps the picture and the page of a failure, in place of the oldest one's. What is empty or too large is left out.
///
/// # Errors
/// [`SaveError`]; the failure itself is recorded elsewhere.
pub(super) async fn keep(
    portal: &str,
    failure: (Time, Cause, &str),
    parts: [(Part, &[u8]); 2],
    store: &Store,
    vault: &Vault,
) -> Result<(), SaveError> {
    let (at, cause, detail) = failure;
    let expires = Expires::At(at + LIFE);
    // First the place is cleared: what is named is always whole.
    let clear = |shelf: Option<&crate::store::Stored<Shelf>>| {
        let mut shelf = shelf.map(|shelf| shelf.value.clone()).unwrap_or_default();
        shelf.count += 1;
        let number = shelf.count;
        shelf.kept.retain(|exhibit| exhibit.number + KEPT > number);
        Decision::Put(shelf, expires, number)
    };
    let number = store.update(portal, clear).await?.answer;
    let mut exhibit = Exhibit { number, at, cause, detail: shorten(detail), picture: 0, page: 0 };
    for (part, bytes) in parts {
        if bytes.len() > LARGEST {
            continue;
        }
        for (index, piece) in bytes.chunks(PIECE).enumerate() {
            let sealed = vault.seal(&seal_of(portal, number, part, index), piece)?;
            let put = |_: Option<&_>| Decision::Put(Piece(sealed.clone()), expires, ());
            store.update(&place(portal, number, part, index), put).await?;
        }
        let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        match part {
            Part::Picture => exhibit.picture = length,
            Part::Page => exhibit.page = length,
        }
    }
    let name = |shelf: Option<&crate::store::Stored<Shelf>>| {
        let mut shelf = shelf.map(|shelf| shelf.value.clone()).unwrap_or_default();
        shelf.kept.push(exhibit.clone());
        Decision::Put(shelf, expires, ())
    };
    store.update(portal, name).await?;
    Ok(())
}

/// What is kept of a portal's failures, newest first.
///
/// # Errors
/// When the record cannot be read.
pub(super) fn list(portal: &str, store: &Store) -> Result<Vec<Exhibit>, StoreError> {
    let shelf = store.get::<Shelf>(portal)?.map(|stored| stored.value).unwrap_or_default();
    Ok(shelf.kept.into_iter().rev().collect())
}

/// A part of the evidence of that number; None when there is none.
///
/// # Errors
/// [`SaveError`] when it cannot be read or does not open.
pub(super) fn read(
    portal: &str,
    number: u64,
    part: Part,
    store: &Store,
    vault: &Vault,
) -> Result<Option<Vec<u8>>, SaveError> {
    let shelf = list(portal, store)?;
    let Some(exhibit) = shelf.iter().find(|exhibit| exhibit.number == number && exhibit.length(part) > 0) else {
        return Ok(None);
    };
    let mut bytes = Vec::with_capacity(exhibit.length(part));
    for index in 0..exhibit.length(part).div_ceil(PIECE) {
        let Some(piece) = store.get::<Piece>(&place(portal, number, part, index))? else { return Ok(None) };
        bytes.extend_from_slice(&vault.open(&seal_of(portal, number, part, index), &piece.value.0)?);
    }
    Ok(Some(bytes))
}

/// A document in which the secrets are masked, as they are and as HTML writes them in text and in attributes.
pub(super) fn without<'a>(page: String, secrets: impl Iterator<Item = &'a str>) -> String {
    let mask = |page: String, secret: &str| {
        let text = secret.replace('&', "&amp;").replace('\u{a0}', "&nbsp;");
        let marks = |text: &str| text.replace('<', "&lt;").replace('>', "&gt;");
        let quotes = |text: &str| text.replace('"', "&quot;");
        let written = [secret.to_owned(), marks(&text), quotes(&text), quotes(&marks(&text))];
        written.iter().fold(page, |page, written| page.replace(written, "***"))
    };
    secrets.filter(|secret| !secret.is_empty()).fold(page, mask)
}

/// Where a piece lies: the newest takes the place of the oldest.
fn place(portal: &str, number: u64, part: Part, index: usize) -> String {
    format!("{portal}/{}/{part:?}/{index}", number % KEPT)
}

/// What a piece is sealed for: opened for another number, it is refused.
fn seal_of(portal: &str, number: u64, part: Part, index: usize) -> String {
    format!("{}/{portal}/{number}/{part:?}/{index}", Piece::SPACE)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::clock::Clock;
    use crate::lifecycle::Lifecycle;
    use crate::store::Durability;

    #[test]
    fn a_secret_is_masked_however_html_writes_it() {
        let secret = "p&<a>\"s'\u{a0}가";
        let page = "<p title=\"p&amp;<a>&quot;s'&nbsp;가\" alt=\"p&amp;&lt;a&gt;&quot;s'&nbsp;가\">p&amp;&lt;a&gt;\"s'&nbsp;가 1</p>";
        let masked = without(page.to_owned(), [secret, ""].into_iter());
        assert_eq!(masked, r#"<p title="***" alt="***">*** 1</p>"#);
        assert_eq!(without("code 123456".to_owned(), ["123456"].into_iter()), "code ***");
    }

    #[tokio::test]
    async fn the_last_few_are_kept_whole_and_the_oldest_makes_room() {
        let (dir, life) = (tempfile::tempdir().unwrap(), Lifecycle::new());
        let clock = Clock::held(Time::from_millis(1_000_000));
        let store = Store::open(dir.path(), Durability::Interval, clock.clone(), &life).unwrap();
        let vault = Vault::from_hex(&"5a".repeat(32), Path::new("key")).unwrap();
        let large = vec![b'p'; PIECE * 2 + 1];
        for number in 1..=KEPT + 2 {
            let detail = format!("failure {number}");
            let failure = (clock.now(), Cause::PageChanged, detail.as_str());
            let page = format!("<p>쪽 {number}</p>");
            keep("acme", failure, [(Part::Picture, &large), (Part::Page, page.as_bytes())], &store, &vault)
                .await
                .unwrap();
        }
        let kept = list("acme", &store).unwrap();
        let numbers: Vec<_> = kept.iter().map(|exhibit| exhibit.number).collect();
        assert_eq!(numbers, [7, 6, 5, 4, 3]);
        assert_eq!((kept[0].detail.as_str(), kept[0].picture as usize), ("failure 7", large.len()));
        assert_eq!(read("acme", 7, Part::Picture, &store, &vault).unwrap().unwrap(), large);
        assert_eq!(read("acme", 3, Part::Page, &store, &vault).unwrap().unwrap(), "<p>쪽 3</p>".as_bytes());
        assert_eq!(read("acme", 2, Part::Page, &store, &vault).unwrap(), None);
        assert!(list("other", &store).unwrap().is_empty());
        let long = "가".repeat(PIECE);
        let failure = (clock.now(), Cause::Captcha, long.as_str());
        keep("acme", failure, [(Part::Picture, &vec![0; LARGEST + 1]), (Part::Page, b"")], &store, &vault)
            .await
            .unwrap();
        assert!(list("acme", &store).unwrap()[0].detail.len() <= 240, "the shelf must fit into a record");
        assert_eq!(read("acme", 8, Part::Picture, &store, &vault).unwrap(), None, "too large is left out");
        clock.advance(LIFE);
        assert!(list("acme", &store).unwrap().is_empty(), "and after a month there is nothing");
        life.shutdown(Duration::from_secs(5)).await;
    }

    #[test]
    fn the_bytes_on_disk_are_golden() {
        let exhibit = Exhibit {
            number: 3,
            at: Time::from_millis(1_700_000_000_000),
            cause: Cause::NoSms,
            detail: "문자가 오지 않음".to_owned(),
            picture: 70_000,
            page: 5,
        };
        crate::store::golden::<Shelf>(
            &Shelf { count: 3, kept: vec![exhibit] },
            "030103fd0068e5cf8b0100000117ebacb8ec9e90eab08020ec98a4eca78020ec958aec9d8cfc7011010005",
        );
        crate::store::golden::<Piece>(&Piece(vec![1, 2, 3]), "03010203");
    }
}
