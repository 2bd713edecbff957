//! Steps of rANS, 32 lanes at a time, with NEON: tables are in registers, looked up by byte
//! shuffles.
//!
//! All lanes are four vectors of words, in order: lower halves of states, or upper ones.

use core::arch::aarch64::*;

use super::Neon;
use crate::rans::{
    Bytes, COMPRESS, DecodeTables, DecodeWindow, EXPAND, EncodeTables, EncodeWindow, LANES, NO_ENTRY, Stream,
    Writing,
};

/// Lanes of a vector of words.
const WIDTH: usize = 8;

/// A word for each lane.
type Words = [uint16x8_t; LANES / WIDTH];

/// The same as numbers.
type Numbers = [u16; LANES];

/// A vector of 16 bytes.
#[inline]
#[target_feature(enable = "neon")]
fn load(bytes: &Bytes) -> uint8x16_t {
    // SAFETY: they are 16 bytes.
    unsafe { vld1q_u8(bytes.as_ptr()) }
}

/// The symbols of a step.
#[inline]
#[target_feature(enable = "neon")]
fn load_symbols(symbols: &[u8; LANES]) -> [uint8x16_t; 2] {
    // SAFETY: they are 32 bytes.
    unsafe { [vld1q_u8(symbols.as_ptr()), vld1q_u8(symbols.as_ptr().add(16))] }
}

/// Stores the symbols of a step.
#[inline]
#[target_feature(enable = "neon")]
fn store_symbols(symbols: [uint8x16_t; 2], to: &mut [u8; LANES]) {
    // SAFETY: they are 32 bytes.
    unsafe {
        vst1q_u8(to.as_mut_ptr(), symbols[0]);
        vst1q_u8(to.as_mut_ptr().add(16), symbols[1]);
    }
}

/// The vectors of these numbers.
#[inline]
#[target_feature(enable = "neon")]
fn load_words(numbers: &Numbers) -> Words {
    // SAFETY: each of the four reads eight of 32 numbers.
    [0, 8, 16, 24].map(|lane| unsafe { vld1q_u16(numbers.as_ptr().add(lane)) })
}

/// The numbers of these vectors.
#[inline]
#[target_feature(enable = "neon")]
fn store_words(words: Words) -> Numbers {
    let mut numbers = [0; LANES];
    for (vector, to) in words.into_iter().zip(numbers.as_chunks_mut::<WIDTH>().0) {
        // SAFETY: it is eight numbers.
        unsafe { vst1q_u16(to.as_mut_ptr(), vector) }
    }
    numbers
}

/// The lower halves of all states, and the upper ones.
#[inline]
#[target_feature(enable = "neon")]
fn halves(states: &[u32; LANES]) -> [Words; 2] {
    [states.map(|state| state as u16), states.map(|state| (state >> 16) as u16)]
        .map(|numbers| load_words(&numbers))
}

/// The states of all lanes, of their halves.
#[inline]
#[target_feature(enable = "neon")]
fn whole(halves: [Words; 2]) -> [u32; LANES] {
    let [low, high] = halves.map(|words| store_words(words));
    core::array::from_fn(|lane| u32::from(high[lane]) << 16 | u32::from(low[lane]))
}

/// Which lanes have ones, where others have zeros, eight at a time.
#[derive(Clone, Copy)]
struct Groups {
    /// A bit for each lane of a group, a byte for each group.
    masks: u32,
    /// By group: twice as many as there are ones in it and those before, which is how many bytes
    /// their words take.
    ends: u32,
}

/// The bit of each lane of two groups.
#[inline]
#[target_feature(enable = "neon")]
fn lane_bits() -> uint8x16_t {
    // To a compiler that knows that no two of them have a bit in common, their sum is an OR, for
    // which there is no instruction that does pairs.
    load(&core::hint::black_box([1, 2, 4, 8, 16, 32, 64, 128, 1, 2, 4, 8, 16, 32, 64, 128]))
}

impl Groups {
    /// `bits` are [`lane_bits`].
    #[inline]
    #[target_feature(enable = "neon")]
    fn new(ones: Words, bits: uint8x16_t) -> Self {
        let [a, b, c, d] = ones.map(|words| vreinterpretq_u8_u16(words));
        let pairs = vpaddq_u8(vandq_u8(vuzp1q_u8(a, b), bits), vandq_u8(vuzp1q_u8(c, d), bits));
        let fours = vpaddq_u8(pairs, pairs);
        let groups = vget_low_u8(vpaddq_u8(fours, fours));
        let counts = vget_lane_u32::<0>(vreinterpret_u32_u8(vcnt_u8(groups)));
        // The byte of a group adds up those below it, and 64 fit a byte.
        let ends = counts.wrapping_mul(0x0202_0202);
        Groups { masks: vget_lane_u32::<0>(vreinterpret_u32_u8(groups)), ends }
    }

