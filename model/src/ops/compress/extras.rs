//! The files beside weights: configs, indices, companions and the record.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::json;

use super::layout::{self, Layout};
use super::scan::Scan;
use super::write::Written;
use super::{Job, NewConfig};
use crate::error::Error;
use crate::names::{CONFIG, MANIFEST, digest, folder_of, is_index, portable, relative};
use crate::packed::manifest::{Input, Kept, Manifest, OutputRecord};
use crate::staging::{Planned, Staging};

/// The files that are written beside weights.
pub(super) struct Extras {
    /// Companions, and whole weight files, that are copied: name, path, length, digest.
    copies: Vec<(PathBuf, PathBuf, u64, String)>,
    /// Configs and indices that are written: name and text.
    texts: BTreeMap<PathBuf, String>,
    pub(super) inputs: Vec<Input>,
}

impl Extras {
    pub(super) fn plan(
        job: &Job<'_>,
        layout: &Layout<'_>,
        scan: &Scan,
        configs: Vec<Option<NewConfig>>,
    ) -> Result<Self, Error> {
        let mut extras = Extras { copies: Vec::new(), texts: BTreeMap::new(), inputs: Vec::new() };
        extras.add_weights(job, layout, scan)?;
        let mut extended: BTreeMap<PathBuf, (usize, usize)> = BTreeMap::new();
        for (i, (lot, config)) in job.lots.iter().zip(configs).enumerate() {
            let has_units = layout.files.iter().any(|file| file.lot == i && !file.units.is_empty());
            if let Some((text, offset, length)) = config.filter(|_| has_units && !job.to_file) {
                let name = lot.folder.join(CONFIG);
                if lot.config.is_some() {
                    extended.insert(name.clone(), (offset, length));
                }
                extras.texts.insert(name, text);
            }
        }
        if !job.to_file {
            extras.add_indices(job, layout)?;
        }
        for (name, (bytes, sha256)) in job.source.others.iter().zip(&scan.others) {
            extras.add_other(job, layout, name, (*bytes, sha256.clone()), &extended)?;
        }
        for (left, (bytes, sha256)) in job.source.left_out.iter().zip(&scan.left_out) {
            let name = portable(&left.name).unwrap_or_else(|| left.name.to_string_lossy().into_owned());
            let kept = Kept::LeftOut { why: left.why.clone() };
            extras.inputs.push(Input { name, bytes: *bytes, sha256: sha256.clone(), kept });
        }
        extras.inputs.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(extras)
    }

    fn add_weights(&mut self, job: &Job<'_>, layout: &Layout<'_>, scan: &Scan) -> Result<(), Error> {
        let mut seen = BTreeSet::new();
        for (lot, &copied) in job.lots.iter().zip(&layout.copied) {
            for file in lot.files.iter().filter(|file| seen.insert(file.name.clone())) {
                let name = &file.name;
                let found = scan.file(name);
                let scan = found.ok_or_else(|| Error::file(&file.container.path, "was not read"))?;
                let (bytes, sha256) = (scan.bytes, scan.sha256.clone());
                let kept = if copied {
                    let path = file.container.path.clone();
                    self.copies.push((PathBuf::from(name), path, bytes, sha256.clone()));
                    Kept::Copied
                } else {
                    Kept::Tensors { header: file.container.header.clone() }
                };
                self.inputs.push(Input { name: name.clone(), bytes, sha256, kept });
            }
        }
        Ok(())
    }

    /// Adds an index for frames in several files, where these differ from the files of the
    /// original.
    fn add_indices(&mut self, job: &Job<'_>, layout: &Layout<'_>) -> Result<(), Error> {
        for i in 0..job.lots.len() {
            let files: Vec<_> = layout.files.iter().filter(|file| file.lot == i).collect();
            let has_units = files.iter().any(|file| !file.units.is_empty());
            if files.len() < 2 || has_units || keeps_names(job, layout, &job.lots[i].folder) {
                continue;
            }
            let (mut map, mut total) = (serde_json::Map::new(), 0);
            for file in files {
                let shard = file.name.file_name().unwrap_or_default().to_string_lossy().into_owned();
                total += file.source_bytes(&job.lots[i]);
                for name in file.frames.iter().chain(&file.plain) {
                    map.insert((*name).to_owned(), json!(shard));
                }
            }
            let index = json!({"metadata": {"total_size": total}, "weight_map": map});
            let text =
                serde_json::to_string_pretty(&index).map_err(|error| Error::Usage(error.to_string()))?;
            let name = job.folder_of_lot(i).join("model.safetensors.index.json");
            self.texts.insert(name, text + "\n");
        }
        Ok(())
    }

