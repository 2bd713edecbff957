//! Streams of a device that PyTorch does not know: those of an emulated one.

use df11_gpu::{Event, Gpu, Stream};
use pyo3::prelude::*;

use crate::error;

/// A stream of a device.
#[pyclass(frozen, module = "df11._df11")]
pub(crate) struct GpuStream {
    stream: Stream,
    /// Marks the point in this stream's work that another waits for.
    event: Event,
}

impl GpuStream {
    pub(crate) fn make(gpu: &Gpu) -> Result<Self, df11_gpu::Error> {
        Ok(GpuStream { stream: Stream::new(gpu)?, event: Event::new(gpu)? })
    }
}

#[pymethods]
impl GpuStream {
    /// Returns its handle, a `CUstream`.
    #[getter]
    fn handle(&self) -> usize {
        self.stream.as_raw().addr()
    }

    /// Makes all later work of this stream wait for what another was given so far.
    fn wait_stream(&self, py: Python<'_>, other: &GpuStream) -> PyResult<()> {
        let ordered =
            py.detach(|| other.event.record(&other.stream).and_then(|()| self.stream.wait_for(&other.event)));
        ordered.map_err(|error| error::of_gpu(py, &error, None))
    }

    /// Waits until its work is done.
    fn wait(&self, py: Python<'_>) -> PyResult<()> {
        py.detach(|| self.stream.wait()).map_err(|error| error::of_gpu(py, &error, None))
    }
}
