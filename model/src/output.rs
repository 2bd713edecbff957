//! Output that appears only when it is whole.
//!
//! A file is written under a temporary name and renamed when its content has been checked. A directory carries a marker
//! file while it is being filled: the marker tells the next run that it may go on, its lock keeps two runs apart, and
//! `config.json`, without which no loader opens the directory, is written last.

use std::collections::BTreeSet;
use std::fs::{self, File, TryLockError};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use tempfile::NamedTempFile;

use crate::checkpoint::{CONFIG, INDEX, file_name};
use crate::container::Container;
use crate::error::{Error, io};

/// The name of the marker.
const MARKER: &str = ".df11-unfinished";

/// How temporary names begin. They do not end in `.safetensors`, so no loader takes them for weights.
const PARTIAL: &str = ".df11-partial-";

/// Where a run writes.
#[derive(Debug)]
pub(crate) enum Output {
    /// A directory.
    Directory {
        path: PathBuf,
        /// Open and locked while the run lasts.
        marker: File,
        /// Whether an earlier, unfinished run of the same job began to fill it.
        resumed: bool,
        /// Whether the directory was, or may be, filled before.
        may_hold_others: bool,
        written: Mutex<BTreeSet<String>>,
    },
    /// One file.
    File { path: PathBuf, force: bool },
}

