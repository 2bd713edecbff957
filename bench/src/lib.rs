//! The weights that the benches use.

use df11_tests::corpus;

/// Returns the weights to measure on, as little-endian BF16, with their name. They are the word
/// embeddings of the real corpus (11.7 million weights) or, where it has not been fetched, the
/// weights that ship with the command, repeated 64 times.
#[must_use]
pub fn weights() -> (&'static str, Vec<u8>) {
    let corpus = corpus::directory().join("bf16/model.safetensors");
    if corpus.exists() {
        let mut tensors = corpus::read(&corpus);
        if let Some(tensor) = tensors.remove("embeddings.word_embeddings.weight") {
            return ("word_embeddings", tensor.bytes);
        }
    }
    let demo = corpus::directory().join("../cli/demo/model-00001-of-00002.safetensors");
    let matrices = corpus::read(&demo).into_values().filter(|tensor| tensor.shape.len() == 2);
    ("demo_weights_x64", matrices.flat_map(|tensor| tensor.bytes).collect::<Vec<_>>().repeat(64))
}
