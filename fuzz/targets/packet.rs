#![no_main]
//! Packets to the DNS server.

libfuzzer_sys::fuzz_target!(|packet: &[u8]| coracle_fuzz::names::ask(packet));
