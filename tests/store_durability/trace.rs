//! What strace wrote down of a process: the system calls with their bytes, in the order in which the kernel got and
//! answered them.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Whatever puts something on a disk, and the marks among it.
const CALLS: &str = "trace=openat,open,creat,mkdir,mkdirat,rename,renameat,renameat2,unlink,unlinkat,rmdir,link,linkat,\
                     symlink,symlinkat,write,pwrite64,writev,pwritev,pwritev2,lseek,ftruncate,truncate,fallocate,fsync,\
                     fdatasync,sync_file_range,sync,syncfs,mmap,copy_file_range,sendfile,splice,close,dup,dup2,dup3";

/// A system call.
#[derive(Debug)]
pub(crate) struct Call {
    pub(crate) name: String,
    arguments: Vec<String>,
    /// What it returned; None: it was under way when the process died. Negative: it failed.
    pub(crate) result: Option<i64>,
}

/// A moment of a call, which is named by its place in [`Trace::calls`].
#[derive(Clone, Copy, Debug)]
pub(crate) enum Event {
    Entered(usize),
    Left(usize),
}

/// Everything that was recorded.
#[derive(Debug, Default)]
pub(crate) struct Trace {
    pub(crate) calls: Vec<Call>,
    pub(crate) events: Vec<Event>,
}

/// strace, to be given the program and its arguments; it writes to `file`.
pub(crate) fn recorder(file: &Path) -> Command {
    let mut strace = Command::new("strace");
    // Descriptors with their paths, every text in hex, none shortened.
    strace.args(["-f", "-qq", "-y", "-xx", "-s", "16777216", "-e", CALLS, "-e", "signal=none", "-o"]).arg(file);
    strace
}

impl Trace {
    pub(crate) fn parse(text: &str) -> Self {
        let (mut trace, mut under_way) = (Self::default(), HashMap::new());
        // strace died with the process: its last line may be half a one.
        let whole = text.rfind('\n').map_or("", |end| &text[..end]);
        for line in whole.lines() {
            let (process, rest) = line.split_once(' ').unwrap_or_else(|| panic!("no call: {line}"));
            trace.line(process, rest.trim_start(), &mut under_way);
        }
        trace
    }

    fn line<'a>(&mut self, process: &'a str, line: &str, under_way: &mut HashMap<&'a str, usize>) {
        if line.starts_with("+++") || line.starts_with("---") {
            return;
        }
        if line.starts_with("<... ") {
            let Some(call) = under_way.remove(process) else { return };
            self.calls[call].result = result(line);
            self.events.push(Event::Left(call));
            return;
        }
        let (name, rest) = line.split_once('(').unwrap_or_else(|| panic!("no call: {line}"));
        let (arguments, result, ended) = match rest.split_once(" <unfinished ...>") {
            Some((arguments, _)) => (arguments, None, false),
            None => (rest.rsplit_once(") ").map_or(rest, |(arguments, _)| arguments), result(rest), true),
        };
        let arguments = arguments.split(", ").map(|argument| argument.trim_end_matches(',').to_owned()).collect();
        let call = self.calls.len();
        self.calls.push(Call { name: name.to_owned(), arguments, result });
        self.events.push(Event::Entered(call));
        if ended {
            self.events.push(Event::Left(call));
        } else {
            under_way.insert(process, call);
        }
    }
}

/// The number after the last `=`; errors are -1, what is unknown None.
fn result(line: &str) -> Option<i64> {
    let value = line.rsplit_once(" = ")?.1;
    let end = value.find(|letter: char| !letter.is_ascii_digit() && letter != '-').unwrap_or(value.len());
    value[..end].parse().ok()
}

impl Call {
    pub(crate) fn ok(&self) -> bool {
        self.result.is_some_and(|result| result >= 0)
    }

    /// Whether it writes to the standard output.
    pub(crate) fn is_print(&self) -> bool {
        self.name == "write" && self.descriptor(0) == 1
    }

    /// The descriptor that an argument is.
    pub(crate) fn descriptor(&self, index: usize) -> i64 {
        let text = self.argument(index);
        text[..text.find('<').unwrap_or(text.len())].parse().unwrap_or_else(|_| panic!("no descriptor: {self:?}"))
    }

    /// The path of an argument that is one, or a descriptor of one.
    pub(crate) fn path(&self, index: usize) -> PathBuf {
        let text = self.argument(index);
        let hex = text.split(['"', '<', '>']).nth(1).unwrap_or_default();
        PathBuf::from(OsStr::from_bytes(&bytes(hex)))
    }

    /// The paths of all arguments that are one, or a descriptor of one.
    pub(crate) fn paths(&self) -> impl Iterator<Item = PathBuf> {
        (0..self.arguments.len()).map(|index| self.path(index))
    }

    /// The bytes of an argument that is a text.
    pub(crate) fn bytes(&self, index: usize) -> Vec<u8> {
        let text = self.argument(index);
        assert!(text.ends_with('"'), "shortened by strace: {}", self.name);
        bytes(text.trim_matches('"'))
    }

    pub(crate) fn number(&self, index: usize) -> u64 {
        self.argument(index).parse().unwrap_or_else(|_| panic!("no number: {} {}", self.name, self.argument(index)))
    }

    /// Whether a flag is among those of an argument.
    pub(crate) fn has(&self, index: usize, flag: &str) -> bool {
        self.argument(index).split('|').any(|given| given == flag)
    }

    fn argument(&self, index: usize) -> &str {
        self.arguments.get(index).unwrap_or_else(|| panic!("{} has no argument {index}", self.name))
    }
}

/// Undoes `\x68\x69`.
fn bytes(hex: &str) -> Vec<u8> {
    hex.split("\\x").skip(1).map(|byte| u8::from_str_radix(byte, 16).expect("strace writes hex")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_that_others_interrupt_is_one_call() {
        let text = concat!(
            "7  pwrite64(5<\\x2f\\x61>, \"\\x68\\x69\", 2, 4096 <unfinished ...>\n",
            "8  fdatasync(5<\\x2f\\x61>) = 0\n",
            "7  <... pwrite64 resumed>)           = 2\n",
            "8  openat(AT_FDCWD</>, \"\\x2f\\x62\", O_RDONLY|O_CLOEXEC) = -1 ENOENT (No such file or directory)\n",
            "8  +++ killed by SIGKILL +++\n",
            "8  fdatas",
        );
        let trace = Trace::parse(text);
        let told: Vec<_> = trace
            .events
            .iter()
            .map(|event| match event {
                Event::Entered(call) => format!("+{}", trace.calls[*call].name),
                Event::Left(call) => format!("-{}", trace.calls[*call].name),
            })
            .collect();
        assert_eq!(told, ["+pwrite64", "+fdatasync", "-fdatasync", "-pwrite64", "+openat", "-openat"]);
        let write = &trace.calls[0];
        assert_eq!((write.path(0), write.bytes(1), write.number(3)), ("/a".into(), b"hi".to_vec(), 4096));
        assert_eq!((write.result, trace.calls[1].result, trace.calls[2].result), (Some(2), Some(0), Some(-1)));
        assert!(trace.calls[2].has(2, "O_RDONLY") && !trace.calls[2].ok());
    }
}
