//! Memory of the device, and pinned memory of the host.

#![allow(unsafe_code, reason = "calls of the driver")]

use std::ffi::c_void;
use std::mem::ManuallyDrop;
use std::ptr;
use std::sync::Arc;

use cust::memory::{DeviceBuffer, DevicePointer};
use df11_cuda_driver::{
    cuMemFreeHost, cuMemHostAlloc, cuMemcpyDtoHAsync_v2, cuMemcpyHtoDAsync_v2, cuMemsetD8Async,
    cuPointerGetAttribute, cuStreamIsCapturing, cuStreamSynchronize,
};

use crate::Error;
use crate::context::{Relaxed, Shared};
use crate::error::{call, driver};

/// Parts begin at multiples of this number of bytes, which the kernels' widest accesses need.
const ALIGNMENT: usize = 16;

/// `CU_MEMHOSTALLOC_PORTABLE`: the memory is pinned for all contexts.
const PORTABLE: u32 = 1;

/// `CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL`
const DEVICE_ORDINAL: u32 = 9;

/// Memory of a device. It may be dropped, and thereby freed, on any thread.
#[derive(Debug)]
pub struct Memory {
    buffer: ManuallyDrop<DeviceBuffer<u8>>,
    shared: Arc<Shared>,
}

impl Memory {
    pub(crate) fn new(shared: &Arc<Shared>, bytes: usize) -> Result<Self, Error> {
        let _current = shared.enter()?;
        // SAFETY: every byte value is valid, and reading bytes before they are written yields
        // arbitrary values. Drivers have no empty memory, so at least one byte is allocated.
        let buffer = unsafe { DeviceBuffer::uninitialized(bytes.max(1)) };
        let buffer = ManuallyDrop::new(driver("allocate memory on the device", buffer)?);
        Ok(Memory { buffer, shared: Arc::clone(shared) })
    }

    /// Returns its address on the device, a `CUdeviceptr`.
    #[must_use]
    pub fn address(&self) -> u64 {
        let pointer: DevicePointer<u8> = self.buffer.as_device_ptr();
        pointer.as_raw()
    }

    /// Returns its size in bytes, at least one.
    #[must_use]
    #[expect(clippy::len_without_is_empty, reason = "it is never empty")]
    pub fn len(&self) -> usize {
        self.buffer.len()
    }

    /// Returns an error if it is not in this context.
    pub(crate) fn expect_context(&self, shared: &Shared) -> Result<(), Error> {
        if self.shared.context == shared.context {
            return Ok(());
        }
        Err(Error::OtherDevice { expected: shared.info.number, found: self.shared.info.number })
    }

    /// Copies its bytes to the host, after all work of the device's own stream.
    ///
    /// # Errors
    ///
    /// [`Error::Driver`].
    pub fn to_host(&self) -> Result<Vec<u8>, Error> {
        self.shared.download(self.address(), self.len())
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        // If the context cannot be made current, it no longer exists, nor does its memory.
        if let Ok(_current) = self.shared.enter() {
            let _relaxed = Relaxed::enter();
            // SAFETY: no one uses the buffer after this. The driver waits for kernels before it
            // frees memory that they may use.
            unsafe { ManuallyDrop::drop(&mut self.buffer) };
        }
    }
}

/// Pinned memory of the host. A device copies from it and to it without the driver's help, when the
/// stream reaches the copy.
#[derive(Debug)]
pub(crate) struct Pinned {
    address: *mut u8,
    bytes: usize,
    shared: Arc<Shared>,
}

// SAFETY: it is plain memory, and Rust's borrow rules apply to it.
unsafe impl Send for Pinned {}

impl Pinned {
    pub(crate) fn new(shared: &Arc<Shared>, bytes: usize) -> Result<Self, Error> {
        let _current = shared.enter()?;
        let mut address = ptr::null_mut();
        let bytes = bytes.max(1);
        // SAFETY: the pointer is to a local variable for the address.
        call("allocate pinned memory", unsafe { cuMemHostAlloc(&mut address, bytes, PORTABLE) })?;
        // SAFETY: the driver has just allocated this many bytes.
        unsafe { address.cast::<u8>().write_bytes(0, bytes) };
        Ok(Pinned { address: address.cast(), bytes, shared: Arc::clone(shared) })
    }

    /// Returns its bytes. No stream may be writing them.
    pub(crate) fn as_slice(&self) -> &[u8] {
        // SAFETY: the bytes exist until this is dropped, and were written on allocation. Whoever
        // reads them promises that the stream which copies to them is past the copy.
        unsafe { std::slice::from_raw_parts(self.address, self.bytes) }
    }

    pub(crate) const fn as_mut_ptr(&mut self) -> *mut c_void {
        self.address.cast()
    }
}

impl Drop for Pinned {
    fn drop(&mut self) {
        if let Ok(_current) = self.shared.enter() {
            let _relaxed = Relaxed::enter();
            // SAFETY: no one uses the memory after this.
            unsafe { cuMemFreeHost(self.address.cast()) };
        }
    }
}

