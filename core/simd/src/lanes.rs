//! Decoding several places of the code at once.
//!
//! The algorithm: a *lane* is a place in the code from which symbols are decoded, one after the
//! other. To decode, look up the next 11 bits in a [`Table`]; store its eight bytes of symbols
//! after the symbols that the lane has; move on in the code by their length and in the symbols by
//! their number. Five look-ups use at most 55 bits, so one load of 64 serves them all, wherever in
//! its first byte the lane stands.
//!
//! Where the code departs from that:
//!
//! 1. Each look-up has to wait for the one before it, for some 8 cycles in which a processor could
//!    do 40 other things. So `N` lanes take turns, look-up by look-up.
//! 2. A lane's position and its number of symbols are one number, its *state*. The increment of an
//!    entry has the same form. The low byte is the shift that brings the next bits down, in the
//!    form that the instruction BEXTR needs; see [`Simd::window`].
//! 3. Symbols and steps stand in two arrays, so that the place of the next look-up hangs on one
//!    load and one addition, and nothing waits for the symbols.
//! 4. A codeword longer than 11 bits has no entry: the step is 0, and the lane stays where it is
//!    for the rest of the five look-ups. So one comparison for each five tells.
//! 5. Bounds are checked once before some thousand symbols, not at each one; this is why the code
//!    is `unsafe`. With slices and their checks instead, the whole decoder ran at 0.81 of the
//!    speed. With the lanes written out and slices, the loop ran at 0.64.

use crate::table::{MOST_SYMBOLS, NO_SYMBOLS};
use crate::{Scalar, Simd, TABLE_BITS, Table};

/// Look-ups for each load of code.
const LOOK_UPS: usize = 5;

/// The most bits of code that a turn uses: 55.
const TURN_BITS: u64 = LOOK_UPS as u64 * TABLE_BITS as u64;

/// The most symbols that a turn gives: eight for each look-up, and one with a long codeword.
const TURN_SYMBOLS: usize = LOOK_UPS * MOST_SYMBOLS + 1;

/// Symbols that a lane can hold.
pub const STAGE: usize = 1024;

/// The low 16 bits of the state of a lane that stands at the first bit of a byte: the width of the
/// window in the high byte, in the low byte the shift that brings the first bits of a 64-bit word
/// down.
const START: u32 = TABLE_BITS << 8 | (64 - TABLE_BITS);

/// A place in the code, and the symbols that were decoded on the way there.
#[derive(Clone, Debug)]
#[repr(C, align(64))]
pub struct Lane {
    symbols: [u8; STAGE],
    /// The byte of code that holds the next bit.
    byte: usize,
    /// The number of symbols, times 2^16, and [`START`] less the index of the next bit in its byte.
    /// Invariant: the number is at most [`STAGE`], the index at most 7.
    state: u32,
    /// Nothing from this bit on may be decoded.
    limit: u64,
}

impl Default for Lane {
    fn default() -> Self {
        Lane { symbols: [0; STAGE], byte: 0, state: START, limit: 0 }
    }
}

impl Lane {
    /// Moves to a bit of the code; keeps the symbols. [`decode`] will not use bits from `limit` on.
    #[inline]
    pub fn move_to(&mut self, bit: u64, limit: u64) {
        self.byte = usize::try_from(bit / 8).unwrap_or(usize::MAX);
        self.state = self.state & !0xffff | (START - (bit % 8) as u32);
        self.limit = limit;
    }

    /// The next bit of the code.
    #[inline]
    #[must_use]
    pub fn bit(&self) -> u64 {
        (self.byte as u64).saturating_mul(8).saturating_add(u64::from(START - (self.state & 0xffff)))
    }

    /// The symbols that were decoded and not yet [dropped](Self::drop_first).
    #[inline]
    #[must_use]
    pub fn symbols(&self) -> &[u8] {
        &self.symbols[..self.len()]
    }

    /// Their number.
    #[inline]
    fn len(&self) -> usize {
        // The invariant guarantees this minimum, but the compiler cannot see it.
        ((self.state >> 16) as usize).min(STAGE)
    }

