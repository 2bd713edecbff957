//! Work that many machines share: plans and their tasks. Reports are returned as JSON.

use std::path::PathBuf;

use pyo3::prelude::*;

use crate::error;
use crate::operations::{Form, compress_options, decompress_options, report};
use crate::run::operation;

/// Plans the compression of a checkpoint.
#[pyfunction]
#[pyo3(signature = (src, dst, path, form))]
pub(crate) fn plan(
    py: Python<'_>,
    src: PathBuf,
    dst: PathBuf,
    path: Option<PathBuf>,
    form: Form,
) -> PyResult<String> {
    let options = compress_options(py, form)?;
    report(py, operation(py, None, |_| checkpoint::plan(&src, &dst, path.as_deref(), &options)))
}

/// Does a task of a plan.
#[pyfunction]
pub(crate) fn run_task(py: Python<'_>, plan: PathBuf, task: usize, threads: usize) -> PyResult<String> {
    report(py, operation(py, None, |state| checkpoint::run_task(&plan, task, threads, state)))
}

/// Returns the tasks of a plan that are not done.
#[pyfunction]
pub(crate) fn tasks_left(py: Python<'_>, plan: PathBuf) -> PyResult<Vec<usize>> {
    operation(py, None, |_| checkpoint::tasks_left(&plan))?.map_err(|error| error::of_checkpoint(py, &error))
}

/// Makes the output of a plan visible.
#[pyfunction]
pub(crate) fn finish(py: Python<'_>, plan: PathBuf, threads: usize) -> PyResult<String> {
    report(py, operation(py, None, |state| checkpoint::finish(&plan, threads, state)))
}

/// Lists the weight files that are restored, and their lengths in bytes.
#[pyfunction]
pub(crate) fn restore_plan(
    py: Python<'_>,
    src: PathBuf,
    dst: PathBuf,
    pattern_dict_json: Option<&str>,
    force: bool,
) -> PyResult<Vec<(String, u64)>> {
    let options = decompress_options(py, pattern_dict_json, 0, force)?;
    operation(py, None, |_| checkpoint::restore_plan(&src, &dst, &options))?
        .map_err(|error| error::of_checkpoint(py, &error))
}

/// Restores one weight file.
#[pyfunction]
pub(crate) fn restore_task(
    py: Python<'_>,
    src: PathBuf,
    dst: PathBuf,
    file: usize,
    pattern_dict_json: Option<&str>,
    threads: usize,
    force: bool,
) -> PyResult<bool> {
    let options = decompress_options(py, pattern_dict_json, threads, force)?;
    operation(py, None, |state| checkpoint::restore_task(&src, &dst, file, &options, state))?
        .map_err(|error| error::of_checkpoint(py, &error))
}

/// Makes restored files visible.
#[pyfunction]
pub(crate) fn restore_finish(
    py: Python<'_>,
    src: PathBuf,
    dst: PathBuf,
    pattern_dict_json: Option<&str>,
    force: bool,
) -> PyResult<String> {
    let options = decompress_options(py, pattern_dict_json, 0, force)?;
    report(py, operation(py, None, |state| checkpoint::restore_finish(&src, &dst, &options, state)))
}

/// Checks one share of a checkpoint.
#[pyfunction]
pub(crate) fn verify_share(
    py: Python<'_>,
    path: PathBuf,
    against: Option<PathBuf>,
    share: (usize, usize),
    threads: usize,
) -> PyResult<String> {
    let done = operation(py, None, |state| {
        checkpoint::verify_share(&path, against.as_deref(), share, threads, state)
    });
    report(py, done)
}
