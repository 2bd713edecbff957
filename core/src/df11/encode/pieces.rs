//! Encoding in pieces that do not wait for one another, on several threads.
//!
//! The code of a piece begins at the bit at which the piece before it ends. How long each is, its
//! histogram says; so all begin to be written at once, into parts of the buffers that do not
//! overlap. A window that two pieces share belongs to the one in which it begins; the other keeps
//! its bits for the end. So the bytes are those of one piece.

use alloc::vec;
use alloc::vec::Vec;
use core::ops::Range;

use df11_simd::{Operation, Simd};
use rayon::prelude::*;

use super::codebook::Entry;
use super::emit::{Sink, Window};
use super::{Counts, Encoder, Plan};
use crate::df11::gaps::{Gaps, gap_of};
use crate::df11::{Parts, WINDOW_BITS, WINDOW_BYTES, WINDOWS_PER_BLOCK};
use crate::{Error, bf16};

/// Consecutive weights of one tensor.
#[derive(Debug)]
pub(super) struct Piece {
    /// Which of the unit's tensors.
    tensor: usize,
    /// Which of its elements.
    elements: Range<usize>,
}

impl Piece {
    /// Cuts tensors into pieces of at most `most` weights, in order.
    pub(super) fn cut(tensors: &[&[u8]], most: usize) -> impl Iterator<Item = Piece> {
        let most = most.max(1);
        tensors.iter().enumerate().flat_map(move |(tensor, weights)| {
            let len = weights.len() / bf16::BYTES;
            (0..len)
                .step_by(most)
                .map(move |first| Piece { tensor, elements: first..len.min(first.saturating_add(most)) })
        })
    }

    /// Returns the piece's weights as bytes. The slice is empty if `tensors` are not those that the
    /// piece was cut from.
    pub(super) fn weights<'a>(&self, tensors: &[&'a [u8]]) -> &'a [u8] {
        let [start, end] = [self.elements.start, self.elements.end].map(|at| at.saturating_mul(bf16::BYTES));
        let range = start..end;
        tensors.get(self.tensor).and_then(|tensor| tensor.get(range)).unwrap_or(&[])
    }
}

