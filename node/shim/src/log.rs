//! A container's output on disk, in the log format of the Kubernetes CRI:
//! `2016-10-06T00:17:09.669794202Z stdout F the line`, with `P` for a part of a line whose rest
//! follows.

use crate::spec;
use std::{
    fs::{self, File},
    io::{self, Write},
    path::{Path, PathBuf},
};

/// The longest piece of a line in one entry, as containerd cuts them.
const PIECE: usize = 16 << 10;

/// An open log file.
#[derive(Debug)]
pub(crate) struct Log {
    spec: spec::Log,
    file: File,
    size: u64,
}

/// The line of one stream that is not complete yet.
#[derive(Debug, Default)]
pub(crate) struct Line(Vec<u8>);

impl Log {
    pub(crate) fn open(spec: &spec::Log) -> io::Result<Self> {
        let file = append(&spec.path)?;
        let size = file.metadata()?.len();
        Ok(Self { spec: spec.clone(), file, size })
    }

    /// Appends entries, and begins a new file when this one is full. A full disk loses output; it
    /// does not stop the container.
    pub(crate) fn write(&mut self, entries: &[u8]) {
        if entries.is_empty() {
            return;
        }
        if self.size > 0 && self.size + entries.len() as u64 > self.spec.max_size {
            self.rotate();
        }
        if self.file.write_all(entries).is_ok() {
            self.size += entries.len() as u64;
        }
    }

    fn rotate(&mut self) {
        let numbered = |number: u32| {
            let mut path = self.spec.path.clone().into_os_string();
            path.push(format!(".{number}"));
            PathBuf::from(path)
        };
        let oldest = self.spec.max_files.saturating_sub(1);
        if oldest == 0 {
            let _ = self.file.set_len(0);
            self.size = 0;
            return;
        }
        for number in (1..oldest).rev() {
            let _ = fs::rename(numbered(number), numbered(number + 1));
        }
        let _ = fs::rename(&self.spec.path, numbered(1));
        if let Ok(file) = append(&self.spec.path) {
            self.file = file;
            self.size = 0;
        }
    }
}

fn append(path: &Path) -> io::Result<File> {
    File::options().create(true).append(true).open(path)
}

impl Line {
    /// Turns output into entries; keeps the beginning of a line whose end has not come.
    pub(crate) fn entries(&mut self, stream: &str, time: &str, mut bytes: &[u8]) -> Vec<u8> {
        let mut entries = Vec::with_capacity(bytes.len() + 64);
        while !bytes.is_empty() {
            let room = PIECE - self.0.len();
            let end = bytes.iter().take(room).position(|byte| *byte == b'\n');
            let take = end.unwrap_or_else(|| bytes.len().min(room));
            self.0.extend_from_slice(&bytes[..take]);
            bytes = &bytes[take + usize::from(end.is_some())..];
            if end.is_some() {
                self.flush(stream, time, "F", &mut entries);
            } else if self.0.len() == PIECE {
                self.flush(stream, time, "P", &mut entries);
            }
        }
        if self.0.is_empty() {
            self.0 = Vec::new();
        }
        entries
    }

    /// The last line, when it has no end.
    pub(crate) fn rest(&mut self, stream: &str, time: &str) -> Vec<u8> {
        let mut entries = Vec::new();
        if !self.0.is_empty() {
            self.flush(stream, time, "F", &mut entries);
        }
        entries
    }

    fn flush(&mut self, stream: &str, time: &str, tag: &str, entries: &mut Vec<u8>) {
        for part in [time, " ", stream, " ", tag, " "] {
            entries.extend_from_slice(part.as_bytes());
        }
        entries.append(&mut self.0);
        entries.push(b'\n');
    }
}

/// Nanoseconds since 1970 as RFC 3339 in UTC with nine digits, which Kubernetes' log readers expect.
pub(crate) fn timestamp(nanos: i64) -> String {
    let (seconds, fraction) = (nanos.div_euclid(1_000_000_000), nanos.rem_euclid(1_000_000_000));
    let (days, second) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    // Days to civil date, in eras of 400 years that begin on 1 March.
    let shifted = days + 719_468;
    let (era, day) = (shifted.div_euclid(146_097), shifted.rem_euclid(146_097));
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let (year, month) = if month < 10 { (year, month + 3) } else { (year + 1, month - 9) };
    let year = year + era * 400;
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{fraction:09}Z")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_parts_and_the_rest() {
        let mut line = Line::default();
        assert_eq!(line.entries("stdout", "T", b"one\ntw"), b"T stdout F one\n");
        assert_eq!(line.entries("stdout", "T", b"o\n\n"), b"T stdout F two\nT stdout F \n");
        assert_eq!(line.rest("stdout", "T"), b"");
        let long = [b'x'; PIECE + 1];
        let mut expected = b"T stderr P ".to_vec();
        expected.extend_from_slice(&long[..PIECE]);
        expected.push(b'\n');
        assert_eq!(line.entries("stderr", "T", &long), expected);
        assert_eq!(line.rest("stderr", "T"), b"T stderr F x\n");
    }

    #[test]
    fn timestamps() {
        let table = [
            (0, "1970-01-01T00:00:00.000000000Z"),
            (1_475_713_029_669_794_202, "2016-10-06T00:17:09.669794202Z"),
            (951_782_400_000_000_001, "2000-02-29T00:00:00.000000001Z"),
            (1_798_761_599_999_999_999, "2026-12-31T23:59:59.999999999Z"),
            (4_107_542_400_000_000_000, "2100-03-01T00:00:00.000000000Z"),
        ];
        for (nanos, text) in table {
            assert_eq!(timestamp(nanos), text);
        }
    }

    #[test]
    fn full_files_are_rotated() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("0.log");
        let spec = spec::Log { path: path.clone(), max_size: 10, max_files: 3 };
        let mut log = Log::open(&spec).unwrap();
        for entry in ["one-----\n", "two-----\n", "three---\n", "four----\n"] {
            log.write(entry.as_bytes());
        }
        let read = |name: &str| fs::read_to_string(dir.path().join(name)).ok();
        assert_eq!(read("0.log").unwrap(), "four----\n");
        assert_eq!(read("0.log.1").unwrap(), "three---\n");
        assert_eq!(read("0.log.2").unwrap(), "two-----\n");
        assert_eq!(read("0.log.3"), None);
    }
}
