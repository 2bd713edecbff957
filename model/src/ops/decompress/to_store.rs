//! Restores into a folder, in a store or not, file by file. Each weight file is decoded from its
//! first tensor to its last, and sent while it is decoded, so that no file of this machine holds
//! weights that go to a store. Any number of machines can each restore some of the files.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use df11::bf16;
use sha2::{Digest, Sha256};

use super::{DIGEST_DIFFERS, DecompressOptions, Extras, begin_report, check_length, end_report, open};
use crate::container::{CHUNK, Tensor};
use crate::delta;
use crate::error::{Error, io};
use crate::names::{OURS, digest, is_weights, portable};
use crate::ops::report::DecompressReport;
use crate::ops::restoration::{Restoration, RestoredFile};
use crate::ops::two_at_a_time;
use crate::packed::manifest::Manifest;
use crate::packed::open::{Bytes, OpenUnit};
use crate::packed::unit::PackedUnit;
use crate::packed::{Packed, Part, Single, frame};
use crate::progress::{Progress, go_on};
use crate::staging::Staging;
use crate::{pool, store};

/// The number of weights that are decoded at a time.
const PIECE: usize = 1 << 20;

/// The number of units that are kept while a file is written. Tensors of one unit lie side by side.
const KEPT: usize = 2;

/// The place of a tensor in the compressed checkpoint.
#[derive(Clone, Copy)]
enum From<'a> {
    /// Part, unit, and the number of the tensor in the unit.
    Unit(usize, &'a PackedUnit, usize),
    Single(&'a Part, &'a Single),
}

/// A restoration, file by file.
pub(super) struct Tasks<'a> {
    packed: Packed,
    restoration: Restoration,
    output: &'a Path,
    progress: &'a dyn Progress,
    /// The folder for files that are whole but not visible.
    aside: PathBuf,
}

/// The places that the tensors of a file come from, and their digests, by number.
struct Places<'a> {
    sources: HashMap<usize, From<'a>>,
    digests: HashMap<usize, &'a str>,
}

/// Units that are open, the latest last.
struct Open<'a>(VecDeque<(&'a str, Arc<OpenUnit>)>);

/// Plans a restoration of which any number of machines can do tasks: lists the weight files that
/// are restored and their lengths in bytes, in order. [`restore_task`] restores one of them, and
/// [`restore_finish`] makes the whole visible.
///
/// # Errors
///
/// [`Error`] if the checkpoint is not compressed or not whole, or if the output is not empty.
pub fn restore_plan(
    input: impl AsRef<Path>,
    output: impl AsRef<Path>,
    options: &DecompressOptions,
) -> Result<Vec<(String, u64)>, Error> {
    let (input, output) = (store::plain(input.as_ref()), store::plain(output.as_ref()));
    let tasks = tasks(&input, &output, options, &())?;
    Ok(tasks.restoration.files.iter().map(|f| (portable(&f.name).unwrap_or_default(), f.len())).collect())
}

/// Restores one weight file of a [`restore_plan`], which stays invisible until
/// [`restore_finish`]. Returns whether it was there already. It may be done twice, and at once.
///
/// # Errors
///
/// [`Error`], which names the file. The task can then be done again.
pub fn restore_task(
    input: impl AsRef<Path>,
    output: impl AsRef<Path>,
    file: usize,
    options: &DecompressOptions,
    progress: &dyn Progress,
) -> Result<bool, Error> {
    let (input, output) = (store::plain(input.as_ref()), store::plain(output.as_ref()));
    let tasks = tasks(&input, &output, options, progress)?;
    if file >= tasks.restoration.files.len() {
        return Err(Error::Usage(format!("there is no file {file} to restore")));
    }
    let was_done = tasks.is_done(file)?;
    if !was_done {
        pool(options.threads)?.install(|| tasks.write_file(file))?;
    }
    Ok(was_done)
}

/// Makes the output of a [`restore_plan`] visible, if all its files are restored.
///
/// # Errors
///
/// [`Error`], which names the files that are not restored.
pub fn restore_finish(
    input: impl AsRef<Path>,
    output: impl AsRef<Path>,
    options: &DecompressOptions,
    progress: &dyn Progress,
) -> Result<DecompressReport, Error> {
    let (input, output) = (store::plain(input.as_ref()), store::plain(output.as_ref()));
    let tasks = tasks(&input, &output, options, progress)?;
    let extras = Extras::plan(&tasks.packed, &tasks.restoration, false);
    let mut report = begin_report(&tasks.packed, &tasks.restoration, 0);
    tasks.publish(&extras, &mut report)?;
    Ok(end_report(report))
}

