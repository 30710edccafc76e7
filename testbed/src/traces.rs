//! What a cluster makes on a machine, to see that nothing of it stays.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use crate::tools::{need, text, wait};

/// How long the kernel may take to finish what was ended.
const PATIENCE: Duration = Duration::from_secs(5);

/// A list of everything on this machine that a cluster could have made.
#[derive(Debug, Eq, PartialEq)]
pub struct Traces(BTreeMap<&'static str, BTreeSet<String>>);

impl Traces {
    /// Those of now.
    ///
    /// # Panics
    /// When `ip` or `nft` is missing or fails.
    #[must_use]
    pub fn now() -> Self {
        let lines = |text: String| text.lines().map(|line| line.trim_end().to_owned()).collect();
        let ip = |arguments: &str| text(Command::new(need("ip")).args(arguments.split(' ')));
        let links = ip("-o link").lines().filter_map(|line| Some(line.split(": ").nth(1)?.to_owned())).collect();
        let temporary = fs::read_dir("/tmp").into_iter().flatten().flatten();
        let temporary = temporary.map(|entry| entry.path().display().to_string());
        Self(BTreeMap::from([
            ("links", links),
            ("addresses", ip("-4 -o addr").lines().filter_map(address).collect()),
            ("routes", lines(ip("-4 route show table all"))),
            ("rules", lines(ip("-4 rule"))),
            ("tables", lines(text(Command::new(need("nft")).args(["list", "ruleset"])))),
            ("mounts", lines(fs::read_to_string("/proc/self/mounts").expect("mounts"))),
            ("processes", processes().into_iter().map(|(pid, command)| format!("{pid} {command}")).collect()),
            ("directories of demonstrations", temporary.filter(|path| path.starts_with("/tmp/coracle")).collect()),
        ]))
    }

    /// Waits until the machine is as it was, without the cluster that has this id.
    ///
    /// # Panics
    /// When something stays, with what it is.
    pub fn assert_back(&self, cluster: &str) {
        wait("machine as it was before", PATIENCE, || {
            // Control groups are the whole machine's and not only this test's.
            let mut groups = Vec::new();
            find_groups(Path::new("/sys/fs/cgroup"), cluster, &mut groups);
            if !groups.is_empty() {
                return Err(format!("control groups {groups:?}"));
            }
            let now = Self::now();
            let differences: Vec<_> = self.0.iter().filter(|(what, before)| now.0[*what] != **before).collect();
            let shown = |(what, before): &(&&str, &BTreeSet<String>)| {
                let (more, less) = (now.0[**what].difference(before), before.difference(&now.0[**what]));
                format!("{what}: more {:?}, less {:?}", more.collect::<Vec<_>>(), less.collect::<Vec<_>>())
            };
            if differences.is_empty() {
                return Ok(());
            }
            Err(differences.iter().map(shown).collect::<Vec<_>>().join("\n"))
        });
    }
}

/// Process ids and command lines, without zombies and the kernel's own threads.
#[must_use]
pub fn processes() -> BTreeMap<u32, String> {
    let all = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = all.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let command = |pid: u32| {
        let line = fs::read_to_string(format!("/proc/{pid}/cmdline")).ok()?.trim_end_matches('\0').replace('\0', " ");
        (!line.is_empty()).then_some((pid, line))
    };
    pids.filter_map(command).collect()
}

/// `2: eth0    inet 10.0.0.1/24 …`: the link and the address.
fn address(line: &str) -> Option<String> {
    let mut words = line.split_whitespace();
    Some(format!("{} {}", words.nth(1)?, words.nth(1)?))
}

fn find_groups(dir: &Path, name: &str, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            if entry.file_name().to_string_lossy().contains(name) {
                found.push(entry.path());
            }
            find_groups(&entry.path(), name, found);
        }
    }
}
