//! Operations on whole checkpoints. Their reports are returned as JSON.

use std::path::PathBuf;

use checkpoint::{Codec, CompressOptions, DecompressOptions, PatternDict, Purpose};
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
fn codec(py: Python<'_>, name: Option<&str>) -> PyResult<Option<Codec>> {
    Ok(Some(match name {
        None => return Ok(None),
        Some("df11") => Codec::Df11,
        Some("rans") => Codec::Rans,
        Some("fast") => Codec::Fast,
        Some("auto") => Codec::Auto,
        Some(other) => {
            let problem = format!("there is no codec {other:?}, but 'df11', 'rans', 'fast' and 'auto'");
            return Err(error::invalid(py, &problem));
        }
    }))
}

/// The purpose of an output, by its name.
fn purpose(py: Python<'_>, name: &str) -> PyResult<Purpose> {
    match name {
        "size" => Ok(Purpose::Size),
        "speed" => Ok(Purpose::Speed),
        "gpu" => Ok(Purpose::Gpu),
        "loader" => Ok(Purpose::Loader),
        other => {
            let problem = format!("there is no purpose {other:?}, but 'size', 'speed', 'gpu' and 'loader'");
            Err(error::invalid(py, &problem))
        }
    }
}

/// What an output is like: codec, purpose, block length, pattern dictionary, size of shards, and
/// whether it may replace what is there.
pub(crate) type Form = (Option<String>, Option<String>, Option<usize>, Option<String>, Option<u64>, bool);

/// Returns the options of compressing, as the command makes them.
pub(crate) fn compress_options(py: Python<'_>, form: Form) -> PyResult<CompressOptions> {
    let (codec_name, purpose_name, block_len, pattern_dict_json, max_shard_size, force) = form;
    let codec = codec(py, codec_name.as_deref())?;
    let mut options = match purpose_name {
        Some(name) => CompressOptions::of(purpose(py, &name)?, codec),
        None => CompressOptions::default().codec(codec.unwrap_or(Codec::Choose)),
    };
    options.block_len = block_len.or(options.block_len);
    options.pattern_dict = pattern_dict(py, pattern_dict_json.as_deref())?;
    options.max_shard_size = max_shard_size;
    Ok(options.force(force))
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
#[pyo3(signature = (src, dst, form, bases, single_file, threads, progress))]
#[expect(clippy::too_many_arguments, reason = "one for each of the Python function")]
pub(crate) fn compress(
    py: Python<'_>,
    src: PathBuf,
    dst: PathBuf,
    form: Form,
    bases: Vec<PathBuf>,
    single_file: bool,
    threads: usize,
    progress: Option<Bound<'_, PyAny>>,
) -> PyResult<String> {
    let options = compress_options(py, form)?.bases(bases).single_file(single_file).threads(threads);
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
    let mut options = DecompressOptions::default().force(force).threads(threads);
    options.pattern_dict = pattern_dict(py, pattern_dict_json)?;
    Ok(options)
}

/// Restores a checkpoint.
#[pyfunction]
#[pyo3(signature = (src, dst, bases, pattern_dict_json, threads, progress, force))]
#[expect(clippy::too_many_arguments, reason = "one for each of the Python function")]
pub(crate) fn decompress(
    py: Python<'_>,
    src: PathBuf,
    dst: PathBuf,
    bases: Vec<PathBuf>,
    pattern_dict_json: Option<&str>,
    threads: usize,
    progress: Option<Bound<'_, PyAny>>,
    force: bool,
) -> PyResult<String> {
    let options = decompress_options(py, pattern_dict_json, threads, force)?.bases(bases);
    let done = operation(py, progress.as_ref(), |state| checkpoint::decompress(&src, &dst, &options, state));
    report(py, done)
}

/// Checks a checkpoint.
#[pyfunction]
#[pyo3(signature = (path, against, bases, threads, progress))]
pub(crate) fn verify(
    py: Python<'_>,
    path: PathBuf,
    against: Option<PathBuf>,
    bases: Vec<PathBuf>,
    threads: usize,
    progress: Option<Bound<'_, PyAny>>,
) -> PyResult<String> {
    let done = operation(py, progress.as_ref(), |state| {
        checkpoint::verify_against_bases(&path, against.as_deref(), &bases, threads, state)
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
