//! Encoding into memory of its own.

use alloc::vec::Vec;

use super::{EncodeOptions, EncodedUnit, Plan, Unit};
use crate::Error;

/// Encodes the weights of one tensor, BF16 of two little-endian bytes each, as a unit.
///
/// [`EncodeOptions::encode`] makes a unit of several tensors, and has choices.
///
/// # Errors
///
/// As [`Plan::new`].
///
/// ```
/// let weights = [0x80, 0x3f, 0x00, 0xc0]; // 1.0 and -2.0
/// let unit = df11::encode(&weights)?;
/// assert_eq!(unit.decode()?, weights);
///
/// // NaN has exponent 255, which table entries cannot express: an error, never a wrong weight.
/// let nan = 0x7fc0u16.to_le_bytes();
/// assert_eq!(
///     df11::encode(&nan),
///     Err(df11::Error::UnrepresentableExponent { element: Some(0), exponent: 255 })
/// );
/// # Ok::<(), df11::Error>(())
/// ```
pub fn encode(weights: &[u8]) -> Result<EncodedUnit, Error> {
    EncodeOptions::new().encode(&[weights])
}

impl EncodeOptions {
    /// Encodes tensors, in this order, as one unit.
    ///
    /// Each tensor is a slice of BF16 weights, two little-endian bytes each; tensors may be empty,
    /// the unit may not.
    ///
    /// # Errors
    ///
    /// As [`Plan::new`].
    ///
    /// ```
    /// use df11::EncodeOptions;
    ///
    /// let unit = EncodeOptions::new().max_code_length(16).encode(&[&[0x80, 0x3f], &[0x00, 0xc0]])?;
    /// assert_eq!(unit.as_unit().tensors(), 2);
    /// # Ok::<(), df11::Error>(())
    /// ```
    pub fn encode(&self, tensors: &[&[u8]]) -> Result<EncodedUnit, Error> {
        Plan::new(tensors, self)?.encode(tensors)
    }
}

impl Plan {
    /// Encodes the tensors that were planned into buffers of their own.
    ///
    /// # Errors
    ///
    /// As [`Plan::encode_into`].
    pub fn encode(&self, tensors: &[&[u8]]) -> Result<EncodedUnit, Error> {
        let mut unit = self.buffers();
        self.encode_into(tensors, unit.as_mut_slices())?;
        Ok(unit)
    }
}

impl Unit<'_> {
    /// Decodes the weights of all tensors, two little-endian bytes each.
    ///
    /// # Errors
    ///
    /// As [`decode_into`](Self::decode_into).
    ///
    /// ```
    /// let unit = df11::encode(&[0x80, 0x3f])?;
    /// assert_eq!(unit.as_unit().decode()?, [0x80, 0x3f]);
    /// # Ok::<(), df11::Error>(())
    /// ```
    pub fn decode(&self) -> Result<Vec<u8>, Error> {
        let mut weights = alloc::vec![0; crate::bf16::BYTES * self.len()];
        self.decode_into(&mut weights).map(|()| weights)
    }
}
