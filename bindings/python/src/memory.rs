//! Memory that Python owns, passed by its address.
//!
//! Python's stable interface has buffers only from 3.11 on, and PyTorch's tensors do not offer them
//! for BF16. The Python sources therefore pass the address and the length of memory that they hold.

use std::ops::Range;
use std::slice;

use pyo3::FromPyObject;

/// The address and the length in bytes of memory that the caller holds until the function returns.
#[derive(Clone, Copy, Debug, FromPyObject)]
pub(crate) struct Memory(usize, usize);

impl Memory {
    /// Returns the number of bytes.
    pub(crate) fn len(self) -> usize {
        self.1
    }

    /// Returns the addresses of the bytes.
    pub(crate) fn range(self) -> Range<usize> {
        self.0..self.0.saturating_add(self.1)
    }

    /// Tells whether this is the same memory, of the same length.
    pub(crate) fn is_same(self, other: &Memory) -> bool {
        (self.0, self.1) == (other.0, other.1)
    }

    /// Returns the bytes for reading.
    ///
    /// # Safety
    ///
    /// The memory must be allocated and initialised, and no one may write to it during `'a`.
    pub(crate) unsafe fn as_bytes<'a>(self) -> &'a [u8] {
        if self.1 == 0 {
            return &[];
        }
        // SAFETY: the caller promises initialised memory that no one writes during `'a`. The length
        // is not zero, so the address is not null.
        unsafe { slice::from_raw_parts(self.0 as *const u8, self.1) }
    }

    /// Returns the bytes for writing.
    ///
    /// # Safety
    ///
    /// The memory must be allocated, and no one else may use it during `'a`.
    pub(crate) unsafe fn as_bytes_mut<'a>(self) -> &'a mut [u8] {
        if self.1 == 0 {
            return &mut [];
        }
        // SAFETY: the caller promises memory that no one else uses during `'a`. The length is not
        // zero, so the address is not null.
        unsafe { slice::from_raw_parts_mut(self.0 as *mut u8, self.1) }
    }
}
