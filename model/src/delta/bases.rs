//! Checkpoints that deltas are made against: plain, compressed in any form, or deltas themselves.
//! Their tensors are found by digest, whatever their names and files are.

use std::collections::HashMap;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use sha2::{Digest, Sha256};

use super::{DEEPEST, decode_range, in_turn, restored};
use crate::container::{Container, Tensor};
use crate::error::Error;
use crate::names::digest;
use crate::packed::metadata::{DeltaMetadata, TensorMetadata};
use crate::packed::{Packed, Part, frame};
use crate::reader::Reader;

/// Any number of checkpoints, and where each tensor is.
#[derive(Debug, Default)]
pub(crate) struct Bases {
    list: Vec<Checkpoint>,
    /// The checkpoint and the tensor that have a digest.
    by_digest: HashMap<String, (usize, usize)>,
}

/// One of them.
#[derive(Debug)]
struct Checkpoint {
    path: PathBuf,
    reader: Reader,
    tensors: Vec<Known>,
}

/// A tensor of a base.
#[derive(Debug)]
struct Known {
    name: String,
    dtype: String,
    shape: Vec<usize>,
    bytes: usize,
    sha256: String,
    /// Whether its digest is known to be right, and not only recorded.
    is_checked: AtomicBool,
    /// Where it is stored and what it needs, if it is a delta itself.
    delta: Option<((usize, usize), DeltaMetadata)>,
}

impl Known {
    /// How many deltas it takes to restore it.
    fn depth(&self) -> u32 {
        self.delta.as_ref().map_or(0, |(_, base)| base.depth)
    }
}

impl Bases {
    /// Opens checkpoints, and computes the digests of tensors that nothing records.
    pub(crate) fn open(paths: &[PathBuf]) -> Result<Self, Error> {
        let mut bases = Bases::default();
        for path in paths {
            bases.list.push(Checkpoint::open(path)?);
            let number = bases.list.len() - 1;
            for (i, tensor) in bases.list[number].tensors.iter().enumerate() {
                let taken = bases.by_digest.get(&tensor.sha256);
                let depth = taken.map(|&(checkpoint, at)| bases.list[checkpoint].tensors[at].depth());
                // What needs the fewest deltas: a tensor that is its base's has the same digest.
                if depth.is_none_or(|depth| tensor.depth() < depth) {
                    bases.by_digest.insert(tensor.sha256.clone(), (number, i));
                }
            }
        }
        Ok(bases)
    }

    /// Finds what a tensor is to be stored against: one with the same bytes, with the same name, or
    /// the only one whose name ends in its name or the other way round.
    pub(crate) fn find(
        &self,
        name: &str,
        dtype: &str,
        shape: &[usize],
        sha256: &str,
    ) -> Result<Option<DeltaMetadata>, Error> {
        let all = || self.list.iter().flat_map(|checkpoint| &checkpoint.tensors);
        let fits = |known: &&Known| {
            let rows = !shape.is_empty() && shape.get(1..) == known.shape.get(1..);
            known.dtype == dtype && (known.shape == shape || rows)
        };
        let ends = |long: &str, short: &str| long.strip_suffix(short).is_some_and(|rest| rest.ends_with('.'));
        let equal = self.by_digest.get(sha256).map(|&(checkpoint, at)| &self.list[checkpoint].tensors[at]);
        let mut renamed = all().filter(fits).filter(|k| ends(&k.name, name) || ends(name, &k.name));
        let found = equal.filter(fits).or_else(|| all().filter(fits).find(|known| known.name == name));
        let found = found.or_else(|| renamed.next().filter(|_| renamed.next().is_none()));
        let Some(known) = found else { return Ok(None) };
        let depth = known.depth().saturating_add(1);
        if depth > DEEPEST {
            return Err(Error::Usage(format!(
                "tensor {name}: its base is a chain of {} deltas, and {DEEPEST} are the most; compress \
                 against an earlier checkpoint, or restore the base and give that",
                depth - 1
            )));
        }
        let Known { name, shape, sha256, .. } = known;
        Ok(Some(DeltaMetadata { name: name.clone(), shape: shape.clone(), sha256: sha256.clone(), depth }))
    }

