//! Runs kernels directly in the emulator, without a driver, for callers that need all of its
//! findings and counts.

use df11::frame::Frame;
use df11::hazmat::dictionary;
use df11::hazmat::layout::BLOCK_BYTES;
use df11::hazmat::rans::{DecodeTable, Frequencies};
use df11::{Parts, Unit};
use df11_emulator::{Device, Error, Launch, Module, Options, Report};

use df11_gpu::kernels::{RansBlock, THREADS, element_kind};
use df11_gpu::table::{decode_table, dictionary_table};

/// The configuration of a launch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// The number of thread blocks.
    pub blocks: u32,
    /// The number of threads in each thread block.
    pub threads: u32,
    /// Bytes of shared memory in addition to those that the kernel declares.
    pub shared_bytes: usize,
}

impl Shape {
    /// Returns the configuration of this project's kernels with this many thread blocks.
    #[must_use]
    pub const fn ours(blocks: u32) -> Self {
        Shape { blocks, threads: THREADS, shared_bytes: 0 }
    }

    /// Returns the configuration of the published kernel, for a unit with this many blocks and
    /// bytes of [shared memory](df11::Unit::shared_memory_bytes).
    #[must_use]
    pub const fn published(blocks: usize, shared_bytes: u64) -> Self {
        Shape { blocks: blocks as u32, threads: 512, shared_bytes: shared_bytes as usize }
    }
}

/// The results of several items of one launch: the elements of each, their statuses, and the report
/// of the emulator.
pub type Decoded = (Vec<Vec<u8>>, Vec<u32>, Report);

/// Tells whether the buffers of a unit have the lengths that its sizes say. The host has to check
/// this; a kernel checks only their content.
///
/// ```
/// use df11::encode;
/// use df11_gpu_lab::emulate::has_right_lengths;
///
/// let mut unit = encode(&[0x80, 0x3f])?;
/// unit.gaps[0] = 0xff;
/// assert!(has_right_lengths(&unit.as_slices()));
/// unit.gaps.pop();
/// assert!(!has_right_lengths(&unit.as_slices()));
/// # Ok::<(), df11::Error>(())
/// ```
#[must_use]
pub fn has_right_lengths(tensors: &Parts<&[u8]>) -> bool {
    !matches!(
        Unit::new(*tensors),
        Err(df11::Error::GapsLength { .. }
            | df11::Error::PositionsLength { .. }
            | df11::Error::TablesLength { .. }
            | df11::Error::EmptyUnit)
    )
}

/// Uploads bytes to a buffer, `skipped` bytes after its start.
pub fn upload(device: &mut Device, bytes: &[u8], skipped: usize) -> u64 {
    let buffer = device.allocate(skipped + bytes.len()) + skipped as u64;
    device.write(buffer, bytes);
    buffer
}

/// Uploads a part of a frame, `skipped` bytes after the start of a buffer, with other bytes around
/// it. Kernels read whole words that contain a byte of the part.
pub(crate) fn upload_part(device: &mut Device, bytes: &[u8], skipped: usize) -> u64 {
    let around = [&[0xee; 16][..skipped.min(16)], bytes, &[0xee; 16]].concat();
    upload(device, &around, skipped - skipped.min(16)) + skipped.min(16) as u64
}

/// Uploads a unit, each part `skipped` bytes after the start of a buffer. Returns the arguments of
/// a kernel with the published signature, and the address for the weights.
pub fn arguments(device: &mut Device, tensors: &Parts<&[u8]>, skipped: usize) -> ([u64; 9], u64) {
    let n = tensors.sign_mantissa.len();
    let [luts, codes, sign_mantissa, positions, gaps, _] =
        tensors.into_array().map(|part| upload(device, part, skipped));
    let outputs = device.allocate(2 * n + skipped) + skipped as u64;
    let sizes = [tensors.luts.len() / 256, tensors.encoded_exponent.len(), n].map(|size| size as u64);
    let [n_luts, n_bytes, n] = sizes;
    ([luts, codes, sign_mantissa, positions, gaps, outputs, n_luts, n_bytes, n], outputs)
}