    /// Drops the first `n` symbols, or all.
    #[inline(always)]
    pub fn drop_first(&mut self, n: usize) {
        let len = self.len();
        let n = n.min(len);
        // Usually less than a group is left, and a copy of known length is one vector.
        match self.symbols.get(n..).and_then(|rest| rest.first_chunk::<64>()).copied() {
            Some(rest) if len - n <= rest.len() => self.symbols[..64].copy_from_slice(&rest),
            _ => self.symbols.copy_within(n..len, 0),
        }
        self.state -= (n as u32) << 16;
    }

    /// Looks the next symbols up and appends them, if there are some and at most `most`. Returns
    /// whether it did so.
    #[inline]
    pub fn look_up(&mut self, table: &Table, code: &[u8], most: usize) -> bool {
        let word = code.get(self.byte..).and_then(|rest| rest.first_chunk::<8>());
        let (Some(word), len) = (word, self.len()) else { return false };
        let index = Scalar.window(u64::from_be_bytes(*word), self.state);
        let (symbols, steps) = table.hot();
        // The length is taken off: rounding up gives the number back.
        let number = ((steps[index] + 0xffff) >> 16) as usize;
        let room = self.symbols.get_mut(len..).and_then(|room| room.first_chunk_mut::<8>());
        match room {
            Some(room) if (1..=most).contains(&number) => *room = symbols[index].to_le_bytes(),
            _ => return false,
        }
        let bit = self.bit() + ((number as u64) << 16) - u64::from(steps[index]);
        self.state += (number as u32) << 16;
        self.move_to(bit, self.limit);
        true
    }

    /// Appends one symbol and moves on by the `length` of its codeword; `None` if the lane is full.
    #[inline]
    pub fn push(&mut self, symbol: u8, length: u8) -> Option<()> {
        let len = self.len();
        *self.symbols.get_mut(len)? = symbol;
        let bit = self.bit() + u64::from(length);
        self.state += 1 << 16;
        self.move_to(bit, self.limit);
        Some(())
    }

    /// Whether the bits before the limit are too few for [`decode`] to go on: they are left to
    /// [`look_up`](Self::look_up) and [`push`](Self::push).
    #[inline]
    #[must_use]
    pub fn is_at_limit(&self, code: &[u8]) -> bool {
        turns([self.bits_left(code)], [0]) == 0
    }

    /// Bits that turns may use.
    #[inline(always)]
    fn bits_left(&self, code: &[u8]) -> u64 {
        // The last turn begins 55 bits before its end at the latest, and loads 64 bits from the
        // byte it begins in. If it ends 9 bits before the end of the code, that byte is the 8th
        // from the end at the latest.
        self.limit.min((8 * code.len() as u64).saturating_sub(9)).saturating_sub(self.bit())
    }
}

/// Returns the number of turns that lanes with this many bits left and this many symbols can run:
/// all bits exist, and all symbols find room.
#[inline(always)]
fn turns<const N: usize>(bits_left: [u64; N], symbols: [usize; N]) -> usize {
    let bits = bits_left.into_iter().fold(u64::MAX, u64::min);
    let symbols = symbols.into_iter().fold(0, usize::max);
    let by_room = (STAGE - MOST_SYMBOLS).saturating_sub(symbols) / TURN_SYMBOLS;
    by_room.min(usize::try_from(bits / TURN_BITS).unwrap_or(usize::MAX))
}

