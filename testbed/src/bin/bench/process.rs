//! Programs under measure.

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};

/// How long a program may take until it does its work.
const PATIENCE: Duration = Duration::from_secs(30);

/// A program that ends with this value.
pub(crate) struct Process(Child);

impl Process {
    /// One of our own, which says a line as soon as it does its work.
    pub(crate) fn ours(mut command: Command) -> anyhow::Result<Self> {
        let mut this = Self(command.stdout(Stdio::piped()).spawn().with_context(|| format!("start {command:?}"))?);
        let stdout = this.0.stdout.take().context("no standard output")?;
        let mut line = String::new();
        BufReader::new(stdout).read_line(&mut line)?;
        if line.is_empty() {
            bail!("{command:?} ended: {}", this.0.wait()?);
        }
        Ok(this)
    }

    /// Another's, which does its work as soon as it listens.
    pub(crate) fn another(mut command: Command, listens: impl Fn() -> anyhow::Result<bool>) -> anyhow::Result<Self> {
        let child = command.stdout(Stdio::null()).spawn().with_context(|| format!("start {command:?}"))?;
        let (mut this, began) = (Self(child), Instant::now());
        while !listens()? {
            if let Some(status) = this.0.try_wait()? {
                bail!("{command:?} ended: {status}");
            }
            if began.elapsed() > PATIENCE {
                bail!("{command:?} does not listen within {PATIENCE:?}");
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(this)
    }

    pub(crate) fn pid(&self) -> u32 {
        self.0.id()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A program of a peer, or the package that has it.
pub(crate) fn find(program: &str) -> anyhow::Result<PathBuf> {
    let package = match program {
        "h2load" => "nghttp2-client",
        "nginx" => "nginx-light",
        tables if tables.contains("tables-") => "iptables",
        other => other,
    };
    let mut dirs = ["/usr/sbin", "/usr/bin", "/sbin"].iter().map(|dir| Path::new(dir).join(program));
    dirs.find(|path| path.exists()).with_context(|| format!("{program} is missing: apt-get install {package}"))
}
