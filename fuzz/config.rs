//! libFuzzer drives `config::fuzz::config`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| nightporter::config::fuzz::config(data));
