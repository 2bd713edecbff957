//! The one place through which output becomes visible.
//!
//! Every file is written under a temporary name (`.df11-partial-…`), checked, synced, and then set
//! aside under a name derived from its final one (`.df11-staged-…`). Once all files of a run exist,
//! [`Staging::publish`] makes them visible. It first removes what would let a directory look
//! finished (config, index), then files that an earlier run wrote and this one does not. Then it
//! reveals the new record and the new files, config and index last. A run that fails before that
//! has changed nothing visible. If a run is killed, the next run finishes it.
//!
//! A marker file, locked while a run lasts, records which job owns a directory. Nothing is ever
//! replaced except files that a manifest in the directory records as written by this program, and
//! the file that was named as the output.

mod conflicts;
mod marker;
mod partial;
mod publish;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fs::{self, File, TryLockError};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use sha2::{Digest, Sha256};

use self::marker::{PUBLISHING, REPLACING, lock_marker, read_marker};
use crate::container::{CHUNK, Container};
use crate::error::{Error, io};
use crate::names::{MANIFEST, OURS, WEIGHTS, digest, file_name};
use crate::packed::manifest::{Manifest, OutputRecord};
use crate::store::{self, Object};

pub(crate) use partial::{Closed, InMemory, OpenAgain, Partial, Place};
pub(crate) use publish::sync;

/// The prefix of the names of unfinished files. The names do not end in `.safetensors`, so no
/// loader takes them for weights.
const PARTIAL: &str = ".df11-partial-";

/// The prefix of the names of finished files that are not visible yet.
const STAGED: &str = ".df11-staged-";

/// The output of one run.
#[derive(Debug)]
pub(crate) struct Staging {
    /// The output directory, or the directory of the output file.
    root: PathBuf,
    /// The name of the output, if it is one file.
    file: Option<PathBuf>,
    /// The marker, open and locked while the run lasts, and whether the run created the directory.
    marker: Option<(File, bool)>,
    job: String,
    /// Whether an earlier, unfinished run of the same job left files.
    resumed: bool,
    /// Whether that run had begun to make files visible.
    publishing: bool,
    /// Whether this run has begun to make files visible.
    revealing: bool,
    /// Whether the directory is not empty and must not be written to. The run then succeeds only if
    /// an earlier one did all of its work.
    done: bool,
    /// The files that the existing manifest records as written.
    old: Vec<OutputRecord>,
    staged: Mutex<BTreeMap<PathBuf, Staged>>,
}

/// A file that is ready.
#[derive(Debug)]
enum Staged {
    /// Set aside under its temporary name.
    Aside(PathBuf),
    /// Visible already, with the right content.
    Visible,
}

/// A file that is to become visible.
#[derive(Clone, Debug)]
pub(crate) struct Planned {
    pub(crate) name: PathBuf,
    /// Its length and SHA-256, if they are known.
    pub(crate) content: Option<(u64, String)>,
}

impl Staging {
    /// Begins a run that fills a directory from `inputs`.
    ///
    /// `job` names the operation. Only a run of the same job continues an unfinished one.
    pub(crate) fn directory(path: &Path, job: &str, inputs: &[PathBuf], force: bool) -> Result<Self, Error> {
        if path.exists() && !path.is_dir() {
            let problem = format!("{} is a file; name a directory as the output", path.display());
            return Err(Error::Usage(problem));
        }
        let made = !path.exists();
        fs::create_dir_all(path).map_err(io("cannot create the directory", path))?;
        let path = &fs::canonicalize(path).map_err(io("cannot open", path))?;
        refuse_inputs(path, inputs)?;

        let unfinished = read_marker(path)?;
        let publishing = unfinished.ends_with(PUBLISHING);
        let resumed = unfinished.trim_end_matches(PUBLISHING).trim_end_matches(REPLACING) == job;
        let old = old_outputs(path)?;
        let mut entries = fs::read_dir(path).map_err(io("cannot list", path))?.flatten();
        let occupied = entries.any(|entry| !file_name(&entry.path()).starts_with(OURS));
        let others = !unfinished.is_empty() && !resumed;
        if others && !force {
            return Err(refuse(path, "holds another unfinished job"));
        }
        let marker = lock_marker(path)?;
        let staging = Staging {
            root: path.clone(),
            file: None,
            marker: Some((marker, made)),
            job: job.to_owned(),
            resumed,
            publishing: publishing && resumed,
            revealing: false,
            done: occupied && !resumed && !force,
            old,
            staged: Mutex::default(),
        };
        // A marker with the right text is left alone: if a run that takes over were killed, the
        // marker must not be empty.
        if !resumed {
            staging.mark(job)?;
        }
        staging
            .remove_leftovers(|name| name.starts_with(PARTIAL) || (!resumed && name.starts_with(STAGED)))?;
        Ok(staging)
    }

