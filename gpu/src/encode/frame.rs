//! Encodes frames.

use df11::Error;
use df11::frame::{self, ElementType, EncodeOptions, Encoder, Header};
use df11::hazmat::frame::{ENTRY_BYTES, SCALE_BITS, TRAILER_BYTES, crc};
use df11::hazmat::rans::{Frequencies, LANES, STATES_BYTES, WORD_BYTES};

use super::{Kernels, Machine, Pass, Scratch, Tensor, counts, u64s, with_scratch};
use crate::crc::{self, Powers};
use crate::kernels::{THREADS, WARPS, element_kind};

/// The minimum number of bytes that a thread counts, so that its part of the sums pays.
const COUNTED: usize = 128;

/// The largest number of thread blocks that count: the number that any card runs at once.
const MAX_COUNTING_BLOCKS: u32 = 2048;

/// A frame in the memory of a machine. Its owner must free the memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EncodedFrame {
    /// The address of the frame.
    pub address: u64,
    /// The length of the frame in bytes.
    pub bytes: usize,
}

/// Encodes elements of this type and shape. The bytes are those of [`frame::encode`].
///
/// ```
/// use df11::frame::{self, ElementType};
/// use df11_gpu::encode::{Machine, frame};
/// use df11_gpu_lab::machine::Emulated;
///
/// let elements: Vec<u8> = (0..5000u32).map(|i| (i % 17) as u8).collect();
/// let mut machine = Emulated::new(90, Default::default())?;
/// let address = machine.upload(&elements)?;
/// let frame = frame(&mut machine, ElementType::U8, &[50, 100], address)?;
/// let found = machine.download(frame.address, frame.bytes)?;
/// assert_eq!(found, frame::encode(ElementType::U8, &[50, 100], &elements)?);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
///
/// [`Error::InvalidArgument`] for a shape that a frame cannot have; what the machine says.
pub fn frame<M: Machine>(
    machine: &mut M,
    element_type: ElementType,
    shape: &[u64],
    elements: u64,
) -> Result<EncodedFrame, M::Error> {
    frame_of_blocks(machine, frame::BLOCK, element_type, shape, elements)
}

/// Encodes a frame with blocks of this many elements, as [`EncodeOptions::block_len`] sets it.
///
/// # Errors
///
/// As [`frame()`]; [`Error::InvalidArgument`] for another number of elements.
pub fn frame_of_blocks<M: Machine>(
    machine: &mut M,
    block_len: usize,
    element_type: ElementType,
    shape: &[u64],
    elements: u64,
) -> Result<EncodedFrame, M::Error> {
    let options = EncodeOptions::new().block_len(block_len);
    // An invalid shape is detected before anything is counted.
    let empty = options.encoder(element_type, shape, &[0; 256])?;
    let (header, _) = Header::parse(&empty.header())?;
    let tensor = Tensor { address: elements, elements: header.len() };
    with_scratch(machine, |scratch| {
        let counts = count(scratch, element_type, tensor)?;
        let encoder = options.encoder(element_type, shape, &counts)?;
        encode(scratch, encoder, tensor)
    })
}

fn pass(entry: &'static str, thread_blocks: u32, arguments: &[u64]) -> Pass {
    Pass { kernels: Kernels::Rans, entry, thread_blocks, arguments: arguments.to_vec() }
}

fn count<M: Machine>(
    scratch: &mut Scratch<'_, M>,
    element_type: ElementType,
    tensor: Tensor,
) -> Result<[u64; 256], M::Error> {
    if tensor.elements == 0 {
        return Ok([0; 256]);
    }
    let totals = scratch.upload(&[0; 8 * 256])?;
    let bytes = tensor.elements.saturating_mul(element_type.bytes());
    let thread_blocks = bytes.div_ceil(COUNTED * THREADS as usize).min(MAX_COUNTING_BLOCKS as usize) as u32;
    let arguments = [tensor.address, tensor.elements as u64, u64::from(element_kind(element_type)), totals];
    scratch.machine.run(&pass("frame_encode_count", thread_blocks, &arguments))?;
    Ok(counts(&scratch.machine.download(totals, 8 * 256)?))
}

/// The memory of the passes after the counting.
struct Planned {
    elements: u64,
    number: u64,
    block_len: u64,
    blocks: u32,
    element_type: ElementType,
    /// The coded part, for codec rANS.
    coded: Option<Coded>,
    offsets: u64,
}

struct Coded {
    entries: u64,
    states: u64,
    words: u64,
    counts: u64,
}

impl Planned {
    fn new<M: Machine>(
        scratch: &mut Scratch<'_, M>,
        header: &Header,
        elements: u64,
    ) -> Result<Self, M::Error> {
        let blocks = u32::try_from(header.blocks()).map_err(|_| Error::InvalidArgument {
            argument: "element count of a frame",
            value: header.len() as u64,
        })?;
        let number = blocks as usize;
        let coded = match header.frequencies() {
            None => None,
            Some(frequencies) => Some(Coded {
                entries: scratch.upload(&describe(frequencies))?,
                states: scratch.allocate(STATES_BYTES * number)?,
                words: scratch.allocate(WORD_BYTES * header.block_len() * number)?,
                counts: scratch.allocate(4 * number)?,
            }),
        };
        Ok(Planned {
            elements,
            number: header.len() as u64,
            block_len: header.block_len() as u64,
            blocks,
            element_type: header.element_type(),
            coded,
            offsets: scratch.allocate(8 * (number + 1))?,
        })
    }

