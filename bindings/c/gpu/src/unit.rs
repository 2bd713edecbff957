//! Units on a device.

use ::df11_gpu::RawUnit;
use df11::Parts;

use crate::boundary::{close, get, give, run};
use crate::types::{
    df11_gpu, df11_gpu_bytes, df11_gpu_error, df11_gpu_parts, df11_gpu_raw_unit, df11_gpu_status,
    df11_gpu_unit,
};

/// Checks a unit and uploads it. It is there when this returns, for every stream.
///
/// # Safety
///
/// `gpu` must be a handle; `parts` must point to parts whose bytes can be read; `unit` must point
/// to memory for a handle.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn df11_gpu_unit_upload(
    gpu: *const df11_gpu,
    parts: *const df11_gpu_parts,
    unit: *mut *mut df11_gpu_unit,
    error: *mut df11_gpu_error,
) -> df11_gpu_status {
    let upload = || {
        // SAFETY: the caller's promise.
        let (gpu, parts) = unsafe { (get(gpu)?, get(parts)?) };
        // SAFETY: as above.
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
    // SAFETY: the caller's promise.
    unsafe { run(error, || give(unit, upload)) }
}

/// Takes a unit whose parts are in the memory of the device already, wherever they are. The prefix
/// tables are downloaded and checked; nothing else is copied.
///
/// # Safety
///
/// As for df11_gpu_unit_upload. Until the unit, and every batch that it is in, is closed: at each
/// address are as many bytes as `parts` says, in memory that kernels of this context can read, and
/// nobody writes them. They are there now: copies of them are done, not only enqueued. They need
/// not be a valid unit; weights are then unspecified, and that is all.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn df11_gpu_unit_adopt(
    gpu: *const df11_gpu,
    parts: *const df11_gpu_raw_unit,
    unit: *mut *mut df11_gpu_unit,
    error: *mut df11_gpu_error,
) -> df11_gpu_status {
    let adopt = || {
        // SAFETY: the caller's promise.
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
        // SAFETY: the caller's promise for what is at the addresses.
        Ok(df11_gpu_unit(unsafe { gpu.0.adopt(raw)? }))
    };
    // SAFETY: the caller's promise.
    unsafe { run(error, || give(unit, adopt)) }
}

/// Closes a unit. Batches that it is in stay as they are.
///
/// # Safety
///
/// `unit` must be NULL or a handle that is not used after this.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn df11_gpu_unit_close(unit: *mut df11_gpu_unit) {
    // SAFETY: the caller's promise.
    unsafe { close(unit) }
}
