//! Devices.

use std::ffi::c_void;

use ::df11_gpu::{Emulation, Gpu};

use crate::boundary::{Failure, close, give, run};
use crate::types::{df11_gpu, df11_gpu_error, df11_gpu_status};

/// Opens a device by its number, in its primary context.
///
/// # Safety
///
/// `gpu` must be valid for writes of a handle, or NULL, which is refused. `error` must be valid for
/// writes of a `df11_gpu_error`, or NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn df11_gpu_open(
    number: u32,
    gpu: *mut *mut df11_gpu,
    error: *mut df11_gpu_error,
) -> df11_gpu_status {
    // SAFETY: this function's caller promises what `give` needs for `gpu`, and `run` for `error`.
    unsafe { run(error, || give(gpu, || Ok(df11_gpu(Gpu::open(number)?)))) }
}

/// Opens a device in the caller's context.
///
/// # Safety
///
/// The requirements of df11_gpu_open hold. `context` must be a CUcontext that stays until every
/// handle that was made with the device is closed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn df11_gpu_open_context(
    context: *mut c_void,
    gpu: *mut *mut df11_gpu,
    error: *mut df11_gpu_error,
) -> df11_gpu_status {
    // SAFETY: this function's caller promises what `give` needs for `gpu`, `Gpu::from_context` for
    // `context`, and `run` for `error`.
    unsafe { run(error, || give(gpu, || Ok(df11_gpu(Gpu::from_context(context, &[])?)))) }
}

/// Opens the first of several emulated devices, which run kernels instruction by instruction on the
/// CPU, for tests. After this call the process has no other driver. df11_gpu_open opens the other
/// devices.
///
/// # Safety
///
/// The requirements are those of df11_gpu_open.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn df11_gpu_open_emulated(
    devices: usize,
    gpu: *mut *mut df11_gpu,
    error: *mut df11_gpu_error,
) -> df11_gpu_status {
    let open = || {
        if !(1..=16).contains(&devices) {
            return Err(Failure::Input("there can be 1 to 16 emulated devices"));
        }
        Ok(df11_gpu(Gpu::emulated(Emulation { devices, ..Emulation::default() })?))
    };
    // SAFETY: this function's caller promises what `give` needs for `gpu`, and `run` for `error`.
    unsafe { run(error, || give(gpu, open)) }
}

/// Closes a device. Handles that were made with it stay valid.
///
/// # Safety
///
/// `gpu` must be NULL or a handle that is not used after this.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn df11_gpu_close(gpu: *mut df11_gpu) {
    // SAFETY: this function's caller promises what `close` needs for `gpu`.
    unsafe { close(gpu) }
}

/// Returns the context of a device, a CUcontext; NULL for NULL.
///
/// # Safety
///
/// `gpu` must be NULL or an open handle.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn df11_gpu_context(gpu: *const df11_gpu) -> *mut c_void {
    // SAFETY: this function's caller promises that `gpu` is NULL or an open handle.
    unsafe { gpu.as_ref() }.map_or(std::ptr::null_mut(), |gpu| gpu.0.context())
}
