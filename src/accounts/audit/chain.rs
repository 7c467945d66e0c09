//! The chain: every line under its number, with a tag of the store's key over the tag before it, its number and its text.
//! Who changes, removes, adds or swaps a line without that key breaks the chain there; the head counts the lines, so that
//! missing ones at the end are noticed as well. What it cannot notice is a whole store that was put back to an earlier
//! state, head and all: the count and the last tag that `audit verify` tells are there to be noted elsewhere.
//!
//! Nothing here decides what is noted; [`super::mover`] brings the lines.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::Line;
use crate::secret::{Vault, same};
use crate::store::{Decision, Expires, Kind, Record, Store, StoreError, Stored};

const HEAD: &str = "head";
/// Lines read at a time.
const PAGE: usize = 256;

/// The kinds of records that are kept here.
pub(in crate::accounts) const KINDS: &[Kind] = &[Kind::of::<Entry>(), Kind::of::<Head>()];

/// A line in its place.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Entry {
    /// The line as JSON: the tag is over this text, whatever a later version would write.
    text: String,
    tag: [u8; 32],
}

impl Record for Entry {
    const SPACE: &'static str = "audit";
    const SCHEMA: u8 = 1;
}

/// The end of the chain.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Head {
    /// How many lines there are.
    count: u64,
    /// The tag of the last one; zeros while there is none.
    last: [u8; 32],
    /// Over the two.
    tag: [u8; 32],
    /// Of each kind of carriers the lines that were taken last, by the record that carried them. Whoever finds them still there
    /// after a crash knows that they are in the chain.
    taken: BTreeMap<String, Vec<Taken>>,
}

/// Lines of one record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Taken {
    pub(super) record: String,
    pub(super) lines: Vec<Uuid>,
}

impl Record for Head {
    const SPACE: &'static str = "audit-head";
    const SCHEMA: u8 = 1;
}

/// A line with its number, from 0.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Numbered {
    /// Its place in the chain.
    pub number: u64,
    /// What it says.
    #[serde(flatten)]
    pub line: Line,
}

/// What a look at the whole chain found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verdict {
    /// How many lines the head counts.
    pub lines: u64,
    /// The last tag, in hexadecimal: note both elsewhere to know later that nothing was put back.
    pub last: String,
    /// The first line that is not as it was written; none: all are.
    pub broken: Option<Broken>,
}

/// Where the chain breaks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Broken {
    /// The number of the line.
    pub number: u64,
    /// What is wrong there.
    pub fault: Fault,
}

/// What can be wrong with a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fault {
    /// It is not there.
    Missing,
    /// It, or the one before it, is not what was written, or not by whoever has this store's key.
    Changed,
    /// The head, which counts the lines, is not what was written.
    Head,
}

impl std::fmt::Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Missing => "is missing",
            Self::Changed => "is not as it was written",
            Self::Head => "is where the head of the chain is not as it was written",
        })
    }
}

/// The head as it stands.
pub(super) fn head(store: &Store) -> Result<Head, StoreError> {
    Ok(store.get::<Head>(HEAD)?.map(|stored| stored.value).unwrap_or_default())
}

impl Head {
    /// What was taken last from carriers of the kind `space`.
    pub(super) fn taken(&self, space: &str) -> &[Taken] {
        self.taken.get(space).map(Vec::as_slice).unwrap_or_default()
    }
}

/// Adds `lines` behind `head`, which is as it stands; only one at a time may do that. First the entries, of which nobody
/// knows while the head does not count them, then the head, which also says from where they were taken. A crash in between leaves
/// entries that the next ones replace.
pub(super) async fn extend(
    store: &Store,
    vault: &Vault,
    head: &Head,
    lines: &[&Line],
    taken: Option<(&str, Vec<Taken>)>,
) -> Result<(), StoreError> {
    let mut next = head.clone();
    let mut writes = Vec::new();
    for line in lines {
        let text = serde_json::to_string(line).unwrap_or_default();
        let tag = tag(vault, &next.last, next.count, &text);
        let (id, entry) = (id(next.count), Entry { text, tag });
        writes.push(async move {
            store.update::<Entry, _>(&id, |_| Decision::Put(entry.clone(), Expires::Never, ())).await.map(|_| ())
        });
        (next.count, next.last) = (next.count + 1, tag);
    }
    futures_util::future::try_join_all(writes).await?;
    next.tag = head_tag(vault, next.count, &next.last);
    if let Some((space, taken)) = taken {
        next.taken.insert(space.to_owned(), taken);
    }
    let put = store.update::<Head, _>(HEAD, |old| match old.map_or(0, |old| old.value.count) {
        count if count == head.count => Decision::Put(next.clone(), Expires::Never, true),
        _ => Decision::Keep(false),
    });
    if put.await?.answer { Ok(()) } else { Err(StoreError::Contended { key: format!("{}/{HEAD}", Head::SPACE) }) }
}

