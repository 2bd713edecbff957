//! Converts checkpoints to the DF11 layout and back.
//!
//! A checkpoint is one safetensors file, or a directory in Hugging Face form: one weight file, or
//! shards with an index, and `config.json`. [`compress`] writes it in the published DF11 layout,
//! about 30 % smaller. [`decompress`] restores the original files byte for byte. [`verify`] checks
//! every rule and every digest. [`inspect`] lists the content. [`Reader`] decodes single tensors,
//! or ranges of them, into the memory of a program that runs the model.
//!
//! With [`Codec::Rans`] or [`Codec::Auto`], tensors become frames instead (`spec/FRAME.md`). Frames
//! are smaller and hold every element type, but only this program reads them.
//!
//! Weights are memory-mapped and processed unit by unit, on several threads. Peak memory depends on
//! the largest unit, not on the model. Every file is written under a temporary name, decoded again,
//! compared with its source, and only then renamed into place.
//!
//! ```
//! use df11_model::{CompressOptions, DecompressOptions, compress, decompress, inspect, verify};
//! use safetensors::tensor::{Dtype, TensorView, serialize};
//!
//! // A model of one matrix.
//! let weights: Vec<u8> = (0..256 * 256).flat_map(|i: u32| (0x3c00 + (i * 7 % 512) as u16).to_le_bytes()).collect();
//! let matrix = TensorView::new(Dtype::BF16, vec![256, 256], &weights)?;
//! let directory = tempfile::tempdir()?;
//! let [model, packed, restored] = ["model.safetensors", "packed", "restored"].map(|name| directory.path().join(name));
//! std::fs::write(&model, serialize([("layers.0.up_proj.weight", matrix)], None)?)?;
//!
//! let predicted = inspect(&model, None, 0)?;
//! let report = compress(&model, &packed, &CompressOptions::default(), &())?;
//! assert_eq!(report.units[0].bytes_after, predicted.units[0].unit.bytes_after);
//! assert!(report.units[0].bytes_after < 2 * 256 * 256);
//! assert_eq!(verify(&packed, Some(&model), 0, &())?.compared, Some(1));
//! decompress(&packed, &restored, &DecompressOptions::default(), &())?;
//! assert_eq!(std::fs::read(restored.join("model.safetensors"))?, std::fs::read(&model)?);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Versions
//!
//! The crate follows semantic versioning. Before 1.0, a minor version may break programs. Files
//! that one version wrote can be restored by every later one. The oldest supported compiler is
//! `rust-version` in `Cargo.toml`.

mod checkpoint;
mod config;
mod container;
mod delta;
mod error;
mod names;
mod ops;
mod packed;
mod partition;
mod progress;
mod reader;
mod staging;
mod store;

pub use error::{Error, ErrorKind};
pub use ops::compress::planned::{
    PlanReport, PlannedTask, TaskKind, TaskReport, finish, plan, run_task, tasks_left,
};
pub use ops::compress::{Codec, CompressOptions, Purpose, compress};
pub use ops::decompress::{DecompressOptions, decompress, restore_finish, restore_plan, restore_task};
pub use ops::inspect::{Stored, for_each_stored, inspect};
pub use ops::report::{
    CompressReport, DecompressReport, DeltaReport, FrameReport, InspectReport, InspectedUnit, PlainReport,
    UnitReport, VerifyReport, entropy,
};
pub use ops::transcode::{Form, TranscodeOptions, TranscodeReport, transcode};
pub use ops::verify::{verify, verify_against_bases, verify_share};
pub use ops::weights::{Bf16Pair, bf16_pairs, bf16_weights};
pub use partition::pattern::{Pattern, PatternDict};
pub use progress::Progress;
pub use reader::{Reader, ReaderOptions, ReaderTensor, ReaderUnit};

use rayon::iter::MaxLen;
use rayon::prelude::*;

/// Makes a pool of `threads` threads; 0 means one for each processor.
fn pool(threads: usize) -> Result<rayon::ThreadPool, Error> {
    rayon::ThreadPoolBuilder::new()
        .num_threads(threads)
        .build()
        .map_err(|error| Error::Usage(format!("cannot start {threads} threads: {error}")))
}

/// Returns a parallel iterator over items that may differ greatly in size. A thread takes one item
/// at a time, unless there are so many items that handing them out costs more than waiting for a
/// long item at the end.
fn in_parallel<T: Sync>(items: &[T]) -> MaxLen<rayon::slice::Iter<'_, T>> {
    items.par_iter().with_max_len(items.len().div_ceil(4096).max(1))
}

/// The examples of the pages that show how to use the libraries. They are compiled and run with the
/// documentation tests.
#[cfg(doctest)]
mod pages {
    #[doc = include_str!("../../README.md")]
    mod readme {}
    #[doc = include_str!("../../docs/embedding.md")]
    mod embedding {}
}
