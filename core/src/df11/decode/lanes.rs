//! The fast decoder: tables of many symbols, several blocks at once.
//!
//! The algorithm: cut the blocks into runs of the same number, one for each lane of [`lanes`];
//! decode all lanes side by side; where a lane reaches the end of a block, check that it is where
//! the next block begins; merge what the lanes hold with the signs and mantissas while it is in the
//! first-level cache.
//!
//! If anything differs from a valid unit, the fast run ends, and the compact decoder starts again
//! from the first block. It finds the first broken rule, in the order of elements, whatever the
//! number of lanes.

use alloc::boxed::Box;
use core::hint::black_box;
use core::ops::Range;

use df11_simd::{Codeword, GROUP, LengthTable, Operation, Simd, Table, Write, Writer, lanes};

use crate::bits::BitReader;
use crate::df11::gaps::pack;
use crate::df11::{GAP_BITS, Unit, WINDOW_BITS};
use crate::huffman::{Codewords, FIRST_JUMP, PrefixTables};
use crate::{Error, Level, bf16};

/// The number of lanes, which hide the latency of a look-up. Six was the best of 3 to 8, since a
/// seventh no longer fits the registers of x86-64. Three lanes decode the blocks that six leave
/// over.
const MANY: usize = 6;
const FEW: usize = 3;

/// Turns of all lanes between two merges: some 18 symbols each, so that what waits in the lanes
/// takes 1.5 KiB.
const TURNS: usize = 16;

/// The prefetch distance of signs and mantissas: a little more than a lane decodes between two
/// merges.
const AHEAD: usize = 320;

/// Outputs of more bytes than this go past the caches: a second-level cache could not keep them for
/// the reader.
pub(super) const STREAM_BYTES: usize = 4 << 20;

/// A unit with tables that decode several symbols a look-up, for decoding much or often.
///
/// Building the tables (48 KiB) takes some microseconds, so it pays from about a thousand weights
/// on. For larger units, [`Unit::decode_into`] and the other methods do it by themselves. Keep a
/// `Decoder` to decode block by block, or from several threads.
///
/// ```
/// use df11::Decoder;
///
/// let weights: Vec<u8> = (0..20_000u16).flat_map(|i| ((100 + i % 4) << 7).to_le_bytes()).collect();
/// let encoded = df11::encode(&weights)?;
/// let unit = encoded.as_unit();
/// let decoder = Decoder::new(&unit);
/// for block in 0..unit.blocks() {
///     let range = unit.block_range(block);
///     let mut piece = vec![0; 2 * range.len()];
///     decoder.decode_blocks_into(block..block + 1, &mut piece)?;
///     assert_eq!(piece, weights[2 * range.start..2 * range.end]);
/// }
/// # Ok::<(), df11::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Decoder<'a> {
    unit: Unit<'a>,
    table: Box<Table>,
    level: Level,
}

impl<'a> Decoder<'a> {
    /// Builds the tables of a unit.
    #[must_use]
    pub fn new(unit: &Unit<'a>) -> Self {
        Self::at_level(unit, Level::best())
    }

    /// Builds the tables of a unit, to decode with this level of instructions.
    ///
    /// ```
    /// use df11::{Decoder, Level};
    ///
    /// let encoded = df11::encode(&[0x80, 0x3f, 0x00, 0x40])?;
    /// for level in Level::all() {
    ///     let mut weights = [0; 4];
    ///     Decoder::at_level(&encoded.as_unit(), level).decode_into(&mut weights)?;
    ///     assert_eq!(weights, [0x80, 0x3f, 0x00, 0x40]);
    /// }
    /// # Ok::<(), df11::Error>(())
    /// ```
    #[must_use]
    pub fn at_level(unit: &Unit<'a>, level: Level) -> Self {
        let code = Codewords::from_tables(&unit.tables());
        let mut table = Box::new(Table::EMPTY);
        table.build((0..FIRST_JUMP).filter(|&symbol| code.len(symbol) > 0).map(|symbol| Codeword {
            bits: code.bits(symbol),
            length: code.len(symbol),
            symbol,
        }));
        Decoder { unit: *unit, table, level }
    }

