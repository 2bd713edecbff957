//! Encoding in two steps: plan (the code and all sizes), then write.

use super::codebook::{Codebook, Entry};
use super::whole::{Encode, WholeUnit};
use crate::df11::{BLOCK_BITS, BLOCK_BYTES, GAP_BYTES_PER_BLOCK, MAX_ELEMENTS, Parts};
use crate::huffman::{CodeLengths, Codewords, FIRST_JUMP, MAX_CODE_LENGTH, PrefixTablesBuf};
use crate::{Error, Level, bf16};

/// From this many weights on, the table of pairs pays for its building.
#[cfg(feature = "alloc")]
const WORTH_PAIRS: usize = 1 << 16;

/// Choices that an encoder has; every combination gives a unit that any decoder of the layout
/// reads.
///
/// ```
/// use df11::EncodeOptions;
///
/// let unit = EncodeOptions::new().least_code_length(2).encode(&[&[0; 40_000]])?;
/// assert_eq!(unit.as_unit().largest_block(), 16_384);
/// # Ok::<(), df11::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EncodeOptions {
    least_code_length: u8,
    max_code_length: u8,
}

impl EncodeOptions {
    /// The best code, of 1 to 32 bits.
    #[must_use]
    pub const fn new() -> Self {
        EncodeOptions { least_code_length: 1, max_code_length: MAX_CODE_LENGTH }
    }

    /// The shortest codeword to use, in bits, 1 to 8; 1 by default. With 2, no block holds more
    /// than 16,384 elements, so that even a unit of zeros decodes within the shared memory that
    /// published loaders ask for.
    #[must_use]
    pub const fn least_code_length(mut self, bits: u8) -> Self {
        self.least_code_length = bits;
        self
    }

    /// The longest codeword to use, in bits, up to 32 (the default). Where the best code within
    /// this limit needs more than 17 prefix tables, the largest smaller limit that needs fewer is
    /// used instead.
    #[must_use]
    pub const fn max_code_length(mut self, bits: u8) -> Self {
        self.max_code_length = bits;
        self
    }
}

impl Default for EncodeOptions {
    fn default() -> Self {
        Self::new()
    }
}

/// A unit that is about to be encoded: its code, its tables, and the exact size of everything.
///
/// ```
/// use df11::{EncodeOptions, Parts, Plan, Unit};
///
/// let weights: &[u8] = &[0x80, 0x3f, 0x00, 0x40, 0x80, 0x3f];
/// let plan = Plan::new(&[weights], &EncodeOptions::new())?;
/// let sizes = plan.sizes();
///
/// // No allocator needed: the caller owns the memory.
/// let (mut luts, mut code, mut sign_mantissa) = ([0; 512], [0; 1], [0; 3]);
/// let (mut positions, mut gaps) = ([0; 8], [0; 320]);
/// assert_eq!((sizes.luts, sizes.encoded_exponent, sizes.output_positions), (512, 1, 8));
/// plan.encode_into(&[weights], Parts {
///     luts: &mut luts,
///     encoded_exponent: &mut code,
///     sign_mantissa: &mut sign_mantissa,
///     output_positions: &mut positions,
///     gaps: &mut gaps,
///     split_positions: &mut [],
/// })?;
///
/// let unit = Unit::new(Parts {
///     luts: &luts,
///     encoded_exponent: &code,
///     sign_mantissa: &sign_mantissa,
///     output_positions: &positions,
///     gaps: &gaps,
///     split_positions: &[],
/// })?;
/// let mut restored = [0; 6];
/// unit.decode_into(&mut restored)?;
/// assert_eq!(restored, weights);
/// # Ok::<(), df11::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Plan {
    codewords: Codewords,
    tables: PrefixTablesBuf,
    elements: usize,
    tensors: usize,
    code_bits: u64,
}

impl Plan {
    /// Plans the unit that these tensors make, in this order.
    ///
    /// Reads every weight once, for the histogram.
    ///
    /// # Errors
    ///
    /// Data that the layout cannot hold: [`Error::EmptyUnit`], [`Error::UnrepresentableExponent`]
    /// (with the element), [`Error::TooManyElements`], [`Error::TooManyCodeBytes`]. Wrong calls:
    /// [`Error::OddBytes`], and the errors of [`CodeLengths::from_frequencies`] for the options.
    pub fn new(tensors: &[&[u8]], options: &EncodeOptions) -> Result<Self, Error> {
        let mut frequencies = [0; 256];
        for tensor in tensors {
            bf16::add_to_histogram(tensor, &mut frequencies)?;
        }
        Self::from_frequencies(&frequencies, tensors.len(), options).map_err(|error| locate(error, tensors))
    }

