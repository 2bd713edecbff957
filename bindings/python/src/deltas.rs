//! Tensors as deltas against those of a base.

use std::cmp::Reverse;
use std::sync::{Mutex, MutexGuard, PoisonError};

use codec::delta::{DecodeTable, Delta, EncodeOptions};
use codec::frame::ElementType;
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use crate::error;
use crate::memory::Memory;
use crate::run::jobs;

/// For less than this many bytes of all tensors, starting threads takes longer than the work.
const SHORT: usize = 1 << 20;

/// A tensor that is encoded.
struct Encoding<'a> {
    number: usize,
    element_type: ElementType,
    new: &'a [u8],
    base: &'a [u8],
    delta: Mutex<Vec<u8>>,
}

/// Where the elements of a tensor come from and go to.
enum Place<'a> {
    /// Over those of the base.
    Over(&'a mut [u8]),
    /// From the base's to other memory.
    To { base: &'a [u8], out: &'a mut [u8] },
}

/// A tensor that is restored.
struct Applying<'a> {
    number: usize,
    bytes: usize,
    element_type: ElementType,
    delta: &'a [u8],
    place: Mutex<Place<'a>>,
}

/// What went wrong with a tensor, and which.
enum Problem {
    OtherType(ElementType),
    Codec(codec::Error),
}

type Failed = (usize, Problem);

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

pub(crate) fn element_type(py: Python<'_>, name: &str) -> PyResult<ElementType> {
    let known = ElementType::ALL.into_iter().find(|known| known.name() == name);
    known.ok_or_else(|| error::invalid(py, &format!("deltas hold no elements of type {name}")))
}

/// Encodes tensors against those of a base: for each its element type, its elements and the base's.
/// Blocks have as many elements as is shortest, or this many.
#[pyfunction]
pub(crate) fn encode_deltas<'py>(
    py: Python<'py>,
    names: Vec<String>,
    tensors: Vec<(String, Memory, Memory)>,
    threads: usize,
    block: Option<usize>,
) -> PyResult<Vec<Bound<'py, PyBytes>>> {
    let how = block.map_or(EncodeOptions::new(), |block| EncodeOptions::new().block(block));
    let mut work = Vec::with_capacity(tensors.len());
    let mut bytes = 0;
    for (number, (element, new, base)) in tensors.iter().enumerate() {
        // SAFETY: the Python sources hold the tensors and pass their memory.
        let (new, base) = unsafe { (new.as_bytes(), base.as_bytes()) };
        bytes += new.len();
        let element_type = element_type(py, element)?;
        work.push(Encoding { number, element_type, new, base, delta: Mutex::default() });
    }
    // The longest first, so that no thread is left with it at the end.
    work.sort_by_key(|one| Reverse(one.new.len()));
    let done = jobs(py, &work, threads, bytes <= SHORT, |one| {
        let delta = how.encode(one.element_type, one.new, one.base);
        *lock(&one.delta) = delta.map_err(|problem| (one.number, Problem::Codec(problem)))?;
        Ok(())
    });
    done?.map_err(|failed| raised(py, &names, failed))?;
    work.sort_by_key(|one| one.number);
    Ok(work.iter().map(|one| PyBytes::new(py, &lock(&one.delta))).collect())
}

/// Restores tensors: for each its element type, its delta, the base's elements, and memory for the
/// result, which is either exactly the base's or shared with nothing.
///
/// Nothing is written before all deltas and bases have been compared with their checksums.
#[pyfunction]
pub(crate) fn apply_deltas(
    py: Python<'_>,
    names: Vec<String>,
    tensors: Vec<(String, Memory, Memory, Memory)>,
    threads: usize,
) -> PyResult<()> {
    expect_apart(py, &names, &tensors)?;
    let mut work = Vec::with_capacity(tensors.len());
    for (number, (element, delta, base, out)) in tensors.iter().enumerate() {
        let is_in_place = out.is_same(base);
        // SAFETY: the Python sources hold the tensors and the delta, and pass their memory. What is
        // written is shared with no other memory here (`expect_apart`), but for that of its own
        // base, which is then not used.
        let (delta, place) = unsafe {
            let out = out.as_bytes_mut();
            let place = if is_in_place { Place::Over(out) } else { Place::To { base: base.as_bytes(), out } };
            (delta.as_bytes(), Mutex::new(place))
        };
        let element_type = element_type(py, element)?;
        work.push(Applying { number, bytes: out.len(), element_type, delta, place });
    }
    work.sort_by_key(|one| Reverse(one.bytes));
    let bytes = work.iter().map(|one| one.bytes).sum::<usize>();
    for step in [check, restore] {
        jobs(py, &work, threads, bytes <= SHORT, step)?.map_err(|failed| raised(py, &names, failed))?;
    }
    Ok(())
}

