//! Decodes tensors of a checkpoint into the caller's memory.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::PathBuf;

use pyo3::prelude::*;

use crate::error;
use crate::memory::Memory;
use crate::operations::pattern_dict;
use crate::run::{count, jobs};

/// The number of elements that a thread decodes at a time: enough that tables pay, few enough to
/// share a large tensor. It is a multiple of 8, so that elements smaller than a byte end at a byte
/// boundary.
const PIECE: u64 = 1 << 20;

/// The number of elements that are read from a store and decoded at a time: enough that a request
/// pays.
const REMOTE_PIECE: u64 = 8 << 20;

/// Threads that wait for a store, beside those that decode.
const REMOTE_THREADS: usize = 4;

/// For less than this many bytes of all tensors, starting threads takes longer than decoding.
const SHORT: usize = 1 << 21;

/// The description of a tensor: name, element type, shape, elements, bytes, number of its unit,
/// whether it is stored plain.
type Described = (String, String, Vec<usize>, u64, u64, Option<usize>, bool);

/// The description of a unit: module path, names of its tensors, elements, stored bytes.
type DescribedUnit = (String, Vec<String>, u64, u64);

/// An open checkpoint.
#[pyclass(frozen, module = "df11._df11")]
pub(crate) struct Reader(pub(crate) checkpoint::Reader);

/// A piece of a tensor, and its memory.
struct Job<'a> {
    name: &'a str,
    range: Range<u64>,
    out: std::sync::Mutex<&'a mut [u8]>,
}

#[pymethods]
impl Reader {
    #[new]
    #[pyo3(signature = (path, pattern_dict_json = None, whole = false))]
    fn new(py: Python<'_>, path: PathBuf, pattern_dict_json: Option<&str>, whole: bool) -> PyResult<Self> {
        let dict = pattern_dict(py, pattern_dict_json)?;
        let open = if whole { checkpoint::Reader::open_whole } else { checkpoint::Reader::open_with };
        let reader = py.detach(|| open(&path, dict.as_ref()));
        reader.map(Reader).map_err(|error| error::of_checkpoint(py, &error))
    }

    /// Describes all tensors, ordered by name.
    fn tensors(&self) -> Vec<Described> {
        let describe = |tensor: &checkpoint::ReaderTensor| {
            (
                tensor.name().to_owned(),
                tensor.dtype().to_owned(),
                tensor.shape().to_vec(),
                tensor.elements(),
                tensor.bytes(),
                tensor.unit(),
                tensor.is_plain(),
            )
        };
        self.0.tensors().map(describe).collect()
    }

    /// Describes all units.
    fn units(&self) -> Vec<DescribedUnit> {
        let describe = |unit: &checkpoint::ReaderUnit| {
            (unit.path().to_owned(), unit.tensors().to_vec(), unit.elements(), unit.stored_bytes())
        };
        self.0.units().iter().map(describe).collect()
    }

    /// Returns the names of all tensors in the order in which they are stored.
    fn stored_order(&self) -> Vec<&str> {
        self.0.stored_order()
    }

    /// Returns the metadata of the original files.
    fn metadata(&self) -> BTreeMap<String, String> {
        self.0.metadata().clone()
    }

    /// Returns the total size in bytes of everything stored.
    fn stored_bytes(&self) -> u64 {
        self.0.stored_bytes()
    }

    /// Decodes ranges of elements. Each range has a name, the first element, the one after the
    /// last, and memory that it shares with no other range.
    fn decode(
        &self,
        py: Python<'_>,
        wanted: Vec<(String, u64, u64, Memory)>,
        threads: usize,
    ) -> PyResult<()> {
        let (mut pieces, mut bytes) = (Vec::new(), 0);
        let is_remote = self.0.reads_ranges();
        let piece = if is_remote { REMOTE_PIECE } else { PIECE };
        // While one thread decodes, others wait for the next ranges.
        let threads = if is_remote { count(threads) + REMOTE_THREADS } else { threads };
        for (name, start, end, memory) in &wanted {
            // SAFETY: the Python sources hold a tensor that nothing else uses yet, and pass its
            // memory.
            let mut out = unsafe { memory.as_bytes_mut() };
            bytes += out.len();
            let elements = end.saturating_sub(*start);
            let size = (out.len() as u64).checked_div(elements).unwrap_or(0);
            let mut at = *start;
            // A tensor that cannot be cut evenly (elements smaller than a byte, wrong lengths)
            // stays whole.
            let is_even = size > 0 && size * elements == out.len() as u64;
            while is_even && end - at > piece {
                let (now, later) = out.split_at_mut((piece * size) as usize);
                pieces.push(Job { name, range: at..at + piece, out: now.into() });
                (at, out) = (at + piece, later);
            }
            pieces.push(Job { name, range: at..*end, out: out.into() });
        }
        let is_short = !is_remote && bytes <= SHORT || (threads == 1 && bytes <= 16 * SHORT);
        let done = jobs(py, &pieces, threads, is_short, |job| {
            let mut out = job.out.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            self.0.decode_range_into(job.name, job.range.clone(), &mut out)
        });
        done?.map_err(|error| error::of_checkpoint(py, &error))
    }
}
