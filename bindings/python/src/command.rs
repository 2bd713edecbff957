//! The command `df11`, which is that of the crate `df11-cli`.

use pyo3::prelude::*;

/// Does what the arguments say, the name of the program first; returns the exit code.
#[pyfunction]
pub(crate) fn command(py: Python<'_>, arguments: Vec<std::ffi::OsString>) -> u8 {
    py.detach(|| df11_cli::run(arguments))
}
