//! Runs the target that `TWOFOLD_FUZZ_TARGET` names.
#![no_main]
#![allow(missing_docs)]

#[path = "../../src/fuzz/targets.rs"]
mod targets;

use libfuzzer_sys::fuzz_target;
use std::sync::OnceLock;
use targets::{TARGETS, Target};

fuzz_target!(|data: &[u8]| {
    static CHOSEN: OnceLock<Target> = OnceLock::new();
    let target = CHOSEN.get_or_init(|| {
        let name = std::env::var("TWOFOLD_FUZZ_TARGET").unwrap_or_default();
        let found = TARGETS.iter().find(|(known, _)| *known == name);
        found.unwrap_or_else(|| panic!("TWOFOLD_FUZZ_TARGET={name}: name one of tests/src/fuzz/targets.rs")).1
    });
    target(data);
});
