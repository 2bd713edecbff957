//! Scan: reads every byte of the input once, for digests and histograms.
//!
//! Output is later compared with what was read here, not with the source as it is by then.
//! Companions and files that are left out are read as well, so that an unreadable one is reported
//! before any weight is written.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use df11::{Counts, frame};
use rayon::prelude::*;
use sha2::{Digest, Sha256};
use twox_hash::XxHash3_128;

use super::Job;
use crate::checkpoint::{WeightFile, Weights};
use crate::container::{Container, Tensor};
use crate::error::Error;
use crate::packed::{file_bytes, frame::element_type};
use crate::progress::{Progress, go_on};
use crate::staging::file_digest;

/// The size in bytes of the pieces that tensors are scanned in. Units are encoded in the same
/// pieces.
const PIECE_BYTES: usize = 2 * Counts::PIECE_LEN;

/// Whether a scan computes digests, which take most of its time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Digests {
    Computed,
    /// Those of the scan stay empty.
    LeftOut,
}

/// Tensors of at most this size in bytes are read together.
const SMALL: u64 = 1 << 16;

/// The digests and histograms of the input.
#[derive(Debug)]
pub(crate) struct Scan {
    files: HashMap<String, FileScan>,
    /// The length and SHA-256 of each companion, in the order of the source's list.
    pub(super) others: Vec<(u64, String)>,
    /// The length and SHA-256 of each file that is left out; 0 and an empty text for an entry that
    /// is not a file.
    pub(super) left_out: Vec<(u64, String)>,
}

/// The digests and histograms of a weight file.
#[derive(Debug)]
pub(super) struct FileScan {
    pub(super) bytes: u64,
    pub(super) sha256: String,
    /// One entry for each tensor, in the order of the header.
    pub(super) tensors: Vec<TensorScan>,
}

/// The digest and histograms of a tensor.
#[derive(Debug)]
pub(crate) struct TensorScan {
    pub(super) sha256: [u8; 32],
    /// XXH3, which takes a tenth of the time and is never recorded. `None` for a tensor that was
    /// read elsewhere.
    xxh3: Option<u128>,
    /// How often each coded byte occurs, for each piece.
    pieces: Vec<Histogram>,
}

/// A histogram of bytes that omits those that do not occur.
#[derive(Debug)]
struct Histogram(Box<[(u8, u32)]>);

impl Histogram {
    fn new(counts: &[u64; 256]) -> Self {
        // Few byte values occur, and they lie side by side.
        let mut occur = Vec::with_capacity(16);
        for (row, counts) in counts.as_chunks::<16>().0.iter().enumerate() {
            if *counts != [0; 16] {
                let nonzero = counts.iter().enumerate().filter(|(_, count)| **count > 0);
                occur.extend(nonzero.map(|(i, &count)| ((16 * row + i) as u8, count as u32)));
            }
        }
        Histogram(occur.into_boxed_slice())
    }

    fn add_to(&self, counts: &mut [u64; 256]) {
        self.0.iter().for_each(|&(byte, count)| counts[usize::from(byte)] += u64::from(count));
    }
}

impl TensorScan {
    /// Makes the scan of a tensor that was not read.
    fn none() -> Self {
        TensorScan { sha256: [0; 32], xxh3: None, pieces: Vec::new() }
    }

    /// Takes the digest and the histogram of a tensor that was read elsewhere.
    pub(super) fn of(sha256: [u8; 32], counts: &[u64; 256]) -> Self {
        // A piece counts at most 2^32 - 1 of a byte.
        let mut rest = *counts;
        let mut pieces = Vec::new();
        while rest != [0; 256] {
            let now = rest.map(|count| count.min(u64::from(u32::MAX)));
            rest.iter_mut().zip(now).for_each(|(rest, now)| *rest -= now);
            pieces.push(Histogram::new(&now));
        }
        TensorScan { sha256, xxh3: None, pieces }
    }

    /// Begins to compare what was written with what was read.
    pub(super) fn comparison(&self) -> Comparison {
        match self.xxh3 {
            Some(expected) => Comparison::Xxh3(Box::new(XxHash3_128::new()), expected),
            None => Comparison::Sha256(Sha256::new(), self.sha256),
        }
    }

