//! What is decoded together.

use std::ffi::c_void;
use std::sync::Arc;

use df11_gpu::{Batch, Error, Fault, Gpu, Item};
use pyo3::prelude::*;

use super::GpuStored;
use super::host::{Failure, Host, stream_of};
use super::report::{Found, Report};
use super::stored::{Content, Stored, of_block};
use crate::error;

/// Units and frames that are decoded together, any number of times, by launches alone.
#[pyclass(frozen, module = "df11._df11")]
pub(crate) struct GpuBatch {
    gpu: Gpu,
    batch: Batch,
    /// Everything, with its offset; what kernels decode comes first, in the order of the batch.
    items: Vec<(Arc<Stored>, u64)>,
    /// Bytes that are copied afterwards: from, to, how many.
    copies: Vec<(u64, u64, usize)>,
    host: Option<Host>,
    report: Report,
}

impl GpuBatch {
    pub(crate) fn make(
        py: Python<'_>,
        gpu: &Gpu,
        given: &[(PyRef<'_, GpuStored>, u64)],
        copies: Vec<(u64, u64, usize)>,
    ) -> PyResult<Self> {
        let mut items: Vec<_> =
            given.iter().map(|(stored, offset)| (Arc::clone(&stored.0), *offset)).collect();
        items.sort_by_key(|(stored, _)| stored.item().is_none());
        let made = py.detach(|| {
            let decoded = items.iter().filter_map(|(stored, offset)| Some((stored.item()?, *offset)));
            let decoded: Vec<(Item<'_>, u64)> = decoded.collect();
            let ends = items.iter().map(|(stored, offset)| offset + stored.bytes() as u64);
            let ends = ends.chain(copies.iter().map(|(_, to, bytes)| to + *bytes as u64));
            let host = Host::of(gpu, ends.max().unwrap_or(0) as usize)?;
            Ok::<_, Error>((Batch::new(gpu, &decoded)?, host, Report::new(gpu)?))
        });
        let (batch, host, report) = made.map_err(|error| error::of_gpu(py, &error, None))?;
        Ok(GpuBatch { gpu: gpu.clone(), batch, items, copies, host, report })
    }
}

impl GpuBatch {
    /// Gives all work to a stream.
    ///
    /// # Safety
    ///
    /// The requirements are those of [`Batch::enqueue`], for all bytes of the buffer at `address`.
    unsafe fn enqueue(&self, stream: *mut c_void, address: u64) -> Result<(), Failure> {
        let outputs = self.host.as_ref().map_or(address, Host::address);
        // SAFETY: the caller promises the stream and the memory. The emulated device's own belongs
        // to this batch, and has room for everything. Copies are within it, as it was made.
        unsafe {
            self.batch.enqueue(stream, outputs)?;
            for (stored, offset) in &self.items {
                if let Content::Plain(memory, bytes) = &stored.content {
                    self.gpu.enqueue_copy(stream, memory.address(), outputs + offset, *bytes)?;
                }
            }
            for (from, to, bytes) in &self.copies {
                self.gpu.enqueue_copy(stream, outputs + from, outputs + to, *bytes)?;
            }
        }
        let Some(host) = &self.host else { return Ok(()) };
        let decoded = self.items.iter().map(|(stored, offset)| *offset..offset + stored.bytes() as u64);
        let copied = self.copies.iter().map(|(_, to, bytes)| *to..to + *bytes as u64);
        for range in decoded.chain(copied).filter(|range| !range.is_empty()) {
            // SAFETY: the caller promises the stream, and memory for all bytes of the buffer.
            unsafe { host.enqueue_download(&self.gpu, stream, range, address)? };
        }
        Ok(())
    }

    /// Returns the first fault among statuses that the stream was asked for.
    ///
    /// # Safety
    ///
    /// The stream must be past the copy of statuses.
    unsafe fn arrived(&self) -> Option<Found> {
        // SAFETY: the caller promises this.
        first(unsafe { self.batch.arrived_statuses() })
    }

    /// Raises what kernels have found, if it is known.
    fn raise(&self, py: Python<'_>) -> PyResult<()> {
        match self.report.found().map(|found| (self.items.get(found.0), found)) {
            Some((Some((stored, _)), (_, block, clause))) => Err(of_block(py, stored, block, clause)),
            _ => Ok(()),
        }
    }
}

/// Returns the first fault of a batch.
fn first(faults: Vec<Option<Fault>>) -> Option<Found> {
    faults.into_iter().enumerate().find_map(|(item, fault)| Some((item, fault?.block, fault?.clause)))
}

#[pymethods]
impl GpuBatch {
    /// Decodes everything to a buffer at this address, in the order of a stream. Nothing is
    /// allocated, and nobody waits. Raises what kernels found in earlier calls, as far as it is
    /// known.
    ///
    /// The Python sources hold the buffer, in the device's memory, and the stream, and let no one
    /// else use the buffer until the stream is past this.
    fn decode(&self, py: Python<'_>, address: u64, stream: usize) -> PyResult<()> {
        let done = py.detach(|| {
            let stream = stream_of(stream);
            // SAFETY: what was asked for has arrived when this is called.
            self.report.take(&self.gpu, stream, || unsafe { self.arrived() })?;
            if self.report.found().is_some() {
                return Ok(());
            }
            // SAFETY: the Python sources keep the buffer and the stream, as is said above. Another
            // stream that decodes the same at this time may lose what it finds, which is found
            // again the next time.
            unsafe {
                self.enqueue(stream, address)?;
                self.report.ask(&self.gpu, stream, || self.batch.enqueue_statuses(stream))
            }
        });
        done.map_err(|failure| failure.raised(py))?;
        self.raise(py)
    }

    /// Waits for a stream, and raises what kernels have found so far.
    fn check(&self, py: Python<'_>, stream: usize) -> PyResult<()> {
        let done = py.detach(|| {
            // SAFETY: what was asked for has arrived when this is called. The Python sources pass a
            // stream of this device.
            unsafe {
                self.report.wait(|| self.arrived())?;
                self.report.keep(first(self.batch.statuses(stream_of(stream))?));
            }
            Ok(())
        });
        done.map_err(|error| error::of_gpu(py, &error, None))?;
        self.raise(py)
    }

    /// Returns the number of bytes that the batch itself takes on the device, besides its items.
    #[getter]
    fn device_bytes(&self) -> usize {
        self.batch.device_bytes()
    }
}
