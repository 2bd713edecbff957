//! Options of compression: the codec, and what the output is for.

use std::path::PathBuf;

use crate::error::Error;
use crate::packed::frame;
use crate::partition::pattern::PatternDict;

/// The form in which weights are stored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Codec {
    /// Units in the published DF11 layout, which published loaders read. Tensors that fit no unit
    /// stay plain.
    #[default]
    Df11,
    /// Frames. They are smaller and hold every element type, but only this program reads them. A
    /// tensor that would not shrink stays plain.
    Rans,
    /// Frames with dictionaries: a little larger than with rANS, smaller than DF11, and the fastest
    /// to decode. Each frame is held in memory until it is written.
    Fast,
    /// For each unit, the smaller of DF11 and rANS, with DF11 on a tie. Tensors in no unit become
    /// frames.
    Auto,
    /// [`Df11`](Self::Df11), or [`Auto`](Self::Auto) for a model where the layout would save less
    /// than one percent and frames at least five.
    Choose,
}

impl Codec {
    /// Tells whether this codec writes no units.
    pub(super) const fn is_of_frames(self) -> bool {
        matches!(self, Codec::Rans | Codec::Fast)
    }

    /// Returns the codec of the frames that are written.
    const fn of_frames(self) -> df11::frame::Codec {
        match self {
            Codec::Fast => df11::frame::Codec::Dictionary,
            _ => df11::frame::Codec::Rans,
        }
    }
}

/// How to compress. Begin with [`of`](Self::of) or `default()`, and set what is to be different.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct CompressOptions {
    /// The form in which weights are stored.
    pub codec: Codec,
    /// The dictionary that says which tensors make which units. By default it is that of the model
    /// family, or the general rule applies.
    pub pattern_dict: Option<PatternDict>,
    /// Writes one file instead of one for each unit.
    pub single_file: bool,
    /// Replaces what an earlier run wrote. Other files are never replaced, except an output that is
    /// one file.
    pub force: bool,
    /// The number of threads; 0 means one for each processor.
    pub threads: usize,
    /// The size in bytes (of the original) at which tensors in no unit are cut into further files.
    /// By default, frames go to files like those of the original, and all other tensors that are in
    /// no unit go to one file.
    pub max_shard_size: Option<u64>,
    /// The number of elements in each block of a frame: a multiple of 64 (with dictionaries, of
    /// 4,096) from 4,096 to 65,536. The default is 65,536. Short blocks make larger frames, but
    /// give a GPU more blocks to decode at once.
    pub block_len: Option<usize>,
    /// Checkpoints that are near to this one, in any form: what it was fine-tuned from, or the one
    /// before. Each tensor that has one of them as its base is stored as a delta where that is
    /// shorter (`spec/DELTA.md`), and restoring needs the base. The first one that has a tensor
    /// counts; further ones are what it needs in turn, if it is made of deltas itself. All other
    /// tensors become frames.
    pub bases: Vec<PathBuf>,
}

/// The purpose of a compressed checkpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Purpose {
    /// The fewest bytes: rANS in frames, or DF11 units where these are smaller.
    Size,
    /// The fastest decoding on CPUs: dictionaries.
    Speed,
    /// The fastest decoding on GPUs: dictionaries or, with codec rANS, blocks of 16,384 elements.
    Gpu,
    /// The form that published programs load: the DF11 layout.
    Loader,
}

impl CompressOptions {
    /// Returns the options for a purpose, with its codec unless the caller names another.
    ///
    /// ```
    /// use df11_model::{Codec, CompressOptions, Purpose};
    ///
    /// assert_eq!(CompressOptions::of(Purpose::Speed, None).codec, Codec::Fast);
    /// assert_eq!(CompressOptions::of(Purpose::Gpu, Some(Codec::Rans)).block_len, Some(16_384));
    /// ```
    #[must_use]
    pub fn of(purpose: Purpose, codec: Option<Codec>) -> Self {
        let codec = codec.unwrap_or(match purpose {
            Purpose::Size => Codec::Auto,
            Purpose::Speed | Purpose::Gpu => Codec::Fast,
            Purpose::Loader => Codec::Df11,
        });
        // Dictionaries have chunks of 4,096 elements of their own.
        let block_len = (purpose == Purpose::Gpu && codec != Codec::Fast).then_some(16_384);
        CompressOptions { codec, block_len, ..CompressOptions::default() }
    }

    /// Sets the field [`codec`](#structfield.codec).
    #[must_use]
    pub fn codec(mut self, codec: Codec) -> Self {
        self.codec = codec;
        self
    }

    /// Sets the field [`pattern_dict`](#structfield.pattern_dict).
    #[must_use]
    pub fn pattern_dict(mut self, pattern_dict: PatternDict) -> Self {
        self.pattern_dict = Some(pattern_dict);
        self
    }

    /// Sets the field [`single_file`](#structfield.single_file).
    #[must_use]
    pub fn single_file(mut self, single_file: bool) -> Self {
        self.single_file = single_file;
        self
    }

    /// Sets the field [`force`](#structfield.force).
    #[must_use]
    pub fn force(mut self, force: bool) -> Self {
        self.force = force;
        self
    }

    /// Sets the field [`threads`](#structfield.threads).
    #[must_use]
    pub fn threads(mut self, threads: usize) -> Self {
        self.threads = threads;
        self
    }

    /// Sets the field [`max_shard_size`](#structfield.max_shard_size).
    #[must_use]
    pub fn max_shard_size(mut self, max_shard_size: u64) -> Self {
        self.max_shard_size = Some(max_shard_size);
        self
    }

    /// Sets the field [`block_len`](#structfield.block_len).
    #[must_use]
    pub fn block_len(mut self, block_len: usize) -> Self {
        self.block_len = Some(block_len);
        self
    }

    /// Sets the field [`bases`](#structfield.bases).
    #[must_use]
    pub fn bases(mut self, bases: Vec<PathBuf>) -> Self {
        self.bases = bases;
        self
    }

    /// Returns the form in which frames are written.
    pub(super) fn form(&self) -> Result<frame::Form, Error> {
        let block_len = self.block_len.unwrap_or(df11::frame::BLOCK);
        let form = frame::Form { codec: self.codec.of_frames(), block_len };
        let refused = |_| {
            Error::Usage(format!(
                "blocks cannot have {block_len} elements, but a multiple of 64 (with dictionaries, of 4096) from 4096 \
                 to 65536"
            ))
        };
        form.check().map(|()| form).map_err(refused)
    }
}
