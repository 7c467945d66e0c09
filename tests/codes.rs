//! The labelled corpus of text messages: never a wrong code, and hardly one missed. The figures go to standard output, also
//! where everything passes.

use std::io::Write;

use nightporter::portals::code::{Explanation, Found, Rules, explain, find};
use nightporter::secret::Secret;
use proptest::prelude::{Strategy, any};
use proptest::sample::{Index, select};
use serde::Deserialize;

const CORPUS: &str = include_str!("codes/corpus.toml");
const HELD_OUT: &str = include_str!("codes/held_out.toml");

#[derive(Deserialize)]
struct Collection {
    message: Vec<Message>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Message {
    text: String,
    expect: String,
    #[serde(default = "six")]
    length: usize,
    #[serde(default)]
    anchors: Vec<String>,
    pattern: Option<String>,
    #[serde(default = "acme")]
    host: String,
}

fn six() -> usize {
    6
}

fn acme() -> String {
    "login.acme.example".to_owned()
}

impl Message {
    fn rules(&self) -> Rules {
        let pattern = self.pattern.as_ref().map(|pattern| regex::Regex::new(pattern).unwrap());
        let (length, anchors) = (self.length, self.anchors.clone());
        Rules { length, anchors, pattern, host: Some(self.host.clone()) }
    }

    /// The code that is right, if there is one.
    fn code(&self) -> Option<&str> {
        (!matches!(self.expect.as_str(), "none" | "ambiguous")).then_some(self.expect.as_str())
    }

    /// The answer in the words of the corpus.
    fn answer(&self, text: &str) -> String {
        match find(text, &self.rules()) {
            Found::Code(code) => code.expose().to_owned(),
            Found::Nothing => "none".to_owned(),
            Found::Ambiguous => "ambiguous".to_owned(),
        }
    }
}

fn messages(collection: &str) -> Vec<Message> {
    toml::from_str::<Collection>(collection).unwrap().message
}

fn all() -> Vec<Message> {
    [CORPUS, HELD_OUT].iter().flat_map(|collection| messages(collection)).collect()
}

fn rules(length: usize) -> Rules {
    Rules { length, anchors: Vec::new(), pattern: None, host: Some(acme()) }
}

fn found(code: &str) -> Found {
    Found::Code(Secret::new(code))
}

/// How an answer compares with the right one.
#[derive(Default)]
struct Tally {
    coded: usize,
    right: usize,
    wrong: Vec<String>,
    missed: Vec<String>,
}

impl Tally {
    fn of(messages: &[Message]) -> Self {
        let mut tally = Self::default();
        for message in messages {
            let answer = message.answer(&message.text);
            let told = format!("{:?}: {} instead of {}", message.text, answer, message.expect);
            tally.coded += usize::from(message.code().is_some());
            match (message.code(), answer.as_str()) {
                (Some(code), answer) if code == answer => tally.right += 1,
                (Some(_), "none" | "ambiguous") => tally.missed.push(told),
                (None, answer) if answer == message.expect => {}
                _ => tally.wrong.push(told),
            }
        }
        tally
    }

