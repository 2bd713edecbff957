//! The six parts of a unit.

#[cfg(feature = "alloc")]
use alloc::{vec, vec::Vec};

use super::{BLOCK_BYTES, GAP_BYTES_PER_BLOCK, MAX_ELEMENTS};
#[cfg(feature = "alloc")]
use super::{Plan, Unit};
#[cfg(feature = "alloc")]
use crate::Error;
use crate::huffman::MAX_ROWS;

/// Something for each of the six parts of a unit, in the order of [`PARTS`](super::PARTS): bytes
/// that were read (`Parts<&[u8]>`), memory to write to (`Parts<&mut [u8]>`), sizes
/// (`Parts<usize>`), a whole unit ([`EncodedUnit`]).
///
/// Anybody can put parts together; [`Unit::new`](super::Unit::new) checks them.
///
/// ```
/// use df11::{Parts, Unit};
///
/// // One exponent, 127, whose codeword is one 0; the weights are 1.0 and -1.0.
/// let mut luts = [127; 512];
/// luts[256..].fill(0);
/// luts[256 + 127] = 1;
/// let unit = Unit::new(Parts {
///     luts: &luts,
///     encoded_exponent: &[0],
///     sign_mantissa: &[0x00, 0x80],
///     output_positions: &[0, 0, 0, 0, 2, 0, 0, 0],
///     gaps: &[0; 320],
///     split_positions: &[],
/// })?;
/// assert_eq!(unit.decode()?, [0x80, 0x3f, 0x80, 0xbf]);
/// # Ok::<(), df11::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Parts<T> {
    /// Prefix tables and code lengths, 256 bytes a row.
    pub luts: T,
    /// Codewords.
    pub encoded_exponent: T,
    /// Signs and mantissas, one byte for each element.
    pub sign_mantissa: T,
    /// Output positions, 4 bytes each.
    pub output_positions: T,
    /// Gaps, 5 bits each.
    pub gaps: T,
    /// Split positions, 8 bytes each; empty for a single tensor.
    pub split_positions: T,
}

/// A unit in memory of its own.
#[cfg(feature = "alloc")]
pub type EncodedUnit = Parts<Vec<u8>>;

impl<T> Parts<T> {
    /// The six, in the order of [`PARTS`](super::PARTS).
    ///
    /// ```
    /// let unit = df11::encode(&[0x80, 0x3f])?;
    /// assert_eq!(unit.as_slices().into_array().map(<[u8]>::len), [512, 1, 1, 8, 320, 0]);
    /// # Ok::<(), df11::Error>(())
    /// ```
    #[must_use]
    pub fn into_array(self) -> [T; 6] {
        let Parts { luts, encoded_exponent, sign_mantissa, output_positions, gaps, split_positions } = self;
        [luts, encoded_exponent, sign_mantissa, output_positions, gaps, split_positions]
    }

    /// The parts of these six, which are in the order of [`PARTS`](super::PARTS).
    ///
    /// ```
    /// use df11::Parts;
    ///
    /// let unit = df11::encode(&[0x80, 0x3f])?;
    /// assert_eq!(Parts::from_array(unit.clone().into_array()), unit);
    /// # Ok::<(), df11::Error>(())
    /// ```
    #[must_use]
    pub fn from_array(parts: [T; 6]) -> Self {
        let [luts, encoded_exponent, sign_mantissa, output_positions, gaps, split_positions] = parts;
        Parts { luts, encoded_exponent, sign_mantissa, output_positions, gaps, split_positions }
    }

    /// What `each` makes of each part.
    ///
    /// ```
    /// let unit = df11::encode(&[0x80, 0x3f])?;
    /// assert_eq!(unit.as_slices().map(<[u8]>::len).total(), 512 + 1 + 1 + 8 + 320);
    /// # Ok::<(), df11::Error>(())
    /// ```
    #[must_use]
    pub fn map<U>(self, each: impl FnMut(T) -> U) -> Parts<U> {
        Parts::from_array(self.into_array().map(each))
    }
}

