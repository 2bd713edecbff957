//! Makes a run's files visible, and ends the run.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::marker::{MARKER, PUBLISHING};
use super::{PARTIAL, STAGED, Staged, Staging};
use crate::error::{Error, io};
use crate::names::{MANIFEST, file_name, folder_of, relative};
use crate::packed::manifest::Manifest;

impl Staging {
    /// Makes all files visible, the record first, config and index last.
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

    /// Renames one file to its final name.
    fn reveal(&self, name: &Path, staged: &Staged) -> Result<(), Error> {
        let target = self.path_of(name);
        match staged {
            Staged::Visible => Ok(()),
            Staged::Aside(from) => fs::rename(from, &target).map_err(io("cannot write", &target)),
        }
    }

    /// Removes files that an earlier run wrote and this one does not. It begins with those that
    /// would let the directory look finished.
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
                // This succeeds only if the folder is empty.
                let _ = fs::remove_dir(self.root.join(folder));
            }
        }
        if !self.old.is_empty() && !staged.contains_key(Path::new(MANIFEST)) {
            let path = self.root.join(MANIFEST);
            fs::remove_file(&path).map_err(io("cannot remove", &path))?;
        }
        // Folders that were emptied may be needed again.
        for name in staged.keys() {
            let path = self.root.join(folder_of(name));
            fs::create_dir_all(&path).map_err(io("cannot create the directory", &path))?;
        }
        Ok(())
    }

    fn sync_all(&self, folders: &BTreeSet<PathBuf>) -> Result<(), Error> {
        folders.iter().try_for_each(|folder| sync(&self.root.join(folder)))
    }

    /// Ends a run that has nothing to write. The directory stays unchanged.
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
    /// Removes the marker of a failed run, unless the run left files for the next one.
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

/// Makes the names in a directory durable, where the system can.
pub(crate) fn sync(directory: &Path) -> Result<(), Error> {
    #[cfg(unix)]
    {
        let opened = fs::File::open(directory).map_err(io("cannot open", directory))?;
        match opened.sync_all() {
            // Some file systems have nothing to sync for directories and report an invalid input.
            Err(error) if error.kind() == io::ErrorKind::InvalidInput => {}
            Err(error) => return Err(io("cannot write", directory)(error)),
            Ok(()) => {}
        }
    }
    Ok(())
}