    fn percent(part: usize, whole: usize) -> f64 {
        100.0 * part as f64 / whole as f64
    }
}

/// Past the harness, which keeps what a passing test prints to itself.
fn tell(line: &str) {
    writeln!(std::io::stdout().lock(), "{line}").unwrap();
}

#[test]
fn no_code_is_ever_wrong_and_hardly_one_is_missed() {
    for (name, collection) in [("corpus", CORPUS), ("held out", HELD_OUT)] {
        let messages = messages(collection);
        let tally = Tally::of(&messages);
        let precision = Tally::percent(tally.right, tally.right + tally.wrong.len());
        let (total, coded, right) = (messages.len(), tally.coded, tally.right);
        tell(&format!(
            "codes, {name}: {total} messages, {coded} with a code: precision {precision:.1} %, recall {:.1} % ({right} found, {} wrong)",
            Tally::percent(right, coded),
            tally.wrong.len()
        ));
        for missed in &tally.missed {
            tell(&format!("codes, {name}: missed {missed}"));
        }
        assert!(tally.wrong.is_empty(), "{name}: {:#?}", tally.wrong);
    }
    let all = all();
    let tally = Tally::of(&all);
    assert!(all.len() >= 150 && all.len() - tally.coded >= 40, "the corpus has shrunk");
    assert!(Tally::percent(tally.right, tally.coded) >= 97.0, "missed: {:#?}", tally.missed);
}

#[test]
fn the_recipes_anchors_count_before_the_built_in_words() {
    let mut rules = rules(6);
    assert_eq!(find("승인번호 123456", &rules), Found::Nothing);
    rules.anchors = vec!["승인번호".to_owned()];
    assert_eq!(find("승인번호 123456", &rules), found("123456"));
}

#[test]
fn a_pattern_overrides_and_two_matches_refuse() {
    let pattern = |text: &str| Rules { pattern: Some(regex::Regex::new(text).unwrap()), ..rules(6) };
    let grouped = pattern(r"key ([A-Z]{4})");
    assert_eq!(find("code 123456, key ABCD", &grouped), found("ABCD"));
    assert_eq!(find("key ABCD, again key ABCD", &grouped), found("ABCD"));
    assert_eq!(find("key ABCD, key EFGH", &grouped), Found::Ambiguous);
    assert_eq!(find("인증번호 123456", &grouped), Found::Nothing);
    assert_eq!(find("x 12-34", &pattern(r"\d\d-\d\d")), found("12-34"));
    assert_eq!(find("x", &pattern("")), Found::Nothing);
}

#[test]
fn a_text_without_end_is_not_looked_at() {
    assert_eq!(find(&format!("인증번호 751539{}", " ".repeat(5000)), &rules(6)), Found::Nothing);
    // One character of this kind becomes eighteen.
    assert_eq!(find(&format!("인증번호 751539 {}", "\u{FDFA}".repeat(4000)), &rules(6)), Found::Nothing);
}

#[test]
fn a_text_of_the_full_length_made_to_be_slow_is_looked_at_all_the_same() {
    for part in
        ["1", "1 ", "code ", "code 1", "인증번호 123456 ", "a.", "a@", "1-", "12:", "[(", "번호", "@a.b #1 ", "$1,"]
    {
        let text: String = part.chars().cycle().take(4096).collect();
        explain(&text, &rules(6));
    }
}

/// What is found has the recipe's form and stands in the text.
fn sound(explanation: &Explanation, length: usize) -> bool {
    let Found::Code(code) = &explanation.found else { return true };
    let spoken: String = explanation.text.expose().chars().filter(|c| !matches!(c, ' ' | '-')).collect();
    let code = code.expose();
    code.len() == length && code.bytes().all(|b| b.is_ascii_alphanumeric()) && spoken.contains(code)
}

/// Lines as other parts of a message or a forwarder add them, without a code.
fn unrelated() -> impl Strategy<Value = String> {
    let two = |range| any::<Index>().prop_map(move |index: Index| format!("{:02}", 1 + index.index(range)));
    let four = || any::<Index>().prop_map(|index| format!("{:04}", index.index(10_000)));
    proptest::prop_oneof![
        (two(12), two(28)).prop_map(|(month, day)| format!("2025-{month}-{day}")),
        (two(12), two(28)).prop_map(|(month, day)| format!("2025년 {month}월 {day}일")),
        (two(12), two(28)).prop_map(|(month, day)| format!("2025{month}{day}")),
        (two(12), two(28), two(23)).prop_map(|(month, day, hour)| format!("{month}/{day} {hour}:35")),
        (two(23), two(59)).prop_map(|(hour, minute)| format!("{hour}:{minute}:07")),
        four().prop_map(|last| format!("1588-{last}")),
        (four(), four()).prop_map(|(middle, last)| format!("010-{middle}-{last}")),
        (four(), four()).prop_map(|(middle, last)| format!("+82 10-{middle}-{last}")),
        (four(), four()).prop_map(|(middle, last)| format!("문의 010{middle}{last}")),
        four().prop_map(|last| format!("고객센터 02-123-{last}")),
        (two(99), four()).prop_map(|(front, last)| format!("{front}{last}원")),
        two(99).prop_map(|front| format!("잔액 {front},345원")),
        (two(99), four()).prop_map(|(front, last)| format!("₩{front}{last}")),
        two(99).prop_map(|front| format!("$1,2{front}.56")),
        four().prop_map(|last| format!("1234-****-****-{last}")),
        four().prop_map(|last| format!("신한카드({last})")),
    ]
}

proptest::proptest! {
    #![proptest_config(proptest::test_runner::Config { rng_seed: proptest::test_runner::RngSeed::Fixed(3), cases: 2000, failure_persistence: None, ..Default::default() })]

    /// Whatever a stranger writes, the search ends, and what it gives has the form that was asked for and is there.
    #[test]
    fn any_text_is_survived(text in r"(인증번호|code|[0-9０-９]{1,8}|[ .,:\-/*\n\[\]@#+]|\PC){0,40}", length in 0_usize..10) {
        proptest::prop_assert!(sound(&explain(&text, &rules(length)), length));
    }

    /// A date, a phone or an amount on a line of its own never makes another number the code.
    #[test]
    fn an_unrelated_line_never_misleads(message in select(all()), line in unrelated(), at in any::<Index>()) {
        let mut lines: Vec<&str> = message.text.lines().collect();
        lines.insert(at.index(lines.len() + 1), &line);
        let text = lines.join("\n");
        let answer = message.answer(&text);
        let right = answer == message.expect || matches!(answer.as_str(), "none" | "ambiguous");
        proptest::prop_assert!(right, "{text:?}: {answer} instead of {}", message.expect);
    }
}