impl Parts<usize> {
    /// Returns the largest possible size in bytes of each part of a unit whose code
    /// [`Plan::new`](super::Plan::new) or [`Plan::from_frequencies`](super::Plan::from_frequencies)
    /// has chosen, whatever the weights are. Use it to allocate memory before the weights are
    /// known. `None` if no unit can hold this many elements.
    ///
    /// ```
    /// use df11::{EncodeOptions, Parts, Plan};
    ///
    /// let weights = [0x80, 0x3f, 0x00, 0x40];
    /// let bound = Parts::bound(2, 1).ok_or("too many")?;
    /// let sizes = Plan::new(&[&weights], &EncodeOptions::new())?.sizes();
    /// assert!(sizes.luts <= bound.luts && sizes.encoded_exponent <= bound.encoded_exponent);
    /// assert_eq!((sizes.sign_mantissa, sizes.gaps), (bound.sign_mantissa, bound.gaps));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub const fn bound(elements: usize, tensors: usize) -> Option<Self> {
        if elements > MAX_ELEMENTS || elements == 0 || tensors == 0 {
            return None;
        }
        // With 8 bits for each of 240 symbols, there is a code within every limit, and no chosen
        // code is longer.
        let encoded_exponent = elements;
        let blocks = encoded_exponent.div_ceil(BLOCK_BYTES);
        Some(Parts {
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
    /// use df11::{EncodeOptions, Plan};
    ///
    /// let plan = Plan::new(&[&[0x80, 0x3f]], &EncodeOptions::new())?;
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

#[cfg(feature = "alloc")]
impl Parts<Vec<u8>> {
    /// The bytes of the parts.
    #[must_use]
    pub fn as_slices(&self) -> Parts<&[u8]> {
        Parts {
            luts: &self.luts,
            encoded_exponent: &self.encoded_exponent,
            sign_mantissa: &self.sign_mantissa,
            output_positions: &self.output_positions,
            gaps: &self.gaps,
            split_positions: &self.split_positions,
        }
    }

    /// The bytes of the parts, to be written to: for [`Plan::encode_into`] and
    /// [`Encoder`](super::Encoder).
    #[must_use]
    pub fn as_mut_slices(&mut self) -> Parts<&mut [u8]> {
        Parts {
            luts: &mut self.luts,
            encoded_exponent: &mut self.encoded_exponent,
            sign_mantissa: &mut self.sign_mantissa,
            output_positions: &mut self.output_positions,
            gaps: &mut self.gaps,
            split_positions: &mut self.split_positions,
        }
    }

    /// A view to decode from.
    ///
    /// # Panics
    ///
    /// If the parts were changed so that they no longer pass [`Unit::new`].
    #[must_use]
    #[expect(
        clippy::expect_used,
        reason = "what the encoder wrote is valid; changing it by hand is the caller's act"
    )]
    pub fn as_unit(&self) -> Unit<'_> {
        Unit::new(self.as_slices()).expect("a unit that was encoded is valid")
    }

    /// Decodes the weights of all tensors, two little-endian bytes each.
    ///
    /// # Errors
    ///
    /// The errors of [`Unit::new`] and [`Unit::decode_into`], if the parts were changed.
    ///
    /// ```
    /// assert_eq!(df11::encode(&[0x80, 0x3f])?.decode()?, [0x80, 0x3f]);
    /// # Ok::<(), df11::Error>(())
    /// ```
    pub fn decode(&self) -> Result<Vec<u8>, Error> {
        Unit::new(self.as_slices())?.decode()
    }
}

#[cfg(feature = "alloc")]
impl Plan {
    /// Returns zeros of the planned [sizes](Plan::sizes), to be encoded into.
    ///
    /// ```
    /// use df11::{EncodeOptions, Plan};
    ///
    /// let plan = Plan::new(&[&[0x80, 0x3f]], &EncodeOptions::new())?;
    /// let mut unit = plan.buffers();
    /// plan.encode_into(&[&[0x80, 0x3f]], unit.as_mut_slices())?;
    /// assert_eq!(unit, plan.encode(&[&[0x80, 0x3f]])?);
    /// # Ok::<(), df11::Error>(())
    /// ```
    #[must_use]
    pub fn buffers(&self) -> EncodedUnit {
        self.sizes().map(|size| vec![0; size])
    }
}
