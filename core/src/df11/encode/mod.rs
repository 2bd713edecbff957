//! Encoding: a [`Plan`] fixes the code and all sizes, an [`Encoder`] writes.

mod codebook;
#[cfg(feature = "rayon")]
mod counts;
mod emit;
#[cfg(feature = "rayon")]
mod pieces;
mod plan;
mod whole;

#[cfg(feature = "alloc")]
use self::codebook::{Codebook, Pairs};
#[cfg(feature = "alloc")]
use super::{EncodedUnit, Parts};
#[cfg(feature = "alloc")]
use crate::{Error, Level};

#[cfg(feature = "rayon")]
pub use counts::Counts;
pub use plan::{EncodeOptions, Plan};

/// Encodes the weights of one tensor, BF16 of two little-endian bytes each, as a unit.
///
/// [`EncodeOptions::encode`] makes a unit of several tensors, and offers options.
///
/// # Errors
///
/// The errors of [`Plan::new`].
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
#[cfg(feature = "alloc")]
pub fn encode(weights: &[u8]) -> Result<EncodedUnit, Error> {
    EncodeOptions::new().encode(&[weights])
}

#[cfg(feature = "alloc")]
impl EncodeOptions {
    /// Encodes tensors, in this order, as one unit.
    ///
    /// Each tensor is a slice of BF16 weights, two little-endian bytes each; tensors may be empty,
    /// the unit may not.
    ///
    /// # Errors
    ///
    /// The errors of [`Plan::new`].
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

    /// Encodes tensors like [`encode`](Self::encode), to the same bytes, on the threads of the
    /// current rayon pool.
    ///
    /// # Errors
    ///
    /// As [`encode`](Self::encode).
    ///
    /// ```
    /// use df11::EncodeOptions;
    ///
    /// let weights: Vec<u8> = (0..600_000u32).flat_map(|i| ((100 + i % 7) as u16 * 128).to_le_bytes()).collect();
    /// let options = EncodeOptions::new();
    /// assert!(options.encode_parallel(&[&weights])? == options.encode(&[&weights])?);
    ///
    /// // With no more than two threads.
    /// let two = rayon::ThreadPoolBuilder::new().num_threads(2).build()?;
    /// two.install(|| options.encode_parallel(&[&weights]))?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[cfg(feature = "rayon")]
    pub fn encode_parallel(&self, tensors: &[&[u8]]) -> Result<EncodedUnit, Error> {
        let counts = Counts::of(tensors)?;
        let plan = Plan::from_frequencies(&counts.total(), tensors.len(), self)
            .map_err(|error| plan::locate(error, tensors))?;
        let mut unit = plan.buffers();
        Encoder::new(&plan).encode_parallel_into(tensors, &counts, unit.as_mut_slices())?;
        Ok(unit)
    }
}

#[cfg(feature = "alloc")]
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

/// A plan with a table of the codewords of pairs (576 KiB, of which only a small part is touched),
/// for encoding large units.
///
/// [`Plan::encode_into`] makes one by itself for all but small units. Keep one to encode at another
/// level, or on several threads.
#[cfg(feature = "alloc")]
#[derive(Clone, Debug)]
pub struct Encoder<'p> {
    plan: &'p Plan,
    codebook: Codebook,
    /// The table of pairs. On levels that code groups of 64 weights at once, pairs are rarely
    /// needed.
    pairs: Option<Pairs>,
    level: Level,
}

#[cfg(feature = "alloc")]
impl<'p> Encoder<'p> {
    /// Builds the table.
    #[must_use]
    pub fn new(plan: &'p Plan) -> Self {
        Self::at_level(plan, Level::best())
    }

    /// Builds the table, to encode with this level of instructions.
    #[must_use]
    pub fn at_level(plan: &'p Plan, level: Level) -> Self {
        let codebook = Codebook::of(plan.codewords());
        let pairs = (!level.has_groups()).then(|| Pairs::of(&codebook.entries));
        Encoder { plan, codebook, pairs, level }
    }

    /// Encodes the tensors that were planned: see [`Plan::encode_into`].
    ///
    /// # Errors
    ///
    /// As [`Plan::encode_into`].
    pub fn encode_into(&self, tensors: &[&[u8]], out: Parts<&mut [u8]>) -> Result<(), Error> {
        let Encoder { plan, codebook, pairs, level } = self;
        match pairs {
            Some(pairs) => plan.encode_with(*level, codebook, pairs.look_up(), tensors, out),
            None => plan.encode_with(*level, codebook, |both| codebook.pair(both), tensors, out),
        }
    }
}