/// Decodes about as much in each lane, at most `most` times five look-ups, as long as every lane
/// can go on. Returns how many turns were run: 0 if some lane is full or at its limit.
///
/// `long` returns the symbol at a bit where the table has no entry, and the length of its codeword.
///
/// # Errors
///
/// `None` if `long` does not know either, or answers with more than 32 bits.
#[inline(always)]
pub fn decode<S: Simd, const N: usize>(
    simd: S,
    table: &Table,
    code: &[u8],
    lanes: &mut [Lane; N],
    most: usize,
    long: impl Fn(u64) -> Option<(u8, u8)>,
) -> Option<usize> {
    let bits_left: [u64; N] = core::array::from_fn(|i| lanes[i].bits_left(code));
    let mut left = turns(bits_left, core::array::from_fn(|i| lanes[i].len())).min(most);
    let mut run = 0;
    let (symbols, steps) = table.hot();
    let (symbols, steps) = (symbols.as_ptr(), steps.as_ptr());
    // In a register, and unknown to the compiler, this is a shift of one instruction where the
    // constant takes two.
    let sixteen = core::hint::black_box(16u32);
    let mut byte: [usize; N] = core::array::from_fn(|i| lanes[i].byte);
    let mut state: [u32; N] = core::array::from_fn(|i| lanes[i].state);
    let stages = lanes.as_mut_ptr().cast::<u8>();
    let mut known = true;
    while left > 0 {
        // SAFETY: `turns` counts, for each lane, turns that each move on by at most 55 bits and 41
        // symbols, and says that each of them begins at least 8 bytes before the end of the code.
        let word: [u64; N] = core::array::from_fn(|i| unsafe {
            u64::from_be_bytes(code.as_ptr().add(byte[i]).cast::<[u8; 8]>().read_unaligned())
        });
        let mut last = [0; N];
        for _ in 0..LOOK_UPS {
            for i in 0..N {
                let index = simd.window(word[i], state[i]);
                // SAFETY: a window has 11 bits, and either array 2^11 entries. The stage is the
                // first field of a lane and STAGE bytes long; `turns` says that it has room for 40
                // symbols from where this turn began and 8 bytes after them.
                unsafe {
                    last[i] = symbols.add(index).read();
                    let stage = stages.add(i * size_of::<Lane>());
                    stage.add((state[i] >> sixteen) as usize).cast::<u64>().write_unaligned(last[i].to_le());
                    // The low 16 bits do not run empty: they are at least START - 7, and lose at
                    // most 55.
                    state[i] = state[i].wrapping_add(steps.add(index).read());
                }
            }
        }
        left -= 1;
        run += 1;
        for i in 0..N {
            let mut used = START - (state[i] & 0xffff);
            if last[i] == NO_SYMBOLS {
                let (symbol, length) = ask(&long, 8 * byte[i] as u64 + u64::from(used));
                known &= length > 0;
                // SAFETY: as above; of the 41 symbols, this is the one with a long codeword.
                unsafe { stages.add(i * size_of::<Lane>() + (state[i] >> 16) as usize).write(symbol) };
                state[i] += (1 << 16) - u32::from(length);
                used += u32::from(length);
                // Its bits, at most 32, are paid for with one turn less.
                left = if known { left.saturating_sub(1) } else { 0 };
            }
            byte[i] += (used >> 3) as usize;
            state[i] += used & !7;
        }
    }
    for i in 0..N {
        (lanes[i].byte, lanes[i].state) = (byte[i], state[i]);
    }
    known.then_some(run)
}

/// Looks up a bit where the table has no entry. Returns its symbol and its length; a length of 0
/// means that the code is invalid.
///
/// The callee is hidden from the compiler. Where the compiler could prove that the callee never
/// panics, it laid out the loop with 5 % more instructions.
#[cold]
#[inline(never)]
fn ask(long: &dyn Fn(u64) -> Option<(u8, u8)>, bit: u64) -> (u8, u8) {
    core::hint::black_box(long)(bit).filter(|&(_, length)| length <= 32).unwrap_or((0, 0))
}

#[cfg(test)]
mod tests {
    extern crate std;

    use std::boxed::Box;
    use std::vec::Vec;

    use super::*;
    use crate::{Codeword, Level, Operation};

    /// Fewer turns where each costs a thousand times as much.
    const SYMBOLS: usize = if cfg!(miri) { 200 } else { 5000 };

