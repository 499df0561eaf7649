#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| edgeprof_hostile::fuzzed("revocations", bytes));

#[global_allocator]
static ALLOCATOR: edgeprof_hostile::allocation::Counting = edgeprof_hostile::allocation::Counting;
