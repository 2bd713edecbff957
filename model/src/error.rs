//! Errors of the checkpoint level. Each names the file and the tensor, what is wrong and what to
//! do.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

/// Why a checkpoint could not be read, compressed, verified or restored.
///
/// The [`Display`](fmt::Display) text is one line for people; [`kind`](Error::kind) is for
/// programs.
#[derive(Debug)]
#[non_exhaustive]
pub enum Error {
    /// The operating system refused an operation.
    Io {
        /// The action that failed, as in "cannot write".
        action: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// The error that the operating system returned.
        source: io::Error,
    },
    /// A file's content is wrong.
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong, and the remedy where one is known.
        problem: String,
    },
    /// A unit breaks a rule of the DF11 layout.
    Unit {
        /// The file that holds its code.
        path: PathBuf,
        /// The unit's module path.
        unit: String,
        /// The broken rule.
        source: df11::Error,
    },
    /// A frame breaks a rule of its format.
    Frame {
        /// The file that holds it.
        path: PathBuf,
        /// The tensor's name.
        tensor: String,
        /// The broken rule.
        source: df11::Error,
    },
    /// A tensor's data, type or shape is wrong.
    Tensor {
        /// The file.
        path: PathBuf,
        /// The tensor's name.
        tensor: String,
        /// What is wrong.
        problem: String,
    },
    /// The file to be written is there already, and was not to be replaced.
    OutputExists {
        /// The file.
        path: PathBuf,
    },
    /// The directory to be written holds something that was not to be replaced.
    OutputOccupied {
        /// The directory, or what is in it.
        path: PathBuf,
        /// What is there.
        problem: String,
    },
    /// A single file was named for what is written as a directory.
    NotADirectory {
        /// The file.
        path: PathBuf,
    },
    /// The request cannot be carried out as it was made.
    Usage(String),
    /// [`Progress::is_cancelled`](crate::Progress::is_cancelled) returned true.
    Cancelled,
}

/// The kind of failure that an [`Error`] reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The data is wrong.
    Data,
    /// The request is wrong.
    Usage,
    /// Input or output failed.
    Io,
    /// The caller stopped the operation.
    Cancelled,
}

impl Error {
    /// Returns the kind of this error.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            Error::Io { .. } => ErrorKind::Io,
            Error::OutputExists { .. }
            | Error::OutputOccupied { .. }
            | Error::NotADirectory { .. }
            | Error::Usage(_) => ErrorKind::Usage,
            Error::Cancelled => ErrorKind::Cancelled,
            Error::File { .. } | Error::Unit { .. } | Error::Frame { .. } | Error::Tensor { .. } => {
                ErrorKind::Data
            }
        }
    }

    pub(crate) fn file(path: &Path, problem: impl Into<String>) -> Self {
        Error::File { path: path.to_owned(), problem: problem.into() }
    }

    pub(crate) fn tensor(path: &Path, tensor: &str, problem: impl Into<String>) -> Self {
        Error::Tensor { path: path.to_owned(), tensor: tensor.to_owned(), problem: problem.into() }
    }

    pub(crate) fn frame(path: &Path, tensor: &str, source: df11::Error) -> Self {
        Error::Frame { path: path.to_owned(), tensor: tensor.to_owned(), source }
    }

    pub(crate) fn unit(path: &Path, unit: &str, source: df11::Error) -> Self {
        Error::Unit { path: path.to_owned(), unit: unit.to_owned(), source }
    }
}

/// Converts an I/O error into an [`Error`] with the action and the path.
pub(crate) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Error {
    let path = path.to_owned();
    move |source| Error::Io { action, path, source }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Io { action, path, source } => write!(f, "{action} {}: {source}", path.display()),
            Error::File { path, problem } => write!(f, "{}: {problem}", path.display()),
            Error::Unit { path, unit, source } => write!(f, "{}: unit {unit}: {source}", path.display()),
            Error::Frame { path, tensor, source } => {
                write!(f, "{}: tensor {tensor}: {source}", path.display())
            }
            Error::Tensor { path, tensor, problem } => {
                write!(f, "{}: tensor {tensor}: {problem}", path.display())
            }
            Error::OutputExists { path } => write!(f, "{} exists", path.display()),
            Error::OutputOccupied { path, problem } => {
                write!(f, "{} {problem}; choose another directory", path.display())
            }
            Error::NotADirectory { path } => write!(
                f,
                "compression writes a directory with a file for each unit; name a directory instead of {}",
                path.display()
            ),
            Error::Usage(problem) => f.write_str(problem),
            Error::Cancelled => f.write_str("was stopped before it was done; nothing was changed"),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Error::Io { source, .. } => Some(source),
            Error::Unit { source, .. } | Error::Frame { source, .. } => Some(source),
            Error::File { .. }
            | Error::Tensor { .. }
            | Error::OutputExists { .. }
            | Error::OutputOccupied { .. }
            | Error::NotADirectory { .. }
            | Error::Usage(_)
            | Error::Cancelled => None,
        }
    }
}
