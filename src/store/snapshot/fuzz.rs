//! What must hold of a snapshot whatever its bytes are: for the fuzzer (`make fuzz`), and for its corpus in the tests.

use std::collections::BTreeMap;

use super::format::{FORMAT, Head, MAGIC};
use super::reader::{Reader, verify};
use super::writer::Writer;
use crate::clock::Time;
use crate::store::engine::Table;
use crate::store::key::Key;
use crate::store::record;

/// Reads `data` as a snapshot, as the frames of one and as the pairs of one. Nothing may panic; what is written must be
/// read the same; and one that is changed in any byte must be refused.
#[expect(clippy::expect_used, reason = "panics are what the fuzzer looks for")]
pub fn snapshot(data: &[u8]) {
    // Neither is a snapshot but by a rare chance: it counts that they come to an end.
    let _ = (verify(data), verify(&framed(data)[..]));
    let pairs = pairs(data);
    let mut writer = Writer::new(&Head::new(Time::from_millis(7)));
    for ((_, key), (table, value)) in &pairs {
        writer.put(*table, key, value).expect("each of them may be in a snapshot");
    }
    writer.finish();
    let mut bytes = writer.take();
    let mut reader = Reader::open(&bytes[..]).expect("what was written can be read");
    for ((_, key), (table, value)) in &pairs {
        let item = reader.next().expect("as above").expect("it is one of those written");
        assert_eq!((item.table, item.key, item.value), (*table, &key[..], &value[..]));
    }
    assert!(reader.next().expect("as above").is_none(), "more is read than was written");
    reader.finish().expect("it was read to its end");
    if let [a, b, c, change, ..] = *data
        && change != 0
    {
        let at = usize::from_le_bytes([a, b, c, 0, 0, 0, 0, 0]) % bytes.len();
        bytes[at] ^= change;
        assert!(verify(&bytes[..]).is_err(), "byte {at} is another, and nobody notices");
    }
}

/// `data` as frames with the right numbers and checksums: a kind, a length of two bytes and a body each.
fn framed(mut data: &[u8]) -> Vec<u8> {
    let mut bytes = [&MAGIC[..], &[FORMAT]].concat();
    let mut number = 0_u32;
    while let [kind, low, high, rest @ ..] = data {
        let (body, after) = rest.split_at(usize::from(u16::from_le_bytes([*low, *high])).min(rest.len()));
        let start = bytes.len();
        bytes.push(*b"HRFEX".get(usize::from(*kind % 8)).unwrap_or(kind));
        bytes.extend(number.to_le_bytes());
        bytes.extend((body.len() as u32).to_le_bytes());
        bytes.extend(body);
        bytes.extend(crc32fast::hash(&bytes[start..]).to_le_bytes());
        (number, data) = (number + 1, after);
    }
    bytes
}

type Pairs = BTreeMap<(bool, Vec<u8>), (Table, Vec<u8>)>;

/// `data` as pairs in the order of a snapshot: records with the checksums that they need, and floors.
fn pairs(mut data: &[u8]) -> Pairs {
    let mut pairs = Pairs::new();
    while let [length, id, rest @ ..] = data {
        let (content, after) = rest.split_at(usize::from(*length).min(rest.len()));
        if let Some((key, value)) =
            content.split_first_chunk::<4>().and_then(|(key, value)| Some((key, value.first_chunk::<8>()?)))
            && length % 4 == 0
        {
            pairs.insert((true, key.to_vec()), (Table::Floors, value.to_vec()));
        } else {
            let key = format!("kind{}/{id}", id % 4);
            let envelope = Key::from_bytes(key.as_bytes()).map(|named| {
                // Format, schema and flags, version, expiry; the length of the payload; the payload.
                let payload = content.get(16..).unwrap_or_default();
                let mut head = [0; 16];
                head[..content.len().min(16)].copy_from_slice(&content[..content.len().min(16)]);
                let body = [&[1, *id, 0][..], &head, &(payload.len() as u32).to_le_bytes(), payload].concat();
                record::sealed(&named, &body)
            });
            pairs.extend(envelope.map(|envelope| ((false, key.into_bytes()), (Table::Records, envelope))));
        }
        data = after;
    }
    pairs
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_corpus_of_snapshots_holds() {
        for case in std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/fuzz/corpus/snapshot")).unwrap() {
            snapshot(&std::fs::read(case.unwrap().path()).unwrap());
        }
    }
}
