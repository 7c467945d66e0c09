//! What the writer said that it would do and what was acknowledged to it, and whether a store agrees with that.

use std::collections::{BTreeMap, BTreeSet};

use nightporter::store::{Store, Stored};

use super::writer::{Entry, is_mortal};

/// Everything known about the changes so far.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ledger {
    /// Changes that were sent and not acknowledged, by serial.
    open: BTreeMap<String, Sent>,
    keys: BTreeMap<String, Key>,
    /// How many changes were acknowledged.
    pub(crate) acknowledged: u64,
}

#[derive(Clone, Debug)]
struct Sent {
    id: String,
    delete: bool,
}

/// What is known about one key.
#[derive(Clone, Debug, Default)]
struct Key {
    /// Which change made which version, as far as that was acknowledged or seen in the store.
    versions: BTreeMap<u64, String>,
    /// The highest version that is known to have been removed.
    removed: u64,
}

impl Key {
    fn highest(&self) -> u64 {
        self.versions.last_key_value().map_or(0, |(version, _)| *version)
    }
}

impl Ledger {
    /// Takes down a line of the writer's; true: it was an acknowledgement.
    pub(crate) fn note(&mut self, line: &str) -> Result<bool, String> {
        match line.trim_end().split(' ').collect::<Vec<_>>()[..] {
            ["try", serial, kind, id] => {
                let sent = Sent { id: id.to_owned(), delete: kind == "delete" };
                self.open.insert(serial.to_owned(), sent);
                Ok(false)
            }
            ["ack", serial, version] => {
                let sent =
                    self.open.remove(serial).ok_or_else(|| format!("{serial} was acknowledged, but not sent"))?;
                self.acknowledged += 1;
                let version = version.parse().map_err(|_| format!("no version: {line}"))?;
                let key = self.keys.entry(sent.id.clone()).or_default();
                if sent.delete {
                    key.removed = key.removed.max(version);
                } else if let Some(other) = key.versions.insert(version, serial.to_owned()) {
                    return Err(format!("{serial} and {other} were both given version {version} of {}", sent.id));
                }
                Ok(true)
            }
            _ => Ok(false),
        }
    }

    /// Compares the store, whose writer is gone, with what is known, and takes over what it settles. Tells everything
    /// that does not fit.
    pub(crate) async fn compare(&mut self, store: &Store) -> Vec<String> {
        let stored = match store.list::<Entry>(None, usize::MAX).await {
            Ok(stored) => BTreeMap::from_iter(stored),
            Err(error) => return vec![error.to_string()],
        };
        let ids: BTreeSet<_> =
            stored.keys().chain(self.keys.keys()).chain(self.open.values().map(|sent| &sent.id)).cloned().collect();
        let faults = ids.iter().flat_map(|id| match stored.get(id) {
            Some(record) => self.present(id, record),
            None => self.absent(id),
        });
        let faults = faults.collect();
        // A deletion that has not happened by now never will.
        self.open.retain(|_, sent| !sent.delete);
        faults
    }

    fn present(&mut self, id: &str, record: &Stored<Entry>) -> Vec<String> {
        let mut faults = Vec::new();
        let version = record.version;
        let Some(serial) = record.value.serial() else { return vec![format!("{id}: damaged content")] };
        let key = self.keys.entry(id.to_owned()).or_default();
        if version < key.highest() {
            faults.push(format!("{id}: fell back to version {version} from {}", key.highest()));
        }
        if version <= key.removed {
            faults.push(format!("{id}: version {version} came back, {} was removed", key.removed));
        }
        match key.versions.get(&version) {
            Some(known) if known == serial => {}
            Some(known) => faults.push(format!("{id}: version {version} is {serial}, acknowledged to {known}")),
            None => match self.open.remove(serial) {
                Some(sent) if sent.id == id && !sent.delete => {
                    key.versions.insert(version, serial.to_owned());
                }
                _ => {
                    faults
                        .push(format!("{id}: version {version} is {serial}, which nobody sent or another version is"));
                }
            },
        }
        let unknown = (1..=version).filter(|version| !key.versions.contains_key(version)).count();
        let open = self.open.values().filter(|sent| sent.id == id && !sent.delete).count();
        if unknown > open {
            faults.push(format!(
                "{id}: {unknown} versions up to {version} were given to nobody, {open} changes are open"
            ));
        }
        faults
    }

    fn absent(&mut self, id: &str) -> Vec<String> {
        let deleting = self.open.values().any(|sent| sent.id == id && sent.delete);
        let key = self.keys.entry(id.to_owned()).or_default();
        let highest = key.highest();
        if highest > key.removed && !deleting && !is_mortal(id) {
            return vec![format!("{id}: version {highest} is missing")];
        }
        key.removed = key.removed.max(highest);
        Vec::new()
    }
}
