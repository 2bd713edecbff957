//! Encodes DF11 units.

use df11::Error;
use df11::hazmat::huffman::{Codewords, FIRST_JUMP, PrefixTablesBuf};
use df11::hazmat::layout::WINDOW_BYTES;
use df11::{EncodeOptions, MAX_ELEMENTS, Parts, Plan};

use super::{Kernels, Machine, Pass, Scratch, Tensor, counts, with_scratch};
use crate::kernels::WARPS;

/// The largest number of weights of a tile, so that its counts fit 16 bits.
const MAX_TILE_WEIGHTS: usize = (1 << 16) - 1;

/// From this number of weights on, there are enough tiles for every card even if they are large.
const LARGE_UNIT_WEIGHTS: usize = 1 << 23;

/// The division of a unit into the parts that thread blocks take. The bytes of the unit do not
/// depend on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tiling {
    /// Tiles end at multiples of this number of weights of the unit, 1 to 65,535, and at the ends
    /// of tensors.
    pub weights: usize,
}

impl Tiling {
    /// Returns a good tiling for a unit of this many weights. The counts of a tile take 512 bytes,
    /// which are written and read again.
    #[must_use]
    pub const fn of(weights: usize) -> Self {
        Tiling { weights: if weights < LARGE_UNIT_WEIGHTS { 4096 } else { 16_384 } }
    }
}

/// A unit in the memory of a machine. Its owner must free the memory with [`free`](Self::free).
#[derive(Clone, Debug)]
pub struct EncodedUnit {
    /// The addresses of its tables, code, signs and mantissas, output positions, and gaps.
    pub addresses: [u64; 5],
    /// Its code, and the size of each part.
    pub plan: Plan,
    /// The part that only hosts need.
    pub split_positions: Vec<u8>,
}

impl EncodedUnit {
    /// Copies the unit to the host.
    ///
    /// # Errors
    ///
    /// The error of the machine.
    pub fn download<M: Machine>(&self, machine: &mut M) -> Result<df11::EncodedUnit, M::Error> {
        let [luts, encoded_exponent, sign_mantissa, output_positions, gaps] = self.addresses;
        let mut unit = self.plan.buffers();
        machine.read(luts, &mut unit.luts)?;
        machine.read(encoded_exponent, &mut unit.encoded_exponent)?;
        machine.read(sign_mantissa, &mut unit.sign_mantissa)?;
        machine.read(output_positions, &mut unit.output_positions)?;
        machine.read(gaps, &mut unit.gaps)?;
        unit.split_positions.clone_from(&self.split_positions);
        Ok(unit)
    }

    /// Frees its memory.
    ///
    /// # Errors
    ///
    /// The error of the machine.
    pub fn free<M: Machine>(self, machine: &mut M) -> Result<(), M::Error> {
        self.addresses.into_iter().try_for_each(|address| machine.free(address))
    }
}

/// Encodes the unit of these tensors, in this order. The bytes are those of [`df11::encode`].
///
/// # Errors
///
/// The errors of [`Plan::new`] for data that the layout cannot hold; [`Error::PlanMismatch`] if the
/// weights change meanwhile; the errors of the machine.
pub fn unit<M: Machine>(
    machine: &mut M,
    tensors: &[Tensor],
    options: &EncodeOptions,
) -> Result<EncodedUnit, M::Error> {
    let weights = tensors.iter().fold(0usize, |sum, tensor| sum.saturating_add(tensor.elements));
    planned_unit(machine, tensors, Tiling::of(weights), |frequencies| {
        Plan::from_frequencies(frequencies, tensors.len(), options)
    })
}

/// Encodes a unit with a tiling and a code of the caller's choice. `plan` makes the code from the
/// frequencies of exponents.
///
/// # Errors
///
/// The errors of `plan` and of [`unit()`]; [`Error::PlanMismatch`] if the plan is for other numbers
/// of weights or tensors.
pub fn planned_unit<M: Machine>(
    machine: &mut M,
    tensors: &[Tensor],
    tiling: Tiling,
    plan: impl FnOnce(&[u64; 256]) -> Result<Plan, Error>,
) -> Result<EncodedUnit, M::Error> {
    with_scratch(machine, |scratch| encode(scratch, tensors, tiling, plan))
}

