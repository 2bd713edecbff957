//! Tests the model: resident and streamed weights give the same bits, and the outputs are those
//! that its publishers state.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "helpers of tests"
)]

mod common;

use std::fs;
use std::path::Path;

use df11_candle::adapter::Weights;
use df11_candle::bert::{Bert, Config, Encoded, Resident, Source, Streamed, parts};
use tokenizers::Tokenizer;

use crate::common::{compressed, originals};

const HIDDEN: usize = 64;
const INNER: usize = 256;
const WORDS: usize = 1200;
const LONGEST: usize = 40;

fn config() -> Config {
    serde_json::from_value(serde_json::json!({
        "hidden_size": HIDDEN, "intermediate_size": INNER, "num_attention_heads": 4, "num_hidden_layers": 3,
        "layer_norm_eps": 1e-12, "hidden_act": "gelu", "max_position_embeddings": LONGEST,
    }))
    .unwrap()
}

fn shape(name: &str) -> Vec<usize> {
    match name {
        _ if name.contains("word_") => vec![WORDS, HIDDEN],
        _ if name.contains("position_") => vec![LONGEST, HIDDEN],
        _ if name.contains("token_type_") => vec![2, HIDDEN],
        _ if name.ends_with("intermediate.dense.weight") => vec![INNER, HIDDEN],
        _ if name.ends_with("intermediate.dense.bias") => vec![INNER],
        _ if name.ends_with("LayerNorm.weight") || name.ends_with("bias") => vec![HIDDEN],
        _ if name.ends_with("attention.output.dense.weight") || name.contains(".self.") => {
            vec![HIDDEN, HIDDEN]
        }
        _ => vec![HIDDEN, INNER],
    }
}

fn bits(encoded: &Encoded) -> Vec<u32> {
    let all =
        [&encoded.tokens, &encoded.sentence].map(|t| t.flatten_all().unwrap().to_vec1::<f32>().unwrap());
    all.into_iter().flatten().map(f32::to_bits).collect()
}

#[test]
fn resident_and_streamed_weights_give_the_same_bits() {
    let tables = ["word_embeddings.weight", "position_embeddings.weight", "token_type_embeddings.weight"];
    let embeddings = tables.into_iter().chain(["LayerNorm.weight", "LayerNorm.bias"]);
    let names = embeddings.map(|name| format!("embeddings.{name}")).chain(parts(&config()).concat());
    let originals = originals(names.map(|name| (name.clone(), shape(&name))));
    let texts = [vec![5], vec![1, 2, 3, 1199, 0, 7, 7, 7], (1000..1000 + LONGEST as u32).collect()];

    let directory = tempfile::tempdir().unwrap();
    let resident = originals.iter().map(|(name, (shape, elements))| {
        let tensor = candle_core::Tensor::from_slice(elements, shape.as_slice(), &candle_core::Device::Cpu);
        (name.clone(), tensor.unwrap())
    });
    let mut resident = Bert::new(Resident::new(resident.collect(), &config()), config()).unwrap();
    let expected: Vec<_> = texts.iter().map(|text| bits(&resident.encode(text).unwrap())).collect();
    assert!(expected.iter().flatten().all(|&value| f32::from_bits(value).is_finite()));
    for path in compressed(&originals, directory.path()) {
        for buffers in [1, 3] {
            let weights = Weights::open(&path).unwrap();
            let matrix = weights.reader().tensor("encoder.layer.1.output.dense.weight").unwrap();
            assert!(!matrix.is_plain(), "a plain matrix would show nothing");
            let source = Streamed::new(weights, &config(), buffers).unwrap();
            let mut streamed = Bert::new(source, config()).unwrap();
            for _ in 0..3 {
                for (text, expected) in texts.iter().zip(&expected) {
                    assert!(bits(&streamed.encode(text).unwrap()) == *expected);
                }
            }
            // Buffers of the largest part, the first norm, and three times the rows of the longest
            // text.
            let largest = 2 * (HIDDEN * INNER + INNER).max(4 * HIDDEN * (HIDDEN + 1) + 2 * HIDDEN);
            let expected = buffers * largest + 2 * (2 * HIDDEN) + 3 * (2 * LONGEST * HIDDEN);
            assert_eq!(streamed.source().decoded_bytes(), expected);
            for wrong in [vec![], vec![0; LONGEST + 1], vec![WORDS as u32]] {
                assert!(streamed.encode(&wrong).is_err());
            }
            // The errors came before any part was taken.
            assert!(streamed.encode(&texts[0]).is_ok());
        }
    }
}

#[test]
fn configurations_that_this_program_does_not_know_are_errors() {
    struct Nothing;
    impl Source for Nothing {
        fn rows(&mut self, _: &str, _: &[u32]) -> candle_core::Result<candle_core::Tensor> {
            candle_core::bail!("nothing")
        }
        fn tensor(&mut self, _: &str) -> candle_core::Result<candle_core::Tensor> {
            candle_core::bail!("nothing")
        }
        fn part(&mut self, _: usize) -> candle_core::Result<df11_candle::adapter::Part> {
            candle_core::bail!("nothing")
        }
    }
    let error = |config| Bert::new(Nothing, config).err().map(|error| error.to_string()).unwrap();
    assert!(error(Config { hidden_act: "relu".to_owned(), ..config() }).contains("relu"));
    assert!(error(Config { num_attention_heads: 0, ..config() }).contains("heads"));
    assert!(error(Config { num_attention_heads: 7, ..config() }).contains("heads"));
    assert!(error(config()).contains("nothing"));
}

/// The documentation of Sentence Transformers prints these similarities for all-MiniLM-L6-v2 and
/// these sentences, from F32 weights. The weights here are rounded to BF16, which changes the third
/// digit.
#[test]
fn real_weights_give_the_published_similarities() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../.corpus");
    let Ok(weights) = Weights::open(&root.join("bf16/model.safetensors")) else {
        println!("skipped: no real weights; tests/fetch_corpus.sh fetches them");
        return;
    };
    let config: Config = serde_json::from_slice(&fs::read(root.join("f32/config.json")).unwrap()).unwrap();
    let mut tokenizer = Tokenizer::from_file(root.join("f32/tokenizer.json")).unwrap();
    tokenizer.with_padding(None);
    let mut bert = Bert::new(Streamed::new(weights, &config, 2).unwrap(), config).unwrap();
    let texts = ["The weather is lovely today.", "It's so sunny outside!", "He drove to the stadium."];
    let embeddings = texts.map(|text| {
        let tokens = tokenizer.encode(text, true).unwrap();
        bert.encode(tokens.get_ids()).unwrap().sentence.to_vec1::<f32>().unwrap()
    });
    let similarity =
        |a: usize, b: usize| -> f32 { embeddings[a].iter().zip(&embeddings[b]).map(|(a, b)| a * b).sum() };
    for (found, published) in [
        (similarity(0, 1), 0.6660),
        (similarity(0, 2), 0.1046),
        (similarity(1, 2), 0.1411),
        (similarity(2, 2), 1.0),
    ] {
        assert!((found - published).abs() < 5e-3, "{found} instead of {published}");
    }
}
