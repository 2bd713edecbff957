//! Where the bytes of a container are: in a file, in memory, or in an object of a store.

use std::fs::File;
use std::ops::Range;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use super::{Mapped, read_exact_at};
use crate::error::{Error, io};
use crate::store::{self, Object};

/// The place of a container's bytes.
#[derive(Debug)]
pub(super) enum Access {
    /// The file of the container's path. It is opened for each use.
    File,
    Memory(Arc<Vec<u8>>),
    Object(Object, Held),
}

/// Ranges of an object that are kept in memory while they are used more than once.
#[derive(Debug, Default)]
pub(super) struct Held(Mutex<Vec<HeldRange>>);

/// A range of an object, and its bytes.
type HeldRange = (Range<u64>, Arc<Vec<u8>>);

impl Held {
    fn find(&self, range: &Range<u64>) -> Option<Mapped> {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (held, bytes) =
            all.iter().find(|(held, _)| held.start <= range.start && range.end <= held.end)?;
        let at = |offset: u64| (offset - held.start) as usize;
        Some(Mapped::shared(Arc::clone(bytes), at(range.start)..at(range.end)))
    }
}

impl Access {
    /// Finds the bytes of the container at `path`, and their number.
    pub(super) fn of(path: &Path) -> Result<(Self, u64), Error> {
        if store::is_remote(path) {
            let object = Object::new(path)?;
            let len = object.expect_len()?;
            return Ok((Access::Object(object, Held::default()), len));
        }
        // Checked before opening, because opening a pipe waits for its writer.
        let info = std::fs::metadata(path).map_err(io("cannot open", path))?;
        if !info.is_file() {
            return Err(Error::file(
                path,
                "not a regular file; weights are mapped, so save them to a file first",
            ));
        }
        Ok((Access::File, info.len()))
    }

    /// Names the place of a container whose length and header are known. Nothing is opened.
    pub(super) fn known(path: &Path) -> Result<Self, Error> {
        if store::is_remote(path) {
            return Ok(Access::Object(Object::new(path)?, Held::default()));
        }
        Ok(Access::File)
    }

    /// Maps or reads a range.
    pub(super) fn map(&self, path: &Path, range: &Range<u64>) -> Result<Mapped, Error> {
        match self {
            Access::File => {
                let file = File::open(path).map_err(io("cannot open", path))?;
                Mapped::new(&file, range).map_err(io("cannot map", path))
            }
            Access::Memory(bytes) => {
                Ok(Mapped::shared(Arc::clone(bytes), range.start as usize..range.end as usize))
            }
            Access::Object(object, held) => match held.find(range) {
                Some(found) => Ok(found),
                None => object.read(range.clone()).map(Mapped::of_bytes),
            },
        }
    }

    /// Reads a range from start to end, in chunks.
    pub(super) fn read_range(
        &self,
        path: &Path,
        range: Range<u64>,
        chunk_bytes: usize,
        mut each: impl FnMut(&[u8]) -> Result<(), Error>,
    ) -> Result<(), Error> {
        match self {
            Access::File => {
                let file = File::open(path).map_err(io("cannot open", path))?;
                let mut buffer = vec![0; chunk_bytes.min((range.end - range.start) as usize)];
                let mut at = range.start;
                while at < range.end {
                    let len = buffer.len().min((range.end - at) as usize);
                    read_exact_at(&file, &mut buffer[..len], at).map_err(io("cannot read", path))?;
                    each(&buffer[..len])?;
                    at += len as u64;
                }
                Ok(())
            }
            Access::Memory(_) => self.map(path, &range)?.chunks(chunk_bytes).try_for_each(each),
            Access::Object(object, held) => match held.find(&range) {
                Some(found) => found.chunks(chunk_bytes).try_for_each(each),
                None => object.read_chunks(range, chunk_bytes, each),
            },
        }
    }

    /// Keeps these ranges of an object in memory until [`release`](Self::release). Ranges of other
    /// places are left where they are.
    pub(super) fn hold(&self, mut ranges: Vec<Range<u64>>) -> Result<(), Error> {
        let Access::Object(object, held) = self else { return Ok(()) };
        ranges.sort_unstable_by_key(|range| range.start);
        let mut joined: Vec<Range<u64>> = Vec::new();
        for range in ranges {
            match joined.last_mut().filter(|last| last.end == range.start) {
                Some(last) => last.end = range.end,
                None => joined.push(range),
            }
        }
        for range in joined {
            let bytes = Arc::new(object.read(range.clone())?);
            held.0.lock().unwrap_or_else(PoisonError::into_inner).push((range, bytes));
        }
        Ok(())
    }

    pub(super) fn release(&self) {
        if let Access::Object(_, held) = self {
            held.0.lock().unwrap_or_else(PoisonError::into_inner).clear();
        }
    }
}
