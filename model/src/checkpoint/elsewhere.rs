//! Checkpoints whose files are not on this machine: objects of a store, and files that a plan
//! knows.

use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};

use super::{Source, read_text};
use crate::container::Container;
use crate::error::Error;
use crate::names::{MANIFEST, OURS, file_name, folder_of, is_weights};
use crate::store;

/// What is known of the files of a checkpoint that was opened before.
#[derive(Clone, Debug, Default)]
pub(crate) struct Known {
    /// The length and the header of each weight file, by name.
    pub(crate) headers: BTreeMap<PathBuf, (u64, String)>,
    /// The texts of configs and indices, by name.
    pub(crate) texts: BTreeMap<PathBuf, String>,
}

impl Source {
    /// Lists the objects of a store by the rules that hold for files.
    pub(super) fn list_store(path: &Path, exclude: Option<&Path>, is_packed: bool) -> Result<Self, Error> {
        if is_weights(path) && store::len(path)?.is_some() {
            return Ok(Self::empty_at(path, true, is_packed));
        }
        let mut source = Self::empty_at(path, false, is_packed);
        let exclude = exclude.and_then(|exclude| exclude.strip_prefix(path).ok());
        let entries = store::list(path)?;
        if entries.is_empty() {
            let problem = "there is no object of this name, and none below it; check the address";
            return Err(Error::file(path, problem));
        }
        let outputs: Vec<PathBuf> = entries
            .iter()
            .filter(|(name, _)| file_name(name) == MANIFEST && folder_of(name) != Path::new(""))
            .map(|(name, _)| folder_of(name))
            .collect();
        for folder in &outputs {
            source.leave_out(folder.clone(), "a directory that df11 writes", false);
        }
        for (name, len) in entries {
            let hidden = |part: Component<'_>| {
                let part = part.as_os_str().to_string_lossy().into_owned();
                part.starts_with('.') && part != ".gitattributes"
            };
            let ours = |part: Component<'_>| part.as_os_str().to_string_lossy().starts_with(OURS);
            let is_excluded = exclude.is_some_and(|exclude| name.starts_with(exclude))
                || outputs.iter().any(|folder| name.starts_with(folder))
                || name.components().any(ours);
            if is_excluded {
                continue;
            }
            if name.components().any(hidden) {
                source.leave_out(name, "hidden", true);
            } else {
                source.note_file(name, len);
            }
        }
        source.weights.sort();
        source.others.sort();
        source.left_out.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(source)
    }

    /// Opens a weight file, or takes what is known of it.
    pub(super) fn container(&self, name: &Path, path: &Path) -> Result<Container, Error> {
        match self.known.as_ref().and_then(|known| known.headers.get(name)) {
            Some((len, header)) => Container::known(path, *len, header.clone()),
            None => Container::open(path),
        }
    }

    /// Reads a text file, or takes the text that is known.
    pub(crate) fn text(&self, name: &Path) -> Result<String, Error> {
        match self.known.as_ref().and_then(|known| known.texts.get(name)) {
            Some(text) => Ok(text.clone()),
            None => read_text(&self.root.join(name)),
        }
    }
}
