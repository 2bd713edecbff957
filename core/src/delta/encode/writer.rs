//! Writing blocks and tables of deltas.

use alloc::boxed::Box;
use alloc::vec::Vec;

use df11_simd::Simd;
use df11_simd::delta::{Appending, Entries, SCALE_BITS, TABLES};
use df11_simd::rans::NO_ENTRY;

use super::super::element::{Kind, Word, escapes, split};
use super::super::groups::{Groups, lg};
use super::super::{CHUNK, SUM};
use super::{BATCH, SLACK, START_STATE};
use crate::Error;
use crate::frame::ElementType;
use crate::rans::{EncodeTable, Frequencies, LANES, STATES_BYTES, WORD_BYTES, words_bound};

/// The logarithm of a frequency, in units of 1 / 4,096 bit.
pub(super) fn lg_of(frequency: u16) -> u32 {
    lg(u64::from(frequency.max(1))) as u32
}

/// Appends a table of the header (B-5.4).
pub(super) fn put_table(out: &mut Vec<u8>, frequencies: &[u16; 256]) {
    let (mut sum, mut run) = (0, 0);
    for &frequency in frequencies {
        if u32::from(sum) == SUM {
            break;
        }
        if frequency == 0 {
            run += 1;
            continue;
        }
        if run > 0 {
            out.extend([0, (run - 1) as u8]);
            run = 0;
        }
        match frequency {
            0..128 => out.push(frequency as u8),
            _ => out.extend([(128 + frequency / 256) as u8, frequency as u8]),
        }
        sum += frequency;
    }
}

/// What codes blocks.
pub(super) struct Writer<'g> {
    element_type: ElementType,
    kind: Kind,
    low: usize,
    groups: &'g Groups,
    escape_table: Option<EncodeTable>,
    escape_symbols: Vec<u8>,
    escape_states: [u8; STATES_BYTES],
    escape_words: Vec<u8>,
    entries: Box<Entries>,
    /// Frequency and cumulative frequency of the symbols of the map.
    map: Option<[(u32, u32); 2]>,
    states: [u32; LANES],
    words: Vec<[u8; WORD_BYTES]>,
    used: usize,
    escapes: Vec<u8>,
    planes: [Vec<u8>; 3],
    chunks: Vec<u8>,
}

impl<'g> Writer<'g> {
    pub(super) fn new(
        element_type: ElementType,
        low: usize,
        groups: &'g Groups,
        map: Option<Frequencies>,
        escapes: Option<&Frequencies>,
    ) -> Self {
        let mut entries = Box::new([NO_ENTRY; TABLES << 8]);
        for (table, entries) in groups.tables.iter().zip(entries.as_chunks_mut::<256>().0) {
            for (symbol, frequency, start) in table.symbols() {
                entries[usize::from(symbol)] = start << 12 | (frequency - 1);
            }
        }
        let map = map.map(|map| [(u32::from(map.of(0)), 0), (u32::from(map.of(1)), u32::from(map.of(0)))]);
        Writer {
            element_type,
            kind: Kind::of(element_type),
            low,
            groups,
            escape_table: escapes.map(EncodeTable::new),
            escape_symbols: Vec::new(),
            escape_states: [0; STATES_BYTES],
            escape_words: Vec::new(),
            entries,
            map,
            states: [START_STATE; LANES],
            words: Vec::new(),
            used: 0,
            escapes: Vec::new(),
            planes: [const { Vec::new() }; 3],
            chunks: Vec::new(),
        }
    }

