//! What an operator sees of the flows of a kind: by state and age, and which are stuck. Reads only.

use std::sync::Arc;
use std::time::Duration;

use super::record::FlowRecord;
use super::{Flow, FlowError, Flows};
use crate::clock::Time;

/// Flows on a page at most.
pub const MAX_PAGE: usize = 500;
/// Flows read in one hop.
const AT_ONCE: usize = 64;
/// Flows looked at for one page, so that a filter that fits none ends.
const LOOKED_AT: usize = 20_000;
/// How long a call may be overdue before the flow counts as stuck: longer than any call and its repetitions take.
const OVERDUE: Duration = Duration::from_secs(15 * 60);

/// Which flows are wanted.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// Those in this state.
    pub status: Option<String>,
    /// Those that have been in their state for at least so long.
    pub older_than: Option<Duration>,
    /// Those that are stuck.
    pub stuck: bool,
}

/// Why a flow does not go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stuck {
    /// Its work in the background has failed for good; it can be tried again.
    Failed,
    /// A call is long overdue.
    Overdue,
    /// The disk is nearly full, and its call is made or noted when there is room.
    StorageFull,
    /// The definition has no such state any more.
    UnknownState,
}

impl Stuck {
    /// The word that clients switch on.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Failed => "failed",
            Self::Overdue => "overdue",
            Self::StorageFull => "storage_full",
            Self::UnknownState => "unknown_state",
        }
    }
}

impl Flow {
    /// Whether it is stuck at `now`, and why.
    pub fn stuck(&self, now: Time) -> Option<Stuck> {
        let record = &self.record;
        if !self.declared.as_ref().is_some_and(|declared| declared.definition.knows(&record.status)) {
            return Some(Stuck::UnknownState);
        }
        if record.failed.is_some() {
            return Some(Stuck::Failed);
        }
        if self.waiting {
            return Some(Stuck::StorageFull);
        }
        let claimed = record.claim.as_ref().map(|claim| claim.since);
        let since = claimed.or(record.job.as_ref().map(|job| job.due));
        since.filter(|since| now.since(*since) >= OVERDUE).map(|_| Stuck::Overdue)
    }
}

impl Flows {
    /// Up to `limit` flows of a kind that `filter` wants, in the order of their ids, after the id `after`; and the id to
    /// go on after when there may be more.
    ///
    /// # Errors
    /// [`FlowError::UnknownFlow`], or a failing store.
    pub async fn list(
        &self,
        flow: &str,
        filter: &Filter,
        after: Option<&str>,
        limit: usize,
    ) -> Result<(Vec<Arc<Flow>>, Option<String>), FlowError> {
        self.declared(flow)?;
        let (prefix, now) = (format!("{flow}/"), self.0.clock.now());
        let (mut found, mut looked) = (Vec::new(), 0);
        let mut after = after.map(|id| format!("{prefix}{id}"));
        loop {
            let page = self.0.store.list_under::<FlowRecord>(&prefix, after.as_deref(), AT_ONCE).await?;
            let last = page.len() < AT_ONCE;
            looked += page.len();
            for (key, stored) in page {
                let one = self.seen(flow, &key[prefix.len()..], stored);
                after = Some(key);
                if filter.wants(&one, now) {
                    found.push(one);
                }
                if found.len() == limit.clamp(1, MAX_PAGE) {
                    return Ok((found, after.map(|key| key[prefix.len()..].to_owned())));
                }
            }
            if last || looked >= LOOKED_AT {
                let next = after.filter(|_| !last).map(|key| key[prefix.len()..].to_owned());
                return Ok((found, next));
            }
        }
    }
}

impl Filter {
    fn wants(&self, flow: &Flow, now: Time) -> bool {
        self.status.as_ref().is_none_or(|status| status == flow.status())
            && self.older_than.is_none_or(|age| now.since(flow.since()) >= age)
            && (!self.stuck || flow.stuck(now).is_some())
    }
}