/// Compares a delta and its base with their checksums.
fn check(one: &Applying<'_>) -> Result<(), Failed> {
    let failed = |problem| (one.number, problem);
    let delta = Delta::new(one.delta).map_err(|problem| failed(Problem::Codec(problem)))?;
    if delta.element_type() != one.element_type {
        return Err(failed(Problem::OtherType(delta.element_type())));
    }
    let checked = match &*lock(&one.place) {
        Place::Over(elements) => delta.verify_base(elements),
        Place::To { base, .. } => delta.verify_base(base),
    };
    checked.map_err(|problem| failed(Problem::Codec(problem)))
}

/// Restores the elements of a tensor.
fn restore(one: &Applying<'_>) -> Result<(), Failed> {
    let mut table = Box::new(DecodeTable::new());
    let restored = Delta::new(one.delta).and_then(|delta| match &mut *lock(&one.place) {
        Place::Over(elements) => delta.apply_in_place(&mut table, elements),
        Place::To { base, out } => delta.apply_in(&mut table, base, out),
    });
    restored.map_err(|problem| (one.number, Problem::Codec(problem)))
}

/// Refuses memory that is written and has something in common with other memory.
pub(crate) fn expect_apart(
    py: Python<'_>,
    names: &[String],
    tensors: &[(String, Memory, Memory, Memory)],
) -> PyResult<()> {
    let mut regions = Vec::with_capacity(3 * tensors.len());
    for (number, (_, delta, base, out)) in tensors.iter().enumerate() {
        let kept = if out.is_same(base) { [Some(delta), None] } else { [Some(delta), Some(base)] };
        regions.extend(kept.into_iter().flatten().map(|memory| (memory.range(), false, number)));
        regions.push((out.range(), true, number));
    }
    regions.retain(|(range, ..)| !range.is_empty());
    regions.sort_by_key(|(range, ..)| range.start);
    // The ends of what was read and written so far, and whose they are.
    let (mut read, mut written) = ((0, 0), (0, 0));
    for (range, is_written, number) in regions {
        let before = if is_written && read.0 > written.0 { read } else { written };
        if range.start < before.0 {
            let name = |number: usize| names.get(number).map_or("", String::as_str);
            let problem = format!(
                "the tensors {:?} and {:?} share memory that would be written; give each memory once \
                 (named_parameters() of a module does)",
                name(before.1),
                name(number)
            );
            return Err(error::invalid(py, &problem));
        }
        let end = if is_written { &mut written } else { &mut read };
        *end = (*end).max((range.end, number));
    }
    Ok(())
}

/// Makes the exception for what went wrong with a tensor. A single one has no name.
fn raised(py: Python<'_>, names: &[String], (number, problem): Failed) -> PyErr {
    let name = names.get(number).map(String::as_str);
    match problem {
        Problem::Codec(problem) => error::of_tensor(py, name, &problem),
        Problem::OtherType(found) => of_other_type(py, name, found),
    }
}

/// Makes the exception for a delta whose elements are of this type, and not of the tensor's.
pub(crate) fn of_other_type(py: Python<'_>, name: Option<&str>, found: ElementType) -> PyErr {
    let of = name.map_or_else(String::new, |name| format!("tensor {name}: "));
    error::invalid(py, &format!("{of}the delta holds elements of type {}, the base does not", found.name()))
}

/// Describes a delta: the type of its elements, its method, the elements of the result, how many of
/// them are given against the base, and how many of these are other than the base's.
#[pyfunction]
pub(crate) fn describe_delta(
    py: Python<'_>,
    delta: Memory,
) -> PyResult<(&'static str, &'static str, usize, usize, u64)> {
    // SAFETY: the Python sources hold an array over the delta and pass its memory.
    let delta = Delta::new(unsafe { delta.as_bytes() }).map_err(|error| error::of_codec(py, error))?;
    let (element_type, method) = (delta.element_type().name(), delta.method().name());
    Ok((element_type, method, delta.len(), delta.common(), delta.changed()))
}
