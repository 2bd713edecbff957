//! Memory: of the device, and pinned memory of the host.

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
use crate::context::Shared;
use crate::error::{call, driver};

/// Parts begin at multiples of this: what the kernels' widest accesses want.
const ALIGNMENT: usize = 16;

/// `CU_MEMHOSTALLOC_PORTABLE`: for all contexts.
const PORTABLE: u32 = 1;

/// `CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL`
const DEVICE_ORDINAL: u32 = 9;

/// Memory of a device, freed when it is dropped, on whatever thread that is.
#[derive(Debug)]
pub struct Memory {
    buffer: ManuallyDrop<DeviceBuffer<u8>>,
    shared: Arc<Shared>,
}

impl Memory {
    pub(crate) fn new(shared: &Arc<Shared>, bytes: usize) -> Result<Self, Error> {
        let _current = shared.enter()?;
        // SAFETY: bytes may be anything; whoever reads them before they are written gets just that.
        // Drivers have no empty memory.
        let buffer = unsafe { DeviceBuffer::uninitialized(bytes.max(1)) };
        let buffer = ManuallyDrop::new(driver("allocate memory on the device", buffer)?);
        Ok(Memory { buffer, shared: Arc::clone(shared) })
    }

    /// Its address on the device, a `CUdeviceptr`.
    #[must_use]
    pub fn address(&self) -> u64 {
        let pointer: DevicePointer<u8> = self.buffer.as_device_ptr();
        pointer.as_raw()
    }

    /// Its bytes, at least one.
    #[must_use]
    #[expect(clippy::len_without_is_empty, reason = "it is never empty")]
    pub fn len(&self) -> usize {
        self.buffer.len()
    }

    /// An error if it is not in this context.
    pub(crate) fn expect_context(&self, shared: &Shared) -> Result<(), Error> {
        if self.shared.context == shared.context {
            return Ok(());
        }
        Err(Error::OtherDevice { expected: shared.info.number, found: self.shared.info.number })
    }

    /// A copy of its bytes, after everything that the device was given on its own stream.
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
        // Where the context cannot be made current, it is gone, and its memory with it.
        if let Ok(_current) = self.shared.enter() {
            // SAFETY: nobody uses it after this. The driver waits for kernels before it frees what
            // they may use.
            unsafe { ManuallyDrop::drop(&mut self.buffer) };
        }
    }
}

/// Pinned memory of the host: a device copies from it and to it without the driver's help, when it
/// gets there.
#[derive(Debug)]
pub(crate) struct Pinned {
    address: *mut u8,
    bytes: usize,
    shared: Arc<Shared>,
}

// SAFETY: it is memory, and borrowed as such.
unsafe impl Send for Pinned {}

impl Pinned {
    pub(crate) fn new(shared: &Arc<Shared>, bytes: usize) -> Result<Self, Error> {
        let _current = shared.enter()?;
        let mut address = ptr::null_mut();
        let bytes = bytes.max(1);
        // SAFETY: the place for the address is there.
        call("allocate pinned memory", unsafe { cuMemHostAlloc(&mut address, bytes, PORTABLE) })?;
        // SAFETY: the driver has just given this many bytes.
        unsafe { address.cast::<u8>().write_bytes(0, bytes) };
        Ok(Pinned { address: address.cast(), bytes, shared: Arc::clone(shared) })
    }

    /// Its bytes. No stream may be writing them.
    pub(crate) fn as_slice(&self) -> &[u8] {
        // SAFETY: they are there until this is dropped, were written when they came, and whoever
        // copies to them waits for that.
        unsafe { std::slice::from_raw_parts(self.address, self.bytes) }
    }

    pub(crate) const fn as_mut_ptr(&mut self) -> *mut c_void {
        self.address.cast()
    }
}

impl Drop for Pinned {
    fn drop(&mut self) {
        if let Ok(_current) = self.shared.enter() {
            // SAFETY: nobody uses it after this.
            unsafe { cuMemFreeHost(self.address.cast()) };
        }
    }
}