/// Decodes a unit with a kernel of the published signature.
///
/// # Errors
///
/// The errors of [`Module::launch`].
///
/// ```
/// use df11_emulator::Module;
/// use df11_gpu::kernels;
/// use df11_gpu_lab::emulate;
///
/// let weights: Vec<u8> = (0..5000u16).flat_map(|i| (0x3c00 + i % 999).to_le_bytes()).collect();
/// let unit = df11::encode(&weights)?;
/// let module = Module::parse(kernels::DF11_DECODE[0].text)?;
/// let shape = emulate::Shape::ours(1);
/// let (found, report) = emulate::unit(&module, "df11_decode", &unit.as_slices(), shape, 0, &Default::default())?;
/// assert_eq!(found, weights);
/// assert!(report.findings.is_empty());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn unit(
    module: &Module,
    entry: &str,
    tensors: &Parts<&[u8]>,
    shape: Shape,
    skipped: usize,
    options: &Options,
) -> Result<(Vec<u8>, Report), Error> {
    let mut device = Device::new();
    let (arguments, outputs) = arguments(&mut device, tensors, skipped);
    let Shape { blocks, threads, shared_bytes } = shape;
    let launch = Launch { grid: [blocks, 1, 1], block: [threads, 1, 1], shared_bytes, arguments: &arguments };
    let report = module.launch(entry, &mut device, &launch, options)?;
    Ok((device.read(outputs, 2 * tensors.sign_mantissa.len()).to_vec(), report))
}

/// The initial value of a status, before a kernel has found a fault.
pub const NOTHING_WRONG: u32 = u32::MAX;

/// Decodes units in one launch of `df11_decode_batch` on this many thread blocks, each part
/// `skipped` bytes after the start of a buffer. Returns their weights, their statuses, and the
/// report of the emulator.
///
/// # Errors
///
/// The errors of [`Module::launch`].
///
/// ```
/// use df11_emulator::Module;
/// use df11_gpu::kernels;
/// use df11_gpu_lab::emulate;
///
/// let weights: Vec<u8> = (0..5000u16).flat_map(|i| (0x3c00 + i % 999).to_le_bytes()).collect();
/// let unit = df11::encode(&weights)?;
/// let module = Module::parse(kernels::DF11_DECODE[0].text)?;
/// let (found, status, report) = emulate::units(&module, &[unit.as_slices()], 1, 0, &Default::default())?;
/// assert_eq!(found, [weights]);
/// assert_eq!(status, [emulate::NOTHING_WRONG]);
/// assert!(report.findings.is_empty());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn units(
    module: &Module,
    units: &[Parts<&[u8]>],
    grid: u32,
    skipped: usize,
    options: &Options,
) -> Result<Decoded, Error> {
    let mut device = Device::new();
    let (mut described, mut outputs, mut blocks) = (Vec::new(), Vec::new(), 0);
    for tensors in units {
        let (arguments, weights) = arguments(&mut device, tensors, skipped);
        let [luts, codes, sign_mantissa, positions, gaps, _, n_luts, n_bytes, n] = arguments;
        let table = upload(&mut device, &decode_table(tensors.luts), 0);
        described.extend([
            table,
            luts,
            codes,
            sign_mantissa,
            positions,
            gaps,
            weights - BASE,
            n_luts,
            n_bytes,
            n,
            blocks,
            0,
        ]);
        outputs.push((weights, 2 * tensors.sign_mantissa.len()));
        blocks += n_bytes.div_ceil(BLOCK_BYTES as u64);
    }
    run_batch(module, "df11_decode_batch", device, &described, &outputs, blocks, grid, options)
}

/// A launch adds this to the addresses of outputs, as if they were offsets from it.
pub(crate) const BASE: u64 = 4096;

pub(crate) fn statuses(device: &mut Device, at: u64, number: usize) -> Vec<u32> {
    let bytes = device.read(at, 4 * number).as_chunks::<4>().0;
    bytes.iter().map(|bytes| u32::from_le_bytes(*bytes)).collect()
}

/// Returns the blocks of a frame, and the kernel's number for the way in which its elements are put
/// together.
///
/// # Errors
///
/// The errors of [`Frame::block_layout`].
pub fn frame_blocks(frame: &Frame<'_>) -> Result<(Vec<RansBlock>, u32), df11::Error> {
    let header = frame.header();
    let block = |block| {
        let (layout, range) = (frame.block_layout(block)?, header.block_range(block));
        Ok(RansBlock {
            states: layout.states,
            words: layout.words,
            raw: layout.raw.start,
            first: range.start,
            symbols: range.len(),
        })
    };
    let kind = element_kind(header.element_type());
    Ok(((0..header.blocks()).map(block).collect::<Result<_, _>>()?, kind))
}