impl Encoder<'_> {
    /// Encodes the tensors that were planned on the threads of the current rayon pool, to the same
    /// bytes as [`encode_into`](Self::encode_into). `counts` are those of the same tensors.
    ///
    /// # Errors
    ///
    /// As [`Plan::encode_into`]; [`Error::PlanMismatch`] also if the counts are others.
    pub fn encode_parallel_into(
        &self,
        tensors: &[&[u8]],
        counts: &Counts,
        out: Parts<&mut [u8]>,
    ) -> Result<(), Error> {
        self.encode_pieces(tensors, counts, out, |jobs| {
            jobs.par_iter_mut().with_max_len(1).for_each(Job::run);
        })
    }

    /// Encodes in pieces. `run` has to [run](Job::run) the job of every piece, on any threads and
    /// in any order.
    fn encode_pieces(
        &self,
        tensors: &[&[u8]],
        counts: &Counts,
        out: Parts<&mut [u8]>,
        run: impl FnOnce(&mut [Job<'_>]),
    ) -> Result<(), Error> {
        let frequencies = &counts.pieces;
        let mut out = out;
        self.plan.write_fixed(tensors, &mut out)?;
        tensors.iter().try_for_each(|tensor| bf16::weights(tensor).map(|_| ()))?;
        let windows = out.encoded_exponent.len().div_ceil(WINDOW_BYTES);
        let mut window_gaps = vec![0u8; windows];
        let mut jobs = Vec::new();
        let (mut bit, mut element) = (0, 0);
        {
            let mut rest = Share {
                code: &mut *out.encoded_exponent,
                gaps: &mut window_gaps,
                positions: out.output_positions.as_chunks_mut::<4>().0,
                sign_mantissa: &mut *out.sign_mantissa,
            };
            let mut pieces = frequencies.iter();
            for piece in Piece::cut(tensors, counts.piece_len) {
                let mismatch = Error::PlanMismatch { element: element as u64 };
                let lengths = self.plan.codewords().lengths();
                let frequencies = pieces.next().ok_or(mismatch)?;
                let bits = frequencies.iter().zip(lengths).fold(0u64, |bits, (&frequency, &length)| {
                    bits.saturating_add(frequency.saturating_mul(u64::from(length)))
                });
                let end = bits.saturating_add(bit);
                // Also keeps what follows within a `usize` of 32 bits.
                if end > self.plan.code_bits() {
                    return Err(mismatch);
                }
                let owned = bit.div_ceil(WINDOW_BITS) as usize..end.div_ceil(WINDOW_BITS) as usize;
                let parts = rest.take(&owned, piece.elements.len()).ok_or(mismatch)?;
                let weights = piece.weights(tensors);
                jobs.push(Job {
                    encoder: self,
                    weights,
                    bit,
                    end,
                    element,
                    windows: owned,
                    parts,
                    result: None,
                });
                (bit, element) = (end, element + piece.elements.len());
            }
        }
        if bit != self.plan.code_bits()
            || element != out_elements(self.plan)
            || jobs.len() != frequencies.len()
        {
            return Err(Error::PlanMismatch { element: element as u64 });
        }
        run(&mut jobs);

        let mut heads = Vec::with_capacity(jobs.len());
        for job in jobs {
            let head = job.result.unwrap_or(Err(Error::PlanMismatch { element: job.element as u64 }))?;
            heads.push((job.bit, head));
        }
        for (bit, head) in heads {
            let at = (bit / WINDOW_BITS) as usize * WINDOW_BYTES;
            for (byte, bits) in out.encoded_exponent.iter_mut().skip(at).zip(head.to_be_bytes()) {
                *byte |= bits;
            }
        }
        let mut gaps = Gaps::new(out.gaps);
        gaps.extend(&window_gaps);
        gaps.finish();
        // Where the code ends with a whole block, no window begins after it; that entry is the
        // number of elements too.
        if let Some(last) = out.output_positions.as_chunks_mut::<4>().0.last_mut() {
            *last = (element as u32).to_le_bytes();
        }
        Ok(())
    }
}

fn out_elements(plan: &Plan) -> usize {
    plan.sizes().sign_mantissa
}

/// A share of the memory of a unit's parts.
#[derive(Debug)]
struct Share<'a> {
    code: &'a mut [u8],
    /// One byte for each window, unlike the gaps of a unit.
    gaps: &'a mut [u8],
    positions: &'a mut [[u8; 4]],
    sign_mantissa: &'a mut [u8],
}

impl<'a> Share<'a> {
    /// Splits the parts of these windows and of this many elements off the front.
    fn take(&mut self, windows: &Range<usize>, elements: usize) -> Option<Share<'a>> {
        let blocks = windows.end.div_ceil(WINDOWS_PER_BLOCK) - windows.start.div_ceil(WINDOWS_PER_BLOCK);
        // Only the last window can have fewer bytes than eight.
        let bytes = self.code.len().min(windows.len() * WINDOW_BYTES);
        Some(Share {
            code: self.code.split_off_mut(..bytes)?,
            gaps: self.gaps.split_off_mut(..windows.len())?,
            positions: self.positions.split_off_mut(..blocks)?,
            sign_mantissa: self.sign_mantissa.split_off_mut(..elements)?,
        })
    }
}

/// The encoding of one piece: see [`Encoder::encode_pieces`].
#[derive(Debug)]
struct Job<'a> {
    encoder: &'a Encoder<'a>,
    weights: &'a [u8],
    /// Where its code begins and ends.
    bit: u64,
    end: u64,
    /// Elements of the unit before it.
    element: usize,
    /// The windows that begin in it.
    windows: Range<usize>,
    parts: Share<'a>,
    /// Its bits in the window that it shares with the piece before it.
    result: Option<Result<u64, Error>>,
}

