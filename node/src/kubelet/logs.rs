//! Logs of containers: CRI lines over rotated files, from the end or since a time, followed while
//! the container runs.

use super::{Answer, Query, text};
use crate::pods::{Live, Pods};
use bytes::Bytes;
use futures::stream;
use http::{Response, StatusCode};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;
use jiff::{SignedDuration, Timestamp};
use std::{
    fs::File,
    io::{self, Read, Seek, SeekFrom},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// How often a followed log is looked at.
const POLL: Duration = Duration::from_millis(50);
/// How much is read at once.
const CHUNK: usize = 64 << 10;
/// Chunks that wait for a slow reader.
const QUEUE: usize = 4;
/// The longest line that is kept together; the shim splits sooner.
const LINE_MAX: usize = 1 << 20;

/// What of each line is shown.
#[derive(Clone, Debug, Default)]
struct Filter {
    since: Option<Timestamp>,
    timestamps: bool,
    /// Bytes that may still be shown.
    left: Option<usize>,
    /// The line shown last was a part of a longer one.
    partial: bool,
}

impl Filter {
    /// Appends what is shown of one line of the file.
    fn line(&mut self, line: &[u8], out: &mut Vec<u8>) {
        let mut fields = line.splitn(4, |byte| *byte == b' ');
        let (Some(time), Some(_), Some(tag)) = (fields.next(), fields.next(), fields.next()) else {
            return;
        };
        let text = fields.next().unwrap_or_default();
        if let Some(since) = self.since {
            let time = std::str::from_utf8(time).ok();
            let time = time.and_then(|time| time.parse::<Timestamp>().ok());
            if time.is_some_and(|time| time < since) {
                return;
            }
        }
        let begin = out.len();
        if self.timestamps && !self.partial {
            out.extend_from_slice(time);
            out.push(b' ');
        }
        out.extend_from_slice(text);
        self.partial = tag.starts_with(b"P");
        if !self.partial {
            out.push(b'\n');
        }
        if let Some(left) = &mut self.left {
            out.truncate(begin + *left);
            *left -= out.len() - begin;
        }
    }

    fn full(&self) -> bool {
        self.left == Some(0)
    }
}

/// The files of one start of a container, oldest first.
fn files(log: &Path) -> Vec<PathBuf> {
    let rotated = |number: u32| {
        let mut name = log.as_os_str().to_owned();
        name.push(format!(".{number}"));
        PathBuf::from(name)
    };
    let mut files: Vec<_> = (1..).map(rotated).take_while(|path| path.exists()).collect();
    files.reverse();
    files.push(log.to_owned());
    files
}

/// Where the last `lines` lines of the files begin: which file, and at which byte.
fn tail_start(files: &[PathBuf], lines: u64) -> io::Result<(usize, u64)> {
    let mut wanted = lines;
    for (index, path) in files.iter().enumerate().rev() {
        let mut file = File::open(path)?;
        let mut end = file.metadata()?.len();
        // The line break at the very end begins no line.
        let mut last = true;
        while end > 0 {
            let begin = end.saturating_sub(CHUNK as u64);
            let mut block = vec![0; (end - begin) as usize];
            file.seek(SeekFrom::Start(begin))?;
            file.read_exact(&mut block)?;
            for at in (0..block.len()).rev() {
                if block[at] != b'\n' || std::mem::take(&mut last) {
                    last = false;
                    continue;
                }
                wanted = wanted.saturating_sub(1);
                if wanted == 0 {
                    return Ok((index, begin + at as u64 + 1));
                }
            }
            end = begin;
        }
        if !last {
            wanted = wanted.saturating_sub(1);
        }
        if wanted == 0 {
            return Ok((index, 0));
        }
    }
    Ok((0, 0))
}

/// The end of a log: at most so many lines, and of these so many bytes.
pub(crate) fn tail(log: &Path, lines: u64, bytes: usize) -> String {
    let mut reader = match Reader::open(log, Some(lines)) {
        Ok(reader) => reader,
        Err(_) => return String::new(),
    };
    let mut out = Vec::new();
    let mut filter = Filter::default();
    while matches!(reader.read(&mut filter, &mut out), Ok(true)) {}
    let text = String::from_utf8_lossy(&out).into_owned();
    let mut begin = text.len().saturating_sub(bytes);
    while !text.is_char_boundary(begin) {
        begin += 1;
    }
    text[begin..].to_owned()
}

/// Reads the files of one log, one after the other, and goes on in the newest.
struct Reader {
    log: PathBuf,
    rest: Vec<PathBuf>,
    file: File,
    line: Vec<u8>,
}

impl Reader {
    fn open(log: &Path, lines: Option<u64>) -> io::Result<Self> {
        let mut files = files(log);
        let (index, begin) = match lines {
            Some(0) => {
                let length = std::fs::metadata(log)?.len();
                (files.len() - 1, length)
            }
            Some(lines) => tail_start(&files, lines)?,
            None => (0, 0),
        };
        let rest = files.split_off(index + 1);
        let mut file = File::open(&files[index])?;
        file.seek(SeekFrom::Start(begin))?;
        Ok(Self { log: log.to_owned(), rest, file, line: Vec::new() })
    }

    /// Reads a little more; false when there is nothing more now.
    fn read(&mut self, filter: &mut Filter, out: &mut Vec<u8>) -> io::Result<bool> {
        let mut chunk = vec![0; CHUNK];
        let length = self.file.read(&mut chunk)?;
        if length == 0 {
            return self.next_file();
        }
        for part in chunk[..length].split_inclusive(|byte| *byte == b'\n') {
            self.line.extend_from_slice(part);
            if self.line.ends_with(b"\n") || self.line.len() > LINE_MAX {
                let line = self.line.strip_suffix(b"\n").unwrap_or(&self.line);
                filter.line(line, out);
                self.line.clear();
            }
        }
        Ok(true)
    }

    /// Goes on with the next file, or with the one that took the newest one's place.
    fn next_file(&mut self) -> io::Result<bool> {
        if !self.rest.is_empty() {
            self.file = File::open(self.rest.remove(0))?;
            return Ok(true);
        }
        let newest = match std::fs::metadata(&self.log) {
            Ok(newest) => newest,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            Err(error) => return Err(error),
        };
        if newest.ino() == self.file.metadata()?.ino() {
            return Ok(false);
        }
        self.file = File::open(&self.log)?;
        Ok(true)
    }
}

/// Answers `GET /containerLogs/…`.
pub(super) fn answer(pods: &Arc<Pods>, live: &Live, container: &str, query: &Query, stop: CancellationToken) -> Answer {
    let bad = |message: String| text(StatusCode::BAD_REQUEST, &message);
    let (filter, lines) = match options(query, Timestamp::now()) {
        Ok(options) => options,
        Err(text) => return bad(text),
    };
    let name = live.pod.metadata.name.as_deref().unwrap_or_default();
    let starts = live.containers.get(container).map_or(0, |(starts, _)| *starts);
    let back = if query.is("previous") { 2 } else { 1 };
    let Some(number) = starts.checked_sub(back) else {
        return bad(if back == 2 {
            format!("previous terminated container {container:?} in pod {name:?} not found")
        } else {
            format!("container {container:?} in pod {name:?} is waiting to start: {}", waiting(pods, live, container))
        });
    };
    let log = live.dir.join(container).join(format!("{number}.log"));
    let reader = match Reader::open(&log, lines) {
        Ok(reader) => reader,
        // A program that could not be started wrote nothing.
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return text(StatusCode::OK, "");
        }
        Err(error) => return text(StatusCode::INTERNAL_SERVER_ERROR, &error.to_string()),
    };
    let follow = query.is("follow") && back == 1;
    let follow = follow.then(|| (pods.clone(), live.clone(), container.to_owned(), starts));
    let (send, chunks) = mpsc::channel(QUEUE);
    tokio::spawn(async move {
        tokio::select! {
            () = stop.cancelled() => {}
            _ = copy(reader, filter, follow, &send) => {}
        }
    });
    let chunks = stream::unfold(chunks, |mut chunks| async move {
        let chunk: Bytes = chunks.recv().await?;
        Some((Ok::<_, io::Error>(Frame::data(chunk)), chunks))
    });
    Response::new(StreamBody::new(chunks).boxed_unsync())
}

