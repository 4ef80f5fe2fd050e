#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| virtual_llm_fuzz::properties::link(bytes));
