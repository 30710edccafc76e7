use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use sha2::{Digest, Sha256};

use crate::{Key, Loaded, Record};

/// The first bytes of a snapshot file: what it is, and the version of its format.
const MAGIC: &[u8] = b"coracle store 1\n";

/// The files that are kept; the older is for the case that the newest turns out to be damaged.
const KEPT: usize = 2;

/// The bytes of the SHA-256 at the end.
const CHECKSUM: usize = 32;

/// The snapshot files of a directory: `snapshot-<revision>`, each with all live objects and a checksum, each written
/// beside its name and renamed.
///
/// A file is `MAGIC`, the revision, then for each object the length of its key, its key, its revision, the length of
/// its JSON and its JSON; at the end the SHA-256 of all before. Numbers are 64-bit little-endian.
#[derive(Clone, Debug)]
pub struct Snapshots {
    dir: PathBuf,
}

impl Snapshots {
    /// Those of `dir`, which exists.
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Snapshots { dir: dir.into() }
    }

    /// Writes a snapshot of `revision`, makes it durable, and removes the oldest ones.
    pub fn write<'a>(
        &self,
        revision: u64,
        records: impl Iterator<Item = (&'a Key, u64, &'a Bytes)>,
    ) -> io::Result<PathBuf> {
        let unfinished = self.dir.join("snapshot.unfinished");
        let path = self.dir.join(format!("snapshot-{revision:020}"));
        let mut out = Summed { file: BufWriter::new(File::create(&unfinished)?), hash: Sha256::new() };
        out.put(MAGIC)?;
        out.put(&revision.to_le_bytes())?;
        for (key, revision, bytes) in records {
            let key = key.encode();
            out.put(&(key.len() as u64).to_le_bytes())?;
            out.put(&key)?;
            out.put(&revision.to_le_bytes())?;
            out.put(&(bytes.len() as u64).to_le_bytes())?;
            out.put(bytes)?;
        }
        let Summed { mut file, hash } = out;
        file.write_all(&hash.finalize())?;
        file.into_inner().map_err(io::IntoInnerError::into_error)?.sync_all()?;
        fs::rename(&unfinished, &path)?;
        File::open(&self.dir)?.sync_all()?;
        for (_, old) in self.files()?.into_iter().skip(KEPT) {
            fs::remove_file(old)?;
        }
        Ok(path)
    }

    /// The newest file that is whole, with its contents; those that are not are said in the log and skipped.
    pub fn newest(&self) -> io::Result<Option<(PathBuf, Loaded)>> {
        for (_, path) in self.files()? {
            match decode(&fs::read(&path)?) {
                Some(loaded) => return Ok(Some((path, loaded))),
                None => tracing::warn!("{} is damaged, an older snapshot is looked for", path.display()),
            }
        }
        Ok(None)
    }

    /// The files with the revisions of their names, newest first.
    pub(crate) fn files(&self) -> io::Result<Vec<(u64, PathBuf)>> {
        let mut files = Vec::new();
        for file in fs::read_dir(&self.dir)? {
            let path = file?.path();
            files.extend(named(&path).map(|revision| (revision, path)));
        }
        files.sort_by(|a, b| b.cmp(a));
        Ok(files)
    }
}

fn named(path: &Path) -> Option<u64> {
    path.file_name()?.to_str()?.strip_prefix("snapshot-")?.parse().ok()
}

/// A file and the checksum of what went into it.
struct Summed {
    file: BufWriter<File>,
    hash: Sha256,
}

impl Summed {
    fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.hash.update(bytes);
        self.file.write_all(bytes)
    }
}

/// The contents of a snapshot file; nothing when a bit of it is wrong.
fn decode(file: &[u8]) -> Option<Loaded> {
    let (body, checksum) = file.split_at_checked(file.len().checked_sub(CHECKSUM)?)?;
    if Sha256::digest(body).as_slice() != checksum {
        return None;
    }
    let mut rest = body.strip_prefix(MAGIC)?;
    let revision = number(&mut rest)?;
    let mut records = Vec::new();
    while !rest.is_empty() {
        let key = Key::decode(chunk(&mut rest)?)?;
        let revision = number(&mut rest)?;
        let bytes = Bytes::copy_from_slice(chunk(&mut rest)?);
        records.push(Record { key, revision, bytes });
    }
    Some(Loaded { revision, records })
}

fn number(rest: &mut &[u8]) -> Option<u64> {
    let (number, tail) = rest.split_first_chunk::<8>()?;
    *rest = tail;
    Some(u64::from_le_bytes(*number))
}

fn chunk<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let length = usize::try_from(number(rest)?).ok()?;
    let (chunk, tail) = rest.split_at_checked(length)?;
    *rest = tail;
    Some(chunk)
}
