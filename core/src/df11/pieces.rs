//! Encoding with a table of pairs, and in pieces that do not wait for one another.
//!
//! The code of a piece begins at the bit at which the piece before it ends. How long each is, its
//! histogram says; so all begin to be written at once, into parts of the buffers that do not
//! overlap. A window that two pieces share belongs to the one in which it begins; the other keeps
//! its bits for the end. So the bytes are those of one piece.

use alloc::boxed::Box;
use alloc::vec;
use alloc::vec::Vec;
use core::ops::Range;

use df11_simd::{Level, Operation, Simd};

use super::encoder::{Codebook, Entry, Gaps, NO_CODEWORD, Sink, Window, gap_of, pair};
use super::{Parts, Plan, WINDOW_BITS, WINDOW_BYTES, WINDOWS_PER_BLOCK};
use crate::{Error, bf16};

/// Consecutive weights of one tensor.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Piece {
    /// Which of the unit's tensors.
    pub tensor: usize,
    /// Which of its elements.
    pub elements: Range<usize>,
}

impl Piece {
    /// Cuts tensors into pieces of at most `most` weights, in order. Half a million is a good
    /// number: far more than what a piece costs, and a unit of some millions keeps several
    /// processors busy.
    ///
    /// ```
    /// use df11::Piece;
    ///
    /// let (large, small) = ([0; 2 * 250], [0; 2]);
    /// let pieces: Vec<_> = Piece::cut(&[&large, &small], 100).map(|piece| (piece.tensor, piece.elements)).collect();
    /// assert_eq!(pieces, [(0, 0..100), (0, 100..200), (0, 200..250), (1, 0..1)]);
    /// ```
    pub fn cut(tensors: &[&[u8]], most: usize) -> impl Iterator<Item = Piece> {
        let most = most.max(1);
        tensors.iter().enumerate().flat_map(move |(tensor, weights)| {
            let len = weights.len() / bf16::BYTES;
            (0..len)
                .step_by(most)
                .map(move |first| Piece { tensor, elements: first..len.min(first.saturating_add(most)) })
        })
    }

    /// Its weights, as bytes; empty if the tensors are others than it was cut from.
    ///
    /// ```
    /// use df11::Piece;
    ///
    /// let weights = [0x80, 0x3f, 0x00, 0x40];
    /// assert!(Piece::cut(&[&weights], 1000).all(|piece| piece.weights(&[&weights]) == weights));
    /// ```
    #[must_use]
    pub fn weights<'a>(&self, tensors: &[&'a [u8]]) -> &'a [u8] {
        let [start, end] = [self.elements.start, self.elements.end].map(|at| at.saturating_mul(bf16::BYTES));
        let range = start..end;
        tensors.get(self.tensor).and_then(|tensor| tensor.get(range)).unwrap_or(&[])
    }
}

/// A plan with a table of the codewords of pairs (576 KiB, of which a few are touched), for
/// encoding much.
///
/// [`Plan::encode_into`] makes one by itself for all but small units. Keep one to encode in pieces,
/// from several threads.
#[derive(Clone, Debug)]
pub struct Encoder<'p> {
    plan: &'p Plan,
    codebook: Codebook,
    /// Where groups of 64 weights are coded at once, pairs are rarely asked for.
    pairs: Option<Pairs>,
    level: Level,
}

/// The codewords of all pairs of exponents; the first exponent is the low byte of the index.
#[derive(Clone, Debug)]
struct Pairs {
    bits: Box<[u64; 1 << 16]>,
    lengths: Box<[u8; 1 << 16]>,
}

impl Pairs {
    fn of(codewords: &[Entry; 256]) -> Self {
        let mut lengths = boxed(NO_CODEWORD as u8);
        // From the allocator as zeros, so that rows of exponents without a codeword are never
        // touched.
        let mut bits = boxed(0);
        let has_codeword = |entry: &Entry| entry.length != NO_CODEWORD;
        for (high, second) in codewords.iter().enumerate().filter(|(_, entry)| has_codeword(entry)) {
            for (low, first) in codewords.iter().enumerate().filter(|(_, entry)| has_codeword(entry)) {
                let both = pair(*first, *second);
                (bits[high << 8 | low], lengths[high << 8 | low]) = (both.bits, both.length as u8);
            }
        }
        Pairs { bits, lengths }
    }

    #[inline(always)]
    fn look_up(&self) -> impl Fn(u16) -> Entry + Copy {
        let (bits, lengths): (&[u64; 1 << 16], &[u8; 1 << 16]) = (&self.bits, &self.lengths);
        move |both| {
            let index = usize::from(both);
            Entry { bits: bits[index], length: u32::from(lengths[index]) }
        }
    }
}

fn boxed<T: Copy>(value: T) -> Box<[T; 1 << 16]> {
    let boxed = vec![value; 1 << 16].into_boxed_slice();
    boxed.try_into().unwrap_or_else(|_| Box::new([value; 1 << 16]))
}

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

    /// Encodes the tensors that were planned in pieces, to the same bytes as
    /// [`encode_into`](Self::encode_into).
    ///
    /// `frequencies` are the histograms of the [pieces](Piece::cut) of these tensors, in order;
    /// `most` is what they were cut with. `run` is given a [`Job`] for each piece and has to
    /// [run](Job::run) them all, on any threads and in any order.
    ///
    /// # Errors
    ///
    /// As [`Plan::encode_into`]; [`Error::PlanMismatch`] also if the frequencies are not those of
    /// the pieces, or a job was not run.
    ///
    /// ```
    /// use df11::{Parts, Encoder, Job, EncodeOptions, Piece, Plan, bf16};
    ///
    /// let weights: Vec<u8> = (0..600_000u32).flat_map(|i| ((100 + i % 7) as u16 * 128).to_le_bytes()).collect();
    /// let tensors = [&weights[..]];
    /// let frequencies = Piece::cut(&tensors, 100_000).map(|piece| {
    ///     let mut frequencies = [0; 256];
    ///     bf16::add_to_histogram(piece.weights(&tensors), &mut frequencies).map(|()| frequencies)
    /// });
    /// let frequencies = frequencies.collect::<Result<Vec<_>, _>>()?;
    ///
    /// let plan = Plan::new(&tensors, &EncodeOptions::default())?;
    /// let mut unit = plan.encode(&tensors)?;
    /// let whole = unit.clone();
    /// Encoder::new(&plan).encode_pieces(&tensors, 100_000, &frequencies, unit.as_mut_slices(), |jobs| {
    ///     std::thread::scope(|scope| {
    ///         for job in jobs {
    ///             scope.spawn(|| job.run());
    ///         }
    ///     });
    /// })?;
    /// assert_eq!(unit, whole);
    /// # Ok::<(), df11::Error>(())
    /// ```
    pub fn encode_pieces(
        &self,
        tensors: &[&[u8]],
        most: usize,
        frequencies: &[[u64; 256]],
        out: Parts<&mut [u8]>,
        run: impl FnOnce(&mut [Job<'_>]),
    ) -> Result<(), Error> {
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
            for piece in Piece::cut(tensors, most) {
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
    /// Takes the parts of these windows and of so many elements off the front.
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
pub struct Job<'a> {
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
    pub fn run(&mut self) {
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
