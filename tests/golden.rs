//! Transcripts of a shell in which people use kubectl and coracle: what it prints is part of what Coracle promises.
//!
//! Each file in `tests/golden/` is one session with a cluster of its own, played with every kubectl from 1.30 on that
//! is installed. `$ command` is run by a shell, `> more` continues it, and what follows is what it has to print, both
//! streams; `[2]` at the end is its exit status. `$$ command` is run again until it prints that, and what `$32 command`
//! prints is compared from kubectl 1.32 on, as older ones say it otherwise. What differs from run to run is replaced first
//! (see [`same`]), and columns are apart by two spaces. With `GOLDEN=record` in the environment the files are written
//! anew, with the newest kubectl: read the difference.

use std::{
    fmt::Write as _,
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Command,
    sync::LazyLock,
    time::{Duration, Instant},
};

use regex::Regex;
use testbed::{Lab, Options, inside, need, run, text};

/// How long a `$$` command may take to print what it should.
const PATIENCE: Duration = Duration::from_secs(30);

const CORACLE: &str = env!("CARGO_BIN_EXE_coracle");

/// What is not the same twice, and what stands for it.
static DIFFERENT: LazyLock<Vec<(Regex, &str)>> = LazyLock::new(|| {
    let of = |(pattern, stands): (&str, &'static str)| (Regex::new(pattern).expect("a pattern"), stands);
    [
        (r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", "<uid>"),
        (r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z", "<time>"),
        (r"[A-Z][a-z]{2}, \d\d [A-Z][a-z]{2} \d{4} \d\d:\d\d:\d\d [+-]\d{4}", "<time>"),
        (r#"([rR]esource ?[vV]ersion"?: *)"?\d+"?"#, "$1<revision>"),
        (r"\b10\.(9[6-9]|10\d|11[01])(\.\d+){2}\b", "<service>"),
        (r"\b10\.244\.\d+\.\d+\b", "<pod>"),
        (r":3\d{4}/", ":<port>/"),
        (r"(odePort:\s+(<unset>\s+)?)3\d{4}\b", "$1<port>"),
        (r"\bsha256:[0-9a-f]{64}\b|\bcoracle://[0-9a-f]{64}\b", "<id>"),
        // The end of a generated name.
        (r"-[bcdfghjklmnpqrstvwxz2456789]{5}\b", "-<x>"),
        (r"(^|\s{2,})(\d+[smh]){1,2}( \(x\d+ over (\d+[smh]){1,2}\))?(\s|$)", "$1<age>$5"),
        // What the machine has of its own.
        (r"(search \S+ svc\.cluster\.local cluster\.local)( \S+)+(  ndots)", "$1$3"),
        (r"(\S) {2,}", "$1  "),
        (r"(?m) +$", ""),
    ]
    .map(of)
    .into()
});

/// One command of a transcript.
struct Step {
    /// What the line begins with.
    prompt: String,
    command: String,
    prints: String,
}

impl Step {
    /// Prints the same with that kubectl as with the newest one.
    fn is_compared(&self, minor: u32) -> bool {
        self.prompt[1..].parse().map_or(true, |since: u32| since <= minor)
    }
}

/// A line's prompt and command, where it has them.
fn prompt(line: &str) -> Option<(&str, &str)> {
    let (prompt, command) = line.split_once(' ')?;
    let rest = prompt.strip_prefix('$')?;
    (rest == "$" || rest.bytes().all(|byte| byte.is_ascii_digit())).then_some((prompt, command))
}

fn read(transcript: &str) -> Vec<Step> {
    let mut steps: Vec<Step> = Vec::new();
    for line in transcript.lines() {
        if let Some((prompt, command)) = prompt(line) {
            steps.push(Step { prompt: prompt.into(), command: command.into(), prints: String::new() });
        } else if let Some(step) = steps.last_mut() {
            match line.strip_prefix("> ") {
                Some(more) if step.prints.is_empty() => step.command = format!("{}\n{more}", step.command),
                _ => step.prints += &format!("{line}\n"),
            }
        }
    }
    steps
}

/// The text without what differs from run to run.
fn same(text: &str) -> String {
    text.lines().fold(String::new(), |mut all, line| {
        let line = DIFFERENT
            .iter()
            .fold(line.to_owned(), |line, (different, stands)| different.replace_all(&line, *stands).into_owned());
        let _ = writeln!(all, "{line}");
        all
    })
}

/// The kubectl programs to play with and their minor versions, oldest first: those of other versions beside the one on
/// the PATH, or else that one.
fn kubectls() -> Vec<(u32, PathBuf)> {
    let kubectl = fs::canonicalize(need("kubectl")).expect("the path of kubectl");
    let beside = (30..=33).map(|minor| (minor, kubectl.with_file_name(format!("kubectl.1.{minor}"))));
    let mut found: Vec<_> = beside.filter(|(_, path)| path.is_file()).collect();
    if found.is_empty() {
        let version = text(Command::new(&kubectl).args(["version", "--client", "-o", "json"]));
        let minor = version.split("\"minor\": \"").nth(1).and_then(|rest| rest.split('"').next()?.parse().ok());
        let minor = minor.unwrap_or_else(|| panic!("kubectl has no minor version: {version}"));
        assert!(
            minor >= 30,
            "this test needs kubectl 1.30 or later (./test brings it); the one on the PATH is 1.{minor}"
        );
        found.push((minor, kubectl));
    }
    found
}

/// Runs a command as somebody with this kubectl would.
fn shell(lab: &Lab, bin: &Path, command: &str) -> String {
    let mut shell = Command::new("sh");
    let path = std::env::var("PATH").unwrap_or_default();
    shell.args(["-c", &format!("exec 2>&1\n{command}")]).current_dir(lab.scratch());
    shell.env("PATH", format!("{}:{path}", bin.display())).env("HOME", bin);
    shell.env("KUBECONFIG", lab.data().join("kubeconfig"));
    let output = run(&mut shell);
    let mut said = String::from_utf8_lossy(&output.stdout).into_owned();
    if !said.is_empty() && !said.ends_with('\n') {
        said.push('\n');
    }
    if let Some(code) = output.status.code().filter(|code| *code != 0) {
        let _ = writeln!(said, "[{code}]");
    }
    same(&said.replace(&lab.scratch().display().to_string(), "<dir>"))
}

/// Runs a command, again where that is asked for and it has not printed yet what it should.
fn play_step(lab: &Lab, bin: &Path, step: &Step) -> String {
    let began = Instant::now();
    loop {
        let printed = shell(lab, bin, &step.command);
        if step.prompt != "$$" || printed == step.prints || began.elapsed() > PATIENCE {
            return printed;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn play(name: &str) {
    if !inside(name) {
        return;
    }
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/golden/{name}.txt"));
    let transcript = fs::read_to_string(&file).expect("the transcript");
    let record = std::env::var_os("GOLDEN").is_some_and(|mode| mode == "record");
    let mut wrong = String::new();
    let kubectls = kubectls();
    // What `coracle` says does not depend on kubectl.
    let played = if record || name == "dig" { &kubectls[kubectls.len() - 1..] } else { &kubectls };
    for (minor, kubectl) in played {
        let lab = Lab::start(CORACLE, Options::default());
        lab.kubectl("wait --for=condition=Ready node/coracle --timeout=30s");
        let bin = lab.scratch().join("bin");
        fs::create_dir(&bin).expect("a directory for kubectl");
        // The name that it is called by is what it says to the server who it is.
        std::os::unix::fs::symlink(kubectl, bin.join("kubectl")).expect("a link to kubectl");
        let coracle = format!("#!/bin/sh\nexec {CORACLE} \"$@\" --data-dir {}\n", lab.data().display());
        fs::write(bin.join("coracle"), coracle).expect("a script");
        fs::set_permissions(bin.join("coracle"), fs::Permissions::from_mode(0o755)).expect("a script");
        let mut recorded = transcript.lines().take_while(|line| !line.starts_with('$')).fold(String::new(), line);
        for step in read(&transcript) {
            let printed = play_step(&lab, &bin, &step);
            let _ = writeln!(recorded, "{} {}", step.prompt, step.command.replace('\n', "\n> "));
            recorded += &printed;
            if printed != step.prints && step.is_compared(*minor) {
                let (command, prints) = (&step.command, &step.prints);
                let _ = writeln!(wrong, "--- kubectl 1.{minor}: {command}\n{printed}--- is to print\n{prints}");
            }
        }
        if record {
            fs::write(&file, recorded).expect("the transcript is written");
        }
    }
    assert!(record || wrong.is_empty(), "{wrong}");
}

fn line(mut all: String, line: &str) -> String {
    all += line;
    all.push('\n');
    all
}

#[test]
fn create() {
    play("create");
}

#[test]
fn apply() {
    play("apply");
}

#[test]
fn explain() {
    play("explain");
}

#[test]
fn get() {
    play("get");
}

#[test]
fn change() {
    play("change");
}

#[test]
fn rollout() {
    play("rollout");
}

#[test]
fn describe() {
    play("describe");
}

#[test]
fn dig() {
    play("dig");
}

#[test]
fn service() {
    play("service");
}

#[test]
fn wait() {
    play("wait");
}

#[test]
fn drain() {
    play("drain");
}

#[test]
fn wrong() {
    play("wrong");
}
