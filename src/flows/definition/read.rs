//! Reading a definition, table by table. Says what is wrong with each part; how the parts agree is judged in `graph`.

use std::ops::RangeInclusive;
use std::time::Duration;

use hyper::Method;
use hyper::header::HeaderName;
use url::Url;

use super::call::{Call, Json, Name, Place};
use super::graph::{self, Mention, Role};
use super::{Background, Definition, Note, RESERVED, Transition, Work};
use crate::calls::{self, Part, Predicate, Template};
use crate::config::{self, Field, SecretUse, Section, choice, duration, integer, is_loopback, text};
use crate::flows::{Kind, MAX_TEXT};

/// The life of a flow.
const TTL: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(366 * 86_400);
/// One attempt of a call. Requests wait for calls before a transition, so they must end before a client gives up.
const TIMEOUT: RangeInclusive<Duration> = Duration::from_millis(100)..=Duration::from_secs(120);
/// The wait after a first failure.
const BACKOFF: RangeInclusive<Duration> = Duration::from_millis(100)..=Duration::from_secs(600);
/// Transitions of a flow, and calls of one of them: a flow is not a program.
const MOST: usize = 100;
/// Flags of a flow: every record carries the names of those that are set.
pub(in crate::flows) const FLAGS: usize = 32;

const KINDS: &[(&str, Kind)] =
    &[("info", Kind::Info), ("success", Kind::Success), ("warning", Kind::Warning), ("error", Kind::Error)];
const METHODS: &[(&str, Method)] = &[
    ("GET", Method::GET),
    ("POST", Method::POST),
    ("PUT", Method::PUT),
    ("PATCH", Method::PATCH),
    ("DELETE", Method::DELETE),
];

/// What is gathered on the way through the tables.
struct Walk<'a> {
    mentions: Vec<Mention>,
    secrets: &'a mut Vec<SecretUse>,
}

/// Reads the whole document; where it asks for secrets goes into `secrets`.
pub(super) fn definition(root: &Section<'_>, secrets: &mut Vec<SecretUse>) -> Option<Definition> {
    let mut walk = Walk { mentions: Vec::new(), secrets };
    let ttl = root.or("ttl", "24h", duration::within(TTL));
    let initial = root.required("initial", word);
    walk.mention(root, "initial", Role::Initial, initial.as_deref());
    let progress = words(root, "progress", &mut walk, Role::Flag);
    if let Some(flags) = progress.as_ref().filter(|flags| flags.len() > FLAGS) {
        root.problem(format!("progress: {} flags, a flow has at most {FLAGS}", flags.len()));
    }
    let finals = words(root, "final", &mut walk, Role::Final);
    let transitions = match root.field("transition") {
        None => {
            root.problem("no [[transition]] is declared");
            None
        }
        Some(field) => transitions(&field, &mut walk),
    };
    root.finish();
    let (initial, transitions) = (initial?, transitions?);
    let mut definition = Definition { ttl: ttl?, initial, progress: progress?, finals: finals?, transitions };
    graph::check(&mut definition, &walk.mentions, root);
    Some(definition)
}

fn transitions(field: &Field<'_>, walk: &mut Walk<'_>) -> Option<Vec<Transition>> {
    let items = field.read(Field::items)?;
    if items.len() > MOST {
        field.problem(format!("{} transitions, a flow has at most {MOST}", items.len()));
        return None;
    }
    let mut read: Vec<Transition> = Vec::new();
    for (index, item) in items.iter().enumerate() {
        let Some(section) = item.read(Field::section) else { continue };
        let Some(transition) = transition(&section, index, walk) else { continue };
        if read.iter().any(|other| other.name == transition.name) {
            item.problem(format!("there is a transition \"{}\" already", transition.name));
        }
        read.push(transition);
    }
    (read.len() == items.len()).then_some(read)
}

fn transition(section: &Section<'_>, index: usize, walk: &mut Walk<'_>) -> Option<Transition> {
    let name = section.required("name", |field| {
        let name = word(field)?;
        if RESERVED.contains(&name.as_str()) { Err(format!("\"{name}\" is a route of every flow")) } else { Ok(name) }
    });
    let from = words(section, "from", walk, Role::From(index));
    if from.as_ref().is_some_and(Vec::is_empty) {
        section.problem("from is missing: the states that this leads out of");
    }
    let to = section.required("to", word);
    walk.mention(section, "to", Role::To(index), to.as_deref());
    let set = words(section, "set", walk, Role::Set);
    let copy = pairs(section, "copy", |field| {
        let text = field.text()?;
        Place::parse(text).ok_or_else(|| format!("\"{text}\" is no place in the data: names with dots between"))
    });
    let message = note(section);
    let failure = section.optional("failure", said);
    let work = work(section, index, walk);
    section.finish();
    let (name, from, to, set, copy) = (name?, from?, to?, set?, copy?);
    Some(Transition { name, from, to, set, copy, message: message?, failure, work: work? })
}

