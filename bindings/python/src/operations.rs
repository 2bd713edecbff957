//! Operations on whole checkpoints. Their reports are returned as JSON.

use std::path::PathBuf;

use checkpoint::{Codec, CompressOptions, DecompressOptions, PatternDict};
use pyo3::prelude::*;
use serde::Serialize;

use crate::error;
use crate::run::operation;

/// Parses a pattern dictionary.
pub(crate) fn pattern_dict(py: Python<'_>, text: Option<&str>) -> PyResult<Option<PatternDict>> {
    text.map(serde_json::from_str)
        .transpose()
        .map_err(|problem| error::invalid(py, &format!("the pattern dictionary is none: {problem}")))
}

/// Returns the codec of this name.
pub(crate) fn codec(py: Python<'_>, name: Option<&str>) -> PyResult<Codec> {
    Ok(match name {
        None => Codec::Choose,
        Some("df11") => Codec::Df11,
        Some("rans") => Codec::Rans,
        Some("fast") => Codec::Fast,
        Some("auto") => Codec::Auto,
        Some(other) => {
            let problem = format!("there is no codec {other:?}, but 'df11', 'rans', 'fast' and 'auto'");
            return Err(error::invalid(py, &problem));
        }
    })
}

pub(crate) fn report<T: Serialize>(
    py: Python<'_>,
    report: PyResult<Result<T, checkpoint::Error>>,
) -> PyResult<String> {
    let report = report?.map_err(|error| error::of_checkpoint(py, &error))?;
    serde_json::to_string(&report).map_err(|problem| error::invalid(py, &problem.to_string()))
}

/// Compresses a checkpoint.
#[pyfunction]
#[pyo3(signature = (src, dst, codec_name, pattern_dict_json, single_file, max_shard_size, threads, progress, force))]
#[expect(clippy::too_many_arguments, reason = "one for each of the Python function")]
pub(crate) fn compress(
    py: Python<'_>,
    src: PathBuf,
    dst: PathBuf,
    codec_name: Option<&str>,
    pattern_dict_json: Option<&str>,
    single_file: bool,
    max_shard_size: Option<u64>,
    threads: usize,
    progress: Option<Bound<'_, PyAny>>,
    force: bool,
) -> PyResult<String> {
    let options = CompressOptions {
        codec: codec(py, codec_name)?,
        pattern_dict: pattern_dict(py, pattern_dict_json)?,
        single_file,
        force,
        threads,
        max_shard_size,
        ..CompressOptions::default()
    };
    let done = operation(py, progress.as_ref(), |state| checkpoint::compress(&src, &dst, &options, state));
    report(py, done)
}

/// Returns the options of restoring.
pub(crate) fn decompress_options(
    py: Python<'_>,
    pattern_dict_json: Option<&str>,
    threads: usize,
    force: bool,
) -> PyResult<DecompressOptions> {
    let pattern_dict = pattern_dict(py, pattern_dict_json)?;
    Ok(DecompressOptions { pattern_dict, force, threads, ..DecompressOptions::default() })
}

/// Restores a checkpoint.
#[pyfunction]
#[pyo3(signature = (src, dst, pattern_dict_json, threads, progress, force))]
pub(crate) fn decompress(
    py: Python<'_>,
    src: PathBuf,
    dst: PathBuf,
    pattern_dict_json: Option<&str>,
    threads: usize,
    progress: Option<Bound<'_, PyAny>>,
    force: bool,
) -> PyResult<String> {
    let options = decompress_options(py, pattern_dict_json, threads, force)?;
    let done = operation(py, progress.as_ref(), |state| checkpoint::decompress(&src, &dst, &options, state));
    report(py, done)
}

/// Checks a checkpoint.
#[pyfunction]
#[pyo3(signature = (path, against, threads, progress))]
pub(crate) fn verify(
    py: Python<'_>,
    path: PathBuf,
    against: Option<PathBuf>,
    threads: usize,
    progress: Option<Bound<'_, PyAny>>,
) -> PyResult<String> {
    let done = operation(py, progress.as_ref(), |state| {
        checkpoint::verify(&path, against.as_deref(), threads, state)
    });
    report(py, done)
}

/// Inspects a checkpoint.
#[pyfunction]
#[pyo3(signature = (path, pattern_dict_json, threads))]
pub(crate) fn inspect(
    py: Python<'_>,
    path: PathBuf,
    pattern_dict_json: Option<&str>,
    threads: usize,
) -> PyResult<String> {
    let dict = pattern_dict(py, pattern_dict_json)?;
    let done = operation(py, None, |_| checkpoint::inspect(&path, dict.as_ref(), threads));
    report(py, done)
}
