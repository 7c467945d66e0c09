//! A disk with a cache that a power cut empties, fed with the system calls of a recording.
//!
//! What it believes, on purpose less than what Linux file systems give:
//! - A write is safe once an fsync or fdatasync of its file, begun after the write had returned, has returned. Until then
//!   each of its blocks (of 4096 or 512 bytes, so that a write tears) is, independently, as it was before or as any later
//!   write left it.
//! - The length of a file is independent of its blocks: blocks beyond it are cut off, missing ones read as zeros.
//! - A name (made, renamed, removed) is safe once its directory has been fsynced. Of the others some survive, in each
//!   directory the oldest: file systems journal names in order.
//!
//! What it does not: disks that lie about flushes, bits that rot, and writes that tear below 512 bytes.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use nightporter::ids::Random;

use super::trace::{Call, Event, Trace};

/// The files below one directory.
#[derive(Debug)]
pub(crate) struct Disk {
    root: PathBuf,
    /// False: nothing is ever safe, as if the program never synced.
    syncs: bool,
    files: Vec<File>,
    /// Names as the program sees them, and those that are safe.
    live: Names,
    safe: Names,
    /// Changes of names that are not safe, oldest first.
    renaming: Vec<(usize, Naming)>,
    named: usize,
    /// Where each descriptor stands.
    offsets: HashMap<i64, u64>,
    /// What a sync that is under way will make safe, by its call.
    syncing: HashMap<usize, Vec<usize>>,
}

type Names = BTreeMap<PathBuf, Node>;

#[derive(Clone, Copy, Debug)]
enum Node {
    Directory,
    File(usize),
}

#[derive(Clone, Debug)]
enum Naming {
    Made(PathBuf, Node),
    Moved(PathBuf, PathBuf),
    Removed(PathBuf),
}

#[derive(Debug, Default)]
struct File {
    safe: Vec<u8>,
    /// Length as the program sees it.
    length: u64,
    writes: Vec<Write>,
}

#[derive(Debug)]
struct Write {
    call: usize,
    returned: bool,
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    Bytes(u64, Vec<u8>),
    Length(u64),
}

impl Naming {
    fn directory(&self) -> Option<&Path> {
        match self {
            Self::Made(path, _) | Self::Moved(_, path) | Self::Removed(path) => path.parent(),
        }
    }

    fn apply(&self, names: &mut Names) {
        match self {
            Self::Made(path, node) => drop(names.insert(path.clone(), *node)),
            Self::Removed(path) => drop(names.remove(path)),
            Self::Moved(from, to) if from == to => {}
            Self::Moved(from, to) => {
                // With everything below it, if it is a directory.
                let moved: Vec<_> = names.extract_if(.., |path, _| path.starts_with(from)).collect();
                names.retain(|path, _| !path.starts_with(to));
                let below = |path: &Path| path.strip_prefix(from).map(|rest| to.join(rest)).unwrap_or_default();
                names.extend(moved.into_iter().map(|(path, node)| (below(&path), node)));
            }
        }
    }
}

impl Disk {
    /// One for what is below `root`, with everything on it that is below `content`.
    pub(crate) fn new(root: &Path, content: &Path, syncs: bool) -> Self {
        let mut disk = Self {
            root: root.to_owned(),
            syncs,
            files: Vec::new(),
            live: Names::new(),
            safe: Names::new(),
            renaming: Vec::new(),
            named: 0,
            offsets: HashMap::new(),
            syncing: HashMap::new(),
        };
        disk.take(root, content);
        disk.live = disk.safe.clone();
        disk
    }

    fn take(&mut self, directory: &Path, content: &Path) {
        for entry in std::fs::read_dir(content).unwrap().map(Result::unwrap) {
            let path = directory.join(entry.file_name());
            if entry.file_type().unwrap().is_dir() {
                self.safe.insert(path.clone(), Node::Directory);
                self.take(&path, &entry.path());
            } else {
                let safe = std::fs::read(entry.path()).unwrap();
                self.safe.insert(path, Node::File(self.files.len()));
                self.files.push(File { length: safe.len() as u64, safe, writes: Vec::new() });
            }
        }
    }

    /// The next thing that happened.
    pub(crate) fn happens(&mut self, trace: &Trace, event: Event) {
        match event {
            Event::Entered(index) => self.enter(index, &trace.calls[index]),
            Event::Left(index) => self.leave(index, &trace.calls[index]),
        }
    }

