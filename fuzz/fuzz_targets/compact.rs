#![no_main]

libfuzzer_sys::fuzz_target!(init: fuzz::init(), |bytes: &[u8]| fuzz::compact::run(bytes));