    /// Checks that the base of a delta is there.
    pub(crate) fn expect(
        &self,
        container: &Container,
        tensor: &Tensor,
        base: &DeltaMetadata,
    ) -> Result<(), Error> {
        let mut wanted = base;
        for _ in 0..=DEEPEST {
            let Some(&(checkpoint, at)) = self.by_digest.get(&wanted.sha256) else {
                return Err(Error::tensor(&container.path, &tensor.name, self.missing(wanted)));
            };
            match &self.list[checkpoint].tensors[at].delta {
                Some((_, next)) => wanted = next,
                None => return Ok(()),
            }
        }
        let problem = format!(
            "needs a chain of more than {DEEPEST} deltas, or one that leads back to itself; give an earlier base"
        );
        Err(Error::tensor(&container.path, &tensor.name, problem))
    }

    /// Checks that the base of a tensor is there, if it is stored as a delta.
    pub(crate) fn expect_of(
        &self,
        container: &Container,
        tensor: &Tensor,
        original: &TensorMetadata,
    ) -> Result<(), Error> {
        original.delta.as_ref().map_or(Ok(()), |base| self.expect(container, tensor, base))
    }

    /// Says which tensor is missing, and what is there in its place.
    fn missing(&self, base: &DeltaMetadata) -> String {
        let DeltaMetadata { name, shape, sha256, .. } = base;
        let wanted = format!("is a delta against the tensor {name} of shape {shape:?} with SHA-256 {sha256}");
        let all = self.list.iter().flat_map(|c| c.tensors.iter().map(move |known| (c, known)));
        let mut same_name = all.filter(|(_, known)| known.name == *name);
        match same_name.next() {
            Some((checkpoint, known)) => format!(
                "{wanted}, but {name} in {} has SHA-256 {}; give the base that it was compressed against",
                checkpoint.path.display(),
                known.sha256
            ),
            None if self.list.is_empty() => format!("{wanted}; give its checkpoint as the base"),
            None => format!("{wanted}, which no base that was given has; give its checkpoint, too"),
        }
    }

    /// Checks that the bases of all deltas of a checkpoint are there.
    pub(crate) fn expect_all(&self, packed: &Packed) -> Result<(), Error> {
        for part in &packed.parts {
            for (place, _, base) in deltas(part) {
                let (container, tensor) = part.weights.at(place);
                self.expect(container, tensor, base)?;
            }
        }
        Ok(())
    }

    /// Decodes the tensor with a digest, and compares that.
    pub(crate) fn read(&self, sha256: &str) -> Result<Vec<u8>, Error> {
        self.read_at(sha256, 0)
    }

    /// The tensor with a digest, and the checkpoint that has it.
    fn known(&self, sha256: &str) -> Result<(&Checkpoint, &Known), Error> {
        match self.by_digest.get(sha256) {
            Some(&(checkpoint, at)) => Ok((&self.list[checkpoint], &self.list[checkpoint].tensors[at])),
            None => Err(Error::Usage(format!("no base that was given has a tensor with SHA-256 {sha256}"))),
        }
    }

    /// How many bytes the tensor with a digest has.
    pub(super) fn bytes(&self, sha256: &str) -> Result<usize, Error> {
        self.known(sha256).map(|(_, known)| known.bytes)
    }