    /// Codes a block, given which of its chunks differ from the base's; returns its numbers of
    /// words, words of escapes, escapes and coded elements.
    #[inline(always)]
    pub(super) fn block<S: Simd, W: Word>(
        &mut self,
        simd: S,
        base: &[u8],
        new: &[u8],
        differs: impl Fn(usize) -> bool,
    ) -> Result<[u32; 4], Error> {
        self.states = [START_STATE; LANES];
        self.used = 0;
        self.escapes.clear();
        self.escape_symbols.clear();
        let is_limited = self.groups.rare > 0;
        self.planes.iter_mut().for_each(Vec::clear);
        self.chunks.clear();
        let (mut contexts, mut symbols) = ([[0; CHUNK]; BATCH], [[0; CHUNK]; BATCH]);
        let (mut waiting, mut coded) = (0, 0);
        let chunks = base.chunks(CHUNK * W::BYTES).zip(new.chunks(CHUNK * W::BYTES));
        for (i, (base, new)) in chunks.enumerate() {
            if self.map.is_some() {
                let differs = differs(i);
                self.chunks.push(u8::from(differs));
                if !differs {
                    continue;
                }
            }
            let len = base.len() / W::BYTES;
            let (b, n) = (W::chunk(base), W::chunk(new));
            contexts[waiting] = self.kind.contexts(&b, &self.groups.thresholds);
            let (mut z, mut of) = ([W::default(); CHUNK], [0; CHUNK]);
            for i in 0..CHUNK {
                z[i] = self.kind.difference(n[i], b[i]);
                of[i] = z[i].symbol(self.low);
            }
            if is_limited {
                for (table, &limit) in (0..).zip(&self.groups.limits) {
                    for i in 0..CHUNK {
                        let is_rare = (contexts[waiting][i] == table) & (of[i] >= limit);
                        of[i] |= u8::from(is_rare).wrapping_neg();
                    }
                }
            }
            symbols[waiting] = of;
            for (plane, bytes) in self.planes.iter_mut().enumerate().take(self.low) {
                bytes.extend(z[..len].iter().map(|z| (z.wide() >> (8 * plane)) as u8));
            }
            let mut escapes = escapes(&of, len);
            while escapes != 0 {
                let i = escapes.trailing_zeros() as usize;
                if self.escape_table.is_some() {
                    let (coded, bytes) = split(self.element_type, n[i].wide());
                    self.escape_symbols.push(coded);
                    self.escapes.extend(&bytes[..W::BYTES - 1]);
                } else {
                    self.escapes.extend(&new[i * W::BYTES..(i + 1) * W::BYTES]);
                }
                escapes &= escapes - 1;
            }
            (waiting, coded) = (waiting + 1, coded + len);
            if waiting == BATCH || len < CHUNK {
                let len = (waiting - 1) * CHUNK + len;
                self.steps(simd, &contexts.as_flattened()[..len], &symbols.as_flattened()[..len])?;
                waiting = 0;
            }
        }
        let len = waiting * CHUNK;
        self.steps(simd, &contexts.as_flattened()[..len], &symbols.as_flattened()[..len])?;
        if let Some(map) = self.map {
            let chunks = core::mem::take(&mut self.chunks);
            self.reserve(chunks.len());
            for (i, &chunk) in chunks.iter().enumerate() {
                let (frequency, start) = map[usize::from(chunk)];
                self.symbol(i % LANES, frequency, start);
            }
            self.chunks = chunks;
        }
        let (mut escapes, mut escape_bytes) = (self.escapes.len() / W::BYTES, 0);
        if let Some(table) = &self.escape_table {
            escapes = self.escape_symbols.len();
            self.escape_words.resize(words_bound(escapes), 0);
            if escapes > 0 {
                let (states, words) = (&mut self.escape_states, &mut self.escape_words[..]);
                escape_bytes = table.encode_into(&self.escape_symbols, states, words)?;
            }
            self.escape_words.truncate(escape_bytes);
        }
        Ok([self.used, escape_bytes / WORD_BYTES, escapes, coded].map(|number| number as u32))
    }

    /// Makes room for the words of this many symbols.
    fn reserve(&mut self, symbols: usize) {
        let least = self.used + symbols + SLACK;
        if self.words.len() < least {
            self.words.resize(least.max(2 * self.words.len()), [0; 2]);
        }
    }

    /// Codes symbols, from a whole step on.
    #[inline(always)]
    fn steps<S: Simd>(&mut self, simd: S, contexts: &[u8], symbols: &[u8]) -> Result<(), Error> {
        self.reserve(symbols.len());
        let mut block = Appending { states: self.states, words: &mut self.words, used: self.used };
        let whole = contexts.as_chunks().0;
        let done = simd.encode_contexts(&self.entries, &mut block, whole, symbols.as_chunks().0) * LANES;
        (self.states, self.used) = (block.states, block.used);
        for (i, (context, symbol)) in contexts.iter().zip(symbols).enumerate().skip(done) {
            let entry = self.entries[(usize::from(*context) << 8 | usize::from(*symbol)) % (TABLES << 8)];
            if entry == NO_ENTRY {
                return Err(Error::NoFrequency { symbol: *symbol, index: i });
            }
            self.symbol(i % LANES, (entry & 0xfff) + 1, entry >> 12);
        }
        Ok(())
    }

    /// Codes one symbol.
    #[inline(always)]
    pub(super) fn symbol(&mut self, lane: usize, frequency: u32, start: u32) {
        let mut x = self.states[lane];
        if x >= frequency << (31 - SCALE_BITS) {
            if let Some(word) = self.words.get_mut(self.used) {
                *word = (x as u16).to_le_bytes();
            }
            self.used += 1;
            x >>= 16;
        }
        self.states[lane] = ((x / frequency) << SCALE_BITS) + x % frequency + start;
    }

    /// Appends the block that was coded last (B-5.6).
    pub(super) fn put(&self, out: &mut Vec<u8>) {
        self.states.iter().for_each(|state| out.extend(state.to_le_bytes()));
        if !self.escape_symbols.is_empty() {
            out.extend(self.escape_states);
        }
        out.extend(self.words[..self.used].as_flattened());
        out.extend(&self.escape_words);
        out.extend(&self.escapes);
        self.planes.iter().for_each(|plane| out.extend(plane));
        out.resize(out.len().next_multiple_of(4), 0);
    }
}
