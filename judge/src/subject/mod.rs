//! Who is judged: anything that answers questions.
//!
//! [`Program`] is a command that is started for each question, [`Batch`] one that answers many,
//! [`Library`] a shared library with the C interface of df11, [`Ours`] the decoder of df11 itself.

mod batch;
mod child;
mod library;
mod ours;
mod program;

use std::time::Duration;

use serde::Serialize;

pub use self::batch::{Batch, serve};
pub use self::library::Library;
pub use self::ours::Ours;
pub use self::program::{Commands, Program};
use crate::vectors::Task;

/// The exit code, and the code in the batch protocol, that says: this input breaks a rule.
pub const INVALID: u8 = 10;

/// The code that says: nothing is damaged, but this version of the format is not known here.
pub const UNSUPPORTED: u8 = 11;

/// What an implementation made of a question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// It took the input, and gave these bytes.
    Accepted(Vec<u8>),
    /// It refused the input as one that breaks a rule.
    Invalid(String),
    /// It refused the input as one that it does not know.
    Unsupported(String),
    /// It crashed, did not end in time, or ended with a code that has no meaning.
    Crashed(String),
}

impl Answer {
    /// The word for it in reports.
    #[must_use]
    pub fn word(&self) -> &'static str {
        match self {
            Answer::Accepted(_) => "accepted",
            Answer::Invalid(_) => "invalid",
            Answer::Unsupported(_) => "unsupported",
            Answer::Crashed(_) => "crashed",
        }
    }
}

/// What a question may cost.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Limits {
    /// How long an answer may take.
    pub time: Duration,
    /// How many bytes of address space a program may have; `None` for as many as there are. Kept
    /// on Unix.
    pub memory: Option<u64>,
}

impl Default for Limits {
    /// Ten seconds and 16 GiB.
    fn default() -> Self {
        Limits { time: Duration::from_secs(10), memory: Some(16 << 30) }
    }
}

/// An implementation that is judged.
pub trait Subject {
    /// What it can be asked.
    fn tasks(&self) -> Vec<Task>;

    /// Asks it.
    ///
    /// # Errors
    ///
    /// If it cannot be asked at all, as when a program is not there. What it does wrong is an
    /// [`Answer`].
    fn answer(&mut self, task: Task, input: &[u8]) -> Result<Answer, String>;
}
