//! Single units in the DF11 layout.

use codec::hazmat::huffman::{CodeLengths, Codewords, PrefixTablesBuf};
use codec::{Decoder, EncodeOptions, Parts, Plan, Unit};
use pyo3::prelude::*;
use pyo3::types::{PyByteArray, PyBytes};

use crate::error;
use crate::memory::Memory;
use crate::run::{count, operation};

/// Encodes tensors of BF16 as one unit: its six parts, in the order of their specification. They
/// are writable, so that tensors can be made of them without a copy.
#[pyfunction]
pub(crate) fn encode_unit<'py>(
    py: Python<'py>,
    tensors: Vec<Memory>,
    threads: usize,
) -> PyResult<Vec<Bound<'py, PyByteArray>>> {
    // SAFETY: the Python sources hold the tensors and pass their memory.
    let tensors: Vec<&[u8]> = tensors.into_iter().map(|memory| unsafe { memory.as_bytes() }).collect();
    let pool = rayon::ThreadPoolBuilder::new()
        .num_threads(count(threads))
        .build()
        .map_err(|problem| error::invalid(py, &problem.to_string()))?;
    let unit = operation(py, None, |_| pool.install(|| EncodeOptions::new().encode_parallel(&tensors)));
    let unit = unit?.map_err(|error| error::of_codec(py, error))?;
    Ok(unit.as_slices().into_array().into_iter().map(|part| PyByteArray::new(py, part)).collect())
}

/// Decodes all tensors of a unit, one after the other.
#[pyfunction]
pub(crate) fn decode_unit(py: Python<'_>, parts: [Memory; 6], out: Memory) -> PyResult<()> {
    // SAFETY: the Python sources hold the parts, and a new tensor that nothing else uses.
    let (parts, out) = unsafe { (parts.map(|part| part.as_bytes()), out.as_bytes_mut()) };
    let done = py.detach(|| {
        let unit = Unit::new(Parts::from_array(parts))?;
        Decoder::new(&unit).decode_into(out)
    });
    done.map_err(|error| error::of_codec(py, error))
}

/// Returns the canonical code for these frequencies of exponents: the length and the bits of each
/// codeword. The length is 0 for exponents that do not occur.
#[pyfunction]
pub(crate) fn code_of(py: Python<'_>, frequencies: Vec<u64>) -> PyResult<Vec<(u8, u32)>> {
    let frequencies: &[u64; 256] = frequencies
        .as_slice()
        .try_into()
        .map_err(|_| error::invalid(py, "frequencies are 256 numbers, one for each exponent"))?;
    let code = Plan::from_frequencies(frequencies, 1, &EncodeOptions::default())
        .map_err(|error| error::of_codec(py, error))?;
    let code = code.codewords();
    Ok((0..=255).map(|symbol| (code.len(symbol), code.bits(symbol))).collect())
}

/// Returns the prefix tables and lengths of the canonical code with these lengths, in rows of 256
/// bytes.
#[pyfunction]
pub(crate) fn tables_of<'py>(py: Python<'py>, lengths: Vec<u8>) -> PyResult<Bound<'py, PyBytes>> {
    let lengths: &[u8; 256] = lengths
        .as_slice()
        .try_into()
        .map_err(|_| error::invalid(py, "lengths are 256 numbers, one for each exponent"))?;
    let tables = CodeLengths::new(lengths)
        .and_then(|lengths| Codewords::canonical(&lengths))
        .and_then(|code| PrefixTablesBuf::build(&code));
    tables.map(|tables| PyBytes::new(py, tables.as_bytes())).map_err(|error| error::of_codec(py, error))
}
