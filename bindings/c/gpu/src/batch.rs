//! Units and frames that are decoded together.

use std::ffi::c_void;

use ::df11_gpu::{Batch, Fault, Item};

use crate::boundary::{Failure, close, get, give, put, run};
use crate::types::{
    df11_gpu, df11_gpu_batch, df11_gpu_error, df11_gpu_fault, df11_gpu_item, df11_gpu_status,
};

/// Prepares a batch: everything that takes long is done here, once. The units and frames may be
/// closed after this.
///
/// # Safety
///
/// `gpu` must be a handle, `items` point to as many items, of open units and frames; `batch` must
/// point to memory for a handle.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn df11_gpu_batch_new(
    gpu: *const df11_gpu,
    items: *const df11_gpu_item,
    number: usize,
    batch: *mut *mut df11_gpu_batch,
    error: *mut df11_gpu_error,
) -> df11_gpu_status {
    let prepare = || {
        // SAFETY: the caller's promise.
        let gpu = unsafe { get(gpu)? };
        let can_be =
            number.checked_mul(size_of::<df11_gpu_item>()).is_some_and(|n| isize::try_from(n).is_ok());
        if number > 0 && (items.is_null() || !can_be) {
            return Err(Failure::Input("items are NULL, or their number impossible"));
        }
        let items: &[df11_gpu_item] = match number {
            0 => &[],
            // SAFETY: Not NULL, and no more than can be; the caller's promise for the rest.
            _ => unsafe { std::slice::from_raw_parts(items, number) },
        };
        let item = |item: &df11_gpu_item| {
            // SAFETY: the caller's promise.
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
    // SAFETY: the caller's promise.
    unsafe { run(error, || give(batch, prepare)) }
}

/// Closes a batch.
///
/// # Safety
///
/// `batch` must be NULL or a handle that is not used after this; no stream, and no graph that is
/// still launched, decodes it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn df11_gpu_batch_close(batch: *mut df11_gpu_batch) {
    // SAFETY: the caller's promise.
    unsafe { close(batch) }
}

/// The bytes from the address that df11_gpu_batch_enqueue is given to the end of all outputs; 0 for
/// NULL.
///
/// # Safety
///
/// `batch` must be NULL or a handle.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn df11_gpu_batch_output_bytes(batch: *const df11_gpu_batch) -> u64 {
    // SAFETY: the caller's promise.
    unsafe { batch.as_ref() }.map_or(0, |batch| batch.0.output_bytes())
}

/// Decodes all items on a stream, to their offsets from `outputs`. Launches and returns: it
/// allocates nothing, copies nothing and waits for nothing, so the stream may be captured. Elements
/// must begin at multiples of their size; that is checked.
///
/// # Safety
///
/// `batch` must be a handle, `stream` a CUstream of its context, or NULL for the legacy stream.
/// From `outputs` on, kernels of the context must be able to write every item at its offset, and
/// nobody else may use what they write, until the stream is done. The batch, and what was adopted
/// for it, must stay until then; with a captured stream, as long as the graph is launched.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn df11_gpu_batch_enqueue(
    batch: *const df11_gpu_batch,
    stream: *mut c_void,
    outputs: u64,
    error: *mut df11_gpu_error,
) -> df11_gpu_status {
    // SAFETY: the caller's promise.
    unsafe { run(error, || Ok(get(batch)?.0.enqueue(stream, outputs)?)) }
}

/// What kernels have found wrong with each item since this, or df11_gpu_batch_check, was called
/// last, on whatever stream. Waits for the stream.
///
/// # Safety
///
/// As for df11_gpu_batch_enqueue; on no other stream is the batch being decoded. `faults` must
/// point to memory for as many faults, one for each item.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn df11_gpu_batch_statuses(
    batch: *const df11_gpu_batch,
    stream: *mut c_void,
    faults: *mut df11_gpu_fault,
    number: usize,
    error: *mut df11_gpu_error,
) -> df11_gpu_status {
    let read = || {
        // SAFETY: the caller's promise.
        let batch = unsafe { get(batch)? };
        if number != batch.0.len() || (number > 0 && faults.is_null()) {
            return Err(Failure::Input("there must be room for a fault for each item"));
        }
        // SAFETY: the caller's promise.
        for (at, fault) in unsafe { batch.0.statuses(stream)? }.into_iter().enumerate() {
            let mut told = df11_gpu_fault { is_wrong: 0, block: 0, clause: [0; 12] };
            if let Some(Fault { block, clause }) = fault {
                (told.is_wrong, told.block) = (1, block);
                put(&mut told.clause, clause);
            }
            // SAFETY: there are as many as the batch has items, by the caller's promise.
            unsafe { faults.add(at).write(told) };
        }
        Ok(())
    };
    // SAFETY: the caller's promise.
    unsafe { run(error, read) }
}

/// The same, and DF11_GPU_INVALID_DATA if something is wrong with an item: `error` names the first,
/// its block and the clause.
///
/// # Safety
///
/// As for df11_gpu_batch_statuses.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn df11_gpu_batch_check(
    batch: *const df11_gpu_batch,
    stream: *mut c_void,
    error: *mut df11_gpu_error,
) -> df11_gpu_status {
    // SAFETY: the caller's promise.
    unsafe { run(error, || Ok(get(batch)?.0.check(stream)?)) }
}

/// Compares the checksums of coded bytes of frames of codec rANS (FRAME.md, F-5.4) with what was
/// decoded: downloads all elements, and computes them on the processor. Kernels do not compare
/// them. Waits for the stream.
///
/// # Safety
///
/// As for df11_gpu_batch_enqueue, with the same `outputs`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn df11_gpu_batch_compare_checksums(
    batch: *const df11_gpu_batch,
    stream: *mut c_void,
    outputs: u64,
    error: *mut df11_gpu_error,
) -> df11_gpu_status {
    // SAFETY: the caller's promise.
    unsafe { run(error, || Ok(get(batch)?.0.compare_checksums(stream, outputs)?)) }
}
