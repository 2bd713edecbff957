//! Models made of pseudo-random weights, compressed with each codec.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use df11_model::{Codec, CompressOptions, compress};
use half::bf16;
use safetensors::tensor::{Dtype, TensorView, serialize};

/// The original tensors of a model: shapes and elements by name.
pub(crate) type Originals = BTreeMap<String, (Vec<usize>, Vec<bf16>)>;

/// Makes elements with the distribution of trained weights, so that they compress. The same seed
/// gives the same elements.
fn elements(count: usize, seed: u64) -> Vec<bf16> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut uniform = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / (1 << 24) as f32 - 0.5
    };
    (0..count).map(|_| bf16::from_f32(0.1 * (uniform() + uniform() + uniform()))).collect()
}

/// Makes tensors of these names and shapes.
pub(crate) fn originals(shapes: impl IntoIterator<Item = (String, Vec<usize>)>) -> Originals {
    let tensors = shapes.into_iter().enumerate().map(|(seed, (name, shape))| {
        let elements = elements(shape.iter().product(), seed as u64 + 1);
        (name, (shape, elements))
    });
    tensors.collect()
}

/// Writes the model, and compresses it with each codec, into `directory`. Returns the paths of the
/// compressed models.
pub(crate) fn compressed(originals: &Originals, directory: &Path) -> [PathBuf; 2] {
    let plain = directory.join("model.safetensors");
    let views = originals.iter().map(|(name, (shape, elements))| {
        (name, TensorView::new(Dtype::BF16, shape.clone(), bytemuck::cast_slice(elements)).unwrap())
    });
    std::fs::write(&plain, serialize(views, None).unwrap()).unwrap();
    [("df11", Codec::Df11), ("rans", Codec::Rans)].map(|(name, codec)| {
        let out = directory.join(name);
        compress(&plain, &out, &CompressOptions::default().codec(codec), &()).unwrap();
        out
    })
}
