//! Single tensors as frames.

use codec::frame::{Codec, ElementType, EncodeOptions, Frame};
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use crate::error;
use crate::memory::Memory;
use crate::run::count;

/// Shorter inputs, in bytes, are not worth starting threads for.
const SHORT: usize = 1 << 21;

/// Makes a pool of threads for one call; `None` for a short input. The threads of a lasting pool
/// would be missing in a process that forks.
fn pool(py: Python<'_>, threads: usize, bytes: usize) -> PyResult<rayon::ThreadPool> {
    let threads = if bytes <= SHORT { 1 } else { count(threads) };
    rayon::ThreadPoolBuilder::new()
        .num_threads(threads)
        .build()
        .map_err(|problem| error::invalid(py, &format!("cannot start {threads} threads: {problem}")))
}

/// Encodes elements of this type (in the naming of safetensors) and shape.
#[pyfunction]
pub(crate) fn encode_frame<'py>(
    py: Python<'py>,
    element_type: &str,
    shape: Vec<u64>,
    elements: Memory,
    codec_name: &str,
    threads: usize,
) -> PyResult<Bound<'py, PyBytes>> {
    let element_type = ElementType::ALL
        .into_iter()
        .find(|known| known.name() == element_type)
        .ok_or_else(|| error::invalid(py, &format!("frames hold no elements of type {element_type}")))?;
    let options = match codec_name {
        "rans" => EncodeOptions::new().codec(Codec::Rans),
        "fast" => EncodeOptions::new().codec(Codec::Dictionary),
        other => {
            let problem = format!("frames have no codec {other:?}, but 'rans' and 'fast'");
            return Err(error::invalid(py, &problem));
        }
    };
    // SAFETY: the Python sources hold an array and pass its memory.
    let elements = unsafe { elements.as_bytes() };
    let pool = pool(py, threads, elements.len())?;
    let frame = py.detach(|| pool.install(|| options.encode_parallel(element_type, &shape, elements)));
    frame.map(|frame| PyBytes::new(py, &frame)).map_err(|error| error::of_codec(py, error))
}

/// Returns the element type, the shape and the size in bytes of the tensor in a frame.
#[pyfunction]
pub(crate) fn describe_frame(py: Python<'_>, frame: Memory) -> PyResult<(&'static str, Vec<u64>, usize)> {
    // SAFETY: the Python sources hold an array over the frame and pass its memory.
    let frame = Frame::new(unsafe { frame.as_bytes() }).map_err(|error| error::of_codec(py, error))?;
    let header = frame.header();
    Ok((header.element_type().name(), header.shape().collect(), frame.elements_bytes()))
}

/// Decodes a frame.
#[pyfunction]
pub(crate) fn decode_frame(py: Python<'_>, frame: Memory, out: Memory, threads: usize) -> PyResult<()> {
    // SAFETY: the Python sources hold an array over the frame, and a new one that nothing else
    // uses.
    let (bytes, out) = unsafe { (frame.as_bytes(), out.as_bytes_mut()) };
    let pool = pool(py, threads, out.len())?;
    let done = py.detach(|| pool.install(|| Frame::new(bytes)?.decoder().decode_parallel_into(out)));
    done.map_err(|error| error::of_codec(py, error))
}
