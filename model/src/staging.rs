//! The one place through which output becomes visible.
//!
//! Every file is written under a temporary name (`.df11-partial-…`), checked, synced, and then set
//! aside under a name that its own decides (`.df11-staged-…`). Only when all files of a run are there
//! does [`Staging::publish`] make them visible: first what would let a directory look finished is
//! taken away (configuration, index), then files that an earlier run wrote and this one does not, then
//! the new record and the new files come, configuration and index last. A run that fails before that
//! has changed nothing that could be seen; one that is killed is finished by the next.
//!
//! A marker file, locked while a run lasts, says whose a directory is. Nothing is ever replaced but
//! what a manifest in the directory says this program wrote, or what was named as the output.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File, TryLockError};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use sha2::{Digest, Sha256};
use tempfile::NamedTempFile;

use crate::container::Container;
use crate::error::{Error, io};
use crate::names::{
    MANIFEST, OURS, WEIGHTS, digest, file_name, folder_of, is_index, is_weights, portable, relative,
};
use crate::packed::manifest::{Manifest, OutputRecord};

/// The name of the marker. It says which job fills the directory and, in a second line, whether files
/// are becoming visible.
const MARKER: &str = ".df11-unfinished";

/// The second line.
const PUBLISHING: &str = "\npublishing";

/// The second line that version 0.1 wrote.
const REPLACING: &str = "\nreplacing";

/// How the names of unfinished files begin. They do not end in `.safetensors`, so no loader takes them
/// for weights.
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
    /// Whether the directory is not empty, and nothing may be written to it: the run is right only if
    /// an earlier one did all of it.
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

/// A file that is being written.
#[derive(Debug)]
pub(crate) struct Partial {
    file: NamedTempFile,
    /// The name that errors give it.
    target: PathBuf,
}

impl Partial {
    pub(crate) fn path(&self) -> &Path {
        self.file.path()
    }

    pub(crate) fn file(&self) -> &File {
        self.file.as_file()
    }

    /// Closes the file until it is written to again.
    pub(crate) fn close(self) -> Closed {
        Closed { path: self.file.into_temp_path(), target: self.target }
    }

    /// Ends the file at this length.
    pub(crate) fn set_len(&self, len: u64) -> Result<(), Error> {
        self.file().set_len(len).map_err(io("cannot write", &self.target))
    }

    /// Writes bytes at a place.
    pub(crate) fn write_at(&self, bytes: &[u8], at: u64) -> Result<(), Error> {
        crate::container::write_all_at(self.file(), bytes, at).map_err(io("cannot write", &self.target))
    }
}

/// A file that is being written, but not open: a run may write more files than it may have open.
#[derive(Debug)]
pub(crate) struct Closed {
    path: tempfile::TempPath,
    /// The name that errors give it.
    target: PathBuf,
}

impl Closed {
    /// Opens it to write at any place.
    pub(crate) fn open(&self) -> Result<OpenAgain<'_>, Error> {
        let file = File::options().write(true).open(&self.path).map_err(io("cannot write", &self.target))?;
        Ok(OpenAgain { file, target: &self.target })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

/// A [`Closed`] file, open.
#[derive(Debug)]
pub(crate) struct OpenAgain<'a> {
    file: File,
    target: &'a Path,
}

impl OpenAgain<'_> {
    /// Writes bytes at a place.
    pub(crate) fn write_at(&self, bytes: &[u8], at: u64) -> Result<(), Error> {
        crate::container::write_all_at(&self.file, bytes, at).map_err(io("cannot write", self.target))
    }
}

impl Staging {
    /// Begins a run that fills a directory from `inputs`.
    ///
    /// `job` names what is done; only a run of the same job goes on where an unfinished one stopped.
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
            return Err(Error::Usage(format!("{} exists; pass --force to replace it", path.display())));
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
        // What killed runs to this file left: their names say which file they were for, and no lock on
        // them says that they still run.
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
            // As any program's new file, less what the user's mask takes away; temporary files would
            // be private.
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

    /// The old record of a file, if it is as it was written.
    fn is_ours(&self, name: &Path) -> bool {
        let old = portable(name).and_then(|name| self.old.iter().find(|old| old.name == name));
        let path = self.path_of(name);
        old.is_some_and(|old| {
            // While a run that was killed published, new and old files stood side by side.
            self.publishing
                || fs::symlink_metadata(&path).is_ok_and(|info| info.is_file() && info.len() == old.bytes)
                    && content(&path, old.weights).is_ok_and(|found| found == old.sha256)
        })
    }

