//! The end of a plan: puts together what its tasks left, and makes it visible.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::{Path, PathBuf};

use rayon::prelude::*;

use super::super::extras::Extras;
use super::super::layout::FilePlan;
use super::super::report::Report;
use super::super::scan::Scan;
use super::super::write::Written;
use super::super::{Job, choose, new_configs};
use super::plan::{Plan, TASKS, default_path, record_name};
use super::task::{Digested, Record, Wrote, key, read_record, specs, write};
use crate::error::Error;
use crate::names::{MANIFEST, digest, file_name, relative};
use crate::ops::report::CompressReport;
use crate::packed::file_bytes;
use crate::packed::manifest::{Manifest, OutputRecord};
use crate::staging::file_digest;
use crate::store;

/// The file that says that files are becoming visible.
const PUBLISHING: &str = "publishing";

/// The longest text that a folder of this program holds beside weights, in bytes.
const TEXT: u64 = 1 << 30;

/// What the tasks of a plan left.
struct Left {
    digests: Vec<Digested>,
    /// Weight files of the output, by the key of what they were planned to hold.
    wrote: HashMap<String, Wrote>,
}

/// Makes the output visible, if all tasks are done.
pub(super) fn finish(plan: &Plan, job: &Job<'_>) -> Result<CompressReport, Error> {
    let left = Left::read(plan)?;
    let mut scan = left.scan(job)?;
    left.compare(job)?;
    scan_others(job, &mut scan)?;
    let configs = new_configs(&plan.lots, &plan.units)?;
    let (layout, codec) = choose(job, &plan.units, &scan)?;
    let report = Report { job, units: &plan.units, scan: &scan, layout: &layout, codec };
    if !layout.has_gain() {
        clean(plan)?;
        return Ok(report.without_gain());
    }
    let extras = Extras::plan(job, &layout, &scan, configs)?;
    let output = Output::open(plan)?;
    let planned: BTreeSet<PathBuf> =
        extras.planned(job, &layout, &scan).into_iter().map(|planned| planned.name).collect();
    output.clear_the_way(&planned)?;
    let mut wrote = Vec::with_capacity(layout.files.len());
    for file in &layout.files {
        wrote.push(left.file(plan, job, file)?);
    }
    let written: Option<Vec<Written>> = wrote.iter().map(|wrote| wrote.written()).collect();
    let written = written.ok_or_else(|| {
        Error::file(&plan.path, "a unit was refused by its task, but not by the whole; did the input change?")
    })?;
    let manifest = extras.manifest(job, &written)?;
    let report = report.of(written);
    output.publish(&wrote, &extras, &manifest, &planned)?;
    clean(plan)?;
    Ok(report)
}

/// Removes what tasks left, and the plan if it is where this program put it.
pub(super) fn clean(plan: &Plan) -> Result<(), Error> {
    // Plans of other input that were never finished go with it.
    let folder = plan.paper.output.join(TASKS);
    store::list(&folder)?
        .par_iter()
        .with_max_len(1)
        .try_for_each(|(name, _)| store::remove(&folder.join(name)))?;
    if plan.path == default_path(&plan.paper.output) {
        store::remove(&plan.path)?;
    }
    if !store::is_remote(&folder) {
        // Each succeeds only if the folder is empty.
        let _ = std::fs::remove_dir(plan.left(""));
        let _ = std::fs::remove_dir(folder);
    }
    Ok(())
}

/// Returns the numbers of the tasks that are not done.
pub(super) fn missing(plan: &Plan) -> Result<Vec<usize>, Error> {
    let there: BTreeSet<PathBuf> = store::list(&plan.left(""))?.into_iter().map(|(name, _)| name).collect();
    let is_missing = |task: &usize| !there.contains(Path::new(&record_name(*task)));
    Ok((0..plan.paper.tasks.len()).filter(is_missing).collect())
}

/// Writes numbers as people do: 1, 3-5.
fn ranges(numbers: &[usize]) -> String {
    let mut all: Vec<(usize, usize)> = Vec::new();
    for &number in numbers {
        match all.last_mut().filter(|last| last.1 + 1 == number) {
            Some(last) => last.1 = number,
            None => all.push((number, number)),
        }
    }
    let shown = |&(first, last): &(usize, usize)| {
        if first == last { first.to_string() } else { format!("{first}-{last}") }
    };
    let more = if all.len() > 20 { format!(" and {} more", all.len() - 20) } else { String::new() };
    all.iter().take(20).map(shown).collect::<Vec<_>>().join(", ") + &more
}