/// Decodes blocks of rANS to this many bytes. Returns these bytes, and the status of each block.
///
/// # Errors
///
/// The errors of [`Module::launch`].
#[expect(clippy::too_many_arguments, reason = "what the kernel takes, and how")]
pub fn rans(
    module: &Module,
    data: &[u8],
    blocks: &[RansBlock],
    frequencies: &Frequencies,
    kind: u32,
    bytes: usize,
    grid: u32,
    options: &Options,
) -> Result<(Vec<u8>, Vec<u32>, Report), Error> {
    let mut device = Device::new();
    let data = upload(&mut device, data, 0);
    let described: Vec<u8> =
        blocks.iter().flat_map(|block| block.describe()).flat_map(u64::to_le_bytes).collect();
    let described = upload(&mut device, &described, 0);
    let (outputs, status) = (device.allocate(bytes), device.allocate(4 * blocks.len()));
    let mut table = Box::new(DecodeTable::new());
    table.build(frequencies);
    let slots: Vec<u8> = table.slots().iter().flat_map(|slot| slot.to_le_bytes()).collect();
    let slots = upload(&mut device, &slots, 0);
    let scale_bits = u64::from(frequencies.scale_bits());
    let arguments =
        [data, described, outputs, status, slots, scale_bits, blocks.len() as u64, u64::from(kind)];
    let launch =
        Launch { grid: [grid, 1, 1], block: [THREADS, 1, 1], shared_bytes: 0, arguments: &arguments };
    let report = module.launch("rans_decode", &mut device, &launch, options)?;
    let status = statuses(&mut device, status, blocks.len());
    Ok((device.read(outputs, bytes).to_vec(), status, report))
}

/// Frames of codec rANS for one launch.
#[derive(Clone, Copy, Debug)]
pub struct RansFrame<'a> {
    /// The bytes that the offsets refer to.
    pub data: &'a [u8],
    /// The positions of its chunks.
    pub chunks: &'a [RansBlock],
    /// Their frequencies.
    pub frequencies: &'a Frequencies,
    /// The kernels' number for the way in which elements are put together.
    pub kind: u32,
    /// The size of all elements in bytes.
    pub bytes: usize,
}

/// Decodes frames in one launch of `rans_decode_batch` on this many thread blocks, their bytes
/// `skipped` bytes after the start of a buffer. Returns their elements, their statuses, and the
/// report of the emulator.
///
/// # Errors
///
/// The errors of [`Module::launch`].
pub fn frames(
    module: &Module,
    frames: &[RansFrame<'_>],
    grid: u32,
    skipped: usize,
    options: &Options,
) -> Result<Decoded, Error> {
    let mut device = Device::new();
    let (mut described, mut outputs, mut first) = (Vec::new(), Vec::new(), 0);
    for frame in frames {
        let mut table = Box::new(DecodeTable::new());
        table.build(frame.frequencies);
        let slots: Vec<u8> = table.slots().iter().flat_map(|slot| slot.to_le_bytes()).collect();
        let chunks: Vec<u8> =
            frame.chunks.iter().flat_map(RansBlock::describe).flat_map(u64::to_le_bytes).collect();
        let data = upload(&mut device, frame.data, skipped);
        let (chunks, slots) = (upload(&mut device, &chunks, 0), upload(&mut device, &slots, 0));
        let elements = device.allocate(frame.bytes);
        outputs.push((elements, frame.bytes));
        let number = frame.chunks.len() as u64;
        let scale = number | u64::from(frame.frequencies.scale_bits()) << 32;
        described.extend([data, chunks, slots, elements - BASE, first, scale, u64::from(frame.kind), 0]);
        first += number;
    }
    run_batch(module, "rans_decode_batch", device, &described, &outputs, first, grid, options)
}

/// A frame of codec dictionary.
#[derive(Clone, Debug)]
pub struct DictionaryFrame<'a> {
    /// For each code: its symbols from the low byte on, and eight times their number in the high
    /// byte.
    pub entries: Vec<u64>,
    /// The codes of all chunks.
    pub codes: &'a [u8],
    /// The number of groups of eight codes in each chunk.
    pub counts: Vec<u16>,
    /// The planes of the raw part.
    pub planes: &'a [u8],
    /// The number of bytes from one plane to the next.
    pub stride: usize,
    /// The number of elements.
    pub n: usize,
    /// The number of bits of a code: 8 or 12.
    pub width: u32,
    /// The kernels' number for the way in which elements are put together.
    pub kind: u32,
}