/// Looks at every line from the first on, up to the first that is not right.
pub(super) async fn verify(store: &Store, vault: &Vault) -> Result<Verdict, StoreError> {
    let head = store.read::<Head>(HEAD).await?.map(|stored| stored.value);
    let signed = match &head {
        Some(head) => same(&head.tag, &head_tag(vault, head.count, &head.last)),
        // Then there must be no lines either.
        None => store.next_id::<Entry>(None).await?.is_none(),
    };
    let head = head.unwrap_or_default();
    let mut walk = Walk { next: 0, last: [0; 32], broken: None };
    let mut after: Option<String> = None;
    while walk.broken.is_none() && walk.next < head.count {
        let page = match store.list::<Entry>(after.as_deref(), PAGE).await {
            Ok(page) => page,
            Err(StoreError::Damaged { .. }) => one_by_one(store, walk.next)?,
            Err(error) => return Err(error),
        };
        after = page.last().map(|(id, _)| id.clone());
        walk.pass(vault, &page, head.count);
    }
    if walk.broken.is_none() && !(signed && same(&walk.last, &head.last)) {
        walk.broken = Some(Broken { number: head.count, fault: Fault::Head });
    }
    Ok(Verdict { lines: head.count, last: data_encoding::HEXLOWER.encode(&head.last), broken: walk.broken })
}

/// The lines of a page that cannot be read as a whole, up to the one that cannot be read.
fn one_by_one(store: &Store, from: u64) -> Result<Vec<(String, Stored<Entry>)>, StoreError> {
    let mut page = Vec::new();
    for number in from.. {
        match store.get::<Entry>(&id(number)) {
            Ok(Some(entry)) => page.push((id(number), entry)),
            Ok(None) | Err(StoreError::Damaged { .. }) => break,
            Err(error) => return Err(error),
        }
    }
    Ok(page)
}

/// A walk along the chain.
struct Walk {
    next: u64,
    last: [u8; 32],
    broken: Option<Broken>,
}

impl Walk {
    /// Looks at a page of entries, of those that the head counts.
    fn pass(&mut self, vault: &Vault, page: &[(String, Stored<Entry>)], count: u64) {
        for (found, entry) in page.iter().take_while(|_| self.next < count).collect::<Vec<_>>() {
            let Entry { text, tag: written } = &entry.value;
            let fault = if *found != id(self.next) {
                Some(Fault::Missing)
            } else if !same(written, &tag(vault, &self.last, self.next, text)) {
                Some(Fault::Changed)
            } else {
                None
            };
            if let Some(fault) = fault {
                self.broken = Some(Broken { number: self.next, fault });
                return;
            }
            (self.next, self.last) = (self.next + 1, *written);
            if self.next >= count {
                return;
            }
        }
        if page.len() < PAGE {
            self.broken = Some(Broken { number: self.next, fault: Fault::Missing });
        }
    }
}

/// Up to `limit` lines before the one numbered `before`, or the last ones, newest first. One that cannot be read as a line is
/// left out: `verify` names it.
pub(super) async fn list(store: &Store, before: Option<u64>, limit: usize) -> Result<Vec<Numbered>, StoreError> {
    let end = before.unwrap_or(u64::MAX).min(head(store)?.count);
    let begin = end.saturating_sub(limit as u64);
    let after = begin.checked_sub(1).map(id);
    let page = store.list::<Entry>(after.as_deref(), (end - begin) as usize).await?;
    let numbered = page.into_iter().filter_map(|(id, entry)| {
        let number = u64::from_str_radix(&id, 16).ok().filter(|number| *number < end)?;
        Some(Numbered { number, line: serde_json::from_str(&entry.value.text).ok()? })
    });
    let mut lines: Vec<Numbered> = numbered.collect();
    lines.reverse();
    Ok(lines)
}

fn id(number: u64) -> String {
    format!("{number:016x}")
}

fn tag(vault: &Vault, before: &[u8; 32], number: u64, text: &str) -> [u8; 32] {
    vault.fingerprint(&[b"audit line", before, &number.to_be_bytes(), text.as_bytes()])
}

fn head_tag(vault: &Vault, count: u64, last: &[u8; 32]) -> [u8; 32] {
    vault.fingerprint(&[b"audit head", &count.to_be_bytes(), last])
}

#[cfg(test)]
mod tests;
