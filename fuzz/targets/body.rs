#![no_main]
//! Bodies of JSON and YAML.

use coracle_fuzz::{PODS, ask};

libfuzzer_sys::fuzz_target!(|body: &[u8]| {
    for format in ["json", "yaml"] {
        ask("POST", &format!("{PODS}?dryRun=All"), &format!("application/{format}"), body);
    }
});
