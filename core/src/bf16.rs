//! BF16 weights as two planes: exponents, and signs with mantissas.
//!
//! A BF16 value is `s eeeeeeee mmmmmmm`. DF11 codes the 8 exponent bits and stores the other 8 raw,
//! the sign in bit 7 and the mantissa below, so that a weight is rebuilt by two shifts. Weights
//! come and go as bytes, two per element, little-endian.

use df11_simd::{Operation, Simd, Write, Writer};

use crate::{Error, Level};

/// Bytes of one BF16 weight.
pub const BYTES: usize = 2;

/// The exponent byte of a BF16 bit pattern.
///
/// ```
/// assert_eq!(df11::bf16::exponent(0x3f80), 127); // 1.0
/// ```
#[inline]
#[must_use]
pub const fn exponent(bits: u16) -> u8 {
    (bits >> 7) as u8
}

/// The sign (bit 7) and the mantissa (bits 6 to 0) of a BF16 bit pattern.
///
/// ```
/// assert_eq!(df11::bf16::sign_mantissa(0xbfc0), 0b1100_0000); // -1.5
/// ```
#[inline]
#[must_use]
pub const fn sign_mantissa(bits: u16) -> u8 {
    ((bits >> 8) & 0x80) as u8 | (bits & 0x7f) as u8
}

/// Splits off the signs and mantissas of as many weights as `sign_mantissas` has room for.
#[inline(always)]
pub(crate) fn split_sign_mantissas(weights: &[[u8; 2]], sign_mantissas: &mut [u8]) {
    for (weight, to) in weights.iter().zip(sign_mantissas) {
        *to = sign_mantissa(u16::from_le_bytes(*weight));
    }
}

/// The BF16 bit pattern with this exponent, sign and mantissa.
///
/// ```
/// use df11::bf16;
///
/// for bits in 0..=u16::MAX {
///     assert_eq!(bf16::from_planes(bf16::exponent(bits), bf16::sign_mantissa(bits)), bits);
/// }
/// ```
#[inline]
#[must_use]
pub const fn from_planes(exponent: u8, sign_mantissa: u8) -> u16 {
    ((sign_mantissa as u16 & 0x80) << 8) | ((exponent as u16) << 7) | (sign_mantissa as u16 & 0x7f)
}

/// The weights in `bytes`, two little-endian bytes each.
///
/// # Errors
///
/// [`Error::OddBytes`] if the last weight is cut in half.
pub(crate) fn weights(bytes: &[u8]) -> Result<&[[u8; 2]], Error> {
    match bytes.as_chunks::<BYTES>() {
        (weights, []) => Ok(weights),
        _ => Err(Error::OddBytes { bytes: bytes.len() }),
    }
}

pub(crate) fn expect_len(buffer: &'static str, found: usize, expected: usize) -> Result<(), Error> {
    if found == expected {
        Ok(())
    } else {
        Err(Error::BufferLength { buffer, expected: expected as u64, found: found as u64 })
    }
}

/// Splits weights into their two planes.
///
/// `weights` holds two little-endian bytes per element; each plane gets one byte per element.
///
/// # Errors
///
/// [`Error::OddBytes`] if `weights` has an odd length, [`Error::BufferLength`] if a plane is not
/// half as long.
///
/// ```
/// use df11::bf16;
///
/// let (mut exponents, mut sign_mantissas) = ([0; 2], [0; 2]);
/// bf16::split(&[0x80, 0x3f, 0xc0, 0xbf], &mut exponents, &mut sign_mantissas)?; // 1.0, -1.5
/// assert_eq!((exponents, sign_mantissas), ([127, 127], [0x00, 0xc0]));
/// # Ok::<(), df11::Error>(())
/// ```
pub fn split(weights: &[u8], exponents: &mut [u8], sign_mantissas: &mut [u8]) -> Result<(), Error> {
    split_with(Level::best(), weights, exponents, sign_mantissas)
}