impl Left {
    fn read(plan: &Plan) -> Result<Self, Error> {
        let missing = missing(plan)?;
        if !missing.is_empty() {
            let (number, all) = (missing.len(), plan.paper.tasks.len());
            let problem = format!(
                "{number} of its {all} tasks are not done: {}; run them (`df11 run {} --task K`), then finish again",
                ranges(&missing),
                plan.path.display()
            );
            return Err(Error::file(&plan.path, problem));
        }
        let numbers: Vec<usize> = (0..plan.paper.tasks.len()).collect();
        let records = numbers.par_iter().map(|&task| {
            let path = plan.record(task);
            read_record(&path)?.ok_or_else(|| Error::file(&path, "vanished; run the task again"))
        });
        let mut left = Left { digests: Vec::new(), wrote: HashMap::new() };
        for record in records.collect::<Result<Vec<_>, Error>>()? {
            match record {
                Record::Digest(digested) => left.digests.push(digested),
                Record::Write(wrote) => {
                    left.wrote.insert(wrote.key.clone(), wrote);
                }
            }
        }
        Ok(left)
    }

    /// Puts the digests of all weight files together.
    fn scan(&self, job: &Job<'_>) -> Result<Scan, Error> {
        let mut files = HashMap::new();
        for file in job.lots.iter().flat_map(|lot| &lot.files) {
            let found = self.digests.iter().find(|digested| digested.file == file.name);
            let scan = found.and_then(|digested| digested.scan(&file.container));
            let problem = "its digests are missing or belong to another file; plan again";
            let scan = scan.ok_or_else(|| Error::file(&file.container.path, problem))?;
            files.insert(file.name.clone(), scan);
        }
        Ok(Scan::of_files(files))
    }

    /// Compares what was read to be digested with what was read to be encoded.
    fn compare(&self, job: &Job<'_>) -> Result<(), Error> {
        let mut known: HashMap<(&str, &str), &str> = HashMap::new();
        for lot in job.lots {
            for file in &lot.files {
                let Some(digested) = self.digests.iter().find(|d| d.file == file.name) else { continue };
                let names = file.container.tensors.iter().map(|tensor| tensor.name.as_str());
                known.extend(names.zip(digested.digests()).map(|(n, sha)| ((file.name.as_str(), n), sha)));
            }
        }
        let all: BTreeMap<&str, BTreeSet<&str>> =
            known.iter().fold(BTreeMap::new(), |mut all, (&(_, name), &sha256)| {
                all.entry(name).or_insert_with(BTreeSet::new).insert(sha256);
                all
            });
        for (name, sha256) in self.wrote.values().flat_map(|wrote| &wrote.tensors) {
            if !all.get(name.as_str()).is_some_and(|known| known.contains(sha256.as_str())) {
                let problem = "was not the same for two tasks: the input changed; plan and run it again";
                return Err(Error::tensor(&job.source.path, name, problem));
            }
        }
        Ok(())
    }

    /// Finds the file that a task wrote, or writes it now: only the whole model tells what becomes
    /// of the tensors of a unit that must stay plain.
    fn file(&self, plan: &Plan, job: &Job<'_>, file: &FilePlan<'_>) -> Result<Wrote, Error> {
        let specs = specs(file, &plan.units);
        if let Some(wrote) = self.wrote.get(&key(specs.iter().copied(), file)) {
            let copied = serde_json::to_value(wrote).and_then(serde_json::from_value);
            return copied.map_err(|error| Error::Usage(error.to_string()));
        }
        let mut plain = file.plain.clone();
        plain.extend(&file.frames);
        plain.sort_by_key(|name| job.lots[file.lot].tensors.get(*name).copied());
        let (name, lot, metadata) = (file.name.clone(), file.lot, file.metadata.clone());
        write(plan, job, &FilePlan { name, lot, units: specs, frames: Vec::new(), plain, metadata })
    }
}

/// Takes the digests of the files beside weights.
fn scan_others(job: &Job<'_>, scan: &mut Scan) -> Result<(), Error> {
    let read = |name: &Path| {
        let path = job.source.root.join(name);
        Ok((file_bytes(&path)?, file_digest(&path)?))
    };
    scan.others = job.source.others.par_iter().map(|name| read(name)).collect::<Result<_, Error>>()?;
    let left_out = job.source.left_out.par_iter().map(|left| {
        // An unreadable file is no reason to fail here, because it is left out.
        if left.is_file { read(&left.name).unwrap_or_default() } else { Default::default() }
    });
    scan.left_out = left_out.collect();
    Ok(())
}

/// The folder that is written.
struct Output<'a> {
    plan: &'a Plan,
    root: &'a Path,
    there: BTreeMap<PathBuf, u64>,
    /// The files that the manifest in the folder records as written.
    old: Vec<OutputRecord>,
    /// Whether a run of this plan had begun to make files visible.
    publishing: bool,
}

