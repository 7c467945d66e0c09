//! Migrations: a newer program meets records of older schemas, an older program meets newer ones.
//!
//! Reading an older record has always worked ([`Record::migrate`]); what is here makes it certain and final. The store notes
//! which schemas each kind's records are written in. At the start the program brings its own list: a kind that was written in a
//! higher schema is refused before anybody reads it, and one with older records is rewritten, every record of it, after
//! the caller has taken a snapshot. Rewriting changes neither version nor expiry, so no client notices; a crash in between
//! begins again.

use std::collections::BTreeMap;

use super::engine::{Engine, Swap, Table};
use super::{Key, Record, Store, StoreError, blocking, record};

/// Under which name the database keeps the schemas.
const NOTED: &str = "kinds";
/// Records rewritten between two pauses.
const PAGE: usize = 256;

/// Makes an envelope of the present schema of an older one; None when it is in that already.
type Rewrite = fn(&Key, &[u8]) -> Result<Option<Vec<u8>>, StoreError>;

/// A kind of records, for what looks at all of them.
#[derive(Clone, Copy, Debug)]
pub struct Kind {
    space: &'static str,
    schema: u8,
    rewrite: Rewrite,
}

impl Kind {
    /// The kind of `T`.
    pub const fn of<T: Record>() -> Self {
        Self { space: T::SPACE, schema: T::SCHEMA, rewrite: rewrite::<T> }
    }
}

fn rewrite<T: Record>(key: &Key, envelope: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
    let (head, _) = record::open(key, envelope)?;
    if head.schema == T::SCHEMA {
        return Ok(None);
    }
    record::encode(key, &record::decode::<T>(key, envelope)?).map(Some)
}

/// The lowest and the highest schema of each kind's records.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(super) struct Schemas(BTreeMap<String, [u8; 2]>);

impl Schemas {
    /// Counts a record in.
    pub(super) fn see(&mut self, space: &str, schema: u8) {
        match self.0.get_mut(space) {
            Some([low, high]) => (*low, *high) = ((*low).min(schema), (*high).max(schema)),
            None => {
                self.0.insert(space.to_owned(), [schema; 2]);
            }
        }
    }

    fn read(engine: &dyn Engine) -> Result<Self, StoreError> {
        let Some(bytes) = engine.noted(NOTED)? else { return Ok(Self::default()) };
        let damaged = |_| StoreError::Damaged { key: NOTED.to_owned(), reason: "the list of kinds does not decode" };
        serde_json::from_slice(&bytes).map_err(damaged)
    }

    /// Keeps the list in the database; on the disk with its next flush.
    pub(super) fn write(&self, engine: &dyn Engine) -> Result<(), StoreError> {
        let bytes = serde_json::to_vec(self).unwrap_or_default();
        Ok(engine.note(NOTED, &bytes)?)
    }
}

impl Store {
    /// Which of `kinds` have records of older schemas, which [`Store::migrate`] rewrites.
    ///
    /// # Errors
    /// [`StoreError::Newer`] when one was written by a newer program: this one must not touch the store.
    pub fn outdated(&self, kinds: &[Kind]) -> Result<Vec<&'static str>, StoreError> {
        let schemas = Schemas::read(&*self.0.engine)?;
        let mut outdated = Vec::new();
        for kind in kinds {
            match schemas.0.get(kind.space) {
                Some([_, high]) if *high > kind.schema => {
                    let key = format!("{}/*", kind.space);
                    return Err(StoreError::Newer { key, found: *high, known: kind.schema });
                }
                Some([low, _]) if *low < kind.schema => outdated.push(kind.space),
                _ => {}
            }
        }
        Ok(outdated)
    }

    /// Rewrites every record of an older schema and notes what `kinds` are written in from now on; tells how many it were.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] for one that cannot be read, or an engine failure; asked again, it goes on.
    pub async fn migrate(&self, kinds: &[Kind]) -> Result<u64, StoreError> {
        let outdated = self.outdated(kinds)?;
        let before = Schemas::read(&*self.0.engine)?;
        let mut schemas = before.clone();
        // An older program must not come in when this is cut short: some records are beyond it then.
        kinds
            .iter()
            .filter(|kind| outdated.contains(&kind.space))
            .for_each(|kind| schemas.see(kind.space, kind.schema));
        self.note_schemas(&before, &schemas).await?;
        let mut rewritten = 0;
        for kind in kinds.iter().filter(|kind| outdated.contains(&kind.space)) {
            rewritten += self.rewrite_all(*kind).await?;
        }
        // What was rewritten is on the disk before it is said to be.
        self.flush().await?;
        let before = schemas.clone();
        schemas.0.extend(kinds.iter().map(|kind| (kind.space.to_owned(), [kind.schema; 2])));
        self.note_schemas(&before, &schemas).await?;
        Ok(rewritten)
    }

    /// Has `schemas` on the disk, unless they are `before`, which is there.
    async fn note_schemas(&self, before: &Schemas, schemas: &Schemas) -> Result<(), StoreError> {
        if schemas != before {
            schemas.write(&*self.0.engine)?;
            self.flush().await?;
        }
        Ok(())
    }

    async fn rewrite_all(&self, kind: Kind) -> Result<u64, StoreError> {
        let prefix = format!("{}/", kind.space).into_bytes();
        let (mut from, mut rewritten) = (prefix.clone(), 0);
        loop {
            let (this, prefix) = (self.clone(), prefix.clone());
            let page = blocking(move || Ok(this.0.engine.scan(Table::Records, &prefix, &from, PAGE)?)).await?;
            for (key, _) in &page {
                rewritten += u64::from(self.rewrite_one(kind, &Key::from_bytes(key)?).await?);
            }
            match page.last() {
                Some((last, _)) if page.len() == PAGE => from = [last.as_slice(), &[0]].concat(),
                _ => return Ok(rewritten),
            }
        }
    }

    async fn rewrite_one(&self, kind: Kind, key: &Key) -> Result<bool, StoreError> {
        let mut last = self.stripe(key).await;
        self.0.commit.room().await?;
        let Some(old) = self.0.engine.get(Table::Records, key.as_bytes())? else { return Ok(false) };
        let Some(new) = (kind.rewrite)(key, &old)? else { return Ok(false) };
        self.0.space.admit(true)?;
        let writing = self.0.tally.writing();
        self.0.cutting.keep(key.as_bytes(), Some(&old));
        let swap = self.0.engine.compare_and_swap(Table::Records, key.as_bytes(), Some(&old), Some(&new))?;
        if swap == Swap::Done {
            writing.book(Table::Records, key.as_bytes(), Some(&old), Some(&new));
            *last = self.0.commit.ticket([]);
        }
        Ok(swap == Swap::Done)
    }
}

