//! The cut: how a snapshot shows one moment although writers go on.
//!
//! A scanner reads the records in the order of their keys, page by page, which takes seconds. Meanwhile a writer that is
//! about to change a record that the scanner has not passed yet hands its old value over, and the scanner takes that one.
//!
//! ## Why the result is one moment
//!
//! Writers of one key are in line behind its stripe lock: read → decide → [`Cutting::keep`] → swap, without a pause in
//! between. A change is *after the cut* when its `keep` sees the flag set, otherwise *before* it.
//!
//! 1. The set of changes before the cut is closed: when a change B begins after a change A was visible to anybody and A is
//!    after the cut, then A saw the flag, so B sees it too. (The flag is sequentially consistent and goes up inside the
//!    mutex that A's `keep` takes, so a writer that was late for the cut before this one cannot slip between.) So no
//!    reader of the snapshot finds an effect without its cause.
//! 2. Every change before the cut is in the engine when the scan begins: [`Store::snapshot`](crate::store::Store::snapshot)
//!    takes each stripe lock once after the flag is up, and a writer that has not seen it holds its lock until it has swapped.
//! 3. For each key the snapshot gets the value that it had at the cut. The scanner reads a page without any lock, and only
//!    then, inside the mutex, moves the cursor past it. A writer after the cut, inside the mutex and before its swap, hands
//!    the old value over if the cursor has not passed its key.
//!    - Its `keep` came before the cursor moved: the old value is there and is taken, whatever the page said, also when the
//!      page has no such key any more (it was deleted) or should not have it (it was made; the old value is its absence).
//!    - Its `keep` came after: then so did its swap, and the page had been read before either.
//!
//!    Only the first value handed over for a key counts: the ones after it are of later moments.
//!
//! Version floors are read after the records and without this: they only grow, and a floor that is higher than at the cut
//! does no harm.
//!
//! Memory is bounded: what is handed over waits only until the cursor passes, and beyond 64 MiB of it the snapshot is given
//! up, never the writer. This works among the writers of one process; an engine that several share needs a cut of its own.

use std::collections::BTreeMap;
use std::sync::PoisonError;

use crate::store::engine::Pair;
use crate::store::sync::{AtomicBool, Mutex, MutexGuard, Ordering};

/// The most bytes that may wait for the scanner. A store of a million records of 600 bytes, all of them being changed
/// 20,000 times a second, needs half of it.
const LIMIT: usize = 64 << 20;
/// What a waiting entry costs beyond its own bytes.
const OVERHEAD: usize = 96;

/// Whether a cut is being scanned, and what has been handed over to it.
#[derive(Debug, Default)]
pub(in crate::store) struct Cutting {
    active: AtomicBool,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
enum State {
    #[default]
    Idle,
    Scanning(Scan),
    /// More was handed over than may wait.
    Overrun,
}

#[derive(Debug, Default)]
struct Scan {
    /// Keys below have been passed.
    cursor: Vec<u8>,
    /// The values at the cut of keys that were changed since; None: there was none.
    kept: BTreeMap<Vec<u8>, Option<Vec<u8>>>,
    bytes: usize,
}

/// More was changed during the scan than may wait for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Overrun;

impl Cutting {
    /// Called by every writer of a record, under its stripe lock, just before it swaps `old` for something else.
    pub(in crate::store) fn keep(&self, key: &[u8], old: Option<&[u8]>) {
        if self.active.load(Ordering::SeqCst) {
            self.hand_over(key, old);
        }
    }

    fn hand_over(&self, key: &[u8], old: Option<&[u8]>) {
        let mut state = self.lock();
        let State::Scanning(scan) = &mut *state else { return };
        if *key < *scan.cursor || scan.kept.contains_key(key) {
            return;
        }
        scan.bytes += cost(key, old);
        if scan.bytes > LIMIT {
            *state = State::Overrun;
            self.active.store(false, Ordering::SeqCst);
            return;
        }
        scan.kept.insert(key.to_vec(), old.map(<[u8]>::to_vec));
    }

