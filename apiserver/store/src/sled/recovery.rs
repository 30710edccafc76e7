use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::sled::{Fault, Files};
use crate::{Loaded, Op, OpenError, Snapshots};

/// How far the revision jumps in a recovery: further than the writes that may be lost, so that no revision that a
/// client has seen means another version now, and every watch from before starts over.
const GAP: u64 = 1_000_000;

/// Objects written at a time while a snapshot is restored.
const CHUNK: usize = 500;

/// What was done about a broken store; its `Display` is for the user.
#[derive(Clone, Debug)]
pub struct Recovered {
    /// Why the store could not be used as it was.
    pub reason: String,
    /// Where the broken files were put; nothing when there were none.
    pub aside: Option<PathBuf>,
    /// The snapshot file that was restored; nothing when sled's log could be read again, which is all there was.
    pub snapshot: Option<PathBuf>,
    /// The revision up to which writes are there again.
    pub revision: u64,
    /// The live objects.
    pub objects: usize,
}

impl fmt::Display for Recovered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the store was broken ({}) and was recovered: {} objects ", self.reason, self.objects)?;
        match &self.snapshot {
            None => write!(f, "as of revision {} from its log", self.revision)?,
            Some(path) => {
                write!(f, "from the snapshot {}; writes after revision {} are lost", path.display(), self.revision)?
            }
        }
        match &self.aside {
            Some(aside) => write!(f, "; the broken files are in {}", aside.display()),
            None => Ok(()),
        }
    }
}

/// Opens `<dir>/sled`; if that is broken, a copy of it without sled's own snapshots; then our newest valid snapshot.
pub(super) fn open(dir: &Path) -> Result<(Files, Loaded, Option<Recovered>), OpenError> {
    let path = dir.join("sled");
    let snapshots = Snapshots::new(dir);
    let reason = match attempt(&path, &snapshots)? {
        Ok((files, loaded)) if files.seal.is_some() => return Ok((files, loaded, None)),
        Ok((files, loaded)) => return Ok((begin(files, &path, &snapshots)?, loaded, None)),
        Err(reason) => reason,
    };
    // A copy is tried, because the failed attempt may still hold sled's lock on the files, and the evidence is kept.
    let replay = dir.join("sled.copy");
    copy_log(&path, &replay).map_err(OpenError::disk("copy", &path))?;
    let aside = free_name(dir);
    fs::rename(&path, &aside).map_err(OpenError::disk("put aside", &path))?;
    let recovered = Recovered { reason, aside: Some(aside.clone()), snapshot: None, revision: 0, objects: 0 };
    fs::rename(&replay, &path).map_err(OpenError::disk("rename", &replay))?;
    let (files, loaded, source) = match attempt(&path, &snapshots)? {
        Ok((files, loaded)) if files.seal.is_some() => (files, loaded, None),
        _ => {
            fs::remove_dir_all(&path).map_err(OpenError::disk("remove", &path))?;
            let newest =
                snapshots.newest().map_err(OpenError::disk("read", dir))?.filter(|(_, loaded)| loaded.revision > 0);
            let Some((snapshot, loaded)) = newest else {
                fs::rename(&aside, &path).map_err(OpenError::disk("put back", &aside))?;
                return Err(OpenError::Broken { dir: dir.into(), reason: recovered.reason });
            };
            let (files, _) = Files::open(&path).map_err(|fault| fault.at(&path))?;
            (files, loaded, Some(snapshot))
        }
    };
    let recovered =
        Recovered { snapshot: source, revision: loaded.revision, objects: loaded.records.len(), ..recovered };
    let empty = recovered.snapshot.is_some();
    let (files, loaded) = refill(files, loaded, empty).map_err(|error| unwritable(error, &path))?;
    // The renames, before anything is acknowledged that rests on them.
    let synced = fs::File::open(dir).and_then(|dir| dir.sync_all());
    synced.map_err(OpenError::disk("sync", dir))?;
    Ok((files, loaded, Some(recovered)))
}

