//! The record of a compressed checkpoint: every file that was read, and every file that was
//! written.
//!
//! A directory stores it as `df11.json`; a checkpoint of one file stores it in the metadata of that
//! file. It carries its own SHA-256, so that damage is detected before its content is used. The
//! names in it are checked as untrusted input.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::metadata::CheckpointMetadata;
use crate::error::Error;
use crate::names::{CONFIG, digest, folder_of, relative};

/// The version of these structures.
const VERSION: u32 = 1;

/// The files that were read and written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Manifest {
    pub(crate) version: u32,
    /// The program that wrote the manifest.
    pub(crate) writer: String,
    /// Every file of the original.
    pub(crate) inputs: Vec<Input>,
    /// Every file that was written beside the manifest.
    pub(crate) outputs: Vec<OutputRecord>,
}

/// A file of the original.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Input {
    /// The file's name, relative to the original, with slashes between folders.
    pub(crate) name: String,
    /// The file's length in bytes; 0 if it is not a regular file.
    pub(crate) bytes: u64,
    /// The SHA-256 of its bytes. Version 0.1 did not record it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(crate) sha256: String,
    /// What compression did with it.
    #[serde(flatten)]
    pub(crate) kept: Kept,
}

/// What compression did with a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kept", rename_all = "snake_case")]
pub(crate) enum Kept {
    /// Its tensors are stored one by one. This variant keeps its header, word for word.
    Tensors {
        /// The header, including spaces at its end.
        header: String,
    },
    /// The file was copied under its name.
    Copied,
    /// Text was inserted into the copy. Restoring removes these bytes.
    Extended {
        /// The offset of the insertion in bytes.
        offset: usize,
        /// The length of the insertion in bytes.
        length: usize,
    },
    /// The manifest alone holds the file.
    Text {
        /// The content of the file.
        text: String,
    },
    /// The file was left out.
    LeftOut {
        /// The reason.
        why: String,
    },
}

/// A file that was written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct OutputRecord {
    /// The file's name, relative to the manifest, with slashes between folders.
    pub(crate) name: String,
    pub(crate) bytes: u64,
    /// The SHA-256 of its bytes. For a weight file, it covers the bytes before the data; the data
    /// have digests of their own there.
    pub(crate) sha256: String,
    /// Whether it holds weights.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) weights: bool,
}

/// A manifest with its digest.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Sealed<'a> {
    #[serde(borrow)]
    df11: &'a RawValue,
    sha256: String,
}

impl Manifest {
    pub(crate) fn new(inputs: Vec<Input>, outputs: Vec<OutputRecord>) -> Self {
        let writer = concat!("df11 ", env!("CARGO_PKG_VERSION")).to_owned();
        Manifest { version: VERSION, writer, inputs, outputs }
    }

    /// Writes the manifest as the text of its file.
    pub(crate) fn seal(&self) -> Result<String, String> {
        let inner = serde_json::to_string(self).map_err(|error| error.to_string())?;
        let sha256 = digest(inner.as_bytes());
        // Written by hand, since a raw value would be parsed once more.
        Ok(format!("{{\"df11\":{inner},\n\"sha256\":\"{sha256}\"}}\n"))
    }

    /// Parses the text of the file, and checks every name in it.
    pub(crate) fn unseal(text: &str) -> Result<Self, String> {
        let wrong = |problem: String| format!("the record of the originals is wrong: {problem}");
        let sealed: Sealed<'_> = serde_json::from_str(text).map_err(|error| wrong(error.to_string()))?;
        let inner = sealed.df11.get();
        if digest(inner.as_bytes()) != sealed.sha256 {
            return Err(wrong(
                "it does not have its SHA-256; it was changed or damaged, copy it again".to_owned(),
            ));
        }
        let manifest: Manifest = serde_json::from_str(inner).map_err(|error| wrong(error.to_string()))?;
        if manifest.version != VERSION {
            return Err(wrong(format!("version {}, but this program knows {VERSION}", manifest.version)));
        }
        manifest.check().map_err(wrong)?;
        Ok(manifest)
    }

    /// Checks that all names stay inside the directory, and that no two files share one.
    fn check(&self) -> Result<(), String> {
        let inputs: Vec<&str> = self.inputs.iter().map(|input| input.name.as_str()).collect();
        let outputs: Vec<&str> = self.outputs.iter().map(|output| output.name.as_str()).collect();
        for mut names in [inputs, outputs] {
            if let Some(name) = names.iter().find(|name| relative(name).is_none()) {
                return Err(format!("it names a file outside: {name:?}"));
            }
            names.sort_unstable();
            if let Some(pair) = names.windows(2).find(|pair| pair[0] == pair[1]) {
                return Err(format!("it names two files {}", pair[0]));
            }
        }
        let restores = |input: &Input| !matches!(input.kept, Kept::LeftOut { .. });
        if !self.inputs.iter().any(restores) {
            return Err("it records no file of an original".to_owned());
        }
        let copied = |input: &&Input| matches!(input.kept, Kept::Copied | Kept::Extended { .. });
        let known: std::collections::HashSet<&str> =
            self.outputs.iter().map(|output| output.name.as_str()).collect();
        match self.inputs.iter().filter(copied).find(|input| !known.contains(input.name.as_str())) {
            Some(input) => Err(format!("{} was copied, but is not among what was written", input.name)),
            None => Ok(()),
        }
    }

    /// Converts a record of version 0.1.
    pub(crate) fn of_0_1(
        original: &CheckpointMetadata,
        path: &Path,
        others: &[PathBuf],
    ) -> Result<Self, Error> {
        let wrong = |problem: String| Error::file(path, problem);
        if original.files.is_empty() {
            return Err(wrong("the df11 metadata is wrong: it records no file of an original".to_owned()));
        }
        let mut inputs = Vec::new();
        for file in &original.files {
            let (name, header) = file.checked().map_err(wrong)?;
            let kept = Kept::Tensors { header: header.to_owned() };
            inputs.push(Input { name: name.to_owned(), bytes: 0, sha256: String::new(), kept });
        }
        if let Some(index) = &original.index {
            let (name, text) = index.checked().map_err(wrong)?;
            let (bytes, sha256) = (text.len() as u64, digest(text.as_bytes()));
            inputs.push(Input {
                name: name.to_owned(),
                bytes,
                sha256,
                kept: Kept::Text { text: text.to_owned() },
            });
        }
        let mut outputs = Vec::new();
        if let Some(config) = original.config.as_ref().filter(|_| others.contains(&PathBuf::from(CONFIG))) {
            let (offset, length, sha256) = (config.offset, config.length, config.sha256.clone());
            let kept = Kept::Extended { offset, length };
            inputs.push(Input { name: CONFIG.to_owned(), bytes: 0, sha256, kept });
            outputs.push(OutputRecord {
                name: CONFIG.to_owned(),
                bytes: 0,
                sha256: String::new(),
                weights: false,
            });
        }
        let manifest = Manifest::new(inputs, outputs);
        manifest.check().map_err(|problem| wrong(format!("the df11 metadata is wrong: {problem}")))?;
        Ok(manifest)
    }

    /// Tells whether loaders need a file to open a directory. Such files are published last, the
    /// root's config after all others.
    pub(crate) fn is_last(name: &Path) -> bool {
        crate::names::file_name(name) == CONFIG || crate::names::is_index(name)
    }

    /// Returns the sort key for the files that are published last.
    pub(crate) fn last_order(name: &Path) -> (bool, bool, PathBuf) {
        let is_config = crate::names::file_name(name) == CONFIG;
        (is_config, is_config && folder_of(name) == Path::new(""), name.to_owned())
    }
}
