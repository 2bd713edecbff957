//! Units of DF11.

use std::ops::Range;

use df11::{Parts, Unit};

use crate::boundary::{Opaque, apart, df11_buffer, df11_bytes, get, put, read, run, span, span_of, write};
use crate::status::{Failure, df11_error, df11_status};

/// The six parts of a unit, as they lie in a file. They are borrowed, not copied.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct df11_tensors {
    /// Prefix tables and code lengths.
    pub luts: df11_bytes,
    /// Codewords of the exponents.
    pub encoded_exponent: df11_bytes,
    /// Signs and mantissas, a byte each.
    pub sign_mantissa: df11_bytes,
    /// Where each block's weights begin.
    pub output_positions: df11_bytes,
    /// Where the first codeword of each window begins.
    pub gaps: df11_bytes,
    /// Where one tensor ends and the next begins.
    pub split_positions: df11_bytes,
}

/// An open unit. Lies in memory of the caller, and may be copied; needs no closing. It borrows the
/// parts that it was opened with, which must stay where they are, unchanged, as long as it is used.
/// Many threads may use one at the same time.
#[repr(C)]
#[derive(Debug)]
pub struct df11_unit {
    /// The library's own.
    opaque: [u64; 32],
}

/// What a unit holds.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct df11_unit_info {
    /// Weights, of two bytes each.
    pub elements: usize,
    /// Tensors that they make.
    pub tensors: usize,
    /// Blocks, which can be decoded one by one.
    pub blocks: usize,
    /// Weights of the largest block.
    pub largest_block: usize,
}

/// What stands in a [`df11_unit`].
#[derive(Clone, Copy, Debug)]
pub(crate) struct Open<'a> {
    tensors: Parts<&'a [u8]>,
    unit: Unit<'a>,
}

// SAFETY: The lifetime is that of the parts, which the caller of every function here promises to
// keep.
unsafe impl Opaque for df11_unit {
    type Value = Open<'static>;
    const MARK: u64 = u64::from_le_bytes(*b"df11unit");
}

impl df11_tensors {
    /// # Safety
    ///
    /// As [`df11_bytes::get`] for each part.
    unsafe fn get<'a>(&self) -> Result<Parts<&'a [u8]>, Failure> {
        // SAFETY: The caller's promise.
        let get = |bytes: df11_bytes| unsafe { bytes.get() };
        Ok(Parts {
            luts: get(self.luts)?,
            encoded_exponent: get(self.encoded_exponent)?,
            sign_mantissa: get(self.sign_mantissa)?,
            output_positions: get(self.output_positions)?,
            gaps: get(self.gaps)?,
            split_positions: get(self.split_positions)?,
        })
    }
}

/// Runs `f` with an open unit and memory that does not overlap with its parts.
///
/// # Safety
///
/// As [`get`](crate::boundary::get) for `unit`, [`df11_buffer::get`] for `out`, [`run`] for
/// `error`.
unsafe fn with(
    unit: *const df11_unit,
    out: df11_buffer,
    error: *mut df11_error,
    f: impl FnOnce(&Unit<'_>, &mut [u8]) -> Result<(), df11::Error>,
) -> df11_status {
    // SAFETY: The caller's promises, passed on.
    unsafe {
        run(error, || {
            let place = span_of(unit);
            let Open { tensors, unit } = get(unit)?;
            let [a, b, c, d, e, g] = tensors.into_array().map(span);
            Ok(f(unit, out.get(&[place, a, b, c, d, e, g])?)?)
        })
    }
}

/// Gives a range of the weights of an open unit.
///
/// # Safety
///
/// As [`get`](crate::boundary::get) for `unit`, [`write`] for `start` and `end`, [`run`] for
/// `error`.
unsafe fn give_range(
    unit: *const df11_unit,
    start: *mut usize,
    end: *mut usize,
    error: *mut df11_error,
    find: impl FnOnce(&Unit<'_>) -> Result<Range<usize>, Failure>,
) -> df11_status {
    // SAFETY: The caller's promises, passed on.
    unsafe {
        run(error, || {
            apart(start, &[span_of(unit)])?;
            apart(end, &[span_of(unit)])?;
            let Open { unit, .. } = get(unit)?;
            let range = find(unit)?;
            write(start, range.start)?;
            write(end, range.end)
        })
    }
}

/// Opens a unit: checks its tables, its output and split positions and all lengths. Takes time in
/// proportion to the number of blocks; codewords and gaps are checked as they are decoded.
///
/// `unit` is memory of the caller; whatever it held is replaced if all goes well.
///
/// # Safety
///
/// Pointers must be NULL or valid, and the parts stay as long as the unit is used.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn df11_unit_open(
    unit: *mut df11_unit,
    tensors: *const df11_tensors,
    error: *mut df11_error,
) -> df11_status {
    // SAFETY: The caller's promises, passed on.
    unsafe {
        run(error, || {
            let tensors = read(tensors)?.get()?;
            apart(unit, &tensors.into_array().map(span))?;
            put(unit, Open { tensors, unit: Unit::new(tensors)? })
        })
    }
}

/// Says what a unit holds.
///
/// # Safety
///
/// Pointers must be NULL or valid.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn df11_unit_describe(
    unit: *const df11_unit,
    info: *mut df11_unit_info,
    error: *mut df11_error,
) -> df11_status {
    // SAFETY: The caller's promises, passed on.
    unsafe {
        run(error, || {
            apart(info, &[span_of(unit)])?;
            let Open { unit, .. } = get(unit)?;
            let (elements, tensors, blocks) = (unit.len(), unit.tensors(), unit.blocks());
            write(
                info,
                df11_unit_info { elements, tensors, blocks, largest_block: unit.largest_block() as usize },
            )
        })
    }
}

