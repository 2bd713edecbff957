//! Applying deltas.
//!
//! A block is decoded as section 5 says, from its last step to its first: the map, the elements of
//! a chunk that is not whole, then the chunks that are, several at a time. For these, the tables
//! that the base's elements choose are computed first, then [`Simd::decode_contexts`] gives the
//! symbols of up to two blocks at once, each of which hides the latency of the other, and the
//! elements follow from them. Whatever is not said to be in place is the same over another base.

mod apply;

use df11_simd::delta::{Reading, SCALE_BITS, Steps};
use df11_simd::{Operation, Simd};

use super::element::{Kind, Word, escapes, merge};
use super::view::{Block, Coded};
use super::{CHUNK, CHUNKS, DecodeTable, SUM};
use crate::frame::ElementType;
use crate::rans::{LANES, STATES_BYTES, WORD_BYTES};
use crate::{Error, Level};

/// Where every state starts and ends.
const START_STATE: u32 = df11_simd::rans::START_STATE;

/// Chunks that are decoded at a time.
const BATCH: usize = 16;

/// Blocks that are decoded at a time.
const MANY: usize = 2;

/// Where the elements of a block come from and go to.
enum Place<'a> {
    /// Over the base's.
    Over(&'a mut [u8]),
    /// From the base's to others, of which the first is at `first`, in bytes. Those of chunks that
    /// are not coded are copies of the base's already.
    To { base: &'a [u8], out: &'a mut [u8], first: usize },
}

impl Place<'_> {
    #[inline(always)]
    fn base(&self) -> &[u8] {
        match self {
            Place::Over(elements) => elements,
            Place::To { base, .. } => base,
        }
    }

    #[inline(always)]
    fn put(&mut self, at: usize, bytes: &[u8]) {
        let (to, at, bytes) = match self {
            Place::Over(elements) => (&mut **elements, at, bytes),
            Place::To { out, first, .. } => {
                let skipped = first.saturating_sub(at).min(bytes.len());
                (&mut **out, (at + skipped).saturating_sub(*first), &bytes[skipped..])
            }
        };
        if let Some(to) = to.get_mut(at..) {
            let len = to.len().min(bytes.len());
            to[..len].copy_from_slice(&bytes[..len]);
        }
    }
}

/// Which chunks of a block are coded.
struct Map([u64; CHUNKS / 64]);

impl Map {
    #[inline(always)]
    fn has(&self, chunk: usize) -> bool {
        self.0[chunk / 64 % (CHUNKS / 64)] >> (chunk % 64) & 1 == 1
    }

    /// The greatest coded chunk below this one.
    #[inline(always)]
    fn before(&self, chunk: usize) -> Option<usize> {
        let mut word = chunk / 64;
        let mut bits = self.0.get(word).copied().unwrap_or(0) & ((1 << (chunk % 64)) - 1);
        loop {
            if bits != 0 {
                return Some(word * 64 + bits.ilog2() as usize);
            }
            word = word.checked_sub(1)?;
            bits = self.0.get(word).copied().unwrap_or(0);
        }
    }
}

/// A block that is being decoded.
struct Run<'a, 'p> {
    place: Place<'p>,
    reading: Reading<'a>,
    map: Map,
    /// Chunks and coded elements that are left, and escapes.
    chunks: usize,
    left: usize,
    escapes: Escapes<'a>,
    coded: usize,
    planes: &'a [u8],
    /// The chunks of this batch, last first, and their contexts and symbols, first first.
    batch: [u32; BATCH],
    taken: usize,
    contexts: [[u8; CHUNK]; BATCH],
    symbols: [[u8; CHUNK]; BATCH],
}

/// The escapes of a block, which are taken last first.
struct Escapes<'a> {
    /// What is left of their own block of rANS, if they are coded.
    reading: Reading<'a>,
    /// All, how many are left, and how many of these are decoded.
    all: usize,
    left: usize,
    ready: usize,
    symbols: [u8; LANES],
    /// Elements, or raw parts of them.
    bytes: &'a [u8],
}

