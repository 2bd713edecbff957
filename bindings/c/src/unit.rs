//! Units of DF11.

use std::ops::Range;

use df11::{Parts, Unit};

use crate::boundary::{Opaque, apart, df11_buffer, df11_bytes, get, put, read, run, span, span_of, write};
use crate::status::{Failure, df11_error, df11_status};

/// The six parts of a unit, as a file stores them. They are borrowed, not copied.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct df11_tensors {
    /// Prefix tables and code lengths.
    pub luts: df11_bytes,
    /// Codewords of the exponents.
    pub encoded_exponent: df11_bytes,
    /// Signs and mantissas, one byte each.
    pub sign_mantissa: df11_bytes,
    /// The positions where each block's weights begin.
    pub output_positions: df11_bytes,
    /// The bit offset of the first codeword of each window.
    pub gaps: df11_bytes,
    /// The positions where one tensor ends and the next begins.
    pub split_positions: df11_bytes,
}

/// An open unit. It lies in the caller's memory, may be copied, and needs no closing. It borrows
/// the parts that it was opened with, which must stay in place, unchanged, while it is used.
/// Several threads may use it at the same time.
#[repr(C)]
#[derive(Debug)]
pub struct df11_unit {
    /// Internal to the library.
    opaque: [u64; 32],
}

/// The description of a unit.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct df11_unit_info {
    /// The number of weights. Each has two bytes.
    pub elements: usize,
    /// The number of tensors.
    pub tensors: usize,
    /// The number of blocks. Each can be decoded on its own.
    pub blocks: usize,
    /// The number of weights in the largest block.
    pub largest_block: usize,
}

/// The value in a [`df11_unit`].
#[derive(Clone, Copy, Debug)]
pub(crate) struct Open<'a> {
    tensors: Parts<&'a [u8]>,
    unit: Unit<'a>,
}

// SAFETY: the value borrows the parts of the unit. The caller of every function here promises that
// they stay valid while the unit is used.
unsafe impl Opaque for df11_unit {
    type Value = Open<'static>;
    const MARK: u64 = u64::from_le_bytes(*b"df11unit");
}