    /// Refuses to go on if something in the way was not written by this program.
    ///
    /// A file that is there with the content that it should have is left, and counts as done. Where
    /// loaders read every weight file of a folder, other weight files there are in the way, too.
    pub(crate) fn clear_the_way(&self, planned: &[Planned], loaders_read_all: bool) -> Result<(), Error> {
        if self.file.is_some() {
            return Ok(());
        }
        let names: BTreeSet<&Path> = planned.iter().map(|planned| planned.name.as_path()).collect();
        if let Some(name) =
            names.iter().find_map(|name| name.ancestors().skip(1).find(|above| names.contains(above)))
        {
            return Err(Error::Usage(format!(
                "{} would be both a file and a folder: the input has a folder of that name; rename it",
                self.path_of(name).display()
            )));
        }
        let mut strangers = BTreeSet::new();
        for Planned { name, content: expected } in planned {
            let path = self.path_of(name);
            self.refuse_links(name)?;
            let Ok(info) = fs::symlink_metadata(&path) else {
                self.expect_done(false)?;
                continue;
            };
            if !self.done && (self.is_ours(name) || (self.publishing && name != Path::new(MANIFEST))) {
                continue;
            }
            let same = expected.as_ref().is_some_and(|(bytes, sha256)| {
                info.len() == *bytes && content(&path, false).is_ok_and(|found| found == *sha256)
            });
            if same {
                self.note(name, Staged::Visible);
            } else if self.done {
                // What its content has to be shows when it is read.
                let is_ours = self.is_ours(name) || name == Path::new(MANIFEST) && !self.old.is_empty();
                self.expect_done(expected.is_none() && is_ours)?;
            } else if name != Path::new(MANIFEST) || self.old.is_empty() {
                strangers.insert(name.clone());
            }
        }
        if loaders_read_all && !self.resumed && !self.done {
            let folders: BTreeSet<PathBuf> =
                planned.iter().filter(|p| is_weights(&p.name)).map(|p| folder_of(&p.name)).collect();
            for folder in folders {
                let Ok(entries) = fs::read_dir(self.root.join(&folder)) else { continue };
                for name in entries.flatten().map(|entry| folder.join(entry.file_name())) {
                    let read = is_weights(&name) || is_index(&name);
                    if read && !names.contains(name.as_path()) && !self.is_ours(&name) {
                        strangers.insert(name);
                    }
                }
            }
        }
        if strangers.is_empty() {
            return Ok(());
        }
        let listed: Vec<_> = strangers.iter().take(10).map(|name| name.display().to_string()).collect();
        let more = if strangers.len() > listed.len() {
            format!(" and {} more", strangers.len() - listed.len())
        } else {
            String::new()
        };
        Err(Error::Usage(format!(
            "{} has files in the way that df11 did not write there, or that were changed since: {}{more}; move \
             them, or choose another directory (nothing was changed)",
            self.root.display(),
            listed.join(", ")
        )))
    }

    /// A link to a folder could lead out of the output.
    fn refuse_links(&self, name: &Path) -> Result<(), Error> {
        let mut folder = folder_of(name);
        while folder != Path::new("") {
            let path = self.root.join(&folder);
            if fs::symlink_metadata(&path).is_ok_and(|info| !info.is_dir()) {
                let problem =
                    format!("{} is not a folder; move it, or choose another directory", path.display());
                return Err(Error::Usage(problem));
            }
            folder = folder_of(&folder);
        }
        Ok(())
    }

    /// Makes everything visible, the record first, configuration and index last.
    pub(crate) fn publish(mut self) -> Result<(), Error> {
        let staged = std::mem::take(self.staged.get_mut().unwrap_or_else(std::sync::PoisonError::into_inner));
        if self.file.is_some() {
            for (name, staged) in &staged {
                self.reveal(name, staged)?;
            }
            return sync(&self.root);
        }
        let mut folders: BTreeSet<PathBuf> = BTreeSet::from([PathBuf::new()]);
        for name in staged.keys() {
            let folder = folder_of(name);
            let path = self.root.join(&folder);
            fs::create_dir_all(&path).map_err(io("cannot create the directory", &path))?;
            let mut next = folder;
            while next != Path::new("") {
                let above = folder_of(&next);
                folders.insert(std::mem::replace(&mut next, above));
            }
        }
        if self.done {
            return self.end(); // all of it is there
        }
        sync(&self.root)?;
        self.mark(&format!("{}{PUBLISHING}", self.job))?;
        self.revealing = true;
        self.remove_stale(&staged)?;
        self.sync_all(&folders)?;

        let (mut last, first): (Vec<_>, Vec<_>) =
            staged.iter().partition(|(name, _)| Manifest::is_last(name));
        let (record, rest): (Vec<_>, Vec<_>) =
            first.into_iter().partition(|(name, _)| *name == Path::new(MANIFEST));
        for (name, staged) in record.into_iter().chain(rest) {
            self.reveal(name, staged)?;
        }
        self.sync_all(&folders)?;
        last.sort_by_key(|(name, _)| Manifest::last_order(name));
        for (name, staged) in last {
            self.reveal(name, staged)?;
        }
        self.sync_all(&folders)?;
        self.remove_leftovers(|name| name.starts_with(PARTIAL) || name.starts_with(STAGED))?;
        self.end()
    }

