//! libFuzzer drives `store::fuzz::record`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| nightporter::store::fuzz::record(data));
