//! The timed codecs: codecs of weights, and codecs of bytes that are applied to the exponents
//! alone.

use df11::frame::{self, ElementType, EncodeOptions, Encoder, Frame};
use df11::hazmat::dictionary::{self, CHUNK, Model, Width};
use df11::hazmat::rans::{
    DecodeBlock, DecodeTable, EncodeBlock, EncodeTable, Frequencies, STATES_BYTES, words_bound,
};
use df11::{EncodedUnit, Level, Plan, bf16};

use crate::Result;

/// A compressor of weights that keeps what it compressed. It allocates when it is made, not when it
/// works.
pub(crate) trait Codec {
    /// Makes the input of [`encode`](Self::encode), if that is not the weights. This is not timed.
    fn prepare(&mut self, _weights: &[u8]) -> Result<()> {
        Ok(())
    }

    /// Makes weights from the output of [`decode`](Self::decode), if that is not the weights. This
    /// is not timed.
    fn finish(&mut self, _weights: &mut [u8]) -> Result<()> {
        Ok(())
    }

    /// Compresses; returns the compressed size in bytes.
    fn encode(&mut self, weights: &[u8]) -> Result<u64>;

    /// Restores what was compressed last into `weights`, which has the length of the original.
    fn decode(&mut self, weights: &mut [u8]) -> Result<()>;
}

/// This repository's codec: all weights as one unit.
pub(crate) struct Df11 {
    unit: EncodedUnit,
}

impl Df11 {
    /// Encodes once, since only a plan knows how large the buffers must be.
    pub(crate) fn new(weights: &[u8]) -> Result<Self> {
        Ok(Df11 { unit: df11::encode(weights)? })
    }
}

impl Codec for Df11 {
    /// Histogram, code and tables, then the six tensors.
    fn encode(&mut self, weights: &[u8]) -> Result<u64> {
        let plan = Plan::new(&[weights], &df11::EncodeOptions::default())?;
        plan.encode_into(&[weights], self.unit.as_mut_slices())?;
        Ok(plan.sizes().total())
    }

    /// Validation of the unit, then the weights.
    fn decode(&mut self, weights: &mut [u8]) -> Result<()> {
        Ok(self.unit.as_unit().decode_into(weights)?)
    }
}

/// This repository's frames: exponents by rANS, all checksums written and compared.
pub(crate) struct Frames {
    frame: Vec<u8>,
    table: Box<DecodeTable>,
}

impl Frames {
    /// Encodes once, so that the buffer is large enough and touched.
    pub(crate) fn new(weights: &[u8]) -> Result<Self> {
        let mut frames = Frames { frame: Vec::new(), table: Box::new(DecodeTable::new()) };
        frames.encode(weights)?;
        Ok(frames)
    }
}

impl Codec for Frames {
    /// Histogram and table, then block after block.
    fn encode(&mut self, weights: &[u8]) -> Result<u64> {
        let mut counts = [0; 256];
        bf16::add_to_histogram(weights, &mut counts)?;
        let mut encoder = Encoder::new(ElementType::Bf16, &[(weights.len() / bf16::BYTES) as u64], &counts)?;
        self.frame.clear();
        self.frame.extend(encoder.header());
        for blocks in weights.chunks(4 * bf16::BYTES * frame::BLOCK) {
            self.frame.extend_from_slice(encoder.blocks(blocks)?);
        }
        self.frame.extend(encoder.finish()?);
        Ok(self.frame.len() as u64)
    }

    fn decode(&mut self, weights: &mut [u8]) -> Result<()> {
        Ok(Frame::new(&self.frame)?.decode_in(&mut self.table, weights)?)
    }
}

/// This repository's frames: exponents by a dictionary, all checksums written and compared.
pub(crate) struct FastFrames {
    frame: Vec<u8>,
    table: Box<dictionary::DecodeTable<4096>>,
}

impl FastFrames {
    /// Encodes once, so that the buffer is large enough and touched.
    pub(crate) fn new(weights: &[u8]) -> Result<Self> {
        let mut frames = FastFrames { frame: Vec::new(), table: Box::new(dictionary::DecodeTable::new()) };
        frames.encode(weights)?;
        Ok(frames)
    }
}

impl Codec for FastFrames {
    /// Histogram, model and table, then all chunks.
    fn encode(&mut self, weights: &[u8]) -> Result<u64> {
        let shape = [(weights.len() / bf16::BYTES) as u64];
        let options = EncodeOptions::new().codec(frame::Codec::Dictionary);
        options.encode_into(ElementType::Bf16, &shape, weights, &mut self.frame)?;
        Ok(self.frame.len() as u64)
    }

