//! Encoding in two steps: plan (the code and all sizes), then write.

use df11_simd::Level;

use super::encoder::{Codebook, Encode, Entry, WholeUnit};
use super::{BLOCK_BITS, BLOCK_BYTES, GAP_BYTES_PER_BLOCK, MAX_ELEMENTS};
use crate::huffman::{CodeLengths, Codewords, FIRST_JUMP, MAX_CODE_LENGTH, MAX_ROWS, PrefixTablesBuf};
use crate::{Error, bf16};

/// From this many weights on, the table of pairs pays for its building.
#[cfg(feature = "alloc")]
const WORTH_PAIRS: usize = 1 << 16;

/// Choices that an encoder has; every combination gives a unit that any decoder of the layout reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// The shortest codeword to use, in bits, 1 to 8; 1 by default. With 2, no block holds more than 16,384 elements, so
    /// that even a unit of zeros decodes within the shared memory that published loaders ask for.
    pub least_code_length: u8,
    /// The longest codeword to use, in bits, up to 32 (the default). Where the best code within this limit needs more
    /// than 17 prefix tables, the largest smaller limit that needs fewer is used instead.
    pub max_code_length: u8,
}

impl Default for Options {
    fn default() -> Self {
        Options { least_code_length: 1, max_code_length: MAX_CODE_LENGTH }
    }
}

/// The exact size in bytes of each tensor of a unit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sizes {
    /// `luts`, a multiple of 256.
    pub luts: usize,
    /// `encoded_exponent`.
    pub encoded_exponent: usize,
    /// `sign_mantissa`: the number of elements.
    pub sign_mantissa: usize,
    /// `output_positions`, 4 for each block and 4 more.
    pub output_positions: usize,
    /// `gaps`, 320 for each block.
    pub gaps: usize,
    /// `split_positions`, 8 for each tensor but one.
    pub split_positions: usize,
}

impl Sizes {
    /// The most that each tensor of a unit takes whose code [`Plan::new`] or [`Plan::from_frequencies`] has chosen, whatever the
    /// weights are: to set memory aside before they are known. `None` if no unit holds so many elements.
    ///
    /// ```
    /// use df11::{Options, Plan, Sizes};
    ///
    /// let weights = [0x80, 0x3f, 0x00, 0x40];
    /// let (bound, sizes) = (Sizes::bound(2, 1).ok_or("too many")?, Plan::new(&[&weights], &Options::default())?.sizes());
    /// assert!(sizes.luts <= bound.luts && sizes.encoded_exponent <= bound.encoded_exponent);
    /// assert_eq!((sizes.sign_mantissa, sizes.gaps), (bound.sign_mantissa, bound.gaps));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub const fn bound(elements: usize, tensors: usize) -> Option<Sizes> {
        if elements > MAX_ELEMENTS || elements == 0 || tensors == 0 {
            return None;
        }
        // With 8 bits for each of 240 symbols there is a code within every limit, and none that is chosen is longer.
        let encoded_exponent = elements;
        let blocks = encoded_exponent.div_ceil(BLOCK_BYTES);
        Some(Sizes {
            luts: 256 * MAX_ROWS,
            encoded_exponent,
            sign_mantissa: elements,
            output_positions: 4 * (blocks + 1),
            gaps: GAP_BYTES_PER_BLOCK * blocks,
            split_positions: (tensors - 1).saturating_mul(8),
        })
    }

    /// The sum of all six.
    ///
    /// ```
    /// use df11::{Options, Plan};
    ///
    /// let plan = Plan::new(&[&[0x80, 0x3f]], &Options::default())?;
    /// // Two rows of tables, a byte of code, a byte of sign and mantissa, two positions, a block of gaps.
    /// assert_eq!(plan.sizes().total(), 512 + 1 + 1 + 8 + 320);
    /// # Ok::<(), df11::Error>(())
    /// ```
    #[must_use]
    pub const fn total(&self) -> u64 {
        self.luts as u64
            + self.encoded_exponent as u64
            + self.sign_mantissa as u64
            + self.output_positions as u64
            + self.gaps as u64
            + self.split_positions as u64
    }
}

/// Where [`Plan::encode_into`] writes; each slice as long as [`Plan::sizes`] says.
#[derive(Debug)]
pub struct Buffers<'a> {
    /// Prefix tables and code lengths.
    pub luts: &'a mut [u8],
    /// Codewords.
    pub encoded_exponent: &'a mut [u8],
    /// Signs and mantissas.
    pub sign_mantissa: &'a mut [u8],
    /// Output positions.
    pub output_positions: &'a mut [u8],
    /// Gaps.
    pub gaps: &'a mut [u8],
    /// Split positions.
    pub split_positions: &'a mut [u8],
}