    fn enter(&mut self, index: usize, call: &Call) {
        match call.name.as_str() {
            "write" | "pwrite64" => {
                let Some(file) = self.file(&call.path(0)) else { return };
                let bytes = call.bytes(1);
                let at = match call.name.as_str() {
                    "write" => self.offsets.get(&call.descriptor(0)).copied().unwrap_or(0),
                    _ => call.number(3),
                };
                self.files[file].write(index, Kind::Bytes(at, bytes));
            }
            "ftruncate" => {
                let Some(file) = self.file(&call.path(0)) else { return };
                self.files[file].write(index, Kind::Length(call.number(1)));
            }
            "fsync" | "fdatasync" => {
                let path = call.path(0);
                let covered = match self.live.get(&path) {
                    Some(Node::File(file)) => self.files[*file].returned(),
                    _ => {
                        self.renaming.iter().filter(|(_, name)| name.directory() == Some(&path)).map(|n| n.0).collect()
                    }
                };
                self.syncing.insert(index, covered);
            }
            "lseek" | "close" | "openat" | "mkdir" | "unlink" | "rename" | "renameat" | "sync_file_range" => {}
            "mmap" => {
                let shared = call.has(3, "MAP_SHARED") && call.has(2, "PROT_WRITE");
                assert!(!shared || !self.is_ours(&call.path(4)), "the model does not know writable maps: {call:?}");
            }
            _ => {
                assert!(!call.paths().any(|path| self.is_ours(&path)), "the model does not know {call:?}");
            }
        }
    }

    fn leave(&mut self, index: usize, call: &Call) {
        match call.name.as_str() {
            "write" | "pwrite64" | "ftruncate" => {
                let Some(file) = self.file(&call.path(0)) else { return };
                if call.name == "write" {
                    *self.offsets.entry(call.descriptor(0)).or_default() +=
                        call.result.unwrap_or(0).max(0).cast_unsigned();
                }
                self.files[file].left(index, call);
            }
            "lseek" => drop(self.offsets.insert(call.descriptor(0), call.result.unwrap_or(0).max(0).cast_unsigned())),
            "fsync" | "fdatasync" => {
                let covered = self.syncing.remove(&index).unwrap_or_default();
                if call.ok() && self.syncs {
                    self.synced(&call.path(0), &covered);
                }
            }
            "openat" if call.ok() => self.opened(index, call),
            "mkdir" if call.ok() => self.name(Naming::Made(call.path(0), Node::Directory)),
            "unlink" if call.ok() => self.name(Naming::Removed(call.path(0))),
            "rename" if call.ok() => self.name(Naming::Moved(call.path(0), call.path(1))),
            "renameat" if call.ok() => self.name(Naming::Moved(call.path(1), call.path(3))),
            _ => {}
        }
    }

    fn opened(&mut self, index: usize, call: &Call) {
        let path = call.path(1);
        self.offsets.insert(call.result.unwrap_or(-1), 0);
        if !self.is_ours(&path) {
            return;
        }
        assert!(!call.has(2, "O_APPEND"), "the model does not know O_APPEND: {call:?}");
        match self.live.get(&path) {
            None if call.has(2, "O_CREAT") => {
                self.files.push(File::default());
                self.name(Naming::Made(path, Node::File(self.files.len() - 1)));
            }
            Some(Node::File(file)) if call.has(2, "O_TRUNC") => {
                let file = *file;
                self.files[file].write(index, Kind::Length(0));
                self.files[file].left(index, call);
            }
            _ => {}
        }
    }

    fn name(&mut self, naming: Naming) {
        if naming.directory().is_some_and(|directory| directory.starts_with(&self.root)) {
            naming.apply(&mut self.live);
            self.renaming.push((self.named, naming));
            self.named += 1;
        }
    }

    fn synced(&mut self, path: &Path, covered: &[usize]) {
        if let Some(file) = self.file(path) {
            return self.files[file].synced(covered);
        }
        let (now_safe, rest) = std::mem::take(&mut self.renaming).into_iter().partition(|(n, _)| covered.contains(n));
        self.renaming = rest;
        let now_safe: Vec<(usize, Naming)> = now_safe;
        now_safe.iter().for_each(|(_, naming)| naming.apply(&mut self.safe));
    }

    fn is_ours(&self, path: &Path) -> bool {
        path.starts_with(&self.root)
    }

    fn file(&self, path: &Path) -> Option<usize> {
        match self.live.get(path) {
            Some(Node::File(file)) => Some(*file),
            _ => None,
        }
    }

