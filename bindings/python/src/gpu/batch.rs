//! What is decoded together.

use std::ffi::{c_uint, c_void};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use df11_cuda_driver::cuStreamIsCapturing;
use df11_gpu::{Batch, Error, Event, Fault, Gpu, Item};
use pyo3::prelude::*;

use super::GpuStored;
use super::host::{Failure, Host, in_context, stream_of};
use super::stored::{Content, Stored, of_block};
use crate::error;

/// Whether somebody has asked the device what its kernels found.
struct Asked {
    /// Happens when the answer is there.
    event: Event,
    is_pending: bool,
}

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
    asked: Mutex<Asked>,
    /// The first fault that was found. It stays.
    fault: OnceLock<(usize, Fault)>,
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
            let asked = Mutex::new(Asked { event: Event::new(gpu)?, is_pending: false });
            Ok::<_, Error>((Batch::new(gpu, &decoded)?, host, asked))
        });
        let (batch, host, asked) = made.map_err(|error| error::of_gpu(py, &error, None))?;
        Ok(GpuBatch { gpu: gpu.clone(), batch, items, copies, host, asked, fault: OnceLock::new() })
    }
}

impl GpuBatch {
    fn asked(&self) -> MutexGuard<'_, Asked> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner)
    }

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

    /// Asks the device, in the order of the stream, what its kernels found; nobody waits for the
    /// answer. While the stream is captured, no one can be asked.
    ///
    /// # Safety
    ///
    /// `stream` must be a stream of this device's context, or null.
    unsafe fn ask(&self, stream: *mut c_void) -> Result<(), Failure> {
        let mut asked = self.asked();
        if asked.is_pending || is_captured(&self.gpu, stream)? {
            return Ok(());
        }
        // SAFETY: the caller promises the stream. Another stream that decodes the same at this time
        // may lose what it finds, which the next time finds again.
        unsafe {
            self.batch.enqueue_statuses(stream)?;
            asked.event.record_raw(stream)?;
        }
        asked.is_pending = true;
        Ok(())
    }

    /// Takes the answer to [`ask`](Self::ask), if there is one.
    fn take_answer(&self, stream: *mut c_void) -> Result<(), Failure> {
        let mut asked = self.asked();
        if asked.is_pending && !is_captured(&self.gpu, stream)? && asked.event.has_happened()? {
            asked.is_pending = false;
            // SAFETY: the event was recorded after the copy, and has happened.
            self.keep(unsafe { self.batch.arrived_statuses() });
        }
        Ok(())
    }

    fn keep(&self, found: Vec<Option<Fault>>) {
        let first = found.into_iter().enumerate().find_map(|(item, fault)| Some((item, fault?)));
        if let Some(first) = first {
            // The one that was found before stays.
            let _ = self.fault.set(first);
        }
    }

    /// Raises what kernels have found, if it is known.
    fn raise(&self, py: Python<'_>) -> PyResult<()> {
        let Some((item, Fault { block, clause })) = self.fault.get() else { return Ok(()) };
        match self.items.get(*item) {
            Some((stored, _)) => Err(of_block(py, stored, *block, clause)),
            None => Ok(()),
        }
    }
}

/// Tells whether a stream is captured.
fn is_captured(gpu: &Gpu, stream: *mut c_void) -> Result<bool, Failure> {
    let mut status: c_uint = 0;
    // SAFETY: the pointer is to a local variable for the status, and the stream is the caller's.
    in_context(gpu, || unsafe { cuStreamIsCapturing(stream, &mut status) })?;
    Ok(status != 0)
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
            self.take_answer(stream)?;
            if self.fault.get().is_some() {
                return Ok(());
            }
            // SAFETY: the Python sources keep the buffer and the stream, as is said above.
            unsafe {
                self.enqueue(stream, address)?;
                self.ask(stream)
            }
        });
        done.map_err(|failure| failure.raised(py))?;
        self.raise(py)
    }

    /// Waits for a stream, and raises what kernels have found so far.
    fn check(&self, py: Python<'_>, stream: usize) -> PyResult<()> {
        let done = py.detach(|| {
            let mut asked = self.asked();
            if std::mem::take(&mut asked.is_pending) {
                asked.event.wait()?;
                // SAFETY: the event was recorded after the copy, and has happened.
                self.keep(unsafe { self.batch.arrived_statuses() });
            }
            // SAFETY: the Python sources pass a stream of this device.
            self.keep(unsafe { self.batch.statuses(stream_of(stream))? });
            Ok::<_, Failure>(())
        });
        done.map_err(|failure| failure.raised(py))?;
        self.raise(py)
    }

    /// Returns the number of bytes that the batch itself takes on the device, besides its items.
    #[getter]
    fn device_bytes(&self) -> usize {
        self.batch.device_bytes()
    }
}