impl Output {
    /// Begins a run that fills a directory from `inputs`.
    ///
    /// `job` names what is done; only a run of the same job goes on where an unfinished one stopped.
    pub(crate) fn directory(
        path: &Path,
        job: &str,
        inputs: &[Container],
        force: bool,
    ) -> Result<Self, Error> {
        let existed = path.exists();
        fs::create_dir_all(path).map_err(io("cannot create the directory", path))?;
        refuse_inputs(path, inputs)?;

        let marker_path = path.join(MARKER);
        let unfinished = match fs::read_to_string(&marker_path) {
            Ok(text) => Some(text),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(io("cannot read", &marker_path)(error)),
        };
        // A marker without text was cut off as it was made, before anything else was.
        let resumed = unfinished.as_deref().is_some_and(|text| text == job || text.is_empty());
        let occupied = existed && fs::read_dir(path).map_err(io("cannot list", path))?.next().is_some();
        if occupied && !resumed && !force {
            let what = if unfinished.is_some() { "holds another unfinished job" } else { "is not empty" };
            let path = path.display();
            return Err(Error::Usage(format!(
                "{path} {what}; choose another directory, or pass --force to replace files"
            )));
        }

        let cannot = "cannot write";
        let mut options = File::options();
        let mut marker = options
            .create(true)
            .truncate(false)
            .write(true)
            .open(&marker_path)
            .map_err(io(cannot, &marker_path))?;
        match marker.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(Error::Usage(format!("{} is being written by another run", path.display())));
            }
            // Some network file systems have no locks; going on without one is what they leave.
            Err(TryLockError::Error(_)) => {}
        }
        marker
            .set_len(0)
            .and_then(|()| marker.write_all(job.as_bytes()))
            .map_err(io(cannot, &marker_path))?;

        // What a killed run left half-written: the lock says that nobody is writing it still. And what would make a
        // directory look finished while its weights are being replaced.
        for entry in fs::read_dir(path).map_err(io("cannot list", path))?.flatten() {
            let name = file_name(&entry.path());
            if name.starts_with(PARTIAL) || name == CONFIG || name.ends_with(INDEX) {
                fs::remove_file(entry.path()).map_err(io("cannot remove", &entry.path()))?;
            }
        }
        Ok(Output::Directory {
            path: path.to_owned(),
            marker,
            resumed,
            may_hold_others: occupied,
            written: Mutex::default(),
        })
    }

    /// Begins a run that writes one file.
    pub(crate) fn file(path: &Path, inputs: &[Container], force: bool) -> Result<Self, Error> {
        if path.is_dir() {
            return Err(Error::Usage(format!("{} is a directory, not a file", path.display())));
        }
        if path.exists() && !force {
            return Err(Error::Usage(format!("{} exists; pass --force to replace it", path.display())));
        }
        let parent = parent(path);
        fs::create_dir_all(parent).map_err(io("cannot create the directory", parent))?;
        for input in inputs {
            if same_file(&input.path, path) {
                return Err(Error::Usage(format!("{} is the input; choose another output", path.display())));
            }
        }
        Ok(Output::File { path: path.to_owned(), force })
    }

    /// Where the file of this name goes.
    pub(crate) fn path_of(&self, name: &Path) -> PathBuf {
        match self {
            Output::Directory { path, .. } => path.join(name),
            Output::File { path, .. } => path.clone(),
        }
    }

    /// Whether an earlier run of the same job may have finished some files.
    pub(crate) fn resumed(&self) -> bool {
        matches!(self, Output::Directory { resumed: true, .. })
    }

    /// A temporary file, on the file system where it will end up.
    pub(crate) fn create(&self, name: &Path) -> Result<NamedTempFile, Error> {
        let target = self.path_of(name);
        let parent = parent(&target);
        fs::create_dir_all(parent).map_err(io("cannot create the directory", parent))?;
        let mut builder = tempfile::Builder::new();
        builder.prefix(PARTIAL);
        #[cfg(unix)]
        {
            // As any program's new file, less what the user's mask takes away; temporary files would be private.
            use std::os::unix::fs::PermissionsExt;
            builder.permissions(fs::Permissions::from_mode(0o666));
        }
        builder.tempfile_in(parent).map_err(io("cannot create a file in", parent))
    }

    /// Makes a temporary file visible under its name, once its bytes have reached the disk.
    pub(crate) fn publish(&self, file: NamedTempFile, name: &Path) -> Result<(), Error> {
        let target = self.path_of(name);
        file.as_file().sync_all().map_err(io("cannot write", &target))?;
        let result = match self {
            Output::File { force: false, .. } => file.persist_noclobber(&target),
            _ => file.persist(&target),
        };
        result.map_err(|error| io("cannot write", &target)(error.error))?;
        self.keep(name);
        Ok(())
    }

    /// Notes that the file of this name belongs to the output.
    pub(crate) fn keep(&self, name: &Path) {
        if let Output::Directory { written, .. } = self {
            let mut written = written.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            written.insert(name.to_string_lossy().into_owned());
        }
    }

    /// Writes a small file.
    pub(crate) fn write(&self, name: &Path, bytes: &[u8]) -> Result<(), Error> {
        let mut file = self.create(name)?;
        file.write_all(bytes).map_err(io("cannot write", &self.path_of(name)))?;
        self.publish(file, name)
    }

    /// Ends the run. In a directory that held files before, removes weights and indices that are not part of the output:
    /// loaders read every `.safetensors` file they find.
    pub(crate) fn finish(self) -> Result<(), Error> {
        let Output::Directory { path, marker, may_hold_others, written, .. } = self else { return Ok(()) };
        if may_hold_others {
            let written = written.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
            for entry in fs::read_dir(&path).map_err(io("cannot list", &path))?.flatten() {
                let name = file_name(&entry.path());
                let is_weights = name.ends_with(".safetensors") || name.ends_with(INDEX);
                if is_weights && !written.contains(&name) {
                    fs::remove_file(entry.path()).map_err(io("cannot remove", &entry.path()))?;
                }
            }
        }
        let marker_path = path.join(MARKER);
        fs::remove_file(&marker_path).map_err(io("cannot remove", &marker_path))?;
        drop(marker);
        Ok(())
    }
}

fn parent(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

fn same_file(a: &Path, b: &Path) -> bool {
    matches!((fs::canonicalize(a), fs::canonicalize(b)), (Ok(a), Ok(b)) if a == b)
}

/// Input and output must not be the same directory: finishing would remove the input.
fn refuse_inputs(directory: &Path, inputs: &[Container]) -> Result<(), Error> {
    match inputs.iter().find(|input| same_file(parent(&input.path), directory)) {
        None => Ok(()),
        Some(input) => Err(Error::Usage(format!(
            "{} holds the input {}; choose another output directory",
            directory.display(),
            input.path.display()
        ))),
    }
}

/// Whether an output path names a weights file rather than a directory.
pub(crate) fn names_a_file(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "safetensors") && !path.is_dir()
}
