//! A flow as it stands at one version: what clients and operators see of it. Reads only.

use std::sync::Arc;

use super::Declared;
use super::record::{FlowRecord, Message};
use crate::clock::Time;

/// A flow as it stands.
#[derive(Clone, Debug)]
pub struct Flow {
    /// Its kind.
    pub flow: String,
    /// Its id within the kind.
    pub id: String,
    /// Grows by one with every change.
    pub version: u64,
    /// From this millisecond on it is gone.
    pub expires_at: Time,
    /// A call of it waits for room on the disk.
    pub(super) waiting: bool,
    pub(super) record: FlowRecord,
    pub(super) declared: Option<Arc<Declared>>,
}

impl Flow {
    /// The present state.
    pub fn status(&self) -> &str {
        &self.record.status
    }

    /// When it last changed.
    pub fn since(&self) -> Time {
        self.record.since
    }

    /// The client's object, as text.
    pub fn data(&self) -> &str {
        &self.record.data
    }

    /// Every flag, and whether it is set: those of the definition, then those that were set by an earlier one.
    pub fn progress(&self) -> impl Iterator<Item = (&str, bool)> {
        let declared: &[String] = self.declared.as_ref().map_or(&[], |declared| &declared.definition.progress);
        let set = |flag: &String| self.record.flags.contains(flag);
        let earlier = self.record.flags.iter().filter(|flag| !declared.contains(flag));
        declared.iter().map(move |flag| (flag.as_str(), set(flag))).chain(earlier.map(|flag| (flag.as_str(), true)))
    }

    /// The newest messages; all of them while they are few.
    pub fn newest(&self) -> &[Message] {
        &self.record.tail
    }

    /// How many messages there are.
    pub fn messages(&self) -> u64 {
        self.record.messages()
    }

    /// The transition whose call is under way, or whose work is done in the background.
    pub fn running(&self) -> Option<&str> {
        let claim = self.record.claim.as_ref().map(|claim| claim.transition.as_str());
        claim.or(self.record.job.as_ref().map(|job| job.transition.as_str()))
    }

    /// The transitions that may be taken now.
    pub fn legal(&self) -> Vec<&str> {
        let claimed = self.record.claim.is_some();
        let declared = self.declared.iter().filter(|_| !claimed);
        declared
            .flat_map(|declared| declared.definition.legal(&self.record.status))
            .map(|one| one.name.as_str())
            .collect()
    }

    /// When it was begun.
    pub fn created_at(&self) -> Time {
        self.record.created_at
    }

    /// When it was last changed.
    pub fn updated_at(&self) -> Time {
        self.record.updated_at
    }

    /// Whether it has come to a state that nothing leads out of.
    pub fn is_over(&self) -> bool {
        self.declared.as_ref().is_some_and(|declared| declared.definition.is_final(&self.record.status))
    }

    /// About how much memory it takes, in bytes.
    pub(super) fn size(&self) -> usize {
        let said: usize = self.record.tail.iter().map(|message| message.text.len() + 48).sum();
        512 + self.record.data.len() + said + self.record.applied.len() * 8
    }
}
