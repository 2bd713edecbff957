//! BERT as an encoder of sentences, written for weights that are loaded and dropped part by part.
//!
//! The forward pass asks a [`Source`] for weights part by part and drops each part before the next,
//! so the same code runs from [resident](Resident) weights and from [streamed](Streamed) ones.
//! Weights are BF16. candle's CPU backend multiplies no BF16 matrices, so each weight is converted
//! to F32 where it is used, whatever the source, and freed after.

use std::collections::HashMap;

use candle_core::{DType, Error, Result, Tensor, bail};
use candle_nn::ops::{layer_norm, softmax_last_dim};
use serde::Deserialize;

use crate::adapter::{Part, Stream, Weights};

/// The fields of a model's `config.json` that are needed.
#[derive(Clone, Debug, Deserialize)]
pub struct Config {
    /// The length of a token's vector.
    pub hidden_size: usize,
    /// The length of a token's vector inside the feed-forward network.
    pub intermediate_size: usize,
    /// The number of attention heads, which divides `hidden_size`.
    pub num_attention_heads: usize,
    /// The number of transformer blocks.
    pub num_hidden_layers: usize,
    /// The constant that keeps layer normalisation from dividing by zero.
    pub layer_norm_eps: f64,
    /// The activation inside the feed-forward network. Only `gelu` is supported here.
    pub hidden_act: String,
    /// The largest number of tokens in a text.
    pub max_position_embeddings: usize,
}

const WORDS: &str = "embeddings.word_embeddings.weight";
const POSITIONS: &str = "embeddings.position_embeddings.weight";
const TYPES: &str = "embeddings.token_type_embeddings.weight";

/// The parts of a transformer block, of about equal size.
const ATTENTION: usize = 0;
const INTERMEDIATE: usize = 1;
const OUTPUT: usize = 2;
/// The number of [`parts`] in a transformer block.
pub const PARTS_OF_BLOCK: usize = 3;

/// The names of the tensors of each part, in the order in which the forward pass uses the parts.
#[must_use]
pub fn parts(config: &Config) -> Vec<Vec<String>> {
    let blocks = (0..config.num_hidden_layers).map(|block| format!("encoder.layer.{block}"));
    let both = |prefix: &str| ["weight", "bias"].map(|kind| format!("{prefix}.{kind}"));
    let parts = blocks.flat_map(|block| {
        let mut parts = vec![Vec::new(); PARTS_OF_BLOCK];
        for layer in ["self.query", "self.key", "self.value", "output.dense", "output.LayerNorm"] {
            parts[ATTENTION].extend(both(&format!("{block}.attention.{layer}")));
        }
        parts[INTERMEDIATE].extend(both(&format!("{block}.intermediate.dense")));
        for layer in ["output.dense", "output.LayerNorm"] {
            parts[OUTPUT].extend(both(&format!("{block}.{layer}")));
        }
        parts
    });
    parts.collect()
}

/// A source of weights. All weights are BF16.
pub trait Source {
    /// Returns rows of a table, in the requested order.
    ///
    /// # Errors
    ///
    /// If there is no such table or row, or it cannot be decoded.
    fn rows(&mut self, table: &str, rows: &[u32]) -> Result<Tensor>;

    /// Returns a tensor that the model keeps.
    ///
    /// # Errors
    ///
    /// If there is none of this name, or it cannot be decoded.
    fn tensor(&mut self, name: &str) -> Result<Tensor>;

    /// Returns one of [`parts`], by its number. The forward pass requests them in order, and holds
    /// one at a time.
    ///
    /// # Errors
    ///
    /// If another part comes next, or if it cannot be decoded.
    fn part(&mut self, part: usize) -> Result<Part>;
}

/// All weights in memory, as BF16.
#[derive(Debug)]
pub struct Resident {
    tensors: HashMap<String, Tensor>,
    parts: Vec<Vec<String>>,
}

impl Resident {
    /// Takes the tensors of a model by their names.
    #[must_use]
    pub fn new(tensors: HashMap<String, Tensor>, config: &Config) -> Self {
        Resident { tensors, parts: parts(config) }
    }

