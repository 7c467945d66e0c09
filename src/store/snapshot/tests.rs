//! The snapshot reader against every kind of damage, on snapshots of a few records.

use proptest::prelude::*;
use serde::{Deserialize, Serialize};

use super::format::{Head, Kind, MAGIC, MAX_BODY, pair_head};
use super::reader::Reader;
use super::writer::Writer;
use super::{Damage, Manifest, verify};
use crate::clock::Time;
use crate::store::engine::Table;
use crate::store::record::{self, Record, Stored};
use crate::store::{Key, MAX_PAYLOAD};

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Note(String);

impl Record for Note {
    const SPACE: &'static str = "note";
    const SCHEMA: u8 = 3;
}

fn pair(id: &str, text: &str) -> (Vec<u8>, Vec<u8>) {
    let key = Key::of::<Note>(id).unwrap();
    let stored = Stored { version: 1, expires: None, value: Note(text.to_owned()) };
    let envelope = record::encode(&key, &stored).unwrap();
    (key.to_string().into_bytes(), envelope)
}

fn snapshot(pairs: &[(Vec<u8>, Vec<u8>)]) -> Vec<u8> {
    let mut writer = Writer::new(&Head::new(Time::from_millis(1_700_000_000_000)));
    for (key, value) in pairs {
        writer.put(Table::Records, key, value).unwrap();
    }
    writer.put(Table::Floors, &[0, 0, 0, 7], &9_u64.to_le_bytes()).unwrap();
    writer.finish();
    writer.take()
}

fn sample() -> Vec<u8> {
    snapshot(&[pair("a", "하나"), pair("b", "둘"), pair("c", "셋")])
}

/// One frame, as the writer would write it.
fn frame(kind: Kind, number: u32, body: &[u8]) -> Vec<u8> {
    let head = [&[kind as u8][..], &number.to_le_bytes(), &(body.len() as u32).to_le_bytes()].concat();
    let all = [&head, body].concat();
    [&all[..], &crc32fast::hash(&all).to_le_bytes()].concat()
}

fn joined(pairs: &[&(Vec<u8>, Vec<u8>)]) -> Vec<u8> {
    pairs.iter().flat_map(|(key, value)| [&pair_head(key, value)[..], key, value].concat()).collect()
}

/// A snapshot of these frames of records, each with a right checksum, and no end.
fn forged(frames: &[(Kind, Vec<u8>)]) -> Vec<u8> {
    let head = serde_json::to_vec(&Head::new(Time::from_millis(0))).unwrap();
    let mut bytes = [&MAGIC[..], &[1], &frame(Kind::Head, 0, &head)].concat();
    for (number, (kind, body)) in frames.iter().enumerate() {
        bytes.extend(frame(*kind, number as u32 + 1, body));
    }
    bytes
}

fn reason(bytes: &[u8]) -> String {
    verify(bytes).unwrap_err().reason
}

#[test]
fn a_whole_snapshot_tells_what_is_in_it() {
    let manifest: Manifest = verify(&*sample()).unwrap();
    assert_eq!((manifest.format, manifest.records, manifest.floors), (1, 3, 1));
    assert_eq!(manifest.created_at, Time::from_millis(1_700_000_000_000));
    let note = &manifest.kinds["note"];
    assert_eq!((note.records, note.schemas.iter().copied().collect::<Vec<_>>()), (3, vec![3]));
    assert_eq!(verify(&*snapshot(&[])).unwrap().records, 0);
}

#[test]
fn many_large_records_take_many_frames() {
    let pairs: Vec<_> = (0..40).map(|n| pair(&format!("{n:02}"), &"가".repeat(MAX_PAYLOAD / 3 - 10))).collect();
    let bytes = snapshot(&pairs);
    assert_eq!(verify(&*bytes).unwrap().records, 40);
    let mut reader = Reader::open(&*bytes).unwrap();
    for (key, value) in &pairs {
        let item = reader.next().unwrap().unwrap();
        assert_eq!((item.key, item.value), (&**key, &**value));
    }
}

#[test]
fn every_flipped_bit_is_noticed() {
    let whole = sample();
    for bit in 0..whole.len() * 8 {
        let mut bytes = whole.clone();
        bytes[bit / 8] ^= 1 << (bit % 8);
        assert!(verify(&*bytes).is_err(), "bit {bit}");
    }
}

