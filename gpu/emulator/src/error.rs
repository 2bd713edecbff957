//! Errors that prevent a run. Faults of a running kernel are [`Finding`](crate::Finding)s instead.

use std::fmt;

/// The reason why a module could not be read or a kernel could not be run.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Error {
    /// The text is not PTX, or not PTX that this emulator supports.
    Parse {
        /// The line, from 1 on.
        line: usize,
        /// What is wrong there.
        problem: String,
    },
    /// There is no kernel of this name.
    NoKernel {
        /// The name.
        name: String,
        /// The kernels of the module.
        known: Vec<String>,
    },
    /// The launch does not fit the kernel.
    Launch {
        /// What is wrong with it.
        problem: String,
    },
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Parse { line, problem } => write!(f, "PTX line {line}: {problem}"),
            Error::NoKernel { name, known } => {
                write!(f, "there is no kernel {name:?}; the module has {}", known.join(", "))
            }
            Error::Launch { problem } => write!(f, "the kernel cannot be launched: {problem}"),
        }
    }
}

impl std::error::Error for Error {}
