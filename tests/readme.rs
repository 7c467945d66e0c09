//! The README's word is kept: its configuration is accepted as it stands, its commands exist, its files are there.

use std::path::Path;
use std::process::{Command, Output};

const README: &str = include_str!("../README.md");

fn nightporter(arguments: &[&str], directory: &Path) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_nightporter"));
    command.args(arguments).current_dir(directory).env_remove("NIGHTPORTER_CONFIG").output().unwrap()
}

/// The content of the only fenced block in `language`.
fn block(language: &str) -> &'static str {
    let (_, rest) = README.split_once(&format!("```{language}\n")).expect("it is in the README");
    rest.split_once("```").expect("it ends").0
}

#[test]
fn the_configuration_is_accepted() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    std::fs::create_dir(at("portals")).unwrap();
    std::fs::copy(concat!(env!("CARGO_MANIFEST_DIR"), "/data/portals/acme.toml"), at("portals/acme.toml")).unwrap();
    for secret in ["mail-password", "phone-secret", "acme-password"] {
        std::fs::write(at(secret), "open sesame\n").unwrap();
    }
    std::fs::write(at("nightporter.toml"), block("toml")).unwrap();
    let output = nightporter(&["check-config", "--config", "nightporter.toml"], dir.path());
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn the_commands_exist() {
    let (_, rest) = README.split_once("\nCommands: ").expect("they are listed");
    let list = rest.split_once(';').unwrap().0;
    let commands: Vec<_> = list.split('`').skip(1).step_by(2).collect();
    assert!(commands.len() > 5, "{commands:?}");
    for command in commands {
        let mut words: Vec<_> = command.split([' ', '|']).collect();
        // Of `token add|list|revoke`, each with the word before.
        let first = words.remove(0);
        let uses =
            if words.is_empty() { vec![vec![first]] } else { words.iter().map(|word| vec![first, word]).collect() };
        for mut arguments in uses {
            arguments.push("--help");
            let output = nightporter(&arguments, Path::new("."));
            assert!(output.status.success(), "{arguments:?}");
        }
    }
}

#[test]
fn the_files_are_there() {
    for path in README.split(['`', '(', ')', ' ', '\n']).filter(|word| word.contains('/') && !word.contains(['$', '…']))
    {
        let ours = ["data/", "systemd/", "src/", "benches/"].iter().any(|folder| path.starts_with(folder));
        let path = path.trim_end_matches(['.', ',']);
        if ours && path != "data/store" {
            assert!(Path::new(env!("CARGO_MANIFEST_DIR")).join(path).exists(), "{path}");
        }
    }
}
