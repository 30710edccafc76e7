//! Packages of other registries, in directories of their own.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::Command,
};

use crate::tools::{need, text};

/// The directory `name` below `temporary` (Cargo's `CARGO_TARGET_TMPDIR`) with the packages of `list`: made by `install`
/// unless it was for the same list.
///
/// # Panics
/// When that fails.
pub fn packages(temporary: &str, name: &str, list: &Path, install: impl FnOnce(&Path)) -> PathBuf {
    let directory = Path::new(temporary).join(name);
    fs::create_dir_all(&directory).expect("the target directory can be written");
    // Another run may be at it.
    let lock = File::create(directory.with_extension("lock")).expect("a lock file");
    lock.lock().expect("the lock");
    let wanted = fs::read_to_string(list).expect("the list of packages");
    let installed = directory.join("installed");
    if fs::read_to_string(&installed).ok().as_ref() != Some(&wanted) {
        install(&directory);
        fs::write(&installed, wanted).expect("a note");
    }
    directory
}

/// Python with the packages of a file of requirements.
///
/// # Panics
/// When they cannot be had.
#[must_use]
pub fn python(temporary: &str, name: &str, requirements: &Path) -> PathBuf {
    let directory = packages(temporary, name, requirements, |directory| {
        text(Command::new(need("python3")).args(["-m", "venv", "--clear"]).arg(directory));
        let mut pip = Command::new(directory.join("bin/pip"));
        text(pip.args(["install", "--quiet", "--requirement"]).arg(requirements));
    });
    directory.join("bin/python")
}
