//! Tables of 16 entries each, which a byte shuffle looks up: 16 symbols in the middle of an
//! alphabet.
//!
//! Decoding finds a symbol by its slot in two steps, as if slots had 12 bits. The top four choose
//! one of 16 *buckets*; in the first bucket, where rare symbols crowd, the next four choose one of
//! 16 buckets more. A bucket knows the first of up to three symbols, and the last slots of two of
//! them. What is found may be wrong, because a symbol is outside the 16, or a bucket has more than
//! three: then the slot less the symbol's first slot is no number below its frequency, which is how
//! decoders notice. So tables need not suit an alphabet for its symbols to be decoded rightly, only
//! quickly.

/// Entries of a table.
const ENTRIES: usize = 16;

/// Of a thousand symbols, the most that may be looked up wrongly for it to pay: each costs as much
/// as a step of all lanes.
const MOST_MISSES: u32 = 3;

/// How many slots are likely to be asked for in vain: those of all symbols outside the 16. A
/// frequency of 1 is mostly one of nearly 0 that was rounded up, and counts as a quarter.
fn misses(outside: impl Iterator<Item = u16>) -> u32 {
    outside.map(|frequency| if frequency == 1 { 1 } else { 4 * u32::from(frequency) }).sum::<u32>() / 4
}

/// Whether so many of 2^`scale_bits` slots are few enough.
fn are_few(misses: u32, scale_bits: u32) -> bool {
    1000 * misses <= MOST_MISSES << scale_bits
}

/// A table of 16 bytes, as a shuffle wants it.
pub(crate) type Bytes = [u8; ENTRIES];

/// What finds symbols by slots. A *rank* is the number of a symbol among the 16.
#[derive(Clone, Debug)]
#[cfg_attr(not(any(target_arch = "x86_64", target_arch = "aarch64")), allow(dead_code))]
pub struct DecodeWindow {
    /// By the top four bits of a slot: the rank of the first symbol. Of the first bucket: 0.
    pub(crate) firsts: Bytes,
    /// The low byte of the last slot of that symbol, with the top bit changed, so that
    /// signed numbers compare as unsigned ones do; and of the next symbol. Of the first bucket: 0.
    pub(crate) lasts: [Bytes; 2],
    /// `firsts` and `lasts` for the first bucket, by the next four bits of a slot.
    pub(crate) low_firsts: Bytes,
    pub(crate) low_lasts: [Bytes; 2],
    /// By rank: the frequency and the first slot, as if there were 2^16 slots, low and high byte
    /// each; the symbol.
    pub(crate) frequencies: [Bytes; 2],
    pub(crate) starts: [Bytes; 2],
    pub(crate) symbols: Bytes,
    pub(crate) scale_bits: u32,
}

/// The slots of one symbol, as if there were 2^12 of them.
#[derive(Clone, Copy, Debug)]
struct Slots {
    start: u32,
    end: u32,
}

impl Slots {
    /// How many of them are at least `from` and less than `to`.
    fn within(self, from: u32, to: u32) -> u32 {
        self.end.min(to).saturating_sub(self.start.max(from))
    }
}

impl DecodeWindow {
    /// The table of these frequencies, whose sum must be 2 to the power of `scale_bits`, 9 to 12.
    /// `None` if they are others, or there is only one symbol, or more than 0.3 % of them would be
    /// looked up wrongly.
    ///
    /// ```
    /// use df11_simd::rans::DecodeWindow;
    ///
    /// let mut frequencies = [0; 256];
    /// (frequencies[120], frequencies[121]) = (300, 212);
    /// assert!(DecodeWindow::new(&frequencies, 9).is_some());
    /// assert!(DecodeWindow::new(&[2; 256], 9).is_none());
    /// ```
    #[must_use]
    pub fn new(frequencies: &[u16; 256], scale_bits: u32) -> Option<Self> {
        let (window, misses) = Self::with_misses(frequencies, scale_bits)?;
        are_few(misses, scale_bits).then_some(window)
    }

