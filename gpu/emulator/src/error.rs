//! Why something could not be run at all; what is wrong with a kernel that runs is a
//! [`Finding`](crate::Finding).

use std::fmt;

/// Why a module could not be read or a kernel not be run.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Error {
    /// The text is not PTX, or none that this emulator knows.
    Parse {
        /// The line, from 1 on.
        line: usize,
        /// What is not understood there.
        problem: String,
    },
    /// There is no kernel of that name.
    NoKernel {
        /// The name.
        name: String,
        /// The kernels that there are.
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
