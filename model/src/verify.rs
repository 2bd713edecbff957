//! Checking a compressed checkpoint.

use std::collections::BTreeSet;
use std::path::Path;

use rayon::prelude::*;
use sha2::{Digest, Sha256};

use crate::checkpoint::{CONFIG, Checkpoint};
use crate::config;
use crate::decompress::{
    DIGEST_DIFFERS, Names, Sources, check_config, check_files, name_units, original_files,
};
use crate::error::Error;
use crate::framed;
use crate::map::Mapped;
use crate::metadata::Described;
use crate::packed::{self, PackedUnit};
use crate::pool;
use crate::progress::Progress;
use crate::report::VerifyReport;

/// Checks every rule of every unit in the checkpoint at `path`, decodes every weight, and compares digests where there
/// are any; with `against`, also compares every tensor, as bits, with the original checkpoint there.
///
/// # Errors
///
/// [`Error`] for the first thing that is wrong.
pub fn verify(
    path: &Path,
    against: Option<&Path>,
    threads: usize,
    progress: &dyn Progress,
) -> Result<VerifyReport, Error> {
    let checkpoint = Checkpoint::open(path, None)?;
    let (units, plain) = packed::units(&checkpoint)?;
    check_config(&checkpoint)?;
    let described = Described::collect(&checkpoint)?;
    if units.is_empty() && described.checkpoint.is_none() {
        return Err(Error::file(
            path,
            "holds no DF11 units; it is not compressed, so there is nothing to verify",
        ));
    }
    let names = name_units(&checkpoint, &units, &described, None, &mut Vec::new())?;
    check_patterns(&checkpoint, &units, &names)?;
    let sources = Sources::collect(&units, &plain, &names, &described)?;
    // The record of the originals names the tensors of all files; one file on its own is checked for what it holds.
    if let Some(original) = described.checkpoint.as_ref().filter(|_| checkpoint.path.is_dir()) {
        check_files(path, &original_files(path, original)?, &sources, Some(&described))?;
    }
    let there: BTreeSet<&str> = names
        .values()
        .flatten()
        .map(String::as_str)
        .chain(plain.iter().map(|(_, t)| t.name.as_str()))
        .collect();
    if let Some(missing) = described.tensors.keys().find(|name| !there.contains(name.as_str())) {
        return Err(Error::tensor(path, missing, "has a digest, but is not there; download the file again"));
    }
    let original = against.map(|path| Checkpoint::open(path, None)).transpose()?;
    if let Some(original) = &original
        && let Some(name) = original.tensors.keys().find(|name| !there.contains(name.as_str()))
    {
        return Err(Error::tensor(path, name, "is in the original, but not here"));
    }

    // One tensor, hashed and compared as its bytes come.
    let check = Check { described: &described, original: original.as_ref() };
    let (frames, plain): (Vec<_>, Vec<_>) =
        plain.iter().partition(|(_, tensor)| described.framed(&tensor.name).is_some());
    let framed_bytes: u64 = frames.iter().map(|(_, tensor)| tensor.bytes()).sum();
    progress.begin("verifying", units.iter().map(PackedUnit::bytes).sum::<u64>() + framed_bytes);
    let pool = pool(threads)?;
    let elements: Vec<Result<u64, Error>> = pool.install(|| {
        units
            .par_iter()
            .with_max_len(1)
            .map(|unit| {
                let from = &unit.container().path;
                let mapped = unit.map()?;
                let view = mapped.unit()?;
                let lengths = view.tensor_ranges().map(|range| 2 * range.len() as u64);
                let mut tensors = Vec::new();
                for (name, bytes) in names[&unit.path].iter().zip(lengths) {
                    tensors.push(check.begin(name, bytes, from)?);
                }
                packed::decode(&mapped, &view, |tensor, offset, bytes| {
                    tensors[tensor].update(offset, bytes)
                })?;
                for tensor in tensors {
                    tensor.finish()?;
                }
                progress.advance(unit.bytes());
                Ok(view.len() as u64)
            })
            .collect()
    });
    let elements = elements.into_iter().sum::<Result<u64, Error>>()?;
    pool.install(|| {
        frames.par_iter().with_max_len(1).try_for_each(|(container, tensor)| {
            let Some(original) = described.framed(&tensor.name) else { return Ok(()) };
            let bytes = framed::original_bytes(container, tensor, original)?;
            let mut state = check.begin(&tensor.name, bytes, &container.path)?;
            framed::decode(container, tensor, |offset, elements| state.update(offset, elements))?;
            progress.advance(tensor.bytes());
            state.finish()
        })
    })?;
    for (container, tensor) in &plain {
        let mut state = check.begin(&tensor.name, tensor.bytes(), &container.path)?;
        let mut offset = 0;
        container.read(tensor, |chunk| {
            state.update(offset, chunk)?;
            offset += chunk.len();
            Ok(())
        })?;
        state.finish()?;
    }
    Ok(VerifyReport {
        units: units.len(),
        elements,
        frames: frames.len(),
        plain_tensors: plain.len(),
        digests_checked: described.tensors.len(),
        digests_missing: there.len() - described.tensors.len(),
        compared: original.map(|original| original.tensors.len()),
    })
}

