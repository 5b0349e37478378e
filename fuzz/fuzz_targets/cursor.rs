//! Drives [`hearth_fuzz_checks::cursor`].
#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| hearth_fuzz_checks::cursor(data));