    fn find(&self, name: &str) -> Result<&Tensor> {
        self.tensors.get(name).ok_or_else(|| Error::msg(format!("there is no tensor {name}")))
    }
}

impl Source for Resident {
    fn rows(&mut self, table: &str, rows: &[u32]) -> Result<Tensor> {
        let table = self.find(table)?;
        table.index_select(&Tensor::new(rows, table.device())?, 0)
    }

    fn tensor(&mut self, name: &str) -> Result<Tensor> {
        self.find(name).cloned()
    }

    fn part(&mut self, part: usize) -> Result<Part> {
        let names = self.parts.get(part).ok_or_else(|| Error::msg(format!("there is no part {part}")))?;
        let tensors = names.iter().map(|name| Ok((name.clone(), self.find(name)?.clone())));
        Ok(Part::resident(tensors.collect::<Result<_>>()?))
    }
}

/// Weights that stay compressed. Blocks are streamed. Of the tables, only the rows in use are
/// decoded.
#[derive(Debug)]
pub struct Streamed {
    weights: Weights,
    stream: Stream,
    most_row_bytes: usize,
    kept_bytes: usize,
}

impl Streamed {
    /// Starts to decode the first parts, into this number of buffers.
    ///
    /// # Errors
    ///
    /// As [`Weights::stream`].
    pub fn new(weights: Weights, config: &Config, buffers: usize) -> Result<Self> {
        let stream = weights.stream(&parts(config), buffers)?;
        Ok(Streamed { weights, stream, most_row_bytes: 0, kept_bytes: 0 })
    }

    /// Returns the largest total size of decoded data at any time: the stream's buffers, tensors
    /// that the model keeps, and the rows of the longest text from all tables together.
    #[must_use]
    pub fn decoded_bytes(&self) -> usize {
        self.stream.buffer_bytes() + self.kept_bytes + self.most_row_bytes
    }
}

impl Source for Streamed {
    fn rows(&mut self, table: &str, rows: &[u32]) -> Result<Tensor> {
        let decoded = self.weights.rows(table, rows)?;
        // Three tables give the rows of one text, each the same number.
        self.most_row_bytes = self.most_row_bytes.max(3 * bytes(&decoded));
        Ok(decoded)
    }

    fn tensor(&mut self, name: &str) -> Result<Tensor> {
        let decoded = self.weights.load(name)?;
        self.kept_bytes += bytes(&decoded);
        Ok(decoded)
    }

    fn part(&mut self, part: usize) -> Result<Part> {
        self.stream.take(part)
    }
}

/// The bytes of a tensor's elements.
#[must_use]
pub fn bytes(tensor: &Tensor) -> usize {
    tensor.elem_count() * tensor.dtype().size_in_bytes()
}

/// The model: its configuration and a source of weights.
#[derive(Debug)]
pub struct Bert<S> {
    source: S,
    config: Config,
    embedding_norm: (Tensor, Tensor),
}

/// The outputs for a text, in F32.
#[derive(Debug)]
pub struct Encoded {
    /// The last block's output, of shape (tokens, hidden).
    pub tokens: Tensor,
    /// Their mean, scaled to length 1: the text's embedding, of shape (hidden).
    pub sentence: Tensor,
}

impl<S: Source> Bert<S> {
    /// Makes a model with weights from `source`.
    ///
    /// # Errors
    ///
    /// If this program does not support the configuration, or if weights do not exist.
    pub fn new(mut source: S, config: Config) -> Result<Self> {
        if config.hidden_act != "gelu" {
            bail!("hidden_act is {}, but only gelu is known here", config.hidden_act);
        }
        let heads = config.num_attention_heads;
        if heads == 0 || !config.hidden_size.is_multiple_of(heads) {
            bail!("{heads} heads do not divide a vector of {}", config.hidden_size);
        }
        let mut tensor = |kind| source.tensor(&format!("embeddings.LayerNorm.{kind}"));
        let embedding_norm = (tensor("weight")?, tensor("bias")?);
        Ok(Bert { source, config, embedding_norm })
    }

    /// The source of weights.
    pub const fn source(&self) -> &S {
        &self.source
    }

