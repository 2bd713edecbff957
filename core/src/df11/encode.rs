//! Encoding into owned buffers.

use alloc::vec;
use alloc::vec::Vec;

use super::{Buffers, Options, Plan, Tensors, Unit};
use crate::Error;

/// The six tensors of a unit, owned.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct EncodedUnit {
    /// Prefix tables and code lengths.
    pub luts: Vec<u8>,
    /// Codewords.
    pub encoded_exponent: Vec<u8>,
    /// Signs and mantissas.
    pub sign_mantissa: Vec<u8>,
    /// Output positions.
    pub output_positions: Vec<u8>,
    /// Gaps.
    pub gaps: Vec<u8>,
    /// Split positions.
    pub split_positions: Vec<u8>,
}

/// Encodes tensors, in this order, as one unit.
///
/// Each tensor is a slice of BF16 weights, two little-endian bytes each; tensors may be empty, the unit may not.
///
/// # Errors
///
/// As [`Plan::new`].
///
/// ```
/// use df11::{Error, Options};
///
/// // NaN has exponent 255, which table entries cannot express: an error, never a wrong weight.
/// let nan = 0x7fc0u16.to_le_bytes();
/// assert_eq!(
///     df11::encode(&[&nan], &Options::default()),
///     Err(Error::UnrepresentableExponent { element: Some(0), exponent: 255 })
/// );
/// ```
pub fn encode(tensors: &[&[u8]], options: &Options) -> Result<EncodedUnit, Error> {
    Plan::new(tensors, options)?.encode(tensors)
}

impl Plan {
    /// Encodes the tensors that were planned into buffers of their own.
    ///
    /// # Errors
    ///
    /// As [`Plan::encode_into`].
    pub fn encode(&self, tensors: &[&[u8]]) -> Result<EncodedUnit, Error> {
        let mut unit = self.buffers();
        self.encode_into(tensors, unit.buffers())?;
        Ok(unit)
    }

    /// Zeros as long as the [sizes](Plan::sizes), to be encoded into.
    ///
    /// ```
    /// use df11::{Options, Plan};
    ///
    /// let plan = Plan::new(&[&[0x80, 0x3f]], &Options::default())?;
    /// let mut unit = plan.buffers();
    /// plan.encode_into(&[&[0x80, 0x3f]], unit.buffers())?;
    /// assert_eq!(unit, plan.encode(&[&[0x80, 0x3f]])?);
    /// # Ok::<(), df11::Error>(())
    /// ```
    #[must_use]
    pub fn buffers(&self) -> EncodedUnit {
        let sizes = self.sizes();
        EncodedUnit {
            luts: vec![0; sizes.luts],
            encoded_exponent: vec![0; sizes.encoded_exponent],
            sign_mantissa: vec![0; sizes.sign_mantissa],
            output_positions: vec![0; sizes.output_positions],
            gaps: vec![0; sizes.gaps],
            split_positions: vec![0; sizes.split_positions],
        }
    }
}

impl EncodedUnit {
    /// The six tensors, for [`Plan::encode_into`] and [`Encoder`](super::Encoder).
    #[must_use]
    pub fn buffers(&mut self) -> Buffers<'_> {
        Buffers {
            luts: &mut self.luts,
            encoded_exponent: &mut self.encoded_exponent,
            sign_mantissa: &mut self.sign_mantissa,
            output_positions: &mut self.output_positions,
            gaps: &mut self.gaps,
            split_positions: &mut self.split_positions,
        }
    }

    /// The bytes of the six tensors.
    #[must_use]
    pub fn tensors(&self) -> Tensors<'_> {
        Tensors {
            luts: &self.luts,
            encoded_exponent: &self.encoded_exponent,
            sign_mantissa: &self.sign_mantissa,
            output_positions: &self.output_positions,
            gaps: &self.gaps,
            split_positions: &self.split_positions,
        }
    }

    /// A view to decode from.
    ///
    /// # Panics
    ///
    /// If the buffers were changed so that they no longer pass [`Unit::new`].
    #[must_use]
    #[expect(
        clippy::expect_used,
        reason = "what the encoder wrote is valid; changing it by hand is the caller's act"
    )]
    pub fn as_unit(&self) -> Unit<'_> {
        Unit::new(self.tensors()).expect("a unit that was encoded is valid")
    }
}
