//! What must hold of a stored record whatever its bytes are: for the fuzzer (`make fuzz`), and for its corpus in the tests.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::key::Key;
use super::record::{self, Record};

/// One field of every shape that records have.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Sample {
    text: String,
    number: u64,
    signed: i32,
    flag: bool,
    maybe: Option<Box<Sample>>,
    bytes: Vec<u8>,
    names: BTreeMap<String, Option<u16>>,
    choice: Choice,
    time: crate::clock::Time,
    id: uuid::Uuid,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum Choice {
    Nothing,
    Text(String),
    Both { left: u8, right: (char, u32) },
}

impl Record for Sample {
    const SPACE: &'static str = "sample";
    const SCHEMA: u8 = 2;
}

/// Reads `data` as a record and as a key. Neither may panic, and what is read must come out the same when it is written
/// and read again. Mutated bytes never have the right checksum, so they are tried with it too.
#[expect(clippy::expect_used, reason = "panics are what the fuzzer looks for")]
pub fn record(data: &[u8]) {
    let key = Key::from_bytes(b"sample/fuzz").expect("it is one");
    // Unsealed data is refused but in one of four thousand million cases.
    let _ = record::decode::<Sample>(&key, data);
    if let Ok(stored) = record::decode::<Sample>(&key, &record::sealed(&key, data)) {
        let written = record::encode(&key, &stored).expect("what was read can be written");
        let again = record::decode::<Sample>(&key, &written).expect("what was written can be read");
        assert_eq!(again, stored);
    }
    if let Ok(key) = Key::from_bytes(data) {
        assert_eq!(key.as_bytes(), data);
        assert_eq!(format!("{}/{}", key.space(), key.id()), key.to_string());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Stored;

    #[test]
    fn the_corpus_of_records_holds() {
        for case in std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/fuzz/corpus/record")).unwrap() {
            record(&std::fs::read(case.unwrap().path()).unwrap());
        }
    }

    /// The seeds in the corpus are still records: a new schema of `Sample` would leave the fuzzer without a start.
    #[test]
    fn the_corpus_has_records_of_every_shape() {
        let small = Sample {
            text: "김하늘".to_owned(),
            number: 300,
            signed: -7,
            flag: true,
            maybe: None,
            bytes: vec![1, 2, 3],
            names: BTreeMap::from([("a".to_owned(), None), ("b".to_owned(), Some(9))]),
            choice: Choice::Both { left: 1, right: ('가', 70_000) },
            time: crate::clock::Time::from_millis(1_700_000_000_000),
            id: uuid::Uuid::from_u128(7),
        };
        let large =
            Sample { maybe: Some(Box::new(small.clone())), choice: Choice::Text("x".repeat(300)), ..small.clone() };
        let key = Key::of::<Sample>("fuzz").unwrap();
        for (name, value) in [("small", small), ("large", large)] {
            let stored = Stored { version: 7, expires: None, value };
            let mut bytes = record::encode(&key, &stored).unwrap();
            bytes.truncate(bytes.len() - 4);
            let seed = format!("{}/fuzz/corpus/record/{name}", env!("CARGO_MANIFEST_DIR"));
            let hex = data_encoding::HEXLOWER.encode(&bytes);
            assert!(std::fs::read(&seed).is_ok_and(|seed| seed == bytes), "{seed} must be {hex}");
        }
    }
}
