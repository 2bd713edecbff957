//! What the targets share.

pub mod deltas;
pub mod frames;
pub mod quick;

use df11::hazmat::rans::Frequencies;
use df11::{Counts, Decoder, EncodedUnit, Encoder, Level, Plan, Unit, bf16, encode};
use safetensors::tensor::{Dtype, TensorView};
use tempfile::TempDir;

/// Cuts any bytes into parts: for each, four bytes of length, then the bytes; what is missing is
/// empty.
pub fn cut<const N: usize>(mut data: &[u8]) -> [&[u8]; N] {
    std::array::from_fn(|_| {
        let (length, rest) = data.split_first_chunk::<4>().unwrap_or((&[0; 4], &[]));
        let (part, rest) = rest.split_at(rest.len().min(u32::from_le_bytes(*length) as usize));
        data = rest;
        part
    })
}

/// The front of a part as settings; what is missing is 0.
pub fn settings<const N: usize>(part: &[u8]) -> [u8; N] {
    std::array::from_fn(|i| part.get(i).copied().unwrap_or(0))
}

/// So many symbols under these frequencies that the reference soon decodes them: it finds a symbol
/// by about its square of additions.
pub fn soon(frequencies: &Frequencies) -> usize {
    let squares =
        (1..).zip(frequencies.as_array()).map(|(s, f): (u64, _)| u64::from(*f) * s * s).sum::<u64>();
    ((200_000 << frequencies.scale_bits()) / squares).clamp(40, 1000) as usize
}

/// A unit as fuzzers see it: six [parts](cut). Seeds in this form are made from the vectors
/// (`df11_tests::vectors::seeds`).
pub struct Parts<'a>([&'a [u8]; 6]);

impl<'a> Parts<'a> {
    /// Cuts any bytes into six parts.
    pub fn parse(data: &'a [u8]) -> Self {
        Parts(cut(data))
    }

    /// The parts for `df11`.
    pub fn tensors(&self) -> df11::Parts<&'a [u8]> {
        df11::Parts::from_array(self.0)
    }

    /// The parts for the reference.
    pub fn reference(&self) -> df11_reference::Unit {
        let [luts, encoded_exponent, sign_mantissa, output_positions, gaps, split_positions] =
            self.0.map(<[u8]>::to_vec);
        df11_reference::Unit {
            luts,
            encoded_exponent,
            sign_mantissa,
            output_positions,
            gaps,
            split_positions,
        }
    }
}

/// A safetensors file with one sound unit, and this text as its `df11` metadata.
pub fn unit_file(text: String) -> Vec<u8> {
    let unit = encode(&[0x80, 0x3f, 0, 0x40]).unwrap();
    let view = |dtype, shape: Vec<usize>, bytes| TensorView::new(dtype, shape, bytes).unwrap();
    let u8s = |bytes| view(Dtype::U8, vec![<[u8]>::len(bytes)], bytes);
    let views = [
        ("a.luts", view(Dtype::U8, vec![unit.luts.len() / 256, 256], &unit.luts)),
        ("a.encoded_exponent", u8s(&unit.encoded_exponent)),
        ("a.sign_mantissa", u8s(&unit.sign_mantissa)),
        ("a.output_positions", u8s(&unit.output_positions)),
        ("a.gaps", u8s(&unit.gaps)),
        ("a.split_positions", view(Dtype::I64, vec![0], &unit.split_positions)),
    ];
    safetensors::serialize(views, Some([("df11".to_owned(), text)].into())).unwrap()
}

/// A folder in memory, where the system has such.
pub fn folder() -> TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap()
}

/// The strict verdict of `df11`: the weights as little-endian bytes, or nothing.
pub fn verdict(tensors: df11::Parts<&[u8]>) -> Option<Vec<u8>> {
    let unit = Unit::new(tensors).ok()?;
    let mut weights = vec![0; 2 * unit.len()];
    let verdict = unit.verify_blocks_into(0..unit.blocks(), &mut weights);
    // With tables of many symbols, which small units would not get by themselves: the same verdict,
    // and the same error.
    let mut fast = vec![0; weights.len()];
    let level = level(unit.len());
    let found = Decoder::at_level(&unit, level).verify_blocks_into(0..unit.blocks(), &mut fast);
    assert_eq!(found, verdict, "{level:?}");
    assert!(verdict.is_err() || fast == weights, "{level:?}");
    verdict.is_ok().then_some(weights)
}

