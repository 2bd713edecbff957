//! Devices.

use df11_cuda_driver::cuMemGetInfo_v2;
use df11_gpu::{Emulation, Gpu, Target};
use pyo3::prelude::*;

use super::host::in_context;
use super::update::{Changed, update};
use super::{GpuBatch, GpuLinear, GpuStored, GpuStream};
use crate::error;
use crate::memory::Memory;
use crate::reader::Reader;

/// Emulated devices, so that tests can take the wrong one.
const EMULATED: usize = 2;

/// A device: a card, or an emulated one.
#[pyclass(frozen, module = "df11._df11")]
pub(crate) struct GpuDevice(Gpu);

#[pymethods]
impl GpuDevice {
    /// Opens `cuda:0` (or another number), in the primary context that PyTorch uses as well, or
    /// `emulated`; after that, the process has no other driver.
    #[new]
    fn new(py: Python<'_>, target: &str) -> PyResult<Self> {
        let opened = match target.parse() {
            Ok(Target::Cuda(number)) => py.detach(|| Gpu::open(number)),
            Ok(Target::Emulated) => {
                py.detach(|| Gpu::emulated(Emulation { devices: EMULATED, ..Emulation::default() }))
            }
            _ => {
                let problem = format!("{target:?} is no GPU, as cuda:0 (or another number) and emulated are");
                return Err(error::invalid(py, &problem));
            }
        };
        opened.map(GpuDevice).map_err(|error| error::of_gpu(py, &error, Some(target)))
    }

    /// Returns its name.
    #[getter]
    fn name(&self) -> &str {
        &self.0.info().name
    }

    /// Tells whether it is emulated, as all are once one was asked for.
    #[getter]
    fn is_emulated(&self) -> bool {
        self.0.is_emulated()
    }

    /// Returns the bytes of its memory that nobody has.
    fn free_bytes(&self, py: Python<'_>) -> PyResult<usize> {
        let (mut free, mut total) = (0, 0);
        // SAFETY: both pointers are to local variables for the numbers.
        let asked = in_context(&self.0, || unsafe { cuMemGetInfo_v2(&mut free, &mut total) });
        asked.map_err(|failure| failure.raised(py)).map(|()| free)
    }

    /// Makes a stream.
    fn stream(&self, py: Python<'_>) -> PyResult<GpuStream> {
        py.detach(|| GpuStream::make(&self.0)).map_err(|error| error::of_gpu(py, &error, None))
    }

    /// Checks the unit of this number and uploads it.
    fn upload_unit(&self, py: Python<'_>, reader: &Reader, unit: usize) -> PyResult<GpuStored> {
        GpuStored::unit(py, &self.0, reader, unit)
    }

    /// Checks the frame of this tensor and uploads it.
    fn upload_tensor(&self, py: Python<'_>, reader: &Reader, name: &str) -> PyResult<GpuStored> {
        GpuStored::tensor(py, &self.0, reader, name)
    }

    /// Prepares what is decoded together: each with its offset in bytes in the buffer that it will
    /// be decoded into. Then bytes are copied in that buffer: from, to, how many.
    fn batch(
        &self,
        py: Python<'_>,
        items: Vec<(PyRef<'_, GpuStored>, u64)>,
        copies: Vec<(u64, u64, usize)>,
    ) -> PyResult<GpuBatch> {
        GpuBatch::make(py, &self.0, &items, copies)
    }
    /// Prepares a linear layer for some vectors, with or without a bias. Its weights are those of a
    /// unit from an element on, or a whole frame: that element, rows, columns, vectors.
    fn linear(
        &self,
        py: Python<'_>,
        stored: PyRef<'_, GpuStored>,
        shape: [usize; 4],
        bias: Option<Memory>,
    ) -> PyResult<GpuLinear> {
        GpuLinear::make(py, &self.0, &stored, shape, bias)
    }

    /// Applies deltas to tensors in the device's memory, in the order of a stream, and waits: for
    /// each its element type, its delta in the host's memory, and its elements.
    fn update(
        &self,
        py: Python<'_>,
        names: Vec<String>,
        tensors: Vec<Changed>,
        stream: usize,
    ) -> PyResult<()> {
        update(py, &self.0, &names, &tensors, stream)
    }
}
