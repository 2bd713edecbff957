//! What stands in for objects where this library is built without stores: nothing, and a reason.

use std::convert::Infallible;
use std::ops::Range;
use std::path::Path;

use super::Entry;
use crate::error::Error;

/// An object. There is none.
#[derive(Clone, Debug)]
pub(crate) struct Object(Infallible);

/// An object that is being written. There is none.
pub(crate) struct Writer(Infallible);

impl Object {
    pub(crate) fn new(path: &Path) -> Result<Self, Error> {
        let problem =
            "is an address in an object store, but df11-model was built without its feature `store`";
        Err(Error::Usage(format!("{} {problem}", path.display())))
    }

    pub(crate) fn len(&self) -> Result<Option<u64>, Error> {
        match self.0 {}
    }

    pub(crate) fn expect_len(&self) -> Result<u64, Error> {
        match self.0 {}
    }

    pub(super) fn fetch(&self, _: u64) -> Result<Option<Vec<u8>>, Error> {
        match self.0 {}
    }

    pub(super) fn missing(&self) -> Error {
        match self.0 {}
    }

    pub(crate) fn read(&self, _: Range<u64>) -> Result<Vec<u8>, Error> {
        match self.0 {}
    }

    pub(crate) fn read_chunks(
        &self,
        _: Range<u64>,
        _: usize,
        _: impl FnMut(&[u8]) -> Result<(), Error>,
    ) -> Result<(), Error> {
        match self.0 {}
    }

    pub(crate) fn list(&self) -> Result<Vec<Entry>, Error> {
        match self.0 {}
    }

    pub(super) fn write(&self, _: Vec<u8>) -> Result<(), Error> {
        match self.0 {}
    }

    pub(super) fn copy_to(&self, _: &Object, _: u64) -> Result<(), Error> {
        match self.0 {}
    }

    pub(super) fn remove(&self) -> Result<(), Error> {
        match self.0 {}
    }

    pub(super) fn writer(&self, _: u64) -> Result<Writer, Error> {
        match self.0 {}
    }
}

impl Writer {
    pub(super) fn write(&mut self, _: &[u8]) -> Result<(), Error> {
        match self.0 {}
    }

    pub(super) fn finish(self) -> Result<(), Error> {
        match self.0 {}
    }
}
