//! JSON documents that are kept as text: merged by RFC 7396, looked into and added to. Values that a change does not touch
//! keep every digit and character, which a detour over floating-point numbers would not give. Nothing here knows what a
//! document means.

use std::collections::BTreeMap;

use serde_json::value::{RawValue, to_raw_value};

type Members<'a> = BTreeMap<String, &'a RawValue>;

/// Merges `patch` into the JSON text `target`; an absent target is an empty object. None when one of them is no JSON.
pub fn merge(target: Option<&str>, patch: &RawValue) -> Option<String> {
    let target = target.map(serde_json::from_str::<&RawValue>).transpose().ok()?;
    merged(target, patch).map(|merged| String::from(Box::<str>::from(merged)))
}

/// As deep as both nest together; whoever reads them from a stranger limits that.
fn merged(target: Option<&RawValue>, patch: &RawValue) -> Option<Box<RawValue>> {
    if !patch.get().starts_with('{') {
        return Some(patch.to_owned());
    }
    let old = target.map(RawValue::get).filter(|old| old.starts_with('{')).unwrap_or("{}");
    let (mut result, patch): (Members<'_>, Members<'_>) =
        (serde_json::from_str(old).ok()?, serde_json::from_str(patch.get()).ok()?);
    let mut made = BTreeMap::new();
    for (name, value) in patch {
        let before = result.remove(&name);
        if value.get() != "null" {
            made.insert(name, merged(before, value)?);
        }
    }
    let made = made.iter().map(|(name, value)| (name.clone(), value.as_ref()));
    result.extend(made);
    to_raw_value(&result).ok()
}

/// The value at a JSON pointer (RFC 6901) in the text `document`; None when there is none, or no JSON.
pub fn at<'a>(document: &'a str, pointer: &str) -> Option<&'a RawValue> {
    let mut value: &RawValue = serde_json::from_str(document.strip_prefix('\u{feff}').unwrap_or(document)).ok()?;
    let mut tokens = pointer.split('/');
    if !tokens.next()?.is_empty() {
        return None;
    }
    for token in tokens {
        let token = token.replace("~1", "/").replace("~0", "~");
        value = match value.get().as_bytes().first()? {
            b'{' => serde_json::from_str::<Members<'_>>(value.get()).ok()?.remove(&token)?,
            b'[' => {
                let place: usize = token.parse().ok()?;
                serde_json::from_str::<Vec<&RawValue>>(value.get()).ok()?.into_iter().nth(place)?
            }
            _ => return None,
        };
    }
    Some(value)
}

/// The value at a path of member names; as [`at`].
pub fn within<'a>(document: &'a str, path: &[String]) -> Option<&'a RawValue> {
    path.iter().try_fold(serde_json::from_str(document).ok()?, |value: &RawValue, name| {
        serde_json::from_str::<Members<'_>>(value.get()).ok()?.remove(name)
    })
}

/// The text `document` with `value` at a path of member names, made where they are missing; what is no object on the way
/// becomes one. None when `document` is no JSON.
pub fn put(document: &str, path: &[String], value: &RawValue) -> Option<String> {
    let Some((name, rest)) = path.split_first() else { return Some(value.get().to_owned()) };
    let object = Some(document).filter(|document| document.starts_with('{')).unwrap_or("{}");
    let mut members: Members<'_> = serde_json::from_str(object).ok()?;
    let inner = put(members.get(name).map_or("{}", |old| old.get()), rest, value)?;
    let inner = RawValue::from_string(inner).ok()?;
    members.insert(name.clone(), &inner);
    serde_json::to_string(&members).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn merged_text(target: &str, patch: &str) -> String {
        merge(Some(target), serde_json::from_str(patch).unwrap()).unwrap()
    }

    #[test]
    fn the_examples_of_rfc_7396() {
        for (target, patch, result) in [
            (r#"{"a":"b"}"#, r#"{"a":"c"}"#, r#"{"a":"c"}"#),
            (r#"{"a":"b"}"#, r#"{"b":"c"}"#, r#"{"a":"b","b":"c"}"#),
            (r#"{"a":"b"}"#, r#"{"a":null}"#, "{}"),
            (r#"{"a":"b","b":"c"}"#, r#"{"a":null}"#, r#"{"b":"c"}"#),
            (r#"{"a":["b"]}"#, r#"{"a":"c"}"#, r#"{"a":"c"}"#),
            (r#"{"a":"c"}"#, r#"{"a":["b"]}"#, r#"{"a":["b"]}"#),
            (r#"{"a":{"b":"c"}}"#, r#"{"a":{"b":"d","c":null}}"#, r#"{"a":{"b":"d"}}"#),
            (r#"{"a":[{"b":"c"}]}"#, r#"{"a":[1]}"#, r#"{"a":[1]}"#),
            (r#"["a","b"]"#, r#"["c","d"]"#, r#"["c","d"]"#),
            (r#"{"a":"b"}"#, r#"["c"]"#, r#"["c"]"#),
            (r#"{"a":"foo"}"#, "null", "null"),
            (r#"{"a":"foo"}"#, r#""bar""#, r#""bar""#),
            (r#"{"e":null}"#, r#"{"a":1}"#, r#"{"a":1,"e":null}"#),
            ("[1,2]", r#"{"a":"b","c":null}"#, r#"{"a":"b"}"#),
            ("{}", r#"{"a":{"bb":{"ccc":null}}}"#, r#"{"a":{"bb":{}}}"#),
        ] {
            assert_eq!(merged_text(target, patch), result, "{target} {patch}");
        }
    }

    #[test]
    fn every_digit_and_character_survives() {
        let target = r#"{"n":12345678901234567890123.4500,"가":"나 😀 \ud83d\ude00","e":1e400}"#;
        let result = merged_text(target, r#"{"m":0.10}"#);
        for kept in ["12345678901234567890123.4500", "나 😀 \\ud83d\\ude00", "1e400", "0.10"] {
            assert!(result.contains(kept), "{result}");
        }
    }

    #[test]
    fn values_are_found_and_put_by_their_place() {
        let document = r#"{"ResultData":{"TxId":"가-1","a/b":[{"n":1.50}]},"s":"x"}"#;
        let found = |pointer| at(document, pointer).map(RawValue::get);
        assert_eq!(found("/ResultData/TxId"), Some("\"가-1\""));
        assert_eq!(found("/ResultData/a~1b/0/n"), Some("1.50"));
        assert_eq!(found(""), Some(document));
        assert_eq!(
            (found("/none"), found("/s/deep"), found("/ResultData/a~1b/9"), found("x")),
            (None, None, None, None)
        );
        let path = |text: &str| text.split('.').map(str::to_owned).collect::<Vec<_>>();
        let one = RawValue::from_string("1.0".to_owned()).unwrap();
        assert_eq!(put("{}", &path("a.b"), &one).unwrap(), r#"{"a":{"b":1.0}}"#);
        assert_eq!(put(r#"{"a":7,"나":2.50}"#, &path("a.b"), &one).unwrap(), r#"{"a":{"b":1.0},"나":2.50}"#);
        assert_eq!(within(r#"{"a":{"b":1e400}}"#, &path("a.b")).map(RawValue::get), Some("1e400"));
        assert!(within(r#"{"a":1}"#, &path("a.b")).is_none());
    }
}