/// What blocks of a delta share.
struct Shared<'a> {
    element_type: ElementType,
    kind: Kind,
    coded: &'a Coded<'a>,
    table: &'a DecodeTable,
}

/// Decodes one symbol of each of the first lanes. `None` if words are missing.
#[inline(always)]
fn lanes(reading: &mut Reading<'_>, symbols: &mut [u8], slot: impl Fn(usize, u32) -> u32) -> Option<()> {
    for (lane, (symbol, state)) in symbols.iter_mut().zip(&mut reading.states).enumerate().rev() {
        let entry = slot(lane, *state & (SUM - 1));
        *symbol = entry as u8;
        let x = (entry >> 8 & 0xfff) * (*state >> SCALE_BITS) + (entry >> 20);
        *state = x;
        if x < START_STATE {
            reading.left = reading.left.checked_sub(1)?;
            *state = x << 16 | u32::from(u16::from_le_bytes(*reading.words.get(reading.left)?));
        }
    }
    Some(())
}

/// Writes the first `len` elements of a chunk.
#[inline(always)]
fn put_chunk<W: Word>(place: &mut Place<'_>, chunk: usize, new: &[W; CHUNK], len: usize) {
    let at = chunk * CHUNK * W::BYTES;
    let direct = match place {
        Place::Over(elements) => elements.get_mut(at..),
        Place::To { out, first, .. } => at.checked_sub(*first).and_then(|at| out.get_mut(at..)),
    };
    if len == CHUNK && direct.is_some_and(|to| W::put_chunk(new, to)) {
        return;
    }
    let mut bytes = [0u8; 4 * CHUNK];
    for (to, element) in bytes.chunks_exact_mut(W::BYTES).zip(*new) {
        element.write(to);
    }
    place.put(at, &bytes[..len * W::BYTES]);
}

impl<'a> Shared<'a> {
    fn level(&self) -> Level {
        self.table.level.unwrap_or_else(Level::best)
    }