    /// Decodes a range of bytes of the tensor with a digest. The first time, it decodes all of it,
    /// and compares the digest (B-8.2).
    pub(super) fn read_range(&self, sha256: &str, bytes: Range<usize>, out: &mut [u8]) -> Result<(), Error> {
        let (checkpoint, known) = self.known(sha256)?;
        if !known.is_checked.load(Ordering::Relaxed) {
            self.read(sha256)?;
        }
        if bytes.end > known.bytes {
            let problem = format!("has {} bytes, fewer than a delta against it needs", known.bytes);
            return Err(Error::tensor(&checkpoint.path, &known.name, problem));
        }
        match &known.delta {
            None => checkpoint.reader.decode_bytes(&known.name, bytes, out),
            Some((place, base)) => {
                let located = checkpoint.reader.part().weights.at(*place);
                let stored = located.0.map(located.1)?;
                decode_range(self, located, &stored, &base.sha256, bytes, out)
            }
        }
    }

    fn read_at(&self, sha256: &str, depth: u32) -> Result<Vec<u8>, Error> {
        let (checkpoint, known) = self.known(sha256)?;
        if depth > DEEPEST {
            let problem = format!("needs a chain of more than {DEEPEST} deltas; give an earlier base");
            return Err(Error::tensor(&checkpoint.path, &known.name, problem));
        }
        let elements = match &known.delta {
            None => checkpoint.read(&known.name)?,
            Some((place, base)) => {
                let base = self.read_at(&base.sha256, depth + 1)?;
                let (container, tensor) = checkpoint.reader.part().weights.at(*place);
                restored(&base, container, tensor)?
            }
        };
        let found = digest(&elements);
        if found != sha256 {
            let problem = format!("has SHA-256 {found}, but {sha256} is recorded; the base is damaged");
            return Err(Error::tensor(&checkpoint.path, &known.name, problem));
        }
        known.is_checked.store(true, Ordering::Relaxed);
        Ok(elements)
    }
}

/// The deltas of a part: where each is stored, the original tensor and its base.
pub(super) fn deltas(part: &Part) -> impl Iterator<Item = ((usize, usize), &TensorMetadata, &DeltaMetadata)> {
    part.singles.iter().filter_map(|single| {
        let original = single.frame.as_ref()?;
        original.delta.as_ref().map(|base| (single.place, original, base))
    })
}

impl Checkpoint {
    fn open(path: &Path) -> Result<Self, Error> {
        let reader = Reader::open_base(path)?;
        let part = reader.part();
        let all: Vec<_> = reader.tensors().collect();
        let mut tensors = in_turn(&all, |tensor| {
            let recorded = part.described.digest(tensor.name()).filter(|sha256| !sha256.is_empty());
            let (sha256, is_checked) = match recorded {
                Some(sha256) => (sha256.to_owned(), false),
                None => {
                    let mut elements = vec![0; tensor.bytes() as usize];
                    reader.decode_into(tensor.name(), &mut elements)?;
                    (hex::encode(Sha256::digest(&elements)), true)
                }
            };
            let (name, dtype) = (tensor.name().to_owned(), tensor.dtype().to_owned());
            let (shape, bytes) = (tensor.shape().to_vec(), tensor.bytes() as usize);
            Ok(Known {
                name,
                dtype,
                shape,
                bytes,
                sha256,
                is_checked: AtomicBool::new(is_checked),
                delta: None,
            })
        })?;
        for (place, original, base) in deltas(part) {
            let elements = frame::elements(&original.shape).unwrap_or(0);
            tensors.push(Known {
                name: original.name.clone(),
                dtype: original.dtype.clone(),
                shape: original.shape.clone(),
                bytes: original.bytes_of(elements) as usize,
                sha256: original.sha256.clone(),
                is_checked: AtomicBool::new(false),
                delta: Some((place, base.clone())),
            });
        }
        Ok(Checkpoint { path: path.to_owned(), reader, tensors })
    }

    fn read(&self, name: &str) -> Result<Vec<u8>, Error> {
        let bytes = self.reader.tensor(name).map_or(0, |tensor| tensor.bytes());
        let mut elements = vec![0; bytes as usize];
        self.reader.decode_into(name, &mut elements)?;
        Ok(elements)
    }
}
