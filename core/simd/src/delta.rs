//! Steps of rANS with a table for each symbol: what deltas are coded with.
//!
//! Each symbol comes with the number of its table, its *context*. Vectors gather from all tables at
//! once; [`Simd::decode_contexts`](crate::Simd::decode_contexts) and
//! [`Simd::encode_contexts`](crate::Simd::encode_contexts) do whole steps, as many as can be done
//! without looking whether words or room are left, and say how many.

#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
use crate::eight::{Eight, VECTORS, WIDTH, append, refill};
use crate::rans::LANES;
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
use crate::rans::has_step;

/// The most tables. A context is taken modulo this.
pub const TABLES: usize = 8;

/// The logarithm of the slots of a table.
pub const SCALE_BITS: u32 = 11;

/// Tables for decoding, by context and slot: the symbol in the low byte, above it the frequency, 12
/// bits, and the slot less the cumulative frequency, 11 bits.
pub type Slots = [u32; TABLES << SCALE_BITS];

/// Tables for encoding, by context and symbol: the frequency less one, 12 bits, and above it the
/// cumulative frequency; [`NO_ENTRY`](crate::rans::NO_ENTRY) without a frequency.
pub type Entries = [u32; TABLES << 8];

/// A block that is being decoded, from its last step to its first.
#[derive(Debug)]
pub struct Reading<'a> {
    /// The states of the lanes.
    pub states: [u32; LANES],
    /// Words, two bytes each.
    pub words: &'a [[u8; 2]],
    /// How many of them are left; those after them may be there or not.
    pub left: usize,
}

/// A block that is being encoded, from its first step to its last.
#[derive(Debug)]
pub struct Appending<'a> {
    /// The states of the lanes.
    pub states: [u32; LANES],
    /// Words, two bytes each, and room for more.
    pub words: &'a mut [[u8; 2]],
    /// How many words there are.
    pub used: usize,
}

/// Steps that are to be decoded: the contexts of their symbols, and room for as many symbols.
#[derive(Debug)]
pub struct Steps<'a> {
    /// The table of each symbol.
    pub contexts: &'a [[u8; LANES]],
    /// The symbols.
    pub symbols: &'a mut [[u8; LANES]],
}

/// [`Simd::decode_contexts`](crate::Simd::decode_contexts), eight lanes at a time.
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
#[inline(always)]
pub(crate) fn decode<const N: usize>(
    simd: impl Eight,
    slots: &Slots,
    streams: &mut [Reading<'_>; N],
    steps: &mut [Steps<'_>; N],
) -> usize {
    let (slot_mask, table_mask) = (simd.splat((1 << SCALE_BITS) - 1), simd.splat(TABLES as u32 - 1));
    let twelve = simd.splat(0xfff);
    let most = steps.iter().map(|steps| steps.contexts.len().min(steps.symbols.len())).min().unwrap_or(0);
    let mut run = 0;
    while run < most && streams.iter().all(|stream| has_step(stream.words, stream.left)) {
        for (stream, steps) in streams.iter_mut().zip(&mut *steps) {
            let contexts = steps.contexts.iter().rev().nth(run);
            let to = steps.symbols.iter_mut().rev().nth(run);
            let (Some(contexts), Some(to)) = (contexts, to) else { return run };
            let mut symbols = [simd.splat(0); VECTORS];
            for vector in (0..VECTORS).rev() {
                let state = simd.load(&stream.states, WIDTH * vector);
                let context = simd.and(simd.load_bytes(contexts, WIDTH * vector), table_mask);
                let at = simd.add(simd.and(state, slot_mask), simd.shift_left(context, SCALE_BITS));
                // SAFETY: a table below 8 and a slot below 2^11 are within 8 times 2^11 entries.
                let entry = unsafe { simd.gather(slots, at) };
                symbols[vector] = entry;
                let quotient = simd.shift_right(state, SCALE_BITS);
                let frequency = simd.and(simd.shift_right(entry, 8), twelve);
                let next = simd.add(simd.mul(frequency, quotient), simd.shift_right(entry, 20));
                // SAFETY: `has_step` says that at least 32 words were left, of which at most 32
                // are taken in all, and that 32 can be read from what was left: so eight from
                // wherever this ends.
                let next = unsafe { refill(simd, next, stream.words, &mut stream.left) };
                simd.store(next, &mut stream.states, WIDTH * vector);
            }
            simd.store_bytes(symbols, to);
        }
        run += 1;
    }
    run
}

/// [`Simd::encode_contexts`](crate::Simd::encode_contexts), eight lanes at a time.
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
#[inline(always)]
pub(crate) fn encode(
    simd: impl Eight,
    entries: &Entries,
    block: &mut Appending<'_>,
    contexts: &[[u8; LANES]],
    symbols: &[[u8; LANES]],
) -> usize {
    let (zero, table_mask) = (simd.splat(0), simd.splat(TABLES as u32 - 1));
    let mut run = 0;
    for (contexts, symbols) in contexts.iter().zip(symbols) {
        let mut of = [zero; VECTORS];
        let mut missing = 0;
        for (vector, entry) in of.iter_mut().enumerate() {
            let context = simd.and(simd.load_bytes(contexts, WIDTH * vector), table_mask);
            let at = simd.add(simd.load_bytes(symbols, WIDTH * vector), simd.shift_left(context, 8));
            // SAFETY: a table below 8 and a symbol below 2^8 are within 8 times 2^8 entries.
            *entry = unsafe { simd.gather(entries, at) };
            missing |= simd.mask(simd.less(*entry, zero));
        }
        // Whatever a vector has, eight words are stored.
        let fits = block.words.len().checked_sub(LANES + WIDTH).is_some_and(|most| block.used <= most);
        if missing != 0 || !fits {
            break;
        }
        for (vector, entry) in of.iter().enumerate() {
            let state = simd.load(&block.states, WIDTH * vector);
            // SAFETY: there is room for 32 words of this step and eight more, of which those before
            // took at most 8 each.
            let next = unsafe { append(simd, SCALE_BITS, *entry, state, block.words, &mut block.used) };
            simd.store(next, &mut block.states, WIDTH * vector);
        }
        run += 1;
    }
    run
}