    /// Writes below `target` what is found after a power cut now, one of the many things that may be.
    pub(crate) fn survive(&self, random: &Random, target: &Path) {
        let mut pending = HashMap::<_, u32>::new();
        self.renaming.iter().for_each(|(_, naming)| *pending.entry(naming.directory()).or_default() += 1);
        let mut kept: HashMap<_, u32> =
            pending.into_iter().map(|(directory, count)| (directory, random.below(count + 1))).collect();
        let mut names = self.safe.clone();
        for (_, naming) in &self.renaming {
            let left = kept.get_mut(&naming.directory()).expect("every directory was counted");
            if *left > 0 {
                *left -= 1;
                naming.apply(&mut names);
            }
        }
        let block = if random.below(4) == 0 { 512 } else { 4096 };
        for (path, node) in names {
            let path = target.join(path.strip_prefix(&self.root).expect("all are below the root"));
            match node {
                // A directory comes before what is in it; what is in one that is lost is lost.
                Node::Directory => drop(std::fs::create_dir(path)),
                Node::File(file) => drop(std::fs::write(path, self.files[file].survivor(random, block))),
            }
        }
    }
}

impl File {
    fn write(&mut self, call: usize, kind: Kind) {
        self.length = kind.length(self.length);
        self.writes.push(Write { call, returned: false, kind });
    }

    fn left(&mut self, index: usize, call: &Call) {
        let Some(at) = self.writes.iter().position(|write| write.call == index) else { return };
        if !call.ok() {
            self.writes.remove(at);
            return;
        }
        self.writes[at].returned = true;
        if let Kind::Bytes(_, bytes) = &mut self.writes[at].kind {
            bytes.truncate(usize::try_from(call.result.unwrap_or(0)).unwrap_or(0));
        }
    }

    fn returned(&self) -> Vec<usize> {
        self.writes.iter().filter(|write| write.returned).map(|write| write.call).collect()
    }

    fn synced(&mut self, covered: &[usize]) {
        let covered: std::collections::HashSet<_> = covered.iter().collect();
        let (now_safe, rest): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.writes).into_iter().partition(|write| covered.contains(&write.call));
        self.writes = rest;
        now_safe.iter().for_each(|write| write.kind.apply(&mut self.safe, |_| true, 1 << 20));
    }

    /// Its content after a cut.
    fn survivor(&self, random: &Random, block: u64) -> Vec<u8> {
        let mut touched = BTreeMap::<u64, u32>::new();
        let mut lengths = vec![self.safe.len() as u64];
        for write in &self.writes {
            write.kind.blocks(block).for_each(|block| *touched.entry(block).or_default() += 1);
            lengths.push(write.kind.length(lengths[lengths.len() - 1]));
        }
        let mut kept: BTreeMap<_, _> =
            touched.into_iter().map(|(block, times)| (block, random.below(times + 1))).collect();
        let mut content = self.safe.clone();
        let length = random.below(u32::try_from(lengths.len()).expect("few writes are unsynced")) as usize;
        for (index, write) in self.writes.iter().enumerate() {
            if matches!(write.kind, Kind::Length(_)) && index >= length {
                continue;
            }
            let keep =
                |block| kept.get_mut(&block).is_none_or(|left| std::mem::replace(left, left.saturating_sub(1)) > 0);
            write.kind.apply(&mut content, keep, block);
        }
        content.resize(usize::try_from(lengths[length]).expect("it fits into memory"), 0);
        content
    }
}

impl Kind {
    /// The length of a file of `length` after this.
    fn length(&self, length: u64) -> u64 {
        match self {
            Self::Bytes(at, bytes) => length.max(at + bytes.len() as u64),
            Self::Length(new) => *new,
        }
    }

    fn blocks(&self, block: u64) -> std::ops::Range<u64> {
        match self {
            Self::Bytes(at, bytes) => at / block..(at + bytes.len() as u64).div_ceil(block),
            Self::Length(_) => 0..0,
        }
    }

    /// Makes the change in those blocks that `keep` wants.
    fn apply(&self, content: &mut Vec<u8>, mut keep: impl FnMut(u64) -> bool, block: u64) {
        let (at, bytes) = match self {
            Self::Bytes(at, bytes) => (*at, bytes),
            Self::Length(length) => return content.resize(usize::try_from(*length).expect("it fits into memory"), 0),
        };
        let end = at + bytes.len() as u64;
        for kept in self.blocks(block).filter(|block| keep(*block)) {
            let (from, to) = ((kept * block).max(at), ((kept + 1) * block).min(end));
            let range = |start: u64| (from - start) as usize..(to - start) as usize;
            if content.len() < to as usize {
                content.resize(to as usize, 0);
            }
            content[range(0)].copy_from_slice(&bytes[range(at)]);
        }
    }
}
