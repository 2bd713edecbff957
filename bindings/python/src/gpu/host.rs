//! The memory of an emulated device, in the place of memory that PyTorch has on a card.

use std::ffi::{c_int, c_void};
use std::ops::Range;

use df11_cuda_driver::{cuCtxPopCurrent_v2, cuCtxPushCurrent_v2, cuMemcpyDtoHAsync_v2, cuMemcpyHtoDAsync_v2};
use df11_gpu::{Error, Gpu, Memory};
use pyo3::prelude::*;

use crate::error;

/// Memory of the emulated device that stands for the host's, whose tensors no kernel can reach.
#[derive(Debug)]
pub(crate) struct Host(Memory);

impl Host {
    /// Allocates the memory if the device is emulated. A card reaches PyTorch's own.
    pub(crate) fn of(gpu: &Gpu, bytes: usize) -> Result<Option<Self>, Error> {
        gpu.is_emulated().then(|| gpu.allocate(bytes).map(Host)).transpose()
    }

    /// Returns its address on the device.
    pub(crate) fn address(&self) -> u64 {
        self.0.address()
    }

    /// Copies these bytes to the host's memory, in the order of the stream.
    ///
    /// # Safety
    ///
    /// `stream` must be a stream of this device's context, or null. The host's memory must have
    /// room for the bytes until the stream is done, and no one else may use it meanwhile.
    pub(crate) unsafe fn enqueue_download(
        &self,
        gpu: &Gpu,
        stream: *mut c_void,
        range: Range<u64>,
        to: u64,
    ) -> Result<(), Failure> {
        let (at, bytes) = (self.address() + range.start, (range.end - range.start) as usize);
        in_context(gpu, || {
            // SAFETY: the caller promises the stream, and that the host's memory is there. The
            // driver refuses what is not memory of the device.
            unsafe { cuMemcpyDtoHAsync_v2(to.wrapping_add(range.start) as *mut c_void, at, bytes, stream) }
        })
    }

    /// Copies bytes from the host's memory to this offset, in the order of the stream.
    ///
    /// # Safety
    ///
    /// `stream` must be a stream of this device's context, or null. The bytes must be there.
    pub(crate) unsafe fn enqueue_upload(
        &self,
        gpu: &Gpu,
        stream: *mut c_void,
        to: u64,
        from: u64,
        bytes: u64,
    ) -> Result<(), Failure> {
        let to = self.address() + to;
        in_context(gpu, || {
            // SAFETY: the caller promises the stream and the bytes. The driver refuses what is not
            // memory of the device.
            unsafe { cuMemcpyHtoDAsync_v2(to, from as *const c_void, bytes as usize, stream) }
        })
    }
}

/// Calls the driver with the context of a device current.
pub(crate) fn in_context(gpu: &Gpu, call: impl FnOnce() -> c_int) -> Result<(), Failure> {
    // SAFETY: the context is that of a device that is borrowed, and it is popped again below.
    let pushed = unsafe { cuCtxPushCurrent_v2(gpu.context()) };
    if pushed != 0 {
        return Err(Failure::Code(pushed));
    }
    let code = call();
    // SAFETY: NULL tells the driver that the popped context is not needed.
    unsafe { cuCtxPopCurrent_v2(std::ptr::null_mut()) };
    if code == 0 { Ok(()) } else { Err(Failure::Code(code)) }
}

/// Returns the stream of a handle.
pub(crate) fn stream_of(handle: usize) -> *mut c_void {
    std::ptr::with_exposed_provenance_mut(handle)
}

/// The reason why work could not be given to a stream.
pub(crate) enum Failure {
    /// The GPU functions refused.
    Gpu(Error),
    /// The driver refused with this code.
    Code(c_int),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Failure::Gpu(error)
    }
}

impl Failure {
    /// Makes the exception.
    pub(crate) fn raised(self, py: Python<'_>) -> PyErr {
        match self {
            Failure::Gpu(error) => error::of_gpu(py, &error, None),
            Failure::Code(code) => {
                let problem = format!("cannot copy from or to the device, or ask it: its driver says {code}");
                error::of_device(py, &problem)
            }
        }
    }
}