    /// The unit.
    #[must_use]
    pub const fn unit(&self) -> &Unit<'a> {
        &self.unit
    }

    /// Decodes the whole unit: see [`Unit::decode_into`].
    ///
    /// # Errors
    ///
    /// The errors of [`Unit::decode_into`].
    pub fn decode_into(&self, weights: &mut [u8]) -> Result<(), Error> {
        self.decode_blocks_into(0..self.unit.blocks(), weights)
    }

    /// Decodes a run of blocks: see [`Unit::decode_blocks_into`].
    ///
    /// # Errors
    ///
    /// The errors of [`Unit::decode_blocks_into`].
    pub fn decode_blocks_into(&self, blocks: Range<usize>, weights: &mut [u8]) -> Result<(), Error> {
        let stream = weights.len() > STREAM_BYTES;
        self.decode_part(blocks, weights, stream)
    }

    /// Decodes a run of blocks. `stream` says that the weights belong to an output which is too
    /// large for the caches.
    pub(super) fn decode_part(
        &self,
        blocks: Range<usize>,
        weights: &mut [u8],
        stream: bool,
    ) -> Result<(), Error> {
        self.unit.expect_blocks(&blocks, weights)?;
        match self.run(blocks.clone(), weights, None, stream) {
            Some(()) => Ok(()),
            None => self.unit.decode_blocks_compact(blocks, weights),
        }
    }

    /// Decodes any range of elements: see [`Unit::decode_range_into`]. Whole blocks within it go
    /// the fast way.
    ///
    /// # Errors
    ///
    /// The errors of [`Unit::decode_range_into`].
    ///
    /// ```
    /// use df11::Decoder;
    ///
    /// let weights: Vec<u8> = (0..20_000u16).flat_map(|i| ((100 + i % 4) << 7).to_le_bytes()).collect();
    /// let encoded = df11::encode(&weights)?;
    /// let mut most = vec![0; 2 * 19_000];
    /// Decoder::new(&encoded.as_unit()).decode_range_into(500..19_500, &mut most)?;
    /// assert_eq!(most, weights[2 * 500..2 * 19_500]);
    /// # Ok::<(), df11::Error>(())
    /// ```
    pub fn decode_range_into(&self, range: Range<usize>, weights: &mut [u8]) -> Result<(), Error> {
        self.decode_range_with(range, weights, |blocks, weights| self.decode_blocks_into(blocks, weights))
    }

    /// Decodes any range of elements, the whole blocks within it by `decode`.
    pub(super) fn decode_range_with(
        &self,
        range: Range<usize>,
        weights: &mut [u8],
        decode: impl FnOnce(Range<usize>, &mut [u8]) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let unit = &self.unit;
        unit.expect_range(&range, weights)?;
        let Range { start: first, end: last } = unit.whole_blocks(&range);
        if first == last {
            return unit.decode_range_compact(range, weights);
        }
        let (start, end) = (unit.block_range(first).start, unit.block_range(last - 1).end);
        let (head, rest) = weights.split_at_mut(bf16::BYTES * (start - range.start));
        let (whole, tail) = rest.split_at_mut(bf16::BYTES * (end - start));
        unit.decode_range_compact(range.start..start, head)?;
        decode(first..last, whole)?;
        unit.decode_range_compact(end..range.end, tail)
    }

    /// Decodes a run of blocks and checks every gap: see [`Unit::verify_blocks_into`].
    ///
    /// # Errors
    ///
    /// The errors of [`Unit::verify_blocks_into`].
    pub fn verify_blocks_into(&self, blocks: Range<usize>, weights: &mut [u8]) -> Result<(), Error> {
        self.unit.expect_blocks(&blocks, weights)?;
        let stream = weights.len() > STREAM_BYTES;
        self.verify_part(&self.lengths(), blocks, weights, stream)
    }

    /// The tables by which gaps are checked.
    pub(super) fn lengths(&self) -> Lengths {
        Lengths::of(&self.unit.tables, self.level)
    }

    /// Decodes a run of blocks and checks every gap; `stream` is that of
    /// [`decode_part`](Self::decode_part).
    pub(super) fn verify_part(
        &self,
        lengths: &Lengths,
        blocks: Range<usize>,
        weights: &mut [u8],
        stream: bool,
    ) -> Result<(), Error> {
        match self.run(blocks.clone(), weights, Some(lengths), stream) {
            Some(()) => Ok(()),
            None => self.unit.verify_blocks_compact(blocks, weights),
        }
    }

    fn run(
        &self,
        blocks: Range<usize>,
        weights: &mut [u8],
        lengths: Option<&Lengths>,
        stream: bool,
    ) -> Option<()> {
        self.level.dispatch(Run { blocks: Blocks { decoder: self, blocks, lengths }, weights, stream })
    }

    /// The symbol, and the length of its codeword, at a bit of the code.
    #[cold]
    fn symbol(&self, bit: u64) -> Option<(u8, u8)> {
        let reader = BitReader::at(self.unit.code, bit);
        self.unit.tables.decode(reader.peek(32), bit).ok()
    }
}

