//! Files that are in the way of a run, and whether this program wrote them.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use super::{Planned, Staged, Staging, content};
use crate::error::Error;
use crate::names::{MANIFEST, folder_of, is_index, is_weights, portable};

impl Staging {
    /// Returns the old record of a file, if the file is unchanged since.
    pub(super) fn is_ours(&self, name: &Path) -> bool {
        let old = portable(name).and_then(|name| self.old.iter().find(|old| old.name == name));
        let path = self.path_of(name);
        old.is_some_and(|old| {
            // If a run was killed while it published, new and old files stand side by side.
            self.publishing
                || fs::symlink_metadata(&path).is_ok_and(|info| info.is_file() && info.len() == old.bytes)
                    && content(&path, old.weights).is_ok_and(|found| found == old.sha256)
        })
    }

    /// Fails if a file in the way was not written by this program.
    ///
    /// A file that exists with the right content is left, and counts as done. Where loaders read
    /// every weight file of a folder, other weight files in it are in the way, too.
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
                // The required content becomes known when the file is read.
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

    /// Refuses links to folders, which could lead out of the output.
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
}