/// A tile, in the form of the kernels.
#[derive(Clone, Copy, Debug)]
struct Tile {
    address: u64,
    first: usize,
    weights: usize,
}

/// Cuts tensors into tiles.
fn tiles(tensors: &[Tensor], tiling: Tiling) -> Vec<Tile> {
    let tile_weights = tiling.weights.clamp(1, MAX_TILE_WEIGHTS);
    let mut tiles = Vec::new();
    let mut first = 0;
    for tensor in tensors {
        let (start, end) = (first, first + tensor.elements);
        while first < end {
            let weights = (tile_weights - first % tile_weights).min(end - first);
            tiles.push(Tile { address: tensor.address + 2 * (first - start) as u64, first, weights });
            first += weights;
        }
    }
    tiles
}

/// The memory of the passes before the plan.
struct Counted {
    tiles: u64,
    number: u32,
    histograms: u64,
    totals: u64,
}

impl Counted {
    fn pass(&self) -> Pass {
        Pass {
            kernels: Kernels::Df11,
            entry: "df11_encode_count",
            thread_blocks: self.number,
            arguments: vec![self.tiles, self.number.into(), self.histograms, self.totals],
        }
    }
}

/// The memory of the passes after the plan.
struct Planned {
    codewords: u64,
    bits: u64,
    offsets: u64,
    status: u64,
    code: u64,
    sign_mantissa: u64,
    positions: u64,
    gaps: u64,
    code_bits: u64,
    sizes: Parts<usize>,
}

impl Planned {
    fn passes(&self, counted: &Counted) -> [Pass; 3] {
        let Planned { codewords, bits, offsets, status, code, .. } = *self;
        let Planned { sign_mantissa, positions, gaps, code_bits, sizes, .. } = *self;
        let Counted { tiles, histograms, .. } = *counted;
        let number = u64::from(counted.number);
        let pass = |entry, thread_blocks: u32, arguments: &[u64]| {
            let arguments = arguments.to_vec();
            Pass { kernels: Kernels::Df11, entry, thread_blocks, arguments }
        };
        let elements = sizes.sign_mantissa as u64;
        let windows = sizes.encoded_exponent.div_ceil(WINDOW_BYTES) as u64;
        let blocks = sizes.output_positions as u64 / 4 - 1;
        let gap_words = sizes.gaps as u64 / 4;
        [
            pass(
                "df11_encode_sizes",
                counted.number.div_ceil(WARPS),
                &[histograms, codewords, number, bits, gaps, gap_words],
            ),
            pass(
                "df11_encode_scan",
                1,
                &[bits, number, offsets, code, code_bits, positions, blocks, elements, status],
            ),
            pass(
                "df11_encode_emit",
                counted.number,
                &[
                    tiles,
                    number,
                    offsets,
                    codewords,
                    code,
                    sign_mantissa,
                    positions,
                    gaps,
                    elements,
                    windows,
                    status,
                ],
            ),
        ]
    }
}

