#![no_main]
//! Server-side apply, and the sets of fields in what clients send.

use coracle_fuzz::{PODS, ask};

libfuzzer_sys::fuzz_target!(|applied: &[u8]| {
    let uri = format!("{PODS}/p?dryRun=All&fieldManager=f&force=true");
    ask("PATCH", &uri, "application/apply-patch+yaml", applied);
    let entry = br#"{"metadata":{"managedFields":[{"manager":"m","operation":"Update","apiVersion":"v1",
        "fieldsType":"FieldsV1","fieldsV1":"#;
    let fields = [&entry[..], applied, b"}]}}"].concat();
    ask("PATCH", &uri, "application/merge-patch+json", &fields);
});