/// Seals a new store, and leaves a snapshot of nothing: from then on a sled without a seal has lost all it had.
fn begin(mut files: Files, path: &Path, snapshots: &Snapshots) -> Result<Files, OpenError> {
    files.commit(0, &[]).map_err(|reason| unwritable(reason, path))?;
    let written = snapshots.write(0, std::iter::empty());
    written.map_err(OpenError::disk("write a snapshot beside", path))?;
    Ok(files)
}

/// Opens sled; the inner error is why its files are broken.
fn attempt(path: &Path, snapshots: &Snapshots) -> Result<Result<(Files, Loaded), String>, OpenError> {
    let (files, loaded) = match Files::open(path) {
        Ok(opened) => opened,
        Err(Fault::Broken(reason)) => return Ok(Err(reason)),
        Err(fault) => return Err(fault.at(path)),
    };
    let named = snapshots.files().map_err(OpenError::disk("read", path))?;
    if files.seal.is_none() && !named.is_empty() {
        return Ok(Err("it is empty, but was written to".into()));
    }
    let named = named.first().map_or(0, |(revision, _)| *revision);
    if named > loaded.revision {
        // It is read only now: a name proves nothing.
        let newest = snapshots.newest().map_err(OpenError::disk("read", path))?;
        let newest = newest.map_or(0, |(_, snapshot)| snapshot.revision);
        if newest > loaded.revision {
            return Ok(Err(format!("it ends at revision {}, before a snapshot of {newest}", loaded.revision)));
        }
    }
    Ok(Ok((files, loaded)))
}

/// Moves the revision on and, when sled is `empty`, writes the objects into it. Their revision comes last: a stop in
/// between leaves a store that ends before its snapshot, and is recovered again.
fn refill(mut files: Files, mut loaded: Loaded, empty: bool) -> Result<(Files, Loaded), String> {
    loaded.revision += GAP;
    let records = if empty { loaded.records.as_slice() } else { &[] };
    let ops: Vec<Op> = records
        .iter()
        .map(|record| Op {
            key: record.key.clone(),
            before: None,
            after: Some((record.revision, record.bytes.clone())),
        })
        .collect();
    for chunk in ops.chunks(CHUNK) {
        files.commit(0, chunk)?;
    }
    files.commit(loaded.revision, &[])?;
    Ok((files, loaded))
}

impl Fault {
    fn at(self, path: &Path) -> OpenError {
        match self {
            Fault::Broken(reason) => unwritable(reason, path),
            Fault::Disk(source) => OpenError::Disk { action: "open", path: path.into(), source },
        }
    }
}

fn unwritable(reason: String, path: &Path) -> OpenError {
    OpenError::Disk { action: "write", path: path.into(), source: io::Error::other(reason) }
}

/// The first `sled.broken-<n>` that is free.
fn free_name(dir: &Path) -> PathBuf {
    let mut n = 1;
    loop {
        let path = dir.join(format!("sled.broken-{n}"));
        if !path.exists() {
            return path;
        }
        n += 1;
    }
}

/// Copies sled's log and blobs, but not its snapshots, which only save it from reading the whole log.
fn copy_log(from: &Path, to: &Path) -> io::Result<()> {
    if to.exists() {
        fs::remove_dir_all(to)?;
    }
    fs::create_dir_all(to.join("blobs"))?;
    let mut names = vec![PathBuf::from("db"), PathBuf::from("conf")];
    if from.join("blobs").exists() {
        for blob in fs::read_dir(from.join("blobs"))? {
            names.push(Path::new("blobs").join(blob?.file_name()));
        }
    }
    for name in names {
        match fs::copy(from.join(&name), to.join(&name)) {
            Ok(_) => fs::File::open(to.join(&name))?.sync_all()?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => (),
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
