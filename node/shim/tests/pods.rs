//! Pods with real containers; this program is also the shim and the containers' program.

fn main() {}
