//! Checkpoints in and out of the DF11 layout.
//!
//! A checkpoint is one safetensors file, or a directory in Hugging Face form: one weight file, or shards with an index,
//! and `config.json`. [`compress`] writes it in the published DF11 layout, about 30 % smaller; [`decompress`] gives the
//! original files back byte for byte; [`verify`] checks every rule and every digest; [`inspect`] shows what is inside.
//!
//! Weights are memory-mapped and worked on unit by unit, over threads; peak memory depends on the largest unit, not on the
//! model. Every file is written under a temporary name, decoded again, compared with its source, and only then renamed
//! into place.
//!
//! ```no_run
//! use std::path::Path;
//! use df11_model::{CompressOptions, DecompressOptions, compress, decompress};
//!
//! let report = compress(Path::new("model"), Path::new("model-df11"), &CompressOptions::default(), &())?;
//! println!("{} -> {} bytes", report.bytes_before, report.bytes_after);
//! decompress(Path::new("model-df11"), Path::new("restored"), &DecompressOptions::default(), &())?;
//! # Ok::<(), df11_model::Error>(())
//! ```

mod checkpoint;
mod compress;
mod config;
mod container;
mod decompress;
mod error;
mod inspect;
mod map;
mod metadata;
mod output;
mod packed;
mod pattern;
mod plan;
mod progress;
mod report;
mod units;
mod verify;

pub use compress::{CompressOptions, compress};
pub use decompress::{DecompressOptions, decompress};
pub use error::{Error, ErrorKind};
pub use inspect::inspect;
pub use pattern::{Pattern, PatternDict};
pub use progress::Progress;
pub use report::{
    CompressReport, DecompressReport, InspectReport, InspectedUnit, PlainReport, UnitReport, VerifyReport,
    entropy,
};
pub use verify::verify;

/// A pool of this many threads, all there are for 0.
fn pool(threads: usize) -> Result<rayon::ThreadPool, Error> {
    rayon::ThreadPoolBuilder::new()
        .num_threads(threads)
        .build()
        .map_err(|error| Error::Usage(format!("cannot start {threads} threads: {error}")))
}