fn work(section: &Section<'_>, index: usize, walk: &mut Walk<'_>) -> Option<Work> {
    match (section.field("call"), section.field("background")) {
        (None, None) => Some(Work::None),
        (Some(field), None) => Some(Work::Call(Box::new(call(&field, true, walk)?))),
        (None, Some(field)) => Some(Work::Background(Box::new(background(&field.read(Field::section)?, index, walk)?))),
        (Some(field), Some(_)) => {
            field.problem("call and background are both set: what comes first?; make two transitions of them");
            None
        }
    }
}

fn background(section: &Section<'_>, index: usize, walk: &mut Walk<'_>) -> Option<Background> {
    let calls = match section.field("calls") {
        None => {
            section.problem("calls is missing: what is done in the background");
            None
        }
        Some(field) => calls_of(&field, walk),
    };
    let done = section.required("done", word);
    walk.mention(section, "done", Role::To(index), done.as_deref());
    let failed = section.required("failed", word);
    walk.mention(section, "failed", Role::To(index), failed.as_deref());
    let set = words(section, "set", walk, Role::Set);
    let attempts = section.or("attempts", "3", integer(1..=20));
    let backoff = section.or("backoff", "5s", duration::within(BACKOFF));
    let (message, failure) = (note(section), section.optional("failure", said));
    section.finish();
    let (calls, done, set, failed) = (calls?, done?, set?, failed?);
    Some(Background { calls, done, set, failed, attempts: attempts?, backoff: backoff?, message: message?, failure })
}

fn calls_of(field: &Field<'_>, walk: &mut Walk<'_>) -> Option<Vec<Call>> {
    let items = field.read(Field::items)?;
    if !(1..=MOST).contains(&items.len()) {
        field.problem(format!("{} calls, expected 1 to {MOST}", items.len()));
        return None;
    }
    let calls: Vec<Call> = items.iter().filter_map(|item| call(item, false, walk)).collect();
    (calls.len() == items.len()).then_some(calls)
}

/// A call; `waited` for when it stands before a transition.
fn call(field: &Field<'_>, waited: bool, walk: &mut Walk<'_>) -> Option<Call> {
    let section = field.read(Field::section)?;
    let method = section.or("method", "POST", method);
    let url = section.required("url", url);
    if let (Some(url), Some(field)) = (&url, section.field("url")) {
        warn_of_clear_text(url, &field);
    }
    let headers = pairs_of(&section, "headers", header_name, header_value);
    let json = section.field("json").map(|field| field.read(|field| Json::parse(field.json()?)));
    let expect = section.field("expect").map(|field| calls::read_predicate(&field.read(Field::section)?));
    let save = pairs(&section, "save", |field| {
        let text = field.text()?;
        calls::pointer(text).map(|()| text.to_owned())
    });
    let timeout = section.or("timeout", "15s", duration::within(TIMEOUT));
    let retries = if waited { section.or("retries", "2", integer(0..=5)) } else { Some(0) };
    section.finish();
    let expect = match expect {
        Some(expect) => expect?,
        None => Predicate::successful(),
    };
    let json = match json {
        Some(json) => Some(json?),
        None => None,
    };
    let (method, url, headers, save) = (method?, url?, headers?, save?);
    let call = Call { method, url, headers, json, expect, save, timeout: timeout?, retries: retries? };
    walk.secrets_of(&section, &call);
    Some(call)
}

fn method(field: &Field<'_>) -> Result<Method, String> {
    let word = field.text()?;
    let words: Vec<&str> = METHODS.iter().map(|(word, _)| *word).collect();
    let found = METHODS.iter().find(|(known, _)| *known == word).map(|(_, method)| method.clone());
    found.ok_or_else(|| config::unknown(&format!("value \"{word}\""), word, &words))
}

/// Who is called is the operator's to say: no gap may stand in scheme, host or port.
fn url(field: &Field<'_>) -> Result<Template<Name>, String> {
    let text = text(field)?;
    let template: Template<Name> = Template::parse(&text).map_err(|error| error.to_string())?;
    let expected = "expected an address such as https://provider.example/path; gaps only behind the host".to_owned();
    let Some(Part::Text(start)) = template.parts().first() else { return Err(expected) };
    let gapless = template.parts().len() == 1;
    let rest = start.strip_prefix("https://").or_else(|| start.strip_prefix("http://"));
    if rest.is_none_or(|rest| !gapless && !rest.contains('/')) {
        return Err(expected);
    }
    let filled = template.render(|_| Some("x".into())).map_err(|_| expected.clone())?;
    let url = Url::parse(filled.expose()).map_err(|_| expected.clone())?;
    let bare = url.username().is_empty() && url.password().is_none() && url.fragment().is_none();
    if url.has_host() && bare { Ok(template) } else { Err(expected) }
}

fn warn_of_clear_text(url: &Template<Name>, field: &Field<'_>) {
    let Some(Part::Text(start)) = url.parts().first() else { return };
    let host = Url::parse(start).ok().and_then(|url| url.host_str().map(str::to_owned));
    if start.starts_with("http://") && !host.is_some_and(|host| is_loopback(&host)) {
        field.warning("http:// sends what the call carries in the clear");
    }
}

