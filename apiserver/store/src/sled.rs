//! The only file that knows sled. Its `flush` hands the log to the kernel but never syncs it, so every group is
//! followed by fdatasync on a second handle of the log, and by fsync of what sled put into files of its own.

use std::fmt;
use std::fs::{self, File};
use std::io;
use std::panic::catch_unwind;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::blobs::Blobs;
use crate::seal::Seal;
use crate::writer::panic_message;
use crate::{Backend, Key, Loaded, Op, OpenError, Record, Snapshots};

mod recovery;

pub use recovery::Recovered;

/// Bytes of sled's page cache. Nothing is read from it after the start, all live objects are in memory already; but the
/// pages that are written to have to fit, or sled reads them back (4 MiB cost a third more time for each write).
const CACHE: u64 = 16 << 20;

/// Where the [`Seal`] is; no key of an object begins with a NUL byte.
const SEAL: &[u8] = b"\0seal";

/// How long sled's own lock may outlive the handle that took it: its threads let go a little later.
const LOCK_PATIENCE: Duration = Duration::from_secs(3);

/// The durable backend: sled, embedded, in a directory of its own.
///
/// `<dir>/sled` is sled's, `<dir>/lock` is held while the store is open, `<dir>/snapshot-<revision>` are the
/// [`Snapshots`], and `<dir>/sled.broken-<n>` is what [`Sled::open`] had to put aside.
pub struct Sled {
    dir: PathBuf,
    files: Files,
    /// What `open` found, until it is loaded.
    loaded: Loaded,
    recovered: Option<Recovered>,
    /// Unlocked when it is closed, after everything above.
    _lock: File,
}

impl Sled {
    /// Opens or makes the store in `dir`. Blocking.
    ///
    /// When sled's files are broken (sled fails, panics, or holds less than it was given), they are put aside and the
    /// contents are read again from sled's log, or taken from the newest valid snapshot: [`Sled::recovered`] says so.
    /// Errors: [`OpenError::Locked`], [`OpenError::Broken`] when that is not possible, [`OpenError::Disk`].
    pub fn open(dir: impl Into<PathBuf>) -> Result<Self, OpenError> {
        let dir = dir.into();
        fs::create_dir_all(&dir).map_err(OpenError::disk("make", &dir))?;
        let lock = lock(&dir)?;
        let (files, loaded, recovered) = recovery::open(&dir)?;
        if let Some(recovered) = &recovered {
            tracing::warn!("{recovered}");
        }
        Ok(Sled { dir, files, loaded, recovered, _lock: lock })
    }

    /// What had to be recovered, if anything, in words for the user.
    pub fn recovered(&self) -> Option<&Recovered> {
        self.recovered.as_ref()
    }
}

/// Not its contents, which sled would print.
impl fmt::Debug for Sled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sled").field("dir", &self.dir).field("recovered", &self.recovered).finish_non_exhaustive()
    }
}

impl Backend for Sled {
    fn load(&mut self) -> Result<Loaded, OpenError> {
        Ok(std::mem::take(&mut self.loaded))
    }

    fn commit(&mut self, revision: u64, ops: &[Op]) -> Result<(), String> {
        self.files.commit(revision, ops)
    }

    fn snapshots(&self) -> Option<Snapshots> {
        Some(Snapshots::new(&self.dir))
    }
}

/// The lock of the directory: an advisory one that ends with the process.
fn lock(dir: &Path) -> Result<File, OpenError> {
    let path = dir.join("lock");
    let file = File::create(&path).map_err(OpenError::disk("open", &path))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(fs::TryLockError::WouldBlock) => Err(OpenError::Locked(dir.into())),
        Err(fs::TryLockError::Error(source)) => Err(OpenError::Disk { action: "lock", path, source }),
    }
}

/// Why sled did not open.
enum Fault {
    /// Its files are not what they were.
    Broken(String),
    /// The system refused something; the files may be fine.
    Disk(io::Error),
}

/// sled's directory, open.
struct Files {
    db: sled::Db,
    /// A second handle of sled's log, for fdatasync.
    log: File,
    blobs: Blobs,
    /// The summary of what is stored; nothing when sled has never been written to.
    seal: Option<Seal>,
}

