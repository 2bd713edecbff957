//! Units on a device.

use ::df11_gpu::RawUnit;
use df11::Parts;

use crate::boundary::{close, get, give, run};
use crate::types::{
    df11_gpu, df11_gpu_bytes, df11_gpu_error, df11_gpu_parts, df11_gpu_raw_unit, df11_gpu_status,
    df11_gpu_unit,
};

/// Checks a unit and uploads it. When this returns, every stream can use it.
///
/// # Safety
///
/// `gpu` must be an open handle, or NULL. `parts` must be valid for reads of a `df11_gpu_parts`, or
/// NULL, and the `data` of each part for reads of `len` bytes, or NULL. `unit` must be valid for
/// writes of a handle. `error` must be NULL, or valid for writes of a `df11_gpu_error`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn df11_gpu_unit_upload(
    gpu: *const df11_gpu,
    parts: *const df11_gpu_parts,
    unit: *mut *mut df11_gpu_unit,
    error: *mut df11_gpu_error,
) -> df11_gpu_status {
    let upload = || {
        // SAFETY: this function's caller promises that `gpu` is NULL or an open handle, and that
        // `parts` is NULL or readable.
        let (gpu, parts) = unsafe { (get(gpu)?, get(parts)?) };
        // SAFETY: this function's caller promises that the bytes of each part are readable.
        let bytes = |bytes: df11_gpu_bytes| unsafe { bytes.get() };
        let tensors = Parts {
            luts: bytes(parts.luts)?,
            encoded_exponent: bytes(parts.encoded_exponent)?,
            sign_mantissa: bytes(parts.sign_mantissa)?,
            output_positions: bytes(parts.output_positions)?,
            gaps: bytes(parts.gaps)?,
            split_positions: bytes(parts.split_positions)?,
        };
        Ok(df11_gpu_unit(gpu.0.upload(&tensors)?))
    };
    // SAFETY: this function's caller promises what `give` needs for `unit`, and `run` for `error`.
    unsafe { run(error, || give(unit, upload)) }
}

/// Adopts a unit whose parts are in the device's memory already, at any address. The prefix tables
/// are downloaded and checked. Nothing else is copied.
///
/// # Safety
///
/// The requirements of df11_gpu_unit_upload hold for `gpu`, `parts`, `unit` and `error`. Until the
/// unit, and every batch that contains it, is closed, each address must hold the number of bytes
/// that `parts` says, in memory that kernels of this context can read, and no one may write them.
/// They must be there now: copies must be done, not only enqueued. They need not form a valid unit.
/// If they do not, the weights are unspecified, but nothing else goes wrong.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn df11_gpu_unit_adopt(
    gpu: *const df11_gpu,
    parts: *const df11_gpu_raw_unit,
    unit: *mut *mut df11_gpu_unit,
    error: *mut df11_gpu_error,
) -> df11_gpu_status {
    let adopt = || {
        // SAFETY: this function's caller promises that `gpu` is NULL or an open handle, and that
        // `parts` is NULL or readable.
        let (gpu, parts) = unsafe { (get(gpu)?, *get(parts)?) };
        let df11_gpu_raw_unit {
            luts,
            codes,
            sign_mantissa,
            output_positions,
            gaps,
            tables,
            code_bytes,
            elements,
        } = parts;
        let raw =
            RawUnit { luts, codes, sign_mantissa, output_positions, gaps, tables, code_bytes, elements };
        // SAFETY: this function's caller promises what `adopt` needs for the memory at the
        // addresses.
        Ok(df11_gpu_unit(unsafe { gpu.0.adopt(raw)? }))
    };
    // SAFETY: this function's caller promises what `give` needs for `unit`, and `run` for `error`.
    unsafe { run(error, || give(unit, adopt)) }
}

/// Closes a unit. Batches that contain it stay valid.
///
/// # Safety
///
/// `unit` must be NULL or a handle that is not used after this.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn df11_gpu_unit_close(unit: *mut df11_gpu_unit) {
    // SAFETY: this function's caller promises what `close` needs for `unit`.
    unsafe { close(unit) }
}