    /// Begins a run that writes one file.
    pub(crate) fn file(path: &Path, input: &Path, inputs: &[PathBuf], force: bool) -> Result<Self, Error> {
        if path.is_dir() {
            return Err(Error::Usage(format!("{} is a directory, not a file", path.display())));
        }
        if fs::symlink_metadata(path).is_ok() && !force {
            return Err(Error::OutputExists { path: path.to_owned() });
        }
        let parent = parent(path);
        fs::create_dir_all(parent).map_err(io("cannot create the directory", parent))?;
        if input.is_dir() && same_file(input, parent) {
            let problem = "would become part of the model it comes from; choose another place";
            return Err(Error::Usage(format!("{} {problem}", path.display())));
        }
        if inputs.iter().any(|input| same_file(input, path)) {
            return Err(Error::Usage(format!("{} is the input; choose another output", path.display())));
        }
        let staging = Staging {
            root: parent.to_owned(),
            file: Some(PathBuf::from(path.file_name().unwrap_or_default())),
            marker: None,
            job: String::new(),
            resumed: false,
            publishing: false,
            revealing: false,
            done: false,
            old: Vec::new(),
            staged: Mutex::default(),
        };
        // Remove what killed runs to this file left. Their names tell which file they were for, and
        // no lock on them tells that their run still lasts.
        let prefix = staging.prefix();
        staging.remove_leftovers(|name| name.starts_with(&prefix))?;
        Ok(staging)
    }

    /// Fails if a run would have to write to a directory where it may not.
    pub(crate) fn expect_done(&self, is_done: bool) -> Result<(), Error> {
        if self.done && !is_done { Err(refuse(&self.root, "is not empty")) } else { Ok(()) }
    }

    /// Returns the files that the manifest in the directory records as written.
    pub(crate) fn old(&self) -> &[OutputRecord] {
        &self.old
    }

    /// Returns the prefix of this run's unfinished files.
    fn prefix(&self) -> String {
        match &self.file {
            Some(name) => format!("{PARTIAL}{}-", key(name)),
            None => PARTIAL.to_owned(),
        }
    }

    /// Returns the path of the file with this name.
    pub(crate) fn path_of(&self, name: &Path) -> PathBuf {
        self.root.join(self.file.as_deref().unwrap_or(name))
    }

    /// Removes hidden files of killed runs.
    fn remove_leftovers(&self, is_leftover: impl Fn(&str) -> bool) -> Result<(), Error> {
        for entry in fs::read_dir(&self.root).map_err(io("cannot list", &self.root))?.flatten() {
            let path = entry.path();
            if !is_leftover(&file_name(&path)) {
                continue;
            }
            let in_use = File::open(&path).is_ok_and(|file| {
                self.marker.is_none() && matches!(file.try_lock(), Err(TryLockError::WouldBlock))
            });
            if !in_use {
                fs::remove_file(&path).map_err(io("cannot remove", &path))?;
            }
        }
        Ok(())
    }

    /// Creates a temporary file in the output's own directory, where a later run finds and removes
    /// it.
    pub(crate) fn create(&self, name: &Path) -> Result<Partial, Error> {
        self.expect_done(false)?;
        let prefix = self.prefix();
        let mut builder = tempfile::Builder::new();
        builder.prefix(&prefix);
        #[cfg(unix)]
        {
            // Use the mode of an ordinary new file, reduced by the user's umask. A temporary file
            // would be private.
            use std::os::unix::fs::PermissionsExt;
            builder.permissions(fs::Permissions::from_mode(0o666));
        }
        let target = self.path_of(name);
        let file = builder.tempfile_in(&self.root).map_err(io("cannot create", &target))?;
        if self.file.is_some() {
            // Some network file systems have no locks. The only choice there is to continue without
            // one.
            let _ = file.as_file().try_lock();
        }
        Ok(Partial { file, target })
    }