/// Splits as [`split`] does, with the instruction set of this level.
///
/// # Errors
///
/// The errors of [`split`].
///
/// ```
/// use df11::{Level, bf16};
///
/// let (mut exponents, mut sign_mantissas) = ([0; 1], [0; 1]);
/// bf16::split_with(Level::best(), &[0xc0, 0xbf], &mut exponents, &mut sign_mantissas)?; // -1.5
/// assert_eq!((exponents, sign_mantissas), ([127], [0xc0]));
/// # Ok::<(), df11::Error>(())
/// ```
pub fn split_with(
    level: Level,
    weights: &[u8],
    exponents: &mut [u8],
    sign_mantissas: &mut [u8],
) -> Result<(), Error> {
    let weights = self::weights(weights)?;
    expect_len("exponent plane", exponents.len(), weights.len())?;
    expect_len("sign_mantissa plane", sign_mantissas.len(), weights.len())?;
    level.dispatch(Split { weights, exponents, sign_mantissas });
    Ok(())
}

struct Split<'a> {
    weights: &'a [[u8; BYTES]],
    exponents: &'a mut [u8],
    sign_mantissas: &'a mut [u8],
}

impl Operation for Split<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, _: S) {
        for ((weight, e), sm) in self.weights.iter().zip(self.exponents).zip(self.sign_mantissas) {
            let bits = u16::from_le_bytes(*weight);
            *e = exponent(bits);
            *sm = sign_mantissa(bits);
        }
    }
}

/// Merges two planes into weights; the inverse of [`split`].
///
/// # Errors
///
/// [`Error::BufferLength`] if the planes differ in length or `weights` is not twice as long.
///
/// ```
/// use df11::bf16;
///
/// let mut weights = [0; 4];
/// bf16::merge(&[127, 127], &[0x00, 0xc0], &mut weights)?;
/// assert_eq!(weights, [0x80, 0x3f, 0xc0, 0xbf]); // 1.0, -1.5
/// # Ok::<(), df11::Error>(())
/// ```
pub fn merge(exponents: &[u8], sign_mantissas: &[u8], weights: &mut [u8]) -> Result<(), Error> {
    merge_with(Level::best(), exponents, sign_mantissas, weights)
}

/// Merges as [`merge`] does, with the instruction set of this level.
///
/// # Errors
///
/// The errors of [`merge`].
///
/// ```
/// use df11::{Level, bf16};
///
/// let mut weights = [0; 2];
/// bf16::merge_with(Level::best(), &[127], &[0xc0], &mut weights)?;
/// assert_eq!(weights, [0xc0, 0xbf]); // -1.5
/// # Ok::<(), df11::Error>(())
/// ```
pub fn merge_with(
    level: Level,
    exponents: &[u8],
    sign_mantissas: &[u8],
    weights: &mut [u8],
) -> Result<(), Error> {
    expect_len("sign_mantissa plane", sign_mantissas.len(), exponents.len())?;
    expect_len("weights", weights.len(), BYTES * exponents.len())?;
    level.dispatch(Merge { exponents, sign_mantissas, weights });
    Ok(())
}

struct Merge<'a> {
    exponents: &'a [u8],
    sign_mantissas: &'a [u8],
    weights: &'a mut [u8],
}

impl Operation for Merge<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        // These stores go through the caches, because the caller of a merge is likely to read the
        // weights next.
        Writer::lend(simd, self.weights, false, MergeAll(self.exponents, self.sign_mantissas));
    }
}

struct MergeAll<'a>(&'a [u8], &'a [u8]);

impl Write for MergeAll<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, _: S, writer: &mut Writer<'_, S>) {
        writer.merge(0, self.0, self.1);
    }
}