    /// Gives one file its name.
    fn reveal(&self, name: &Path, staged: &Staged) -> Result<(), Error> {
        let target = self.path_of(name);
        match staged {
            Staged::Visible => Ok(()),
            Staged::Aside(from) => fs::rename(from, &target).map_err(io("cannot write", &target)),
        }
    }

    /// Removes what an earlier run wrote and this one does not: first what would let the directory look
    /// finished.
    fn remove_stale(&self, staged: &BTreeMap<PathBuf, Staged>) -> Result<(), Error> {
        let old: Vec<PathBuf> = self.old.iter().filter_map(|old| relative(&old.name)).collect();
        let mut gone: Vec<PathBuf> = Vec::new();
        let replaced = staged.iter().filter(|(name, staged)| {
            Manifest::is_last(name) && matches!(staged, Staged::Aside(_)) && self.path_of(name).exists()
        });
        gone.extend(replaced.map(|(name, _)| name.clone()));
        gone.extend(
            old.iter().filter(|name| Manifest::is_last(name) && !staged.contains_key(*name)).cloned(),
        );
        gone.extend(old.into_iter().filter(|name| !Manifest::is_last(name) && !staged.contains_key(name)));
        let mut last_synced = false;
        for name in gone {
            let is_new = staged.contains_key(&name);
            if !is_new && !self.is_ours(&name) {
                continue; // changed since: it is the user's now
            }
            if !Manifest::is_last(&name) && !last_synced {
                sync(&self.root)?;
                last_synced = true;
            }
            let path = self.path_of(&name);
            match fs::remove_file(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(io("cannot remove", &path)(error));
                }
                _ => {}
            }
            let folder = folder_of(&name);
            if folder != Path::new("") {
                // Only if nothing is left in it.
                let _ = fs::remove_dir(self.root.join(folder));
            }
        }
        if !self.old.is_empty() && !staged.contains_key(Path::new(MANIFEST)) {
            let path = self.root.join(MANIFEST);
            fs::remove_file(&path).map_err(io("cannot remove", &path))?;
        }
        // Emptied folders may be needed again.
        for name in staged.keys() {
            let path = self.root.join(folder_of(name));
            fs::create_dir_all(&path).map_err(io("cannot create the directory", &path))?;
        }
        Ok(())
    }

    fn sync_all(&self, folders: &BTreeSet<PathBuf>) -> Result<(), Error> {
        folders.iter().try_for_each(|folder| sync(&self.root.join(folder)))
    }

    /// Writes the marker.
    fn mark(&self, text: &str) -> Result<(), Error> {
        let Some((marker, _)) = &self.marker else { return Ok(()) };
        let path = self.root.join(MARKER);
        let mut marker = marker;
        // The text only grows while a run lasts, so that it is never seen empty.
        let written = marker
            .seek(SeekFrom::Start(0))
            .and_then(|_| marker.write_all(text.as_bytes()))
            .and_then(|()| marker.set_len(text.len() as u64))
            .and_then(|()| marker.sync_all());
        written.map_err(io("cannot write", &path))
    }

    /// Ends a run that has nothing to write: the directory is as it was.
    pub(crate) fn abandon(self) -> Result<(), Error> {
        if self.marker.is_none() {
            return Ok(());
        }
        self.remove_leftovers(|name| name.starts_with(PARTIAL) || name.starts_with(STAGED))?;
        let made = self.marker.as_ref().is_some_and(|(_, made)| *made);
        let root = self.root.clone();
        self.end()?;
        if made {
            let _ = fs::remove_dir(root);
        }
        Ok(())
    }

    fn end(mut self) -> Result<(), Error> {
        let path = self.root.join(MARKER);
        fs::remove_file(&path).map_err(io("cannot remove", &path))?;
        self.marker = None;
        sync(&self.root)
    }
}

impl Drop for Staging {
    /// A run that failed leaves its marker only where it left something for the next.
    fn drop(&mut self) {
        if let Some((_, made)) = &self.marker
            && !made
            && !self.revealing
        {
            let left = fs::read_dir(&self.root).into_iter().flatten().flatten();
            let mut left = left.map(|entry| file_name(&entry.path()));
            if !left.any(|name| name.starts_with(STAGED)) {
                let _ = fs::remove_file(self.root.join(MARKER));
            }
        }
    }
}

