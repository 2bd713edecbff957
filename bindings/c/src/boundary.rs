//! Values that cross the boundary: slices, structures in the caller's memory, failures, panics.

use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::status::{Failure, df11_error, df11_status};

/// Bytes of the caller that are only read. `data` may be NULL if `len` is 0. It needs no alignment.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct df11_bytes {
    /// The first byte.
    pub data: *const u8,
    /// The number of bytes.
    pub len: usize,
}

/// Memory of the caller that is written. `data` may be NULL if `len` is 0. It needs no alignment.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct df11_buffer {
    /// The first byte.
    pub data: *mut u8,
    /// The number of bytes.
    pub len: usize,
}

/// Tells whether memory of this length can exist at this address. No object is larger than half of
/// the address space, or extends past its end.
fn can_be(address: usize, len: usize) -> bool {
    (len == 0 || address != 0) && isize::try_from(len).is_ok() && address.checked_add(len).is_some()
}

impl df11_bytes {
    /// Returns the bytes, if the pointer is not NULL and the length is possible.
    ///
    /// # Safety
    ///
    /// If `data` is not NULL, it must be valid for reads of `len` bytes, and no one may write them
    /// during `'a`.
    pub(crate) unsafe fn get<'a>(self) -> Result<&'a [u8], Failure> {
        if !can_be(self.data.addr(), self.len) {
            return Err(Failure::Input("a pointer to input", "is NULL, or its length impossible"));
        }
        if self.len == 0 {
            return Ok(&[]);
        }
        // SAFETY: the pointer is not NULL and the length is possible, as was just checked. The
        // caller promises that the bytes are readable and not written during `'a`. Bytes need no
        // alignment.
        Ok(unsafe { std::slice::from_raw_parts(self.data, self.len) })
    }
}

impl df11_buffer {
    /// Returns the memory, if the pointer is not NULL, the length is possible, and it does not
    /// overlap with any of `inputs`, which are ranges of addresses.
    ///
    /// # Safety
    ///
    /// If `data` is not NULL, it must be valid for writes of `len` bytes, and no one else may read
    /// or write them during `'a`. They may be uninitialised: this crate does not read them before
    /// it writes them, and at this boundary bytes that the caller has not written have some value.
    pub(crate) unsafe fn get<'a>(self, inputs: &[Range<usize>]) -> Result<&'a mut [u8], Failure> {
        if !can_be(self.data.addr(), self.len) {
            return Err(Failure::Input("a pointer to output", "is NULL, or its length impossible"));
        }
        if self.len == 0 {
            return Ok(&mut []);
        }
        let (start, end) = (self.data.addr(), self.data.addr() + self.len);
        if inputs.iter().any(|input| !input.is_empty() && start < input.end && input.start < end) {
            return Err(Failure::Input("the output", "overlaps with the input"));
        }
        // SAFETY: the pointer is not NULL and the length is possible, as was just checked. The
        // caller promises that the bytes are writable and that no one else uses them during `'a`.
        // The check above excludes an overlap with the inputs that are borrowed here.
        Ok(unsafe { std::slice::from_raw_parts_mut(self.data, self.len) })
    }
}

/// Returns the address range of some bytes.
pub(crate) fn span(bytes: &[u8]) -> Range<usize> {
    let range = bytes.as_ptr_range();
    range.start.addr()..range.end.addr()
}

/// Returns the address range of a structure of the caller.
pub(crate) fn span_of<T>(place: *const T) -> Range<usize> {
    place.addr()..place.addr().saturating_add(size_of::<T>())
}

/// Refuses a place for a result that overlaps with any of `inputs`, which are ranges of addresses.
/// Writing the result would change what is being read.
pub(crate) fn apart<T>(place: *const T, inputs: &[Range<usize>]) -> Result<(), Failure> {
    let place = span_of(place);
    if inputs.iter().any(|input| !input.is_empty() && place.start < input.end && input.start < place.end) {
        return Err(Failure::Input("the output", "overlaps with the input"));
    }
    Ok(())
}

/// An opaque structure of the caller that holds a Rust value.
///
/// It begins with a mark, which distinguishes it from zeros and from other structures, and the
/// offset of the value. The value follows directly, or further on where it needs a larger alignment
/// than the structure has. If the structure is copied to a place of another alignment, the offset
/// no longer fits, and the copy is refused.
///
/// # Safety
///
/// `Value` must not borrow for longer than its user promises in C, because [`get`] returns it for
/// any lifetime.
pub(crate) unsafe trait Opaque: Sized {
    /// The value that it holds.
    type Value;
    /// The mark at its front. Each structure has a different one.
    const MARK: u64;
    /// Asserts that the value fits wherever it has to begin, and that forgetting it leaks nothing.
    const FITS: () = assert!(
        size_of::<Self>() >= size_of::<Front>() + align_of::<Self::Value>() + size_of::<Self::Value>()
            && align_of::<Self>() >= align_of::<Front>()
            && !std::mem::needs_drop::<Self::Value>()
    );
}

/// The fields in front of a value.
#[repr(C)]
#[derive(Clone, Copy)]
struct Front {
    mark: u64,
    offset: u64,
}

