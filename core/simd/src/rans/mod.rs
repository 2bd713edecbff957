//! Steps of interleaved rANS, several lanes at a time.
//!
//! The algorithm, for the levels that have it ([`Simd::RANS`](crate::Simd::RANS)): eight lanes
//! gather their slots from a table.
//!
//! AVX2 and NEON do 32 lanes at a time without gathers where 16 symbols make nearly all of an
//! alphabet, as they do of exponents: tables of 16 entries fit registers, and what is not in them
//! is noticed and looked up in the table of all.
//!
//! AVX-512 does 32 lanes at a time without gathers: these take a processor longer than everything
//! else, and alphabets of exponents are small. So the symbol of a slot is found in tables that fit
//! registers: the top seven bits of the slot choose a *bucket*, which knows the first symbol that
//! has slots in it; one comparison says whether the slot belongs to the next one. Rare symbols
//! crowd into one bucket; as they are the least and the greatest exponents, their slots lie at both
//! ends, and the 64 slots at either end are looked up directly. Alphabets for which that is not
//! enough go another way.
//!
//! Encoding divides, in single precision: a quotient has at most 22 bits, so rounding towards zero
//! makes it right or one too little, and a comparison of the remainder tells which.

mod window;
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
mod words;

#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
pub(crate) use window::Bytes;
#[cfg(any(target_arch = "x86_64", test))]
pub(crate) use window::reciprocal;
pub use window::{DecodeWindow, EncodeWindow};
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
pub(crate) use words::{COMPRESS, EXPAND};

/// Lanes of a block: one word of 16 bits each in a vector of 512.
pub const LANES: usize = 32;

/// The state in which every lane begins to encode, and in which it ends decoding.
pub const START_STATE: u32 = 1 << 15;

/// Tells whether a step can take 32 words, of which `left` are left, and 32 can be read from
/// wherever it ends.
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
#[inline(always)]
pub(crate) fn has_step(words: &[[u8; 2]], left: usize) -> bool {
    left >= LANES && words.len().checked_sub(LANES).is_some_and(|most| left <= most)
}

/// Slots at either end that are looked up directly.
const ENDS: usize = 64;

/// Symbols with a frequency of an alphabet that fits.
const SYMBOLS: usize = 64;

/// What finds symbols by slots, in registers. A *rank* is the number of a symbol among those that
/// have a frequency.
#[derive(Clone, Debug)]
#[repr(C, align(64))]
pub struct RansTable {
    /// By bucket: the rank of its first slot, and [`ENDS_MARK`].
    pub(crate) buckets: [u8; 128],
    /// By the low seven bits of a slot near either end: its rank.
    pub(crate) ends: [u8; 2 * ENDS],
    /// By rank: one past the last slot, less one; the frequency; the first slot; the symbol.
    pub(crate) lasts: [u16; SYMBOLS],
    pub(crate) frequencies: [u16; SYMBOLS],
    pub(crate) starts: [u16; SYMBOLS],
    pub(crate) symbols: [u8; SYMBOLS],
    /// By symbol: its rank, [`NO_RANK`] without a frequency.
    pub(crate) ranks: [u8; 256],
    pub(crate) scale_bits: u32,
    /// Whether slots can be looked up, or only symbols.
    pub(crate) has_slots: bool,
}

/// Set in buckets at either end, whose slots are looked up directly.
pub(crate) const ENDS_MARK: u8 = 0x80;

/// The rank of a symbol without a frequency.
pub(crate) const NO_RANK: u8 = 0x80;