impl df11_tensors {
    /// # Safety
    ///
    /// The contract of [`df11_bytes::get`] holds for each part.
    unsafe fn get<'a>(&self) -> Result<Parts<&'a [u8]>, Failure> {
        // SAFETY: the caller promises the contract of `df11_bytes::get` for each part.
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
/// The contract of [`get`](crate::boundary::get) holds for `unit`, that of [`df11_buffer::get`] for
/// `out`, and that of [`run`] for `error`.
unsafe fn with(
    unit: *const df11_unit,
    out: df11_buffer,
    error: *mut df11_error,
    f: impl FnOnce(&Unit<'_>, &mut [u8]) -> Result<(), df11::Error>,
) -> df11_status {
    // SAFETY: the caller promises the contracts of `get`, `df11_buffer::get` and `run` for these
    // arguments.
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
/// The contract of [`get`](crate::boundary::get) holds for `unit`, that of [`write`] for `start`
/// and `end`, and that of [`run`] for `error`.
unsafe fn give_range(
    unit: *const df11_unit,
    start: *mut usize,
    end: *mut usize,
    error: *mut df11_error,
    find: impl FnOnce(&Unit<'_>) -> Result<Range<usize>, Failure>,
) -> df11_status {
    // SAFETY: the caller promises the contracts of `get`, `write` and `run` for these arguments.
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

/// Opens a unit. Checks its tables, its output and split positions, and all lengths. The time is
/// proportional to the number of blocks. Codewords and gaps are checked when they are decoded.
///
/// `unit` is memory of the caller. A success replaces its content.
///
/// # Safety
///
/// `unit` must be valid for writes of a `df11_unit`, or NULL. `tensors` must be valid for reads of
/// a `df11_tensors`, or NULL, and the `data` of each part for reads of `len` bytes, or NULL. The
/// parts must stay unchanged while the unit is used. The unit must not overlap with the parts,
/// which is checked. `error` must be valid for writes of a `df11_error`, or NULL, and must not
/// overlap with anything else.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn df11_unit_open(
    unit: *mut df11_unit,
    tensors: *const df11_tensors,
    error: *mut df11_error,
) -> df11_status {
    // SAFETY: this function's caller promises what `read` needs for `tensors`, `df11_tensors::get`
    // for its parts, for as long as the unit is used, `put` for `unit`, and `run` for `error`.
    unsafe {
        run(error, || {
            let tensors = read(tensors)?.get()?;
            apart(unit, &tensors.into_array().map(span))?;
            put(unit, Open { tensors, unit: Unit::new(tensors)? })
        })
    }
}

/// Describes a unit.
///
/// # Safety
///
/// `unit` must be valid for reads of a `df11_unit`, or NULL, and the parts that it was opened with
/// must be unchanged. `info` must be valid for writes of a `df11_unit_info`, or NULL; it must not
/// overlap with the unit, which is checked. `error` must be valid for writes of a `df11_error`, or
/// NULL, and must not overlap with anything else.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn df11_unit_describe(
    unit: *const df11_unit,
    info: *mut df11_unit_info,
    error: *mut df11_error,
) -> df11_status {
    // SAFETY: this function's caller promises what `get` needs for `unit`, `write` for `info`, and
    // `run` for `error`.
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

/// Gives the range of a tensor's weights in the unit: from `*start` to before `*end`.
///
/// # Safety
///
/// `unit` must be valid for reads of a `df11_unit`, or NULL, and the parts that it was opened with
/// must be unchanged. `start` and `end` must each be valid for writes of a `size_t`, or NULL; they
/// must not overlap with the unit, which is checked. `error` must be valid for writes of a
/// `df11_error`, or NULL, and must not overlap with anything else.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn df11_unit_tensor_range(
    unit: *const df11_unit,
    tensor: usize,
    start: *mut usize,
    end: *mut usize,
    error: *mut df11_error,
) -> df11_status {
    let missing = Failure::Input("the number of a tensor", "is none of this unit");
    // SAFETY: this function's caller promises what `give_range` needs for its arguments.
    unsafe { give_range(unit, start, end, error, |unit| unit.tensor_range(tensor).ok_or(missing)) }
}

/// Gives the range of a block's weights in the unit: from `*start` to before `*end`.
///
/// # Safety
///
/// The requirements are those of `df11_unit_tensor_range`.
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
    // SAFETY: this function's caller promises what `give_range` needs for its arguments.
    unsafe { give_range(unit, start, end, error, find) }
}

/// Decodes all weights of a unit to `out`, tensor by tensor: two bytes each, little-endian.
/// `out_len` must be twice the number of elements. For 1,024 weights or more, the call takes 48 KiB
/// from the allocator while it runs.
///
/// After a failure, the content of `out` is unspecified.
///
/// # Safety
///
/// `unit` must be valid for reads of a `df11_unit`, or NULL, and the parts that it was opened with
/// must be unchanged. `out` must be valid for writes of `out_len` bytes, or NULL; it must not
/// overlap with the unit or its parts, which is checked. `error` must be valid for writes of a
/// `df11_error`, or NULL, and must not overlap with anything else.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn df11_unit_decode(
    unit: *const df11_unit,
    out: *mut u8,
    out_len: usize,
    error: *mut df11_error,
) -> df11_status {
    // SAFETY: this function's caller promises what `with` needs for its arguments.
    unsafe { with(unit, df11_buffer { data: out, len: out_len }, error, |unit, out| unit.decode_into(out)) }
}

/// Decodes the weights from `start` to before `end`. `out_len` must be twice their number. If the
/// range contains whole blocks with 1,024 weights or more, the call takes 48 KiB from the allocator
/// while it runs.
///
/// # Safety
///
/// The requirements are those of `df11_unit_decode`.
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
    // SAFETY: this function's caller promises what `with` needs for its arguments.
    unsafe { with(unit, out, error, |unit, out| unit.decode_range_into(start..end, out)) }
}

/// Decodes the blocks from `first` to before `last`. `out_len` must be twice the number of their
/// weights. Calls for different blocks may run on different threads. For 1,024 weights or more,
/// each call takes 48 KiB from the allocator and builds tables there, which takes as long as
/// decoding some ten thousand weights. Decode many blocks in a call for this reason.
///
/// # Safety
///
/// The requirements are those of `df11_unit_decode`.
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
    // SAFETY: this function's caller promises what `with` needs for its arguments.
    unsafe { with(unit, out, error, |unit, out| unit.decode_blocks_into(first..last, out)) }
}

/// Decodes all weights like `df11_unit_decode`, and checks every rule of the format, including the
/// gaps, on which decoders for GPUs rely. For 1,024 weights or more, the call takes up to 112 KiB
/// from the allocator while it runs.
///
/// # Safety
///
/// The requirements are those of `df11_unit_decode`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn df11_unit_verify(
    unit: *const df11_unit,
    out: *mut u8,
    out_len: usize,
    error: *mut df11_error,
) -> df11_status {
    let out = df11_buffer { data: out, len: out_len };
    // SAFETY: this function's caller promises what `with` needs for its arguments.
    unsafe { with(unit, out, error, |unit, out| unit.verify_blocks_into(0..unit.blocks(), out)) }
}