impl Job<'_> {
    /// Encodes the piece.
    fn run(&mut self) {
        let Encoder { codebook, pairs, level, .. } = self.encoder;
        self.result = Some(match pairs {
            Some(pairs) => level.dispatch(RunJob { job: self, pairs: pairs.look_up() }),
            None => level.dispatch(RunJob { job: self, pairs: |both| codebook.pair(both) }),
        });
    }
}

struct RunJob<'j, 'a, P> {
    job: &'j mut Job<'a>,
    pairs: P,
}

impl<P: Fn(u16) -> Entry + Copy> Operation for RunJob<'_, '_, P> {
    type Output = Result<u64, Error>;

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) -> Result<u64, Error> {
        let RunJob { job, pairs } = self;
        let elements = out_elements(job.encoder.plan);
        let mut sink = OnePiece {
            parts: Share {
                code: &mut *job.parts.code,
                gaps: &mut *job.parts.gaps,
                positions: &mut *job.parts.positions,
                sign_mantissa: &mut [],
            },
            window: job.windows.start,
            head: 0,
            in_head: !job.bit.is_multiple_of(WINDOW_BITS),
            elements,
        };
        let used = (job.bit % WINDOW_BITS) as u32;
        let mut window = Window::starting(used, job.element);
        if used == 0 {
            sink.open(0, job.element);
        }
        let weights = bf16::weights(job.weights)?;
        window.append(simd, &mut sink, &job.encoder.codebook, pairs, weights, job.parts.sign_mantissa)?;
        if window.position() != job.end - (job.bit - u64::from(used)) {
            return Err(Error::PlanMismatch { element: window.elements() as u64 });
        }
        if let Some(rest) = window.rest()
            && !sink.close_last(rest)
        {
            return Err(Error::PlanMismatch { element: window.elements() as u64 });
        }
        Ok(sink.head)
    }
}

/// The sink for one piece.
struct OnePiece<'a> {
    parts: Share<'a>,
    /// The next window to begin.
    window: usize,
    head: u64,
    /// Whether the window being filled began in the piece before.
    in_head: bool,
    /// Elements of the unit.
    elements: usize,
}

impl OnePiece<'_> {
    /// Writes the window that the piece ends in.
    fn close_last(&mut self, window: u64) -> bool {
        if self.in_head {
            self.head = window;
            return true;
        }
        let bytes = window.to_be_bytes();
        let len = self.parts.code.len().min(WINDOW_BYTES);
        let Some(last) = self.parts.code.split_off_mut(..len) else { return false };
        last.copy_from_slice(&bytes[..len]);
        len > 0
    }
}

