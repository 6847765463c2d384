//! One of the targets, named by `FUZZ_TARGET`, under libFuzzer.
#![no_main]

// Parts of it are for the tests that share it.
#[allow(dead_code, unused_imports)]
mod targets;

use std::sync::OnceLock;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    static RUN: OnceLock<targets::Target> = OnceLock::new();
    let run = RUN.get_or_init(|| {
        let name = std::env::var("FUZZ_TARGET").expect("FUZZ_TARGET=NAME");
        targets::named(&name).unwrap_or_else(|| panic!("there is no target {name}"))
    });
    run(data);
});