    /// The row of a table for each group.
    #[inline]
    #[target_feature(enable = "neon")]
    fn rows(self, table: &[[u8; 16]; 256]) -> [uint8x16_t; 4] {
        self.masks.to_le_bytes().map(|mask| load(&table[usize::from(mask)]))
    }

    /// How many bytes the words of the groups before each one take, at most 16 for each of these;
    /// and how many those of all take.
    #[inline(always)]
    fn before(self) -> ([usize; 4], usize) {
        let [a, b, c, d] = self.ends.to_le_bytes().map(usize::from);
        ([0, a, b, c], d)
    }
}

/// Whether any lane has ones, where others have zeros.
#[inline]
#[target_feature(enable = "neon")]
fn any([a, b, c, d]: Words) -> bool {
    let ones = vorrq_u16(vorrq_u16(a, b), vorrq_u16(c, d));
    vget_lane_u64::<0>(vreinterpret_u64_u8(vmovn_u16(ones))) != 0
}

/// A [`DecodeWindow`] in registers.
#[derive(Clone, Copy)]
struct Search {
    /// The buckets of the second level, and from the 17th on those of the first one that follow the
    /// first: the rank of the first symbol, and the low bytes of the last slots of it and the next.
    firsts: uint8x16x2_t,
    lasts: [uint8x16x2_t; 2],
    /// By rank, low and high byte each.
    frequencies: [uint8x16_t; 2],
    starts: [uint8x16_t; 2],
    symbols: uint8x16_t,
}

impl Search {
    /// `up` is 16 less the scale bits.
    #[inline]
    #[target_feature(enable = "neon")]
    fn new(window: &DecodeWindow, up: u32) -> Self {
        let both = |low: uint8x16_t, high: uint8x16_t| uint8x16x2_t(low, vextq_u8::<1>(high, high));
        // As numbers without a sign.
        let last = |bytes: &Bytes| veorq_u8(load(bytes), vdupq_n_u8(0x80));
        let number = |[low, high]: &[Bytes; 2], byte: usize| -> uint8x16_t {
            let bytes: Bytes = core::array::from_fn(|rank| {
                (u16::from_le_bytes([low[rank], high[rank]]) >> up).to_le_bytes()[byte]
            });
            load(&bytes)
        };
        Search {
            firsts: both(load(&window.low_firsts), load(&window.firsts)),
            lasts: [
                both(last(&window.low_lasts[0]), last(&window.lasts[0])),
                both(last(&window.low_lasts[1]), last(&window.lasts[1])),
            ],
            frequencies: [number(&window.frequencies, 0), number(&window.frequencies, 1)],
            starts: [number(&window.starts, 0), number(&window.starts, 1)],
            symbols: load(&window.symbols),
        }
    }

    /// The symbol, the frequency and the first slot of each lane, some of which may be wrong.
    /// `BYTE` is the scale bits less 8, and `UP` is 12 less the scale bits.
    #[inline]
    #[target_feature(enable = "neon")]
    fn find<const BYTE: i32, const UP: i32>(&self, low: Words) -> ([uint8x16_t; 2], Words, Words) {
        let halves = [[low[0], low[1]], [low[2], low[3]]].map(|[a, b]| {
            // The top eight bits of slots; and the low eight, as if slots had 12 bits.
            let high_bytes = vshrn_high_n_u16::<BYTE>(vshrn_n_u16::<BYTE>(a), b);
            let low_bytes = vuzp1q_u8(vreinterpretq_u8_u16(a), vreinterpretq_u8_u16(b));
            let low_bytes = vshlq_n_u8::<UP>(low_bytes);
            // In the first bucket the second four of them, at most 15; in others, 15 more than the
            // bucket, which is less than the top eight bits.
            let bucket = vminq_u8(high_bytes, vsraq_n_u8::<4>(vdupq_n_u8(15), high_bytes));
            let first = vqtbl2q_u8(self.firsts, bucket);
            let is_next = vcgtq_u8(low_bytes, vqtbl2q_u8(self.lasts[0], bucket));
            let is_after = vcgtq_u8(low_bytes, vqtbl2q_u8(self.lasts[1], bucket));
            let rank = vsubq_u8(vsubq_u8(first, is_next), is_after);
            let words = |[low, high]: [uint8x16_t; 2]| {
                let (low, high) = (vqtbl1q_u8(low, rank), vqtbl1q_u8(high, rank));
                [vzip1q_u8(low, high), vzip2q_u8(low, high)].map(|bytes| vreinterpretq_u16_u8(bytes))
            };
            (vqtbl1q_u8(self.symbols, rank), words(self.frequencies), words(self.starts))
        });
        let [(symbols_a, [f0, f1], [s0, s1]), (symbols_b, [f2, f3], [s2, s3])] = halves;
        ([symbols_a, symbols_b], [f0, f1, f2, f3], [s0, s1, s2, s3])
    }
}

