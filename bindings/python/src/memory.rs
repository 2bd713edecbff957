//! Memory that Python owns, passed by its address.
//!
//! Buffers of Python are in its stable interface from 3.11 on only, and tensors of PyTorch have
//! none for BF16: so the Python sources pass the address and the length of memory that they hold.

use std::slice;

use pyo3::FromPyObject;

/// The address and the length in bytes of memory that the caller holds until the function returns.
#[derive(Clone, Copy, Debug, FromPyObject)]
pub(crate) struct Memory(usize, usize);

impl Memory {
    /// Bytes to read.
    ///
    /// # Safety
    ///
    /// The memory is allocated, initialised, and not written to as long as the slice is used.
    pub(crate) unsafe fn as_bytes<'a>(self) -> &'a [u8] {
        if self.1 == 0 {
            return &[];
        }
        // SAFETY: the caller's promise; the length is not zero, so that the address is not null.
        unsafe { slice::from_raw_parts(self.0 as *const u8, self.1) }
    }

    /// Bytes to write.
    ///
    /// # Safety
    ///
    /// The memory is allocated, and not used by anything else as long as the slice is used.
    pub(crate) unsafe fn as_bytes_mut<'a>(self) -> &'a mut [u8] {
        if self.1 == 0 {
            return &mut [];
        }
        // SAFETY: the caller's promise; the length is not zero, so that the address is not null.
        unsafe { slice::from_raw_parts_mut(self.0 as *mut u8, self.1) }
    }
}