fn refuse(path: &Path, what: &str) -> Error {
    let path = path.display();
    Error::Usage(format!(
        "{path} {what}; choose another directory, or pass --force to replace what df11 wrote there"
    ))
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

fn read_marker(directory: &Path) -> Result<String, Error> {
    let path = directory.join(MARKER);
    if path.is_symlink() {
        return Err(Error::Usage(format!("{} is a link; remove it", path.display())));
    }
    match fs::read(&path) {
        Ok(text) => Ok(String::from_utf8_lossy(&text).into_owned()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(String::new()),
        Err(error) => Err(io("cannot read", &path)(error)),
    }
}

fn lock_marker(directory: &Path) -> Result<File, Error> {
    let path = directory.join(MARKER);
    let mut options = File::options();
    let marker = options.create(true).truncate(false).write(true).open(&path);
    let marker = marker.map_err(io("cannot write", &path))?;
    match marker.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let problem = format!("{} is being written by another run", directory.display());
            return Err(Error::Usage(problem));
        }
        // Some network file systems have no locks; going on without one is what they leave.
        Err(TryLockError::Error(_)) => {}
    }
    // The run that held the lock may have ended, and taken the marker away.
    if !path.is_file() {
        return Err(Error::Usage(format!("{} was just written by another run", directory.display())));
    }
    Ok(marker)
}

/// Makes names of a directory durable, where the system can.
fn sync(directory: &Path) -> Result<(), Error> {
    #[cfg(unix)]
    {
        let opened = File::open(directory).map_err(io("cannot open", directory))?;
        match opened.sync_all() {
            // Some file systems have nothing to sync for directories, and say so.
            Err(error) if error.kind() == io::ErrorKind::InvalidInput => {}
            Err(error) => return Err(io("cannot write", directory)(error)),
            Ok(()) => {}
        }
    }
    Ok(())
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packed::manifest::{Input, Kept};

    fn record(name: &str, bytes: &[u8]) -> OutputRecord {
        OutputRecord {
            name: name.to_owned(),
            bytes: bytes.len() as u64,
            sha256: digest(bytes),
            weights: false,
        }
    }

    /// A directory that an earlier run filled.
    fn filled() -> tempfile::TempDir {
        let directory = tempfile::tempdir().unwrap();
        let files: [(&str, &[u8]); 3] =
            [("old.safetensors", b"old"), ("same.txt", b"1"), ("config.json", b"{}")];
        for (name, bytes) in files {
            fs::write(directory.path().join(name), bytes).unwrap();
        }
        let outputs = files.map(|(name, bytes)| record(name, bytes)).to_vec();
        let input = Input { name: "m".to_owned(), bytes: 0, sha256: String::new(), kept: Kept::Copied };
        let mut outputs_of_manifest = outputs;
        outputs_of_manifest.push(record("m", b""));
        let manifest = Manifest::new(vec![input], outputs_of_manifest);
        fs::write(directory.path().join(MANIFEST), manifest.seal().unwrap()).unwrap();
        directory
    }

    #[test]
    fn stale_files_go_before_new_ones_come_and_the_configuration_comes_last() {
        let directory = filled();
        let at = |name: &str| directory.path().join(name);
        let staging = Staging::directory(directory.path(), "job", &[], true).unwrap();
        for name in ["new.safetensors", "config.json", MANIFEST] {
            staging.write(Path::new(name), b"new").unwrap();
        }
        // The run is cut short where a new file becomes visible.
        fs::create_dir_all(at("new.safetensors/in the way")).unwrap();
        staging.publish().unwrap_err();
        assert!(!at("config.json").exists() && !at("old.safetensors").exists());
        // The next goes on from there.
        fs::remove_dir_all(at("new.safetensors")).unwrap();
        let staging = Staging::directory(directory.path(), "job", &[], false).unwrap();
        for name in ["new.safetensors", "config.json"] {
            let staged = staging.candidate(Path::new(name)).unwrap();
            staging.keep(Path::new(name), staged);
        }
        staging.write(Path::new(MANIFEST), b"new").unwrap();
        staging.publish().unwrap();
        assert_eq!(fs::read(at("config.json")).unwrap(), b"new");
        let mut names: Vec<_> =
            fs::read_dir(directory.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        assert!(!names.iter().any(|name| name.to_string_lossy().starts_with(OURS)), "{names:?}");
    }

    #[test]
    fn what_is_not_as_it_was_written_is_in_the_way() {
        let directory = filled();
        let planned = |name: &str| [Planned { name: PathBuf::from(name), content: None }];
        let begin = || Staging::directory(directory.path(), "job", &[], true).unwrap();
        begin().clear_the_way(&planned("same.txt"), false).unwrap();
        fs::write(directory.path().join("same.txt"), "2").unwrap();
        let error = begin().clear_the_way(&planned("same.txt"), false).unwrap_err();
        assert!(error.to_string().contains("in the way") && error.to_string().contains("same.txt"));
        // A run that did nothing leaves nothing.
        assert!(!directory.path().join(MARKER).exists());
    }
}
