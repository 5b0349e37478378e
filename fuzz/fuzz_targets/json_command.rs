//! Drives [`hearth_fuzz_checks::json_command`].
#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| hearth_fuzz_checks::json_command(data));
