//! Steps of interleaved rANS, eight lanes at a time, with tables of slots and of symbols. They
//! serve alphabets of any size, and CPUs whose vectors cannot hold a table.

use crate::rans::{DecodeTables, EncodeTables, LANES, START_STATE, Stream, Writing, has_step};

/// Lanes of a vector.
pub(crate) const WIDTH: usize = 8;

/// The lanes at which vectors begin are 0, 8, 16 and 24. Any other number is masked to one of them,
/// so that none leads out of bounds.
pub(crate) const PLACES: usize = LANES - WIDTH;

/// Vectors for all lanes.
pub(crate) const VECTORS: usize = LANES / WIDTH;

/// Vectors of eight numbers of 32 bits.
pub(crate) trait Eight: Copy {
    type V: Copy;

    /// Loads eight numbers from lane `at` on.
    fn load(self, from: &[u32; LANES], at: usize) -> Self::V;
    fn store(self, vector: Self::V, to: &mut [u32; LANES], at: usize);
    /// Loads eight bytes from lane `at` on, one number each.
    fn load_bytes(self, from: &[u8; LANES], at: usize) -> Self::V;
    /// Stores the low byte of each number.
    fn store_bytes(self, vectors: [Self::V; VECTORS], to: &mut [u8; LANES]);
    fn splat(self, number: u32) -> Self::V;
    fn and(self, a: Self::V, b: Self::V) -> Self::V;
    fn add(self, a: Self::V, b: Self::V) -> Self::V;
    fn sub(self, a: Self::V, b: Self::V) -> Self::V;
    fn mul(self, a: Self::V, b: Self::V) -> Self::V;
    fn shift_left(self, a: Self::V, bits: u32) -> Self::V;
    fn shift_right(self, a: Self::V, bits: u32) -> Self::V;
    /// Returns all ones in each lane where `a` is less than `b`, as signed numbers.
    fn less(self, a: Self::V, b: Self::V) -> Self::V;
    /// Returns a bit for each lane of a vector of ones and zeros.
    fn mask(self, a: Self::V) -> usize;
    /// Selects `a` in each lane with ones, and `b` in the others.
    fn select(self, ones: Self::V, a: Self::V, b: Self::V) -> Self::V;
    /// Divides numbers below 2^31. The rounding is unspecified, and the quotient may be off by one.
    fn divide(self, a: Self::V, b: Self::V) -> Self::V;
    /// Gathers `table[at[i]]` into lane `i`.
    ///
    /// # Safety
    ///
    /// Every lane of `at` must be less than `table.len()`.
    unsafe fn gather(self, table: &[u32], at: Self::V) -> Self::V;
    /// Gives each lane in `mask`, in lane order, the next word of `from`. Other lanes are
    /// unspecified.
    ///
    /// # Safety
    ///
    /// `from` must be readable for 16 bytes, whatever the mask.
    unsafe fn expand(self, from: *const [u8; 2], mask: usize) -> Self::V;
    /// Stores the low words of the lanes in `mask`, in lane order, to `to`. The words after them
    /// are unspecified.
    ///
    /// # Safety
    ///
    /// `to` must be writable for 16 bytes, whatever the mask.
    unsafe fn compress(self, vector: Self::V, mask: usize, to: *mut [u8; 2]);
}

/// Gives each state below 2^15 a word, in lane order, of which the last before `left` is the last
/// lane's. Returns the states.
///
/// # Safety
///
/// `left` must be at least as many as the words that are taken, and from the `left` that this
/// leaves on, `words` must have eight.
#[inline(always)]
pub(crate) unsafe fn refill<E: Eight>(simd: E, states: E::V, words: &[[u8; 2]], left: &mut usize) -> E::V {
    let needy = simd.less(states, simd.splat(START_STATE));
    let mask = simd.mask(needy);
    *left -= mask.count_ones() as usize;
    // SAFETY: the caller promises eight words, which are 16 bytes, from here.
    let words = unsafe { simd.expand(words.as_ptr().add(*left), mask) };
    simd.select(needy, simd.add(simd.shift_left(states, 16), words), states)
}