/// One of the levels of this machine, the same for the same number.
fn level(number: usize) -> Level {
    Level::all().nth(number % Level::all().count()).unwrap()
}

/// Decodes a run of blocks on every level, and compares weights and errors with those of the
/// compact decoder.
fn every_level(unit: &Unit<'_>, decoders: &[(Level, Decoder<'_>)], first: usize, last: usize) {
    let start = unit.block_range(first).start;
    let len = 2 * (unit.block_range(last).start - start);
    let (mut weights, mut fast) = (vec![0; len], vec![0; len + 1]);
    // Ranges are decoded by the compact decoder.
    let expected = unit.decode_range_into(start..start + len / 2, &mut weights);
    for (odd, (level, decoder)) in decoders.iter().enumerate() {
        let fast = &mut fast[odd % 2..][..len];
        assert_eq!(decoder.decode_blocks_into(first..last, fast), expected, "{level:?}");
        assert!(expected.is_err() || fast == weights, "{level:?}");
    }
}

/// Encodes on one of the levels, whole and in pieces of at most `most` weights, and compares the
/// bytes with those of the plan.
pub fn encodes_alike(plan: &Plan, tensors: &[&[u8]], most: usize, expected: &EncodedUnit) {
    let mut counts = Counts::with_piece_len(most);
    for piece in tensors.iter().flat_map(|tensor| tensor.chunks(2 * most)) {
        let mut frequencies = [0; 256];
        bf16::add_to_histogram(piece, &mut frequencies).unwrap();
        counts.push(frequencies);
    }
    let level = level(most);
    let encoder = Encoder::at_level(plan, level);
    let mut unit = expected.clone();
    for part in
        [&mut unit.encoded_exponent, &mut unit.sign_mantissa, &mut unit.output_positions, &mut unit.gaps]
    {
        part.fill(0xa5);
    }
    let mut pieces = unit.clone();
    encoder.encode_into(tensors, unit.as_mut_slices()).unwrap();
    assert!(unit == *expected, "{level:?}");
    encoder.encode_parallel_into(tensors, &counts, pieces.as_mut_slices()).unwrap();
    assert!(pieces == *expected, "{level:?}, pieces of {most}");
}

/// Uses a unit in every way that takes any range.
pub fn exercise(unit: &Unit<'_>, start: u32, end: u32) {
    let mut weights = vec![0; 2 * unit.len()];
    let whole = unit.decode_into(&mut weights).is_ok();
    for block in 0..unit.blocks() {
        let range = unit.block_range(block);
        let mut part = vec![0; 2 * range.len()];
        let decoded = unit.decode_block_into(block, &mut part);
        assert!(!whole || (decoded.is_ok() && part == weights[2 * range.start..2 * range.end]));
    }
    let decoders: Vec<_> = Level::all().map(|level| (level, Decoder::at_level(unit, level))).collect();
    every_level(unit, &decoders, 0, unit.blocks());
    let cuts = [start, end].map(|cut| cut as usize % (unit.blocks() + 1));
    every_level(unit, &decoders, cuts[0].min(cuts[1]), cuts[0].max(cuts[1]));
    let (a, b) = (start as usize % (unit.len() + 1), end as usize % (unit.len() + 1));
    let range = a.min(b)..a.max(b);
    let mut part = vec![0; 2 * range.len()];
    let decoded = unit.decode_range_into(range.clone(), &mut part);
    assert!(!whole || (decoded.is_ok() && part == weights[2 * range.start..2 * range.end]));
    assert_eq!(unit.tensor_ranges().map(|range| range.len()).sum::<usize>(), unit.len());
    let _ = df11::hazmat::huffman::Codewords::from_tables(&unit.tables());
}

/// Weights as little-endian bytes, with exponents that a unit can hold.
pub fn representable(weights: &[u16]) -> Vec<u8> {
    weights.iter().flat_map(|w| if (w >> 7) as u8 >= 240 { w & !0x4000 } else { *w }.to_le_bytes()).collect()
}