    /// Returns the path of a file that is ready but not visible.
    fn aside(&self, name: &Path) -> PathBuf {
        self.root.join(format!("{STAGED}{}", key(name)))
    }

    /// Sets a finished file aside: syncs it and keeps it for [`publish`](Self::publish).
    pub(crate) fn stage(&self, partial: Partial, name: &Path) -> Result<(), Error> {
        let cannot = "cannot write";
        partial.file.as_file().sync_all().map_err(io(cannot, &partial.target))?;
        if self.file.is_some() {
            let kept = partial.file.into_temp_path().keep();
            let path = kept.map_err(|error| io(cannot, &partial.target)(error.error))?;
            self.note(name, Staged::Aside(path));
            return Ok(());
        }
        let aside = self.aside(name);
        partial.file.persist(&aside).map_err(|error| io(cannot, &partial.target)(error.error))?;
        self.note(name, Staged::Aside(aside));
        Ok(())
    }

    /// Sets a file aside as [`stage`](Self::stage) does, from a file that is not open.
    pub(crate) fn stage_path(&self, closed: &Closed, name: &Path) -> Result<(), Error> {
        let (cannot, target) = ("cannot write", &closed.target);
        let file = File::options().write(true).open(&closed.path).map_err(io(cannot, target))?;
        file.sync_all().map_err(io(cannot, target))?;
        let aside = match &self.file {
            // The name says already which file it is for.
            Some(_) => closed.path.to_path_buf(),
            None => self.aside(name),
        };
        fs::rename(&closed.path, &aside).map_err(io(cannot, target))?;
        self.note(name, Staged::Aside(aside));
        Ok(())
    }

    /// Tells whether a file of this name is ready, or visible already with the right content.
    pub(crate) fn has(&self, name: &Path) -> bool {
        let all = self.staged.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        all.contains_key(name)
    }

    fn note(&self, name: &Path, staged: Staged) {
        let mut all = self.staged.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        all.insert(name.to_owned(), staged);
    }

    /// Stages a small file.
    pub(crate) fn write(&self, name: &Path, bytes: &[u8]) -> Result<(), Error> {
        let mut partial = self.create(name)?;
        partial.file.write_all(bytes).map_err(io("cannot write", &partial.target))?;
        self.stage(partial, name)
    }

    /// Stages a copy of a file, and returns its SHA-256.
    pub(crate) fn copy(&self, from: &Path, name: &Path) -> Result<String, Error> {
        if store::is_remote(from) {
            return self.download(from, name);
        }
        let mut source = File::open(from).map_err(io("cannot open", from))?;
        let mut partial = self.create(name)?;
        let mut sha256 = Sha256::new();
        let mut buffer = vec![0; 1 << 18];
        loop {
            let n = source.read(&mut buffer).map_err(io("cannot copy", from))?;
            if n == 0 {
                break;
            }
            sha256.update(&buffer[..n]);
            partial.file.write_all(&buffer[..n]).map_err(io("cannot write", &partial.target))?;
        }
        #[cfg(unix)]
        {
            // An executable file stays executable.
            use std::os::unix::fs::PermissionsExt;
            let mode = |file: &File| file.metadata().map(|info| info.permissions().mode());
            if let (Ok(from), Ok(to)) = (mode(&source), mode(partial.file()))
                && from & 0o111 != 0
            {
                let executable = fs::Permissions::from_mode(to | (to & 0o444) >> 2);
                let _ = partial.file().set_permissions(executable);
            }
        }
        self.stage(partial, name)?;
        Ok(hex::encode(sha256.finalize()))
    }