    /// Checks a block, and decodes its map.
    fn begin<'p>(&self, block: &Block<'a>, place: Place<'p>, size: usize) -> Result<Run<'a, 'p>, Error> {
        let short = Error::DeltaLength { expected: STATES_BYTES as u64, found: block.bytes.len() as u64 };
        if block.escape_words > 0 && (!self.coded.codes_escapes || block.escapes == 0) {
            return Err(Error::DeltaCount { what: "words of escapes", expected: block.escape_words as u64 });
        }
        let (states, mut after) = block.onwards.split_first_chunk::<STATES_BYTES>().ok_or(short)?;
        let mut reading = Reading { states: begin(states)?, words: &[], left: block.words };
        let mut of_escapes = NONE;
        if self.coded.codes_escapes && block.escapes > 0 {
            let (states, rest) = after.split_first_chunk::<STATES_BYTES>().ok_or(short)?;
            (of_escapes.states, after) = (begin(states)?, rest);
        }
        let (_, more) = after.split_at_checked(block.words * WORD_BYTES).ok_or(short)?;
        reading.words = after.as_chunks().0;
        (of_escapes.words, of_escapes.left) = (more.as_chunks().0, block.escape_words);
        let (_, parts) = more.split_at_checked(block.escape_words * WORD_BYTES).ok_or(short)?;
        let each = size - usize::from(self.coded.codes_escapes);
        let (bytes, planes) = parts.split_at_checked(block.escapes * each).ok_or(short)?;
        let end = planes.len().min(block.coded * self.coded.low);
        // What follows in this block is padding.
        let rest = block.onwards.len() - block.bytes.len();
        if planes[end..].iter().rev().skip(rest).any(|byte| *byte != 0) {
            return Err(Error::DeltaReserved);
        }
        let (all, symbols) = (block.escapes, [0; LANES]);
        let escapes = Escapes { reading: of_escapes, all, left: all, ready: 0, symbols, bytes };
        let elements = place.base().len() / size;
        let chunks = elements.div_ceil(CHUNK);
        let mut map = Map([u64::MAX; CHUNKS / 64]);
        let mut coded = elements;
        if let Some(one) = self.coded.map {
            map = Map([0; CHUNKS / 64]);
            coded = 0;
            let zero = SUM - one;
            for step in (0..chunks.div_ceil(LANES)).rev() {
                let mut symbols = [0; LANES];
                let of_step = &mut symbols[..(chunks - step * LANES).min(LANES)];
                lanes(&mut reading, of_step, |_, slot| match slot.checked_sub(zero) {
                    Some(offset) => offset << 20 | one << 8 | 1,
                    None => slot << 20 | zero << 8,
                })
                .ok_or(Error::WordsMissing { step })?;
                for (lane, _) in of_step.iter().enumerate().filter(|(_, symbol)| **symbol == 1) {
                    let chunk = step * LANES + lane;
                    if let Some(word) = map.0.get_mut(chunk / 64) {
                        *word |= 1 << (chunk % 64);
                    }
                    coded += CHUNK.min(elements - chunk * CHUNK);
                }
            }
        }
        if coded != block.coded {
            return Err(Error::DeltaCount { what: "coded elements", expected: block.coded as u64 });
        }
        Ok(Run {
            place,
            reading,
            map,
            chunks,
            left: coded,
            escapes,
            coded,
            planes,
            batch: [0; BATCH],
            taken: 0,
            contexts: [[0; CHUNK]; BATCH],
            symbols: [[0; CHUNK]; BATCH],
        })
    }

    /// Takes the last escape that is left.
    fn escape<S: Simd>(&self, simd: S, escapes: &mut Escapes<'_>, size: usize) -> Result<u32, Error> {
        let expected = escapes.all as u64;
        escapes.left = escapes.left.checked_sub(1).ok_or(Error::DeltaCount { what: "escapes", expected })?;
        let each = size - usize::from(self.coded.codes_escapes);
        let bytes = escapes.bytes.get(escapes.left * each..).unwrap_or_default();
        if !self.coded.codes_escapes {
            return Ok(bytes.iter().take(size).rev().fold(0, |bits, byte| bits << 8 | u32::from(*byte)));
        }
        if escapes.ready == 0 {
            escapes.ready = escapes.left % LANES + 1;
            let context = self.coded.thresholds.len() as u8 + 1;
            let mut steps = [Steps {
                contexts: &[[context; LANES]],
                symbols: core::slice::from_mut(&mut escapes.symbols),
            }];
            let whole = escapes.ready == LANES;
            let reading = core::array::from_mut(&mut escapes.reading);
            if !whole || simd.decode_contexts(&self.table.slots, reading, &mut steps) == 0 {
                let symbols = &mut escapes.symbols[..escapes.ready];
                lanes(&mut escapes.reading, symbols, |_, slot| self.slot(context, slot))
                    .ok_or(Error::WordsMissing { step: escapes.left / LANES })?;
            }
        }
        escapes.ready -= 1;
        let raw = bytes.get(..each).unwrap_or_default();
        Ok(merge(self.element_type, escapes.symbols[escapes.ready % LANES], raw))
    }

    /// The part of a table's slots that a context has.
    #[inline(always)]
    fn slot(&self, context: u8, slot: u32) -> u32 {
        let at = usize::from(context) << SCALE_BITS | slot as usize;
        self.table.slots[at % self.table.slots.len()]
    }

    /// Decodes the elements of the last chunk, if that is not whole and is coded.
    #[inline(always)]
    fn partial<S: Simd, W: Word>(&self, simd: S, run: &mut Run<'_, '_>) -> Result<(), Error> {
        let elements = run.place.base().len() / W::BYTES;
        let rest = elements % CHUNK;
        if rest == 0 || !run.map.has(run.chunks - 1) {
            run.chunks -= usize::from(rest > 0);
            return Ok(());
        }
        run.chunks -= 1;
        let base = W::chunk(&run.place.base()[run.chunks * CHUNK * W::BYTES..]);
        let contexts = self.kind.contexts(&base, self.coded.thresholds);
        let mut symbols = [0; CHUNK];
        for step in (0..rest.div_ceil(LANES)).rev() {
            let part = step * LANES..rest.min((step + 1) * LANES);
            let contexts = &contexts[part.clone()];
            let slot = |lane: usize, slot| self.slot(contexts.get(lane).copied().unwrap_or(0), slot);
            lanes(&mut run.reading, &mut symbols[part], slot).ok_or(Error::WordsMissing { step })?;
        }
        self.elements(simd, run, run.chunks, &base, &symbols, rest)
    }

    /// Takes the next chunks that are coded, and computes their contexts.
    #[inline(always)]
    fn fill<W: Word>(&self, run: &mut Run<'_, '_>) {
        run.taken = 0;
        while run.taken < BATCH
            && let Some(chunk) = run.map.before(run.chunks)
        {
            run.chunks = chunk;
            let base = W::chunk(run.place.base().get(chunk * CHUNK * W::BYTES..).unwrap_or_default());
            run.batch[run.taken] = chunk as u32;
            run.contexts[BATCH - 1 - run.taken] = self.kind.contexts(&base, self.coded.thresholds);
            run.taken += 1;
        }
    }

    /// Decodes the symbols of the chunks that were taken.
    #[inline(always)]
    fn symbols<S: Simd, const N: usize>(&self, simd: S, runs: &mut [Run<'_, '_>; N]) -> Result<(), Error> {
        let mut done = [0; N];
        if N > 1 {
            let both = self.vector(simd, runs, &done);
            done = [both; N];
        }
        for (run, done) in runs.iter_mut().zip(done) {
            let more = self.vector(simd, core::array::from_mut(run), &[done]);
            for step in (0..2 * run.taken - done - more).rev() {
                let at = 2 * (BATCH - run.taken) + step;
                let contexts = &run.contexts.as_flattened()[at * LANES..];
                let symbols = &mut run.symbols.as_flattened_mut()[at * LANES..][..LANES];
                let slot = |lane: usize, slot| self.slot(contexts[lane], slot);
                lanes(&mut run.reading, symbols, slot).ok_or(Error::WordsMissing { step })?;
            }
        }
        Ok(())
    }

    /// Decodes steps with vectors, as many of each block, and returns how many.
    #[inline(always)]
    fn vector<S: Simd, const N: usize>(
        &self,
        simd: S,
        runs: &mut [Run<'_, '_>; N],
        done: &[usize; N],
    ) -> usize {
        let mut readings = runs.each_mut().map(|run| core::mem::replace(&mut run.reading, NONE));
        let mut i = 0;
        let mut steps = runs.each_mut().map(|run| {
            let part = 2 * (BATCH - run.taken)..2 * BATCH - done[i];
            i += 1;
            Steps {
                contexts: &run.contexts.as_flattened().as_chunks().0[part.clone()],
                symbols: &mut run.symbols.as_flattened_mut().as_chunks_mut().0[part],
            }
        });
        let run_steps = simd.decode_contexts(&self.table.slots, &mut readings, &mut steps);
        for (run, reading) in runs.iter_mut().zip(readings) {
            run.reading = reading;
        }
        run_steps
    }

    /// Makes the elements of a chunk of their symbols.
    #[inline(always)]
    fn elements<S: Simd, W: Word>(
        &self,
        simd: S,
        run: &mut Run<'_, '_>,
        chunk: usize,
        base: &[W; CHUNK],
        symbols: &[u8; CHUNK],
        len: usize,
    ) -> Result<(), Error> {
        let low = self.coded.low;
        if low == 0 && !symbols.iter().fold(false, |any, symbol| any | (*symbol != 0)) {
            // As the base is, which is there already but for other memory and without a map.
            if self.coded.map.is_none() && matches!(run.place, Place::To { .. }) {
                put_chunk(&mut run.place, chunk, base, len);
            }
            return Ok(());
        }
        let mut z = [W::default(); CHUNK];
        for i in 0..CHUNK {
            z[i] = W::narrow(u32::from(symbols[i]) << (8 * low));
        }
        run.left = run.left.saturating_sub(len);
        for plane in 0..low {
            let bytes = run.planes.get(plane * run.coded + run.left..).unwrap_or_default();
            for (z, byte) in z.iter_mut().take(len).zip(bytes) {
                *z = W::narrow(z.wide() | u32::from(*byte) << (8 * plane));
            }
        }
        let mut new = [W::default(); CHUNK];
        for i in 0..CHUNK {
            new[i] = self.kind.restored(base[i], z[i]);
        }
        let mut escapes = escapes(symbols, len);
        while escapes != 0 {
            let i = escapes.ilog2() as usize;
            escapes ^= 1 << i;
            new[i] = W::narrow(self.escape(simd, &mut run.escapes, W::BYTES)?);
        }
        put_chunk(&mut run.place, chunk, &new, len);
        Ok(())
    }

    /// Decodes blocks that have begun.
    #[inline(always)]
    fn decode<S: Simd, W: Word, const N: usize>(
        &self,
        simd: S,
        runs: &mut [Run<'_, '_>; N],
    ) -> Result<(), Error> {
        for run in &mut *runs {
            self.partial::<S, W>(simd, run)?;
        }
        loop {
            for run in &mut *runs {
                self.fill::<W>(run);
            }
            if runs.iter().all(|run| run.taken == 0) {
                break;
            }
            self.symbols(simd, runs)?;
            for run in &mut *runs {
                for i in 0..run.taken {
                    let chunk = run.batch[i] as usize;
                    let at = chunk * CHUNK * W::BYTES;
                    let base = W::chunk(run.place.base().get(at..).unwrap_or_default());
                    let symbols = run.symbols[BATCH - 1 - i];
                    self.elements(simd, run, chunk, &base, &symbols, CHUNK)?;
                }
            }
        }
        for run in &*runs {
            if run.escapes.left > 0 {
                return Err(Error::DeltaCount { what: "escapes", expected: run.escapes.all as u64 });
            }
            end(&run.reading)?;
            end(&run.escapes.reading)?;
        }
        Ok(())
    }
}

