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

/// The name of the marker. It says which job fills the directory and, in a second line, whether it may replace what was
/// there before.
const MARKER: &str = ".df11-unfinished";

/// The second line.
const REPLACING: &str = "\nreplacing";

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
        /// Whether it may replace what was there before.
        replacing: bool,
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
        if path.exists() && !path.is_dir() {
            return Err(Error::Usage(format!(
                "{} is a file; name a directory as the output",
                path.display()
            )));
        }
        fs::create_dir_all(path).map_err(io("cannot create the directory", path))?;
        refuse_inputs(path, inputs)?;

        let marker_path = path.join(MARKER);
        if marker_path.is_symlink() {
            return Err(Error::Usage(format!("{} is a link; remove it", marker_path.display())));
        }
        let unfinished = match fs::read(&marker_path) {
            Ok(text) => String::from_utf8_lossy(&text).into_owned(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
            Err(error) => return Err(io("cannot read", &marker_path)(error)),
        };
        let replacing_before = unfinished.ends_with(REPLACING);
        let resumed = unfinished.trim_end_matches(REPLACING) == job;
        // A marker alone is a run that was cut off before it made anything.
        let mut entries = fs::read_dir(path).map_err(io("cannot list", path))?.flatten();
        let occupied = entries.any(|entry| entry.file_name() != MARKER);
        if occupied && !resumed && !force {
            let what = if unfinished.is_empty() { "is not empty" } else { "holds another unfinished job" };
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
        let replacing = occupied && (force || (resumed && replacing_before));
        let text = format!("{job}{}", if replacing { REPLACING } else { "" });
        // Left alone where it says this already: a run that takes over must not be cut off with the marker empty.
        if text != unfinished {
            let written = marker.set_len(0).and_then(|()| marker.write_all(text.as_bytes()));
            written.map_err(io(cannot, &marker_path))?;
        }

        // What a killed run left half-written: the lock says that nobody is writing it still. And what would make a
        // directory look finished while its weights are being replaced.
        for entry in fs::read_dir(path).map_err(io("cannot list", path))?.flatten() {
            let name = file_name(&entry.path());
            if name.starts_with(PARTIAL) || name == CONFIG || name.ends_with(INDEX) {
                fs::remove_file(entry.path()).map_err(io("cannot remove", &entry.path()))?;
            }
        }
        Ok(Output::Directory { path: path.to_owned(), marker, resumed, replacing, written: Mutex::default() })
    }

    /// Begins a run that writes one file.
    pub(crate) fn file(path: &Path, input: &Path, inputs: &[Container], force: bool) -> Result<Self, Error> {
        if path.is_dir() {
            return Err(Error::Usage(format!("{} is a directory, not a file", path.display())));
        }
        if path.exists() && !force {
            return Err(Error::Usage(format!("{} exists; pass --force to replace it", path.display())));
        }
        let parent = parent(path);
        fs::create_dir_all(parent).map_err(io("cannot create the directory", parent))?;
        if input.is_dir() && same_file(input, parent) {
            let problem = "would become part of the model it comes from; choose another place";
            return Err(Error::Usage(format!("{} {problem}", path.display())));
        }
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

    /// A temporary file, in the output's own directory, where a later run finds and removes it.
    pub(crate) fn create(&self, name: &Path) -> Result<NamedTempFile, Error> {
        let target = self.path_of(name);
        let directory = match self {
            Output::Directory { path, .. } => path,
            Output::File { path, .. } => parent(path),
        };
        let mut builder = tempfile::Builder::new();
        builder.prefix(PARTIAL);
        #[cfg(unix)]
        {
            // As any program's new file, less what the user's mask takes away; temporary files would be private.
            use std::os::unix::fs::PermissionsExt;
            builder.permissions(fs::Permissions::from_mode(0o666));
        }
        let file = builder.tempfile_in(directory).map_err(io("cannot create a file in", directory))?;
        let parent = parent(&target);
        fs::create_dir_all(parent).map_err(io("cannot create the directory", parent))?;
        Ok(file)
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
        let Output::Directory { path, marker, replacing, written, .. } = self else { return Ok(()) };
        if replacing {
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
    // A link counts where it stands and where it leads to.
    let holds = |input: &&Container| {
        let target = fs::canonicalize(&input.path).unwrap_or_else(|_| input.path.clone());
        same_file(parent(&input.path), directory) || same_file(parent(&target), directory)
    };
    match inputs.iter().find(holds) {
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