impl<'a> Output<'a> {
    fn open(plan: &'a Plan) -> Result<Self, Error> {
        let root = plan.paper.output.as_path();
        let there = store::visible(root)?;
        let publishing = store::len(&plan.left(PUBLISHING))?.is_some();
        let mut old = Vec::new();
        if there.contains_key(Path::new(MANIFEST)) {
            let text = crate::checkpoint::read_text(&root.join(MANIFEST))?;
            old = Manifest::unseal(&text).map(|manifest| manifest.outputs).unwrap_or_default();
        }
        Ok(Output { plan, root, there, old, publishing })
    }

    /// Tells whether this program wrote a file that is there.
    fn is_ours(&self, name: &Path, len: u64) -> bool {
        let is_record = name == Path::new(MANIFEST) && !self.old.is_empty();
        is_record || self.old.iter().any(|old| Path::new(&old.name) == name && old.bytes == len)
    }

    /// Fails if a file in the way was not written by this program.
    fn clear_the_way(&self, planned: &BTreeSet<PathBuf>) -> Result<(), Error> {
        if self.publishing {
            return Ok(());
        }
        if !self.there.is_empty() && !self.plan.options.force {
            let problem = "is not empty".to_owned();
            return Err(Error::OutputOccupied { path: self.root.to_owned(), problem });
        }
        let strangers = self.there.iter().filter(|(name, len)| {
            let is_read = planned.contains(*name) || file_name(name).ends_with(crate::names::WEIGHTS);
            is_read && !self.is_ours(name, **len)
        });
        match strangers.map(|(name, _)| name).next() {
            None => Ok(()),
            Some(name) => Err(Error::Usage(format!(
                "{} is in the way, and df11 did not write it there; move it, or choose another place (nothing was \
                 changed)",
                self.root.join(name).display()
            ))),
        }
    }

    /// Makes the files visible: the record and the weights, then what loaders look for.
    fn publish(
        &self,
        wrote: &[Wrote],
        extras: &Extras,
        manifest: &str,
        planned: &BTreeSet<PathBuf>,
    ) -> Result<(), Error> {
        store::write(&self.plan.left(PUBLISHING), Vec::new())?;
        for name in self.there.keys().filter(|name| Manifest::is_last(name) && !self.publishing) {
            store::remove(&self.root.join(name))?;
        }
        for (name, len) in &self.there {
            let is_stale = !planned.contains(name) && !Manifest::is_last(name);
            if is_stale && self.is_ours(name, *len) && !self.publishing {
                store::remove(&self.root.join(name))?;
            }
        }
        store::write(&self.root.join(MANIFEST), manifest.as_bytes().to_vec())?;
        wrote.par_iter().with_max_len(1).try_for_each(|wrote| self.reveal(wrote))?;
        for (name, path, bytes, sha256) in extras.copies() {
            self.copy(name, path, *bytes, sha256)?;
        }
        let mut texts: Vec<(&PathBuf, &String)> = extras.texts().iter().collect();
        texts.sort_by_key(|(name, _)| (Manifest::is_last(name), Manifest::last_order(name)));
        for (name, text) in texts {
            store::write(&self.root.join(name), text.clone().into_bytes())?;
        }
        store::sync(self.root)
    }

    /// Gives a weight file its name.
    fn reveal(&self, wrote: &Wrote) -> Result<(), Error> {
        let Some(output) = &wrote.output else { return Ok(()) };
        let name = relative(&output.name).ok_or_else(|| {
            Error::file(&self.plan.path, format!("names a file outside: {:?}", output.name))
        })?;
        let (from, to) = (self.plan.left(&wrote.content), self.root.join(name));
        // Another run of this plan may end it at the same time, and give the file its name first.
        let is_there = || Ok::<_, Error>(store::len(&to)? == Some(output.bytes));
        match store::len(&from)? {
            Some(len) if len == output.bytes => match store::rename(&from, &to, len) {
                Err(_) if store::len(&from)?.is_none() && is_there()? => Ok(()),
                renamed => renamed,
            },
            None if is_there()? => Ok(()),
            _ => Err(Error::file(&from, "is gone or changed; run the tasks of the plan again")),
        }
    }

    /// Copies a companion, or a weight file of a folder where nothing would be gained.
    fn copy(&self, name: &Path, from: &Path, bytes: u64, sha256: &str) -> Result<(), Error> {
        use sha2::{Digest, Sha256};
        let to = self.root.join(name);
        let changed = || Error::file(from, "changed while it was copied; run it again");
        if bytes <= TEXT.min(store::REQUEST) {
            let content = store::read(from, store::REQUEST)?;
            if digest(&content) != *sha256 {
                return Err(changed());
            }
            return store::write(&to, content);
        }
        let (mut found, mut writer) = (Sha256::new(), store::Writer::new(&to, bytes)?);
        store::read_chunks(from, |chunk| {
            found.update(chunk);
            writer.write(chunk)
        })?;
        if hex::encode(found.finalize()) != *sha256 {
            return Err(changed());
        }
        writer.finish()
    }
}
