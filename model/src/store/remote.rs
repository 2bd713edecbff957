//! Objects of stores, and folders of them.

use std::collections::VecDeque;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use futures_util::TryStreamExt;
use object_store::path::Path as Key;
use object_store::{MultipartUpload, ObjectStoreExt, PutPayload};

use super::request::{Answer, Store, again, client, explain};
use super::runtime::{Pending, begin, wait};
use super::{Entry, REQUEST};
use crate::error::Error;

/// The number of ranges of one object that are on their way while another is used.
const AHEAD: usize = 4;

/// The largest object that stores copy in one request, in bytes.
const LARGEST_COPY: u64 = 5 << 30;

/// The largest number of parts of an object. S3 allows 10,000.
const MOST_PARTS: u64 = 9000;

/// An object, or a folder of objects.
#[derive(Clone, Debug)]
pub(crate) struct Object {
    path: PathBuf,
    store: Store,
    key: Key,
}

/// Reads a range.
async fn get(store: Store, key: Key, range: Range<u64>) -> Answer<Bytes> {
    again(|| async {
        let bytes = store.get_range(&key, range.clone()).await?;
        let wanted = range.end - range.start;
        if bytes.len() as u64 == wanted {
            return Ok(bytes);
        }
        let text = format!("{} bytes came where {wanted} were asked for", bytes.len());
        Err(object_store::Error::Generic { store: "object", source: text.into() })
    })
    .await
}

impl Object {
    pub(crate) fn new(path: &Path) -> Result<Self, Error> {
        let (store, key) = client(path)?;
        Ok(Object { path: path.to_owned(), store, key })
    }

    /// Returns its length in bytes, or `None` if there is no such object.
    pub(crate) fn len(&self) -> Result<Option<u64>, Error> {
        if self.key.as_ref().is_empty() {
            return Ok(None); // the bucket itself
        }
        let (store, key) = (Arc::clone(&self.store), self.key.clone());
        match wait(async move { again(|| store.head(&key)).await })? {
            Ok(found) => Ok(Some(found.size)),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(explain("cannot open", &self.path, &error)),
        }
    }

    /// Returns its length in bytes.
    pub(crate) fn expect_len(&self) -> Result<u64, Error> {
        self.len()?.ok_or_else(|| self.missing())
    }

    /// Returns the error that there is no such object.
    pub(super) fn missing(&self) -> Error {
        let missing = object_store::Error::NotFound { path: String::new(), source: "".into() };
        explain("cannot open", &self.path, &missing)
    }

    /// Reads all of it in one request; `None` if there is no such object. Fails if it has more
    /// than `limit` bytes, before it reads them.
    pub(super) fn fetch(&self, limit: u64) -> Result<Option<Vec<u8>>, Error> {
        let (store, key) = (Arc::clone(&self.store), self.key.clone());
        let found = wait(async move {
            again(|| async {
                let found = store.get(&key).await?;
                let len = found.meta.size;
                if len > limit {
                    return Ok(Err(len));
                }
                let bytes = found.bytes().await?;
                if bytes.len() as u64 == len {
                    return Ok(Ok(bytes));
                }
                let text = format!("{} of {len} bytes came", bytes.len());
                Err(object_store::Error::Generic { store: "object", source: text.into() })
            })
            .await
        })?;
        match found {
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(explain("cannot read", &self.path, &error)),
            Ok(Err(len)) => {
                let problem = format!("has {len} bytes, but at most {limit} are sensible");
                Err(Error::file(&self.path, problem))
            }
            Ok(Ok(bytes)) => Ok(Some(bytes.to_vec())),
        }
    }

    fn ask(&self, range: Range<u64>) -> Result<Pending<Answer<Bytes>>, Error> {
        begin(get(Arc::clone(&self.store), self.key.clone(), range))
    }

    fn explained<T>(&self, answer: Answer<T>, action: &'static str) -> Result<T, Error> {
        answer.map_err(|error| explain(action, &self.path, &error))
    }

    /// Reads a range into memory, several requests at a time.
    pub(crate) fn read(&self, range: Range<u64>) -> Result<Vec<u8>, Error> {
        let cannot = |_| Error::file(&self.path, "its bytes do not fit into memory");
        let len =
            usize::try_from(range.end - range.start).map_err(|_| Error::file(&self.path, "is too long"))?;
        let mut bytes = Vec::new();
        bytes.try_reserve_exact(len).map_err(cannot)?;
        self.read_chunks(range, REQUEST as usize, |chunk| {
            bytes.extend_from_slice(chunk);
            Ok(())
        })?;
        Ok(bytes)
    }

    /// Reads a range from start to end and passes it on in chunks. The next requests are under way
    /// while a chunk is used.
    pub(crate) fn read_chunks(
        &self,
        range: Range<u64>,
        chunk_bytes: usize,
        mut each: impl FnMut(&[u8]) -> Result<(), Error>,
    ) -> Result<(), Error> {
        // Whole chunks, so that none is put together from two answers.
        let step = (REQUEST.div_ceil(chunk_bytes as u64).max(1)) * chunk_bytes as u64;
        let (mut next, mut under_way) = (range.start, VecDeque::new());
        loop {
            while under_way.len() < AHEAD && next < range.end {
                let end = range.end.min(next + step);
                under_way.push_back(self.ask(next..end)?);
                next = end;
            }
            let Some(first) = under_way.pop_front() else { return Ok(()) };
            let bytes = self.explained(first.wait()?, "cannot read")?;
            bytes.chunks(chunk_bytes).try_for_each(&mut each)?;
        }
    }

