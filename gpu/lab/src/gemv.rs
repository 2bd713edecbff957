//! Runs the kernels that multiply matrices with vectors.

use df11::Parts;
use df11_emulator::{Device, Error, Launch, Module, Options, Report};
use df11_gpu::gemv::{Product, room, unit_blocks};
use df11_gpu::kernels::THREADS;

use crate::emulate::{self, BASE, DictionaryFrame, NOTHING_WRONG, statuses, upload, upload_part};
use df11_gpu::table::{decode_table, dictionary_table};

/// A product to run, but for the weights of its matrix. All numbers are BF16 but for F32 results.
#[derive(Clone, Copy, Debug)]
pub struct Operands<'a> {
    /// The number of rows.
    pub rows: usize,
    /// The number of columns.
    pub columns: usize,
    /// The vectors, one after the other.
    pub x: &'a [u16],
    /// A bias for each row.
    pub bias: Option<&'a [u16]>,
    /// What is added to the results.
    pub residual: Option<&'a [u16]>,
    /// Whether results are F32.
    pub is_wide: bool,
}

/// The results of each product of a launch, their statuses, and the report of the emulator.
pub type Multiplied = (Vec<Vec<u8>>, Vec<u32>, Report);

/// The place of the results of a product, and of the counters that must be 0 afterwards.
struct Placed {
    results: (u64, usize),
    counters: (u64, usize),
}

fn bytes(numbers: &[u16]) -> Vec<u8> {
    numbers.iter().flat_map(|number| number.to_le_bytes()).collect()
}

/// Uploads what belongs to a product, as if its vectors and results were offsets from an address.
fn place(
    device: &mut Device,
    operands: &Operands<'_>,
    vectors: usize,
    first_block: u32,
) -> (Product, Placed) {
    let Operands { rows, columns, x, bias, residual, is_wide } = *operands;
    assert_eq!(x.len(), vectors * columns, "vectors of a launch");
    let size = if is_wide { 4 } else { 2 };
    let results = (device.allocate(size * vectors * rows), size * vectors * rows);
    let x = upload(device, &bytes(x), 0) - BASE;
    let bias = bias.map_or(0, |bias| upload(device, &bytes(bias), 0));
    let residual = residual.map(|residual| upload(device, &bytes(residual), 0).wrapping_sub(BASE));
    let mut product = Product {
        x,
        y: results.0 - BASE,
        bias,
        residual,
        x_stride: columns as u64,
        y_stride: rows as u64,
        rows: rows as u32,
        columns: columns as u32,
        first_block,
        is_wide,
        ..Product::default()
    };
    product.blocks = product.even_blocks();
    product.pieces = device.allocate(product.piece_bytes(vectors));
    let counters = product.counter_bytes(vectors);
    product.arrived = upload(device, &vec![0; counters], 0);
    (product, Placed { results, counters: (product.arrived, counters) })
}

/// Launches a kernel, and checks that counters are as they were. Returns what it left:
/// results, statuses, counts.
#[expect(clippy::too_many_arguments, reason = "what a launch takes, and what comes out of it")]
fn run(
    module: &Module,
    entry: &str,
    mut device: Device,
    described: &[u64],
    placed: &[Placed],
    vectors: usize,
    blocks: u32,
    grid: u32,
    has_status: bool,
    options: &Options,
) -> Result<Multiplied, Error> {
    let described: Vec<u8> = described.iter().flat_map(|word| word.to_le_bytes()).collect();
    let described = upload(&mut device, &described, 0);
    let status = upload(&mut device, &NOTHING_WRONG.to_le_bytes().repeat(placed.len()), 0);
    let mut arguments = vec![described, placed.len() as u64, u64::from(blocks), BASE, BASE, vectors as u64];
    if has_status {
        arguments.push(status);
    }
    let entry = format!("{entry}_{}", room(vectors));
    let launch =
        Launch { grid: [grid, 1, 1], block: [THREADS, 1, 1], shared_bytes: 0, arguments: &arguments };
    let report = module.launch(&entry, &mut device, &launch, options)?;
    for Placed { counters: (at, len), .. } in placed {
        assert!(device.read(*at, *len).iter().all(|byte| *byte == 0), "counters are 0 after a launch");
    }
    let found = placed.iter().map(|placed| device.read(placed.results.0, placed.results.1).to_vec());
    let found = found.collect();
    Ok((found, statuses(&mut device, status, placed.len()), report))
}

