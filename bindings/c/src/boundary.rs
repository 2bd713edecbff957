//! What crosses the boundary: slices, values in memory of the caller, failures, panics.

use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::status::{Failure, df11_error, df11_status};

/// Bytes of the caller that are only read. `data` may be NULL if `len` is 0; it needs no alignment.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct df11_bytes {
    /// The first byte.
    pub data: *const u8,
    /// How many there are.
    pub len: usize,
}

/// Memory of the caller that is written. `data` may be NULL if `len` is 0; it needs no alignment.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct df11_buffer {
    /// The first byte.
    pub data: *mut u8,
    /// How many there are.
    pub len: usize,
}

/// Whether so many bytes from here can exist: no object is larger than half of the address space,
/// nor goes over its end.
fn can_be(address: usize, len: usize) -> bool {
    (len == 0 || address != 0) && isize::try_from(len).is_ok() && address.checked_add(len).is_some()
}

impl df11_bytes {
    /// The bytes, if the pointer is not NULL and the length possible.
    ///
    /// # Safety
    ///
    /// `data` must point to `len` bytes that can be read, and that nobody writes while `'a` lasts.
    pub(crate) unsafe fn get<'a>(self) -> Result<&'a [u8], Failure> {
        if !can_be(self.data.addr(), self.len) {
            return Err(Failure::Input("a pointer to input", "is NULL, or its length impossible"));
        }
        if self.len == 0 {
            return Ok(&[]);
        }
        // SAFETY: Not NULL, and of a length that can be, as was just checked; readable, and not
        // written, as the caller promises. Bytes need no alignment.
        Ok(unsafe { std::slice::from_raw_parts(self.data, self.len) })
    }
}

impl df11_buffer {
    /// The memory, if the pointer is not NULL, the length possible, and it does not overlap with
    /// any of `inputs`, which are ranges of addresses.
    ///
    /// # Safety
    ///
    /// `data` must point to `len` bytes that can be written, and that nobody else reads or writes
    /// while `'a` lasts. They may be uninitialised: nothing here reads them before they are
    /// written, and what the caller has not written is, at this boundary, of some value.
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
        // SAFETY: Not NULL, and of a length that can be, as was just checked; the caller's promise
        // for the rest. It was checked that no input which is borrowed here overlaps.
        Ok(unsafe { std::slice::from_raw_parts_mut(self.data, self.len) })
    }
}

/// The addresses of some bytes.
pub(crate) fn span(bytes: &[u8]) -> Range<usize> {
    let range = bytes.as_ptr_range();
    range.start.addr()..range.end.addr()
}

/// The addresses of a structure of the caller.
pub(crate) fn span_of<T>(place: *const T) -> Range<usize> {
    place.addr()..place.addr().saturating_add(size_of::<T>())
}

/// Refuses a place for a result that overlaps with any of `inputs`, which are ranges of addresses:
/// to write it would change what is being read.
pub(crate) fn apart<T>(place: *const T, inputs: &[Range<usize>]) -> Result<(), Failure> {
    let place = span_of(place);
    if inputs.iter().any(|input| !input.is_empty() && place.start < input.end && input.start < place.end) {
        return Err(Failure::Input("the output", "overlaps with the input"));
    }
    Ok(())
}

/// An opaque structure of the caller, in which a value of ours is put.
///
/// In front stands a mark, which tells it from zeros and from other structures, and where the value
/// begins: right behind, or further on where its alignment asks for more than the structure has. A
/// structure that was moved to where the alignment is another is noticed by that.
///
/// # Safety
///
/// `Value` must not borrow for longer than its user promises in C; it is handed out for any
/// lifetime.
pub(crate) unsafe trait Opaque: Sized {
    /// What it holds.
    type Value;
    /// What stands in front of it; differs from structure to structure.
    const MARK: u64;
    /// There is room for the value wherever it has to begin, and forgetting it leaks nothing.
    const FITS: () = assert!(
        size_of::<Self>() >= size_of::<Front>() + align_of::<Self::Value>() + size_of::<Self::Value>()
            && align_of::<Self>() >= align_of::<Front>()
            && !std::mem::needs_drop::<Self::Value>()
    );
}

