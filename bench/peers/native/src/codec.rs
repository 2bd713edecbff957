//! What is timed: codecs of weights, and codecs of bytes put to work on the exponents alone.

use df11_core::bf16;
use df11_core::df11::{Buffers, EncodedUnit, Options, Plan, Unit};

use crate::Result;

/// A compressor of weights that keeps what it compressed. It allocates when it is made, not when it works.
pub(crate) trait Codec {
    /// Compresses; returns the compressed size in bytes.
    fn encode(&mut self, weights: &[u8]) -> Result<u64>;

    /// Restores what was compressed last into `weights`, which is as long as the original.
    fn decode(&mut self, weights: &mut [u8]) -> Result<()>;
}

/// This repository's codec: all weights as one unit.
pub(crate) struct Df11 {
    unit: EncodedUnit,
}

impl Df11 {
    /// Encodes once, since only a plan knows how large the buffers must be.
    pub(crate) fn new(weights: &[u8]) -> Result<Self> {
        Ok(Df11 { unit: df11_core::df11::encode(&[weights], &Options::default())? })
    }
}

impl Codec for Df11 {
    /// Histogram, code and tables, then the six tensors.
    fn encode(&mut self, weights: &[u8]) -> Result<u64> {
        let plan = Plan::new(&[weights], &Options::default())?;
        let EncodedUnit {
            luts,
            encoded_exponent,
            sign_mantissa,
            output_positions,
            gaps,
            split_positions,
            ..
        } = &mut self.unit;
        let buffers =
            Buffers { luts, encoded_exponent, sign_mantissa, output_positions, gaps, split_positions };
        plan.encode_into(&[weights], buffers)?;
        Ok(plan.sizes().total())
    }

    /// Validation of the unit, then the weights.
    fn decode(&mut self, weights: &mut [u8]) -> Result<()> {
        Ok(Unit::new(self.unit.tensors())?.decode_into(weights)?)
    }
}

/// The bare work that every codec of exponents shares: weights to planes, planes to weights, nothing compressed.
pub(crate) struct SplitAndMerge {
    exponents: Vec<u8>,
    sign_mantissas: Vec<u8>,
}

impl SplitAndMerge {
    pub(crate) fn new(bytes: usize) -> Self {
        // 1 and not 0, here and below: zeros are pages that nobody has touched yet.
        SplitAndMerge {
            exponents: vec![1; bytes / bf16::BYTES],
            sign_mantissas: vec![1; bytes / bf16::BYTES],
        }
    }
}

impl Codec for SplitAndMerge {
    fn encode(&mut self, weights: &[u8]) -> Result<u64> {
        bf16::split(weights, &mut self.exponents, &mut self.sign_mantissas)?;
        Ok(weights.len() as u64)
    }

    fn decode(&mut self, weights: &mut [u8]) -> Result<()> {
        Ok(bf16::merge(&self.exponents, &self.sign_mantissas, weights)?)
    }
}

/// A compressor of blocks of bytes.
pub(crate) trait ByteCodec {
    /// Bytes in a block, small enough that block, codec and merging share the second-level cache of current processors.
    const BLOCK: usize;

    /// The most bytes that a block can become.
    fn bound(&self) -> usize;

    /// Compresses `block` into the front of `out`, which has room for [`bound`](Self::bound) bytes; returns how many it
    /// took.
    fn compress(&mut self, block: &[u8], out: &mut [u8]) -> Result<usize>;

    /// Restores a block; `block` is as long as the original.
    fn decompress(&mut self, compressed: &[u8], block: &mut [u8]) -> Result<()>;
}

/// Bytes that a container would need to find a block.
const BLOCK_HEADER: u64 = 4;

/// A codec of weights out of one of bytes: exponents compressed by the block, signs and mantissas raw.
pub(crate) struct OnExponents<C> {
    codec: C,
    /// The exponents of one block.
    block: Vec<u8>,
    /// All compressed blocks, one after the other.
    compressed: Vec<u8>,
    /// Where each compressed block ends.
    ends: Vec<usize>,
    sign_mantissas: Vec<u8>,
}

impl<C: ByteCodec> OnExponents<C> {
    /// The codec, with room for this many bytes of weights.
    pub(crate) fn new(codec: C, bytes: usize) -> Self {
        let weights = bytes / bf16::BYTES;
        let blocks = weights.div_ceil(C::BLOCK);
        OnExponents {
            block: vec![1; C::BLOCK],
            compressed: vec![1; blocks * codec.bound()],
            ends: Vec::with_capacity(blocks),
            sign_mantissas: vec![1; weights],
            codec,
        }
    }
}

impl<C: ByteCodec> Codec for OnExponents<C> {
    fn encode(&mut self, weights: &[u8]) -> Result<u64> {
        self.ends.clear();
        let mut at = 0;
        for (weights, sign_mantissas) in
            weights.chunks(bf16::BYTES * C::BLOCK).zip(self.sign_mantissas.chunks_mut(C::BLOCK))
        {
            let block = &mut self.block[..sign_mantissas.len()];
            bf16::split(weights, block, sign_mantissas)?;
            at += self.codec.compress(block, &mut self.compressed[at..])?;
            self.ends.push(at);
        }
        Ok((at + self.sign_mantissas.len()) as u64 + BLOCK_HEADER * self.ends.len() as u64)
    }

    fn decode(&mut self, weights: &mut [u8]) -> Result<()> {
        let mut start = 0;
        for ((weights, sign_mantissas), &end) in weights
            .chunks_mut(bf16::BYTES * C::BLOCK)
            .zip(self.sign_mantissas.chunks(C::BLOCK))
            .zip(&self.ends)
        {
            let block = &mut self.block[..sign_mantissas.len()];
            self.codec.decompress(&self.compressed[start..end], block)?;
            bf16::merge(block, sign_mantissas, weights)?;
            start = end;
        }
        Ok(())
    }
}
