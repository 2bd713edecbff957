//! The rules of the boundary, in one place: no panic crosses it, NULL is detected, and failures are
//! described to the caller.

use std::ffi::c_char;
use std::panic::{AssertUnwindSafe, catch_unwind};

use ::df11_gpu::Error;

use crate::types::{df11_gpu_bytes, df11_gpu_error, df11_gpu_status};

/// The reason for a failure, on this side of the boundary.
pub(crate) enum Failure {
    Gpu(Error),
    Input(&'static str),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Failure::Gpu(error)
    }
}

impl From<df11::Error> for Failure {
    fn from(error: df11::Error) -> Self {
        Failure::Gpu(error.into())
    }
}

/// Copies text into a C array, which always ends with a zero byte.
pub(crate) fn put(array: &mut [c_char], text: &str) {
    array.fill(0);
    let mut fits = text.len().min(array.len() - 1);
    while !text.is_char_boundary(fits) {
        fits -= 1;
    }
    for (to, from) in array.iter_mut().zip(&text.as_bytes()[..fits]) {
        *to = from.cast_signed() as c_char;
    }
}

impl Failure {
    fn told(&self) -> df11_gpu_error {
        use df11_gpu_status::{
            DF11_GPU_ALIGNMENT, DF11_GPU_CAPTURING, DF11_GPU_DRIVER, DF11_GPU_INTERNAL,
            DF11_GPU_INVALID_DATA, DF11_GPU_INVALID_INPUT, DF11_GPU_NO_DEVICE, DF11_GPU_OTHER_DEVICE,
            DF11_GPU_RAW_FRAME,
        };
        let mut told = nothing();
        let text = match self {
            Failure::Input(text) => {
                told.status = DF11_GPU_INVALID_INPUT;
                (*text).to_owned()
            }
            Failure::Gpu(error) => {
                told.status = match error {
                    Error::NoDriver { .. } | Error::NoDevice { .. } | Error::TooOld { .. } => {
                        DF11_GPU_NO_DEVICE
                    }
                    Error::Driver(refusal) => {
                        told.code = refusal.code;
                        DF11_GPU_DRIVER
                    }
                    Error::Invalid(_) => DF11_GPU_INVALID_DATA,
                    Error::Block { item, block, .. } | Error::Checksum { item, block } => {
                        (told.item, told.block) = (*item, *block);
                        DF11_GPU_INVALID_DATA
                    }
                    Error::RawFrame => DF11_GPU_RAW_FRAME,
                    Error::Alignment { item, .. } => {
                        told.item = *item;
                        DF11_GPU_ALIGNMENT
                    }
                    Error::OtherDevice { .. } => DF11_GPU_OTHER_DEVICE,
                    Error::Capturing => DF11_GPU_CAPTURING,
                    Error::OtherBackend | Error::Length { .. } | Error::TooMuch => DF11_GPU_INVALID_INPUT,
                    _ => DF11_GPU_INTERNAL,
                };
                error.to_string()
            }
        };
        put(&mut told.message, &text);
        told
    }
}

const fn nothing() -> df11_gpu_error {
    df11_gpu_error { status: df11_gpu_status::DF11_GPU_OK, code: 0, item: 0, block: 0, message: [0; 480] }
}

/// Runs a function of the boundary. Catches panics, and describes failures to the caller.
///
/// # Safety
///
/// `error` must be NULL or valid for writes of a [`df11_gpu_error`].
pub(crate) unsafe fn run(
    error: *mut df11_gpu_error,
    f: impl FnOnce() -> Result<(), Failure>,
) -> df11_gpu_status {
    // State that a panic leaves behind is not used again, because handles are given out at the end.
    let told = match catch_unwind(AssertUnwindSafe(f)) {
        Ok(Ok(())) => nothing(),
        Ok(Err(failure)) => failure.told(),
        Err(_) => {
            let mut told = nothing();
            told.status = df11_gpu_status::DF11_GPU_INTERNAL;
            put(&mut told.message, "a defect of the library: it panicked; please report it");
            told
        }
    };
    if !error.is_null() {
        // SAFETY: `error` is not NULL. The caller promises that it is valid for writes of a
        // `df11_gpu_error`.
        unsafe { error.write(told) };
    }
    told.status
}

/// Borrows the object behind a handle.
///
/// # Safety
///
/// `handle` must be NULL, or a handle that this library gave out and that stays open during `'a`.
pub(crate) unsafe fn get<'a, T>(handle: *const T) -> Result<&'a T, Failure> {
    // SAFETY: the caller promises NULL or an open handle, and NULL is detected.
    unsafe { handle.as_ref() }.ok_or(Failure::Input("a handle is NULL"))
}

/// Gives a new handle to the caller.
///
/// # Safety
///
/// `to` must be NULL or valid for writes of a pointer.
pub(crate) unsafe fn give<T>(
    to: *mut *mut T,
    value: impl FnOnce() -> Result<T, Failure>,
) -> Result<(), Failure> {
    if to.is_null() {
        return Err(Failure::Input("the place for a handle is NULL"));
    }
    // SAFETY: `to` is not NULL. The caller promises that it is valid for writes of a pointer.
    unsafe { to.write(std::ptr::null_mut()) };
    let made = Box::into_raw(Box::new(value()?));
    // SAFETY: `to` is not NULL, and valid for writes of a pointer, as above.
    unsafe { to.write(made) };
    Ok(())
}

/// Frees a handle.
///
/// # Safety
///
/// `handle` must be NULL, or a handle that this library gave out. No one may use it after this.
pub(crate) unsafe fn close<T>(handle: *mut T) {
    if !handle.is_null() {
        // A panic must not cross the boundary, and none is expected. SAFETY: the handle was made of
        // a box by `give`, and is not freed yet, as the caller promises.
        let _ = catch_unwind(AssertUnwindSafe(|| drop(unsafe { Box::from_raw(handle) })));
    }
}

impl df11_gpu_bytes {
    /// Returns the bytes.
    ///
    /// # Safety
    ///
    /// `data` must be NULL, or valid for reads of `len` bytes that no one writes during `'a`.
    pub(crate) unsafe fn get<'a>(self) -> Result<&'a [u8], Failure> {
        if self.len == 0 {
            return Ok(&[]);
        }
        if self.data.is_null() || isize::try_from(self.len).is_err() {
            return Err(Failure::Input("a pointer to bytes is NULL, or their number impossible"));
        }
        // SAFETY: the pointer is not NULL, and the length is possible. The caller promises that the
        // bytes are readable and not written during `'a`.
        Ok(unsafe { std::slice::from_raw_parts(self.data, self.len) })
    }
}