    /// Lists the objects below this folder.
    pub(crate) fn list(&self) -> Result<Vec<Entry>, Error> {
        let (store, key) = (Arc::clone(&self.store), self.key.clone());
        let prefix = (!key.as_ref().is_empty()).then_some(key);
        let below = prefix.clone();
        let found = wait(async move { again(|| store.list(prefix.as_ref()).try_collect::<Vec<_>>()).await })?;
        let mut entries = Vec::new();
        for object in self.explained(found, "cannot list")? {
            let name = match &below {
                Some(below) => object.location.as_ref().strip_prefix(below.as_ref()),
                None => Some(object.location.as_ref()),
            };
            let name = name.map(|name| name.trim_start_matches('/')).filter(|name| !name.is_empty());
            if let Some(name) = name {
                entries.push((PathBuf::from(name), object.size));
            }
        }
        Ok(entries)
    }

    /// Writes the object. It is visible only when it is whole.
    pub(super) fn write(&self, bytes: Vec<u8>) -> Result<(), Error> {
        let len = bytes.len() as u64;
        let bytes = Bytes::from(bytes);
        if len <= REQUEST {
            let (store, key) = (Arc::clone(&self.store), self.key.clone());
            let sent =
                wait(async move { again(|| store.put(&key, PutPayload::from_bytes(bytes.clone()))).await })?;
            return self.explained(sent, "cannot write").map(drop);
        }
        let mut writer = self.writer(len)?;
        let part = writer.part;
        for at in (0..bytes.len()).step_by(part) {
            writer.send(bytes.slice(at..bytes.len().min(at + part)))?;
        }
        writer.finish()
    }

    /// Begins the object in parts.
    pub(super) fn writer(&self, len: u64) -> Result<Writer, Error> {
        let (store, key) = (Arc::clone(&self.store), self.key.clone());
        let upload = wait(async move { again(|| store.put_multipart(&key)).await })?;
        let upload = Some(self.explained(upload, "cannot write")?);
        let part = REQUEST.max(len.div_ceil(MOST_PARTS)) as usize;
        let (buffer, under_way) = (Vec::new(), VecDeque::new());
        Ok(Writer { object: self.clone(), upload, part, buffer, sent: 0, under_way })
    }

    /// Copies it within its store.
    pub(super) fn copy_to(&self, to: &Object, len: u64) -> Result<(), Error> {
        if len <= LARGEST_COPY {
            let (store, from, key) = (Arc::clone(&self.store), self.key.clone(), to.key.clone());
            let copied = wait(async move { again(|| store.copy(&from, &key)).await })?;
            return copied.map_err(|error| explain("cannot write", &to.path, &error));
        }
        let mut writer = to.writer(len)?;
        self.read_chunks(0..len, REQUEST as usize, |chunk| writer.write(chunk))?;
        writer.finish()
    }

    /// Removes it if it is there.
    pub(super) fn remove(&self) -> Result<(), Error> {
        let (store, key) = (Arc::clone(&self.store), self.key.clone());
        match wait(async move { again(|| store.delete(&key)).await })? {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(explain("cannot remove", &self.path, &error)),
        }
    }
}

/// An object that is sent in parts. Without [`finish`](Self::finish), nothing becomes visible.
pub(crate) struct Writer {
    object: Object,
    upload: Option<Box<dyn MultipartUpload>>,
    part: usize,
    buffer: Vec<u8>,
    sent: u64,
    under_way: VecDeque<Pending<Answer<()>>>,
}

impl Writer {
    pub(super) fn write(&mut self, mut bytes: &[u8]) -> Result<(), Error> {
        while !bytes.is_empty() {
            if self.buffer.capacity() == 0 {
                self.buffer.reserve_exact(self.part);
            }
            let now = bytes.len().min(self.part - self.buffer.len());
            self.buffer.extend_from_slice(&bytes[..now]);
            bytes = &bytes[now..];
            if self.buffer.len() == self.part {
                let full = std::mem::take(&mut self.buffer);
                self.send(Bytes::from(full))?;
            }
        }
        Ok(())
    }

    /// Sends a part, once few enough are under way.
    fn send(&mut self, bytes: Bytes) -> Result<(), Error> {
        while self.under_way.len() >= AHEAD {
            self.wait_for_one()?;
        }
        if let Some(upload) = &mut self.upload {
            self.sent += bytes.len() as u64;
            self.under_way.push_back(begin(upload.put_part(PutPayload::from_bytes(bytes)))?);
        }
        Ok(())
    }

    fn wait_for_one(&mut self) -> Result<(), Error> {
        match self.under_way.pop_front() {
            Some(part) => part.wait()?.map_err(|error| explain("cannot write", &self.object.path, &error)),
            None => Ok(()),
        }
    }

    pub(super) fn finish(mut self) -> Result<(), Error> {
        let rest = std::mem::take(&mut self.buffer);
        if !rest.is_empty() {
            self.send(Bytes::from(rest))?;
        }
        while !self.under_way.is_empty() {
            self.wait_for_one()?;
        }
        let Some(mut upload) = self.upload.take() else { return Ok(()) };
        let (done, upload) = wait(async move { (upload.complete().await, upload) })?;
        // Where only the answer was lost, the object is there.
        let Err(error) = done else { return Ok(()) };
        if self.object.len().is_ok_and(|len| len == Some(self.sent)) {
            return Ok(());
        }
        self.upload = Some(upload); // it is dropped, and so withdrawn
        Err(explain("cannot write", &self.object.path, &error))
    }
}

impl Drop for Writer {
    /// Withdraws the parts of an object that was not finished, so that the store does not keep
    /// them.
    fn drop(&mut self) {
        if let Some(mut upload) = self.upload.take() {
            let _ = wait(async move { upload.abort().await });
        }
    }
}
