//! Where files are: on a disk, or in an object store.
//!
//! Everything above works with paths. A path that begins with `s3://`, `gs://`, `az://`, `http://`
//! or `https://` is an object, or a folder of objects, and what is done with it is done here. The
//! asynchronous runtime that the stores need stays inside of this module.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::error::Error;
use crate::names::OURS;

mod local;
#[cfg(feature = "store")]
mod remote;
#[cfg(not(feature = "store"))]
#[path = "without.rs"]
mod remote;
#[cfg(feature = "store")]
mod request;
#[cfg(feature = "store")]
mod runtime;

pub(crate) use remote::Object;

/// The schemes of addresses that are objects.
const SCHEMES: [&str; 9] = ["s3", "s3a", "gs", "az", "azure", "abfs", "abfss", "http", "https"];

/// The number of bytes that are asked for, or sent, in one request.
pub(crate) const REQUEST: u64 = 8 << 20;

/// A file of a folder: its name relative to the folder, and its length in bytes.
pub(crate) type Entry = (PathBuf, u64);

/// Tells whether a path is an address in an object store.
pub(crate) fn is_remote(path: &Path) -> bool {
    let scheme = path.to_str().and_then(|text| text.split_once("://"));
    scheme.is_some_and(|(scheme, _)| SCHEMES.contains(&scheme.to_ascii_lowercase().as_str()))
}

/// Returns the path that a `file://` address names, and any other path unchanged. An address in a
/// store loses slashes at its end.
pub(crate) fn plain(path: &Path) -> Cow<'_, Path> {
    match path.to_str() {
        Some(text) if text.starts_with("file://") => {
            let rest = text["file://".len()..].trim_start_matches("localhost");
            Cow::Owned(PathBuf::from(rest))
        }
        Some(text) if is_remote(path) => Cow::Owned(PathBuf::from(text.trim_end_matches('/'))),
        _ => Cow::Borrowed(path),
    }
}

/// Tells whether there is a regular file, or an object, at `path`.
pub(crate) fn is_file(path: &Path) -> Result<bool, Error> {
    if is_remote(path) { Ok(len(path)?.is_some()) } else { Ok(path.is_file()) }
}

/// Returns the name by which a job is known: where its input is, on this machine or in a store.
pub(crate) fn name_of(path: &Path) -> Result<PathBuf, Error> {
    if is_remote(path) {
        return Ok(path.to_owned());
    }
    std::fs::canonicalize(path).map_err(crate::error::io("cannot open", path))
}

/// Returns the length of a file in bytes, or `None` if there is no such file.
pub(crate) fn len(path: &Path) -> Result<Option<u64>, Error> {
    if is_remote(path) {
        return Object::new(path)?.len();
    }
    local::len(path)
}

/// Reads a whole file of at most `limit` bytes.
pub(crate) fn read(path: &Path, limit: u64) -> Result<Vec<u8>, Error> {
    if !is_remote(path) {
        return local::read(path, limit);
    }
    let object = Object::new(path)?;
    object.fetch(limit)?.ok_or_else(|| object.missing())
}

/// Reads a whole file of at most `limit` bytes; `None` if there is no such file.
pub(crate) fn read_if_there(path: &Path, limit: u64) -> Result<Option<Vec<u8>>, Error> {
    if is_remote(path) {
        return Object::new(path)?.fetch(limit);
    }
    if local::len(path)?.is_none() { Ok(None) } else { local::read(path, limit).map(Some) }
}

/// Reads a whole file from start to end, in chunks.
pub(crate) fn read_chunks(path: &Path, each: impl FnMut(&[u8]) -> Result<(), Error>) -> Result<(), Error> {
    if is_remote(path) {
        let object = Object::new(path)?;
        return object.read_chunks(0..object.expect_len()?, REQUEST as usize, each);
    }
    local::read_chunks(path, each)
}

/// Lists the files below a folder, ordered by name.
pub(crate) fn list(folder: &Path) -> Result<Vec<Entry>, Error> {
    let mut all = if is_remote(folder) { Object::new(folder)?.list()? } else { local::list(folder)? };
    all.sort();
    Ok(all)
}

/// Lists the files below a folder, without those that this program hides there while a run lasts.
pub(crate) fn visible(folder: &Path) -> Result<BTreeMap<PathBuf, u64>, Error> {
    let is_ours =
        |name: &Path| name.iter().next().is_some_and(|first| first.to_string_lossy().starts_with(OURS));
    Ok(list(folder)?.into_iter().filter(|(name, _)| !is_ours(name)).collect())
}

/// Writes a file. It becomes visible only when it is whole, and replaces one of the same name.
pub(crate) fn write(path: &Path, bytes: Vec<u8>) -> Result<(), Error> {
    if is_remote(path) { Object::new(path)?.write(bytes) } else { local::write(path, &bytes) }
}

/// Renames a file of this length. The new name replaces a file of that name.
pub(crate) fn rename(from: &Path, to: &Path, len: u64) -> Result<(), Error> {
    if is_remote(to) {
        Object::new(from)?.copy_to(&Object::new(to)?, len)?;
        return Object::new(from)?.remove();
    }
    local::rename(from, to)
}

/// Removes a file if it is there.
pub(crate) fn remove(path: &Path) -> Result<(), Error> {
    if is_remote(path) { Object::new(path)?.remove() } else { local::remove(path) }
}

/// Makes what was written below a folder durable, where the system can.
pub(crate) fn sync(folder: &Path) -> Result<(), Error> {
    if is_remote(folder) { Ok(()) } else { local::sync(folder) }
}

/// Writes a file from start to end, in pieces. It becomes visible when it is finished.
pub(crate) enum Writer {
    /// A file of this machine.
    Local(local::Writer),
    /// An object.
    Remote(remote::Writer),
}

impl Writer {
    /// Begins a file of this length.
    pub(crate) fn new(path: &Path, len: u64) -> Result<Self, Error> {
        if is_remote(path) {
            return Object::new(path)?.writer(len).map(Writer::Remote);
        }
        local::Writer::new(path).map(Writer::Local)
    }

    /// Appends bytes.
    pub(crate) fn write(&mut self, bytes: &[u8]) -> Result<(), Error> {
        match self {
            Writer::Local(writer) => writer.write(bytes),
            Writer::Remote(writer) => writer.write(bytes),
        }
    }

    /// Makes the file visible.
    pub(crate) fn finish(self) -> Result<(), Error> {
        match self {
            Writer::Local(writer) => writer.finish(),
            Writer::Remote(writer) => writer.finish(),
        }
    }
}