#[test]
fn every_cut_and_every_byte_too_many_is_noticed_where_it_is() {
    let whole = sample();
    for length in 0..whole.len() {
        let Damage { offset, reason } = verify(&whole[..length]).unwrap_err();
        assert!(
            length == 0 || (offset as usize == length && reason.contains("cut off")),
            "{length}: {offset} {reason}"
        );
    }
    let Damage { offset, reason } = verify(&*[&whole[..], b"\n"].concat()).unwrap_err();
    assert_eq!((offset as usize, reason.as_str()), (whole.len(), "bytes follow the end"));
}

#[test]
fn what_has_right_checksums_and_makes_no_sense_is_noticed() {
    let (a, b) = (pair("a", "x"), pair("b", "y"));
    let records = |pairs: &[_]| (Kind::Records, joined(pairs));
    let floor = |key: &[u8]| (Kind::Floors, joined(&[&(key.to_vec(), vec![0; 8])]));
    let twice = [records(&[&a, &a])];
    assert_eq!(reason(&forged(&twice)), "note/a comes twice, or out of order");
    let across = [records(&[&b]), records(&[&a])];
    assert_eq!(reason(&forged(&across)), "note/a comes twice, or out of order");
    assert_eq!(reason(&forged(&[floor(&[0; 4]), records(&[&a])])), "a frame is out of order");
    assert_eq!(reason(&forged(&[floor(&[0; 3])])), "a version floor has the wrong length");
    assert_eq!(reason(&forged(&[(Kind::Records, Vec::new())])), "a frame is empty");
    let foreign = (b.0.clone(), a.1.clone());
    assert_eq!(reason(&forged(&[records(&[&foreign])])), "record note/b is damaged: the checksum does not match");
    let mut long = joined(&[&a]);
    long[2..6].copy_from_slice(&u32::MAX.to_le_bytes());
    assert!(reason(&forged(&[(Kind::Records, long)])).contains("is too long"));
    let mut cut = joined(&[&a]);
    cut.pop();
    assert_eq!(reason(&forged(&[(Kind::Records, cut)])), "a pair does not fit into its frame");
    let broken = (Kind::Broken, "the disk\u{1b}[2J failed".as_bytes().to_vec());
    assert_eq!(reason(&forged(&[broken])), "the snapshot was broken off: the disk\\u{1b}[2J failed");
    let again = [(Kind::Head, serde_json::to_vec(&Head::new(Time::default())).unwrap())];
    assert_eq!(reason(&forged(&again)), "a second manifest");
    let end = br#"{"tally":{"records":2,"floors":0,"kinds":{}},"sha256":""}"#.to_vec();
    let short = [records(&[&a]), (Kind::End, end)];
    assert_eq!(reason(&forged(&short)), "the manifest tells of 2 records, there are 1");
    let mut misplaced = forged(&[]);
    misplaced.extend(frame(Kind::Records, 5, &joined(&[&b])));
    assert_eq!(reason(&misplaced), "frame 5 is in the place of frame 1");
    let mut absurd = forged(&[]);
    absurd.extend([&[b'R', 1, 0, 0, 0][..], &(MAX_BODY as u32 + 1).to_le_bytes()].concat());
    assert!(reason(&absurd).contains("is too long"));
    assert_eq!(reason(b"SQLite format 3\0"), "this is no Nightporter snapshot");
    assert!(reason(b"npsnap\r\n\x02").contains("use a newer one"));
}

proptest! {
    #[test]
    fn nothing_makes_the_reader_panic(bytes in prop::collection::vec(any::<u8>(), 0..600), begun in any::<bool>()) {
        let bytes = if begun { [forged(&[]), bytes].concat() } else { bytes };
        prop_assert!(verify(&*bytes).is_err());
    }

    #[test]
    fn no_body_makes_the_reader_panic(body in prop::collection::vec(any::<u8>(), 0..600), kind in 0..5_usize) {
        let kind = [Kind::Head, Kind::Records, Kind::Floors, Kind::End, Kind::Broken][kind];
        prop_assert!(verify(&*forged(&[(kind, body)])).is_err());
    }

    #[test]
    fn what_is_written_is_read_back(texts in prop::collection::btree_map("[a-z가-힣]{1,20}", ".{0,200}", 0..50)) {
        let pairs: Vec<_> = texts.iter().map(|(id, text)| pair(id, text)).collect();
        prop_assert_eq!(verify(&*snapshot(&pairs)).unwrap().records, pairs.len() as u64);
    }
}
