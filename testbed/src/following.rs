//! A program that goes on, read while it runs.

use std::{
    io::{BufRead as _, BufReader, Read},
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread,
    time::Duration,
};

use crate::tools::wait;

/// Like `kubectl get --watch`; ended when dropped.
pub struct Following {
    process: Child,
    said: Arc<Mutex<String>>,
}

impl Following {
    /// Starts it.
    ///
    /// # Panics
    /// When that fails.
    #[must_use]
    pub fn of(mut command: Command) -> Self {
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut process = command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
        let said = Arc::new(Mutex::new(String::new()));
        collect(process.stdout.take().expect("a pipe"), said.clone());
        collect(process.stderr.take().expect("a pipe"), said.clone());
        Self { process, said }
    }

    /// Everything that it has printed.
    #[must_use]
    pub fn said(&self) -> String {
        lock(&self.said).clone()
    }

    /// Waits until what it has printed is as wanted.
    ///
    /// # Panics
    /// When that does not happen in time.
    pub fn until(&self, what: &str, patience: Duration, wanted: impl Fn(&str) -> bool) {
        wait(what, patience, || {
            let said = self.said();
            if wanted(&said) { Ok(()) } else { Err(said) }
        });
    }

    /// Waits until it ends by itself, and returns whether it succeeded.
    ///
    /// # Panics
    /// When it does not in time.
    pub fn end(&mut self, patience: Duration) -> bool {
        let status = wait("end", patience, || match self.process.try_wait() {
            Ok(Some(status)) => Ok(status),
            _ => Err(lock(&self.said).clone()),
        });
        status.success()
    }
}

impl Drop for Following {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn collect(from: impl Read + Send + 'static, into: Arc<Mutex<String>>) {
    thread::spawn(move || {
        let mut lines = BufReader::new(from);
        let mut line = Vec::new();
        while lines.read_until(b'\n', &mut line).is_ok_and(|length| length > 0) {
            lock(&into).push_str(&String::from_utf8_lossy(&line));
            line.clear();
        }
    });
}

fn lock(said: &Mutex<String>) -> MutexGuard<'_, String> {
    said.lock().unwrap_or_else(PoisonError::into_inner)
}
