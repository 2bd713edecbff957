//! Tensors and their bases, and the kernels of every capability.

use std::sync::LazyLock;

use df11::delta::EncodeOptions;
use df11::frame::ElementType;
use df11_emulator::{Module, Options};
use df11_gpu::delta::{DeltaFault, Upload};
use df11_gpu::kernels::DELTA_APPLY;
use df11_gpu_lab::delta::{Applied, Item, apply};
use df11_tests::weights::{Random, like_trained};

pub(crate) use crate::emulated::{is_clean, options};

pub(crate) static DELTA: LazyLock<[(String, Module); 4]> = LazyLock::new(|| {
    DELTA_APPLY.map(|ptx| (format!("sm_{}", ptx.capability), Module::parse(ptx.text).unwrap()))
});

pub(crate) const TYPES: [ElementType; 6] = ElementType::ALL;

/// How a tensor differs from its base.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    /// Not at all.
    None,
    /// One element in a hundred thousand, or the last.
    Few,
    /// Every element by some units in the last place, now and then by many.
    Near,
    /// Some runs of elements alone, by a little.
    Rows,
    /// Every element is any other.
    Far,
}

pub(crate) const CHANGES: [Change; 5] = [Change::None, Change::Few, Change::Near, Change::Rows, Change::Far];

/// Makes elements that are distributed like trained weights, in the high bytes at least.
pub(crate) fn base(element_type: ElementType, n: usize, seed: u64) -> Vec<u8> {
    let trained = like_trained(n, seed);
    let mut random = Random(seed | 1);
    let element = |weight: u16| {
        let low = (random.next() as u16).to_le_bytes();
        let [first, second] = weight.to_le_bytes();
        match element_type.bytes() {
            1 => vec![second ^ first >> 3],
            2 => vec![first, second],
            _ => vec![low[0], low[1], first, second],
        }
    };
    trained.into_iter().flat_map(element).collect()
}

/// Changes elements.
pub(crate) fn changed(element_type: ElementType, base: &[u8], change: Change, seed: u64) -> Vec<u8> {
    let (size, mut random) = (element_type.bytes(), Random(seed | 1));
    let mut new = base.to_vec();
    let elements = base.len() / size;
    for (i, element) in new.chunks_exact_mut(size).enumerate() {
        let number = |bytes: &[u8]| bytes.iter().rev().fold(0u32, |all, byte| all << 8 | u32::from(*byte));
        let small = 1u32 << (random.below(3) + if size == 4 { 9 } else { 0 });
        let value = match change {
            Change::None => continue,
            Change::Few if i % 100_000 != 77 && i + 1 != elements => continue,
            Change::Rows if i / 300 % 7 != 2 => continue,
            Change::Far => random.next() as u32,
            Change::Near if random.below(200) == 0 => random.next() as u32,
            _ => number(element).wrapping_add(small).wrapping_sub(random.below(3) as u32),
        };
        element.copy_from_slice(&value.to_le_bytes()[..size]);
    }
    new
}

/// Makes all ways to encode method 2 of a type, in blocks of this many elements.
pub(crate) fn ways(element_type: ElementType, block: usize) -> Vec<EncodeOptions> {
    let mut ways = Vec::new();
    for low in 0..element_type.bytes() {
        for map in [false, true] {
            for escapes in [false, true] {
                let way = EncodeOptions::new().method(df11::delta::Method::Coded).block(block);
                ways.push(way.low_part(low).map(map).escapes(escapes));
            }
        }
    }
    ways
}

/// A delta with its base and the result.
#[derive(Clone, Debug)]
pub(crate) struct Sample {
    pub(crate) bytes: Vec<u8>,
    pub(crate) base: Vec<u8>,
    pub(crate) new: Vec<u8>,
}

impl Sample {
    pub(crate) fn new(way: EncodeOptions, element_type: ElementType, new: &[u8], base: &[u8]) -> Self {
        let bytes = way.encode(element_type, new, base).unwrap();
        assert!(df11::delta::Delta::new(&bytes).unwrap().apply(base).unwrap() == new);
        Sample { bytes, base: base.to_vec(), new: new.to_vec() }
    }

    pub(crate) fn item(&self) -> Item<'_> {
        Item { delta: Upload::new(&self.bytes).unwrap(), base: &self.base, damage: Vec::new() }
    }
}

/// Applies deltas, and checks that the kernels do nothing wrong.
#[track_caller]
pub(crate) fn run(
    (target, module): &(String, Module),
    items: &[Item<'_>],
    grid: u32,
    skipped: usize,
    options: &Options,
) -> (Vec<Vec<u8>>, Vec<Option<DeltaFault>>) {
    let Applied { elements, faults, reports } = apply(module, items, grid, skipped, options).unwrap();
    for (entry, report) in &reports {
        is_clean(report, &format!("{entry} for {target}"));
    }
    (elements, faults)
}

/// Applies samples together, and checks that the results are right.
#[track_caller]
pub(crate) fn come_out(target: usize, samples: &[Sample], grid: u32, skipped: usize, seed: u64) {
    let items: Vec<_> = samples.iter().map(Sample::item).collect();
    let (found, faults) = run(&DELTA[target], &items, grid, skipped, &options(seed));
    for (i, (found, sample)) in found.iter().zip(samples).enumerate() {
        assert_eq!(faults[i], None, "delta {i}");
        let differs = found.iter().zip(&sample.new).position(|(found, new)| found != new);
        assert_eq!((found.len(), differs), (sample.new.len(), None), "delta {i}");
    }
}
