//! Batches of units and frames that are decoded together.

use std::ffi::c_void;

use ::df11_gpu::{Batch, Fault, Item};

use crate::boundary::{Failure, close, get, give, put, run};
use crate::types::{
    df11_gpu, df11_gpu_batch, df11_gpu_error, df11_gpu_fault, df11_gpu_item, df11_gpu_status,
};

/// Prepares a batch. This one call does everything that takes long. The units and frames may be
/// closed after it.
///
/// # Safety
///
/// `gpu` must be an open handle, or NULL. `items` must be valid for reads of this many items, whose
/// units and frames are open. `batch` must be valid for writes of a handle. `error` must be NULL,
/// or valid for writes of a `df11_gpu_error`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn df11_gpu_batch_new(
    gpu: *const df11_gpu,
    items: *const df11_gpu_item,
    number: usize,
    batch: *mut *mut df11_gpu_batch,
    error: *mut df11_gpu_error,
) -> df11_gpu_status {
    let prepare = || {
        // SAFETY: this function's caller promises that `gpu` is NULL or an open handle, which is
        // what `get` needs.
        let gpu = unsafe { get(gpu)? };
        let can_be =
            number.checked_mul(size_of::<df11_gpu_item>()).is_some_and(|n| isize::try_from(n).is_ok());
        if number > 0 && (items.is_null() || !can_be) {
            return Err(Failure::Input("items are NULL, or their number impossible"));
        }
        let items: &[df11_gpu_item] = match number {
            0 => &[],
            // SAFETY: the pointer is not NULL, and the length is possible. This function's caller
            // promises that the items are readable.
            _ => unsafe { std::slice::from_raw_parts(items, number) },
        };
        let item = |item: &df11_gpu_item| {
            // SAFETY: this function's caller promises that the item's unit and frame are NULL or
            // open.
            let parts = unsafe { (item.unit.as_ref(), item.frame.as_ref()) };
            match parts {
                (Some(unit), None) => Ok((Item::Unit(&unit.0), item.offset)),
                (None, Some(frame)) => Ok((Item::Frame(&frame.0), item.offset)),
                _ => Err(Failure::Input("an item is a unit or a frame, and the other NULL")),
            }
        };
        let items = items.iter().map(item).collect::<Result<Vec<_>, _>>()?;
        Ok(df11_gpu_batch(Batch::new(&gpu.0, &items)?))
    };
    // SAFETY: this function's caller promises what `give` needs for `batch`, and `run` for `error`.
    unsafe { run(error, || give(batch, prepare)) }
}

/// Closes a batch.
///
/// # Safety
///
/// `batch` must be NULL, or a handle that is not used after this. No stream, and no graph that is
/// still launched, may decode it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn df11_gpu_batch_close(batch: *mut df11_gpu_batch) {
    // SAFETY: this function's caller promises what `close` needs for `batch`.
    unsafe { close(batch) }
}

/// Returns the number of bytes from the address that is passed to df11_gpu_batch_enqueue to the end
/// of all outputs; 0 for NULL.
///
/// # Safety
///
/// `batch` must be NULL or an open handle.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn df11_gpu_batch_output_bytes(batch: *const df11_gpu_batch) -> u64 {
    // SAFETY: this function's caller promises that `batch` is NULL or an open handle.
    unsafe { batch.as_ref() }.map_or(0, |batch| batch.0.output_bytes())
}

/// Decodes all items on a stream, to their offsets from `outputs`. The call launches kernels and
/// returns: it allocates nothing, copies nothing and waits for nothing, so the stream may be
/// captured. Elements must begin at multiples of their size, which is checked.
///
/// # Safety
///
/// `batch` must be an open handle, or NULL. `stream` must be a CUstream of its context, or NULL for
/// the legacy stream. From `outputs` on, kernels of the context must be able to write every item at
/// its offset, and no one else may use this memory, until the stream is done. The batch, and the
/// memory that was adopted for it, must stay until then. If the stream is captured, they must stay
/// for as long as the graph is launched. `error` must be NULL, or valid for writes of a
/// `df11_gpu_error`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn df11_gpu_batch_enqueue(
    batch: *const df11_gpu_batch,
    stream: *mut c_void,
    outputs: u64,
    error: *mut df11_gpu_error,
) -> df11_gpu_status {
    // SAFETY: this function's caller promises what `get` needs for `batch`, `enqueue` for `stream`
    // and `outputs`, and `run` for `error`.
    unsafe { run(error, || Ok(get(batch)?.0.enqueue(stream, outputs)?)) }
}

/// Reads what kernels have found wrong with each item, on any stream, since the last call of this
/// or of df11_gpu_batch_check. Waits for the stream.
///
/// # Safety
///
/// The requirements of df11_gpu_batch_enqueue hold, and no other stream may be decoding the batch.
/// `faults` must be valid for writes of one fault for each item.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn df11_gpu_batch_statuses(
    batch: *const df11_gpu_batch,
    stream: *mut c_void,
    faults: *mut df11_gpu_fault,
    number: usize,
    error: *mut df11_gpu_error,
) -> df11_gpu_status {
    let read = || {
        // SAFETY: this function's caller promises that `batch` is NULL or an open handle.
        let batch = unsafe { get(batch)? };
        if number != batch.0.len() || (number > 0 && faults.is_null()) {
            return Err(Failure::Input("there must be room for a fault for each item"));
        }
        // SAFETY: this function's caller promises what `statuses` needs for `stream`.
        for (at, fault) in unsafe { batch.0.statuses(stream)? }.into_iter().enumerate() {
            let mut told = df11_gpu_fault { is_wrong: 0, block: 0, clause: [0; 12] };
            if let Some(Fault { block, clause }) = fault {
                (told.is_wrong, told.block) = (1, block);
                put(&mut told.clause, clause);
            }
            // SAFETY: `faults` has room for one fault for each item, as this function's caller
            // promises.
            unsafe { faults.add(at).write(told) };
        }
        Ok(())
    };
    // SAFETY: this function's caller promises what `run` needs for `error`.
    unsafe { run(error, read) }
}

/// Reads the faults as df11_gpu_batch_statuses does. Returns DF11_GPU_INVALID_DATA if an item has
/// one: `error` names the first item, its block and the clause.
///
/// # Safety
///
/// The requirements are those of df11_gpu_batch_statuses, without `faults`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn df11_gpu_batch_check(
    batch: *const df11_gpu_batch,
    stream: *mut c_void,
    error: *mut df11_gpu_error,
) -> df11_gpu_status {
    // SAFETY: this function's caller promises what `get` needs for `batch`, `check` for `stream`,
    // and `run` for `error`.
    unsafe { run(error, || Ok(get(batch)?.0.check(stream)?)) }
}

/// Compares the checksums of the coded bytes of frames of codec rANS (FRAME.md, F-5.4) with what
/// was decoded. Downloads all elements, and computes the checksums on the CPU, since kernels do not
/// compare them. Waits for the stream.
///
/// # Safety
///
/// The requirements are those of df11_gpu_batch_enqueue, with the same `outputs`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn df11_gpu_batch_compare_checksums(
    batch: *const df11_gpu_batch,
    stream: *mut c_void,
    outputs: u64,
    error: *mut df11_gpu_error,
) -> df11_gpu_status {
    // SAFETY: this function's caller promises what `get` needs for `batch`, `compare_checksums` for
    // `stream` and `outputs`, and `run` for `error`.
    unsafe { run(error, || Ok(get(batch)?.0.compare_checksums(stream, outputs)?)) }
}
