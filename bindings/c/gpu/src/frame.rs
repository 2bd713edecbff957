//! Frames on a device.

use df11::frame;

use crate::boundary::{close, get, give, run};
use crate::types::{df11_gpu, df11_gpu_bytes, df11_gpu_error, df11_gpu_frame, df11_gpu_status};

/// Checks a frame, including the checksums of its blocks, and uploads it. When this returns, every
/// stream can use it.
///
/// # Safety
///
/// `gpu` must be an open handle, or NULL. The `data` of `bytes` must be valid for reads of `len`
/// bytes, or NULL. `frame` must be valid for writes of a handle. `error` must be NULL, or valid for
/// writes of a `df11_gpu_error`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn df11_gpu_frame_upload(
    gpu: *const df11_gpu,
    bytes: df11_gpu_bytes,
    frame: *mut *mut df11_gpu_frame,
    error: *mut df11_gpu_error,
) -> df11_gpu_status {
    let upload = || {
        // SAFETY: this function's caller promises that `gpu` is NULL or an open handle, and that
        // the bytes are readable.
        let (gpu, bytes) = unsafe { (get(gpu)?, bytes.get()?) };
        Ok(df11_gpu_frame(gpu.0.upload_frame(&frame::Frame::new(bytes)?)?))
    };
    // SAFETY: this function's caller promises what `give` needs for `frame`, and `run` for `error`.
    unsafe { run(error, || give(frame, upload)) }
}

/// Adopts a frame whose bytes are in the device's memory already, at any address. The host's copy
/// is checked as df11_gpu_frame_upload does, and tells where everything is. It is not needed after
/// this call.
///
/// # Safety
///
/// The requirements of df11_gpu_frame_upload hold. Until the frame, and every batch that contains
/// it, is closed, the same bytes must be at the address, in memory that kernels of this context can
/// read, and no one may write them. They must be there now: copies must be done, not only enqueued.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn df11_gpu_frame_adopt(
    gpu: *const df11_gpu,
    bytes: df11_gpu_bytes,
    address: u64,
    frame: *mut *mut df11_gpu_frame,
    error: *mut df11_gpu_error,
) -> df11_gpu_status {
    let adopt = || {
        // SAFETY: this function's caller promises that `gpu` is NULL or an open handle, and that
        // the bytes are readable.
        let (gpu, bytes) = unsafe { (get(gpu)?, bytes.get()?) };
        let frame = frame::Frame::new(bytes)?;
        // SAFETY: this function's caller promises what `adopt_frame` needs for the bytes on the
        // device.
        Ok(df11_gpu_frame(unsafe { gpu.0.adopt_frame(&frame, address)? }))
    };
    // SAFETY: this function's caller promises what `give` needs for `frame`, and `run` for `error`.
    unsafe { run(error, || give(frame, adopt)) }
}

/// Closes a frame. Batches that contain it stay valid.
///
/// # Safety
///
/// `frame` must be NULL or a handle that is not used after this.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn df11_gpu_frame_close(frame: *mut df11_gpu_frame) {
    // SAFETY: this function's caller promises what `close` needs for `frame`.
    unsafe { close(frame) }
}