/// Decodes a step by the table of all, which is for those of which a symbol is outside the window.
/// Returns the states, and how many bytes of words are left.
#[cold]
#[inline(never)]
#[target_feature(enable = "neon")]
fn decode_by_table(
    simd: Neon,
    tables: DecodeTables<'_>,
    states: [Words; 2],
    words: &[[u8; 2]],
    left: usize,
    symbols: &mut [u8; LANES],
) -> ([Words; 2], usize) {
    let symbols = core::slice::from_mut(symbols);
    let mut streams = [Stream { states: whole(states), words, left: left / 2, symbols }];
    crate::eight::decode(simd, tables, &mut streams);
    (halves(&streams[0].states), 2 * streams[0].left)
}

/// [`Simd::decode_rans`](crate::Simd::decode_rans), by a window: for alphabets of which 16 symbols
/// make nearly all.
#[inline]
#[target_feature(enable = "neon")]
pub(super) fn decode<const N: usize>(
    simd: Neon,
    tables: DecodeTables<'_>,
    window: &DecodeWindow,
    streams: &mut [Stream<'_>; N],
) -> usize {
    match window.scale_bits {
        12 => decode_by::<N, 12, 4, 3, 4, 0>(simd, tables, window, streams),
        11 => decode_by::<N, 11, 5, 4, 3, 1>(simd, tables, window, streams),
        10 => decode_by::<N, 10, 6, 5, 2, 2>(simd, tables, window, streams),
        9 => decode_by::<N, 9, 7, 6, 1, 3>(simd, tables, window, streams),
        _ => 0,
    }
}

/// [`decode`] with `P` scale bits; `UP`, `HALF` and `TWELVE` are 16, 15 and 12 less them, `BYTE` is
/// them less 8.
#[inline]
#[target_feature(enable = "neon")]
fn decode_by<
    const N: usize,
    const P: i32,
    const UP: i32,
    const HALF: i32,
    const BYTE: i32,
    const TWELVE: i32,
>(
    simd: Neon,
    tables: DecodeTables<'_>,
    window: &DecodeWindow,
    streams: &mut [Stream<'_>; N],
) -> usize {
    let search = Search::new(window, UP as u32);
    let (slot_mask, bits) = (vdupq_n_u16((1 << P) - 1), lane_bits());
    let mut states: [[Words; 2]; N] = core::array::from_fn(|i| halves(&streams[i].states));
    let words: [&[[u8; 2]]; N] = core::array::from_fn(|i| streams[i].words);
    if streams.iter().any(|stream| stream.words.len().saturating_sub(LANES) < stream.left) {
        return 0;
    }
    // In bytes, of which there are as many.
    let mut left: [usize; N] = core::array::from_fn(|i| 2 * streams[i].left);
    let most = streams.iter().map(|stream| stream.symbols.len()).min().unwrap_or(0);
    let mut run = 0;
    loop {
        // A step takes 32 words at the most; and whatever it takes, up to 8 more are read.
        let steps = left.iter().map(|left| left / (2 * LANES)).fold(most - run, usize::min);
        if steps == 0 {
            break;
        }
        let symbols = streams.each_mut().map(|stream| {
            let end = stream.symbols.len() - run;
            &mut stream.symbols[end - steps..end]
        });
        for step in (0..steps).rev() {
            for i in 0..N {
                // SAFETY: each of them has as many as there are steps.
                let to = unsafe { symbols[i].get_unchecked_mut(step) };
                let [low, high] = &mut states[i];
                let (found, frequencies, starts) = search.find::<BYTE, TWELVE>(*low);
                let mut offsets = starts;
                let mut wrong = starts;
                for j in 0..4 {
                    offsets[j] = vsubq_u16(vandq_u16(low[j], slot_mask), starts[j]);
                    // A rank is right exactly if the slot less its first slot, as a number without
                    // a sign, is less than its frequency.
                    wrong[j] = vcgeq_u16(offsets[j], frequencies[j]);
                }
                if any(wrong) {
                    (states[i], left[i]) = decode_by_table(simd, tables, states[i], words[i], left[i], to);
                    continue;
                }
                store_symbols(found, to);
                let mut needy = starts;
                for j in 0..4 {
                    let (l, h) = (low[j], high[j]);
                    let (frequency, offset) = (frequencies[j], offsets[j]);
                    // The quotient by 2^P is the upper half times 2^(16-P), and the lower half's
                    // top bits. The product of these bits with the frequency, and the offset, fit a
                    // word; the product of the rest has an upper half, which doubling makes of
                    // numbers of 15 bits, and a lower one, which may carry.
                    let top = vshrq_n_u16::<P>(l);
                    let rest = vmlaq_u16(offset, top, frequency);
                    let l = vmlaq_u16(offset, vsliq_n_u16::<UP>(top, h), frequency);
                    let half = vreinterpretq_s16_u16(vshlq_n_u16::<HALF>(frequency));
                    let h = vreinterpretq_u16_s16(vqdmulhq_s16(vreinterpretq_s16_u16(h), half));
                    let h = vsubq_u16(h, vcgtq_u16(rest, l));
                    // Which lanes need a word? Those of which bits 15 to 30 are 0: so their upper
                    // half is 0, and the lower, which is not 0, as a signed number greater than 0.
                    // Other upper halves are the greatest number when shifted.
                    let most = vqshlq_n_s16::<15>(vreinterpretq_s16_u16(h));
                    needy[j] = vcgtq_s16(vreinterpretq_s16_u16(l), most);
                    high[j] = vbslq_u16(needy[j], l, h);
                    low[j] = l;
                }
                let groups = Groups::new(needy, bits);
                let rows = groups.rows(&EXPAND);
                let (before, all) = groups.before();
                left[i] -= all;
                for (j, before) in before.into_iter().enumerate() {
                    // SAFETY: there were at least 32 words left for each of the steps, of which
                    // each takes at most 32, and as many follow what was left before them. So there
                    // are 8 after each group's first.
                    let next = unsafe { vld1q_u8(words[i].as_ptr().cast::<u8>().add(left[i] + before)) };
                    // Other lanes keep their lower halves.
                    low[j] = vreinterpretq_u16_u8(vqtbx1q_u8(vreinterpretq_u8_u16(low[j]), next, rows[j]));
                }
            }
        }
        run += steps;
    }
    for (i, stream) in streams.iter_mut().enumerate() {
        stream.left = left[i] / 2;
        let kept = stream.symbols.len() - run;
        stream.symbols = &mut core::mem::take(&mut stream.symbols)[..kept];
        stream.states = whole(states[i]);
    }
    run
}

/// An [`EncodeWindow`] in registers, low and high byte each.
#[derive(Clone, Copy)]
struct Known {
    limits: uint8x16x2_t,
    starts: uint8x16x2_t,
    /// Of the reciprocals, the lower halves and the upper ones.
    reciprocals: [uint8x16x2_t; 2],
}

/// What is known of 32 symbols.
#[derive(Clone, Copy)]
struct Entries {
    limits: Words,
    starts: Words,
    /// Of the reciprocals, the lower halves and the upper ones.
    reciprocals: [Words; 2],
}

impl Known {
    #[inline]
    #[target_feature(enable = "neon")]
    fn new(window: &EncodeWindow) -> Self {
        let both = |low: &Bytes, high: &Bytes| uint8x16x2_t(load(low), load(high));
        let [a, b, c, d] = &window.reciprocals;
        Known {
            limits: both(&window.limits[0], &window.limits[1]),
            starts: both(&window.starts[0], &window.starts[1]),
            reciprocals: [both(a, b), both(c, d)],
        }
    }

    /// What is known of symbols by their ranks; anything if these are 16 or more.
    #[inline]
    #[target_feature(enable = "neon")]
    fn entries(&self, ranks: [uint8x16_t; 2]) -> Entries {
        let [[a, b], [c, d]] = ranks.map(|rank| {
            let high = vorrq_u8(rank, vdupq_n_u8(16));
            [vzip1q_u8(rank, high), vzip2q_u8(rank, high)]
        });
        let look_up = |table| [a, b, c, d].map(|places| vreinterpretq_u16_u8(vqtbl2q_u8(table, places)));
        Entries {
            limits: look_up(self.limits),
            starts: look_up(self.starts),
            reciprocals: [look_up(self.reciprocals[0]), look_up(self.reciprocals[1])],
        }
    }
}

/// Encodes a step by the table of all, which is for those of which a symbol is outside the window.
/// Returns the states, and how many bytes of words there are.
#[cold]
#[inline(never)]
#[target_feature(enable = "neon")]
fn encode_by_table(
    simd: Neon,
    tables: EncodeTables<'_>,
    states: [Words; 2],
    symbols: &[u8; LANES],
    words: &mut [[u8; 2]],
    used: usize,
) -> ([Words; 2], usize) {
    let symbols = core::slice::from_ref(symbols);
    let mut blocks = [Writing { states: whole(states), symbols, words, used: used / 2 }];
    crate::eight::encode(simd, tables, &mut blocks);
    (halves(&blocks[0].states), 2 * blocks[0].used)
}

/// Whether all symbols have frequencies, those outside the window, too.
#[cold]
#[inline(never)]
fn are_known(tables: EncodeTables<'_>, symbols: &[u8; LANES]) -> bool {
    symbols.iter().all(|symbol| tables.entries[usize::from(*symbol)] != NO_ENTRY)
}

/// [`Simd::encode_rans`](crate::Simd::encode_rans), by a window: for alphabets of which 16 symbols
/// make nearly all.
#[inline]
#[target_feature(enable = "neon")]
pub(super) fn encode<const N: usize>(
    simd: Neon,
    tables: EncodeTables<'_>,
    window: &EncodeWindow,
    blocks: &mut [Writing<'_>; N],
) -> usize {
    match window.scale_bits {
        12 => encode_by::<N, 12, 3, 4>(simd, tables, window, blocks),
        11 => encode_by::<N, 11, 4, 5>(simd, tables, window, blocks),
        10 => encode_by::<N, 10, 5, 6>(simd, tables, window, blocks),
        _ => 0,
    }
}

/// [`encode`] with `P` scale bits; `UP` and `REST` are 15 and 16 less them.
#[inline]
#[target_feature(enable = "neon")]
fn encode_by<const N: usize, const P: i32, const UP: i32, const REST: i32>(
    simd: Neon,
    tables: EncodeTables<'_>,
    window: &EncodeWindow,
    blocks: &mut [Writing<'_>; N],
) -> usize {
    let known = Known::new(window);
    let (first, more, bits) = (vdupq_n_u8(window.first), vdupq_n_u8(window.more), lane_bits());
    let slots = vdupq_n_u16(1 << P);
    let mut states: [[Words; 2]; N] = core::array::from_fn(|i| halves(&blocks[i].states));
    let most = blocks.iter().map(|block| block.symbols.len()).min().unwrap_or(0);
    let symbols: [&[[u8; LANES]]; N] = core::array::from_fn(|i| &blocks[i].symbols[..most]);
    if blocks.iter().any(|block| block.words.len() < block.used) {
        return 0;
    }
    // In bytes, of which there is room for as many.
    let mut used: [usize; N] = core::array::from_fn(|i| 2 * blocks[i].used);
    let room = blocks.each_mut().map(|block| &mut *block.words);
    let mut run = 0;
    'all: loop {
        // A step has at most 32 words; and whatever it has, 8 are stored after those of each group
        // of lanes before.
        let steps = (0..N).map(|i| (2 * room[i].len() - used[i]) / (2 * LANES)).fold(most - run, usize::min);
        if steps == 0 {
            break;
        }
        for step in run..run + steps {
            // SAFETY: all blocks have at least `most` steps.
            let symbols: [&[u8; LANES]; N] =
                core::array::from_fn(|i| unsafe { symbols[i].get_unchecked(step) });
            let mut ranks = [[first; 2]; N];
            let mut are_outside = [false; N];
            for i in 0..N {
                ranks[i] = load_symbols(symbols[i]).map(|symbols| vsubq_u8(symbols, first));
                let outside = vorrq_u8(vcgtq_u8(ranks[i][0], more), vcgtq_u8(ranks[i][1], more));
                let outside = vshrn_n_u16::<4>(vreinterpretq_u16_u8(outside));
                are_outside[i] = vget_lane_u64::<0>(vreinterpret_u64_u8(outside)) != 0;
                if are_outside[i] && !are_known(tables, symbols[i]) {
                    break 'all;
                }
            }
            for i in 0..N {
                if are_outside[i] {
                    (states[i], used[i]) =
                        encode_by_table(simd, tables, states[i], symbols[i], room[i], used[i]);
                    continue;
                }
                let entries = known.entries(ranks[i]);
                let [low, high] = &mut states[i];
                let mut is_full = *low;
                for j in 0..4 {
                    is_full[j] = vcgeq_u16(high[j], entries.limits[j]);
                }
                let groups = Groups::new(is_full, bits);
                let rows = groups.rows(&COMPRESS);
                let (before, all) = groups.before();
                for (j, before) in before.into_iter().enumerate() {
                    let words = vqtbl1q_u8(vreinterpretq_u8_u16(low[j]), rows[j]);
                    // SAFETY: there was room for 32 words for each of the steps, of which each has
                    // at most 32; before a group of lanes come at most 8 for each one before.
                    unsafe { vst1q_u8(room[i].as_mut_ptr().cast::<u8>().add(used[i] + before), words) };
                }
                used[i] += all;
                for j in 0..4 {
                    let (l, h) = (low[j], high[j]);
                    // What is left to be divided: of a full state, its upper half.
                    let (x_low, x_high) = (vbslq_u16(is_full[j], h, l), vbicq_u16(h, is_full[j]));
                    // Right, or one too little.
                    let divided = |x, reciprocal| {
                        let x = vcvtq_f32_u32(vreinterpretq_u32_u16(x));
                        vcvtq_u32_f32(vmulq_f32(x, vreinterpretq_f32_u16(reciprocal)))
                    };
                    let [of_low, of_high] = [entries.reciprocals[0][j], entries.reciprocals[1][j]];
                    let a = divided(vzip1q_u16(x_low, x_high), vzip1q_u16(of_low, of_high));
                    let b = divided(vzip2q_u16(x_low, x_high), vzip2q_u16(of_low, of_high));
                    let quotient = vuzp1q_u16(vreinterpretq_u16_u32(a), vreinterpretq_u16_u32(b));
                    let frequency = vshrq_n_u16::<UP>(entries.limits[j]);
                    let remainder = vmlsq_u16(x_low, quotient, frequency);
                    // All ones, so -1, where it was too little.
                    let is_less = vcgeq_u16(remainder, frequency);
                    let slot = vmlaq_u16(vaddq_u16(remainder, entries.starts[j]), is_less, frequency);
                    low[j] = vsliq_n_u16::<P>(slot, vsubq_u16(quotient, is_less));
                    // Where one more made zeros of the bits that are above the slot in the lower
                    // half, it carries to the upper half.
                    let carries = vandq_u16(is_less, vcgtq_u16(slots, low[j]));
                    high[j] = vsubq_u16(vshrn_high_n_u32::<REST>(vshrn_n_u32::<REST>(a), b), carries);
                }
            }
            run += 1;
        }
    }
    for (i, block) in blocks.iter_mut().enumerate() {
        block.used = used[i] / 2;
        block.symbols = &block.symbols[run..];
        block.states = whole(states[i]);
    }
    run
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nearly_all_slots_of_exponents_are_found_in_the_window() {
        let mut frequencies = [0; 256];
        frequencies[101..127].copy_from_slice(&[
            1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 2, 4, 8, 16, 33, 66, 131, 260, 497, 866, 1180, 867, 152, 2, 1,
        ]);
        let window = DecodeWindow::new(&frequencies, 12).unwrap();
        let symbols = (0..=255u8).flat_map(|symbol| {
            let (before, from) = frequencies.split_at(symbol.into());
            (0..from[0]).map(move |_| (symbol, from[0], before.iter().sum::<u16>()))
        });
        let mut wrong = 0;
        for (slot, symbol) in (0..1 << 12).zip(symbols) {
            let Some(_) = Neon::detect() else { return };
            // SAFETY: the token proves NEON.
            let found = unsafe {
                // What is above a slot does not matter.
                let low = load_words(&[0xa000 | slot; LANES]);
                let (symbols, frequencies, starts) = Search::new(&window, 4).find::<4, 0>(low);
                let mut bytes = [0; LANES];
                store_symbols(symbols, &mut bytes);
                (bytes[31], store_words(frequencies)[31], store_words(starts)[31])
            };
            wrong += u32::from(found != symbol);
        }
        // Ten symbols are outside the window, and a bucket at the end has one too many.
        assert_eq!(wrong, 11);
    }
}