/// Returns the offset of the value, in bytes, in a structure at this place.
fn offset_of<C: Opaque>(place: *const C) -> usize {
    let behind = place.addr() + size_of::<Front>();
    behind.next_multiple_of(align_of::<C::Value>()) - place.addr()
}

/// Stores a value in the caller's structure.
///
/// # Safety
///
/// `place` must be NULL, or valid for writes of a `C` that no one else uses during the call.
pub(crate) unsafe fn put<C: Opaque>(place: *mut C, value: C::Value) -> Result<(), Failure> {
    const { C::FITS };
    let place = expect_place(place)?;
    let offset = offset_of(place);
    // SAFETY: `place` is not NULL and aligned, as was just checked. The value begins where its
    // alignment allows, less than that alignment behind the front, and so ends within the
    // structure, as `FITS` asserts. The caller promises that the structure is writable and that no
    // one else uses it.
    unsafe {
        place.cast::<Front>().write(Front { mark: C::MARK, offset: offset as u64 });
        place.byte_add(offset).cast::<C::Value>().write(value);
    }
    Ok(())
}

/// Borrows the value in the caller's structure.
///
/// # Safety
///
/// `place` must be NULL, or valid for reads of a `C` that no one writes during `'a`. If the
/// structure was opened, the memory that its value borrows must still be valid.
pub(crate) unsafe fn get<'a, C: Opaque>(place: *const C) -> Result<&'a C::Value, Failure>
where
    C::Value: 'a,
{
    const { C::FITS };
    let place = expect_place(place.cast_mut())?.cast_const();
    let offset = offset_of(place);
    // SAFETY: `place` is not NULL and aligned, as was just checked. The caller promises a readable
    // `C`, which is larger than a front, as `FITS` asserts.
    let front = unsafe { place.cast::<Front>().read() };
    if front.mark != C::MARK {
        return Err(Failure::Input("a unit, frame, plan or table", "was never opened, or is another thing"));
    }
    if front.offset != offset as u64 {
        return Err(Failure::Input(
            "a structure",
            "was moved to memory of another alignment after it was built",
        ));
    }
    // SAFETY: `place` is readable, as above. Behind the mark, at this offset, stands the value that
    // `put` wrote, since nothing else writes marks.
    Ok(unsafe { &*place.byte_add(offset).cast::<C::Value>() })
}

fn expect_place<C>(place: *mut C) -> Result<*mut C, Failure> {
    if place.is_null() || !place.is_aligned() {
        return Err(Failure::Input("a pointer to a structure", "is NULL or not aligned"));
    }
    Ok(place)
}

/// Reads a structure of the caller.
///
/// # Safety
///
/// `place` must be NULL or valid for reads of a `T`.
pub(crate) unsafe fn read<T: Copy>(place: *const T) -> Result<T, Failure> {
    let place = expect_place(place.cast_mut())?;
    // SAFETY: `place` is not NULL and aligned, as was just checked. The caller promises that it is
    // valid for reads of a `T`.
    Ok(unsafe { place.read() })
}

/// Writes a result to the caller's memory.
///
/// # Safety
///
/// `place` must be NULL or valid for writes of a `T`.
pub(crate) unsafe fn write<T>(place: *mut T, value: T) -> Result<(), Failure> {
    let place = expect_place(place)?;
    // SAFETY: `place` is not NULL and aligned, as was just checked. The caller promises that it is
    // valid for writes of a `T`.
    unsafe { place.write(value) };
    Ok(())
}

/// Borrows an array of the caller. `array` may be NULL if `len` is 0.
///
/// # Safety
///
/// If `array` is not NULL, it must be valid for reads of `len` values, and no one may write them
/// during `'a`.
pub(crate) unsafe fn array<'a, T>(array: *const T, len: usize) -> Result<&'a [T], Failure> {
    if len == 0 {
        return Ok(&[]);
    }
    let array = expect_place(array.cast_mut())?;
    if !len.checked_mul(size_of::<T>()).is_some_and(|bytes| can_be(array.addr(), bytes)) {
        return Err(Failure::Input("the length of an array", "is impossible"));
    }
    // SAFETY: the pointer is not NULL and aligned, and the length is possible, as was just checked.
    // The caller promises that `len` values are readable and not written during `'a`.
    Ok(unsafe { std::slice::from_raw_parts(array, len) })
}

/// Runs a function of the boundary. Catches panics, and reports failures to the caller.
///
/// # Safety
///
/// `error` must be NULL or valid for writes of a [`df11_error`].
pub(crate) unsafe fn run(error: *mut df11_error, f: impl FnOnce() -> Result<(), Failure>) -> df11_status {
    // After a panic, only the caller's byte buffers can be incomplete.
    let result = catch_unwind(AssertUnwindSafe(f));
    let told = match &result {
        Ok(result) => df11_error::of(result.as_ref().err(), false),
        Err(_) => df11_error::of(None, true),
    };
    if !error.is_null() && error.is_aligned() {
        // SAFETY: `error` is not NULL and aligned. The caller promises that it is valid for writes
        // of a `df11_error`.
        unsafe { error.write(told) };
    }
    told.status
}