/// Adds the exponents of `weights` to a histogram indexed by exponent.
///
/// # Errors
///
/// [`Error::OddBytes`] if `weights` has an odd length.
///
/// ```
/// let mut frequencies = [0; 256];
/// df11::bf16::add_to_histogram(&[0x80, 0x3f, 0xc0, 0xbf], &mut frequencies)?;
/// assert_eq!(frequencies[127], 2);
/// # Ok::<(), df11::Error>(())
/// ```
pub fn add_to_histogram(weights: &[u8], frequencies: &mut [u64; 256]) -> Result<(), Error> {
    let weights = self::weights(weights)?;
    if weights.len() < WORTH_ROWS {
        for weight in weights {
            frequencies[usize::from(exponent(u16::from_le_bytes(*weight)))] += 1;
        }
        return Ok(());
    }
    // A chunk of 2^30 weights cannot overflow a u32.
    for chunk in weights.chunks(1 << 30) {
        if chunk.len() >= WORTH_SAMPLE && Level::best().dispatch(CountWindow(chunk, frequencies)) {
            continue;
        }
        #[cfg(feature = "alloc")]
        if chunk.len() >= WORTH_PAIRS {
            Level::best().dispatch(CountPairs(chunk, frequencies));
            continue;
        }
        // Neighbouring weights often share an exponent. With one row of counters, each increment
        // would wait for the store of the previous one. Eight interleaved rows keep them apart.
        let mut rows = [[0u32; 256]; 8];
        let (eights, rest) = chunk.as_chunks::<8>();
        for eight in eights {
            for (weight, row) in eight.iter().zip(&mut rows) {
                row[usize::from(exponent(u16::from_le_bytes(*weight)))] += 1;
            }
        }
        for weight in rest {
            rows[0][usize::from(exponent(u16::from_le_bytes(*weight)))] += 1;
        }
        for row in &rows {
            for (total, count) in frequencies.iter_mut().zip(row) {
                *total += u64::from(*count);
            }
        }
    }
    Ok(())
}

/// From this many weights on, several rows of counters pay for their clearing and adding up.
const WORTH_ROWS: usize = 1 << 9;

/// From this many weights on, examining a sample of them pays.
const WORTH_SAMPLE: usize = 1 << 13;

/// Counts exponents if the CPU has vectors for it and nearly all exponents are among 16 consecutive
/// ones. Returns whether it did.
struct CountWindow<'a>(&'a [[u8; BYTES]], &'a mut [u64; 256]);

impl Operation for CountWindow<'_> {
    type Output = bool;

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) -> bool {
        /// The exponents that are counted at once.
        const WINDOW: usize = 16;
        /// The size of the sample, and how many of its exponents may lie outside the window.
        const SAMPLE: usize = 1024;
        const OTHERS: u32 = 10;
        let CountWindow(weights, frequencies) = self;
        if !S::COUNTS {
            return false;
        }
        let mut sample = [0u32; 256];
        let mut number = 0;
        for weight in weights.iter().step_by(weights.len().div_ceil(SAMPLE)) {
            sample[usize::from(exponent(u16::from_le_bytes(*weight)))] += 1;
            number += 1;
        }
        let counts = sample.windows(WINDOW).map(|window| window.iter().sum::<u32>());
        let Some((first, found)) = (0u8..).zip(counts).max_by_key(|(_, count)| *count) else { return false };
        if found + OTHERS < number {
            return false;
        }
        let (many, rest) = weights.as_chunks();
        simd.count_exponents(many, first, frequencies);
        for weight in rest {
            frequencies[usize::from(exponent(u16::from_le_bytes(*weight)))] += 1;
        }
        true
    }
}

/// From this many weights on, counting pairs pays for the clearing and adding up of their counters.
#[cfg(feature = "alloc")]
const WORTH_PAIRS: usize = 1 << 18;

/// Counts pairs of neighbouring exponents below 128, which takes half as many increments: 10
/// instead of 6 GB/s. Weights from 2 up are counted one by one; they are rare.
#[cfg(feature = "alloc")]
struct CountPairs<'a>(&'a [[u8; BYTES]], &'a mut [u64; 256]);

