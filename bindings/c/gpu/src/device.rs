//! Devices.

use std::ffi::c_void;

use ::df11_gpu::{Emulation, Gpu};

use crate::boundary::{Failure, close, give, run};
use crate::types::{df11_gpu, df11_gpu_error, df11_gpu_status};

/// Opens a device by its number, in its primary context.
///
/// # Safety
///
/// `gpu` must point to memory for a handle. Pointers to results may be NULL nowhere, `error`
/// anywhere.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn df11_gpu_open(
    number: u32,
    gpu: *mut *mut df11_gpu,
    error: *mut df11_gpu_error,
) -> df11_gpu_status {
    // SAFETY: the caller's promise.
    unsafe { run(error, || give(gpu, || Ok(df11_gpu(Gpu::open(number)?)))) }
}

/// Opens a device in the caller's context.
///
/// # Safety
///
/// As for df11_gpu_open. `context` must be a CUcontext that stays until every handle that was made
/// with the device is closed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn df11_gpu_open_context(
    context: *mut c_void,
    gpu: *mut *mut df11_gpu,
    error: *mut df11_gpu_error,
) -> df11_gpu_status {
    // SAFETY: the caller's promise.
    unsafe { run(error, || give(gpu, || Ok(df11_gpu(Gpu::from_context(context, &[])?)))) }
}

/// Opens the first of several emulated devices: kernels are run instruction by instruction on the
/// processor, for tests. From then on this process has no other driver; df11_gpu_open opens the
/// others.
///
/// # Safety
///
/// As for df11_gpu_open.
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
    // SAFETY: the caller's promise.
    unsafe { run(error, || give(gpu, open)) }
}

/// Closes a device. What was made with it stays as it is.
///
/// # Safety
///
/// `gpu` must be NULL or a handle that is not used after this.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn df11_gpu_close(gpu: *mut df11_gpu) {
    // SAFETY: the caller's promise.
    unsafe { close(gpu) }
}

/// The context of a device, a CUcontext; NULL for NULL.
///
/// # Safety
///
/// `gpu` must be NULL or a handle.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn df11_gpu_context(gpu: *const df11_gpu) -> *mut c_void {
    // SAFETY: the caller's promise.
    unsafe { gpu.as_ref() }.map_or(std::ptr::null_mut(), |gpu| gpu.0.context())
}