    fn decode(&mut self, weights: &mut [u8]) -> Result<()> {
        Ok(Frame::new(&self.frame)?.decode_in(&mut self.table, weights)?)
    }
}

/// A dictionary as a coder of bytes, without frames or checksums.
pub(crate) struct Fast {
    encode: dictionary::EncodeTable,
    decode: Box<dictionary::DecodeTable<4096>>,
    codes: Vec<u8>,
    groups: Vec<u16>,
}

impl Fast {
    /// Makes the codec with the dictionary of all weights.
    pub(crate) fn new(weights: &[u8]) -> Result<Self> {
        let mut counts = [0; 256];
        bf16::add_to_histogram(weights, &mut counts)?;
        let model = Model::of_counts(&counts, Width::Twelve)?;
        let mut decode = Box::new(dictionary::DecodeTable::new());
        decode.build(&model)?;
        let encode = dictionary::EncodeTable::new(&model);
        Ok(Fast { encode, decode, codes: Vec::new(), groups: Vec::new() })
    }
}

impl ByteCodec for Fast {
    const BLOCK: usize = 1 << 16;

    fn bound(&self) -> usize {
        2 * Self::BLOCK
    }

    fn compress(&mut self, block: &[u8], out: &mut [u8]) -> Result<usize> {
        self.codes.clear();
        self.groups.clear();
        self.encode.encode_chunks(block, &mut self.codes, |number| self.groups.push(number))?;
        let (groups, codes) = out.split_at_mut(2 * self.groups.len());
        groups.as_chunks_mut().0.iter_mut().zip(&self.groups).for_each(|(to, n)| *to = n.to_le_bytes());
        codes[..self.codes.len()].copy_from_slice(&self.codes);
        Ok(groups.len() + self.codes.len())
    }

    fn decompress(&mut self, compressed: &[u8], block: &mut [u8]) -> Result<()> {
        let (groups, mut codes) = compressed.split_at(2 * block.len().div_ceil(CHUNK));
        for (chunk, number) in block.chunks_mut(CHUNK).zip(groups.as_chunks().0) {
            let (of_chunk, rest) = codes.split_at(12 * usize::from(u16::from_le_bytes(*number)));
            self.decode.decode_into(of_chunk, chunk)?;
            codes = rest;
        }
        Ok(())
    }
}

/// The exponents alone, coded by this repository's rANS in the blocks of frames.
pub(crate) struct Coded {
    exponents: Vec<u8>,
    sign_mantissas: Vec<u8>,
    frequencies: Frequencies,
    table: Box<DecodeTable>,
    words: Vec<u8>,
    /// For each block: its states, and the number of bytes of its words.
    blocks: Vec<([u8; STATES_BYTES], usize)>,
}

impl Coded {
    pub(crate) fn new(weights: &[u8]) -> Result<Self> {
        let mut counts = [0; 256];
        bf16::add_to_histogram(weights, &mut counts)?;
        let exponents = weights.len() / bf16::BYTES;
        Ok(Coded {
            exponents: vec![1; exponents],
            sign_mantissas: vec![1; exponents],
            frequencies: Frequencies::normalise(&counts, df11::hazmat::frame::SCALE_BITS)?,
            table: Box::new(DecodeTable::new()),
            words: vec![1; words_bound(exponents)],
            blocks: vec![([1; STATES_BYTES], 0); exponents.div_ceil(frame::BLOCK)],
        })
    }
}

impl Codec for Coded {
    fn prepare(&mut self, weights: &[u8]) -> Result<()> {
        Ok(bf16::split(weights, &mut self.exponents, &mut self.sign_mantissas)?)
    }

    fn encode(&mut self, _: &[u8]) -> Result<u64> {
        let table = EncodeTable::new(&self.frequencies);
        let words = self.words.chunks_mut(words_bound(frame::BLOCK));
        let parts = self.exponents.chunks(frame::BLOCK).zip(words).zip(&mut self.blocks);
        let mut blocks: Vec<_> = parts
            .map(|((symbols, words), (states, _))| EncodeBlock { symbols, states, words, words_bytes: 0 })
            .collect();
        table.encode_blocks(Level::best(), &mut blocks)?;
        let lengths: Vec<_> = blocks.iter().map(|block| block.words_bytes).collect();
        for ((_, bytes), length) in self.blocks.iter_mut().zip(&lengths) {
            *bytes = *length;
        }
        Ok((lengths.iter().sum::<usize>() + STATES_BYTES * lengths.len() + self.sign_mantissas.len()) as u64)
    }

