//! Encodes units of DF11.

use df11::{EncodeOptions, Parts, Plan};

use crate::boundary::{
    Opaque, apart, array, df11_buffer, df11_bytes, get, put, read, run, span, span_of, write,
};
use crate::status::{Failure, df11_error, df11_status};

/// Options of the encoder. With any of them, every decoder of the layout reads the unit. NULL
/// stands for the defaults, 1 and 32.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct df11_options {
    /// The length of the shortest codeword in bits, 1 to 8. With 2, no block holds more than 16,384
    /// weights.
    pub least_code_length: u8,
    /// The length of the longest codeword in bits, up to 32.
    pub max_code_length: u8,
}

/// The size in bytes of each part of a unit.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct df11_sizes {
    /// Prefix tables and code lengths.
    pub luts: usize,
    /// Codewords of the exponents.
    pub encoded_exponent: usize,
    /// Signs and mantissas.
    pub sign_mantissa: usize,
    /// Output positions.
    pub output_positions: usize,
    /// Gaps.
    pub gaps: usize,
    /// Split positions.
    pub split_positions: usize,
}

/// The memory for the parts of a unit. `df11_plan_sizes` gives the length of each.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct df11_buffers {
    /// Prefix tables and code lengths.
    pub luts: df11_buffer,
    /// Codewords of the exponents.
    pub encoded_exponent: df11_buffer,
    /// Signs and mantissas.
    pub sign_mantissa: df11_buffer,
    /// Output positions.
    pub output_positions: df11_buffer,
    /// Gaps.
    pub gaps: df11_buffer,
    /// Split positions.
    pub split_positions: df11_buffer,
}

/// A unit that is about to be encoded: its code, its tables, and the size of each part. It lies in
/// the caller's memory, borrows nothing, may be copied, and needs no closing.
#[repr(C)]
#[derive(Debug)]
pub struct df11_plan {
    /// Internal to the library.
    opaque: [u64; 1024],
}

// SAFETY: a plan borrows nothing, so it may be returned for any lifetime.
unsafe impl Opaque for df11_plan {
    type Value = Plan;
    const MARK: u64 = u64::from_le_bytes(*b"df11plan");
}

impl From<Parts<usize>> for df11_sizes {
    fn from(sizes: Parts<usize>) -> Self {
        let Parts { luts, encoded_exponent, sign_mantissa, output_positions, gaps, split_positions } = sizes;
        df11_sizes { luts, encoded_exponent, sign_mantissa, output_positions, gaps, split_positions }
    }
}

/// Borrows the tensors of a unit.
///
/// # Safety
///
/// The contract of [`array`] holds for the array, and that of [`df11_bytes::get`] for each element.
unsafe fn slices<'a>(tensors: *const df11_bytes, count: usize) -> Result<Vec<&'a [u8]>, Failure> {
    // SAFETY: the caller promises the contract of `array`, and that of `get` for each element.
    unsafe { array(tensors, count)?.iter().map(|tensor| tensor.get()).collect() }
}

/// Gives the largest possible size of each part of a unit, whatever the weights are.
///
/// # Safety
///
/// `sizes` must be valid for writes of a `df11_sizes`, or NULL. `error` must be valid for writes of
/// a `df11_error`, or NULL. The two must not overlap.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn df11_unit_bound(
    elements: usize,
    tensors: usize,
    sizes: *mut df11_sizes,
    error: *mut df11_error,
) -> df11_status {
    // SAFETY: this function's caller promises what `write` needs for `sizes`, and `run` for
    // `error`.
    unsafe {
        run(error, || {
            let bound = Parts::bound(elements, tensors);
            write(
                sizes,
                bound.ok_or(Failure::Input("the number of elements", "is none that a unit has"))?.into(),
            )
        })
    }
}

/// Plans the unit of these tensors, in this order. Each is BF16, little-endian, and needs no
/// alignment. Reads every weight once. For 65,536 weights or more, the call takes up to 136 KiB
/// from the allocator while it runs.
///
/// A unit cannot hold weights whose magnitude is 2^113 or more, infinities and NaN: the result is
/// `DF11_UNSUPPORTED`. Frames can hold them.
///
/// # Safety
///
/// `plan` must be valid for writes of a `df11_plan`, or NULL. `tensors` must be valid for reads of
/// `count` structures, or NULL, and the `data` of each for reads of `len` bytes, or NULL. `options`
/// must be valid for reads of a `df11_options`, or NULL. `error` must be valid for writes of a
/// `df11_error`, or NULL. The plan must not overlap with the tensors, which is checked. `error`
/// must not overlap with anything else.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn df11_plan_new(
    plan: *mut df11_plan,
    tensors: *const df11_bytes,
    count: usize,
    options: *const df11_options,
    error: *mut df11_error,
) -> df11_status {
    // SAFETY: this function's caller promises what `read` needs for `options`, `slices` for
    // `tensors` and `count`, `put` for `plan`, and `run` for `error`.
    unsafe {
        run(error, || {
            let options = if options.is_null() {
                EncodeOptions::default()
            } else {
                let df11_options { least_code_length, max_code_length } = read(options)?;
                EncodeOptions::new().least_code_length(least_code_length).max_code_length(max_code_length)
            };
            let slices = slices(tensors, count)?;
            let mut inputs: Vec<_> = slices.iter().copied().map(span).collect();
            inputs.push(
                tensors.addr()..tensors.addr().saturating_add(count.saturating_mul(size_of::<df11_bytes>())),
            );
            apart(plan, &inputs)?;
            put(plan, Plan::new(&slices, &options)?)
        })
    }
}