/// A unit that is about to be encoded: its code, its tables, and the exact size of everything.
///
/// ```
/// use df11::{Buffers, Options, Plan, Tensors, Unit};
///
/// let weights: &[u8] = &[0x80, 0x3f, 0x00, 0x40, 0x80, 0x3f];
/// let plan = Plan::new(&[weights], &Options::default())?;
/// let sizes = plan.sizes();
///
/// // No allocator needed: the caller owns the memory.
/// let (mut luts, mut code, mut sign_mantissa) = ([0; 512], [0; 1], [0; 3]);
/// let (mut positions, mut gaps) = ([0; 8], [0; 320]);
/// assert_eq!((sizes.luts, sizes.encoded_exponent, sizes.output_positions), (512, 1, 8));
/// plan.encode_into(&[weights], Buffers {
///     luts: &mut luts,
///     encoded_exponent: &mut code,
///     sign_mantissa: &mut sign_mantissa,
///     output_positions: &mut positions,
///     gaps: &mut gaps,
///     split_positions: &mut [],
/// })?;
///
/// let unit = Unit::new(Tensors {
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
    /// What the layout cannot hold: [`Error::EmptyUnit`], [`Error::UnrepresentableExponent`] (with the element),
    /// [`Error::TooManyElements`], [`Error::TooManyCodeBytes`]. What cannot be meant: [`Error::OddBytes`], and what
    /// [`CodeLengths::from_frequencies`] says of the options.
    pub fn new(tensors: &[&[u8]], options: &Options) -> Result<Self, Error> {
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
    /// use df11::{Options, Plan};
    ///
    /// let mut frequencies = [0; 256];
    /// (frequencies[120], frequencies[121]) = (3000, 1000);
    /// let plan = Plan::from_frequencies(&frequencies, 2, &Options::default())?;
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
        options: &Options,
    ) -> Result<Self, Error> {
        let Options { least_code_length: least, max_code_length: limit } = *options;
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
    /// use df11::{Plan, bf16, huffman::CodeLengths};
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
    /// As [`Plan::new`]; [`Error::TooManyTables`] if the code needs more than 17, [`Error::NoCodeword`] if an exponent
    /// occurs that it does not cover, [`Error::Oversubscribed`] if no prefix code has these lengths.
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
    pub fn sizes(&self) -> Sizes {
        let encoded_exponent = self.code_bits.div_ceil(8) as usize;
        let blocks = encoded_exponent.div_ceil(BLOCK_BYTES);
        Sizes {
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

    /// The largest number of elements whose codewords will start in one block: what decides the shared memory that the
    /// published kernel asks for. Reads every weight once.
    ///
    /// # Errors
    ///
    /// [`Error::PlanMismatch`] or [`Error::OddBytes`] if the tensors are not the planned ones.
    ///
    /// ```
    /// use df11::{Options, Plan};
    ///
    /// let zeros = vec![0u8; 2 * 40_000];
    /// let plan = Plan::new(&[&zeros], &Options::default())?;
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
    /// The bytes depend on the weights and the plan alone. The code is filled up to a whole byte with zeros, and
    /// `output_positions` always has its last entry.
    ///
    /// # Errors
    ///
    /// [`Error::BufferLength`] if a buffer is not as long as [`sizes`](Self::sizes) says; [`Error::PlanMismatch`] or
    /// [`Error::OddBytes`] if the tensors are not the planned ones. The content of the buffers is then unspecified.
    pub fn encode_into(&self, tensors: &[&[u8]], out: Buffers<'_>) -> Result<(), Error> {
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
        out: Buffers<'_>,
    ) -> Result<(), Error> {
        let mut out = out;
        self.write_fixed(tensors, &mut out)?;
        let sink = WholeUnit::new(out.encoded_exponent, out.output_positions, out.gaps, self.elements);
        let (sign_mantissa, code_bits) = (out.sign_mantissa, self.code_bits);
        level.dispatch(Encode { codebook, pairs, tensors, sign_mantissa, sink, code_bits })
    }

    /// Checks the buffers; writes what does not depend on the weights.
    pub(super) fn write_fixed(&self, tensors: &[&[u8]], out: &mut Buffers<'_>) -> Result<(), Error> {
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
fn locate(error: Error, tensors: &[&[u8]]) -> Error {
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