    /// Counts how often each coded byte occurs in the tensor.
    pub(crate) fn counts(&self) -> [u64; 256] {
        let mut counts = [0; 256];
        self.pieces.iter().for_each(|piece| piece.add_to(&mut counts));
        counts
    }

    /// Returns the histogram of each piece.
    pub(super) fn pieces(&self) -> impl Iterator<Item = [u64; 256]> {
        self.pieces.iter().map(|piece| {
            let mut counts = [0; 256];
            piece.add_to(&mut counts);
            counts
        })
    }
}

/// The comparison of a tensor with what was scanned.
pub(super) enum Comparison {
    Xxh3(Box<XxHash3_128>, u128),
    Sha256(Sha256, [u8; 32]),
}

impl Comparison {
    /// Goes on with the next bytes of the tensor.
    pub(super) fn update(&mut self, bytes: &[u8]) {
        match self {
            Comparison::Xxh3(hasher, _) => hasher.write(bytes),
            Comparison::Sha256(hasher, _) => hasher.update(bytes),
        }
    }

    /// Tells whether the bytes were those that were scanned.
    pub(super) fn finish(self) -> bool {
        match self {
            Comparison::Xxh3(hasher, expected) => hasher.finish_128() == expected,
            Comparison::Sha256(hasher, expected) => hasher.finalize()[..] == expected,
        }
    }
}

impl Scan {
    /// Scans the input.
    pub(super) fn run(job: &Job<'_>) -> Result<Self, Error> {
        let mut scan = Scan::weights(job.lots, Digests::Computed, job.progress)?;
        let source = job.source;
        let read = |name: &Path| {
            let path = source.root.join(name);
            Ok((file_bytes(&path)?, file_digest(&path)?))
        };
        scan.others = source.others.par_iter().map(|name| read(name)).collect::<Result<_, Error>>()?;
        let left_out = source.left_out.par_iter().map(|left| {
            // An unreadable file is no reason to fail here, because it is left out.
            if left.is_file { read(&left.name).unwrap_or_default() } else { Default::default() }
        });
        scan.left_out = left_out.collect();
        Ok(scan)
    }

    /// Reads weight files.
    pub(crate) fn weights(
        lots: &[Weights],
        digests: Digests,
        progress: &dyn Progress,
    ) -> Result<Self, Error> {
        let mut files: HashMap<&str, &Arc<WeightFile>> = HashMap::new();
        for file in lots.iter().flat_map(|lot| &lot.files) {
            files.insert(&file.name, file);
        }
        let bytes: u64 = files.values().map(|file| file.container.len).sum();
        progress.begin("reading", bytes);
        let mut files: Vec<_> = files.into_iter().collect();
        files.sort_by_key(|(name, _)| *name);
        let scanned = files.into_par_iter().with_max_len(1).map(|(name, file)| {
            let scanned = scan_file(&file.container, digests, progress)?;
            Ok((name.to_owned(), scanned))
        });
        let files = scanned.collect::<Result<HashMap<_, _>, Error>>()?;
        Ok(Scan { files, others: Vec::new(), left_out: Vec::new() })
    }

    /// Takes what was found out elsewhere.
    pub(super) fn of_files(files: HashMap<String, FileScan>) -> Self {
        Scan { files, others: Vec::new(), left_out: Vec::new() }
    }

    /// Reads these tensors of a lot, and no others.
    pub(super) fn of_tensors(lot: &Weights, names: &[&str], progress: &dyn Progress) -> Result<Self, Error> {
        let scanned = names.par_iter().with_max_len(1).map(|name| {
            let (container, tensor) = super::source(lot, name)?;
            Ok((*name, scan_tensor(container, tensor, Digests::Computed, None, progress)?))
        });
        let mut files: HashMap<String, FileScan> = HashMap::new();
        for (name, found) in scanned.collect::<Result<Vec<_>, Error>>()? {
            let Some(&(file, at)) = lot.tensors.get(name) else { continue };
            let file = &lot.files[file];
            let scan = files.entry(file.name.clone()).or_insert_with(|| {
                let tensors = file.container.tensors.iter().map(|_| TensorScan::none()).collect();
                FileScan { bytes: file.container.len, sha256: String::new(), tensors }
            });
            scan.tensors[at] = found;
        }
        Ok(Self::of_files(files))
    }

    pub(super) fn file(&self, name: &str) -> Option<&FileScan> {
        self.files.get(name)
    }