    fn add_other(
        &mut self,
        job: &Job<'_>,
        layout: &Layout<'_>,
        name: &Path,
        (bytes, sha256): (u64, String),
        extended: &BTreeMap<PathBuf, (usize, usize)>,
    ) -> Result<(), Error> {
        let path = job.source.root.join(name);
        let text = portable(name).filter(|text| relative(text).is_some());
        let text =
            text.ok_or_else(|| Error::file(&path, "has a name that cannot be recorded; rename it first"))?;
        let kept = if job.to_file {
            Kept::LeftOut { why: "the output is one file".to_owned() }
        } else if let Some(&(offset, length)) = extended.get(name) {
            Kept::Extended { offset, length }
        } else if is_index(name) && !keeps_names(job, layout, &folder_of(name))
            || self.texts.contains_key(name)
        {
            Kept::Text { text: crate::checkpoint::read_text(&path)? }
        } else {
            self.copies.push((name.to_owned(), path, bytes, sha256.clone()));
            Kept::Copied
        };
        self.inputs.push(Input { name: text, bytes, sha256, kept });
        Ok(())
    }

    /// Lists every file that is to be written.
    pub(super) fn planned(&self, job: &Job<'_>, layout: &Layout<'_>, _scan: &Scan) -> Vec<Planned> {
        let mut planned: Vec<Planned> =
            layout.files.iter().map(|file| Planned { name: file.name.clone(), content: None }).collect();
        for (name, _, bytes, sha256) in &self.copies {
            planned.push(Planned { name: name.clone(), content: Some((*bytes, sha256.clone())) });
        }
        for (name, text) in &self.texts {
            let content = Some((text.len() as u64, digest(text.as_bytes())));
            planned.push(Planned { name: name.clone(), content });
        }
        if !job.to_file {
            planned.push(Planned { name: PathBuf::from(MANIFEST), content: None });
        }
        planned
    }

    /// Stages all files that are not written yet.
    pub(super) fn write(
        &self,
        job: &Job<'_>,
        _scan: &Scan,
        written: &[Written],
        staging: &Staging,
    ) -> Result<(), Error> {
        if job.to_file {
            return Ok(());
        }
        for (name, path, _, sha256) in &self.copies {
            if !staging.has(name) && staging.copy(path, name)? != *sha256 {
                return Err(Error::file(path, "changed while it was copied; run it again"));
            }
        }
        for (name, text) in self.texts.iter().filter(|(name, _)| !staging.has(name)) {
            staging.write(name, text.as_bytes())?;
        }
        let text = self.manifest(job, written)?;
        let name = Path::new(MANIFEST);
        if fs::read(staging.path_of(name)).is_ok_and(|found| found == text.as_bytes()) {
            staging.keep(name, staging.path_of(name));
            return Ok(());
        }
        staging.write(name, text.as_bytes())
    }

    /// Returns the files that are copied: name, path, length, digest.
    pub(super) fn copies(&self) -> &[(PathBuf, PathBuf, u64, String)] {
        &self.copies
    }

    /// Returns the configs and indices that are written.
    pub(super) fn texts(&self) -> &BTreeMap<PathBuf, String> {
        &self.texts
    }

    /// Makes the text of the record.
    pub(super) fn manifest(&self, job: &Job<'_>, written: &[Written]) -> Result<String, Error> {
        let mut outputs: Vec<OutputRecord> = written.iter().map(|file| file.record.clone()).collect();
        let record = |name: &Path, bytes: u64, sha256: &str| OutputRecord {
            name: portable(name).unwrap_or_default(),
            bytes,
            sha256: sha256.to_owned(),
            weights: false,
        };
        for (name, _, bytes, sha256) in &self.copies {
            outputs.push(record(name, *bytes, sha256));
        }
        for (name, text) in &self.texts {
            outputs.push(record(name, text.len() as u64, &digest(text.as_bytes())));
        }
        outputs.sort_by(|a, b| a.name.cmp(&b.name));
        let manifest = Manifest::new(self.inputs.clone(), outputs);
        manifest.seal().map_err(|problem| Error::file(&job.output.join(MANIFEST), problem))
    }
}

/// Tells whether the weight files of a folder keep their names, so that an index stays true.
fn keeps_names(job: &Job<'_>, layout: &Layout<'_>, folder: &Path) -> bool {
    let of_folder = |i: &usize| job.lots[*i].folder == folder;
    let mut lots = (0..job.lots.len()).filter(of_folder);
    lots.all(|i| {
        let same = |file: &layout::FilePlan<'_>| {
            let named =
                |source: &std::sync::Arc<crate::checkpoint::WeightFile>| file.name == Path::new(&source.name);
            let mut files = job.lots[i].files.iter();
            file.units.is_empty() && files.any(named)
        };
        layout.copied[i] || layout.files.iter().filter(|file| file.lot == i).all(same)
    })
}
