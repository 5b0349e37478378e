//! Drives [`hearth_fuzz_checks::name`].
#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| hearth_fuzz_checks::name(data));