    /// Returns the first arguments of all kernels.
    fn elements(&self) -> [u64; 4] {
        [self.elements, self.number, self.block_len, self.blocks.into()]
    }

    /// Lists the passes that encode, and that lay the blocks out from `start` on.
    fn first_passes(&self, start: u64) -> Vec<Pass> {
        let Planned { number, block_len, blocks, element_type, offsets, .. } = *self;
        let mut passes = Vec::new();
        let mut counts = 0;
        if let Some(Coded { entries, states, words, counts: at }) = self.coded {
            counts = at;
            let arguments = [u64::from(element_kind(element_type)), entries, states, words, counts];
            let arguments = [&self.elements()[..], &arguments].concat();
            passes.push(pass("rans_encode", blocks.div_ceil(WARPS), &arguments));
        }
        let size = element_type.bytes() as u64;
        let arguments = [counts, number, block_len, blocks.into(), size, start, offsets];
        passes.push(pass("frame_encode_layout", 1, &arguments));
        passes
    }

    /// Lists the passes that write the blocks and the directory to the frame at `bytes`.
    fn last_passes(&self, bytes: u64, powers: u64, digests: u64) -> [Pass; 2] {
        let Planned { blocks, offsets, .. } = *self;
        let kind = u64::from(element_kind(self.element_type));
        let [states, words, counts] =
            self.coded.as_ref().map_or([0; 3], |coded| [coded.states, coded.words, coded.counts]);
        let is_coded = self.coded.is_some().into();
        let elements = &self.elements()[..];
        [
            pass(
                "frame_encode_pack",
                blocks,
                &[elements, &[kind, states, words, counts, offsets, bytes]].concat(),
            ),
            pass(
                "frame_encode_check",
                blocks,
                &[elements, &[kind, is_coded, powers, offsets, bytes, digests]].concat(),
            ),
        ]
    }
}

fn encode<M: Machine>(
    scratch: &mut Scratch<'_, M>,
    encoder: Encoder,
    tensor: Tensor,
) -> Result<EncodedFrame, M::Error> {
    let mut start = encoder.header();
    let (header, _) = Header::parse(&start)?;
    if header.blocks() == 0 {
        start.extend(encoder.finish()?);
        let address = scratch.upload(&start)?;
        scratch.keep(&[address]);
        return Ok(EncodedFrame { address, bytes: start.len() });
    }
    let planned = Planned::new(scratch, &header, tensor.address)?;
    for pass in planned.first_passes(start.len() as u64) {
        scratch.machine.run(&pass)?;
    }
    let blocks = header.blocks();
    let end = scratch.machine.download(planned.offsets + 8 * blocks as u64, 8)?;
    let directory = u64s(&end).next().unwrap_or_default() as usize;
    let trailer = directory + ENTRY_BYTES * blocks;
    let bytes = scratch.allocate(trailer + TRAILER_BYTES)?;
    scratch.machine.write(bytes, &start)?;
    let powers = scratch.upload(&Powers::new(header.element_type().bytes()).describe())?;
    let digests = scratch.allocate(4 * blocks)?;
    for pass in planned.last_passes(bytes, powers, digests) {
        scratch.machine.run(&pass)?;
    }
    let digests = scratch.machine.download(digests, 4 * blocks)?;
    let entries = scratch.machine.download(bytes + directory as u64, ENTRY_BYTES * blocks)?;
    let end = end_of(&header, directory, entries, &digests);
    scratch.machine.write(bytes + trailer as u64, &end)?;
    scratch.keep(&[bytes]);
    Ok(EncodedFrame { address: bytes, bytes: trailer + TRAILER_BYTES })
}

/// Makes the trailer that follows this directory. `digests` are the checksums of the elements of
/// blocks.
fn end_of(header: &Header, offset: usize, directory: Vec<u8>, digests: &[u8]) -> Vec<u8> {
    let size = header.element_type().bytes();
    let digests = digests.as_chunks::<4>().0.iter().map(|digest| u32::from_le_bytes(*digest));
    let lengths = (0..).map(|block| size * header.block_range(block).len());
    let digest = digests.zip(lengths).fold(0, |all, (digest, bytes)| crc::join(all, digest, bytes as u64));
    let mut bytes = directory;
    let start = bytes.len();
    bytes.extend((offset as u64).to_le_bytes());
    bytes.extend((header.blocks() as u64).to_le_bytes());
    bytes.extend(digest.to_le_bytes());
    bytes.extend(crc(0, &bytes).to_le_bytes());
    bytes.split_off(start)
}

/// Returns the frequencies in the form of the kernel: for each symbol a reciprocal and its other
/// constants.
fn describe(frequencies: &Frequencies) -> Vec<u8> {
    let mut start = 0;
    let entry = |frequency: &u16| {
        let frequency = u32::from(*frequency);
        if frequency == 0 {
            return [0, 0];
        }
        // The logarithm, rounded up.
        let shift = frequency.next_power_of_two().trailing_zeros();
        let reciprocal = (1u64 << (31 + shift)).div_ceil(frequency.into()) as u32;
        let rest = ((1 << SCALE_BITS) - frequency) | shift << 12 | start << 20;
        start += frequency;
        [reciprocal, rest]
    };
    frequencies.as_array().iter().flat_map(entry).flat_map(u32::to_le_bytes).collect()
}

const _: () = assert!(LANES == 32);
