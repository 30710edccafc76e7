//! Has functions of the same code linked once, where the linker can do that, as LLD: Rust's own on x86-64 Linux.

use std::path::Path;
use std::process::{Command, Stdio};
use std::{env, fs};

/// What the linker is told. Nothing here tells functions apart by their addresses.
const FOLD: &str = "-Wl,--icf=all";

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    if env::var("PROFILE").is_ok_and(|profile| profile == "release") && folds() == Some(true) {
        println!("cargo::rustc-link-arg-bins={FOLD}");
    }
}

/// Whether a program can be linked so.
fn folds() -> Option<bool> {
    let var = |name| env::var(name).ok();
    let directory = var("OUT_DIR")?;
    let source = Path::new(&directory).join("probe.rs");
    fs::write(&source, "fn main() {}").ok()?;
    let mut rustc = Command::new(var("RUSTC")?);
    rustc.arg(source).args(["--out-dir", &directory, "--target", &var("TARGET")?, &format!("-Clink-arg={FOLD}")]);
    rustc.args(var("RUSTC_LINKER").map(|linker| format!("-Clinker={linker}")));
    rustc.args(var("CARGO_ENCODED_RUSTFLAGS")?.split('\x1f').filter(|flag| !flag.is_empty()));
    Some(rustc.stdout(Stdio::null()).stderr(Stdio::null()).status().ok()?.success())
}