/// Blocks to decode to where they belong.
struct Run<'d, 'a> {
    blocks: Blocks<'d, 'a>,
    weights: &'d mut [u8],
    stream: bool,
}

/// Blocks to decode.
struct Blocks<'d, 'a> {
    decoder: &'d Decoder<'a>,
    blocks: Range<usize>,
    /// Set if every gap is to be checked.
    lengths: Option<&'d Lengths>,
}

impl Operation for Run<'_, '_> {
    type Output = Option<()>;

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) -> Option<()> {
        Writer::lend(simd, self.weights, self.stream, self.blocks)
    }
}

impl Write for Blocks<'_, '_> {
    type Output = Option<()>;

    #[inline(always)]
    fn run<S: Simd>(self, simd: S, writer: &mut Writer<'_, S>) -> Option<()> {
        let Blocks { decoder, blocks, lengths } = self;
        let task = Task { decoder, lengths, simd, first: decoder.unit.block_range(blocks.start).start };
        let next = task.run_lanes::<MANY>(writer, blocks.clone())?;
        let next = task.run_lanes::<FEW>(writer, next..blocks.end)?;
        task.run_lanes::<1>(writer, next..blocks.end).map(|_| ())
    }
}

#[derive(Clone, Copy)]
struct Task<'d, 'a, S> {
    decoder: &'d Decoder<'a>,
    lengths: Option<&'d Lengths>,
    simd: S,
    /// The element that the first weight of the output is.
    first: usize,
}

/// How far a lane has come.
#[derive(Clone, Copy, Default)]
struct Place {
    block: usize,
    /// One past the lane's last block.
    last: usize,
    /// The next element to be merged.
    element: usize,
    /// One past the block's last element.
    end: usize,
    /// Where the codeword of the next element to be merged begins; kept only where gaps are
    /// checked.
    bit: u64,
}

impl<S: Simd> Task<'_, '_, S> {
    /// Decodes as many blocks as `N` lanes can share evenly; returns the first that is left.
    #[inline(always)]
    fn run_lanes<const N: usize>(self, writer: &mut Writer<'_, S>, blocks: Range<usize>) -> Option<usize> {
        let each = blocks.len() / N;
        if each == 0 {
            return Some(blocks.start);
        }
        let mut lanes: [lanes::Lane; N] = core::array::from_fn(|_| lanes::Lane::default());
        let mut places = [Place::default(); N];
        for (i, (lane, place)) in lanes.iter_mut().zip(&mut places).enumerate() {
            let block = blocks.start + i * each;
            *place = Place { block, last: block + each, ..Place::default() };
            place.element = self.decoder.unit.block_range(block).start;
            self.enter_block(lane, place);
            place.bit = lane.bit();
        }
        let mut ended = false;
        while !ended {
            self.decode(&mut lanes)?;
            // Not unrolled: one copy of what stands below keeps the loop in the instruction cache.
            for i in 0..black_box(N).min(N) {
                ended |= self.settle(writer, &mut lanes[i], &mut places[i])?;
            }
        }
        // A lane has ended, and the others are about to.
        for (lane, place) in lanes.iter_mut().zip(&mut places).filter(|(_, place)| place.block < place.last) {
            while !self.settle(writer, lane, place)? {
                self.decode(core::array::from_mut(lane))?;
            }
        }
        Some(blocks.start + N * each)
    }

