//! Output of results: as text, as one JSON document, or not at all; and the exit code.

use std::io::{self, Write};
use std::path::PathBuf;

use df11_model::{Error, ErrorKind};
use serde::Serialize;
use serde_json::json;

use crate::progress::Bars;

/// The error, if any, that the exit code reports after a report was printed.
pub(crate) type Verdict = Option<Error>;

/// How a command prints, and how many threads it uses.
pub(crate) struct Output {
    pub(crate) json: bool,
    pub(crate) quiet: bool,
    pub(crate) threads: usize,
    pub(crate) progress: Bars,
}

impl Output {
    /// Prints a result in the requested form.
    pub(crate) fn show(
        &self,
        report: &impl Serialize,
        text: impl FnOnce() -> String,
    ) -> Result<Verdict, Error> {
        self.progress.clear();
        if self.json {
            print_json(report)?;
        } else if !self.quiet {
            print(&one_lines(&text()))?;
        }
        Ok(None)
    }

    /// Prints on standard error a text that even --quiet does not suppress.
    pub(crate) fn insist(&self, text: &str) {
        if self.quiet && !self.json {
            let _ = io::stderr().write_all(one_lines(text).as_bytes());
        }
    }

    /// Prints the error, if there is one, and returns the exit code.
    pub(crate) fn end(&self, result: Result<Verdict, Error>) -> u8 {
        match result {
            Ok(None) => 0,
            Ok(Some(verdict)) => complain(&verdict),
            // The reader of standard output is gone, so nobody would see a message.
            Err(Error::Io { source, .. }) if source.kind() == io::ErrorKind::BrokenPipe => 0,
            Err(error) => {
                if self.json {
                    // If standard output is gone as well, the exit code still tells.
                    let _ = print_json(&json!({"error": explain(&error), "kind": code(&error).1}));
                }
                complain(&error)
            }
        }
    }
}

/// Returns the exit code of an error, and the name of its kind.
fn code(error: &Error) -> (u8, &'static str) {
    match error.kind() {
        ErrorKind::Usage => (2, "usage"),
        ErrorKind::Io => (3, "io"),
        _ => (1, "data"),
    }
}

/// What an error says, with the flag that would help.
fn explain(error: &Error) -> String {
    match error {
        Error::OutputExists { .. } => format!("{error}; pass --force to replace it"),
        Error::OutputOccupied { .. } => format!("{error}, or pass --force to replace what df11 wrote there"),
        Error::NotADirectory { .. } => format!("{error}, or pass --single-file"),
        _ => error.to_string(),
    }
}

fn complain(error: &Error) -> u8 {
    let _ = writeln!(io::stderr(), "df11: {}", one_line(&explain(error)));
    code(error).0
}

/// Escapes the control characters of a text: names from files must neither break lines nor control
/// the terminal.
fn one_line(text: &str) -> String {
    text.chars().flat_map(|c| if c.is_control() { c.escape_default().collect() } else { vec![c] }).collect()
}

/// Escapes the control characters of each line.
fn one_lines(text: &str) -> String {
    text.lines().map(|line| one_line(line) + "\n").collect()
}

fn print_json(value: &impl Serialize) -> Result<(), Error> {
    let text = serde_json::to_string_pretty(value).map_err(|error| Error::Usage(error.to_string()))?;
    print(&(text + "\n"))
}

fn print(text: &str) -> Result<(), Error> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).map_err(|source| Error::Io {
        action: "cannot write to",
        path: PathBuf::from("standard output"),
        source,
    })
}