/// Checks that a loader that goes by `config.json` finds the tensors of each unit (D-10.4).
fn check_patterns(checkpoint: &Checkpoint, units: &[PackedUnit<'_>], names: &Names) -> Result<(), Error> {
    let Some(dict) = checkpoint.config().and_then(config::pattern_dict) else { return Ok(()) };
    let wrong = |problem: String| Error::file(&checkpoint.path.join(CONFIG), problem);
    let patterns = dict.compile().map_err(wrong)?;
    for unit in units {
        let expected = &names[&unit.path];
        if !patterns.iter().any(|p| p.matches(&unit.path) && p.tensors(&unit.path) == *expected) {
            return Err(wrong(format!(
                "no entry of its pattern_dict gives the tensors of unit {}",
                unit.path
            )));
        }
    }
    Ok(())
}

/// What tensors are compared with.
struct Check<'a> {
    described: &'a Described,
    original: Option<&'a Checkpoint>,
}

/// A tensor that is being compared.
struct Checked<'a> {
    name: &'a str,
    from: &'a Path,
    digest: Option<(&'a str, Sha256)>,
    original: Option<Mapped>,
}

impl Check<'_> {
    fn begin<'a>(&'a self, name: &'a str, bytes: u64, from: &'a Path) -> Result<Checked<'a>, Error> {
        let original = match self.original {
            None => None,
            Some(original) => {
                let (container, tensor) =
                    original.get(name).ok_or_else(|| Error::tensor(from, name, "is not in the original"))?;
                if tensor.bytes() != bytes {
                    let problem = format!("has {bytes} bytes, but {} in the original", tensor.bytes());
                    return Err(Error::tensor(from, name, problem));
                }
                Some(container.map(tensor)?)
            }
        };
        let digest = self.described.digest(name).map(|digest| (digest, Sha256::new()));
        Ok(Checked { name, from, digest, original })
    }
}

impl Checked<'_> {
    fn update(&mut self, offset: usize, bytes: &[u8]) -> Result<(), Error> {
        if let Some((_, sha256)) = &mut self.digest {
            sha256.update(bytes);
        }
        match &self.original {
            Some(original) if original.get(offset..offset + bytes.len()) != Some(bytes) => {
                let problem = format!("differs from the original near byte {offset}");
                Err(Error::tensor(self.from, self.name, problem))
            }
            _ => Ok(()),
        }
    }

    fn finish(self) -> Result<(), Error> {
        if let Some((digest, sha256)) = self.digest
            && hex::encode(sha256.finalize()) != digest
        {
            return Err(Error::tensor(self.from, self.name, DIGEST_DIFFERS));
        }
        Ok(())
    }
}
