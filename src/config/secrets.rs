//! Where secrets come from: an inline value, a file beside it, or systemd's credentials directory; exactly one of them.
//!
//! Never from the command line, which every user of the machine can read, and never into a message: what is wrong with
//! a secret is told without it.

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use zeroize::Zeroizing;

use super::problem::{Place, list};
use super::read::{Field, Section};
use crate::secret::Secret;

/// The longest secret, in bytes: more is the wrong file.
const LONGEST: u64 = 64 * 1024;

/// What the summary shows in place of every secret.
const SHOWN: &str = "[secret]";

/// The secret `name` of a section; its absence is a problem that tells all three ways to give it.
pub(crate) fn required(section: &Section<'_>, name: &str) -> Option<Secret> {
    let given = given(section, name);
    if given.is_empty() {
        let key = section.path_to(name);
        let reason = format!("missing: set {name}, or {name}_file, or the credential \"{key}\"");
        section.reading().problem(section.place(), &key, reason);
    }
    take(section, name, &given)
}

/// The secret `name` of a section, if it is given.
pub(crate) fn optional(section: &Section<'_>, name: &str) -> Option<Secret> {
    take(section, name, &given(section, name))
}

/// Whether the secret is given in any way.
pub(crate) fn is_given(section: &Section<'_>, name: &str) -> bool {
    !given(section, name).is_empty()
}

/// Where the secret is given; the section's place when it is not.
pub(crate) fn place(section: &Section<'_>, name: &str) -> Place {
    match given(section, name).first() {
        Some(source) => source.place(section, name),
        None => section.place().clone(),
    }
}

/// Whether others than owner and group can read the file.
pub(crate) fn exposed(path: &Path) -> Option<u32> {
    let mode = fs::metadata(path).ok()?.permissions().mode() & 0o777;
    (mode & 0o004 != 0).then_some(mode)
}

/// One way in which a secret is given.
enum Source<'r> {
    Inline(Field<'r>),
    Beside(Field<'r>),
    Credential(std::path::PathBuf),
}

impl Source<'_> {
    fn place(&self, section: &Section<'_>, name: &str) -> Place {
        match self {
            Self::Inline(field) | Self::Beside(field) => field.place().clone(),
            Self::Credential(_) => Place::Credential { name: section.path_to(name) },
        }
    }
}

fn given<'r>(section: &Section<'r>, name: &str) -> Vec<Source<'r>> {
    let credential = section.reading().credentials.as_ref().map(|directory| directory.join(section.path_to(name)));
    let inline = section.field(name).map(Source::Inline);
    let beside = section.field(&format!("{name}_file")).map(Source::Beside);
    let credential = credential.filter(|path| path.exists()).map(Source::Credential);
    [inline, beside, credential].into_iter().flatten().collect()
}

fn take(section: &Section<'_>, name: &str, given: &[Source<'_>]) -> Option<Secret> {
    let key = section.path_to(name);
    let described = |source: &Source<'_>| match source {
        Source::Inline(field) | Source::Beside(field) => format!("{} ({})", field.key(), field.place()),
        Source::Credential(_) => format!("the credential \"{key}\""),
    };
    match given {
        [] => None,
        [Source::Inline(field)] => inline(section, field),
        [Source::Beside(field)] => {
            let path = field.read(Field::path)?;
            if let Some(mode) = exposed(&path) {
                field.warning(format!("{} is readable by every user (mode {mode:o}); make it 0600", path.display()));
            }
            let secret = field.read(|_| from_file(&path))?;
            section.reading().setting(&key, SHOWN.to_owned(), field.place());
            section.reading().setting(field.key(), path.display().to_string(), field.place());
            Some(secret)
        }
        [Source::Credential(path)] => {
            let place = Place::Credential { name: key.clone() };
            match from_file(path) {
                Ok(secret) => {
                    section.reading().setting(&key, SHOWN.to_owned(), &place);
                    Some(secret)
                }
                Err(reason) => {
                    section.reading().problem(&place, &key, reason);
                    None
                }
            }
        }
        several => {
            let ways: Vec<String> = several.iter().map(described).collect();
            section.reading().problem(
                &several[0].place(section, name),
                &key,
                format!("given more than once: {}; keep one", list(&ways)),
            );
            None
        }
    }
}

fn inline(section: &Section<'_>, field: &Field<'_>) -> Option<Secret> {
    if let Place::Flag { .. } = field.place() {
        field.problem("a secret is never taken from the command line, where every user can read it");
        return None;
    }
    let secret = field.read(|field| match field.text() {
        Ok("") => Err("must not be empty".to_owned()),
        Ok(text) => Ok(Secret::new(text)),
        Err(reason) => Err(reason),
    })?;
    if let Place::File { file, .. } = field.place()
        && let Some(mode) = exposed(file)
    {
        let reason = "a secret is written in a file that every user can read";
        field.warning(format!("{reason} (mode {mode:o}); make it 0640, or use {}_file", field.key()));
    }
    section.reading().setting(field.key(), SHOWN.to_owned(), field.place());
    Some(secret)
}

/// The secret in a file, without the newline that ends it; in words why there is none.
pub(crate) fn from_file(path: &Path) -> Result<Secret, String> {
    let failed = |error: io::Error| format!("cannot read {}: {error}", path.display());
    let file = File::open(path).map_err(failed)?;
    // A pipe or a device could keep the start waiting for ever.
    if !file.metadata().map_err(failed)?.is_file() {
        return Err(format!("{} is not a file", path.display()));
    }
    let mut text = Zeroizing::new(String::new());
    file.take(LONGEST + 1).read_to_string(&mut text).map_err(failed)?;
    if text.len() as u64 > LONGEST {
        return Err(format!("{} is longer than {LONGEST} bytes", path.display()));
    }
    // Editors and `echo` end a file with one newline; a second one was meant.
    let trimmed = text.strip_suffix('\n').map_or(text.as_str(), |text| text.strip_suffix('\r').unwrap_or(text));
    if trimmed.is_empty() {
        return Err(format!("{} is empty", path.display()));
    }
    Ok(Secret::new(trimmed))
}
