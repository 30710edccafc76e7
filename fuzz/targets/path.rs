#![no_main]
//! Paths and queries. Streams would not end.

libfuzzer_sys::fuzz_target!(|uri: &str| {
    if uri.starts_with('/') && !uri.contains("watch") {
        coracle_fuzz::ask("GET", uri, "", b"");
    }
});