fn header_name(field: &Field<'_>, name: &str) -> Result<HeaderName, String> {
    let _ = field;
    let header = HeaderName::try_from(name).map_err(|_| format!("\"{name}\" is not a header's name"))?;
    let ours = ["host", "content-length", "transfer-encoding", "connection", "content-type", "accept-encoding"];
    if ours.contains(&header.as_str()) { Err(format!("{header} is set by itself")) } else { Ok(header) }
}

fn header_value(field: &Field<'_>) -> Result<Template<Name>, String> {
    let template: Template<Name> = Template::parse(field.text()?).map_err(|error| error.to_string())?;
    if !template.literals().all(|text| text.bytes().all(|byte| (b' '..=b'~').contains(&byte))) {
        return Err("a header's value is one line of printable ASCII".to_owned());
    }
    Ok(template)
}

fn note(section: &Section<'_>) -> Option<Option<Note>> {
    let Some(field) = section.field("message") else { return Some(None) };
    let section = field.read(Field::section)?;
    let kind = section.or("type", "info", choice(KINDS));
    let text = section.required("text", said);
    section.finish();
    Some(Some(Note { kind: kind?, text: text? }))
}

/// Reads what a flow says.
fn said(field: &Field<'_>) -> Result<String, String> {
    let text = text(field)?;
    if text.len() > MAX_TEXT { Err(format!("longer than {MAX_TEXT} bytes")) } else { Ok(text) }
}

/// Reads the name of a state, a flag or a transition.
fn word(field: &Field<'_>) -> Result<String, String> {
    let name = field.text()?;
    if config::is_name(name) {
        return Ok(name.to_owned());
    }
    Err("a name is 1 to 64 of a-z, 0-9, \"_\" and \"-\", and starts with a letter or a digit".to_owned())
}

/// A list of names, none twice, each of which is noted.
fn words(section: &Section<'_>, key: &str, walk: &mut Walk<'_>, role: Role) -> Option<Vec<String>> {
    let words = section.list(key, word)?;
    let items = section.field(key).into_iter().flat_map(|field| field.items().unwrap_or_default());
    for (index, (item, word)) in items.zip(&words).enumerate() {
        if words[..index].contains(word) {
            item.problem(format!("\"{word}\" is there already"));
        }
        walk.note(&item, role, word);
    }
    Some(words)
}

/// A table from places in the data, none within another, to something else.
fn pairs<T>(
    section: &Section<'_>,
    key: &str,
    value: impl Fn(&Field<'_>) -> Result<T, String>,
) -> Option<Vec<(Place, T)>> {
    let place = |_: &Field<'_>, name: &str| {
        Place::parse(name).ok_or_else(|| format!("\"{name}\" is no place in the data: names with dots between"))
    };
    let pairs = pairs_of(section, key, place, value)?;
    for (index, (place, _)) in pairs.iter().enumerate() {
        if let Some((other, _)) = pairs[..index].iter().find(|(other, _)| other.overlaps(place)) {
            section.problem(format!("{key}: {place} and {other} are one within the other"));
        }
    }
    Some(pairs)
}

fn pairs_of<K, T>(
    section: &Section<'_>,
    key: &str,
    name: impl Fn(&Field<'_>, &str) -> Result<K, String>,
    value: impl Fn(&Field<'_>) -> Result<T, String>,
) -> Option<Vec<(K, T)>> {
    let entries = section.section_or_empty(key)?.entries();
    let count = entries.len();
    let one = |(text, field): (String, Field<'_>)| {
        let key = field.read(|field| name(field, &text))?;
        Some((key, field.read(&value)?))
    };
    let good: Vec<_> = entries.into_iter().filter_map(one).collect();
    (good.len() == count).then_some(good)
}

impl Walk<'_> {
    /// Notes that the value of a key names a state.
    fn mention(&mut self, section: &Section<'_>, key: &str, role: Role, word: Option<&str>) {
        if let (Some(field), Some(word)) = (section.field(key), word) {
            self.note(&field, role, word);
        }
    }

    /// Notes where a call asks for secrets.
    fn secrets_of(&mut self, section: &Section<'_>, call: &Call) {
        let headers = section.section_or_empty("headers").map(|headers| headers.entries()).unwrap_or_default();
        let headers = headers.into_iter().map(|(_, field)| field).zip(call.headers.iter().map(|(_, value)| value));
        for (field, template) in section.field("url").into_iter().zip([&call.url]).chain(headers) {
            self.secrets_in(&field, template.variables());
        }
        if let (Some(field), Some(json)) = (section.field("json"), &call.json) {
            self.secrets_in(&field, json.gaps().into_iter());
        }
    }

    fn secrets_in<'n>(&mut self, field: &Field<'_>, gaps: impl Iterator<Item = &'n Name>) {
        let secrets = gaps.filter_map(|gap| if let Name::Secret(name) = gap { Some(name.clone()) } else { None });
        let used = |name| SecretUse { name, place: field.place().clone(), key: field.key().to_owned() };
        self.secrets.extend(secrets.map(used));
    }

    fn note(&mut self, field: &Field<'_>, role: Role, word: &str) {
        let (place, key) = (field.place().clone(), field.key().to_owned());
        self.mentions.push(Mention { role, word: word.to_owned(), place, key });
    }
}
