//! The one place through which output becomes visible.
//!
//! Every file is written under a temporary name (`.df11-partial-…`), checked, synced, and then set
//! aside under a name that its own decides (`.df11-staged-…`). Only when all files of a run are
//! there does [`Staging::publish`] make them visible: first what would let a directory look
//! finished is taken away (configuration, index), then files that an earlier run wrote and this one
//! does not, then the new record and the new files come, configuration and index last. A run that
//! fails before that has changed nothing that could be seen; one that is killed is finished by the
//! next.
//!
//! A marker file, locked while a run lasts, says whose a directory is. Nothing is ever replaced but
//! what a manifest in the directory says this program wrote, or what was named as the output.

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
use crate::container::Container;
use crate::error::{Error, io};
use crate::names::{MANIFEST, OURS, WEIGHTS, digest, file_name};
use crate::packed::manifest::{Manifest, OutputRecord};

pub(crate) use partial::{Closed, OpenAgain, Partial};

/// How the names of unfinished files begin. They do not end in `.safetensors`, so no loader takes
/// them for weights.
const PARTIAL: &str = ".df11-partial-";

/// How the names of finished files begin that are not visible yet.
const STAGED: &str = ".df11-staged-";

/// Where a run writes.
#[derive(Debug)]
pub(crate) struct Staging {
    /// The output directory, or the one that the output file is in.
    root: PathBuf,
    /// The name of the output, if it is one file.
    file: Option<PathBuf>,
    /// Open and locked while the run lasts, and whether the run made the directory.
    marker: Option<(File, bool)>,
    job: String,
    /// Whether an earlier, unfinished run of the same job left something.
    resumed: bool,
    /// Whether files of it had begun to become visible.
    publishing: bool,
    /// Whether files of this run began to become visible.
    revealing: bool,
    /// Whether the directory is not empty, and nothing may be written to it: the run is right only
    /// if an earlier one did all of it.
    done: bool,
    /// What the manifest that is there says that was written.
    old: Vec<OutputRecord>,
    staged: Mutex<BTreeMap<PathBuf, Staged>>,
}

/// A file that is ready.
#[derive(Debug)]
enum Staged {
    /// Under its temporary name.
    Aside(PathBuf),
    /// Visible already, as it should be.
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
    /// `job` names what is done; only a run of the same job goes on where an unfinished one
    /// stopped.
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
        // Left alone where it says this already: a run that takes over must not be cut off with the
        // marker empty.
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
        // What killed runs to this file left: their names say which file they were for, and no lock
        // on them says that they still run.
        let prefix = staging.prefix();
        staging.remove_leftovers(|name| name.starts_with(&prefix))?;
        Ok(staging)
    }

    /// Ends a run that would have to write to a directory in which it may not.
    pub(crate) fn expect_done(&self, is_done: bool) -> Result<(), Error> {
        if self.done && !is_done { Err(refuse(&self.root, "is not empty")) } else { Ok(()) }
    }

    /// What the manifest in the directory says that was written.
    pub(crate) fn old(&self) -> &[OutputRecord] {
        &self.old
    }

    /// How the names of unfinished files of this run begin.
    fn prefix(&self) -> String {
        match &self.file {
            Some(name) => format!("{PARTIAL}{}-", key(name)),
            None => PARTIAL.to_owned(),
        }
    }

    /// Where the file of this name goes.
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

    /// A temporary file in the output's own directory, where a later run finds and removes it.
    pub(crate) fn create(&self, name: &Path) -> Result<Partial, Error> {
        self.expect_done(false)?;
        let prefix = self.prefix();
        let mut builder = tempfile::Builder::new();
        builder.prefix(&prefix);
        #[cfg(unix)]
        {
            // As any program's new file, less what the user's mask takes away; temporary files
            // would be private.
            use std::os::unix::fs::PermissionsExt;
            builder.permissions(fs::Permissions::from_mode(0o666));
        }
        let target = self.path_of(name);
        let file = builder.tempfile_in(&self.root).map_err(io("cannot create", &target))?;
        if self.file.is_some() {
            // Some network file systems have no locks; going on without one is what they leave.
            let _ = file.as_file().try_lock();
        }
        Ok(Partial { file, target })
    }

    /// Where a file stands that is ready but not visible.
    fn aside(&self, name: &Path) -> PathBuf {
        self.root.join(format!("{STAGED}{}", key(name)))
    }

    /// Sets a finished file aside: synced, it waits for [`publish`](Self::publish).
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

    /// As [`stage`](Self::stage), a file that is not open.
    pub(crate) fn stage_path(&self, closed: &Closed, name: &Path) -> Result<(), Error> {
        let (cannot, target) = ("cannot write", &closed.target);
        let file = File::options().write(true).open(&closed.path).map_err(io(cannot, target))?;
        file.sync_all().map_err(io(cannot, target))?;
        let aside = match &self.file {
            // Its name says already for which file it is.
            Some(_) => closed.path.to_path_buf(),
            None => self.aside(name),
        };
        fs::rename(&closed.path, &aside).map_err(io(cannot, target))?;
        self.note(name, Staged::Aside(aside));
        Ok(())
    }

    /// Whether a file of this name is ready, or visible already as it should be.
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

    /// Stages a copy of a file that is readable by as many as the original, and gives its SHA-256.
    pub(crate) fn copy(&self, from: &Path, name: &Path) -> Result<String, Error> {
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
            // What could be executed still can.
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

    /// A file of this name that an earlier run of the same job had finished, to be checked.
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

/// The part of a temporary name that the name of the file decides.
fn key(name: &Path) -> String {
    let mut key = digest(name.to_string_lossy().as_bytes());
    key.truncate(16);
    key
}

/// The SHA-256 of a file, or of all before the data of a weight file.
fn content(path: &Path, weights: bool) -> Result<String, Error> {
    if weights {
        return Ok(digest(&Container::open(path)?.head()));
    }
    file_digest(path)
}

/// The SHA-256 of a file.
pub(crate) fn file_digest(path: &Path) -> Result<String, Error> {
    let mut file = File::open(path).map_err(io("cannot open", path))?;
    let (mut sha256, mut buffer) = (Sha256::new(), vec![0; 1 << 18]);
    loop {
        match file.read(&mut buffer).map_err(io("cannot read", path))? {
            0 => return Ok(hex::encode(sha256.finalize())),
            n => sha256.update(&buffer[..n]),
        }
    }
}

/// What the manifest of a directory says that was written, if it has a sound one.
fn old_outputs(path: &Path) -> Result<Vec<OutputRecord>, Error> {
    let manifest = path.join(MANIFEST);
    if !manifest.is_file() {
        return Ok(Vec::new());
    }
    let text = crate::checkpoint::read_text(&manifest)?;
    // Without a sound record, nothing there is ours to replace.
    Ok(Manifest::unseal(&text).map(|manifest| manifest.outputs).unwrap_or_default())
}

fn parent(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

fn same_file(a: &Path, b: &Path) -> bool {
    matches!((fs::canonicalize(a), fs::canonicalize(b)), (Ok(a), Ok(b)) if a == b)
}

/// Input and output must not be the same directory.
fn refuse_inputs(directory: &Path, inputs: &[PathBuf]) -> Result<(), Error> {
    // A link counts where it stands and where it leads to.
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

/// Whether an output path names a weights file rather than a directory.
pub(crate) fn names_a_file(path: &Path) -> bool {
    path.extension().is_some_and(|extension| format!(".{}", extension.display()) == WEIGHTS) && !path.is_dir()
}
