//! The house rules that a program can check: sizes, imports, names, and that the documents speak
//! of what exists.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    process::Command,
};

/// A file is one idea.
const FILE_LINES: usize = 600;
/// A function fits a screen, with some patience.
const FUNCTION_LINES: usize = 100;

/// Who may import whom: the arrow points one way.
const IMPORTS: &[(&str, &[&str])] = &[
    ("apiserver", &["schema", "store"]),
    ("schema", &[]),
    ("store", &[]),
    ("controllers", &[]),
    ("state", &[]),
    ("dns", &["state"]),
    ("proxy", &["state"]),
    ("ingress", &["proxy", "state"]),
    ("ingress-controller", &["ingress", "proxy", "state"]),
    ("node", &["image", "shim", "spdy"]),
    ("image", &[]),
    ("shim", &[]),
    ("spdy", &[]),
    ("fuzz", &["apiserver", "dns", "state", "store"]),
    ("testbed", &["apiserver", "dns", "ingress", "proxy", "state", "store"]),
];

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn tracked(endings: &[&str]) -> Vec<(String, String)> {
    let output = Command::new("git")
        .args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"])
        .current_dir(root())
        .output();
    let output = output.expect("git is installed and this is a checkout");
    let names = String::from_utf8(output.stdout).expect("names are UTF-8");
    let wanted = names.split('\0').filter(|name| endings.iter().any(|ending| name.ends_with(ending)));
    wanted.filter_map(|name| Some((name.to_owned(), fs::read_to_string(root().join(name)).ok()?))).collect()
}

fn report(problems: Vec<String>) {
    assert!(problems.is_empty(), "\n{}\n", problems.join("\n"));
}

#[test]
fn files_and_functions_are_small() {
    let mut problems = Vec::new();
    for (name, text) in tracked(&[".rs"]) {
        let lines: Vec<&str> = text.lines().collect();
        if lines.len() > FILE_LINES {
            problems.push(format!("{name}: {} lines; one file, one idea, {FILE_LINES} at most", lines.len()));
        }
        for (first, length) in functions(&lines) {
            if length > FUNCTION_LINES {
                problems.push(format!("{name}:{}: a function of {length} lines, {FUNCTION_LINES} at most", first + 1));
            }
        }
    }
    report(problems);
}

/// First line and length of each function, by rustfmt's indentation.
fn functions(lines: &[&str]) -> Vec<(usize, usize)> {
    let is_function = |line: &str| {
        let mut words = line.split_whitespace().filter(|word| !["async", "const", "unsafe"].contains(word));
        let first = words.next().unwrap_or_default();
        first == "fn" || (first.starts_with("pub") && words.next() == Some("fn"))
    };
    let indent = |line: &str| line.len() - line.trim_start().len();
    let mut found = Vec::new();
    for (first, line) in lines.iter().enumerate().filter(|(_, line)| is_function(line)) {
        let end = format!("{}}}", " ".repeat(indent(line)));
        if !line.ends_with('}')
            && let Some(last) = lines[first..].iter().position(|line| *line == end)
        {
            found.push((first, last + 1));
        }
    }
    found
}

#[test]
fn crates_import_one_way() {
    let mut problems = Vec::new();
    let parts: BTreeMap<&str, &[&str]> = IMPORTS.iter().copied().collect();
    for (name, text) in tracked(&["/Cargo.toml"]) {
        let package = text.lines().find_map(|line| line.strip_prefix("name = \"coracle-")).unwrap_or_default();
        let package = package.trim_end_matches('"');
        let Some(allowed) = parts.get(package) else {
            problems.push(format!("{name}: the crate {package:?} is missing in the table of imports"));
            continue;
        };
        // Tests may use more: controllers are tested against the API server.
        let dependencies = text.split("[dev-dependencies]").next().unwrap_or_default();
        for part in parts.keys() {
            let imports = dependencies
                .lines()
                .any(|line| line.starts_with(&format!("{part}.")) || line.starts_with(&format!("{part} ")));
            if imports && !allowed.contains(part) {
                problems.push(format!("{name}: {package} must not import {part}"));
            }
        }
    }
    report(problems);
}

#[test]
fn files_are_named_for_what_they_hold() {
    let vague = ["utils", "util", "common", "helpers", "helper", "manager", "misc", "mod"];
    let named = |name: &str| Path::new(name).file_stem().and_then(|stem| stem.to_str().map(str::to_owned));
    let problems = tracked(&[".rs"]).into_iter().filter_map(|(name, _)| {
        let stem = named(&name)?;
        vague.contains(&stem.as_str()).then(|| format!("{name}: no one finds a thing by this name"))
    });
    report(problems.collect());
}

#[test]
fn nothing_is_left_unfinished() {
    let marks = ["TODO", "FIXME", "XXX", "todo!(", "unimplemented!(", "#[ignore", "allow(dead_code)"];
    let mut problems = Vec::new();
    for (name, text) in tracked(&[".rs"]) {
        if name == "tests/tidy.rs" {
            continue;
        }
        for (number, line) in text.lines().enumerate() {
            for mark in marks.iter().filter(|mark| line.contains(**mark)) {
                problems.push(format!("{name}:{}: {mark}", number + 1));
            }
        }
    }
    report(problems);
}

#[test]
fn only_one_file_imports_sled() {
    let users: Vec<_> = tracked(&[".rs"])
        .into_iter()
        .filter(|(name, text)| name != "tests/tidy.rs" && (text.contains("sled::Db") || text.contains("sled::Config")))
        .map(|(name, _)| name)
        .collect();
    assert!(users.len() <= 1, "sled is imported by {users:?}");
}

#[test]
fn the_documents_name_files_that_exist() {
    let mut problems = Vec::new();
    for (name, text) in tracked(&[".md"]) {
        let base = root().join(&name);
        let base = base.parent().expect("a file has a directory");
        for quoted in text.split('`').skip(1).step_by(2) {
            let path = quoted.split(['#', ':']).next().unwrap_or_default();
            let is_path = path.contains('/')
                && !path.starts_with(['/', '-', '<', '~'])
                && [".rs", ".md", ".yaml", ".toml", "/"].iter().any(|ending| path.ends_with(ending))
                && !path.contains([' ', '*', '<', '{', '$']);
            if is_path && !root().join(path).exists() && !base.join(path).exists() {
                problems.push(format!("{name}: `{path}` does not exist"));
            }
        }
    }
    report(problems);
}

#[test]
fn the_readme_names_commands_that_exist() {
    let readme = fs::read_to_string(root().join("README.md")).expect("README.md");
    let help = Command::new(env!("CARGO_BIN_EXE_coracle")).arg("help").output().expect("coracle runs");
    let help = String::from_utf8_lossy(&help.stdout).into_owned();
    let known: BTreeSet<&str> =
        help.lines().filter_map(|line| line.strip_prefix("  ")?.split_whitespace().next()).collect();
    let commands = readme.split('`').skip(1).step_by(2).flat_map(str::lines).filter_map(|line| {
        let line = line.trim().trim_start_matches("sudo ");
        line.strip_prefix("coracle ")?.split_whitespace().next()
    });
    let unknown: Vec<_> = commands
        .filter(|command| !known.contains(command))
        .map(|command| format!("README.md: coracle {command} does not exist"))
        .collect();
    report(unknown);
}
