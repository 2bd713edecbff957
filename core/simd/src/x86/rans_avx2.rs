//! Steps of interleaved rANS, 32 lanes at a time, with AVX2: tables are in registers, looked up by
//! byte shuffles.
//!
//! Unpacking and packing go by halves of 128 bits. So *A* has lanes 0 to 7 and 16 to 23, a word
//! each, and *B* lanes 8 to 15 and 24 to 31: packed to bytes they have all lanes in order, and
//! bytes unpack to them.

use core::arch::x86_64::*;

use crate::rans::{
    Bytes, COMPRESS, DecodeTables, DecodeWindow, EXPAND, EncodeTables, EncodeWindow, LANES, NO_ENTRY, Stream,
    Writing, has_step, reciprocal,
};

/// How many words before those that are read now are brought near: they are read from the last to
/// the first, which processors do not expect at every page.
const AHEAD: usize = 384;

/// The rows of a table for the groups of eight lanes of a mask: those of A, and those of B.
#[inline]
#[target_feature(enable = "avx2")]
fn rows(table: &[[u8; 16]; 256], mask: u32) -> [__m256i; 2] {
    let [a, b, c, d] = mask.to_le_bytes().map(|mask| table[usize::from(mask)].as_ptr().cast());
    // SAFETY: a row has 16 bytes.
    unsafe { [_mm256_loadu2_m128i(c, a), _mm256_loadu2_m128i(d, b)] }
}

/// How many lanes of a mask come before each group of eight, and how many there are.
#[inline(always)]
fn before(mask: u32) -> [usize; 5] {
    [0, mask & 0xff, mask & 0xffff, mask & 0xff_ffff, mask].map(|mask| mask.count_ones() as usize)
}

/// A table for shuffles.
#[inline]
#[target_feature(enable = "avx2")]
fn table(bytes: &Bytes) -> __m256i {
    // SAFETY: they are 16 bytes.
    unsafe { _mm256_broadcastsi128_si256(_mm_loadu_si128(bytes.as_ptr().cast())) }
}

/// 32 bytes.
#[inline]
#[target_feature(enable = "avx2")]
fn load(bytes: &[u8; LANES]) -> __m256i {
    // SAFETY: they are there.
    unsafe { _mm256_loadu_si256(bytes.as_ptr().cast()) }
}

/// Stores 32 bytes.
#[inline]
#[target_feature(enable = "avx2")]
fn store(vector: __m256i, to: &mut [u8; LANES]) {
    // SAFETY: they are there.
    unsafe { _mm256_storeu_si256(to.as_mut_ptr().cast(), vector) }
}

/// A bit for each lane of A and B, set where its word is all ones; words are all ones or all zeros.
#[inline]
#[target_feature(enable = "avx2")]
fn mask([a, b]: [__m256i; 2]) -> u32 {
    _mm256_movemask_epi8(_mm256_packs_epi16(a, b)) as u32
}

/// Where a lane is: in A or B, and at which word.
#[inline(always)]
fn place(lane: usize) -> (usize, usize) {
    (lane / 8 % 2, lane % 8 + lane / 16 * 8)
}

/// A and B of the lower halves of all states, and of the upper ones.
#[inline]
#[target_feature(enable = "avx2")]
fn halves(states: &[u32; LANES]) -> [[__m256i; 2]; 2] {
    [0, 16].map(|shift| {
        [0, 8].map(|first| {
            let words: [u16; 16] =
                core::array::from_fn(|i| (states[first + i % 8 + 2 * (i & 8)] >> shift) as u16);
            // SAFETY: they are 32 bytes.
            unsafe { _mm256_loadu_si256(words.as_ptr().cast()) }
        })
    })
}

/// The states of all lanes, of their halves.
#[inline]
#[target_feature(enable = "avx2")]
fn whole(halves: [[__m256i; 2]; 2]) -> [u32; LANES] {
    let [low, high] = halves.map(|vectors| {
        vectors.map(|vector| {
            let mut words = [0u16; 16];
            // SAFETY: they are 32 bytes.
            unsafe { _mm256_storeu_si256(words.as_mut_ptr().cast(), vector) };
            words
        })
    });
    core::array::from_fn(|lane| {
        let (of, at) = place(lane);
        u32::from(high[of][at]) << 16 | u32::from(low[of][at])
    })
}

