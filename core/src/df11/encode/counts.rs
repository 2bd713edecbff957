//! Histograms of a unit, piece by piece.

use alloc::vec::Vec;

use rayon::prelude::*;

use super::pieces::Piece;
use crate::{Error, bf16};

/// Histograms of a unit's exponents, one for each piece of a tensor. They tell every thread at
/// which bit the piece that it encodes begins.
///
/// ```
/// use df11::{Counts, EncodeOptions, Encoder, Plan};
///
/// let weights: Vec<u8> = (0..600_000u32).flat_map(|i| ((100 + i % 7) as u16 * 128).to_le_bytes()).collect();
/// let tensors = [&weights[..]];
/// let counts = Counts::of(&tensors)?;
/// let plan = Plan::from_frequencies(&counts.total(), tensors.len(), &EncodeOptions::new())?;
/// let mut unit = plan.buffers();
/// Encoder::new(&plan).encode_parallel_into(&tensors, &counts, unit.as_mut_slices())?;
/// assert_eq!(unit, plan.encode(&tensors)?);
/// # Ok::<(), df11::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Counts {
    pub(super) piece_len: usize,
    pub(super) pieces: Vec<[u64; 256]>,
}

impl Counts {
    /// Weights of a piece that [`of`](Self::of) counts: enough that counting them in pairs pays,
    /// few enough that a unit of some millions keeps several threads busy.
    pub const PIECE_LEN: usize = 1 << 20;

    /// Counts the exponents of tensors on the threads of the current rayon pool.
    ///
    /// # Errors
    ///
    /// [`Error::OddBytes`] for a tensor whose last weight is not whole.
    pub fn of(tensors: &[&[u8]]) -> Result<Self, Error> {
        tensors.iter().try_for_each(|tensor| bf16::weights(tensor).map(|_| ()))?;
        let pieces: Vec<_> = Piece::cut(tensors, Self::PIECE_LEN).collect();
        let count = |piece: &Piece| {
            let mut frequencies = [0; 256];
            bf16::add_to_histogram(piece.weights(tensors), &mut frequencies).map(|()| frequencies)
        };
        let pieces = pieces.par_iter().with_max_len(1).map(count).collect::<Result<_, _>>()?;
        Ok(Counts { piece_len: Self::PIECE_LEN, pieces })
    }

    /// Makes empty counts for pieces of this many weights. A caller that counts by itself adds the
    /// histograms with [`push`](Self::push).
    #[must_use]
    pub const fn with_piece_len(weights: usize) -> Self {
        Counts { piece_len: weights, pieces: Vec::new() }
    }

    /// Adds the histogram of the next piece. Each tensor is cut from its start into pieces of
    /// [this](Self::with_piece_len) many weights; its last piece may have fewer.
    ///
    /// ```
    /// use df11::{Counts, bf16};
    ///
    /// let tensors: [&[u8]; 2] = [&[0x80, 0x3f, 0x00, 0x40, 0x80, 0x3f], &[0x80, 0x3f]];
    /// let mut counts = Counts::with_piece_len(2);
    /// for tensor in tensors {
    ///     for piece in tensor.chunks(2 * bf16::BYTES) {
    ///         let mut frequencies = [0; 256];
    ///         bf16::add_to_histogram(piece, &mut frequencies)?;
    ///         counts.push(frequencies);
    ///     }
    /// }
    /// assert_eq!(counts.total()[127], 3);
    /// # Ok::<(), df11::Error>(())
    /// ```
    pub fn push(&mut self, frequencies: [u64; 256]) {
        self.pieces.push(frequencies);
    }

    /// The histogram of all pieces together, for
    /// [`Plan::from_frequencies`](crate::Plan::from_frequencies).
    #[must_use]
    pub fn total(&self) -> [u64; 256] {
        let mut total = [0u64; 256];
        for piece in &self.pieces {
            total.iter_mut().zip(piece).for_each(|(sum, count)| *sum = sum.saturating_add(*count));
        }
        total
    }
}
