//! Tensors out of a checkpoint, into memory of the caller.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::PathBuf;

use pyo3::prelude::*;

use crate::error;
use crate::memory::Memory;
use crate::operations::pattern_dict;
use crate::run::jobs;

/// Elements that a thread decodes at a time: enough that tables pay, few enough to share a large
/// tensor. A multiple of 8, so that elements of less than a byte end where a byte does.
const PIECE: u64 = 1 << 20;

/// What takes less time than to start threads for it, in bytes of all tensors.
const SHORT: usize = 1 << 21;

/// Of a tensor: name, element type, shape, elements, bytes, number of its unit, whether it is
/// stored as it was.
type Described = (String, String, Vec<usize>, u64, u64, Option<usize>, bool);

/// Of a unit: module path, names of its tensors, elements, stored bytes.
type DescribedUnit = (String, Vec<String>, u64, u64);

/// An open checkpoint.
#[pyclass(frozen, module = "df11._df11")]
pub(crate) struct Reader(checkpoint::Reader);

/// A piece of a tensor, and where it goes.
struct Job<'a> {
    name: &'a str,
    range: Range<u64>,
    out: std::sync::Mutex<&'a mut [u8]>,
}

#[pymethods]
impl Reader {
    #[new]
    #[pyo3(signature = (path, pattern_dict_json = None))]
    fn new(py: Python<'_>, path: PathBuf, pattern_dict_json: Option<&str>) -> PyResult<Self> {
        let dict = pattern_dict(py, pattern_dict_json)?;
        let reader = py.detach(|| checkpoint::Reader::open_with(&path, dict.as_ref()));
        reader.map(Reader).map_err(|error| error::of_checkpoint(py, &error))
    }

    /// All tensors, by name.
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

    /// All units.
    fn units(&self) -> Vec<DescribedUnit> {
        let describe = |unit: &checkpoint::ReaderUnit| {
            (unit.path().to_owned(), unit.tensors().to_vec(), unit.elements(), unit.stored_bytes())
        };
        self.0.units().iter().map(describe).collect()
    }

    /// The names of all tensors as they are stored.
    fn stored_order(&self) -> Vec<&str> {
        self.0.stored_order()
    }

    /// What the originals said of themselves.
    fn metadata(&self) -> BTreeMap<String, String> {
        self.0.metadata().clone()
    }

    /// The bytes of everything stored.
    fn stored_bytes(&self) -> u64 {
        self.0.stored_bytes()
    }

    /// Decodes ranges of elements: for each a name, the first element, the one after the last, and
    /// the memory, which no other of them shares.
    fn decode(
        &self,
        py: Python<'_>,
        wanted: Vec<(String, u64, u64, Memory)>,
        threads: usize,
    ) -> PyResult<()> {
        let (mut pieces, mut bytes) = (Vec::new(), 0);
        for (name, start, end, memory) in &wanted {
            // SAFETY: the Python sources hold a tensor that nothing else uses yet, and pass its
            // memory.
            let mut out = unsafe { memory.as_bytes_mut() };
            bytes += out.len();
            let elements = end.saturating_sub(*start);
            let size = (out.len() as u64).checked_div(elements).unwrap_or(0);
            let mut at = *start;
            // What cannot be cut evenly (elements of less than a byte, wrong lengths) stays whole.
            let is_even = size > 0 && size * elements == out.len() as u64;
            while is_even && end - at > PIECE {
                let (now, later) = out.split_at_mut((PIECE * size) as usize);
                pieces.push(Job { name, range: at..at + PIECE, out: now.into() });
                (at, out) = (at + PIECE, later);
            }
            pieces.push(Job { name, range: at..*end, out: out.into() });
        }
        let is_short = bytes <= SHORT || (threads == 1 && bytes <= 16 * SHORT);
        let done = jobs(py, &pieces, threads, is_short, |job| {
            let mut out = job.out.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            self.0.decode_range_into(job.name, job.range.clone(), &mut out)
        });
        done?.map_err(|error| error::of_checkpoint(py, &error))
    }
}