    /// splitmix64
    fn random(seed: &mut u64) -> u64 {
        *seed = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (*seed ^ (*seed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// The canonical code of these lengths, for the symbols 100, 101, ...
    fn canonical(lengths: &[u8]) -> Vec<Codeword> {
        let mut next = 0u64;
        let codeword = |(i, &length): (usize, &u8)| {
            let bits = (next >> (32 - length)) as u32;
            next += 1 << (32 - length);
            Codeword { bits, length, symbol: 100 + i as u8 }
        };
        lengths.iter().enumerate().map(codeword).collect()
    }

    /// Code of random symbols, the place of each, and the symbols. The code is exactly as long as
    /// it has to be, so that any read past its end leaves the allocation.
    fn code_of(codewords: &[Codeword], n: usize, seed: u64) -> (Box<[u8]>, Vec<u64>, Vec<u8>) {
        let mut seed = seed;
        let (mut code, mut places, mut symbols) = (Vec::new(), Vec::new(), Vec::new());
        let (mut held, mut bit) = (0u64, 0u64);
        for _ in 0..n {
            // Short codewords are the more frequent ones, but any comes up.
            let most = 1 + random(&mut seed) % codewords.len() as u64;
            let codeword = codewords[(random(&mut seed) % most) as usize];
            places.push(bit);
            symbols.push(codeword.symbol);
            for i in (0..codeword.length).rev() {
                held = held << 1 | u64::from(codeword.bits >> i & 1);
                bit += 1;
                if bit.is_multiple_of(8) {
                    code.push(held as u8);
                }
            }
        }
        places.push(bit);
        if !bit.is_multiple_of(8) {
            code.push((held << (8 - bit % 8)) as u8);
        }
        (code.into_boxed_slice(), places, symbols)
    }

    /// Decodes with `N` lanes, each from its own symbol to that of the next lane, and compares
    /// every symbol.
    struct Run<'a, const N: usize> {
        codewords: &'a [Codeword],
        table: &'a Table,
        code: &'a [u8],
        places: &'a [u64],
        symbols: &'a [u8],
        most: usize,
    }

    impl<const N: usize> Operation for Run<'_, N> {
        type Output = ();

        fn run<S: Simd>(self, simd: S) {
            let Run { codewords, table, code, places, symbols, most } = self;
            let each = symbols.len() / N;
            let mut lanes: Box<[Lane; N]> = Box::new(core::array::from_fn(|_| Lane::default()));
            let mut next: [usize; N] = core::array::from_fn(|i| i * each);
            let ends: [usize; N] =
                core::array::from_fn(|i| if i + 1 < N { (i + 1) * each } else { symbols.len() });
            for i in 0..N {
                lanes[i].move_to(places[next[i]], places[ends[i]]);
            }
            let long = |bit: u64| {
                let at = places.binary_search(&bit).ok()?;
                let codeword = codewords.iter().find(|codeword| codeword.symbol == symbols[at])?;
                Some((codeword.symbol, codeword.length))
            };
            loop {
                let Some(turns) = decode(simd, table, code, &mut lanes, most, long) else {
                    unreachable!("the code is sound");
                };
                assert!(turns <= most);
                for i in 0..N {
                    // Long codewords may end a lane's turns a little beyond its limit, never beyond
                    // the code.
                    let found = lanes[i].symbols();
                    assert_eq!(found, &symbols[next[i]..][..found.len()]);
                    next[i] += found.len();
                    assert_eq!(lanes[i].bit(), places[next[i]]);
                    let keep = found.len().min(turns % 100);
                    let dropped = found.len() - keep;
                    lanes[i].drop_first(dropped);
                    next[i] -= keep;
                }
                if lanes.iter().any(|lane| lane.is_at_limit(code)) {
                    break;
                }
                assert!(turns > 0, "no lane is full or at its limit");
            }
            // The rest one by one, as at the end of a block.
            for i in 0..N {
                loop {
                    let have = next[i] + lanes[i].symbols().len();
                    if have >= ends[i] || lanes[i].symbols().len() == STAGE {
                        break;
                    }
                    if !lanes[i].look_up(table, code, ends[i] - have) {
                        let (symbol, length) = long(lanes[i].bit()).unwrap_or((0, 0));
                        assert!(length > 0 && lanes[i].push(symbol, length).is_some());
                    }
                }
                let found = lanes[i].symbols();
                assert_eq!(found, &symbols[next[i]..][..found.len()]);
                assert_eq!(lanes[i].bit(), places[next[i] + found.len()]);
            }
        }
    }

    fn check(lengths: &[u8], n: usize, seed: u64) {
        let codewords = canonical(lengths);
        let (code, places, symbols) = code_of(&codewords, n, seed);
        let mut table = Box::new(Table::EMPTY);
        table.build(codewords.iter().copied());
        let (code, places, symbols, codewords, table) = (&*code, &*places, &*symbols, &*codewords, &*table);
        for level in Level::all() {
            for most in if cfg!(miri) { 16..17 } else { 1..20 } {
                level.dispatch(Run::<1> { codewords, table, code, places, symbols, most });
                level.dispatch(Run::<3> { codewords, table, code, places, symbols, most });
                level.dispatch(Run::<6> { codewords, table, code, places, symbols, most });
            }
        }
    }

    #[test]
    fn every_level_decodes_what_was_encoded_and_reads_nothing_else() {
        let steps: [u8; 33] = core::array::from_fn(|i| (i as u8 + 1).min(32));
        let codes: [&[u8]; 8] =
            [&[1], &[1, 1], &[2, 2, 2, 3, 4, 5, 6, 6], &[8; 155], &[11; 155], &[12; 155], &[32; 9], &steps];
        for lengths in codes {
            check(lengths, SYMBOLS, 1);
        }
    }

    #[test]
    fn every_level_decodes_codes_of_every_small_size() {
        // Too short for a turn, for two, for a load: each end of the code at each bit of a byte.
        for n in (1..400).step_by(if cfg!(miri) { 57 } else { 1 }) {
            check(&[1, 2, 3, 4, 12, 12], n, n as u64);
        }
    }

    struct DecodeOne<'a>(&'a Table, &'a [u8], &'a mut [Lane; 1], Option<(u8, u8)>);

