//! Metadata that restoring needs and the layout has no place for. They are stored in `__metadata__`
//! of each file, under one key.
//!
//! Damage to the metadata must be detected, too. Unknown fields are refused, because the damaged
//! name of a field would otherwise read as its absence. Names and texts that are written to disk
//! carry a digest.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::checkpoint::Weights;
use crate::container::Container;
use crate::error::Error;
use crate::names::{CONFIG, digest, relative};
use crate::packed::dtype_of;

/// The key in `__metadata__`. Published loaders ignore it.
pub(crate) const KEY: &str = "df11";

/// The version of these structures.
const VERSION: u32 = 1;

/// The metadata of one file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct FileMetadata {
    pub(crate) version: u32,
    /// The program that wrote the file.
    pub(crate) writer: String,
    /// The units in the file.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) units: Vec<UnitMetadata>,
    /// The original tensors in the file; those of units come first.
    pub(crate) tensors: Vec<TensorMetadata>,
    /// The original files, in one file of a checkpoint.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) checkpoint: Option<CheckpointMetadata>,
}

/// The tensors of a unit, in order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct UnitMetadata {
    pub(crate) path: String,
    pub(crate) tensors: Vec<String>,
}

/// An original tensor.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct TensorMetadata {
    pub(crate) name: String,
    pub(crate) dtype: String,
    pub(crate) shape: Vec<usize>,
    /// The SHA-256 of its bytes.
    pub(crate) sha256: String,
    /// The name of its original file, relative to the original, with slashes.
    pub(crate) file: String,
    /// Whether it is stored as a frame, in a `U8` tensor of the same name.
    #[serde(default, skip_serializing_if = "is_false")]
    pub(crate) frame: bool,
    /// What it is stored against, if it is a delta.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) delta: Option<DeltaMetadata>,
}

impl TensorMetadata {
    /// Returns how many bytes this many elements of the original's type take.
    pub(crate) fn bytes_of(&self, elements: u64) -> u64 {
        let bits = dtype_of(&self.dtype).map_or(8, |dtype| dtype.bitsize() as u64);
        elements.saturating_mul(bits) / 8
    }
}

/// The tensor of a base that a delta was made against (B-8.1).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct DeltaMetadata {
    pub(crate) name: String,
    pub(crate) shape: Vec<usize>,
    /// The SHA-256 of its bytes.
    pub(crate) sha256: String,
    /// How many deltas it takes to restore the tensor.
    pub(crate) depth: u32,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "what serde calls")]
fn is_false(value: &bool) -> bool {
    !value
}

/// The original files of a checkpoint, as version 0.1 recorded them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct CheckpointMetadata {
    pub(crate) files: Vec<TextMetadata>,
    /// The index of a sharded checkpoint.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) index: Option<TextMetadata>,
    /// The change to `config.json`, if there was one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) config: Option<ConfigMetadata>,
}

/// A text, word for word: the header of a safetensors file (including spaces at its end), or an
/// index.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct TextMetadata {
    pub(crate) name: String,
    pub(crate) text: String,
    /// The SHA-256 of the name, a zero byte, and the text.
    pub(crate) sha256: String,
}

/// The insertion into `config.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ConfigMetadata {
    /// The offset of the insertion in bytes.
    pub(crate) offset: usize,
    /// The length of the insertion in bytes.
    pub(crate) length: usize,
    /// The SHA-256 of the original.
    pub(crate) sha256: String,
}

impl FileMetadata {
    pub(crate) fn new(units: Vec<UnitMetadata>, tensors: Vec<TensorMetadata>) -> Self {
        let writer = concat!("df11 ", env!("CARGO_PKG_VERSION")).to_owned();
        FileMetadata { version: VERSION, writer, units, tensors, checkpoint: None }
    }

    /// Reads the metadata of a file; `None` if another program wrote it.
    pub(crate) fn of(container: &Container) -> Result<Option<Self>, Error> {
        let Some(text) = container.metadata.get(KEY) else { return Ok(None) };
        let wrong =
            |problem: String| Error::file(&container.path, format!("its df11 metadata is wrong: {problem}"));
        let metadata: FileMetadata = serde_json::from_str(text).map_err(|error| wrong(error.to_string()))?;
        if metadata.version != VERSION {
            return Err(wrong(format!("version {}, but this program knows {VERSION}", metadata.version)));
        }
        Ok(Some(metadata))
    }

    pub(crate) fn to_json(&self) -> Result<String, String> {
        serde_json::to_string(self).map_err(|error| error.to_string())
    }
}

impl TextMetadata {
    fn digest(&self) -> String {
        digest(&[self.name.as_bytes(), b"\0", self.text.as_bytes()].concat())
    }

    /// Returns name and text, if they match their digest and the name stays inside the directory.
    pub(crate) fn checked(&self) -> Result<(&str, &str), String> {
        let TextMetadata { name, text, sha256 } = self;
        let plain = relative(name).is_some_and(|_| !name.contains('/') && name != CONFIG);
        if !plain {
            return Err(format!("the df11 metadata names a file outside: {name:?}"));
        }
        if self.digest() != *sha256 {
            return Err(format!("the df11 metadata of the original {name} does not have its SHA-256"));
        }
        Ok((name, text))
    }
}

/// The combined metadata of all files of a checkpoint.
#[derive(Debug, Default)]
pub(crate) struct Described {
    /// The number of files with metadata.
    pub(crate) files: usize,
    /// The original files, if one file records them.
    pub(crate) checkpoint: Option<CheckpointMetadata>,
    /// The tensors of each unit, by module path.
    pub(crate) units: BTreeMap<String, Vec<String>>,
    /// Original tensors by name.
    pub(crate) tensors: BTreeMap<String, TensorMetadata>,
}

impl Described {
    /// Collects the metadata of a folder's files.
    pub(crate) fn collect(packed: &Weights) -> Result<Self, Error> {
        let mut all = Described::default();
        for file in &packed.files {
            let container = &file.container;
            let Some(metadata) = FileMetadata::of(container)? else { continue };
            all.files += 1;
            all.units.extend(metadata.units.into_iter().map(|unit| (unit.path, unit.tensors)));
            all.tensors.extend(metadata.tensors.into_iter().map(|tensor| (tensor.name.clone(), tensor)));
            if let Some(checkpoint) = metadata.checkpoint
                && all.checkpoint.replace(checkpoint).is_some()
            {
                return Err(Error::file(
                    &container.path,
                    "another file here records an original, too; keep one model",
                ));
            }
        }
        Ok(all)
    }

    /// Returns the original of a tensor that is stored as a frame or a delta.
    pub(crate) fn framed(&self, tensor: &str) -> Option<&TensorMetadata> {
        self.tensors.get(tensor).filter(|tensor| tensor.frame || tensor.delta.is_some())
    }

    /// Returns the digest that a tensor must have, if it is known.
    pub(crate) fn digest(&self, tensor: &str) -> Option<&str> {
        self.tensors.get(tensor).map(|tensor| tensor.sha256.as_str())
    }
}
