//! Pages of records, in the order of their ids: found off the runtime, live ones only. What a list shows is on the disk.
//!
//! Records that have expired and were not swept yet count towards no page, and there may be very many of them after a mass
//! expiry: so one hop to another thread looks at up to [`HOP`] records, a few at a time, whatever the page wants.

use super::engine::Table;
use super::record::{self, Record, Stored};
use super::{Key, Store, StoreError, blocking};

/// Records read at a time: 4 MiB of the largest.
const STEP: usize = 64;
/// Records looked at in one hop: milliseconds, after which whoever asked may have gone.
const HOP: usize = 1024;

/// Records with their ids, and whether there may be more behind them.
type Page<T> = (Vec<(String, Stored<T>)>, bool);

impl Store {
    /// Up to `limit` live records of this kind in the order of their ids, beginning after the id `after`. As with
    /// [`Store::read`], they are on the disk.
    ///
    /// # Errors
    /// As [`Store::get`]; one damaged record fails the page, because leaving it out would be a lie.
    pub async fn list<T: Record>(
        &self,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<(String, Stored<T>)>, StoreError> {
        self.list_under("", after, limit).await
    }

    /// As [`Store::list`], but only those whose ids begin with `under`.
    ///
    /// # Errors
    /// As [`Store::list`].
    pub async fn list_under<T: Record>(
        &self,
        under: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<(String, Stored<T>)>, StoreError> {
        Ok(self.list_within(under, after, limit, usize::MAX).await?.0)
    }

    /// As [`Store::list_under`], but the page also ends with the record that brings it to `bytes` bytes. Also tells whether
    /// there may be more.
    ///
    /// # Errors
    /// As [`Store::list`].
    pub async fn list_within<T: Record>(
        &self,
        under: &str,
        after: Option<&str>,
        limit: usize,
        bytes: usize,
    ) -> Result<Page<T>, StoreError> {
        let page = self.find(under, after, limit, bytes).await?;
        self.0.commit.shown().await?;
        Ok(page)
    }

    /// The id of the first live record of this kind after the id `after`. As with [`Store::get`], the record may not be on
    /// the disk yet.
    ///
    /// # Errors
    /// As [`Store::list`].
    pub async fn next_id<T: Record>(&self, after: Option<&str>) -> Result<Option<String>, StoreError> {
        Ok(self.find::<T>("", after, 1, usize::MAX).await?.0.pop().map(|(id, _)| id))
    }

    /// How many live records of this kind have ids that begin with `under`. Looks at each of them: a second for a million.
    ///
    /// # Errors
    /// As [`Store::list`].
    pub async fn count_under<T: Record>(&self, under: &str) -> Result<u64, StoreError> {
        let mut walk = Walk::new::<T>(under, None)?;
        let mut count = 0;
        while walk.from.is_some() {
            let this = self.clone();
            (walk, count) = blocking(move || {
                walk.hop(&this, |key, envelope| {
                    let (head, _) = record::open(key, envelope)?;
                    count += u64::from(head.expires.is_none_or(|expires| expires > this.0.clock.now()));
                    Ok(true)
                })?;
                Ok((walk, count))
            })
            .await?;
        }
        Ok(count)
    }

    async fn find<T: Record>(
        &self,
        under: &str,
        after: Option<&str>,
        limit: usize,
        bytes: usize,
    ) -> Result<Page<T>, StoreError> {
        let mut walk = Walk::new::<T>(under, after)?;
        let (mut found, mut size) = (Vec::new(), 0_usize);
        while walk.from.is_some() && found.len() < limit && size < bytes {
            let this = self.clone();
            (walk, found, size) = blocking(move || {
                walk.hop(&this, |key, envelope| {
                    let stored = record::decode::<T>(key, envelope)?;
                    if !stored.expired_at(this.0.clock.now()) {
                        found.push((key.id().to_owned(), stored));
                        size = size.saturating_add(envelope.len());
                    }
                    Ok(found.len() < limit && size < bytes)
                })?;
                Ok((walk, found, size))
            })
            .await?;
        }
        Ok((found, walk.from.is_some()))
    }
}

/// A walk along the records of a kind as they are stored, expired ones included.
#[derive(Debug)]
struct Walk {
    prefix: Vec<u8>,
    /// Where it goes on; None: there is nothing more.
    from: Option<Vec<u8>>,
}

impl Walk {
    fn new<T: Record>(under: &str, after: Option<&str>) -> Result<Self, StoreError> {
        let prefix = [Key::prefix::<T>(), under.as_bytes().to_vec()].concat();
        let from = match after {
            Some(id) => Key::of::<T>(id)?.successor(),
            None => prefix.clone(),
        };
        Ok(Self { prefix, from: Some(from) })
    }

    /// Shows `see` some records, as long as it wants more. Blocks.
    fn hop(
        &mut self,
        store: &Store,
        mut see: impl FnMut(&Key, &[u8]) -> Result<bool, StoreError>,
    ) -> Result<(), StoreError> {
        for _ in 0..HOP / STEP {
            let Some(from) = self.from.take() else { return Ok(()) };
            let page = store.0.engine.scan(Table::Records, &self.prefix, &from, STEP)?;
            let mut left = page.len();
            for (key, envelope) in &page {
                let key = Key::from_bytes(key)?;
                left -= 1;
                let more = see(&key, envelope)?;
                if !more || left == 0 {
                    self.from = (left > 0 || page.len() == STEP).then(|| key.successor());
                }
                if !more {
                    return Ok(());
                }
            }
        }
        Ok(())
    }
}
