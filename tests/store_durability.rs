//! Durability under load, seen from outside: whatever was acknowledged before a SIGKILL or a power cut is there
//! afterwards, nothing is that nobody sent, and no version is skipped or given twice.

#[path = "store_durability/disk.rs"]
mod disk;
#[path = "store_durability/kills.rs"]
mod kills;
#[path = "store_durability/ledger.rs"]
mod ledger;
#[path = "store_durability/power.rs"]
mod power;
#[path = "store_durability/trace.rs"]
mod trace;
#[path = "store_durability/writer.rs"]
mod writer;
