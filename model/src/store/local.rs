//! Files of this machine.

use std::fs::{self, File};
use std::io::{ErrorKind, Read, Write};
use std::path::Path;

use tempfile::NamedTempFile;

use super::Entry;
use crate::container::CHUNK;
use crate::error::{Error, io};
use crate::names::OURS;

pub(super) fn len(path: &Path) -> Result<Option<u64>, Error> {
    match fs::metadata(path) {
        Ok(info) if info.is_file() => Ok(Some(info.len())),
        Ok(_) => Ok(None),
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => Ok(None),
        Err(error) => Err(io("cannot open", path)(error)),
    }
}

pub(super) fn read(path: &Path, limit: u64) -> Result<Vec<u8>, Error> {
    let info = fs::metadata(path).map_err(io("cannot open", path))?;
    if !info.is_file() || info.len() > limit {
        return Err(Error::file(path, format!("is not a file of at most {limit} bytes")));
    }
    fs::read(path).map_err(io("cannot read", path))
}

pub(super) fn read_chunks(
    path: &Path,
    mut each: impl FnMut(&[u8]) -> Result<(), Error>,
) -> Result<(), Error> {
    let mut file = File::open(path).map_err(io("cannot open", path))?;
    let mut buffer = vec![0; CHUNK];
    loop {
        match file.read(&mut buffer).map_err(io("cannot read", path))? {
            0 => return Ok(()),
            n => each(&buffer[..n])?,
        }
    }
}

pub(super) fn list(folder: &Path) -> Result<Vec<Entry>, Error> {
    let mut all = Vec::new();
    let mut below = vec![Path::new("").to_owned()];
    while let Some(name) = below.pop() {
        let dir = folder.join(&name);
        let entries = match fs::read_dir(&dir) {
            Err(error) if error.kind() == ErrorKind::NotFound => continue,
            entries => entries.map_err(io("cannot list", &dir))?,
        };
        for entry in entries {
            let entry = entry.map_err(io("cannot list", &dir))?;
            let info = entry.metadata().map_err(io("cannot open", &dir))?;
            let name = name.join(entry.file_name());
            if info.is_dir() { below.push(name) } else { all.push((name, info.len())) }
        }
    }
    Ok(all)
}

fn parent(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

pub(super) fn write(path: &Path, bytes: &[u8]) -> Result<(), Error> {
    let mut writer = Writer::new(path)?;
    writer.write(bytes)?;
    writer.finish()
}

pub(super) fn rename(from: &Path, to: &Path) -> Result<(), Error> {
    fs::create_dir_all(parent(to)).map_err(io("cannot create the directory", parent(to)))?;
    fs::rename(from, to).map_err(io("cannot write", to))
}

pub(super) fn remove(path: &Path) -> Result<(), Error> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(io("cannot remove", path)(error)),
        _ => {
            // The folder goes with its last file.
            let _ = fs::remove_dir(parent(path));
            Ok(())
        }
    }
}

pub(super) fn sync(folder: &Path) -> Result<(), Error> {
    crate::staging::sync(folder)
}

/// A file under a temporary name.
pub(crate) struct Writer {
    file: NamedTempFile,
    path: std::path::PathBuf,
}

impl Writer {
    pub(super) fn new(path: &Path) -> Result<Self, Error> {
        let folder = parent(path);
        fs::create_dir_all(folder).map_err(io("cannot create the directory", folder))?;
        let mut builder = tempfile::Builder::new();
        let prefix = format!("{OURS}partial-");
        builder.prefix(&prefix);
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            builder.permissions(fs::Permissions::from_mode(0o666));
        }
        let file = builder.tempfile_in(folder).map_err(io("cannot create", path))?;
        Ok(Writer { file, path: path.to_owned() })
    }

    pub(super) fn write(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.file.write_all(bytes).map_err(io("cannot write", &self.path))
    }

    pub(super) fn finish(self) -> Result<(), Error> {
        let cannot = "cannot write";
        let file: &File = self.file.as_file();
        file.sync_all().map_err(io(cannot, &self.path))?;
        self.file.persist(&self.path).map_err(|error| io(cannot, &self.path)(error.error))?;
        sync(parent(&self.path))
    }
}