    /// Runs the model on the token ids of one text.
    ///
    /// # Errors
    ///
    /// If there is no token or too many, or if weights cannot be read.
    pub fn encode(&mut self, tokens: &[u32]) -> Result<Encoded> {
        if tokens.is_empty() || tokens.len() > self.config.max_position_embeddings {
            let most = self.config.max_position_embeddings;
            bail!("a text of {} tokens was given; it must have 1 to {most}", tokens.len());
        }
        let mut hidden = self.embed(tokens)?;
        for block in 0..self.config.num_hidden_layers {
            let prefix = format!("encoder.layer.{block}");
            let first = PARTS_OF_BLOCK * block;
            // Dropping a part gives its buffer back to the thread that decodes ahead.
            let part = self.source.part(first + ATTENTION)?;
            hidden = self.attention(&part, &prefix, &hidden)?;
            drop(part);
            let part = self.source.part(first + INTERMEDIATE)?;
            let inner = linear(&part, &format!("{prefix}.intermediate.dense"), &hidden)?.gelu_erf()?;
            drop(part);
            let part = self.source.part(first + OUTPUT)?;
            let outer = linear(&part, &format!("{prefix}.output.dense"), &inner)?;
            hidden = self.norm_of(&part, &format!("{prefix}.output.LayerNorm"), &(outer + hidden)?)?;
        }
        let mean = hidden.mean(0)?;
        let length = mean.sqr()?.sum_all()?.sqrt()?;
        Ok(Encoded { tokens: hidden, sentence: mean.broadcast_div(&length)? })
    }

    /// Sums the vectors of words, positions and (all the same) token types. Shape: (tokens,
    /// hidden).
    fn embed(&mut self, tokens: &[u32]) -> Result<Tensor> {
        let positions: Vec<u32> = (0..).take(tokens.len()).collect();
        let types = vec![0; tokens.len()];
        let mut rows = |table, rows: &[u32]| self.source.rows(table, rows)?.to_dtype(DType::F32);
        let words = rows(WORDS, tokens)?;
        let sum = ((words + rows(TYPES, &types)?)? + rows(POSITIONS, &positions)?)?;
        let (weight, bias) = &self.embedding_norm;
        self.norm(weight, bias, &sum)
    }

    /// Attention of all tokens to all, its projection, the residual connection and its
    /// normalisation.
    fn attention(&self, part: &Part, prefix: &str, hidden: &Tensor) -> Result<Tensor> {
        let (tokens, size) = hidden.dims2()?;
        let heads = self.config.num_attention_heads;
        let by_head = |layer: &str| {
            let projected = linear(part, &format!("{prefix}.attention.self.{layer}"), hidden)?;
            projected.reshape((tokens, heads, size / heads))?.transpose(0, 1)?.contiguous()
        };
        let (query, key, value) = (by_head("query")?, by_head("key")?, by_head("value")?);
        let scores = (query.matmul(&key.t()?)? / ((size / heads) as f64).sqrt())?;
        let context = softmax_last_dim(&scores)?.matmul(&value)?.transpose(0, 1)?.reshape((tokens, size))?;
        let output = linear(part, &format!("{prefix}.attention.output.dense"), &context)?;
        self.norm_of(part, &format!("{prefix}.attention.output.LayerNorm"), &(output + hidden)?)
    }

    fn norm_of(&self, part: &Part, name: &str, x: &Tensor) -> Result<Tensor> {
        self.norm(part.tensor(&format!("{name}.weight"))?, part.tensor(&format!("{name}.bias"))?, x)
    }

    fn norm(&self, weight: &Tensor, bias: &Tensor, x: &Tensor) -> Result<Tensor> {
        let eps = self.config.layer_norm_eps as f32;
        layer_norm(x, &weight.to_dtype(DType::F32)?, &bias.to_dtype(DType::F32)?, eps)
    }
}

/// x Wᵀ + b. The matrix is converted to F32 here, and that copy lives only for this product.
fn linear(part: &Part, name: &str, x: &Tensor) -> Result<Tensor> {
    let weight = part.tensor(&format!("{name}.weight"))?.to_dtype(DType::F32)?;
    let bias = part.tensor(&format!("{name}.bias"))?.to_dtype(DType::F32)?;
    x.matmul(&weight.t()?)?.broadcast_add(&bias)
}