impl Files {
    /// Opens sled in `dir` and reads everything, checking it against the seal.
    fn open(dir: &Path) -> Result<(Files, Loaded), Fault> {
        remove_half_written(dir).map_err(Fault::Disk)?;
        let owned = dir.to_path_buf();
        let opened = catch_unwind(move || {
            let db = start(&owned)?;
            let contents = read(&db)?;
            Ok((db, contents))
        });
        let (db, (loaded, seal)) = opened.unwrap_or_else(|panic| Err(Fault::Broken(panic_message(&*panic))))?;
        let log = File::open(dir.join("db")).map_err(Fault::Disk)?;
        let mut files = Files { db, log, blobs: Blobs::new(dir.join("blobs")), seal };
        files.sync().and_then(|()| File::open(dir)?.sync_all()).map_err(Fault::Disk)?;
        Ok((files, loaded))
    }

    fn commit(&mut self, revision: u64, ops: &[Op]) -> Result<(), String> {
        let mut batch = sled::Batch::default();
        let mut seal = self.seal.unwrap_or_default();
        seal.revision = revision;
        for Op { key, before, after } in ops {
            if let Some(before) = before {
                seal.remove(key, *before);
            }
            match after {
                Some((revision, bytes)) => {
                    seal.add(key, *revision);
                    batch.insert(key.encode(), [&revision.to_le_bytes(), bytes.as_ref()].concat());
                }
                None => batch.remove(key.encode()),
            }
        }
        batch.insert(SEAL, &seal.encode());
        self.db.apply_batch(batch).map_err(|error| error.to_string())?;
        self.db.flush().map_err(|error| error.to_string())?;
        self.sync().map_err(|error| error.to_string())?;
        self.seal = Some(seal);
        Ok(())
    }

    /// Makes durable what sled has written. The blobs come first: the log names them.
    fn sync(&mut self) -> io::Result<()> {
        self.blobs.sync()?;
        self.log.sync_data()
    }
}

/// Starts sled, waiting for the lock of an instance that this process had before.
fn start(dir: &Path) -> Result<sled::Db, Fault> {
    let deadline = Instant::now() + LOCK_PATIENCE;
    loop {
        let config = sled::Config::new().path(dir).cache_capacity(CACHE).flush_every_ms(None);
        match config.open() {
            Ok(db) => return Ok(db),
            Err(sled::Error::Io(error)) if error.to_string().contains("could not acquire lock") => {
                if Instant::now() > deadline {
                    return Err(Fault::Disk(error));
                }
                thread::sleep(Duration::from_millis(10));
            }
            Err(error) => return Err(error.into()),
        }
    }
}

/// Everything in sled, and its seal; broken when they do not belong together.
fn read(db: &sled::Db) -> Result<(Loaded, Option<Seal>), Fault> {
    let mut sealed = None;
    let mut counted = Seal::default();
    let mut records = Vec::new();
    for item in db.iter() {
        let (key, value) = item?;
        if key == SEAL {
            sealed = Some(Seal::decode(&value).ok_or_else(|| Fault::Broken("its seal is damaged".into()))?);
            continue;
        }
        let record = decode(&key, &value).ok_or_else(|| Fault::Broken("an object in it is damaged".into()))?;
        counted.add(&record.key, record.revision);
        records.push(record);
    }
    let seal = sealed.unwrap_or_default();
    counted.revision = seal.revision;
    if counted != seal {
        return Err(Fault::Broken("some of its contents are gone or old".into()));
    }
    Ok((Loaded { revision: seal.revision, records }, sealed))
}

/// An object as [`Files::commit`] wrote it: its revision, then its JSON.
fn decode(key: &[u8], value: &[u8]) -> Option<Record> {
    let (revision, bytes) = value.split_first_chunk::<8>()?;
    let bytes = Bytes::copy_from_slice(bytes);
    Some(Record { key: Key::decode(key)?, revision: u64::from_le_bytes(*revision), bytes })
}

/// Removes the files that sled did not finish before the last stop; it takes them for whole ones and fails.
fn remove_half_written(dir: &Path) -> io::Result<()> {
    if !dir.exists() {
        return Ok(());
    }
    for file in fs::read_dir(dir)? {
        let path = file?.path();
        if path.extension().is_some_and(|extension| extension == "generating") {
            fs::remove_file(path)?;
        }
    }
    Ok(())
}

impl From<sled::Error> for Fault {
    fn from(error: sled::Error) -> Self {
        use io::ErrorKind::{NotFound, Other, UnexpectedEof};
        match error {
            sled::Error::Io(error) if !matches!(error.kind(), NotFound | Other | UnexpectedEof) => Fault::Disk(error),
            error => Fault::Broken(error.to_string()),
        }
    }
}
