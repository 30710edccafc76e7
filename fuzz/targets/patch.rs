#![no_main]
//! JSON, merge and strategic merge patches.

use coracle_fuzz::{PODS, ask};

libfuzzer_sys::fuzz_target!(|patch: &[u8]| {
    for format in ["json-patch", "merge-patch", "strategic-merge-patch"] {
        ask("PATCH", &format!("{PODS}/p?dryRun=All"), &format!("application/{format}+json"), patch);
    }
});