/// Gives the exact size of each part that `df11_plan_encode` will write.
///
/// # Safety
///
/// `plan` must be valid for reads of a `df11_plan`, or NULL. `sizes` must be valid for writes of a
/// `df11_sizes`, or NULL; it must not overlap with the plan, which is checked. `error` must be
/// valid for writes of a `df11_error`, or NULL, and must not overlap with either.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn df11_plan_sizes(
    plan: *const df11_plan,
    sizes: *mut df11_sizes,
    error: *mut df11_error,
) -> df11_status {
    // SAFETY: this function's caller promises what `get` needs for `plan`, `write` for `sizes`, and
    // `run` for `error`.
    unsafe {
        run(error, || {
            apart(sizes, &[span_of(plan)])?;
            write(sizes, get(plan)?.sizes().into())
        })
    }
}

/// Encodes the tensors that were planned. The same tensors and options always give the same bytes.
/// For 65,536 weights or more, the call takes up to 576 KiB from the allocator while it runs.
///
/// After a failure, the content of the buffers is unspecified. Verify what you keep: call
/// `df11_unit_verify`, then compare.
///
/// # Safety
///
/// `plan` must be valid for reads of a `df11_plan`, or NULL. `tensors` must be valid for reads of
/// `count` structures, or NULL, and the `data` of each for reads of `len` bytes, or NULL. `buffers`
/// must be valid for reads of a `df11_buffers`, or NULL, and the `data` of each of its buffers for
/// writes of `len` bytes, or NULL. No buffer may overlap with another, with a tensor or with the
/// plan, which is checked. `error` must be valid for writes of a `df11_error`, or NULL, and must
/// not overlap with anything else.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn df11_plan_encode(
    plan: *const df11_plan,
    tensors: *const df11_bytes,
    count: usize,
    buffers: *const df11_buffers,
    error: *mut df11_error,
) -> df11_status {
    // SAFETY: this function's caller promises what `get` needs for `plan`, `slices` for `tensors`
    // and `count`, `read` for `buffers`, `df11_buffer::get` for each buffer, and `run` for `error`.
    // The buffers are checked not to overlap with one another before any of them becomes a slice.
    unsafe {
        run(error, || {
            let place = span_of(plan);
            let plan = get(plan)?;
            let tensors = slices(tensors, count)?;
            let buffers = read(buffers)?;
            expect_apart(&buffers)?;
            let mut inputs: Vec<_> = tensors.iter().map(|tensor| span(tensor)).collect();
            inputs.push(place);
            let buffers = Parts {
                luts: buffers.luts.get(&inputs)?,
                encoded_exponent: buffers.encoded_exponent.get(&inputs)?,
                sign_mantissa: buffers.sign_mantissa.get(&inputs)?,
                output_positions: buffers.output_positions.get(&inputs)?,
                gaps: buffers.gaps.get(&inputs)?,
                split_positions: buffers.split_positions.get(&inputs)?,
            };
            Ok(plan.encode_into(&tensors, buffers)?)
        })
    }
}

/// Checks that no two of the buffers overlap.
fn expect_apart(buffers: &df11_buffers) -> Result<(), Failure> {
    let df11_buffers { luts, encoded_exponent, sign_mantissa, output_positions, gaps, split_positions } =
        buffers;
    let mut all = [luts, encoded_exponent, sign_mantissa, output_positions, gaps, split_positions]
        .map(|buffer| (buffer.data.addr(), buffer.len));
    all.sort_unstable();
    let mut used = all.iter().filter(|(_, len)| *len > 0).peekable();
    while let Some((start, len)) = used.next() {
        if used.peek().is_some_and(|(next, _)| start.saturating_add(*len) > *next) {
            return Err(Failure::Input("a buffer", "overlaps with another"));
        }
    }
    Ok(())
}
