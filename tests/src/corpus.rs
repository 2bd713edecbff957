//! The real weights: their location, and the files made from them.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use half::bf16;
use safetensors::tensor::{Dtype, TensorView};
use safetensors::{SafeTensors, serialize};
use serde_json::json;

/// Returns the folder where `tests/fetch_corpus.sh` puts the corpus: `f32/` as published, `bf16/`
/// rounded.
#[must_use]
pub fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../.corpus")
}

/// Returns a file of the corpus, if it has been fetched; otherwise reports that the test is
/// skipped.
#[must_use]
pub fn fetched(name: &str) -> Option<PathBuf> {
    let path = directory().join(name);
    if path.exists() {
        return Some(path);
    }
    // This writes straight to standard error, because the output of `eprintln!` is not shown for a
    // test that passes.
    let _ = std::io::stderr()
        .write_all(b"skipped: the real weights are not there; tests/fetch_corpus.sh fetches them\n");
    None
}

/// A tensor with its own bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tensor {
    /// Element type.
    pub dtype: Dtype,
    /// Shape.
    pub shape: Vec<usize>,
    /// Little-endian bytes.
    pub bytes: Vec<u8>,
}

impl Tensor {
    /// Makes a BF16 tensor of these bit patterns.
    #[must_use]
    pub fn bf16(shape: &[usize], weights: &[u16]) -> Self {
        Tensor { dtype: Dtype::BF16, shape: shape.to_vec(), bytes: crate::weights::bytes(weights) }
    }
}

/// Tensors by name.
pub type Tensors = BTreeMap<String, Tensor>;

/// Reads all tensors of a file.
#[must_use]
pub fn read(path: &Path) -> Tensors {
    let bytes = fs::read(path).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let own = |(name, view): (String, TensorView<'_>)| {
        let tensor =
            Tensor { dtype: view.dtype(), shape: view.shape().to_vec(), bytes: view.data().to_vec() };
        (name, tensor)
    };
    file.tensors().into_iter().map(own).collect()
}

/// Writes tensors to a file with the safetensors library.
pub fn write(path: &Path, tensors: &Tensors) {
    let views = tensors.iter().map(|(name, tensor)| {
        (name.as_str(), TensorView::new(tensor.dtype, tensor.shape.clone(), &tensor.bytes).unwrap())
    });
    let metadata = Some([("format".to_owned(), "pt".to_owned())].into());
    fs::write(path, serialize(views, metadata).unwrap()).unwrap();
}

/// Rounds every F32 tensor to BF16, to nearest even, and leaves the others.
#[must_use]
pub fn rounded(tensors: Tensors) -> Tensors {
    let round = |(name, tensor): (String, Tensor)| {
        if tensor.dtype != Dtype::F32 {
            return (name, tensor);
        }
        let weights: Vec<u16> = tensor
            .bytes
            .chunks_exact(4)
            .map(|b| bf16::from_f32(f32::from_le_bytes([b[0], b[1], b[2], b[3]])).to_bits())
            .collect();
        (name, Tensor::bf16(&tensor.shape, &weights))
    };
    tensors.into_iter().map(round).collect()
}

/// Writes tensors as shards with an index, in an existing directory. Tensors go to the shards in
/// order of name.
pub fn write_shards(directory: &Path, tensors: &Tensors, shards: usize) {
    let mut map = serde_json::Map::new();
    let total: usize = tensors.values().map(|tensor| tensor.bytes.len()).sum();
    let (mut shard, mut filled, mut part) = (1, 0, Tensors::new());
    for (i, (name, tensor)) in tensors.iter().enumerate() {
        let file = format!("model-{shard:05}-of-{shards:05}.safetensors");
        map.insert(name.clone(), json!(file));
        part.insert(name.clone(), tensor.clone());
        filled += tensor.bytes.len();
        if (filled * shards >= total * shard && shard < shards) || i + 1 == tensors.len() {
            write(&directory.join(&file), &part);
            part.clear();
            shard += 1;
        }
    }
    let index = json!({"metadata": {"total_size": total}, "weight_map": map});
    let text = serde_json::to_string_pretty(&index).unwrap() + "\n";
    fs::write(directory.join("model.safetensors.index.json"), text).unwrap();
}

/// Selects the part of the corpus that ships with the command: one attention matrix from each of
/// two layers, and the small tensors beside them.
#[must_use]
pub fn demonstration(tensors: &Tensors) -> Tensors {
    let wanted = |name: &str| {
        let layer = name.strip_prefix("encoder.layer.0.").or_else(|| name.strip_prefix("encoder.layer.1."));
        layer.is_some_and(|rest| {
            rest.starts_with("attention.self.query.") || rest.starts_with("output.LayerNorm.")
        }) || name == "embeddings.token_type_embeddings.weight"
    };
    tensors
        .iter()
        .filter(|(name, _)| wanted(name))
        .map(|(name, tensor)| (name.clone(), tensor.clone()))
        .collect()
}
