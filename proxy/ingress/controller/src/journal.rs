//! The access log's file, of bounded size.

use std::fs::{File, OpenOptions, rename};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use tracing::debug;

/// How long the file may become; then it is put aside as `.1`, in the place of the one that is there.
const LIMIT: u64 = 16 << 20;

/// A file that lines are added to.
pub(crate) struct Journal {
    path: PathBuf,
    limit: u64,
    open: Mutex<Option<(File, u64)>>,
}

impl Journal {
    /// A journal in that file, which is opened with the first line.
    pub(crate) fn new(path: PathBuf) -> Self {
        Journal { path, limit: LIMIT, open: Mutex::default() }
    }

    /// Adds whole lines. When that fails, they are lost, and the file is opened anew the next time.
    pub(crate) fn write(&self, lines: &[u8]) {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Err(error) = self.add(&mut open, lines) {
            debug!("failed to write {}: {error}", self.path.display());
        }
    }

    fn add(&self, open: &mut Option<(File, u64)>, lines: &[u8]) -> io::Result<()> {
        let (mut file, mut length) = open.take().map_or_else(|| self.file(), Ok)?;
        if length >= self.limit {
            rename(&self.path, self.path.with_extension("log.1"))?;
            (file, length) = self.file()?;
        }
        file.write_all(lines)?;
        *open = Some((file, length + lines.len() as u64));
        Ok(())
    }

    fn file(&self) -> io::Result<(File, u64)> {
        let file = OpenOptions::new().append(true).create(true).mode(0o640).open(&self.path)?;
        let length = file.metadata()?.len();
        Ok((file, length))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_journal_keeps_two_files_and_goes_on_where_it_was() {
        let directory = std::env::temp_dir().join(format!("journal-{}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        let path = directory.join("ingress.log");
        for (lines, limit) in [(&["a\n", "b\n"][..], 100), (&["c\n"], 6), (&["d\n", "e\n", "f\n", "g\n"], 6)] {
            let journal = Journal { limit, ..Journal::new(path.clone()) };
            lines.iter().for_each(|line| journal.write(line.as_bytes()));
        }
        let read = |name: &str| std::fs::read_to_string(directory.join(name)).unwrap();
        assert_eq!((read("ingress.log.1"), read("ingress.log")), ("d\ne\nf\n".to_owned(), "g\n".to_owned()));
        std::fs::remove_dir_all(&directory).unwrap();
    }
}