    fn decode(&mut self, _: &mut [u8]) -> Result<()> {
        self.table.build(&self.frequencies);
        let words = self.words.chunks(words_bound(frame::BLOCK));
        let parts = self.exponents.chunks_mut(frame::BLOCK).zip(words).zip(&self.blocks);
        let mut blocks: Vec<_> = parts
            .map(|((symbols, words), (states, words_bytes))| DecodeBlock {
                states,
                words,
                words_bytes: *words_bytes,
                symbols,
            })
            .collect();
        Ok(self.table.decode_blocks(Level::best(), &mut blocks)?)
    }

    fn finish(&mut self, weights: &mut [u8]) -> Result<()> {
        bf16::merge(&self.exponents, &self.sign_mantissas, weights)?;
        // The result of this decoding must not pass for that of the next one.
        self.exponents.fill(0xa5);
        Ok(())
    }
}

/// The minimum work of every codec of exponents: weights to planes, planes to weights, with nothing
/// compressed.
pub(crate) struct SplitAndMerge {
    exponents: Vec<u8>,
    sign_mantissas: Vec<u8>,
}

impl SplitAndMerge {
    pub(crate) fn new(bytes: usize) -> Self {
        // The fill value is 1 and not 0, here and below, because pages of zeros are not touched
        // until they are used.
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
    /// The size of a block in bytes. It is small enough that block, codec and merging share the
    /// second-level cache of current CPUs.
    const BLOCK: usize;

    /// Returns the largest size that a block can have after compression.
    fn bound(&self) -> usize;

    /// Compresses `block` into the front of `out`, which has room for [`bound`](Self::bound) bytes.
    /// Returns the compressed size.
    fn compress(&mut self, block: &[u8], out: &mut [u8]) -> Result<usize>;

    /// Restores a block. `block` has the length of the original.
    fn decompress(&mut self, compressed: &[u8], block: &mut [u8]) -> Result<()>;
}

/// The number of bytes that a container would need to find a block.
const BLOCK_HEADER: u64 = 4;

/// Makes a codec of weights from one of bytes: exponents are compressed by the block, signs and
/// mantissas stay raw.
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
    /// Makes the codec, with room for this many bytes of weights.
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

/// Codes the exponents alone. Splitting and merging are not timed.
pub(crate) struct Alone<C> {
    codec: C,
    exponents: Vec<u8>,
    sign_mantissas: Vec<u8>,
    compressed: Vec<u8>,
    ends: Vec<usize>,
}

impl<C: ByteCodec> Alone<C> {
    pub(crate) fn new(codec: C, bytes: usize) -> Self {
        let weights = bytes / bf16::BYTES;
        Alone {
            exponents: vec![1; weights],
            sign_mantissas: vec![1; weights],
            compressed: vec![1; weights.div_ceil(C::BLOCK) * codec.bound()],
            ends: Vec::new(),
            codec,
        }
    }
}

impl<C: ByteCodec> Codec for Alone<C> {
    fn prepare(&mut self, weights: &[u8]) -> Result<()> {
        Ok(bf16::split(weights, &mut self.exponents, &mut self.sign_mantissas)?)
    }

    fn encode(&mut self, _: &[u8]) -> Result<u64> {
        self.ends.clear();
        let mut at = 0;
        for block in self.exponents.chunks(C::BLOCK) {
            at += self.codec.compress(block, &mut self.compressed[at..])?;
            self.ends.push(at);
        }
        Ok((at + self.sign_mantissas.len()) as u64 + BLOCK_HEADER * self.ends.len() as u64)
    }

    fn decode(&mut self, _: &mut [u8]) -> Result<()> {
        let mut start = 0;
        for (block, &end) in self.exponents.chunks_mut(C::BLOCK).zip(&self.ends) {
            self.codec.decompress(&self.compressed[start..end], block)?;
            start = end;
        }
        Ok(())
    }

    fn finish(&mut self, weights: &mut [u8]) -> Result<()> {
        bf16::merge(&self.exponents, &self.sign_mantissas, weights)?;
        self.exponents.fill(0xa5);
        Ok(())
    }
}
