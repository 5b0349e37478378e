//! Drives [`hearth_fuzz_checks::payload`].
#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| hearth_fuzz_checks::payload(data));
