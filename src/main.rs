//! The one binary. What is executed again for each pod and for the isolated node is decided here,
//! before a runtime or another thread exists.

use std::process::ExitCode;

fn main() -> ExitCode {
    let mut args = std::env::args_os().skip(1);
    match args.next().as_deref().and_then(std::ffi::OsStr::to_str) {
        Some("shim") => shim::main(args),
        _ => coracle::cli::main(),
    }
}