/// What was found for the slots of 32 lanes: symbols, in order; of A and B the frequencies, and the
/// slots less the first slots of the symbols, as if there were 2^16 slots.
#[derive(Clone, Copy)]
struct Found {
    symbols: __m256i,
    frequencies: [__m256i; 2],
    offsets: [__m256i; 2],
}

/// Looks slots up in the window, 16 - `UP` bits of `low`; some may be wrong.
#[inline]
#[target_feature(enable = "avx2")]
fn find<const UP: i32>(window: &DecodeWindow, low: [__m256i; 2]) -> Found {
    let byte = _mm256_set1_epi16(0xff);
    // As if there were 2^16 slots.
    let top = low.map(|low| _mm256_slli_epi16::<UP>(low));
    let [a, b] = top.map(|top| _mm256_srli_epi16::<8>(top));
    let high_bytes = _mm256_packus_epi16(a, b);
    // As if there were 2^12.
    let [a, b] = top.map(|top| _mm256_and_si256(_mm256_srli_epi16::<4>(top), byte));
    let low_bytes = _mm256_xor_si256(_mm256_packus_epi16(a, b), _mm256_set1_epi8(-0x80));
    let bucket = _mm256_and_si256(_mm256_srli_epi16::<4>(high_bytes), _mm256_set1_epi8(0xf));
    // Beyond the first bucket, the top bit is set: a shuffle makes zero of it.
    let low_bucket = _mm256_adds_epu8(high_bytes, _mm256_set1_epi8(0x70));
    let both = |high: &Bytes, low: &Bytes| {
        _mm256_or_si256(_mm256_shuffle_epi8(table(high), bucket), _mm256_shuffle_epi8(table(low), low_bucket))
    };
    let first = both(&window.firsts, &window.low_firsts);
    let is_next = _mm256_cmpgt_epi8(low_bytes, both(&window.lasts[0], &window.low_lasts[0]));
    let is_after = _mm256_cmpgt_epi8(low_bytes, both(&window.lasts[1], &window.low_lasts[1]));
    let rank = _mm256_sub_epi8(_mm256_sub_epi8(first, is_next), is_after);
    let look_up = |bytes: &Bytes| _mm256_shuffle_epi8(table(bytes), rank);
    let starts = words(look_up(&window.starts[0]), look_up(&window.starts[1]));
    Found {
        symbols: look_up(&window.symbols),
        frequencies: words(look_up(&window.frequencies[0]), look_up(&window.frequencies[1])),
        offsets: [_mm256_sub_epi16(top[0], starts[0]), _mm256_sub_epi16(top[1], starts[1])],
    }
}

/// Where what was found is wrong: zeros in the words of A and of B.
///
/// A rank is right exactly if the slot less its first slot, as a number without a sign, is less
/// than its frequency.
#[inline]
#[target_feature(enable = "avx2")]
fn right(found: &Found) -> [__m256i; 2] {
    [
        _mm256_subs_epu16(found.frequencies[0], found.offsets[0]),
        _mm256_subs_epu16(found.frequencies[1], found.offsets[1]),
    ]
}

