//! JSON Merge Patch (RFC 7396) on text: values that the patch does not touch keep every digit and character, which a
//! detour over floating-point numbers would not give.

use std::collections::BTreeMap;

use serde_json::value::{RawValue, to_raw_value};

type Members<'a> = BTreeMap<String, &'a RawValue>;

/// Merges `patch` into the JSON text `target`; an absent target is an empty object. None when one of them is no JSON.
pub(super) fn merge(target: Option<&str>, patch: &RawValue) -> Option<String> {
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
}