    /// The table of these frequencies, however many symbols it gets wrong: of 2^`scale_bits`, so
    /// many.
    pub(crate) fn with_misses(frequencies: &[u16; 256], scale_bits: u32) -> Option<(Self, u32)> {
        let sum: u32 = frequencies.iter().map(|&frequency| u32::from(frequency)).sum();
        // All slots, as if there were 2^16, would be a frequency that does not fit.
        let is_one = frequencies.iter().any(|&frequency| u32::from(frequency) == sum);
        if !(9..=12).contains(&scale_bits) || sum != 1 << scale_bits || is_one {
            return None;
        }
        let mut window = DecodeWindow {
            firsts: [0; ENTRIES],
            lasts: [[0; ENTRIES]; 2],
            low_firsts: [0; ENTRIES],
            low_lasts: [[0; ENTRIES]; 2],
            frequencies: [[0; ENTRIES]; 2],
            starts: [[0; ENTRIES]; 2],
            symbols: [0; ENTRIES],
            scale_bits,
        };
        let mut all = [(0, 0); 256];
        let mut len = 0;
        for (symbol, &frequency) in (0..=u8::MAX).zip(frequencies).filter(|(_, frequency)| **frequency > 0) {
            all[len] = (symbol, frequency);
            len += 1;
        }
        // The 16 symbols, next to each other in the alphabet, that have the most slots.
        let slots_from =
            |first: usize| all[first..len.min(first + ENTRIES)].iter().map(|(_, f)| *f).sum::<u16>();
        let first = (0..len).rev().max_by_key(|first| slots_from(*first)).unwrap_or(0);
        let mut start = all[..first].iter().map(|(_, frequency)| *frequency).sum::<u16>();
        let up = 12 - scale_bits;
        let mut ranks = [Slots { start: 0, end: 0 }; ENTRIES];
        for (rank, &(symbol, frequency)) in all[first..len].iter().take(ENTRIES).enumerate() {
            let of_16_bits = |number: u16| (number << (16 - scale_bits)).to_le_bytes();
            [window.frequencies[0][rank], window.frequencies[1][rank]] = of_16_bits(frequency);
            [window.starts[0][rank], window.starts[1][rank]] = of_16_bits(start);
            window.symbols[rank] = symbol;
            ranks[rank] = Slots { start: u32::from(start) << up, end: u32::from(start + frequency) << up };
            start += frequency;
        }
        // What is in the window, less what is found there.
        let mut wrong: u32 = ranks.iter().map(|slots| slots.end - slots.start).sum();
        for bucket in 1..ENTRIES {
            let found = Bucket::new(&ranks, 256 * bucket as u32, 256);
            window.firsts[bucket] = found.first;
            [window.lasts[0][bucket], window.lasts[1][bucket]] = found.lasts;
            wrong -= found.right;
        }
        for bucket in 0..ENTRIES {
            let found = Bucket::new(&ranks, 16 * bucket as u32, 16);
            window.low_firsts[bucket] = found.first;
            [window.low_lasts[0][bucket], window.low_lasts[1][bucket]] = found.lasts;
            wrong -= found.right;
        }
        let outside = all[..first].iter().chain(all[..len].iter().skip(first + ENTRIES));
        Some((window, misses(outside.map(|(_, frequency)| *frequency)) + (wrong >> up)))
    }
}

/// What a bucket knows.
struct Bucket {
    first: u8,
    lasts: [u8; 2],
    /// How many of its slots are looked up rightly.
    right: u32,
}

impl Bucket {
    /// The bucket of `len` slots from `from` on: of those ranks, three in turn that have the most
    /// of them.
    fn new(ranks: &[Slots; ENTRIES], from: u32, len: u32) -> Self {
        let to = from + len;
        let mut best = Bucket { first: 0, lasts: [0x7f; 2], right: 0 };
        for (first, of_first) in ranks.iter().enumerate() {
            let mut right = of_first.within(from, to);
            // A slot is beyond the last of all where there is no next symbol in the bucket.
            let mut lasts = [0x7f; 2];
            for (last, pair) in lasts.iter_mut().zip(ranks.get(first..).unwrap_or_default().windows(2)) {
                let more = pair[1].within(from, to);
                if more == 0 || pair[0].end <= from {
                    break;
                }
                *last = (pair[0].end - 1) as u8 ^ 0x80;
                right += more;
            }
            if right > best.right {
                best = Bucket { first: first as u8, lasts, right };
            }
        }
        best
    }
}