impl Shared {
    /// Copies parts to the device, one after the other in one piece of memory; gives that, and
    /// their addresses, multiples of 16. They are there when this returns, for every stream.
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
                // SAFETY: the memory has room for all parts in turn; the bytes stay until the
                // stream has been waited for, below.
                let code = unsafe { cuMemcpyHtoDAsync_v2(address, part.as_ptr().cast(), part.len(), stream) };
                call("copy to the device", code).inspect_err(|_| drop(self.stream.wait()))?;
            }
            address += part.len().next_multiple_of(ALIGNMENT) as u64;
        }
        // A function without a stream would return when the bytes are staged, and streams that do
        // not wait for the legacy one could read what is not there yet.
        self.stream.wait()?;
        Ok((memory, addresses))
    }

    /// Copies from the device, after what its own stream has to do.
    pub(crate) fn download(&self, address: u64, len: usize) -> Result<Vec<u8>, Error> {
        // SAFETY: the stream is the context's own.
        unsafe { self.download_after(self.stream.as_raw(), address, len) }
    }

    /// Copies from the device, after what a stream has to do.
    ///
    /// # Safety
    ///
    /// `stream` is a stream of this context, or null.
    pub(crate) unsafe fn download_after(
        &self,
        stream: *mut c_void,
        address: u64,
        len: usize,
    ) -> Result<Vec<u8>, Error> {
        let mut bytes = vec![0; len];
        // SAFETY: the caller's promise.
        unsafe { self.read_after(stream, address, &mut bytes)? };
        Ok(bytes)
    }

    /// Fills bytes from the device, after what a stream has to do, and waits for that.
    ///
    /// # Safety
    ///
    /// `stream` is a stream of this context, or null.
    pub(crate) unsafe fn read_after(
        &self,
        stream: *mut c_void,
        address: u64,
        bytes: &mut [u8],
    ) -> Result<(), Error> {
        let _current = self.enter()?;
        let (to, len) = (bytes.as_mut_ptr().cast(), bytes.len());
        // SAFETY: the bytes stay where they are until the stream has been waited for, which is the
        // next thing; the caller's promise for the stream. An address that is not the device's is
        // an error of the driver's.
        let copied = call("copy from the device", unsafe { cuMemcpyDtoHAsync_v2(to, address, len, stream) });
        // SAFETY: the caller's promise.
        copied.and(unsafe { self.wait(stream) })
    }

    /// Copies bytes to the device, after what its own stream has to do, and waits for that.
    ///
    /// # Safety
    ///
    /// At the address is room for them in memory of this context, which no other stream uses.
    pub(crate) unsafe fn write(&self, address: u64, bytes: &[u8]) -> Result<(), Error> {
        let _current = self.enter()?;
        let (from, len, stream) = (bytes.as_ptr().cast(), bytes.len(), self.stream.as_raw());
        // SAFETY: the caller's promise for the memory; the bytes stay where they are until the
        // stream has been waited for, which is the next thing.
        let copied = call("copy to the device", unsafe { cuMemcpyHtoDAsync_v2(address, from, len, stream) });
        copied.and(self.stream.wait())
    }

    /// Waits for a stream.
    ///
    /// # Safety
    ///
    /// `stream` is a stream of this context, or null.
    pub(crate) unsafe fn wait(&self, stream: *mut c_void) -> Result<(), Error> {
        let _current = self.enter()?;
        // SAFETY: the caller's promise.
        let code = unsafe { cuStreamSynchronize(stream) };
        call("finish what was asked for", code)
    }

    /// Refuses what waits for a stream while that is captured: the driver would, too, and end the
    /// capture.
    ///
    /// # Safety
    ///
    /// `stream` is a stream of this context, or null.
    pub(crate) unsafe fn refuse_capture(&self, stream: *mut c_void) -> Result<(), Error> {
        let _current = self.enter()?;
        let mut status = 0;
        // SAFETY: the place for the status is there; the caller's promise for the stream.
        let code = unsafe { cuStreamIsCapturing(stream, &mut status) };
        // A driver that lacks the function refuses later.
        if code == 0 && status != 0 { Err(Error::Capturing) } else { Ok(()) }
    }

    /// Fills memory on a stream.
    ///
    /// # Safety
    ///
    /// `stream` is a stream of this context, or null.
    pub(crate) unsafe fn fill(&self, stream: *mut c_void, memory: &Memory, value: u8) -> Result<(), Error> {
        let _current = self.enter()?;
        // SAFETY: the memory is there; the caller's promise for the stream.
        call("fill memory", unsafe { cuMemsetD8Async(memory.address(), value, memory.len(), stream) })
    }

    /// An error if an address is one of another device. (What no driver has given out is not
    /// noticed.)
    pub(crate) fn expect_own(&self, address: u64) -> Result<(), Error> {
        let mut device = -1i32;
        // SAFETY: the place for the number is there; any address may be asked about.
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
