//! What to compress for, and into what.

use crate::error::Error;
use crate::packed::frame;
use crate::partition::pattern::PatternDict;

/// What weights are stored as.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Codec {
    /// Units in the published DF11 layout, which published loaders read; what fits none stays
    /// plain.
    #[default]
    Df11,
    /// Frames, which are smaller and hold every element type, but which only this program reads; a
    /// tensor that would not shrink stays plain.
    Rans,
    /// Frames with dictionaries: a little larger than with rANS, smaller than DF11, and the fastest
    /// to decode. A frame is held in memory until it is written.
    Fast,
    /// For each unit the smaller of DF11 and rANS, DF11 on a tie; frames for tensors in no unit.
    Auto,
    /// [`Df11`](Self::Df11), or [`Auto`](Self::Auto) for a model of which the layout would save
    /// less than one percent and frames at least five.
    Choose,
}

impl Codec {
    /// Whether no unit is written.
    pub(super) const fn is_of_frames(self) -> bool {
        matches!(self, Codec::Rans | Codec::Fast)
    }

    /// That of the frames that are written.
    const fn of_frames(self) -> df11::frame::Codec {
        match self {
            Codec::Fast => df11::frame::Codec::Dictionary,
            _ => df11::frame::Codec::Rans,
        }
    }
}

/// How to compress.
#[derive(Clone, Debug, Default)]
pub struct CompressOptions {
    /// What weights are stored as.
    pub codec: Codec,
    /// Which tensors make which units; by default the model family's dictionary, or the general
    /// rule.
    pub pattern_dict: Option<PatternDict>,
    /// Write one file instead of one for each unit.
    pub single_file: bool,
    /// Replace what an earlier run wrote. Other files are never replaced, but for an output that is
    /// one file.
    pub force: bool,
    /// Threads; 0 for as many as there are processors.
    pub threads: usize,
    /// Cut what belongs to no unit into files of at most this many bytes (of the original). By
    /// default, frames are in files like those of the original, and what belongs to no unit is in
    /// one.
    pub max_shard_size: Option<u64>,
    /// Elements in each chunk of a frame, a multiple of 64 (with dictionaries, of 4,096) from 4,096
    /// to 65,536; by default 65,536. Short chunks make larger frames, and give a GPU more to do at
    /// once.
    pub chunk_len: Option<usize>,
}

/// What a compressed checkpoint is to be good for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Purpose {
    /// The fewest bytes: rANS in frames, or DF11 units where these are smaller.
    Size,
    /// The fastest decoding on processors: dictionaries.
    Speed,
    /// The fastest decoding on GPUs: dictionaries; with codec rANS, chunks of 16,384 elements.
    Gpu,
    /// What published programs load: the DF11 layout.
    Loader,
}

impl CompressOptions {
    /// The options for a purpose, with its codec unless another is given.
    ///
    /// ```
    /// use df11_model::{Codec, CompressOptions, Purpose};
    ///
    /// assert_eq!(CompressOptions::of(Purpose::Speed, None).codec, Codec::Fast);
    /// assert_eq!(CompressOptions::of(Purpose::Gpu, Some(Codec::Rans)).chunk_len, Some(16_384));
    /// ```
    #[must_use]
    pub fn of(purpose: Purpose, codec: Option<Codec>) -> Self {
        let codec = codec.unwrap_or(match purpose {
            Purpose::Size => Codec::Auto,
            Purpose::Speed | Purpose::Gpu => Codec::Fast,
            Purpose::Loader => Codec::Df11,
        });
        // Dictionaries have chunks of 4,096 elements of their own.
        let chunk_len = (purpose == Purpose::Gpu && codec != Codec::Fast).then_some(16_384);
        CompressOptions { codec, chunk_len, ..CompressOptions::default() }
    }

    /// How frames are written.
    pub(super) fn form(&self) -> Result<frame::Form, Error> {
        let chunk_len = self.chunk_len.unwrap_or(df11::frame::BLOCK);
        let form = frame::Form { codec: self.codec.of_frames(), chunk_len };
        let refused = |_| {
            Error::Usage(format!(
                "chunks cannot have {chunk_len} elements, but a multiple of 64 (with dictionaries, of 4096) from 4096 \
                 to 65536"
            ))
        };
        form.check().map(|()| form).map_err(refused)
    }
}
