#![no_main]
//! Label and field selectors.

use coracle_fuzz::{PODS, ask, escaped};

libfuzzer_sys::fuzz_target!(|selector: &[u8]| {
    for name in ["labelSelector", "fieldSelector"] {
        ask("GET", &format!("{PODS}?{name}={}", escaped(selector)), "", b"");
    }
});