impl RansTable {
    /// The table of these frequencies, whose sum must be 2 to the power of `scale_bits`, 9 to 12.
    /// `None` if they are others, or of more than 64 symbols.
    ///
    /// ```
    /// use df11_simd::rans::RansTable;
    ///
    /// let mut frequencies = [0; 256];
    /// (frequencies[120], frequencies[121]) = (300, 212);
    /// assert!(RansTable::new(&frequencies, 9).is_some());
    /// assert!(RansTable::new(&frequencies, 10).is_none());
    /// ```
    #[must_use]
    pub fn new(frequencies: &[u16; 256], scale_bits: u32) -> Option<Self> {
        let sum: u32 = frequencies.iter().map(|&frequency| u32::from(frequency)).sum();
        if !(9..=12).contains(&scale_bits) || sum != 1 << scale_bits {
            return None;
        }
        let mut table = RansTable {
            buckets: [0; 128],
            ends: [0; 2 * ENDS],
            lasts: [u16::MAX; SYMBOLS],
            frequencies: [0; SYMBOLS],
            starts: [0; SYMBOLS],
            symbols: [0; SYMBOLS],
            ranks: [NO_RANK; 256],
            scale_bits,
            has_slots: true,
        };
        let slots = 1usize << scale_bits;
        let (mut rank, mut slot) = (0, 0);
        for (symbol, &frequency) in (0..=u8::MAX).zip(frequencies).filter(|(_, frequency)| **frequency > 0) {
            *table.symbols.get_mut(rank)? = symbol;
            table.ranks[usize::from(symbol)] = rank as u8;
            table.frequencies[rank] = frequency;
            table.starts[rank] = slot as u16;
            for slot in slot..slot + usize::from(frequency) {
                let bucket = slot >> (scale_bits - 7);
                if slot.trailing_zeros() >= scale_bits - 7 {
                    table.buckets[bucket] = rank as u8;
                }
                if slot < ENDS || slot >= slots - ENDS {
                    table.ends[slot % (2 * ENDS)] = rank as u8;
                } else if rank > usize::from(table.buckets[bucket]) + 1 {
                    table.has_slots = false;
                }
            }
            slot += usize::from(frequency);
            table.lasts[rank] = (slot - 1) as u16;
            rank += 1;
        }
        let at_end = ENDS >> (scale_bits - 7);
        for bucket in (0..at_end).chain(128 - at_end..128) {
            table.buckets[bucket] |= ENDS_MARK;
        }
        Some(table)
    }
}

/// What finds symbols by slots.
#[derive(Clone, Copy, Debug)]
pub struct DecodeTables<'a> {
    /// By slot: the symbol in the low byte, above it the frequency less one, 12 bits, and the slot
    /// less the cumulative frequency, 12 bits.
    pub slots: &'a [u32; 1 << 12],
    /// 9 to 12.
    pub scale_bits: u32,
    /// The same for small alphabets.
    pub ranks: Option<&'a RansTable>,
    /// The same for alphabets of which 16 symbols make nearly all.
    pub window: Option<&'a DecodeWindow>,
}

/// What finds frequencies by symbols.
#[derive(Clone, Copy, Debug)]
pub struct EncodeTables<'a> {
    /// By symbol: the frequency less one, 12 bits, and above it the cumulative frequency, 12 bits;
    /// [`NO_ENTRY`] without a frequency.
    pub entries: &'a [u32; 256],
    /// 9 to 12.
    pub scale_bits: u32,
    /// The same for small alphabets.
    pub ranks: Option<&'a RansTable>,
    /// The same for alphabets of which 16 symbols make nearly all.
    pub window: Option<&'a EncodeWindow>,
}

/// The entry of a symbol without a frequency.
pub const NO_ENTRY: u32 = u32::MAX;

/// A block that is being encoded, from its first step to its last.
#[derive(Debug)]
pub struct Writing<'a> {
    /// The states of the lanes.
    pub states: [u32; LANES],
    /// The symbols of the steps that are left, 32 each.
    pub symbols: &'a [[u8; LANES]],
    /// Words, two bytes each, and room for more.
    pub words: &'a mut [[u8; 2]],
    /// How many words there are.
    pub used: usize,
}

/// A block that is being decoded, from its last step to its first.
#[derive(Debug)]
pub struct Stream<'a> {
    /// The states of the lanes.
    pub states: [u32; LANES],
    /// Words, two bytes each.
    pub words: &'a [[u8; 2]],
    /// How many of them are left; those after them may be there or not.
    pub left: usize,
    /// The symbols of the steps that are left, 32 each; the last of them comes next.
    pub symbols: &'a mut [[u8; LANES]],
}

#[cfg(test)]
mod tests;