fn encode<M: Machine>(
    scratch: &mut Scratch<'_, M>,
    tensors: &[Tensor],
    tiling: Tiling,
    plan: impl FnOnce(&[u64; 256]) -> Result<Plan, Error>,
) -> Result<EncodedUnit, M::Error> {
    let elements = tensors.iter().map(|tensor| tensor.elements as u64).fold(0, u64::saturating_add);
    if elements == 0 {
        return Err(Error::EmptyUnit.into());
    }
    if elements > MAX_ELEMENTS as u64 {
        return Err(Error::TooManyElements { elements }.into());
    }
    let tiles = tiles(tensors, tiling);
    let counted = count(scratch, &tiles)?;
    let frequencies = counts(&scratch.machine.download(counted.totals, 8 * 256)?);
    let plan = match plan(&frequencies) {
        Ok(plan) => plan,
        Err(error) => return Err(locate(scratch, error, &tiles, counted.histograms)?.into()),
    };
    let sizes = plan.sizes();
    let split_positions = split_positions(tensors);
    if (sizes.sign_mantissa, sizes.split_positions) != (elements as usize, split_positions.len()) {
        return Err(Error::PlanMismatch { element: 0 }.into());
    }
    let luts = PrefixTablesBuf::build(plan.codewords())?;
    let luts = scratch.upload(luts.as_bytes())?;
    let planned = Planned {
        codewords: scratch.upload(&describe(plan.codewords()))?,
        bits: scratch.allocate(4 * tiles.len())?,
        offsets: scratch.allocate(8 * (tiles.len() + 1))?,
        status: scratch.allocate(8)?,
        code: scratch.allocate(sizes.encoded_exponent)?,
        sign_mantissa: scratch.allocate(sizes.sign_mantissa)?,
        positions: scratch.allocate(sizes.output_positions)?,
        gaps: scratch.allocate(sizes.gaps)?,
        code_bits: plan.code_bits(),
        sizes,
    };
    for pass in planned.passes(&counted) {
        scratch.machine.run(&pass)?;
    }
    let status = scratch.machine.download(planned.status, 8)?;
    if status.iter().any(|byte| *byte != 0) {
        return Err(Error::PlanMismatch { element: 0 }.into());
    }
    let Planned { code, sign_mantissa, positions, gaps, .. } = planned;
    let addresses = [luts, code, sign_mantissa, positions, gaps];
    scratch.keep(&addresses);
    Ok(EncodedUnit { addresses, plan, split_positions })
}

fn count<M: Machine>(scratch: &mut Scratch<'_, M>, tiles: &[Tile]) -> Result<Counted, M::Error> {
    let describe = |tile: &Tile| [tile.address, tile.first as u64 | (tile.weights as u64) << 32];
    let described: Vec<u8> = tiles.iter().flat_map(describe).flat_map(u64::to_le_bytes).collect();
    let counted = Counted {
        tiles: scratch.upload(&described)?,
        // There are fewer weights than 2^31.
        number: tiles.len() as u32,
        histograms: scratch.allocate(2 * 256 * tiles.len())?,
        totals: scratch.upload(&[0; 8 * 256])?,
    };
    scratch.machine.run(&counted.pass())?;
    Ok(counted)
}

/// Returns the codewords in the form of the kernels.
fn describe(codewords: &Codewords) -> Vec<u8> {
    let of = |symbol: u8| match u32::from(codewords.len(symbol)) {
        0 => [0, 0],
        length => [codewords.bits(symbol) << (32 - length), length],
    };
    (0..=u8::MAX).flat_map(of).flat_map(u32::to_le_bytes).collect()
}

fn split_positions(tensors: &[Tensor]) -> Vec<u8> {
    let mut end = 0u64;
    let ends = tensors.iter().map(|tensor| {
        end += tensor.elements as u64;
        end
    });
    let ends: Vec<u64> = ends.collect();
    ends[..ends.len() - 1].iter().flat_map(|end| end.to_le_bytes()).collect()
}

/// Adds the position of the first weight that cannot be represented to an error that lacks it. The
/// counts of the tiles tell where to look.
fn locate<M: Machine>(
    scratch: &mut Scratch<'_, M>,
    error: Error,
    tiles: &[Tile],
    histograms: u64,
) -> Result<Error, M::Error> {
    let Error::UnrepresentableExponent { element: None, .. } = error else { return Ok(error) };
    let first = 2 * usize::from(FIRST_JUMP);
    for (tile, at) in tiles.iter().zip((histograms..).step_by(2 * 256)) {
        let counts = scratch.machine.download(at, 2 * 256)?;
        if counts[first..].iter().all(|byte| *byte == 0) {
            continue;
        }
        let weights = scratch.machine.download(tile.address, 2 * tile.weights)?;
        let exponents =
            weights.as_chunks::<2>().0.iter().map(|weight| (u16::from_le_bytes(*weight) >> 7) as u8);
        let found = exponents.zip(tile.first as u64..).find(|(exponent, _)| *exponent >= FIRST_JUMP);
        if let Some((exponent, element)) = found {
            return Ok(Error::UnrepresentableExponent { element: Some(element), exponent });
        }
    }
    Ok(error)
}
