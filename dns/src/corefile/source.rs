//! What a Corefile takes from outside: variables and imported files.

use std::io;
use std::path::{Path, PathBuf};

/// How deep imports may be nested.
pub(super) const DEPTH: usize = 32;
/// How many bytes a Corefile may have, with all that it imports.
pub(super) const SIZE: usize = 4 << 20;
/// How many words a Corefile may have, with all that it imports.
pub(super) const TOKENS: usize = 100_000;
/// How many bytes a word may have after variables are filled in.
pub(super) const WORD: usize = 64 << 10;

/// How many zones all blocks, counted on each of their addresses, or the arguments of a directive, may stand for.
pub(super) const ZONES: usize = 4096;

/// Name and text.
pub(super) type File = (String, String);

/// Where variables and imported files come from.
pub(super) struct Source<'a> {
    /// The value of an environment variable.
    pub(super) variable: &'a dyn Fn(&str) -> Option<String>,
    /// The files that a path names, in whose last part `*` is for anything, in order. A path without `*` names one.
    pub(super) files: &'a dyn Fn(&str) -> io::Result<Vec<File>>,
}

/// A path that stands in `file`, as seen from where that is.
pub(super) fn beside(file: &str, path: &str) -> String {
    Path::new(file).parent().unwrap_or(Path::new("")).join(path).to_string_lossy().into_owned()
}

/// Fills in `{$NAME}` and `{%NAME%}` from the environment, where what is not set is empty, and
/// `{args[0]}` from the arguments of an import.
pub(super) fn substitute(text: &str, arguments: &[String], variable: &dyn Fn(&str) -> Option<String>) -> String {
    let (mut out, mut rest) = (String::new(), text);
    while let Some(at) = rest.find('{') {
        let (before, from) = rest.split_at(at);
        out.push_str(before);
        let (value, after) = match reference(from) {
            Some((Reference::Variable(name), after)) => (variable(name).unwrap_or_default(), after),
            Some((Reference::Argument(number), after)) if number < arguments.len() => {
                (arguments[number].clone(), after)
            }
            _ => ("{".into(), &from[1..]),
        };
        out.push_str(&value);
        rest = after;
    }
    out + rest
}

enum Reference<'a> {
    Variable(&'a str),
    Argument(usize),
}

/// The reference at the begin of a text, and what follows it.
fn reference(text: &str) -> Option<(Reference<'_>, &str)> {
    if let Some(number) = text.strip_prefix("{args[") {
        let (number, rest) = number.split_once("]}")?;
        return Some((Reference::Argument(number.parse().ok()?), rest));
    }
    let windows = text.strip_prefix("{%").and_then(|rest| rest.split_once("%}"));
    let (name, rest) = windows.or_else(|| text.strip_prefix("{$")?.split_once('}'))?;
    (!name.is_empty()).then_some((Reference::Variable(name), rest))
}

/// The files of the disk that a path names; see [`Source::files`].
pub(super) fn files(path: &str) -> io::Result<Vec<File>> {
    let read = |path: PathBuf| Ok((path.to_string_lossy().into_owned(), limited(&path)?));
    let path = Path::new(path);
    let pattern = path.file_name().unwrap_or_default().to_string_lossy();
    let Some((begin, end)) = pattern.split_once('*') else {
        return Ok(vec![read(path.to_owned())?]);
    };
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let matches = |name: &str| {
        name.len() >= begin.len() + end.len()
            && name.starts_with(begin)
            && name.ends_with(end)
            && !name.starts_with('.')
    };
    let entries = match std::fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(vec![]),
        entries => entries?.collect::<io::Result<Vec<_>>>()?,
    };
    let mut paths: Vec<_> = entries.iter().filter(|entry| matches(&entry.file_name().to_string_lossy())).collect();
    paths.sort_by_key(|entry| entry.file_name());
    paths.into_iter().map(|entry| read(entry.path())).collect()
}

/// The text of a file, which ends in an error when it is too long to be a Corefile (or has no end).
pub(super) fn limited(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    io::Read::read_to_string(&mut io::Read::take(std::fs::File::open(path)?, SIZE as u64 + 1), &mut text)?;
    match text.len() > SIZE {
        true => Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("more than {SIZE} bytes"))),
        false => Ok(text),
    }
}