impl Shared {
    /// Copies parts to the device, one after the other in one allocation. Returns the allocation,
    /// and the addresses of the parts, which are multiples of 16. When this returns, every stream
    /// can use them.
    pub(crate) fn place(self: &Arc<Self>, parts: &[&[u8]]) -> Result<(Memory, Vec<u64>), Error> {
        let end = |before: usize, part: &&[u8]| before.next_multiple_of(ALIGNMENT) + part.len();
        let bytes = parts.iter().fold(0, end);
        let memory = Memory::new(self, bytes)?;
        let (mut address, mut addresses) = (memory.address(), Vec::with_capacity(parts.len()));
        let _current = self.enter()?;
        for part in parts {
            addresses.push(address);
            if !part.is_empty() {
                let stream = self.stream.as_raw();
                // SAFETY: the memory has room for all parts, one after the other. The bytes stay
                // until the stream has been waited for, below.
                let code = unsafe { cuMemcpyHtoDAsync_v2(address, part.as_ptr().cast(), part.len(), stream) };
                call("copy to the device", code).inspect_err(|_| drop(self.stream.wait()))?;
            }
            address += part.len().next_multiple_of(ALIGNMENT) as u64;
        }
        // A function without a stream would return once the bytes are staged. Streams that do not
        // wait for the legacy stream could then read memory that is not written yet.
        self.stream.wait()?;
        Ok((memory, addresses))
    }

    /// Copies from the device, after the work of its own stream.
    pub(crate) fn download(&self, address: u64, len: usize) -> Result<Vec<u8>, Error> {
        // SAFETY: the stream is the context's own.
        unsafe { self.download_after(self.stream.as_raw(), address, len) }
    }

    /// Copies from the device, after the work of a stream.
    ///
    /// # Safety
    ///
    /// `stream` must be a stream of this context, or null.
    pub(crate) unsafe fn download_after(
        &self,
        stream: *mut c_void,
        address: u64,
        len: usize,
    ) -> Result<Vec<u8>, Error> {
        let mut bytes = vec![0; len];
        // SAFETY: the caller promises that `stream` is a stream of this context, or null.
        unsafe { self.read_after(stream, address, &mut bytes)? };
        Ok(bytes)
    }

    /// Fills bytes from the device, after the work of a stream, and waits for the copy.
    ///
    /// # Safety
    ///
    /// `stream` must be a stream of this context, or null.
    pub(crate) unsafe fn read_after(
        &self,
        stream: *mut c_void,
        address: u64,
        bytes: &mut [u8],
    ) -> Result<(), Error> {
        let _current = self.enter()?;
        let (to, len) = (bytes.as_mut_ptr().cast(), bytes.len());
        // SAFETY: the bytes stay in place until the stream has been waited for, which comes next.
        // The caller promises that `stream` is a stream of this context, or null. The driver
        // refuses an address that is not the device's.
        let copied = call("copy from the device", unsafe { cuMemcpyDtoHAsync_v2(to, address, len, stream) });
        // SAFETY: the caller promises that `stream` is a stream of this context, or null.
        copied.and(unsafe { self.wait(stream) })
    }

    /// Copies bytes to the device, after the work of its own stream, and waits for the copy.
    ///
    /// # Safety
    ///
    /// The address must have room for the bytes in memory of this context that no other stream
    /// uses.
    pub(crate) unsafe fn write(&self, address: u64, bytes: &[u8]) -> Result<(), Error> {
        let _current = self.enter()?;
        let (from, len, stream) = (bytes.as_ptr().cast(), bytes.len(), self.stream.as_raw());
        // SAFETY: the caller promises room for the bytes at the address. The bytes stay in place
        // until the stream has been waited for, which comes next.
        let copied = call("copy to the device", unsafe { cuMemcpyHtoDAsync_v2(address, from, len, stream) });
        copied.and(self.stream.wait())
    }

    /// Waits for a stream.
    ///
    /// # Safety
    ///
    /// `stream` must be a stream of this context, or null.
    pub(crate) unsafe fn wait(&self, stream: *mut c_void) -> Result<(), Error> {
        let _current = self.enter()?;
        // SAFETY: the caller promises that `stream` is a stream of this context, or null.
        let code = unsafe { cuStreamSynchronize(stream) };
        call("finish what was asked for", code)
    }

    /// Refuses a call that waits for a captured stream. The driver would refuse it, too, and end
    /// the capture.
    ///
    /// # Safety
    ///
    /// `stream` must be a stream of this context, or null.
    pub(crate) unsafe fn refuse_capture(&self, stream: *mut c_void) -> Result<(), Error> {
        let _current = self.enter()?;
        let mut status = 0;
        // SAFETY: the pointer is to a local variable for the status. The caller promises that
        // `stream` is a stream of this context, or null.
        let code = unsafe { cuStreamIsCapturing(stream, &mut status) };
        // A driver that lacks the function refuses later.
        if code == 0 && status != 0 { Err(Error::Capturing) } else { Ok(()) }
    }

    /// Fills memory on a stream.
    ///
    /// # Safety
    ///
    /// `stream` must be a stream of this context, or null.
    pub(crate) unsafe fn fill(&self, stream: *mut c_void, memory: &Memory, value: u8) -> Result<(), Error> {
        let _current = self.enter()?;
        // SAFETY: the memory is borrowed, so it exists. The caller promises that `stream` is a
        // stream of this context, or null.
        call("fill memory", unsafe { cuMemsetD8Async(memory.address(), value, memory.len(), stream) })
    }

    /// Returns an error if an address belongs to another device. (Addresses that no driver has
    /// given out are not detected.)
    pub(crate) fn expect_own(&self, address: u64) -> Result<(), Error> {
        let mut device = -1i32;
        // SAFETY: the pointer is to a local variable for the number, and the query accepts any
        // address.
        let code =
            unsafe { cuPointerGetAttribute(ptr::from_mut(&mut device).cast(), DEVICE_ORDINAL, address) };
        match u32::try_from(device) {
            Ok(device) if code == 0 && device != self.info.number => {
                Err(Error::OtherDevice { expected: self.info.number, found: device })
            }
            _ => Ok(()),
        }
    }
}
