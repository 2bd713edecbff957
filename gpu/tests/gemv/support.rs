//! Products, and what they must be.

#[path = "../common/emulated.rs"]
mod emulated;

use std::sync::LazyLock;

use df11::frame::{self, Codec, ElementType};
use df11_emulator::Module;
use df11_gpu::kernels::{DF11_GEMV, FAST_GEMV, PLAIN_GEMV, Ptx};
use df11_gpu_lab::gemv::Operands;
use df11_tests::weights::{Random, like_trained};

pub(crate) use emulated::{is_clean, options};

type Kernels = LazyLock<[(String, Module); 4]>;

pub(crate) static PLAIN: Kernels = LazyLock::new(|| parse(PLAIN_GEMV));

pub(crate) static FAST: Kernels = LazyLock::new(|| parse(FAST_GEMV));

pub(crate) static DF11: Kernels = LazyLock::new(|| parse(DF11_GEMV));

fn parse(kernels: [Ptx; 4]) -> [(String, Module); 4] {
    kernels.map(|ptx| (format!("sm_{}", ptx.capability), Module::parse(ptx.text).unwrap()))
}

/// A matrix, vectors, a bias and a residual.
pub(crate) struct Linear {
    pub(crate) rows: usize,
    pub(crate) columns: usize,
    pub(crate) vectors: usize,
    pub(crate) weights: Vec<u16>,
    pub(crate) x: Vec<u16>,
    pub(crate) bias: Option<Vec<u16>>,
    pub(crate) residual: Option<Vec<u16>>,
    pub(crate) is_wide: bool,
}

impl Linear {
    /// Makes a product with weights like trained ones, and vectors of normal numbers.
    pub(crate) fn new(rows: usize, columns: usize, vectors: usize, random: &mut Random) -> Self {
        let weights = like_trained(rows * columns, random.next());
        Linear::of(weights, rows, columns, vectors, random)
    }

    /// Makes a product with these weights.
    pub(crate) fn of(
        weights: Vec<u16>,
        rows: usize,
        columns: usize,
        vectors: usize,
        random: &mut Random,
    ) -> Self {
        let mut some = |n: usize| (random.below(2) == 0).then(|| like_trained(n, random.next()));
        let (bias, residual) = (some(rows), some(vectors * rows));
        let x = like_trained(vectors * columns, random.next());
        Linear { rows, columns, vectors, weights, x, bias, residual, is_wide: random.below(2) == 0 }
    }

    pub(crate) fn operands(&self) -> Operands<'_> {
        let (bias, residual) = (self.bias.as_deref(), self.residual.as_deref());
        let Linear { rows, columns, is_wide, .. } = *self;
        Operands { rows, columns, x: &self.x, bias, residual, is_wide }
    }

    /// Returns the frame of codec dictionary that has the weights.
    pub(crate) fn frame(&self) -> Vec<u8> {
        let options = frame::EncodeOptions::new().codec(Codec::Dictionary);
        let bytes: Vec<u8> = self.weights.iter().flat_map(|weight| weight.to_le_bytes()).collect();
        let shape = [self.rows as u64, self.columns as u64];
        options.encode(ElementType::Bf16, &shape, &bytes).unwrap()
    }

    /// Returns the sums in the order that `gpu/kernels/gemv.cuh` states, before they are rounded.
    pub(crate) fn sums(&self) -> Vec<f32> {
        let Linear { rows, columns, vectors, .. } = *self;
        let results = (0..vectors).flat_map(|vector| (0..rows).map(move |row| (vector, row)));
        let result = |(vector, row): (usize, usize)| {
            let x = &self.x[vector * columns..][..columns];
            let (begin, end) = (row * columns, (row + 1) * columns);
            let pieces = (begin / 1024..end.div_ceil(1024)).map(|segment| {
                let mut lanes = [0f32; 32];
                for element in begin.max(segment * 1024)..end.min((segment + 1) * 1024) {
                    let sum = &mut lanes[element / 8 % 32];
                    *sum = wide(self.weights[element]).mul_add(wide(x[element - begin]), *sum);
                }
                for distance in [16, 8, 4, 2, 1] {
                    (0..distance).for_each(|lane| lanes[lane] += lanes[lane + distance]);
                }
                lanes[0]
            });
            let sum = pieces.fold(0f32, |sum, piece| sum + piece);
            let sum = self.bias.as_ref().map_or(sum, |bias| sum + wide(bias[row]));
            self.residual.as_ref().map_or(sum, |residual| sum + wide(residual[vector * rows + row]))
        };
        results.map(result).collect()
    }

    /// Returns the results as a kernel stores them.
    pub(crate) fn results(&self) -> Vec<u8> {
        let sums = self.sums();
        if self.is_wide {
            sums.iter().flat_map(|sum| sum.to_le_bytes()).collect()
        } else {
            sums.iter().flat_map(|sum| half::bf16::from_f32(*sum).to_le_bytes()).collect()
        }
    }
}

/// Returns the number that a BF16 stands for.
pub(crate) fn wide(number: u16) -> f32 {
    f32::from_bits(u32::from(number) << 16)
}