/// Looks up the slots for which what was found is wrong in the table of all.
#[cold]
#[inline(never)]
#[target_feature(enable = "avx2,popcnt,bmi1")]
fn mend<const UP: i32>(slots: &[u32; 1 << 12], low: [__m256i; 2], found: Found) -> Found {
    let mut wrong = mask(right(&found).map(|right| _mm256_cmpeq_epi16(right, _mm256_setzero_si256())));
    let mut tops = [[0u16; 16]; 2];
    let (mut frequencies, mut offsets) = (tops, tops);
    let mut symbols = [0; LANES];
    // SAFETY: all of these have 32 bytes.
    unsafe {
        for i in 0..2 {
            _mm256_storeu_si256(tops[i].as_mut_ptr().cast(), _mm256_slli_epi16::<UP>(low[i]));
            _mm256_storeu_si256(frequencies[i].as_mut_ptr().cast(), found.frequencies[i]);
            _mm256_storeu_si256(offsets[i].as_mut_ptr().cast(), found.offsets[i]);
        }
    }
    store(found.symbols, &mut symbols);
    while wrong != 0 {
        let lane = wrong.trailing_zeros() as usize;
        wrong &= wrong - 1;
        let (of, at) = place(lane);
        let entry = slots[usize::from(tops[of][at]) >> UP];
        symbols[lane] = entry as u8;
        frequencies[of][at] = ((entry >> 8 & 0xfff) as u16 + 1) << UP;
        offsets[of][at] = ((entry >> 20) as u16) << UP;
    }
    // SAFETY: as above.
    let [frequencies, offsets] = [frequencies, offsets]
        .map(|both| both.map(|words| unsafe { _mm256_loadu_si256(words.as_ptr().cast()) }));
    Found { symbols: load(&symbols), frequencies, offsets }
}

