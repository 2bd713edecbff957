//! Encodes one unit on several threads.

use df11::{Encoder, Error, Job, Parts, Piece, bf16};
use rayon::prelude::*;

/// The number of weights in a piece. It is large enough that counting in pairs pays, and small
/// enough that a unit of some millions keeps several threads busy.
pub(crate) const PIECE: usize = 1 << 20;

/// Counts the exponents of each piece of a unit on the threads of the current pool.
///
/// # Errors
///
/// The errors of [`bf16::add_to_histogram`].
pub fn count_pieces(tensors: &[&[u8]]) -> Result<Vec<[u64; 256]>, Error> {
    let pieces: Vec<_> = Piece::cut(tensors, PIECE).collect();
    let count = |piece: &Piece| {
        let mut frequencies = [0; 256];
        bf16::add_to_histogram(piece.weights(tensors), &mut frequencies).map(|()| frequencies)
    };
    pieces.par_iter().with_max_len(1).map(count).collect()
}

/// Encodes a unit on the threads of the current pool. The bytes are those of
/// [`Encoder::encode_into`].
///
/// `frequencies` must be the result of [`count_pieces`] for these tensors.
///
/// # Errors
///
/// The errors of [`Encoder::encode_pieces`].
///
/// ```
/// use df11::{Encoder, EncodeOptions, Plan};
/// use df11_model::{count_pieces, encode_pieces};
///
/// let weights: Vec<u8> = (0..3_000_000u32).flat_map(|i| ((100 + i % 7) as u16 * 128).to_le_bytes()).collect();
/// let tensors = [&weights[..]];
/// let pieces = count_pieces(&tensors)?;
/// let mut all = [0; 256];
/// pieces.iter().flatten().zip((0..256).cycle()).for_each(|(frequency, exponent)| all[exponent] += frequency);
/// let plan = Plan::from_frequencies(&all, 1, &EncodeOptions::default())?;
/// let mut unit = plan.buffers();
/// encode_pieces(&Encoder::new(&plan), &tensors, &pieces, unit.as_mut_slices())?;
/// assert_eq!(unit, plan.encode(&tensors)?);
/// # Ok::<(), df11::Error>(())
/// ```
pub fn encode_pieces(
    encoder: &Encoder<'_>,
    tensors: &[&[u8]],
    frequencies: &[[u64; 256]],
    out: Parts<&mut [u8]>,
) -> Result<(), Error> {
    encoder.encode_pieces(tensors, PIECE, frequencies, out, |jobs| {
        jobs.par_iter_mut().with_max_len(1).for_each(Job::run);
    })
}
