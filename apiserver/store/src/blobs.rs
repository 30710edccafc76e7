use std::collections::HashSet;
use std::ffi::OsString;
use std::fs::{self, File};
use std::io;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

/// How coarse the time stamps of a file system may be: a directory changed this recently may have changed again
/// without a new stamp.
const STAMP: Duration = Duration::from_secs(2);

/// The directory in which sled keeps what is larger than an eighth of a megabyte, one file for each. sled never syncs
/// these files; the log that names them would be durable without them.
#[derive(Debug)]
pub(crate) struct Blobs {
    dir: PathBuf,
    /// The directory's time of change when all of `synced` was synced; nothing when that was too recent to tell.
    stamp: Option<SystemTime>,
    synced: HashSet<OsString>,
}

impl Blobs {
    pub(crate) fn new(dir: PathBuf) -> Self {
        Blobs { dir, stamp: None, synced: HashSet::new() }
    }

    /// Makes every file durable that came since the last call.
    pub(crate) fn sync(&mut self) -> io::Result<()> {
        let stamp = fs::metadata(&self.dir)?.modified()?;
        let settled = SystemTime::now().duration_since(stamp).is_ok_and(|age| age > STAMP);
        if self.stamp == Some(stamp) {
            return Ok(());
        }
        let mut present = HashSet::new();
        let mut grew = false;
        for file in fs::read_dir(&self.dir)? {
            let file = file?;
            if !self.synced.contains(&file.file_name()) {
                match File::open(file.path()) {
                    Ok(blob) => blob.sync_all()?,
                    // sled removes blobs that were replaced.
                    Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                    Err(error) => return Err(error),
                }
                grew = true;
            }
            present.insert(file.file_name());
        }
        if grew {
            File::open(&self.dir)?.sync_all()?;
        }
        self.synced = present;
        self.stamp = settled.then_some(stamp);
        Ok(())
    }
}
