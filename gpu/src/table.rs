//! Tables in which kernels look up codes. The host makes them once for a unit or a frame, not once
//! for each thread block.

use df11::frame::ElementType;

use crate::kernels::element_kind;

/// The size of a prefix table in bytes: D-5.1 of spec/DF11.md.
const TABLE_BYTES: usize = 256;

/// The number of bits of code that index a table: `TABLE_BITS` of `gpu/kernels/df11_decode.cu`.
const BITS: u32 = 11;
/// The number of entries of a table.
const ENTRIES: usize = 1 << BITS;
/// The length of an entry whose first codeword is longer than [`BITS`]: `LONG_CODE` of the kernel.
const LONG_CODE: u32 = 32 | 64;
/// Exponents from this one on are jumps to another prefix table (D-5.1 of spec/DF11.md).
const FIRST_JUMP: u8 = 240;

/// The size of a table for `df11_decode_batch` in bytes: an entry of 8 bytes for each 11 bits, then
/// 256 code lengths.
pub const DECODE_TABLE_BYTES: usize = 8 * ENTRIES + 256;

/// Rotates an exponent right by one bit, as kernels store it: see `gpu/kernels/common.cuh`.
const fn symbol_of(exponent: u8) -> u8 {
    exponent.rotate_right(1)
}

/// Returns the codeword at the top of `bits`, by the prefix tables: its exponent and its length in
/// bits. An entry that leads nowhere counts as exponent 0 with one bit, so that no decoder can
/// loop, whatever the tables contain.
fn codeword(luts: &[u8], bits: u32) -> (u8, u32) {
    let (tables, lengths) = luts.split_at(luts.len().saturating_sub(TABLE_BYTES));
    let at = |table: usize, level: u32| {
        let index = bits >> (24 - 8 * level) & 255;
        tables.get(table * TABLE_BYTES + index as usize).copied()
    };
    let mut value = at(0, 0);
    for level in 1..4 {
        match value {
            Some(jump @ FIRST_JUMP..) => value = at(256 - usize::from(jump), level),
            _ => break,
        }
    }
    match value {
        Some(exponent @ ..FIRST_JUMP) => {
            let length = lengths.get(usize::from(exponent)).copied().unwrap_or(0);
            (exponent, if (1..=32).contains(&length) { u32::from(length) } else { 1 })
        }
        _ => (0, 1),
    }
}

/// Makes the table of `df11_decode_batch` from the prefix tables `luts` of a unit. For each 11 bits
/// of code, it holds the symbols of up to four whole codewords, and the number of bits that they
/// take.
///
/// Entries of prefix tables that no codeword leads to may have any content. Such an entry can name
/// a symbol whose length fits the known bits, although the bits that follow would give another
/// symbol. A symbol is therefore accepted only if all indices that begin with its codeword lead to
/// it. The kernels make the same table from the same bytes.
///
/// ```
/// use df11::encode;
/// use df11_gpu::table::{DECODE_TABLE_BYTES, decode_table};
///
/// let unit = encode(&[0x80, 0x3f, 0x00, 0x40])?;
/// assert_eq!(decode_table(&unit.luts).len(), DECODE_TABLE_BYTES);
/// # Ok::<(), df11::Error>(())
/// ```
#[must_use]
pub fn decode_table(luts: &[u8]) -> Vec<u8> {
    let single: Vec<(u8, u32)> =
        (0..ENTRIES as u32).map(|index| codeword(luts, index << (32 - BITS))).collect();
    // For each symbol: the first index that leads to it, and the number of such indices that begin
    // with the same codeword.
    let (mut first, mut count) = ([ENTRIES; 256], [0usize; 256]);
    for (index, (exponent, _)) in single.iter().enumerate() {
        let first = &mut first[usize::from(*exponent)];
        *first = index.min(*first);
    }
    let begins_alike = |exponent: u8, index: usize, length: u32| {
        length <= BITS && (first[usize::from(exponent)] ^ index) >> (BITS - length) == 0
    };
    for (index, (exponent, length)) in single.iter().enumerate() {
        count[usize::from(*exponent)] += usize::from(begins_alike(*exponent, index, *length));
    }
    let mut table = Vec::with_capacity(DECODE_TABLE_BYTES);
    for index in 0..ENTRIES {
        let (mut symbols, mut used, mut number) = (0, 0, 0);
        while number < 4 {
            let at = (index << used) & (ENTRIES - 1);
            let (exponent, length) = single[at];
            // All of the first symbol's first 8 bits are known.
            let is_sure = (number == 0 && length <= 8)
                || (begins_alike(exponent, at, length)
                    && count[usize::from(exponent)] == 1 << (BITS - length));
            if used + length > BITS || !is_sure {
                break;
            }
            symbols |= u32::from(symbol_of(exponent)) << (8 * number);
            used += length;
            number += 1;
        }
        let length = if number == 0 { LONG_CODE } else { used | number << 19 };
        table.extend(symbols.to_le_bytes());
        table.extend(length.to_le_bytes());
    }
    let lengths = &luts[luts.len().saturating_sub(TABLE_BYTES)..];
    let length = |symbol: u8| match lengths.get(usize::from(symbol.rotate_left(1))) {
        Some(length @ 1..=32) => *length,
        _ => 1,
    };
    table.extend((0..=255).map(length));
    table
}

/// Makes the table of `fast_decode_batch` and `fast_gemv` from the entries of a dictionary, which
/// have for each code up to seven symbols from the low byte on, and eight times their number in the
/// high byte. Symbols of BF16 are rotated, as kernels merge them; `kind` is what [`element_kind`]
/// says.
#[must_use]
pub fn dictionary_table(entries: &[u64], kind: u32) -> Vec<u8> {
    const SYMBOLS: usize = 7;
    let mut table: Vec<u8> = entries.iter().flat_map(|entry| entry.to_le_bytes()).collect();
    if kind == element_kind(ElementType::Bf16) {
        for entry in table.as_chunks_mut::<{ SYMBOLS + 1 }>().0 {
            let [symbols @ .., _] = entry;
            symbols.iter_mut().for_each(|symbol| *symbol = symbol_of(*symbol));
        }
    }
    table
}