impl<'a> DictionaryFrame<'a> {
    /// Extracts the kernel's input from a frame, and compares its checksums; `None` for other
    /// codecs.
    ///
    /// # Errors
    ///
    /// The errors of [`Frame::chunks_layout`].
    pub fn new(frame: &Frame<'a>) -> Result<Option<Self>, df11::Error> {
        let header = frame.header();
        let Some(model) = header.dictionary() else { return Ok(None) };
        let mut table = Box::new(dictionary::DecodeTable::<4096>::new());
        table.build(model)?;
        let entries = table.dictionary().map_or(&[][..], |dictionary| dictionary.entries()).to_vec();
        let (layout, bytes) = (frame.chunks_layout()?, frame.as_bytes());
        let counts = bytes[layout.groups].as_chunks().0.iter().map(|count| u16::from_le_bytes(*count));
        Ok(Some(DictionaryFrame {
            entries,
            codes: &bytes[layout.codes],
            counts: counts.collect(),
            planes: &bytes[layout.planes[0]..],
            stride: layout.planes[1].saturating_sub(layout.planes[0]),
            n: frame.elements_bytes() / header.element_type().bytes(),
            width: u32::from(model.width().bits()),
            kind: element_kind(header.element_type()),
        }))
    }
}

/// Decodes frames in one launch of `fast_decode_batch`, as [`frames`] does.
///
/// # Errors
///
/// The errors of [`Module::launch`].
pub fn dictionaries(
    module: &Module,
    frames: &[DictionaryFrame<'_>],
    grid: u32,
    skipped: usize,
    options: &Options,
) -> Result<Decoded, Error> {
    let mut device = Device::new();
    let (mut described, mut outputs, mut first) = (Vec::new(), Vec::new(), 0);
    for frame in frames {
        let entries = dictionary_table(&frame.entries, frame.kind);
        let mut offset = 0u32;
        let mut offsets = offset.to_le_bytes().to_vec();
        for count in &frame.counts {
            offset += u32::from(*count);
            offsets.extend(offset.to_le_bytes());
        }
        let bytes = frame.n * [1, 2, 2, 4][frame.kind as usize];
        let [entries, offsets] = [&entries, &offsets].map(|bytes| upload(&mut device, bytes, 0));
        let [codes, planes] = [frame.codes, frame.planes].map(|part| upload_part(&mut device, part, skipped));
        let elements = device.allocate(bytes);
        outputs.push((elements, bytes));
        let (n, number) = (frame.n as u64, frame.counts.len() as u64);
        let width = number | u64::from(frame.width) << 32;
        let stride = frame.stride as u64;
        let parts = [entries, codes, offsets, planes, stride, elements - BASE];
        described.extend(parts);
        described.extend([n, first, width, u64::from(frame.kind)]);
        first += number;
    }
    run_batch(module, "fast_decode_batch", device, &described, &outputs, first, grid, options)
}

/// Launches a kernel for several items, and returns their results.
#[expect(clippy::too_many_arguments, reason = "what a launch takes, and what comes out of it")]
fn run_batch(
    module: &Module,
    entry: &str,
    mut device: Device,
    described: &[u64],
    outputs: &[(u64, usize)],
    blocks: u64,
    grid: u32,
    options: &Options,
) -> Result<Decoded, Error> {
    let described: Vec<u8> = described.iter().flat_map(|word| word.to_le_bytes()).collect();
    let described = upload(&mut device, &described, 0);
    let status = upload(&mut device, &NOTHING_WRONG.to_le_bytes().repeat(outputs.len()), 0);
    let arguments = [described, outputs.len() as u64, blocks, BASE, status];
    let launch =
        Launch { grid: [grid, 1, 1], block: [THREADS, 1, 1], shared_bytes: 0, arguments: &arguments };
    let report = module.launch(entry, &mut device, &launch, options)?;
    let found = outputs.iter().map(|(at, len)| device.read(*at, *len).to_vec()).collect();
    Ok((found, statuses(&mut device, status, outputs.len()), report))
}
