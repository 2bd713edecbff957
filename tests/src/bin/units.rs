//! Writes units of random tensors for other people's readers: `units NUMBER OUT.safetensors`. Unit
//! `i` has the parts `i.luts` and so on, and `i.all` has its weights.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a tool for developers")]

use std::path::Path;

use df11_tests::corpus::{self, Tensor, Tensors};
use df11_tests::weights::{Random, bytes, like_trained, with_exponents};
use safetensors::tensor::Dtype;

/// Weights of every kind: as trained, of few exponents, and of exponents halving in frequency.
fn weights(random: &mut Random, number: u64) -> Vec<u16> {
    let bits = 3 + random.below(10);
    let n = 1 + random.below(1 << bits) as usize;
    match random.below(3) {
        0 => like_trained(n, number),
        1 => {
            let symbols = 1 + random.below(12);
            with_exponents((0..n).map(|_| 110 + random.below(symbols) as u8), number)
        }
        _ => with_exponents((0..n).map(|_| 100 + random.below(1 << 20).leading_zeros() as u8 % 30), number),
    }
}

fn main() {
    let args: Vec<String> = std::env::args().collect();
    let [_, number, path] = args.as_slice() else { panic!("usage: units NUMBER OUT.safetensors") };
    let mut random = Random(11);
    let mut tensors = Tensors::new();
    for i in 0..number.parse().unwrap() {
        let weights = weights(&mut random, i);
        let unit = df11::encode(&bytes(&weights)).unwrap();
        tensors.insert(format!("{i}.all"), Tensor::bf16(&[weights.len()], &weights));
        for ((key, _), part) in df11::PARTS.iter().zip(unit.as_slices().into_array()) {
            let (dtype, shape) = match *key {
                "luts" => (Dtype::U8, vec![part.len() / 256, 256]),
                "split_positions" => (Dtype::I64, vec![part.len() / 8]),
                _ => (Dtype::U8, vec![part.len()]),
            };
            tensors.insert(format!("{i}.{key}"), Tensor { dtype, shape, bytes: part.to_vec() });
        }
    }
    corpus::write(Path::new(path), &tensors);
}