    impl Operation for DecodeOne<'_> {
        type Output = Option<usize>;

        fn run<S: Simd>(self, simd: S) -> Option<usize> {
            decode(simd, self.0, self.1, self.2, 1000, |_| self.3)
        }
    }

    #[test]
    fn answers_that_make_no_sense_end_the_run_on_every_level() {
        let table = Table::EMPTY;
        let code = [0x5a; 4096];
        for level in Level::all() {
            for (answer, known) in [
                (None, false),
                (Some((7, 0)), false),
                (Some((7, 33)), false),
                (Some((7, 255)), false),
                (Some((7, 32)), true),
            ] {
                let mut lanes = [Lane::default()];
                lanes[0].move_to(3, u64::MAX);
                let run = level.dispatch(DecodeOne(&table, &code, &mut lanes, answer));
                assert_eq!(run.is_some(), known, "{answer:?}");
            }
        }
    }

    #[test]
    fn places_outside_the_code_decode_nothing_on_every_level() {
        let mut table = Table::EMPTY;
        table.build([Codeword { bits: 0, length: 1, symbol: 7 }].into_iter());
        for level in Level::all() {
            for len in [0, 1, 7, 8, 9, 100] {
                let code = std::vec![0; len];
                let bits = 8 * len as u64;
                for (bit, limit) in [
                    (0, 0),
                    (bits, bits),
                    (bits + 1, u64::MAX),
                    (u64::MAX, u64::MAX),
                    (u64::MAX - 7, 0),
                    (1 << 62, u64::MAX),
                ] {
                    let mut lanes = [Lane::default()];
                    lanes[0].move_to(bit, limit);
                    assert!(lanes[0].is_at_limit(&code) && !lanes[0].look_up(&table, &code, 0));
                    assert_eq!(level.dispatch(DecodeOne(&table, &code, &mut lanes, None)), Some(0));
                    assert!(lanes[0].symbols().is_empty());
                }
            }
        }
    }

    #[test]
    fn a_full_lane_takes_nothing_more_and_every_number_can_be_dropped() {
        let mut lane = Lane::default();
        for i in 0..STAGE {
            assert!(lane.push(i as u8, 1).is_some());
        }
        assert!(lane.push(0, 1).is_none());
        let code = [0; 4096];
        let mut table = Table::EMPTY;
        table.build([Codeword { bits: 0, length: 1, symbol: 7 }].into_iter());
        assert!(!lane.look_up(&table, &code, 8));
        for n in [0, 1, 63, 64, 65, 1000, STAGE - 1, STAGE, STAGE + 1, usize::MAX] {
            let mut other = lane.clone();
            other.drop_first(n);
            let left: Vec<u8> = (n.min(STAGE)..STAGE).map(|i| i as u8).collect();
            assert_eq!(other.symbols(), left);
            assert_eq!(other.bit(), STAGE as u64);
        }
    }
}