/// Gives the weights of a tensor of the unit: from `*start` to before `*end`.
///
/// # Safety
///
/// Pointers must be NULL or valid.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn df11_unit_tensor_range(
    unit: *const df11_unit,
    tensor: usize,
    start: *mut usize,
    end: *mut usize,
    error: *mut df11_error,
) -> df11_status {
    let missing = Failure::Input("the number of a tensor", "is none of this unit");
    // SAFETY: The caller's promises, passed on.
    unsafe { give_range(unit, start, end, error, |unit| unit.tensor_range(tensor).ok_or(missing)) }
}

/// Gives the weights of a block: from `*start` to before `*end`.
///
/// # Safety
///
/// Pointers must be NULL or valid.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn df11_unit_block_range(
    unit: *const df11_unit,
    block: usize,
    start: *mut usize,
    end: *mut usize,
    error: *mut df11_error,
) -> df11_status {
    let missing = Failure::Input("the number of a block", "is none of this unit");
    let find = |unit: &Unit<'_>| (block < unit.blocks()).then(|| unit.block_range(block)).ok_or(missing);
    // SAFETY: The caller's promises, passed on.
    unsafe { give_range(unit, start, end, error, find) }
}

/// Decodes all weights of a unit to `out`, all tensors one after the other: two bytes each,
/// little-endian. `out_len` must be twice the number of elements. From 1,024 weights on it takes 48
/// KiB from the allocator while it runs.
///
/// If it fails, what is in `out` is unspecified.
///
/// # Safety
///
/// Pointers must be NULL or valid.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn df11_unit_decode(
    unit: *const df11_unit,
    out: *mut u8,
    out_len: usize,
    error: *mut df11_error,
) -> df11_status {
    // SAFETY: The caller's promises, passed on.
    unsafe { with(unit, df11_buffer { data: out, len: out_len }, error, |unit, out| unit.decode_into(out)) }
}

/// Decodes the weights from `start` to before `end`; `out_len` must be twice their number. Where
/// whole blocks of 1,024 weights and more lie within, it takes 48 KiB from the allocator while it
/// runs.
///
/// # Safety
///
/// Pointers must be NULL or valid.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn df11_unit_decode_range(
    unit: *const df11_unit,
    start: usize,
    end: usize,
    out: *mut u8,
    out_len: usize,
    error: *mut df11_error,
) -> df11_status {
    let out = df11_buffer { data: out, len: out_len };
    // SAFETY: The caller's promises, passed on.
    unsafe { with(unit, out, error, |unit, out| unit.decode_range_into(start..end, out)) }
}

/// Decodes the blocks from `first` to before `last`; `out_len` must be twice the number of their
/// weights. Calls for different blocks may run on different threads. From 1,024 weights on, each
/// call takes 48 KiB from the allocator and builds tables there, which takes as long as decoding
/// some ten thousand weights: so decode many blocks in a call.
///
/// # Safety
///
/// Pointers must be NULL or valid.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn df11_unit_decode_blocks(
    unit: *const df11_unit,
    first: usize,
    last: usize,
    out: *mut u8,
    out_len: usize,
    error: *mut df11_error,
) -> df11_status {
    let out = df11_buffer { data: out, len: out_len };
    // SAFETY: The caller's promises, passed on.
    unsafe { with(unit, out, error, |unit, out| unit.decode_blocks_into(first..last, out)) }
}

/// Decodes all weights like `df11_unit_decode`, and checks every rule of the format: also the gaps,
/// on which decoders for GPUs rely. From 1,024 weights on it takes up to 112 KiB from the allocator
/// while it runs.
///
/// # Safety
///
/// Pointers must be NULL or valid.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn df11_unit_verify(
    unit: *const df11_unit,
    out: *mut u8,
    out_len: usize,
    error: *mut df11_error,
) -> df11_status {
    let out = df11_buffer { data: out, len: out_len };
    // SAFETY: The caller's promises, passed on.
    unsafe { with(unit, out, error, |unit, out| unit.verify_blocks_into(0..unit.blocks(), out)) }
}
