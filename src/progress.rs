//! What a person sees while a cluster starts: a line that changes on a terminal, lines elsewhere.

use std::{
    fmt::Display,
    io::{IsTerminal as _, Write as _},
    time::Duration,
};

use indicatif::{ProgressBar, ProgressStyle};
use serde::{Deserialize, Serialize};

/// Prints a line. The reader may be gone, as with `| head`: then nobody wants to know.
pub(crate) fn say(line: impl Display) {
    let _ = writeln!(std::io::stdout(), "{line}");
}

/// Prints a line for the person on standard error.
pub(crate) fn complain(line: impl Display) {
    let _ = writeln!(std::io::stderr(), "{line}");
}

/// One message of a detached cluster to the process that waits for it.
#[derive(Debug, Deserialize, Serialize)]
pub(crate) enum Note {
    /// What is being done.
    Step(String),
    /// It runs; the summary.
    Ready(String),
    /// It does not.
    Failed(String),
}

/// Where notes go.
pub(crate) enum Progress {
    /// A line on a terminal.
    Terminal(ProgressBar),
    /// Lines on standard error, only what matters.
    Plain,
    /// One line of JSON each on standard output, for the process that detached this one.
    Notes,
}

impl Progress {
    /// For a person.
    pub(crate) fn person() -> Self {
        if !std::io::stderr().is_terminal() {
            return Self::Plain;
        }
        let bar = ProgressBar::new_spinner();
        if let Ok(style) = ProgressStyle::with_template("{spinner:.cyan} {msg} {elapsed:.dim}") {
            bar.set_style(style);
        }
        bar.enable_steady_tick(Duration::from_millis(100));
        Self::Terminal(bar)
    }

    pub(crate) fn step(&self, text: &str) {
        match self {
            Self::Terminal(bar) => bar.set_message(text.to_owned()),
            Self::Plain => {}
            Self::Notes => note(&Note::Step(text.to_owned())),
        }
    }

    /// The end of the start: shows the summary.
    pub(crate) fn ready(&self, summary: &str) {
        match self {
            Self::Terminal(bar) => bar.finish_and_clear(),
            Self::Plain => {}
            Self::Notes => return note(&Note::Ready(summary.to_owned())),
        }
        say(summary);
    }

    /// The end of the start: the caller reports the error, unless only notes are read.
    pub(crate) fn failed(&self, error: &anyhow::Error) {
        match self {
            Self::Terminal(bar) => bar.finish_and_clear(),
            Self::Plain => {}
            Self::Notes => note(&Note::Failed(format!("{error:#}"))),
        }
    }
}

fn note(note: &Note) {
    if let Ok(line) = serde_json::to_string(note) {
        say(line);
    }
}