/// Multiplies plain matrices in one launch of `plain_gemv`, their weights `skipped` elements after
/// the start of a buffer.
///
/// # Errors
///
/// The errors of [`Module::launch`].
pub fn plain(
    module: &Module,
    items: &[(&[u16], Operands<'_>)],
    vectors: usize,
    grid: u32,
    skipped: usize,
    options: &Options,
) -> Result<Multiplied, Error> {
    let mut device = Device::new();
    let (mut described, mut placed, mut blocks) = (Vec::new(), Vec::new(), 0);
    for (weights, operands) in items {
        let (product, place) = place(&mut device, operands, vectors, blocks);
        assert_eq!(weights.len(), product.elements(), "weights of a matrix");
        described.extend(product.describe());
        described.extend([upload(&mut device, &bytes(weights), 2 * skipped), 0]);
        placed.push(place);
        blocks += product.blocks;
    }
    run(module, "plain_gemv", device, &described, &placed, vectors, blocks, grid, false, options)
}

/// Multiplies matrices of codec dictionary in one launch of `fast_gemv`, their parts `skipped`
/// bytes after the start of a buffer.
///
/// # Errors
///
/// The errors of [`Module::launch`].
pub fn fast(
    module: &Module,
    items: &[(DictionaryFrame<'_>, Operands<'_>)],
    vectors: usize,
    grid: u32,
    skipped: usize,
    options: &Options,
) -> Result<Multiplied, Error> {
    let mut device = Device::new();
    let (mut described, mut placed, mut blocks) = (Vec::new(), Vec::new(), 0);
    for (frame, operands) in items {
        let (mut product, place) = place(&mut device, operands, vectors, blocks);
        product.blocks = frame.counts.len() as u32;
        let entries = dictionary_table(&frame.entries, frame.kind);
        let before = frame.counts.iter().scan(0u32, |sum, count| {
            *sum += u32::from(*count);
            Some(*sum)
        });
        let offsets: Vec<u8> = [0].into_iter().chain(before).flat_map(u32::to_le_bytes).collect();
        let [entries, offsets] = [&entries, &offsets].map(|bytes| upload(&mut device, bytes, 0));
        let [codes, plane] = [frame.codes, frame.planes].map(|part| upload_part(&mut device, part, skipped));
        let width = frame.counts.len() as u64 | u64::from(frame.width) << 32;
        described.extend(product.describe());
        described.extend([entries, codes, offsets, plane, width, 0]);
        placed.push(place);
        blocks += product.blocks;
    }
    run(module, "fast_gemv", device, &described, &placed, vectors, blocks, grid, true, options)
}

/// Multiplies ranges of units in one launch of `df11_gemv`, each from this element of its unit on;
/// their parts are `skipped` bytes after the start of a buffer.
///
/// # Errors
///
/// The errors of [`Module::launch`].
pub fn units(
    module: &Module,
    items: &[(Parts<&[u8]>, usize, Operands<'_>)],
    vectors: usize,
    grid: u32,
    skipped: usize,
    options: &Options,
) -> Result<Multiplied, Error> {
    let mut device = Device::new();
    let (mut described, mut placed, mut all) = (Vec::new(), Vec::new(), 0);
    for (parts, first, operands) in items {
        let (mut product, place) = place(&mut device, operands, vectors, all);
        let blocks = unit_blocks(parts.output_positions, *first..first + product.elements());
        product.blocks = blocks.end - blocks.start;
        let ([luts, codes, signs, positions, gaps, _, n_luts, n_bytes, n], _) =
            emulate::arguments(&mut device, parts, skipped);
        let table = upload(&mut device, &decode_table(parts.luts), 0);
        described.extend(product.describe());
        described.extend([table, luts, codes, signs, positions, gaps, 0, n_luts, n_bytes, n, 0, 0]);
        described.extend([*first as u64, u64::from(blocks.start)]);
        placed.push(place);
        all += product.blocks;
    }
    run(module, "df11_gemv", device, &described, &placed, vectors, all, grid, true, options)
}