    /// Begins a cut; false when there is one already.
    pub(super) fn begin(&self) -> bool {
        let mut state = self.lock();
        if !matches!(*state, State::Idle) {
            return false;
        }
        *state = State::Scanning(Scan::default());
        self.active.store(true, Ordering::SeqCst);
        true
    }

    /// Passes everything below `next` (None: everything there is): of it, `page` is what the scanner has read; returned is
    /// what was there at the cut.
    pub(super) fn pass(&self, page: Vec<Pair>, next: Option<&[u8]>) -> Result<Vec<Pair>, Overrun> {
        let mut state = self.lock();
        let State::Scanning(scan) = &mut *state else { return Err(Overrun) };
        let later = match next {
            Some(next) => scan.kept.split_off(next),
            None => BTreeMap::new(),
        };
        let kept = std::mem::replace(&mut scan.kept, later);
        scan.bytes -= kept.iter().map(|(key, old)| cost(key, old.as_deref())).sum::<usize>();
        match next {
            Some(next) => scan.cursor = next.to_vec(),
            None => {
                // Nothing is ahead of the scanner any more: writers need not ask.
                *state = State::Scanning(Scan { cursor: vec![u8::MAX; 8], ..Scan::default() });
                self.active.store(false, Ordering::SeqCst);
            }
        }
        drop(state);
        if kept.is_empty() {
            return Ok(page);
        }
        let mut merged: BTreeMap<Vec<u8>, Option<Vec<u8>>> =
            page.into_iter().map(|(key, value)| (key, Some(value))).collect();
        merged.extend(kept);
        Ok(merged.into_iter().filter_map(|(key, value)| Some((key, value?))).collect())
    }

    /// Ends the cut, whole or not.
    pub(super) fn end(&self) {
        let mut state = self.lock();
        *state = State::Idle;
        self.active.store(false, Ordering::SeqCst);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Everything in here is whole after each step.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn cost(key: &[u8], old: Option<&[u8]>) -> usize {
    key.len() + old.map_or(0, <[u8]>::len) + OVERHEAD
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair(key: &str, value: &str) -> Pair {
        (key.as_bytes().to_vec(), value.as_bytes().to_vec())
    }

    #[test]
    fn the_value_at_the_cut_is_taken_whatever_the_page_says() {
        let cutting = Cutting::default();
        cutting.keep(b"a", Some(b"before any cut"));
        assert!(cutting.begin() && !cutting.begin());
        cutting.keep(b"a", Some(b"1"));
        cutting.keep(b"a", Some(b"2"));
        cutting.keep(b"b", None);
        cutting.keep(b"c", Some(b"deleted"));
        let page = vec![pair("a", "3"), pair("b", "made"), pair("d", "as it was")];
        let passed = cutting.pass(page, Some(b"d\0")).unwrap();
        assert_eq!(passed, [pair("a", "1"), pair("c", "deleted"), pair("d", "as it was")]);
        cutting.keep(b"d", Some(b"passed long ago"));
        cutting.keep(b"e", Some(b"ahead"));
        assert_eq!(cutting.pass(Vec::new(), None).unwrap(), [pair("e", "ahead")]);
        cutting.keep(b"z", Some(b"nobody asks"));
        cutting.end();
        assert!(cutting.begin());
        assert_eq!(cutting.pass(Vec::new(), None).unwrap(), []);
    }

    #[test]
    fn too_much_change_ends_the_snapshot_and_not_the_writer() {
        let cutting = Cutting::default();
        assert!(cutting.begin());
        let large = vec![0; 60_000];
        for n in 0..=LIMIT / large.len() {
            cutting.keep(&n.to_be_bytes(), Some(&large));
        }
        assert_eq!(cutting.pass(Vec::new(), None), Err(Overrun));
        cutting.end();
        assert!(cutting.begin(), "the next one may try again");
    }
}
