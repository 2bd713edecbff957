//! Decoding: the portable decoder, and the fast one for machines with an allocator.

#[cfg(feature = "alloc")]
mod lanes;
#[cfg(feature = "rayon")]
mod parallel;
mod portable;

#[cfg(feature = "alloc")]
use alloc::vec::Vec;

#[cfg(feature = "alloc")]
use super::Unit;
#[cfg(feature = "alloc")]
use crate::Error;

#[cfg(feature = "alloc")]
pub use lanes::Decoder;

#[cfg(feature = "alloc")]
impl Unit<'_> {
    /// Decodes the weights of all tensors, two little-endian bytes each.
    ///
    /// # Errors
    ///
    /// The errors of [`decode_into`](Self::decode_into).
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