    #[inline(always)]
    fn decode<const N: usize>(self, lanes: &mut [lanes::Lane; N]) -> Option<usize> {
        let decoder = self.decoder;
        lanes::decode(self.simd, &decoder.table, decoder.unit.code, lanes, TURNS, |bit| decoder.symbol(bit))
    }

    /// Puts a lane where its block begins.
    #[inline(always)]
    fn enter_block(self, lane: &mut lanes::Lane, place: &mut Place) {
        let unit = &self.decoder.unit;
        place.end = unit.block_range(place.block).end;
        let limit = if place.end < unit.len() {
            unit.block_start(place.block + 1)
        } else {
            8 * unit.code.len() as u64
        };
        lane.move_to(unit.block_start(place.block), limit);
    }

    /// Merges the symbols of a lane, and moves the lane past the end of its block if it has reached
    /// that end. Returns whether that was the lane's last block.
    #[inline(always)]
    fn settle(self, writer: &mut Writer<'_, S>, lane: &mut lanes::Lane, place: &mut Place) -> Option<bool> {
        let unit = &self.decoder.unit;
        let mut ended = false;
        if lane.is_at_limit(unit.code) {
            self.finish_block(lane, place)?;
            place.block += 1;
            ended = place.block == place.last;
            if !ended {
                self.enter_block(lane, place);
            }
        }
        let symbols = lane.symbols();
        // A damaged block may hold more symbols than its output position says.
        if place.element + symbols.len() > place.end {
            return None;
        }
        let n = if ended {
            symbols.len()
        } else {
            writer.whole_groups(place.element - self.first, symbols.len())
        };
        let sign_mantissas = unit.sign_mantissa.get(place.element..place.element + n)?;
        writer.merge(place.element - self.first, &symbols[..n], sign_mantissas);
        if let Some(lengths) = self.lengths {
            place.bit = self.check_gaps(lengths, place.bit, place.element, &symbols[..n])?;
        }
        lane.drop_first(n);
        place.element += n;
        for line in (0..AHEAD).step_by(64) {
            writer.prefetch(unit.sign_mantissa, place.element + AHEAD + line);
        }
        Some(ended)
    }

    /// Follows the codewords of these symbols from bit `bit`, and compares the gap of each window
    /// that one of them ends in or crosses into. Returns where the last ends.
    #[inline(always)]
    fn check_gaps(self, lengths: &Lengths, bit: u64, element: usize, symbols: &[u8]) -> Option<u64> {
        let (mut bit, mut element, mut rest) = (bit, element, symbols);
        if S::GROUPS {
            let (groups, few) = symbols.as_chunks::<GROUP>();
            for group in groups {
                bit = match self.check_group(lengths, bit, element, group) {
                    Some(end) => end,
                    None => self.check_fours(lengths, bit, element, group)?,
                };
                element += GROUP;
            }
            rest = few;
        }
        self.check_fours(lengths, bit, element, rest)
    }

    /// Follows the codewords of 64 symbols at once. `None` if that cannot be done, or a gap
    /// differs.
    #[inline(always)]
    fn check_group(self, lengths: &Lengths, bit: u64, element: usize, symbols: &[u8; GROUP]) -> Option<u64> {
        let unit = &self.decoder.unit;
        let ends = self.simd.ends(&lengths.one, symbols, (bit % WINDOW_BITS) as u32)?;
        let windows = ends.crossing.count_ones();
        // After the last element of the unit no window's first codeword begins.
        let all = element + GROUP < unit.len();
        let gaps = unit.eight_gaps((bit / WINDOW_BITS) as usize + 1)?;
        let differ = (gaps ^ pack(ends.gaps)) >> (GAP_BITS * (8 - windows));
        (all && differ == 0).then_some(bit + u64::from(ends.bits))
    }

