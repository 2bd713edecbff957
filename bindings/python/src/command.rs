//! The command `df11` of the crate `df11-cli`.

use pyo3::prelude::*;

/// Runs the command with these arguments, whose first is the name of the program. Returns the exit
/// code.
#[pyfunction]
pub(crate) fn command(py: Python<'_>, arguments: Vec<std::ffi::OsString>) -> u8 {
    py.detach(|| df11_cli::run(arguments))
}
