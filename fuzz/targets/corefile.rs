#![no_main]
//! Corefiles: read, and made into chains. What leads to files of this machine is read only.

libfuzzer_sys::fuzz_target!(|text: &str| {
    let lines = text.lines().count().max(1);
    if let Err(error) = dns::try_corefile(text) {
        assert!((1..=lines).contains(&error.line), "{error}");
    }
});
