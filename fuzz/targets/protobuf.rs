#![no_main]
//! Protobuf, read and, where an object comes of it, written.

use coracle_fuzz::{PODS, PROTOBUF, ask};

libfuzzer_sys::fuzz_target!(|pod: &[u8]| {
    ask("POST", &format!("{PODS}?dryRun=All"), PROTOBUF, pod);
    let head = b"k8s\0\x0a\x09\x0a\x02v1\x12\x03Pod";
    // A length of four bytes, whatever it is.
    let length = pod.len() as u32;
    let length = [0, 7, 14, 21].map(|shift| (length >> shift) as u8 & 0x7f | if shift < 21 { 0x80 } else { 0 });
    ask("POST", &format!("{PODS}?dryRun=All"), PROTOBUF, &[&head[..], b"\x12", &length, pod].concat());
});