/// What finds frequencies by symbols.
#[derive(Clone, Debug)]
#[cfg_attr(not(any(target_arch = "x86_64", target_arch = "aarch64")), allow(dead_code))]
pub struct EncodeWindow {
    /// The first of up to 16 symbols that follow each other, and how many follow it. All have a
    /// frequency.
    pub(crate) first: u8,
    pub(crate) more: u8,
    /// By symbol, less the first one, low and high byte each: the upper half of the least state
    /// that is full, which is the frequency times 2 to the power of 15 less the scale bits; the
    /// first slot.
    pub(crate) limits: [Bytes; 2],
    pub(crate) starts: [Bytes; 2],
    /// The four bytes of [`reciprocal`].
    pub(crate) reciprocals: [Bytes; 4],
    pub(crate) scale_bits: u32,
}

/// `1 / frequency`, in single precision, or less by at most 6 parts in 2^24: so that its product
/// with a number, both rounded to nearest, is not more than the quotient.
pub(crate) fn reciprocal(frequency: u16) -> f32 {
    // Each rounding adds at most one part in 2^24, the division and its product here too.
    1.0 / f32::from(frequency) * (1.0 - 4.0 / (1 << 24) as f32)
}

impl EncodeWindow {
    /// The table of these frequencies, whose sum must be 2 to the power of `scale_bits`, 10 to 12.
    /// `None` if they are others, or there is only one symbol, or more than 0.3 % of them are not
    /// among the 16.
    ///
    /// ```
    /// use df11_simd::rans::EncodeWindow;
    ///
    /// let mut frequencies = [0; 256];
    /// (frequencies[120], frequencies[121]) = (600, 424);
    /// assert!(EncodeWindow::new(&frequencies, 10).is_some());
    /// assert!(EncodeWindow::new(&[4; 256], 10).is_none());
    /// ```
    #[must_use]
    pub fn new(frequencies: &[u16; 256], scale_bits: u32) -> Option<Self> {
        let (window, misses) = Self::with_misses(frequencies, scale_bits)?;
        are_few(misses, scale_bits).then_some(window)
    }

    /// The table of these frequencies, however many symbols are not in it: of 2^`scale_bits`, so
    /// many.
    pub(crate) fn with_misses(frequencies: &[u16; 256], scale_bits: u32) -> Option<(Self, u32)> {
        let sum: u32 = frequencies.iter().map(|&frequency| u32::from(frequency)).sum();
        let is_one = frequencies.iter().any(|&frequency| u32::from(frequency) == sum);
        // With 9, quotients have 22 bits, and a product in single precision may be too small by 2.
        if !(10..=12).contains(&scale_bits) || sum != 1 << scale_bits || is_one {
            return None;
        }
        // Up to 16 symbols that follow each other, and have the most slots.
        let from =
            |first: usize| frequencies[first..].iter().take(ENTRIES).take_while(|frequency| **frequency > 0);
        let first = (0..256).rev().max_by_key(|first| from(*first).sum::<u16>())?;
        let mut start = frequencies[..first].iter().sum::<u16>();
        let mut window = EncodeWindow {
            first: first as u8,
            more: from(first).count() as u8 - 1,
            limits: [[0; ENTRIES]; 2],
            starts: [[0; ENTRIES]; 2],
            reciprocals: [[0; ENTRIES]; 4],
            scale_bits,
        };
        for (i, &frequency) in from(first).enumerate() {
            [window.limits[0][i], window.limits[1][i]] = (frequency << (15 - scale_bits)).to_le_bytes();
            [window.starts[0][i], window.starts[1][i]] = start.to_le_bytes();
            let bytes = reciprocal(frequency).to_le_bytes();
            window.reciprocals.iter_mut().zip(bytes).for_each(|(table, byte)| table[i] = byte);
            start += frequency;
        }
        let outside = frequencies[..first].iter().chain(frequencies.iter().skip(first + from(first).count()));
        Some((window, misses(outside.copied())))
    }
}