    /// Stages a copy of an object, and returns its SHA-256.
    fn download(&self, from: &Path, name: &Path) -> Result<String, Error> {
        let (object, mut sha256) = (Object::new(from)?, Sha256::new());
        let mut partial = self.create(name)?;
        object.read_chunks(0..object.expect_len()?, CHUNK, |chunk| {
            sha256.update(chunk);
            partial.file.write_all(chunk).map_err(io("cannot write", &partial.target))
        })?;
        self.stage(partial, name)?;
        Ok(hex::encode(sha256.finalize()))
    }

    /// Returns a file of this name that an earlier run of the same job had finished. The caller
    /// must check it.
    pub(crate) fn candidate(&self, name: &Path) -> Option<PathBuf> {
        if !self.resumed && !self.done {
            return None;
        }
        let visible = (self.publishing || self.done).then(|| self.path_of(name));
        [Some(self.aside(name)), visible].into_iter().flatten().find(|path| path.is_file())
    }

    /// Keeps a [candidate](Self::candidate).
    pub(crate) fn keep(&self, name: &Path, from: PathBuf) {
        let visible = from == self.path_of(name);
        self.note(name, if visible { Staged::Visible } else { Staged::Aside(from) });
    }
}

fn refuse(path: &Path, what: &str) -> Error {
    Error::OutputOccupied { path: path.to_owned(), problem: what.to_owned() }
}

/// Derives the part of a temporary name that depends on the name of the file.
fn key(name: &Path) -> String {
    let mut key = digest(name.to_string_lossy().as_bytes());
    key.truncate(16);
    key
}

/// Computes the SHA-256 of a file or, for a weight file, of the bytes before its data.
fn content(path: &Path, weights: bool) -> Result<String, Error> {
    if weights {
        return Ok(digest(&Container::open(path)?.head()));
    }
    file_digest(path)
}

/// Computes the SHA-256 of a file.
pub(crate) fn file_digest(path: &Path) -> Result<String, Error> {
    if store::is_remote(path) {
        let (object, mut sha256) = (Object::new(path)?, Sha256::new());
        object.read_chunks(0..object.expect_len()?, CHUNK, |chunk| {
            sha256.update(chunk);
            Ok(())
        })?;
        return Ok(hex::encode(sha256.finalize()));
    }
    let mut file = File::open(path).map_err(io("cannot open", path))?;
    let (mut sha256, mut buffer) = (Sha256::new(), vec![0; 1 << 18]);
    loop {
        match file.read(&mut buffer).map_err(io("cannot read", path))? {
            0 => return Ok(hex::encode(sha256.finalize())),
            n => sha256.update(&buffer[..n]),
        }
    }
}

/// Reads the files that the manifest of a directory records as written, if it has a valid one.
fn old_outputs(path: &Path) -> Result<Vec<OutputRecord>, Error> {
    let manifest = path.join(MANIFEST);
    if !manifest.is_file() {
        return Ok(Vec::new());
    }
    let text = crate::checkpoint::read_text(&manifest)?;
    // Without a valid record, no file there may be replaced.
    Ok(Manifest::unseal(&text).map(|manifest| manifest.outputs).unwrap_or_default())
}

fn parent(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

fn same_file(a: &Path, b: &Path) -> bool {
    matches!((fs::canonicalize(a), fs::canonicalize(b)), (Ok(a), Ok(b)) if a == b)
}

/// Refuses an output directory that is the input directory.
fn refuse_inputs(directory: &Path, inputs: &[PathBuf]) -> Result<(), Error> {
    // A link counts both as itself and as its target.
    let holds = |input: &&PathBuf| {
        let target = fs::canonicalize(input).unwrap_or_else(|_| (*input).clone());
        same_file(parent(input), directory) || same_file(parent(&target), directory)
    };
    match inputs.iter().find(holds) {
        None => Ok(()),
        Some(input) => Err(Error::Usage(format!(
            "{} holds the input {}; choose another output directory",
            directory.display(),
            input.display()
        ))),
    }
}

/// Tells whether an output path names a weight file rather than a directory.
pub(crate) fn names_a_file(path: &Path) -> bool {
    path.extension().is_some_and(|extension| format!(".{}", extension.display()) == WEIGHTS) && !path.is_dir()
}