/// Encodes a symbol for each state, by the entries of their table (12 bits of the frequency less
/// one, and above them the cumulative frequency): appends the low words of those that are full, in
/// lane order. Returns the states.
///
/// # Safety
///
/// `words` must have room for eight from `used` on, whatever is appended.
#[inline(always)]
pub(crate) unsafe fn append<E: Eight>(
    simd: E,
    scale_bits: u32,
    entries: E::V,
    states: E::V,
    words: &mut [[u8; 2]],
    used: &mut usize,
) -> E::V {
    let (zero, one) = (simd.splat(0), simd.splat(1));
    let frequency = simd.add(simd.and(entries, simd.splat(0xfff)), one);
    // Full from `f 2^(31-P)` on: compared without the lower bits.
    let not_full = simd.less(simd.shift_right(states, 31 - scale_bits), frequency);
    let mask = !simd.mask(not_full) & 0xff;
    // SAFETY: the caller promises room for eight words, which are 16 bytes, from here.
    unsafe { simd.compress(simd.and(states, simd.splat(0xffff)), mask, words.as_mut_ptr().add(*used)) };
    *used += mask.count_ones() as usize;
    let x = simd.select(not_full, states, simd.shift_right(states, 16));
    let quotient = simd.divide(x, frequency);
    let remainder = simd.sub(x, simd.mul(quotient, frequency));
    // One too many, or one too few.
    let over = simd.less(remainder, zero);
    let (quotient, remainder) = (simd.add(quotient, over), simd.add(remainder, simd.and(over, frequency)));
    let within = simd.less(remainder, frequency);
    let quotient = simd.select(within, quotient, simd.add(quotient, one));
    let remainder = simd.select(within, remainder, simd.sub(remainder, frequency));
    let place = simd.add(remainder, simd.shift_right(entries, 12));
    simd.add(simd.shift_left(quotient, scale_bits), place)
}

/// [`Simd::decode_rans`](crate::Simd::decode_rans), for any alphabet.
#[inline(always)]
pub(crate) fn decode<const N: usize>(
    simd: impl Eight,
    tables: DecodeTables<'_>,
    streams: &mut [Stream<'_>; N],
) -> usize {
    let (scale_bits, slots) = (tables.scale_bits, tables.slots);
    if !(9..=12).contains(&scale_bits) {
        return 0;
    }
    let (slot_mask, twelve) = (simd.splat((1 << scale_bits) - 1), simd.splat(0xfff));
    let most = streams.iter().map(|stream| stream.symbols.len()).min().unwrap_or(0);
    let mut run = 0;
    'steps: while run < most {
        // A step takes at most 32 words. Whatever it takes, up to eight more are read.
        for stream in &*streams {
            if !has_step(stream.words, stream.left) {
                break 'steps;
            }
        }
        for stream in &mut *streams {
            let mut symbols = [simd.splat(0); VECTORS];
            for vector in (0..VECTORS).rev() {
                let state = simd.load(&stream.states, WIDTH * vector);
                // SAFETY: the table has 2^12 slots, and the mask leaves at most 12 bits.
                let entry = unsafe { simd.gather(slots, simd.and(state, slot_mask)) };
                symbols[vector] = entry;
                let quotient = simd.shift_right(state, scale_bits);
                let frequency = simd.and(simd.shift_right(entry, 8), twelve);
                let sum = simd.add(quotient, simd.shift_right(entry, 20));
                let next = simd.add(simd.mul(frequency, quotient), sum);
                // SAFETY: of at least 32 words that were left at most 32 are taken in all, and from
                // what was left there were 32 more: so there are eight from wherever this ends.
                let next = unsafe { refill(simd, next, stream.words, &mut stream.left) };
                simd.store(next, &mut stream.states, WIDTH * vector);
            }
            let Some((last, before)) = core::mem::take(&mut stream.symbols).split_last_mut() else {
                return run;
            };
            simd.store_bytes(symbols, last);
            stream.symbols = before;
        }
        run += 1;
    }
    run
}

/// [`Simd::encode_rans`](crate::Simd::encode_rans), for any alphabet.
#[inline(always)]
pub(crate) fn encode<const N: usize>(
    simd: impl Eight,
    tables: EncodeTables<'_>,
    blocks: &mut [Writing<'_>; N],
) -> usize {
    let scale_bits = tables.scale_bits;
    if !(9..=12).contains(&scale_bits) {
        return 0;
    }
    let zero = simd.splat(0);
    let most = blocks.iter().map(|block| block.symbols.len()).min().unwrap_or(0);
    let mut run = 0;
    'steps: while run < most {
        let mut entries = [[zero; VECTORS]; N];
        for (block, entries) in blocks.iter().zip(&mut entries) {
            let Some(symbols) = block.symbols.first() else { break 'steps };
            let mut missing = 0;
            for (vector, entry) in entries.iter_mut().enumerate() {
                // SAFETY: the table has an entry for each byte.
                *entry = unsafe { simd.gather(tables.entries, simd.load_bytes(symbols, WIDTH * vector)) };
                missing |= simd.mask(simd.less(*entry, zero));
            }
            // Whatever a vector has, eight words are stored after those of the vectors before.
            let fits = block.words.len().checked_sub(LANES).is_some_and(|most| block.used <= most);
            if missing != 0 || !fits {
                break 'steps;
            }
        }
        for (block, entries) in blocks.iter_mut().zip(&entries) {
            for (vector, entry) in entries.iter().enumerate() {
                let state = simd.load(&block.states, WIDTH * vector);
                // SAFETY: there is room for 32 words, of which the vectors before took at most 8
                // each.
                let next = unsafe { append(simd, scale_bits, *entry, state, block.words, &mut block.used) };
                simd.store(next, &mut block.states, WIDTH * vector);
            }
            block.symbols = &block.symbols[1..];
        }
        run += 1;
    }
    run
}