    /// Plans a unit from the histogram of its exponents, for callers that have counted already.
    ///
    /// `tensors` is the number of tensors that the unit will be cut back into.
    ///
    /// ```
    /// use df11::{EncodeOptions, Plan};
    ///
    /// let mut frequencies = [0; 256];
    /// (frequencies[120], frequencies[121]) = (3000, 1000);
    /// let plan = Plan::from_frequencies(&frequencies, 2, &EncodeOptions::new())?;
    /// assert_eq!((plan.sizes().encoded_exponent, plan.sizes().split_positions), (500, 8));
    /// # Ok::<(), df11::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// As [`Plan::new`].
    pub fn from_frequencies(
        frequencies: &[u64; 256],
        tensors: usize,
        options: &EncodeOptions,
    ) -> Result<Self, Error> {
        let EncodeOptions { least_code_length: least, max_code_length: limit } = *options;
        let lengths = CodeLengths::from_frequencies(frequencies, least, limit)?;
        let plan = Self::with_lengths(frequencies, tensors, &lengths);
        if !matches!(plan, Err(Error::TooManyTables { .. })) {
            return plan;
        }
        // A code of at most 8 bits has a single table and room for all 240 exponents, so this ends.
        (least..limit)
            .rev()
            .filter_map(|limit| CodeLengths::from_frequencies(frequencies, least, limit).ok())
            .map(|lengths| Self::with_lengths(frequencies, tensors, &lengths))
            .find(|plan| !matches!(plan, Err(Error::TooManyTables { .. })))
            .unwrap_or(plan)
    }

    /// Plans a unit with code lengths of the caller's choice, which need not be the best ones.
    ///
    /// ```
    /// use df11::{Plan, bf16, hazmat::huffman::CodeLengths};
    ///
    /// let weights = [0x80, 0x3f, 0x00, 0x40, 0x80, 0x3f];
    /// let mut frequencies = [0; 256];
    /// bf16::add_to_histogram(&weights, &mut frequencies)?;
    /// let mut lengths = [0; 256];
    /// (lengths[127], lengths[128]) = (2, 9);
    /// let plan = Plan::with_lengths(&frequencies, 1, &CodeLengths::new(&lengths)?)?;
    /// assert_eq!(plan.code_bits(), 2 + 9 + 2);
    /// # Ok::<(), df11::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// The errors of [`Plan::new`]; [`Error::TooManyTables`] if the code needs more than 17 tables,
    /// [`Error::NoCodeword`] if an exponent occurs that it does not cover,
    /// [`Error::Oversubscribed`] if no prefix code has these lengths.
    pub fn with_lengths(
        frequencies: &[u64; 256],
        tensors: usize,
        lengths: &CodeLengths,
    ) -> Result<Self, Error> {
        let elements = frequencies.iter().fold(0u64, |sum, &f| sum.saturating_add(f));
        if elements == 0 || tensors == 0 {
            return Err(Error::EmptyUnit);
        }
        if let Some(exponent) = (FIRST_JUMP..=u8::MAX).find(|&e| frequencies[usize::from(e)] > 0) {
            return Err(Error::UnrepresentableExponent { element: None, exponent });
        }
        let elements = usize::try_from(elements)
            .ok()
            .filter(|&n| n <= MAX_ELEMENTS)
            .ok_or(Error::TooManyElements { elements })?;
        let code_bits = lengths.total_bits(frequencies)?;
        if code_bits.div_ceil(8) > MAX_ELEMENTS as u64 {
            return Err(Error::TooManyCodeBytes { bytes: code_bits.div_ceil(8) });
        }
        let codewords = Codewords::canonical(lengths)?;
        let tables = PrefixTablesBuf::build(&codewords)?;
        Ok(Plan { codewords, tables, elements, tensors, code_bits })
    }

    /// The exact size of each tensor that [`encode_into`](Self::encode_into) will write.
    #[must_use]
    pub fn sizes(&self) -> Parts<usize> {
        let encoded_exponent = self.code_bits.div_ceil(8) as usize;
        let blocks = encoded_exponent.div_ceil(BLOCK_BYTES);
        Parts {
            luts: self.tables.as_bytes().len(),
            encoded_exponent,
            sign_mantissa: self.elements,
            output_positions: 4 * (blocks + 1),
            gaps: GAP_BYTES_PER_BLOCK * blocks,
            split_positions: (self.tensors - 1).saturating_mul(8),
        }
    }

    /// The codewords that will be used.
    #[must_use]
    pub const fn codewords(&self) -> &Codewords {
        &self.codewords
    }

    /// The exact length of the code in bits, before it is filled up to a byte.
    #[must_use]
    pub const fn code_bits(&self) -> u64 {
        self.code_bits
    }

