//! libFuzzer drives `store::snapshot::fuzz::snapshot`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| nightporter::store::snapshot::fuzz::snapshot(data));