/// [`Simd::decode_rans`](crate::Simd::decode_rans), by a window: for alphabets of which 16 symbols
/// make nearly all.
#[inline]
#[target_feature(enable = "avx2,bmi1,bmi2,lzcnt,movbe,popcnt")]
pub(super) fn decode<const N: usize>(
    tables: DecodeTables<'_>,
    window: &DecodeWindow,
    streams: &mut [Stream<'_>; N],
) -> usize {
    match window.scale_bits {
        12 => decode_by::<N, 4>(tables, window, streams),
        11 => decode_by::<N, 5>(tables, window, streams),
        10 => decode_by::<N, 6>(tables, window, streams),
        9 => decode_by::<N, 7>(tables, window, streams),
        _ => 0,
    }
}

/// [`decode`] with 16 - `UP` scale bits.
///
/// Vectors hold the lower halves of all states, or the upper ones: so all arithmetic is on words of
/// 16 bits, and the words of the stream are lower halves as they come.
#[inline]
#[target_feature(enable = "avx2,bmi1,bmi2,lzcnt,movbe,popcnt")]
fn decode_by<const N: usize, const UP: i32>(
    tables: DecodeTables<'_>,
    window: &DecodeWindow,
    streams: &mut [Stream<'_>; N],
) -> usize {
    let zero = _mm256_setzero_si256();
    let not_slot = _mm256_set1_epi16(-1 << (16 - UP));
    let mut low = [[zero; 2]; N];
    let mut high = low;
    for (i, stream) in streams.iter().enumerate() {
        [low[i], high[i]] = halves(&stream.states);
    }
    let mut left: [usize; N] = core::array::from_fn(|i| streams[i].left);
    let most = streams.iter().map(|stream| stream.symbols.len()).min().unwrap_or(0);
    let words: [&[[u8; 2]]; N] = core::array::from_fn(|i| streams[i].words);
    let mut symbols = streams.each_mut().map(|stream| stream.symbols.iter_mut());
    let mut run = 0;
    'steps: while run < most {
        // A step takes 32 words at the most; and whatever it takes, up to 8 more are read.
        let mut ready = true;
        for i in 0..N {
            ready &= has_step(words[i], left[i]);
        }
        if !ready {
            break 'steps;
        }
        for i in 0..N {
            let mut found = find::<UP>(window, low[i]);
            let [a, b] = right(&found);
            if _mm256_movemask_epi8(_mm256_cmpeq_epi16(_mm256_min_epu16(a, b), zero)) != 0 {
                found = mend::<UP>(tables.slots, low[i], found);
            }
            if let Some(to) = symbols[i].next_back() {
                store(found.symbols, to);
            }
            let mut needy = [zero; 2];
            for j in 0..2 {
                // The quotient by 2^P is the upper half times 2^(16-P), and the lower half's top
                // bits. With frequency and offset times 2^(16-P), its product with the frequency is
                // that of the upper half, and the upper half of that with the top bits where they
                // stand; which with the offset fits a word.
                let (l, h, frequency) = (low[i][j], high[i][j], found.frequencies[j]);
                let rest = _mm256_add_epi16(
                    _mm256_mulhi_epu16(_mm256_and_si256(l, not_slot), frequency),
                    _mm256_srli_epi16::<UP>(found.offsets[j]),
                );
                let l = _mm256_add_epi16(_mm256_mullo_epi16(h, frequency), rest);
                let carry = _mm256_min_epu16(_mm256_subs_epu16(rest, l), _mm256_set1_epi16(1));
                let h = _mm256_add_epi16(_mm256_mulhi_epu16(h, frequency), carry);
                // Which lanes need a word? Those of which bits 15 to 30 are 0: so their upper half
                // is 0, and the lower, which is not 0, as a signed number greater than 0.
                needy[j] = _mm256_cmpgt_epi16(l, _mm256_sign_epi16(_mm256_set1_epi16(0x7fff), h));
                high[i][j] = _mm256_or_si256(h, _mm256_and_si256(needy[j], l));
                low[i][j] = _mm256_andnot_si256(needy[j], l);
            }
            let mask = mask(needy);
            let [row_a, row_b] = rows(&EXPAND, mask);
            let [a, b, c, d, all] = before(mask);
            left[i] -= all;
            let next = words[i].as_ptr().wrapping_add(left[i]);
            super::prefetch(next.wrapping_sub(AHEAD).cast());
            // SAFETY: `ready` says that from what was left on there are 32 words, and that at least
            // 32 were left, of which at most 32 have been taken. So there are 8 after each group's
            // first.
            let (next_a, next_b) = unsafe {
                let [a, b, c, d] = [a, b, c, d].map(|before| next.add(before).cast());
                (_mm256_loadu2_m128i(c, a), _mm256_loadu2_m128i(d, b))
            };
            low[i][0] = _mm256_or_si256(low[i][0], _mm256_shuffle_epi8(next_a, row_a));
            low[i][1] = _mm256_or_si256(low[i][1], _mm256_shuffle_epi8(next_b, row_b));
        }
        run += 1;
    }
    for (i, stream) in streams.iter_mut().enumerate() {
        stream.left = left[i];
        let kept = stream.symbols.len() - run;
        stream.symbols = &mut core::mem::take(&mut stream.symbols)[..kept];
        stream.states = whole([low[i], high[i]]);
    }
    run
}

/// The bytes of the entries of 32 symbols: limits, first slots, reciprocals.
type Entries = [__m256i; 8];

/// Puts the entries of symbols outside the window to their places, from the table of all.
#[cold]
#[inline(never)]
#[target_feature(enable = "avx2,popcnt,bmi1")]
fn put<const UP: i32>(
    tables: EncodeTables<'_>,
    symbols: &[u8; LANES],
    mut outside: u32,
    entries: &mut Entries,
) {
    let mut bytes = [[0; LANES]; 8];
    for (to, entry) in bytes.iter_mut().zip(&*entries) {
        store(*entry, to);
    }
    while outside != 0 {
        let lane = outside.trailing_zeros() as usize;
        outside &= outside - 1;
        let entry = tables.entries[usize::from(symbols[lane])];
        let frequency = (entry & 0xfff) as u16 + 1;
        [bytes[0][lane], bytes[1][lane]] = (frequency << UP).to_le_bytes();
        [bytes[2][lane], bytes[3][lane]] = ((entry >> 12) as u16).to_le_bytes();
        [bytes[4][lane], bytes[5][lane], bytes[6][lane], bytes[7][lane]] =
            reciprocal(frequency).to_le_bytes();
    }
    for (entry, bytes) in entries.iter_mut().zip(&bytes) {
        *entry = load(bytes);
    }
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
#[target_feature(enable = "avx2,bmi1,bmi2,lzcnt,movbe,popcnt")]
pub(super) fn encode<const N: usize>(
    tables: EncodeTables<'_>,
    window: &EncodeWindow,
    blocks: &mut [Writing<'_>; N],
) -> usize {
    match window.scale_bits {
        12 => encode_by::<N, 12, 3, 4>(tables, window, blocks),
        11 => encode_by::<N, 11, 4, 5>(tables, window, blocks),
        10 => encode_by::<N, 10, 5, 6>(tables, window, blocks),
        _ => 0,
    }
}

/// [`encode`] with `P` scale bits; `UP` and `REST` are 15 and 16 less them.
#[inline]
#[target_feature(enable = "avx2,bmi1,bmi2,lzcnt,movbe,popcnt")]
fn encode_by<const N: usize, const P: i32, const UP: i32, const REST: i32>(
    tables: EncodeTables<'_>,
    window: &EncodeWindow,
    blocks: &mut [Writing<'_>; N],
) -> usize {
    let zero = _mm256_setzero_si256();
    let slots = _mm256_set1_epi16(1 << P);
    let mut low = [[zero; 2]; N];
    let mut high = low;
    for (i, block) in blocks.iter().enumerate() {
        [low[i], high[i]] = halves(&block.states);
    }
    let most = blocks.iter().map(|block| block.symbols.len()).min().unwrap_or(0);
    let symbols: [&[[u8; LANES]]; N] = core::array::from_fn(|i| blocks[i].symbols);
    let mut used: [usize; N] = core::array::from_fn(|i| blocks[i].used);
    let room = blocks.each_mut().map(|block| &mut *block.words);
    let mut run = 0;
    'steps: while run < most {
        let mut ranks = [zero; N];
        let mut outside = [0; N];
        let mut ready = true;
        for i in 0..N {
            let symbols = &symbols[i][run];
            ranks[i] = _mm256_sub_epi8(load(symbols), _mm256_set1_epi8(window.first as i8));
            let most = _mm256_set1_epi8(window.more as i8);
            let is_in = _mm256_cmpeq_epi8(_mm256_min_epu8(ranks[i], most), ranks[i]);
            outside[i] = !_mm256_movemask_epi8(is_in) as u32;
            ready &= outside[i] == 0 || are_known(tables, symbols);
            // A step has at most 32 words; and whatever it has, 8 are stored after those of each
            // group of lanes before.
            ready &= room[i].len().checked_sub(LANES).is_some_and(|most| used[i] <= most);
        }
        if !ready {
            break 'steps;
        }
        for i in 0..N {
            let mut entries = entries(window, ranks[i]);
            if outside[i] != 0 {
                put::<UP>(tables, &symbols[i][run], outside[i], &mut entries);
            }
            let limits = words(entries[0], entries[1]);
            let starts = words(entries[2], entries[3]);
            let reciprocals = unpack(words(entries[4], entries[5]), words(entries[6], entries[7]));
            let (l, h) = (low[i], high[i]);
            let not_full = [_mm256_cmpgt_epi16(limits[0], h[0]), _mm256_cmpgt_epi16(limits[1], h[1])];

            let is_full = !mask(not_full);
            let [row_a, row_b] = rows(&COMPRESS, is_full);
            let (a, b) = (_mm256_shuffle_epi8(l[0], row_a), _mm256_shuffle_epi8(l[1], row_b));
            let [first, second, third, fourth, all] = before(is_full);
            // SAFETY: `ready` says that there is room for 32 words; before a group of lanes come at
            // most 8 for each one before.
            unsafe {
                let to = room[i].as_mut_ptr().add(used[i]);
                _mm_storeu_si128(to.add(first).cast(), _mm256_castsi256_si128(a));
                _mm_storeu_si128(to.add(second).cast(), _mm256_castsi256_si128(b));
                _mm_storeu_si128(to.add(third).cast(), _mm256_extracti128_si256::<1>(a));
                _mm_storeu_si128(to.add(fourth).cast(), _mm256_extracti128_si256::<1>(b));
            }
            used[i] += all;

            // What is left to be divided: of a full state, its upper half.
            let mut x_low = [zero; 2];
            let mut x_high = [zero; 2];
            for j in 0..2 {
                x_high[j] = _mm256_and_si256(not_full[j], h[j]);
                x_low[j] = _mm256_or_si256(
                    _mm256_and_si256(not_full[j], l[j]),
                    _mm256_andnot_si256(not_full[j], h[j]),
                );
            }
            let x = unpack(x_low, x_high);
            // Right, or one too little.
            let mut quotients = [zero; 4];
            for j in 0..4 {
                let product = _mm256_mul_ps(_mm256_cvtepi32_ps(x[j]), _mm256_castsi256_ps(reciprocals[j]));
                quotients[j] = _mm256_cvttps_epi32(product);
            }
            let [q_low, q_up] = split::<REST>(quotients);
            for j in 0..2 {
                let frequency = _mm256_srli_epi16::<UP>(limits[j]);
                let remainder = _mm256_sub_epi16(x_low[j], _mm256_mullo_epi16(q_low[j], frequency));
                let is_right = _mm256_cmpgt_epi16(frequency, remainder);
                let more = _mm256_andnot_si256(is_right, _mm256_sub_epi16(slots, frequency));
                let rest = _mm256_add_epi16(_mm256_add_epi16(remainder, starts[j]), more);
                low[i][j] = _mm256_add_epi16(_mm256_slli_epi16::<P>(q_low[j]), rest);
                let carry = _mm256_min_epu16(_mm256_subs_epu16(rest, low[i][j]), _mm256_set1_epi16(1));
                high[i][j] = _mm256_add_epi16(q_up[j], carry);
            }
        }
        run += 1;
    }
    for (i, block) in blocks.iter_mut().enumerate() {
        block.used = used[i];
        block.symbols = &block.symbols[run..];
        block.states = whole([low[i], high[i]]);
    }
    run
}

/// What the window knows of 32 symbols: their limits, starts and reciprocals, byte by byte.
#[inline]
#[target_feature(enable = "avx2,bmi1,bmi2,lzcnt,movbe,popcnt")]
fn entries(window: &EncodeWindow, ranks: __m256i) -> [__m256i; 8] {
    let look_up = |bytes: &Bytes| _mm256_shuffle_epi8(table(bytes), ranks);
    [
        look_up(&window.limits[0]),
        look_up(&window.limits[1]),
        look_up(&window.starts[0]),
        look_up(&window.starts[1]),
        look_up(&window.reciprocals[0]),
        look_up(&window.reciprocals[1]),
        look_up(&window.reciprocals[2]),
        look_up(&window.reciprocals[3]),
    ]
}

/// A and B of the lower halves of four vectors that [`unpack`] made, and of what is left without
/// `REST` bits.
#[inline]
#[target_feature(enable = "avx2")]
fn split<const REST: i32>(numbers: [__m256i; 4]) -> [[__m256i; 2]; 2] {
    let zero = _mm256_setzero_si256();
    let low = numbers.map(|number| _mm256_blend_epi16::<0xaa>(number, zero));
    let up = numbers.map(|number| _mm256_srli_epi32::<REST>(number));
    [low, up].map(|[a, b, c, d]| [_mm256_packus_epi32(a, b), _mm256_packus_epi32(c, d)])
}

/// The four vectors of 32-bit numbers whose halves are words of A and of B: lanes 0 to 3 and 16 to
/// 19, 4 to 7 and 20 to 23, and so on.
#[inline]
#[target_feature(enable = "avx2")]
fn unpack(low: [__m256i; 2], high: [__m256i; 2]) -> [__m256i; 4] {
    [
        _mm256_unpacklo_epi16(low[0], high[0]),
        _mm256_unpackhi_epi16(low[0], high[0]),
        _mm256_unpacklo_epi16(low[1], high[1]),
        _mm256_unpackhi_epi16(low[1], high[1]),
    ]
}

/// A and B of the words whose low and high bytes these are.
#[inline]
#[target_feature(enable = "avx2")]
fn words(low: __m256i, high: __m256i) -> [__m256i; 2] {
    [_mm256_unpacklo_epi8(low, high), _mm256_unpackhi_epi8(low, high)]
}
