//! A file that is read again when it changed.

use std::fs;
use std::path::PathBuf;
use std::time::SystemTime;

/// A file, and what it was like when it was read.
#[derive(Debug)]
pub(crate) struct File {
    path: PathBuf,
    /// When it was changed, and its size.
    seen: Option<(SystemTime, u64)>,
}

impl File {
    pub(crate) fn new(path: impl Into<PathBuf>) -> Self {
        File { path: path.into(), seen: None }
    }

    /// Its text and the time of its change; nothing when it is as it was when this was asked last,
    /// or can't be read.
    pub(crate) fn changed(&mut self) -> Option<(String, SystemTime)> {
        let metadata = fs::metadata(&self.path).ok()?;
        let now = (metadata.modified().ok()?, metadata.len());
        if self.seen == Some(now) {
            return None;
        }
        let text = fs::read(&self.path).ok()?;
        self.seen = Some(now);
        Some((String::from_utf8_lossy(&text).into_owned(), now.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        let mut file = File::new(&path);
        assert_eq!(file.changed(), None);
        for text in ["one", "three", ""] {
            fs::write(&path, text).unwrap();
            assert_eq!(file.changed().unwrap().0, text);
            assert_eq!(file.changed(), None);
        }
        fs::remove_file(&path).unwrap();
        assert_eq!(file.changed(), None);
    }
}