    /// The largest number of elements whose codewords will start in one block: what decides the
    /// shared memory that the published kernel asks for. Reads every weight once.
    ///
    /// # Errors
    ///
    /// [`Error::PlanMismatch`] or [`Error::OddBytes`] if the tensors are not the planned ones.
    ///
    /// ```
    /// use df11::{EncodeOptions, Plan};
    ///
    /// let zeros = vec![0u8; 2 * 40_000];
    /// let plan = Plan::new(&[&zeros], &EncodeOptions::new())?;
    /// let elements = plan.largest_block(&[&zeros])?; // one bit each
    /// assert_eq!(elements, 32_768);
    /// assert!(df11::shared_memory_bytes(elements) > df11::PUBLISHED_SHARED_MEMORY);
    /// # Ok::<(), df11::Error>(())
    /// ```
    pub fn largest_block(&self, tensors: &[&[u8]]) -> Result<u32, Error> {
        let (mut bit, mut block, mut elements, mut largest) = (0u64, 0u64, 0u32, 0u32);
        let mut element = 0u64;
        for tensor in tensors {
            for weight in bf16::weights(tensor)? {
                if bit / BLOCK_BITS != block {
                    (block, elements) = (bit / BLOCK_BITS, 0);
                }
                let length = self.codewords.len(bf16::exponent(u16::from_le_bytes(*weight)));
                if length == 0 {
                    return Err(Error::PlanMismatch { element });
                }
                bit += u64::from(length);
                elements += 1;
                element += 1;
                largest = largest.max(elements);
            }
        }
        Ok(largest)
    }

    /// Encodes the tensors that were planned into the caller's buffers.
    ///
    /// The bytes depend on the weights and the plan alone. The code is filled up to a whole byte
    /// with zeros, and `output_positions` always has its last entry.
    ///
    /// # Errors
    ///
    /// [`Error::BufferLength`] if a buffer does not have the length that [`sizes`](Self::sizes)
    /// gives; [`Error::PlanMismatch`] or [`Error::OddBytes`] if the tensors are not the planned
    /// ones. After an error, the content of the buffers is unspecified.
    pub fn encode_into(&self, tensors: &[&[u8]], out: Parts<&mut [u8]>) -> Result<(), Error> {
        #[cfg(feature = "alloc")]
        if self.elements >= WORTH_PAIRS {
            return super::Encoder::new(self).encode_into(tensors, out);
        }
        let codebook = Codebook::of(&self.codewords);
        self.encode_with(Level::best(), &codebook, |both| codebook.pair(both), tensors, out)
    }

    /// Encodes with these codewords, which are the plan's, and a way to look pairs of them up.
    pub(super) fn encode_with(
        &self,
        level: Level,
        codebook: &Codebook,
        pairs: impl Fn(u16) -> Entry + Copy,
        tensors: &[&[u8]],
        out: Parts<&mut [u8]>,
    ) -> Result<(), Error> {
        let mut out = out;
        self.write_fixed(tensors, &mut out)?;
        let sink = WholeUnit::new(out.encoded_exponent, out.output_positions, out.gaps, self.elements);
        let (sign_mantissa, code_bits) = (out.sign_mantissa, self.code_bits);
        level.dispatch(Encode { codebook, pairs, tensors, sign_mantissa, sink, code_bits })
    }

    /// Checks the buffers; writes what does not depend on the weights.
    pub(super) fn write_fixed(&self, tensors: &[&[u8]], out: &mut Parts<&mut [u8]>) -> Result<(), Error> {
        let sizes = self.sizes();
        bf16::expect_len("luts", out.luts.len(), sizes.luts)?;
        bf16::expect_len("encoded_exponent", out.encoded_exponent.len(), sizes.encoded_exponent)?;
        bf16::expect_len("sign_mantissa", out.sign_mantissa.len(), sizes.sign_mantissa)?;
        bf16::expect_len("output_positions", out.output_positions.len(), sizes.output_positions)?;
        bf16::expect_len("gaps", out.gaps.len(), sizes.gaps)?;
        bf16::expect_len("split_positions", out.split_positions.len(), sizes.split_positions)?;
        if tensors.len() != self.tensors {
            return Err(Error::PlanMismatch { element: 0 });
        }
        out.luts.copy_from_slice(self.tables.as_bytes());
        let mut end = 0u64;
        for (tensor, split) in tensors.iter().zip(out.split_positions.as_chunks_mut::<8>().0) {
            end += (tensor.len() / bf16::BYTES) as u64;
            *split = end.to_le_bytes();
        }
        Ok(())
    }
}

/// Adds the index of the first weight that cannot be represented to an error that lacks it.
pub(super) fn locate(error: Error, tensors: &[&[u8]]) -> Error {
    let Error::UnrepresentableExponent { element: None, .. } = error else { return error };
    let all = tensors.iter().flat_map(|tensor| tensor.as_chunks::<2>().0);
    all.map(|weight| bf16::exponent(u16::from_le_bytes(*weight)))
        .zip(0u64..)
        .find(|&(exponent, _)| exponent >= FIRST_JUMP)
        .map_or(error, |(exponent, element)| Error::UnrepresentableExponent {
            element: Some(element),
            exponent,
        })
}