fn options(query: &Query, now: Timestamp) -> Result<(Filter, Option<u64>), String> {
    let number = |name: &str| match query.get(name).filter(|text| !text.is_empty()) {
        Some(text) => match text.parse::<u64>() {
            Ok(number) => Ok(Some(number)),
            Err(_) => Err(format!("invalid value {text:?} of {name}")),
        },
        None => Ok(None),
    };
    let mut since = number("sinceSeconds")?.and_then(|seconds| {
        let ago = SignedDuration::from_secs(i64::try_from(seconds).ok()?);
        now.checked_sub(ago).ok()
    });
    if let Some(text) = query.get("sinceTime").filter(|text| !text.is_empty()) {
        let time = text.parse();
        since = Some(time.map_err(|_| format!("invalid value {text:?} of sinceTime"))?);
    }
    let filter = Filter {
        since,
        timestamps: query.is("timestamps"),
        left: number("limitBytes")?.map(|bytes| usize::try_from(bytes).unwrap_or(usize::MAX)),
        partial: false,
    };
    Ok((filter, number("tailLines")?))
}

/// Why a container has not been started.
fn waiting(pods: &Pods, live: &Live, container: &str) -> String {
    let key =
        (live.pod.metadata.namespace.clone().unwrap_or_default(), live.pod.metadata.name.clone().unwrap_or_default());
    let pods = pods.live();
    let status = pods.get(&key).and_then(|live| live.status.as_ref());
    let statuses = status.into_iter().flat_map(|status| {
        let init = status.init_container_statuses.iter().flatten();
        let apps = status.container_statuses.iter().flatten();
        init.chain(apps).chain(status.ephemeral_container_statuses.iter().flatten())
    });
    let mut of = statuses.filter(|status| status.name == container);
    let state = of.next().and_then(|status| status.state.clone());
    let reason = state.and_then(|state| state.waiting?.reason);
    reason.unwrap_or_else(|| "ContainerCreating".into())
}