    /// Finds the scan of a tensor of a lot.
    pub(crate) fn tensor(&self, lot: &Weights, name: &str) -> Result<&TensorScan, Error> {
        let found = lot.tensors.get(name).and_then(|&(file, at)| {
            self.files.get(&lot.files[file].name).and_then(|file| file.tensors.get(at))
        });
        found.ok_or_else(|| Error::tensor(&lot.path, name, "is missing"))
    }
}

/// Reads a weight file from start to end.
pub(super) fn scan_file(
    container: &Container,
    digests: Digests,
    progress: &dyn Progress,
) -> Result<FileScan, Error> {
    let mut whole = (digests == Digests::Computed).then(Sha256::new);
    whole.iter_mut().for_each(|whole| whole.update(container.head()));
    let mut tensors = Vec::with_capacity(container.tensors.len());
    let mut rest = container.tensors.as_slice();
    while let Some(first) = rest.first() {
        // Small tensors that follow one another are read together.
        let small = rest.iter().take_while(|tensor| tensor.bytes() <= SMALL);
        let together = small.take_while(|t| t.range.end - first.range.start <= PIECE_BYTES as u64).count();
        if together == 0 {
            tensors.push(scan_tensor(container, first, digests, whole.as_mut(), progress)?);
            rest = &rest[1..];
            continue;
        }
        let (batch, after) = rest.split_at(together);
        let range = first.range.start..batch.last().map_or(first.range.start, |last| last.range.end);
        let mut bytes = Vec::with_capacity((range.end - range.start) as usize);
        container.read_range(range, PIECE_BYTES, |chunk| {
            bytes.extend_from_slice(chunk);
            Ok(())
        })?;
        let of_tensor = |tensor: &Tensor| {
            let at = (tensor.range.start - first.range.start) as usize;
            let bytes = &bytes[at..at + tensor.bytes() as usize];
            let pieces = if bytes.is_empty() { Vec::new() } else { vec![count(container, tensor, bytes)?] };
            let (sha256, xxh3) = match digests {
                Digests::Computed => (Sha256::digest(bytes).into(), Some(XxHash3_128::oneshot(bytes))),
                Digests::LeftOut => ([0; 32], None),
            };
            Ok(TensorScan { sha256, xxh3, pieces })
        };
        let ((), scanned) = rayon::join(
            || whole.iter_mut().for_each(|whole| whole.update(&bytes)),
            || batch.iter().map(of_tensor).collect::<Result<Vec<_>, Error>>(),
        );
        tensors.extend(scanned?);
        progress.advance(bytes.len() as u64);
        go_on(progress)?;
        rest = after;
    }
    let sha256 = whole.map_or_else(String::new, |whole| hex::encode(whole.finalize()));
    Ok(FileScan { bytes: container.len, sha256, tensors })
}

/// Scans one tensor. One thread computes the digest of the file, where one is wanted, while another
/// computes those of the tensor and its histograms.
fn scan_tensor(
    container: &Container,
    tensor: &Tensor,
    digests: Digests,
    mut whole: Option<&mut Sha256>,
    progress: &dyn Progress,
) -> Result<TensorScan, Error> {
    let mut pieces = Vec::new();
    let mut own = (digests == Digests::Computed).then(|| (Sha256::new(), XxHash3_128::new()));
    container.read_range(tensor.range.clone(), PIECE_BYTES, |piece| {
        let of_tensor = || {
            if let Some((sha256, xxh3)) = &mut own {
                sha256.update(piece);
                xxh3.write(piece);
            }
            count(container, tensor, piece)
        };
        let ((), counted) = rayon::join(|| whole.iter_mut().for_each(|whole| whole.update(piece)), of_tensor);
        pieces.push(counted?);
        progress.advance(piece.len() as u64);
        go_on(progress)
    })?;
    let (sha256, xxh3) = match own {
        Some((sha256, xxh3)) => (sha256.finalize().into(), Some(xxh3.finish_128())),
        None => ([0; 32], None),
    };
    Ok(TensorScan { sha256, xxh3, pieces })
}

fn count(container: &Container, tensor: &Tensor, piece: &[u8]) -> Result<Histogram, Error> {
    let odd = |error: df11::Error| Error::tensor(&container.path, &tensor.name, error.to_string());
    Ok(Histogram::new(&frame::count(element_type(tensor.dtype), piece).map_err(odd)?))
}