    /// [`check_gaps`](Self::check_gaps), four symbols at a time.
    #[inline(always)]
    fn check_fours(self, lengths: &Lengths, bit: u64, element: usize, symbols: &[u8]) -> Option<u64> {
        let mut bit = bit;
        let (fours, rest) = symbols.as_chunks::<4>();
        let mut left = fours.iter();
        loop {
            let mut used = bit % WINDOW_BITS;
            let window = bit - used;
            let crossing = loop {
                let Some(four) = left.next() else { break None };
                let both = u32::from_le_bytes(*four);
                let first = lengths.of_pair(both as u16);
                let second = lengths.of_pair((both >> 16) as u16);
                if used + first + second >= WINDOW_BITS {
                    break Some((four, first, first + second));
                }
                used += first + second;
            };
            bit = window + used;
            let Some((four, first, length)) = crossing else { break };
            let element = element + 4 * (fours.len() - left.as_slice().len() - 1);
            if length > WINDOW_BITS {
                for (&symbol, element) in four.iter().zip(element..) {
                    bit = self.check_gap(lengths, bit, symbol, element)?;
                }
                continue;
            }
            // Which of the four crosses into the next window? Asked without branches, as the
            // encoder does.
            let middle = used + first;
            let ends = [middle + lengths.of_symbol(four[2]), middle, used + lengths.of_symbol(four[0])];
            let (mut end, mut before) = (used + length, 4);
            for earlier in ends {
                let is_within = earlier < WINDOW_BITS;
                end = if is_within { end } else { earlier };
                before -= usize::from(!is_within);
            }
            self.compare_gap(bit - used + end, element + before)?;
            bit += length;
        }
        for (&symbol, element) in rest.iter().zip(element + 4 * fours.len()..) {
            bit = self.check_gap(lengths, bit, symbol, element)?;
        }
        Some(bit)
    }

    /// Follows one codeword, that of `element`.
    #[inline(always)]
    fn check_gap(self, lengths: &Lengths, bit: u64, symbol: u8, element: usize) -> Option<u64> {
        let end = bit + lengths.of_symbol(symbol);
        if bit / WINDOW_BITS != end / WINDOW_BITS {
            self.compare_gap(end, element + 1)?;
        }
        Some(end)
    }

    /// Compares the gap of the window in which `element`, the first to begin there, begins at
    /// `bit`.
    #[inline(always)]
    fn compare_gap(self, bit: u64, element: usize) -> Option<()> {
        let unit = &self.decoder.unit;
        // After the last element none begins.
        let fits = u64::from(unit.gap((bit / WINDOW_BITS) as usize)) == bit % WINDOW_BITS;
        (fits || element == unit.len()).then_some(())
    }

    /// Decodes the last symbols of a block one by one, and checks that it ends where it should.
    #[inline(never)]
    fn finish_block(self, lane: &mut lanes::Lane, place: &Place) -> Option<()> {
        loop {
            let element = place.element + lane.symbols().len();
            if element >= place.end {
                let fits = element == place.end;
                return fits.then(|| self.decoder.unit.check_block_end(place.block, lane.bit()).ok())?;
            }
            let decoder = self.decoder;
            if !lane.look_up(&decoder.table, decoder.unit.code, place.end - element) {
                let (symbol, length) = decoder.symbol(lane.bit())?;
                lane.push(symbol, length)?;
            }
        }
    }
}

/// The lengths of codewords, by symbol and by pair of symbols.
pub(super) struct Lengths {
    one: LengthTable,
    /// The length of each pair's codewords; the first symbol is the low byte of the index. On
    /// levels that check whole groups, pairs are rarely needed.
    two: Option<Box<[u8; 1 << 16]>>,
}

impl Lengths {
    fn of(tables: &PrefixTables<'_>, level: Level) -> Self {
        let one = LengthTable::new(tables.code_lengths());
        if level.has_groups() {
            return Lengths { one, two: None };
        }
        let mut two = Box::new([0; 1 << 16]);
        // Symbols without a codeword are never decoded; their rows are never read.
        for (row, &second) in two.as_chunks_mut::<256>().0.iter_mut().zip(one.all()).filter(|(_, l)| **l > 0)
        {
            for (both, &first) in row.iter_mut().zip(one.all()) {
                *both = first.saturating_add(second);
            }
        }
        Lengths { one, two: Some(two) }
    }

    #[inline(always)]
    fn of_symbol(&self, symbol: u8) -> u64 {
        u64::from(self.one.all()[usize::from(symbol)])
    }

    #[inline(always)]
    fn of_pair(&self, both: u16) -> u64 {
        match &self.two {
            Some(two) => u64::from(two[usize::from(both)]),
            None => both.to_le_bytes().map(|symbol| self.of_symbol(symbol)).iter().sum(),
        }
    }
}