type Follow = Option<(Arc<Pods>, Live, String, u32)>;

async fn copy(mut reader: Reader, mut filter: Filter, follow: Follow, send: &mpsc::Sender<Bytes>) -> io::Result<()> {
    let mut last = false;
    loop {
        let mut out = Vec::new();
        let more = reader.read(&mut filter, &mut out)?;
        if !out.is_empty() && send.send(Bytes::from(out)).await.is_err() || filter.full() {
            return Ok(());
        }
        if more {
            continue;
        }
        // What was written between the last look and the end is still to be read.
        let Some((pods, live, container, starts)) = &follow else { return Ok(()) };
        if last {
            return Ok(());
        }
        last = !still_runs(pods, live, container, *starts);
        if !last {
            tokio::select! {
                () = tokio::time::sleep(POLL) => {}
                () = send.closed() => return Ok(()),
            }
        }
    }
}

fn still_runs(pods: &Pods, live: &Live, container: &str, starts: u32) -> bool {
    let key =
        (live.pod.metadata.namespace.clone().unwrap_or_default(), live.pod.metadata.name.clone().unwrap_or_default());
    let pods = pods.live();
    let now = pods.get(&key).filter(|now| now.dir == live.dir);
    now.and_then(|now| now.containers.get(container)) == Some(&(starts, true))
}

#[cfg(test)]
mod tests;