impl Sink for OnePiece<'_> {
    #[inline]
    fn elements(&self) -> usize {
        self.elements
    }

    #[inline]
    fn room(&mut self) -> &mut [[u8; WINDOW_BYTES]] {
        // Only that of the last window may be missing from the code, and only that of a window that
        // is open from the gaps.
        if self.in_head { &mut [] } else { self.parts.code.as_chunks_mut().0 }
    }

    #[inline]
    fn advance(&mut self, windows: usize, gaps: &[u8], elements: impl Fn(usize) -> usize) {
        // They were lent, and so are there.
        let _ = self.parts.code.split_off_mut(..windows * WINDOW_BYTES);
        if let (Some(slots), Some(gaps)) = (self.parts.gaps.split_off_mut(..windows), gaps.get(..windows)) {
            slots.copy_from_slice(gaps);
        }
        let next = self.window.next_multiple_of(WINDOWS_PER_BLOCK) - self.window;
        if next < windows
            && let Some(position) = self.parts.positions.split_off_first_mut()
        {
            *position = (elements(next) as u32).to_le_bytes();
        }
        self.window += windows;
    }

    #[inline]
    fn open(&mut self, gap: u32, elements: usize) {
        // A window that would begin where the piece ends is not its own.
        let Some(slot) = self.parts.gaps.split_off_first_mut() else { return };
        *slot = gap_of(gap, elements < self.elements);
        if self.window.is_multiple_of(WINDOWS_PER_BLOCK)
            && let Some(position) = self.parts.positions.split_off_first_mut()
        {
            *position = (elements as u32).to_le_bytes();
        }
        self.window += 1;
    }

    #[inline]
    fn close(&mut self, window: u64) -> bool {
        if self.in_head {
            (self.head, self.in_head) = (window, false);
            return true;
        }
        match self.parts.code.split_off_mut(..WINDOW_BYTES) {
            Some(word) => {
                word.copy_from_slice(&window.to_be_bytes());
                true
            }
            None => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec::Vec;

    use super::{Job, Piece};
    use crate::{Counts, EncodeOptions, Encoder, Error, Level, Plan, bf16};

    const PIECE_LEN: usize = 4000;

    fn weights(len: usize, seed: u32) -> Vec<u8> {
        let exponent =
            |i: usize| 100 + ((i as u32 ^ seed).wrapping_mul(2_654_435_761).leading_zeros() as u16);
        (0..len).flat_map(|i| (exponent(i) << 7 | i as u16 & 0x807f).to_le_bytes()).collect()
    }

    fn counts(tensors: &[&[u8]]) -> Counts {
        let mut counts = Counts::with_piece_len(PIECE_LEN);
        for piece in Piece::cut(tensors, PIECE_LEN) {
            let mut frequencies = [0; 256];
            bf16::add_to_histogram(piece.weights(tensors), &mut frequencies).unwrap();
            counts.push(frequencies);
        }
        counts
    }

    fn backwards(jobs: &mut [Job<'_>]) {
        jobs.iter_mut().rev().for_each(Job::run);
    }

    #[test]
    fn tensors_are_cut_from_their_starts() {
        let (large, small) = ([0; 2 * 250], [0; 2]);
        let tensors = [&large[..], &small[..]];
        let pieces = Piece::cut(&tensors, 100).map(|piece| (piece.tensor, piece.elements));
        assert!(pieces.eq([(0, 0..100), (0, 100..200), (0, 200..250), (1, 0..1)]));
    }

    #[test]
    fn jobs_may_be_run_in_any_order_and_again_but_not_left_out() {
        let owned = [weights(20_000, 1), weights(3, 2)];
        let tensors = [&owned[0][..], &owned[1][..]];
        let plan = Plan::new(&tensors, &EncodeOptions::new()).unwrap();
        let (counts, expected) = (counts(&tensors), plan.encode(&tensors).unwrap());
        for level in Level::all() {
            let encoder = Encoder::at_level(&plan, level);
            let run = |run: &dyn Fn(&mut [Job<'_>])| {
                let mut unit = plan.buffers().map(|part| alloc::vec![0xa5; part.len()]);
                encoder.encode_pieces(&tensors, &counts, unit.as_mut_slices(), run).map(|()| unit)
            };
            assert_eq!(run(&backwards).as_ref(), Ok(&expected), "{level:?}");
            let twice = |jobs: &mut [Job<'_>]| {
                backwards(jobs);
                jobs.iter_mut().for_each(Job::run);
            };
            assert_eq!(run(&twice).as_ref(), Ok(&expected), "{level:?}");
            for skipped in 0..counts.pieces.len() {
                let but_one = |jobs: &mut [Job<'_>]| {
                    jobs.iter_mut().enumerate().filter(|(i, _)| *i != skipped).for_each(|(_, job)| job.run());
                };
                assert!(matches!(run(&but_one), Err(Error::PlanMismatch { .. })), "{level:?}");
            }
            assert!(matches!(run(&|_| ()), Err(Error::PlanMismatch { .. })), "{level:?}");
        }
    }
}
