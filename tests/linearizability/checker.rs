//! Whether a history is linearizable: whether its operations, each taking effect at one moment between its call and its
//! return, can be put in an order that explains every answer. The algorithm is Wing's and Gong's, with Lowe's memory of
//! what was tried. No existing crate knows operations whose outcome is unknown but which have ended all the same.

use std::collections::HashSet;
use std::hash::Hash;

/// An operation with the moments of its call and its return, which no two operations share.
#[derive(Clone, Debug)]
pub(crate) struct Spanned<O> {
    pub(crate) call: u64,
    pub(crate) end: u64,
    pub(crate) operation: O,
}

/// A thing that operations change. Each gives the states that it may leave behind: none when its answer does not fit, and
/// more than one when nobody knows whether it took effect.
pub(crate) trait Subject: Clone + Eq + Hash {
    type Operation;

    fn after(&self, operation: &Self::Operation) -> Vec<Self>;
}

/// Which operations are in the order already: all before `first`, and some after it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
struct Ordered {
    first: usize,
    later: Vec<usize>,
}

impl Ordered {
    fn has(&self, index: usize) -> bool {
        index < self.first || self.later.binary_search(&index).is_ok()
    }

    fn with(&self, index: usize) -> Self {
        let mut with = self.clone();
        with.later.insert(with.later.partition_point(|later| *later < index), index);
        while with.later.first() == Some(&with.first) {
            with.later.remove(0);
            with.first += 1;
        }
        with
    }

    fn count(&self) -> usize {
        self.first + self.later.len()
    }
}

/// Err: how many operations can be explained at most, and which came next.
pub(crate) fn linearizable<S: Subject>(start: S, history: &[Spanned<S::Operation>]) -> Result<(), (usize, Vec<usize>)> {
    let mut history: Vec<(usize, &Spanned<_>)> = history.iter().enumerate().collect();
    history.sort_by_key(|(_, operation)| operation.call);
    let (mut tried, mut furthest) = (HashSet::new(), (0, Vec::new()));
    let mut open = vec![(Ordered::default(), start)];
    while let Some((ordered, state)) = open.pop() {
        if ordered.first == history.len() {
            return Ok(());
        }
        // Only those may come next that were called before any other of the rest had returned.
        let rest = || (ordered.first..history.len()).filter(|index| !ordered.has(*index));
        let mut bound = u64::MAX;
        for index in rest() {
            if history[index].1.call > bound {
                break;
            }
            bound = bound.min(history[index].1.end);
        }
        let next: Vec<_> = rest().take_while(|index| history[*index].1.call <= bound).collect();
        if ordered.count() >= furthest.0 {
            furthest = (ordered.count(), next.iter().map(|index| history[*index].0).collect());
        }
        for index in next.into_iter().rev() {
            for after in state.after(&history[index].1.operation) {
                let step = (ordered.with(index), after);
                if tried.insert(step.clone()) {
                    open.push(step);
                }
            }
        }
    }
    Err(furthest)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A register of a number.
    #[derive(Clone, Debug, PartialEq, Eq, Hash)]
    struct Register(u32);

    #[derive(Clone, Copy, Debug)]
    enum Act {
        Read(u32),
        Write(u32),
        /// Expected, new, whether it was.
        Swap(u32, u32, bool),
        /// A write whose answer never came.
        Lost(u32),
    }
    use Act::{Lost, Read, Swap, Write};

    impl Subject for Register {
        type Operation = Act;

        fn after(&self, act: &Act) -> Vec<Self> {
            match *act {
                Read(value) if value == self.0 => vec![self.clone()],
                Write(value) => vec![Self(value)],
                Swap(old, new, true) if old == self.0 => vec![Self(new)],
                Swap(old, _, false) if old != self.0 => vec![self.clone()],
                Lost(value) => vec![self.clone(), Self(value)],
                _ => vec![],
            }
        }
    }

    fn holds(history: &[(u64, u64, Act)]) -> bool {
        let spanned =
            |(call, end, operation): &(u64, u64, Act)| Spanned { call: *call, end: *end, operation: *operation };
        let history: Vec<_> = history.iter().map(spanned).collect();
        linearizable(Register(0), &history).is_ok()
    }

    #[test]
    fn what_one_after_another_does_is_linearizable() {
        assert!(holds(&[]));
        assert!(holds(&[
            (1, 2, Read(0)),
            (3, 4, Write(1)),
            (5, 6, Read(1)),
            (7, 8, Swap(1, 2, true)),
            (9, 10, Read(2))
        ]));
    }

    #[test]
    fn what_overlaps_may_come_in_any_order() {
        assert!(holds(&[(1, 10, Write(1)), (2, 3, Read(0)), (4, 5, Read(1))]));
        assert!(holds(&[(1, 10, Write(1)), (2, 9, Write(2)), (11, 12, Read(1))]));
        assert!(holds(&[(1, 4, Swap(0, 1, true)), (2, 3, Swap(0, 2, false)), (5, 6, Read(1))]));
    }

    #[test]
    fn a_stale_read_is_noticed() {
        assert!(!holds(&[(1, 2, Write(1)), (3, 4, Read(0))]));
    }

    #[test]
    fn reads_that_go_back_are_noticed() {
        assert!(!holds(&[(1, 10, Write(1)), (2, 3, Read(1)), (4, 5, Read(0))]));
    }

    #[test]
    fn a_lost_update_is_noticed() {
        assert!(!holds(&[(1, 10, Swap(0, 1, true)), (2, 9, Swap(0, 2, true))]));
        assert!(!holds(&[(1, 2, Write(1)), (3, 6, Write(2)), (4, 5, Write(3)), (7, 8, Read(1))]));
    }

    #[test]
    fn a_write_without_an_answer_happens_or_not_but_not_after_its_end_and_not_twice() {
        assert!(holds(&[(1, 2, Lost(1)), (3, 4, Read(0)), (5, 6, Read(0))]));
        assert!(holds(&[(1, 2, Lost(1)), (3, 4, Read(1))]));
        assert!(!holds(&[(1, 2, Lost(1)), (3, 4, Read(0)), (5, 6, Read(1))]));
        assert!(holds(&[(1, 7, Lost(1)), (3, 4, Read(0)), (5, 6, Read(1))]));
        assert!(!holds(&[(1, 9, Lost(1)), (2, 3, Read(1)), (4, 5, Write(0)), (6, 7, Read(1))]));
    }

    #[test]
    fn what_cannot_be_explained_is_named() {
        let history = [(1, 2, Write(1)), (3, 4, Read(1)), (5, 6, Read(7))];
        let history = history.map(|(call, end, operation)| Spanned { call, end, operation });
        assert_eq!(linearizable(Register(0), &history), Err((2, vec![2])));
    }
}
