//! What must hold of a configuration whatever its text is: for the fuzzer (`make fuzz`), and for its corpus in the tests.

use std::os::fd::AsRawFd;
use std::path::PathBuf;

use super::{Config, Place, Sources};

/// Loads `data`, a TOML file, and behind a NUL the lines `NAME=value` of an environment. It must not panic, and what it
/// complains about must be found where it says: a line of the file, or a variable that is there.
#[expect(clippy::expect_used, reason = "panics are what the fuzzer looks for")]
pub fn config(data: &[u8]) {
    let (file, environment) = match data.iter().position(|byte| *byte == 0) {
        Some(end) => (&data[..end], &data[end + 1..]),
        None => (data, &[][..]),
    };
    let memory = rustix::fs::memfd_create("config", rustix::fs::MemfdFlags::CLOEXEC).expect("memory is there");
    rustix::io::write(&memory, file).expect("a file in memory takes it");
    let environment = String::from_utf8_lossy(environment);
    let env: Vec<_> = environment.lines().filter_map(|line| line.split_once('=')).map(owned).collect();
    let path = PathBuf::from(format!("/proc/self/fd/{}", memory.as_raw_fd()));
    let sources = Sources { file: Some(path.clone()), env: env.clone(), ..Sources::default() };
    let lines = file.split(|byte| *byte == b'\n').count();
    if let Err(error) = Config::load(&sources) {
        assert!(!error.problems.is_empty(), "refused without a reason");
        for problem in &error.problems {
            assert!(!problem.to_string().chars().any(char::is_control), "not fit to print: {problem:?}");
            match &problem.place {
                Place::File { file, line } => assert!(*file == path && *line <= lines, "{problem:?}"),
                Place::Environment { name } => assert!(env.iter().any(|(given, _)| given == name), "{problem:?}"),
                Place::Flag { .. } | Place::Credential { .. } | Place::Default => {}
            }
        }
    }
}

fn owned((name, value): (&str, &str)) -> (String, String) {
    (name.to_owned(), value.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_corpus_of_configurations_holds() {
        for case in std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/fuzz/corpus/config")).unwrap() {
            config(&std::fs::read(case.unwrap().path()).unwrap());
        }
    }
}