#[cfg(test)]
mod tests {
    use serde::{Deserialize, Serialize};

    use super::*;
    use crate::clock::{Clock, Time};
    use crate::lifecycle::Lifecycle;
    use crate::store::{Decision, Durability, Expires, codec};

    #[derive(Clone, Serialize, Deserialize)]
    struct Named(String);
    impl Record for Named {
        const SPACE: &'static str = "guest";
        const SCHEMA: u8 = 1;
    }

    #[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
    struct Guest {
        name: String,
        visits: u32,
    }
    impl Record for Guest {
        const SPACE: &'static str = "guest";
        const SCHEMA: u8 = 2;

        fn migrate(schema: u8, payload: &[u8]) -> Option<Self> {
            let name = codec::decode::<String>(payload).filter(|name| schema == 1 && name != "nobody")?;
            Some(Self { name, visits: 1 })
        }
    }

    #[tokio::test]
    async fn a_newer_program_rewrites_what_it_finds_and_an_older_one_is_refused_then() {
        const OLD: &[Kind] = &[Kind::of::<Named>()];
        const NEW: &[Kind] = &[Kind::of::<Guest>()];
        let (dir, clock) = (tempfile::tempdir().unwrap(), Clock::held(Time::from_millis(1_000_000)));
        let open = || {
            let life = Lifecycle::new();
            (Store::open(dir.path(), Durability::Acknowledged, clock.clone(), &life).unwrap(), life)
        };
        let close = async |(store, life): (Store, Lifecycle)| {
            assert!(life.shutdown(std::time::Duration::from_secs(10)).await);
            drop(store);
        };
        let (store, life) = open();
        assert_eq!(store.migrate(OLD).await.unwrap(), 0);
        let end = Expires::At(Time::from_millis(9_000_000));
        for n in 0..300 {
            let put = |_: Option<&_>| Decision::Put(Named(format!("손님 {n}")), end, ());
            store.update::<Named, _>(&n.to_string(), put).await.unwrap();
        }
        close((store, life)).await;

        let (store, life) = open();
        assert_eq!(store.outdated(NEW).unwrap(), ["guest"]);
        assert_eq!(store.migrate(NEW).await.unwrap(), 300);
        assert_eq!((store.outdated(NEW).unwrap().len(), store.migrate(NEW).await.unwrap()), (0, 0));
        close((store, life)).await;

        let (store, life) = open();
        let guest = store.get::<Guest>("7").unwrap().unwrap();
        assert_eq!(guest.value, Guest { name: "손님 7".to_owned(), visits: 1 });
        assert_eq!((guest.version, guest.expires), (1, Some(Time::from_millis(9_000_000))));
        let refused = store.outdated(OLD).unwrap_err();
        assert!(matches!(refused, StoreError::Newer { found: 2, known: 1, .. }), "{refused}");
        close((store, life)).await;
    }

    #[tokio::test]
    async fn an_older_program_stays_out_of_what_was_rewritten_by_half() {
        const OLD: &[Kind] = &[Kind::of::<Named>()];
        const NEW: &[Kind] = &[Kind::of::<Guest>()];
        let (dir, clock) = (tempfile::tempdir().unwrap(), Clock::held(Time::from_millis(1_000_000)));
        let store = Store::open(dir.path(), Durability::Acknowledged, clock, &Lifecycle::new()).unwrap();
        store.migrate(OLD).await.unwrap();
        for name in ["a", "nobody"] {
            let put = |_: Option<&_>| Decision::Put(Named(name.to_owned()), Expires::Never, ());
            store.update::<Named, _>(name, put).await.unwrap();
        }
        let cut_short = store.migrate(NEW).await;
        assert!(matches!(cut_short, Err(StoreError::Damaged { .. })), "{cut_short:?}");
        assert_eq!(store.get::<Guest>("a").unwrap().unwrap().value.visits, 1);
        assert!(matches!(store.outdated(OLD), Err(StoreError::Newer { found: 2, known: 1, .. })));
        assert_eq!(store.outdated(NEW).unwrap(), ["guest"], "and the newer one goes on");
    }
}
