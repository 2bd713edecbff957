//! Linear layers whose weights stay compressed while they multiply.

use std::ffi::c_void;
use std::sync::Arc;

use df11_gpu::{Error, Gpu, Layer, Linear, Matrix};
use pyo3::prelude::*;

use super::GpuStored;
use super::host::{Failure, Host, stream_of};
use super::report::{Found, Report};
use super::stored::{Content, Stored, of_block};
use crate::error;
use crate::memory::Memory;

/// The size of an element of BF16.
const BYTES: usize = 2;

/// A linear layer, `y = W x + b` in BF16, for one number of vectors.
#[pyclass(frozen, module = "df11._df11")]
pub(crate) struct GpuLinear {
    gpu: Gpu,
    linear: Linear,
    stored: Arc<Stored>,
    /// On an emulated device: the memory for vectors, bias and results, and the bias's own.
    host: Option<(Host, Option<Memory>)>,
    /// Bytes of the vectors and of the results.
    bytes: [usize; 2],
    report: Report,
}

impl GpuLinear {
    /// Prepares the layer whose weights begin at this element of a unit, or are a whole frame.
    pub(crate) fn make(
        py: Python<'_>,
        gpu: &Gpu,
        stored: &GpuStored,
        [first, rows, columns, vectors]: [usize; 4],
        bias: Option<Memory>,
    ) -> PyResult<Self> {
        let stored = Arc::clone(&stored.0);
        let bytes = [columns, rows].map(|elements| BYTES * elements * vectors);
        let made = py.detach(|| {
            let matrix = match &stored.content {
                Content::Unit(unit) => Matrix::Unit(unit, first),
                Content::Frame(frame) => Matrix::Frame(frame),
                Content::Plain(memory, _) => Matrix::Plain(memory.address()),
            };
            let of_bias = bias.map_or(0, Memory::len);
            let host = Host::of(gpu, bytes[0] + bytes[1] + of_bias)?;
            let own = host.as_ref().map(|host| host.address() + (bytes[0] + bytes[1]) as u64);
            let bias_at = bias.map(|bias| own.unwrap_or(bias.range().start as u64));
            let layer = Layer { bias: bias_at, ..Layer::new(matrix, rows, columns) };
            let linear = Linear::new(gpu, &[layer], vectors)?;
            Ok::<_, Error>((linear, host.map(|host| (host, bias)), Report::new(gpu)?))
        });
        let (linear, host, report) =
            made.map_err(|error| error::of_stored(py, &error, &stored.what, &stored.name))?;
        Ok(GpuLinear { gpu: gpu.clone(), linear, stored, host, bytes, report })
    }

    /// Gives the product to a stream.
    ///
    /// # Safety
    ///
    /// The requirements are those of [`Linear::enqueue`].
    unsafe fn enqueue(&self, stream: *mut c_void, x: u64, y: u64) -> Result<(), Failure> {
        let Some((host, bias)) = &self.host else {
            // SAFETY: the caller promises what this needs.
            unsafe { self.linear.enqueue(stream, x, y)? };
            return Ok(());
        };
        let [of_x, of_y] = self.bytes.map(|bytes| bytes as u64);
        // SAFETY: the caller promises that vectors, results and bias are in the host's memory until
        // the stream is done. The device's own has room for all of them.
        unsafe {
            let upload = |at, from, bytes| host.enqueue_upload(&self.gpu, stream, at, from, bytes);
            upload(0, x, of_x)?;
            if let Some(bias) = bias {
                upload(of_x + of_y, bias.range().start as u64, bias.len() as u64)?;
            }
            self.linear.enqueue(stream, host.address(), host.address() + of_x)?;
            let range = of_x..of_x + of_y;
            host.enqueue_download(&self.gpu, stream, range, y.wrapping_sub(of_x))
        }
    }
}

#[pymethods]
impl GpuLinear {
    /// Computes the layer on a stream: BF16 vectors without gaps from `x` on, to results from `y`
    /// on. Nothing is allocated, and nobody waits. Raises what kernels found in earlier calls, as
    /// far as it is known.
    ///
    /// The Python sources hold both, and the bias, in the device's memory until the stream is past
    /// this, and order streams that use this one after the other.
    fn forward(&self, py: Python<'_>, x: usize, y: usize, stream: usize) -> PyResult<()> {
        let done = py.detach(|| {
            let stream = stream_of(stream);
            // SAFETY: what was asked for has arrived when this is called.
            self.report.take(&self.gpu, stream, || fault(unsafe { self.linear.arrived_statuses() }))?;
            if self.report.found().is_some() {
                return Ok(());
            }
            // SAFETY: the Python sources keep memory and stream, as is said above.
            unsafe {
                self.enqueue(stream, x as u64, y as u64)?;
                self.report.ask(&self.gpu, stream, || self.linear.enqueue_statuses(stream))
            }
        });
        done.map_err(|failure| failure.raised(py))?;
        self.raise(py)
    }

    /// Returns the number of bytes that it takes on the device, besides the weights.
    #[getter]
    fn device_bytes(&self) -> usize {
        self.linear.device_bytes()
    }

    /// Waits for a stream, and raises if a kernel has found the weights damaged.
    fn check(&self, py: Python<'_>, stream: usize) -> PyResult<()> {
        // SAFETY: the Python sources pass a stream of this device.
        match py.detach(|| unsafe { self.linear.check(stream_of(stream)) }) {
            Err(error @ Error::Block { .. }) => self.report.keep(fault(Err(error))),
            done => done.map_err(|error| error::of_gpu(py, &error, None))?,
        }
        self.raise(py)
    }
}

impl GpuLinear {
    /// Raises what kernels have found, if it is known.
    fn raise(&self, py: Python<'_>) -> PyResult<()> {
        match self.report.found() {
            Some((_, block, clause)) => Err(of_block(py, &self.stored, block, clause)),
            None => Ok(()),
        }
    }
}

/// Returns the fault that a check has found.
fn fault(checked: Result<(), Error>) -> Option<Found> {
    match checked {
        Err(Error::Block { item, block, clause }) => Some((item, block, clause)),
        _ => None,
    }
}
