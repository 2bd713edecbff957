//! Frames on a device.

use df11::frame;

use crate::boundary::{close, get, give, run};
use crate::types::{df11_gpu, df11_gpu_bytes, df11_gpu_error, df11_gpu_frame, df11_gpu_status};

/// Checks a frame, the checksums of its blocks included, and uploads it. It is there when this
/// returns, for every stream.
///
/// # Safety
///
/// `gpu` must be a handle, `bytes` those of a frame that can be read; `frame` must point to memory
/// for a handle.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn df11_gpu_frame_upload(
    gpu: *const df11_gpu,
    bytes: df11_gpu_bytes,
    frame: *mut *mut df11_gpu_frame,
    error: *mut df11_gpu_error,
) -> df11_gpu_status {
    let upload = || {
        // SAFETY: the caller's promise.
        let (gpu, bytes) = unsafe { (get(gpu)?, bytes.get()?) };
        Ok(df11_gpu_frame(gpu.0.upload_frame(&frame::Frame::new(bytes)?)?))
    };
    // SAFETY: the caller's promise.
    unsafe { run(error, || give(frame, upload)) }
}

/// Takes a frame whose bytes are in the memory of the device already, wherever they are. The host's
/// copy is checked as df11_gpu_frame_upload does it, and says where everything is; it is not needed
/// after this.
///
/// # Safety
///
/// As for df11_gpu_frame_upload. Until the frame, and every batch that it is in, is closed: at the
/// address are the same bytes, in memory that kernels of this context can read, and nobody writes
/// them. They are there now: copies are done, not only enqueued.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn df11_gpu_frame_adopt(
    gpu: *const df11_gpu,
    bytes: df11_gpu_bytes,
    address: u64,
    frame: *mut *mut df11_gpu_frame,
    error: *mut df11_gpu_error,
) -> df11_gpu_status {
    let adopt = || {
        // SAFETY: the caller's promise.
        let (gpu, bytes) = unsafe { (get(gpu)?, bytes.get()?) };
        let frame = frame::Frame::new(bytes)?;
        // SAFETY: the caller's promise for the bytes on the device.
        Ok(df11_gpu_frame(unsafe { gpu.0.adopt_frame(&frame, address)? }))
    };
    // SAFETY: the caller's promise.
    unsafe { run(error, || give(frame, adopt)) }
}

/// Closes a frame. Batches that it is in stay as they are.
///
/// # Safety
///
/// `frame` must be NULL or a handle that is not used after this.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn df11_gpu_frame_close(frame: *mut df11_gpu_frame) {
    // SAFETY: the caller's promise.
    unsafe { close(frame) }
}
