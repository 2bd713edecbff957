//! Tensors on a device that become others by deltas, in place.

use codec::delta;
use df11_gpu::{Delta, Error, Gpu, Update};
use pyo3::prelude::*;

use super::host::{Failure, Host, stream_of};
use crate::deltas::{element_type, expect_apart, of_other_type};
use crate::error;
use crate::memory::Memory;

/// Tensors in the memory of an emulated device begin at multiples of this number of bytes.
const ALIGNED: u64 = 256;

/// A tensor: its element type, its delta, and where its elements are.
pub(super) type Changed = (String, Memory, Memory);

/// Applies deltas over their bases, in the order of a stream, and waits. If one base is wrong,
/// nothing is changed.
///
/// The Python sources hold the deltas, and the tensors in the device's memory, until this returns.
pub(super) fn update(
    py: Python<'_>,
    gpu: &Gpu,
    names: &[String],
    tensors: &[Changed],
    stream: usize,
) -> PyResult<()> {
    let memories = tensors.iter().map(|(element, delta, out)| (element.clone(), *delta, *out, *out));
    expect_apart(py, names, &memories.collect::<Vec<_>>())?;
    let mut deltas = Vec::with_capacity(tensors.len());
    for (number, (element, delta, out)) in tensors.iter().enumerate() {
        let name = names.get(number).map(String::as_str);
        // SAFETY: the Python sources hold the delta, and nobody writes to it.
        let bytes = unsafe { delta.as_bytes() };
        let found = delta::Delta::new(bytes).map_err(|error| error::of_tensor(py, name, &error))?;
        if found.element_type() != element_type(py, element)? {
            return Err(of_other_type(py, name, found.element_type()));
        }
        let uploaded = py.detach(|| gpu.upload_delta(bytes));
        let uploaded = uploaded.map_err(|error| match &error {
            Error::Invalid(error) => error::of_tensor(py, name, error),
            _ => error::of_gpu(py, &error, None),
        })?;
        if uploaded.bytes() != out.len() {
            let (expected, found) = (uploaded.bytes(), out.len());
            let problem = format!("{}: the result has {expected} bytes, and its memory {found}", what(name));
            return Err(error::invalid(py, &problem));
        }
        deltas.push(uploaded);
    }
    match py.detach(|| apply(gpu, &deltas, tensors, stream)) {
        Err(Failure::Gpu(error)) => {
            let (item, clause, kind) = match error {
                Error::Base { item, clause, .. } => (item, clause, "checksum"),
                Error::Lost { item, clause, .. } => (item, clause, "corrupt"),
                other => return Err(error::of_gpu(py, &other, None)),
            };
            let name = names.get(item).map(String::as_str);
            Err(error::of_fault(py, &format!("{}: {error}", what(name)), kind, clause, name))
        }
        done => done.map_err(|failure| failure.raised(py)),
    }
}

fn what(name: Option<&str>) -> String {
    name.map_or_else(|| "the tensor".to_owned(), |name| format!("tensor {name}"))
}

/// Applies uploaded deltas, each to memory of its result's size.
fn apply(gpu: &Gpu, deltas: &[Delta], tensors: &[Changed], stream: usize) -> Result<(), Failure> {
    let (stream, mut offsets, mut total) = (stream_of(stream), Vec::with_capacity(deltas.len()), 0u64);
    for (_, _, out) in tensors {
        offsets.push(total);
        total += (out.len() as u64).next_multiple_of(ALIGNED);
    }
    let host = Host::of(gpu, total as usize)?;
    let places = tensors
        .iter()
        .zip(&offsets)
        .map(|((_, _, out), offset)| if host.is_some() { *offset } else { out.range().start as u64 });
    let update = Update::new(gpu, &deltas.iter().zip(places).collect::<Vec<_>>())?;
    let Some(host) = host else {
        // SAFETY: the Python sources pass a stream of this device, and hold the tensors, which
        // nobody else uses until this returns: each has the size of its result, and they have
        // nothing in common (`expect_apart`).
        return unsafe {
            update.enqueue(stream, 0)?;
            Ok(update.check(stream)?)
        };
    };
    let placed = || tensors.iter().zip(&offsets).filter(|((_, _, out), _)| out.len() > 0);
    // SAFETY: as above, and the emulated device's memory has room for everything.
    unsafe {
        for ((_, _, out), offset) in placed() {
            host.enqueue_upload(gpu, stream, *offset, out.range().start as u64, out.len() as u64)?;
        }
        update.enqueue(stream, host.address())?;
        let checked = update.check(stream);
        for ((_, _, out), offset) in placed() {
            let to = (out.range().start as u64).wrapping_sub(*offset);
            host.enqueue_download(gpu, stream, *offset..*offset + out.len() as u64, to)?;
        }
        // This waits.
        update.statuses(stream)?;
        Ok(checked?)
    }
}
