//! What restoring needs and the layout has no place for: it travels in `__metadata__` of each file, under one key.

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::container::Container;
use crate::error::Error;

/// The key in `__metadata__`. Published loaders ignore it.
pub(crate) const KEY: &str = "df11";

/// The version of these structures.
const VERSION: u32 = 1;

/// What a file says of itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct FileMetadata {
    pub(crate) version: u32,
    /// The program that wrote the file.
    pub(crate) writer: String,
    /// The units in the file.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) units: Vec<UnitMetadata>,
    /// The original tensors in the file, those of units first.
    pub(crate) tensors: Vec<TensorMetadata>,
    /// In one file of a checkpoint: the original files.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) checkpoint: Option<CheckpointMetadata>,
}

/// Which tensors a unit holds, in order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct UnitMetadata {
    pub(crate) path: String,
    pub(crate) tensors: Vec<String>,
}

/// An original tensor.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct TensorMetadata {
    pub(crate) name: String,
    pub(crate) dtype: String,
    pub(crate) shape: Vec<usize>,
    /// Of its bytes.
    pub(crate) sha256: String,
    /// The name of the file that it was in.
    pub(crate) file: String,
}

/// The original files of a checkpoint.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct CheckpointMetadata {
    pub(crate) files: Vec<TextMetadata>,
    /// The index of a sharded checkpoint.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) index: Option<TextMetadata>,
    /// How `config.json` was changed, if there was one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) config: Option<ConfigMetadata>,
}

/// A text, word for word: the header of a safetensors file (spaces at its end included), or an index.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct TextMetadata {
    pub(crate) name: String,
    pub(crate) text: String,
    /// Of the text.
    pub(crate) sha256: String,
}

/// What was inserted into `config.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ConfigMetadata {
    /// Where, in bytes.
    pub(crate) offset: usize,
    /// How many bytes.
    pub(crate) length: usize,
    /// Of the original.
    pub(crate) sha256: String,
}

impl FileMetadata {
    pub(crate) fn new(units: Vec<UnitMetadata>, tensors: Vec<TensorMetadata>) -> Self {
        let writer = concat!("df11 ", env!("CARGO_PKG_VERSION")).to_owned();
        FileMetadata { version: VERSION, writer, units, tensors, checkpoint: None }
    }

    /// What a file says of itself; `None` if another program wrote it.
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
    pub(crate) fn new(name: String, text: &str) -> Self {
        TextMetadata { name, text: text.to_owned(), sha256: digest(text.as_bytes()) }
    }

    /// The text, if it is what it was.
    pub(crate) fn checked(&self) -> Result<&str, String> {
        if digest(self.text.as_bytes()) == self.sha256 {
            Ok(&self.text)
        } else {
            Err(format!("the stored text of {} does not have its SHA-256", self.name))
        }
    }
}

/// SHA-256 as text.
pub(crate) fn digest(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}