/// Opens a compressed checkpoint whose files are to be restored.
pub(super) fn tasks<'a>(
    input: &Path,
    output: &'a Path,
    options: &DecompressOptions,
    progress: &'a dyn Progress,
) -> Result<Tasks<'a>, Error> {
    if is_weights(output) {
        let problem = "names a file, but a folder is written here; name a folder";
        return Err(Error::Usage(format!("{} {problem}", output.display())));
    }
    let packed = open(input)?;
    if packed.parts.iter().any(delta::is_in) {
        let problem =
            "holds deltas against another checkpoint, which are restored to a directory of this machine";
        return Err(Error::file(input, problem));
    }
    let restoration = Restoration::plan(&packed, options.pattern_dict.as_ref())?;
    let manifest = packed.manifest.as_ref().and_then(|manifest| manifest.seal().ok()).unwrap_or_default();
    let id = digest(format!("decompress {} {manifest}", packed.path.display()).as_bytes());
    let aside = output.join(format!("{OURS}tasks")).join(&id[..16]);
    let tasks = Tasks { packed, restoration, output, progress, aside };
    tasks.clear_the_way(options.force)?;
    Ok(tasks)
}

impl Tasks<'_> {
    /// Finds where the tensors of a file come from.
    fn places(&self, file: usize) -> Places<'_> {
        let mut places = Places { sources: HashMap::new(), digests: HashMap::new() };
        for (i, part) in self.packed.parts.iter().enumerate() {
            let units = part.units.iter().flat_map(|unit| {
                let names = self.restoration.names[i][&unit.path].iter().enumerate();
                names.map(move |(number, name)| (name, From::Unit(i, unit, number)))
            });
            let singles = part
                .singles
                .iter()
                .map(|single| (&part.weights.at(single.place).1.name, From::Single(part, single)));
            for (name, from) in units.chain(singles) {
                let target = self.restoration.target(i, name).filter(|target| target.file == file);
                if let Some(target) = target {
                    places.sources.insert(target.tensor, from);
                    if let Some(sha256) = target.sha256.as_deref().filter(|sha256| !sha256.is_empty()) {
                        places.digests.insert(target.tensor, sha256);
                    }
                }
            }
        }
        places
    }

    /// Fails if something else is in the output.
    fn clear_the_way(&self, force: bool) -> Result<(), Error> {
        let there = store::visible(self.output)?;
        if there.is_empty() {
            return Ok(());
        }
        if !force {
            let problem = "is not empty".to_owned();
            return Err(Error::OutputOccupied { path: self.output.to_owned(), problem });
        }
        let lens: BTreeMap<&Path, u64> =
            self.restoration.files.iter().map(|file| (file.name.as_path(), file.len())).collect();
        for (name, len) in &there {
            if lens.get(name.as_path()).is_some_and(|planned| planned != len) {
                let path = self.output.join(name);
                let problem =
                    "is in the way and is not what would be written; move it, or choose another place";
                return Err(Error::Usage(format!("{} {problem}", path.display())));
            }
        }
        Ok(())
    }

    /// Restores all files, none of them visible.
    pub(super) fn all(&self, threads: usize) -> Result<(), Error> {
        let mut left = Vec::new();
        for file in 0..self.restoration.files.len() {
            if !self.is_done(file)? {
                left.push(file);
            }
        }
        let tensors = left.iter().flat_map(|&file| &self.restoration.files[file].tensors);
        self.progress.begin("restoring", tensors.map(Tensor::bytes).sum());
        let pool = pool(threads)?;
        two_at_a_time(&left, |&file| pool.install(|| self.write_file(file)))
    }

    fn path_aside(&self, file: usize) -> PathBuf {
        self.aside.join(format!("file-{file:06}"))
    }

    fn is_done(&self, file: usize) -> Result<bool, Error> {
        Ok(store::len(&self.path_aside(file))? == Some(self.restoration.files[file].len()))
    }

    fn write_file(&self, number: usize) -> Result<(), Error> {
        let file = &self.restoration.files[number];
        let mut writer = store::Writer::new(&self.path_aside(number), file.len())?;
        let mut whole = Sha256::new();
        whole.update(&file.head);
        writer.write(&file.head)?;
        let places = self.places(number);
        let (mut open, mut all_known) = (Open(VecDeque::new()), true);
        for (at, tensor) in file.tensors.iter().enumerate() {
            let from = places.sources.get(&at).ok_or_else(|| {
                Error::tensor(&self.packed.path, &tensor.name, "belongs to the original, but is not there")
            })?;
            let (mut sha256, expected) = (Sha256::new(), places.digests.get(&at));
            all_known &= expected.is_some();
            self.decode(*from, tensor, &mut open, |bytes| {
                go_on(self.progress)?;
                sha256.update(bytes);
                whole.update(bytes);
                self.progress.advance(bytes.len() as u64);
                writer.write(bytes)
            })?;
            if expected.is_some_and(|expected| hex::encode(sha256.finalize()) != **expected) {
                return Err(Error::tensor(&self.packed.path, &tensor.name, DIGEST_DIFFERS));
            }
        }
        self.check_whole(file, whole, all_known)?;
        writer.finish()
    }

    /// Compares the digest of a whole file, if there is one.
    fn check_whole(&self, file: &RestoredFile, whole: Sha256, all_known: bool) -> Result<(), Error> {
        match &file.sha256 {
            Some(expected) if hex::encode(whole.finalize()) != *expected => {
                let problem = "would not have the SHA-256 of the original; a file here is damaged, download or \
                               compress it again";
                Err(Error::file(&self.output.join(&file.name), problem))
            }
            None if !all_known && self.packed.manifest.is_some() => {
                Err(Error::file(&self.output.join(&file.name), "has no digest of the original"))
            }
            _ => Ok(()),
        }
    }

    /// Decodes a tensor from start to end.
    fn decode<'a>(
        &'a self,
        from: From<'a>,
        tensor: &Tensor,
        open: &mut Open<'a>,
        mut each: impl FnMut(&[u8]) -> Result<(), Error> + Send,
    ) -> Result<(), Error> {
        match from {
            From::Unit(part, unit, number) => {
                let part = &self.packed.parts[part];
                let file = unit.file(&part.weights);
                let opened = open.get(part, unit)?;
                let wrong = |error| Error::unit(file, &unit.path, error);
                let range = opened.with_unit(|view| view.tensor_range(number)).unwrap_or(0..0);
                check_length(file, &tensor.name, (bf16::BYTES * range.len()) as u64, tensor.bytes())?;
                let mut buffer = vec![0; bf16::BYTES * PIECE.min(range.len())];
                for start in range.clone().step_by(PIECE) {
                    let end = range.end.min(start + PIECE);
                    let piece = &mut buffer[..bf16::BYTES * (end - start)];
                    opened.decode_range_into(start..end, piece).map_err(wrong)?;
                    each(piece)?;
                }
                Ok(())
            }
            From::Single(part, single) => {
                let (container, stored) = part.weights.at(single.place);
                if single.frame.is_none() {
                    return container.read_range(stored.range.clone(), CHUNK, each);
                }
                let mut at = 0;
                frame::decode(container, stored, |offset, elements| {
                    if offset != at {
                        return Err(Error::tensor(&container.path, &stored.name, "was decoded out of order"));
                    }
                    at += elements.len();
                    each(elements)
                })
            }
        }
    }

    /// Gives the weight files their names, and writes all other files; config and indices last.
    fn publish(&self, extras: &Extras<'_>, report: &mut DecompressReport) -> Result<(), Error> {
        let left: Vec<String> = (0..self.restoration.files.len())
            .filter(|&file| !self.is_done(file).unwrap_or(false))
            .map(|file| self.restoration.files[file].name.display().to_string())
            .collect();
        if !left.is_empty() {
            let shown = left.iter().take(5).cloned().collect::<Vec<_>>().join(", ");
            let problem =
                format!("{} weight files are not restored yet: {shown}; restore them first", left.len());
            return Err(Error::file(self.output, problem));
        }
        // Other files are small. They are made here, by the same rules, and then sent.
        let here = tempfile::tempdir().map_err(io("cannot create a directory for", self.output))?;
        let staging = Staging::directory(here.path(), "df11 decompress", &[], false)?;
        extras.write(&self.packed, &staging, report)?;
        staging.publish()?;
        for (number, file) in self.restoration.files.iter().enumerate() {
            let (aside, target) = (self.path_aside(number), self.output.join(&file.name));
            store::rename(&aside, &target, file.len())?;
        }
        let mut others: Vec<PathBuf> = store::visible(here.path())?.into_keys().collect();
        others.sort_by_key(|name| (Manifest::is_last(name), Manifest::last_order(name)));
        for name in others {
            let from = here.path().join(&name);
            let len = store::len(&from)?.unwrap_or(0);
            let mut writer = store::Writer::new(&self.output.join(&name), len)?;
            store::read_chunks(&from, |chunk| writer.write(chunk))?;
            writer.finish()?;
        }
        if !store::is_remote(self.output) {
            // Each succeeds only if the folder is empty.
            let _ = std::fs::remove_dir(&self.aside);
            let _ = std::fs::remove_dir(self.output.join(format!("{OURS}tasks")));
        }
        store::sync(self.output)
    }
}

impl<'a> Open<'a> {
    /// Opens a unit, or finds it open.
    fn get(&mut self, part: &'a Part, unit: &'a PackedUnit) -> Result<Arc<OpenUnit>, Error> {
        if let Some((_, open)) = self.0.iter().find(|(path, _)| *path == unit.path) {
            return Ok(Arc::clone(open));
        }
        while self.0.len() >= KEPT {
            self.0.pop_front();
        }
        let read = |place| {
            let (container, tensor) = part.weights.at(place);
            let file = Arc::new(container.map(tensor)?);
            let range = 0..file.len();
            Ok(Bytes { file, range })
        };
        let [a, b, c, d, e, f] = unit.places.map(read);
        let opened = OpenUnit::open([a?, b?, c?, d?, e?, f?]);
        let opened = opened.map_err(|error| Error::unit(unit.file(&part.weights), &unit.path, error))?;
        let opened = Arc::new(opened);
        self.0.push_back((&unit.path, Arc::clone(&opened)));
        Ok(opened)
    }
}