#[cfg(feature = "alloc")]
impl Operation for CountPairs<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        use alloc::vec;
        /// The highest exponent bit of four weights.
        const FROM_128: u64 = 0x4000_4000_4000_4000;
        let CountPairs(weights, frequencies) = self;
        let mut count = |weight: u16, number: u64| frequencies[usize::from(exponent(weight))] += number;
        // Two rows of counters, for the reason above. Their distance is not a round number, since
        // some caches confuse addresses that agree in some of their bits.
        let mut counters = vec![0u32; (2 << 14) + 1040];
        let (eights, rest) = weights.as_chunks::<8>();
        let (first, second) = counters.split_at_mut((1 << 14) + 1040);
        if let (Some(first), Some(second)) =
            (first.first_chunk_mut::<16384>(), second.first_chunk_mut::<16384>())
        {
            for eight in eights {
                let (words, _) = eight.as_flattened().as_chunks();
                let [a, b] = [0, 1].map(|i| u64::from_le_bytes(words[i]));
                if (a | b) & FROM_128 == 0 {
                    let ([i, j], [k, l]) = (simd.two_pairs(a), simd.two_pairs(b));
                    first[i] += 1;
                    second[j] += 1;
                    first[k] += 1;
                    second[l] += 1;
                } else {
                    eight.iter().for_each(|weight| count(u16::from_le_bytes(*weight), 1));
                }
            }
            for (i, (first, second)) in (0u16..).zip(first.iter().zip(second)) {
                let pairs = u64::from(*first) + u64::from(*second);
                count((i & 0x7f) << 7, pairs);
                count(i & !0x7f, pairs);
            }
        }
        rest.iter().for_each(|weight| count(u16::from_le_bytes(*weight), 1));
    }
}

#[cfg(test)]
mod tests {
    extern crate std;

    use super::*;

    #[test]
    fn merge_undoes_split_for_every_bit_pattern() {
        let mut weights = [0u8; 2 * 65536];
        for (bits, weight) in (0..=u16::MAX).zip(weights.as_chunks_mut::<2>().0) {
            *weight = bits.to_le_bytes();
        }
        let (mut e, mut sm, mut back) = ([0u8; 65536], [0u8; 65536], [0u8; 2 * 65536]);
        split(&weights, &mut e, &mut sm).unwrap();
        merge(&e, &sm, &mut back).unwrap();
        assert_eq!(back, weights);
    }

    #[test]
    fn histogram_counts_every_weight_once_at_every_remainder() {
        let ones = [[0x80u8, 0x3f]; 9];
        for n in 0..=9 {
            let mut frequencies = [0u64; 256];
            add_to_histogram(ones[..n].as_flattened(), &mut frequencies).unwrap();
            assert_eq!(frequencies[127], n as u64);
            assert_eq!(frequencies.iter().sum::<u64>(), n as u64);
        }
    }

    #[cfg(feature = "alloc")]
    #[test]
    fn histogram_of_many_is_the_sum_of_those_of_few_on_every_level() {
        // Neighbours below 128, above, and both, in every place of four.
        let weights: std::vec::Vec<[u8; 2]> = (0..(1u32 << 18) + 3)
            .map(|i| ((i.wrapping_mul(0x9e37_79b9) >> 13) as u16).to_le_bytes())
            .collect();
        let mut expected = [0; 256];
        for few in weights.chunks(1000) {
            add_to_histogram(few.as_flattened(), &mut expected).unwrap();
        }
        for level in Level::all() {
            let mut frequencies = [0; 256];
            level.dispatch(CountPairs(&weights, &mut frequencies));
            assert_eq!(frequencies, expected, "{}", level.name());
        }
    }

    #[test]
    fn wrong_lengths_are_refused() {
        assert_eq!(split(&[1, 2, 3], &mut [0], &mut [0]), Err(Error::OddBytes { bytes: 3 }));
        assert!(split(&[1, 2], &mut [0, 0], &mut [0]).is_err());
        assert!(merge(&[1], &[1, 2], &mut [0, 0]).is_err());
        assert!(merge(&[1], &[1], &mut [0, 0, 0]).is_err());
    }
}