/// No block.
const NONE: Reading<'static> = Reading { states: [START_STATE; LANES], words: &[], left: 0 };

/// Reads the states of a block.
fn begin(bytes: &[u8; STATES_BYTES]) -> Result<[u32; LANES], Error> {
    let mut states = [0; LANES];
    for (lane, (state, bytes)) in states.iter_mut().zip(bytes.as_chunks().0).enumerate() {
        *state = u32::from_le_bytes(*bytes);
        if !(START_STATE..1 << 31).contains(state) {
            return Err(Error::LaneState { lane, state: *state });
        }
    }
    Ok(states)
}

/// Checks what is left of a block.
fn end(reading: &Reading<'_>) -> Result<(), Error> {
    if reading.left > 0 {
        return Err(Error::WordsLeft { words: reading.left });
    }
    let mut states = reading.states.into_iter().enumerate();
    match states.find(|(_, state)| *state != START_STATE) {
        Some((lane, state)) => Err(Error::LastState { lane, state }),
        None => Ok(()),
    }
}

/// Decodes blocks at a level.
struct Decode<'s, 'r, 'a, 'p> {
    shared: &'s Shared<'a>,
    runs: &'r mut [Run<'a, 'p>],
    size: usize,
}

impl Operation for Decode<'_, '_, '_, '_> {
    type Output = Result<(), Error>;

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) -> Result<(), Error> {
        let Decode { shared, runs, size } = self;
        let mut one = runs;
        if size == 2 {
            // Most weights are of two bytes.
            let (two, rest) = one.as_chunks_mut::<MANY>();
            for runs in two {
                shared.decode::<S, u16, MANY>(simd, runs)?;
            }
            one = rest;
        }
        for run in one {
            let run = core::array::from_mut(run);
            match size {
                1 => shared.decode::<S, u8, 1>(simd, run)?,
                2 => shared.decode::<S, u16, 1>(simd, run)?,
                _ => shared.decode::<S, u32, 1>(simd, run)?,
            }
        }
        Ok(())
    }
}
