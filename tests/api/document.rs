//! An API description as its reader takes it: by its word.

use std::collections::BTreeSet;
use std::sync::Mutex;

use serde_json::Value;

/// The description, and which of its answers have occurred.
pub(crate) struct Document {
    whole: Value,
    occurred: Mutex<BTreeSet<(String, String, String)>>,
}

/// One method of one path.
#[derive(Clone, Debug)]
pub(crate) struct Operation {
    pub(crate) method: String,
    pub(crate) path: String,
    declared: Value,
}

impl Operation {
    /// The scope that a token needs; None when anybody may ask.
    pub(crate) fn scope(&self) -> Option<String> {
        self.declared["security"][0]["operator"][0].as_str().map(str::to_owned)
    }

    /// Whether it takes a user's access token.
    pub(crate) fn is_for_users(&self) -> bool {
        self.declared["security"][0]["user"].is_array()
    }

    pub(crate) fn sends_body(&self) -> bool {
        self.declared["requestBody"].is_object()
    }

    pub(crate) fn responses(&self) -> &serde_json::Map<String, Value> {
        self.declared["responses"].as_object().unwrap()
    }
}

impl Document {
    pub(crate) fn new(whole: Value) -> Self {
        assert!(whole["openapi"].as_str().unwrap().starts_with("3."), "{whole}");
        assert_eq!(whole["components"]["securitySchemes"]["operator"]["scheme"], "bearer");
        Self { whole, occurred: Mutex::default() }
    }

    pub(crate) fn operations(&self) -> Vec<Operation> {
        let mut all = Vec::new();
        for (path, item) in self.whole["paths"].as_object().unwrap() {
            for (method, declared) in item.as_object().unwrap().iter().filter(|(_, declared)| declared.is_object()) {
                // A wildcard is axum's own word; the document's readers know `{path}` only.
                let (method, path) = (method.to_uppercase(), path.replace("{*", "{"));
                all.push(Operation { method, path, declared: declared.clone() });
            }
        }
        all
    }

    pub(crate) fn operation(&self, method: &str, path: &str) -> Operation {
        let found = self.operations().into_iter().find(|one| one.method == method && one.path == path);
        found.unwrap_or_else(|| panic!("{method} {path} is not described"))
    }

    /// Fails unless the answer is one that the operation declares.
    pub(crate) fn check(&self, operation: &Operation, status: u16, kind: &str, told: &Value, what: &str) {
        let status = status.to_string();
        let responses = operation.responses();
        let key = if responses.contains_key(&status) { status } else { "default".to_owned() };
        let declared = responses.get(&key).unwrap_or_else(|| panic!("{what}: that status is not described"));
        let noted = (operation.method.clone(), operation.path.clone(), key);
        self.occurred.lock().unwrap().insert(noted);
        let Some(content) = declared["content"].as_object() else { return };
        if operation.method == "HEAD" {
            return;
        }
        let media = kind.split(';').next().unwrap_or_default();
        let content = content.get(media).unwrap_or_else(|| panic!("{what}: that media type is not described"));
        if media.ends_with("json") {
            self.fits(&content["schema"], told, "", what);
        }
    }

    /// What is declared and has not occurred.
    pub(crate) fn never_occurred(&self) -> Vec<(Operation, String)> {
        let occurred = self.occurred.lock().unwrap();
        let mut missing = Vec::new();
        for operation in self.operations() {
            for status in operation.responses().keys() {
                let noted = (operation.method.clone(), operation.path.clone(), status.clone());
                if !occurred.contains(&noted) {
                    missing.push((operation.clone(), status.clone()));
                }
            }
        }
        missing
    }

    /// Fails unless `value` is what `schema` says, all members included; a problem may have more.
    fn fits(&self, schema: &Value, value: &Value, at: &str, what: &str) {
        if let Some(name) = schema["$ref"].as_str() {
            let pointed =
                self.whole.pointer(name.trim_start_matches('#')).unwrap_or_else(|| panic!("{name} leads nowhere"));
            return self.fits(pointed, value, at, what);
        }
        if let Some(choices) = schema["oneOf"].as_array() {
            let null = |choice: &&Value| choice["type"] == "null";
            if value.is_null() && choices.iter().any(|choice| null(&choice)) {
                return;
            }
            let other: Vec<_> = choices.iter().filter(|choice| !null(choice)).collect();
            assert_eq!(other.len(), 1, "{what}: {at}: a choice that this reader does not know");
            return self.fits(other[0], value, at, what);
        }
        let kinds: Vec<&str> = match &schema["type"] {
            Value::Array(kinds) => kinds.iter().filter_map(Value::as_str).collect(),
            Value::String(kind) => vec![kind],
            _ => panic!("{what}: {at}: no type in {schema}"),
        };
        let kind = match value {
            Value::Null => "null",
            Value::Bool(_) => "boolean",
            Value::Number(_) => "integer",
            Value::String(_) => "string",
            Value::Array(_) => "array",
            Value::Object(_) => "object",
        };
        assert!(kinds.contains(&kind), "{what}: {at} is {kind}, not {kinds:?}");
        match value {
            Value::String(text) if schema["format"] == "date-time" => {
                assert!(text.len() == 24 && text.ends_with('Z'), "{what}: {at}: {text} is no time in milliseconds");
            }
            Value::Array(items) => items.iter().for_each(|item| self.fits(&schema["items"], item, at, what)),
            // Without a word about its members an object is the client's own.
            Value::Object(_) if schema["properties"].is_null() && schema["additionalProperties"].is_null() => {}
            Value::Object(members) => {
                for name in schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str) {
                    assert!(members.contains_key(name), "{what}: {at}/{name} is missing");
                }
                for (name, member) in members {
                    let at = format!("{at}/{name}");
                    let known = [&schema["properties"][name], &schema["additionalProperties"]];
                    match known.into_iter().find(|schema| schema.is_object()) {
                        Some(schema) => self.fits(schema, member, &at, what),
                        None => assert!(members.contains_key("request_id"), "{what}: {at} is not described"),
                    }
                }
            }
            _ => {}
        }
    }
}