/// What stands in front of a value.
#[repr(C)]
#[derive(Clone, Copy)]
struct Front {
    mark: u64,
    offset: u64,
}

/// Where the value begins in a structure at this place, in bytes.
fn offset_of<C: Opaque>(place: *const C) -> usize {
    let behind = place.addr() + size_of::<Front>();
    behind.next_multiple_of(align_of::<C::Value>()) - place.addr()
}

/// Puts a value into the caller's structure.
///
/// # Safety
///
/// `place` must be NULL or point to memory for a `C` that nobody else uses meanwhile.
pub(crate) unsafe fn put<C: Opaque>(place: *mut C, value: C::Value) -> Result<(), Failure> {
    const { C::FITS };
    let place = expect_place(place)?;
    let offset = offset_of(place);
    // SAFETY: Not NULL and aligned, as was just checked. The value begins where its alignment
    // allows, less than that alignment behind the front, and so ends within the structure, as
    // `FITS` asserts. The caller's promise for the rest.
    unsafe {
        place.cast::<Front>().write(Front { mark: C::MARK, offset: offset as u64 });
        place.byte_add(offset).cast::<C::Value>().write(value);
    }
    Ok(())
}

/// Looks at the value in the caller's structure.
///
/// # Safety
///
/// `place` must be NULL or point to a `C`, which nobody writes while `'a` lasts. If the structure
/// was opened, what the value borrows must still be there.
pub(crate) unsafe fn get<'a, C: Opaque>(place: *const C) -> Result<&'a C::Value, Failure>
where
    C::Value: 'a,
{
    const { C::FITS };
    let place = expect_place(place.cast_mut())?.cast_const();
    let offset = offset_of(place);
    // SAFETY: Not NULL and aligned, as was just checked; larger than a front, as `FITS` asserts.
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
    // SAFETY: As above; behind the mark stands what `put` wrote at this offset, since nothing else
    // writes marks.
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
/// `place` must be NULL or point to a `T` that can be read.
pub(crate) unsafe fn read<T: Copy>(place: *const T) -> Result<T, Failure> {
    let place = expect_place(place.cast_mut())?;
    // SAFETY: Not NULL and aligned, as was just checked; the caller's promise for the rest.
    Ok(unsafe { place.read() })
}

/// Writes a result to the caller.
///
/// # Safety
///
/// `place` must be NULL or point to memory for a `T` that can be written.
pub(crate) unsafe fn write<T>(place: *mut T, value: T) -> Result<(), Failure> {
    let place = expect_place(place)?;
    // SAFETY: Not NULL and aligned, as was just checked; the caller's promise for the rest.
    unsafe { place.write(value) };
    Ok(())
}

/// Reads an array of the caller; `array` may be NULL if `len` is 0.
///
/// # Safety
///
/// `array` must point to `len` values that can be read, and that nobody writes while `'a` lasts.
pub(crate) unsafe fn array<'a, T>(array: *const T, len: usize) -> Result<&'a [T], Failure> {
    if len == 0 {
        return Ok(&[]);
    }
    let array = expect_place(array.cast_mut())?;
    if !len.checked_mul(size_of::<T>()).is_some_and(|bytes| can_be(array.addr(), bytes)) {
        return Err(Failure::Input("the length of an array", "is impossible"));
    }
    // SAFETY: Not NULL, aligned, and of a length that can be, as was just checked; the caller's
    // promise for the rest.
    Ok(unsafe { std::slice::from_raw_parts(array, len) })
}

/// Runs a function of the boundary: keeps panics in, and tells the caller what went wrong.
///
/// # Safety
///
/// `error` must be NULL or point to memory for a [`df11_error`] that can be written.
pub(crate) unsafe fn run(error: *mut df11_error, f: impl FnOnce() -> Result<(), Failure>) -> df11_status {
    // What a panic leaves behind is the caller's memory, of bytes, and nothing else.
    let result = catch_unwind(AssertUnwindSafe(f));
    let told = match &result {
        Ok(result) => df11_error::of(result.as_ref().err(), false),
        Err(_) => df11_error::of(None, true),
    };
    if !error.is_null() && error.is_aligned() {
        // SAFETY: Not NULL and aligned; the caller's promise for the rest.
        unsafe { error.write(told) };
    }
    told.status
}
