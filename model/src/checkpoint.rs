//! A checkpoint as it lies on disk: one safetensors file, or a directory with everything below it.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use indexmap::IndexMap;
use serde_json::Value;

use crate::config;
use crate::container::{Container, Located};
use crate::error::{Error, io};
use crate::names::{
    CONFIG, MANIFEST, OURS, WEIGHTS, file_name, folder_of, is_index, is_weights, portable, relative,
};
use crate::store;

mod elsewhere;

pub(crate) use elsewhere::Known;

/// File name extensions of weights in other formats. Files larger than [`LARGE`] with such a name
/// are not copied.
const OTHER_WEIGHTS: [&str; 9] = ["bin", "pt", "pth", "ckpt", "h5", "msgpack", "onnx", "onnx_data", "gguf"];

/// The size in bytes above which a file of [`OTHER_WEIGHTS`] is not copied.
const LARGE: u64 = 64 << 20;

/// The largest `config.json` or index that is read, in bytes. The index of a million tensors takes
/// 100 MB.
const MAX_TEXT: u64 = 1 << 30;

/// The files below a directory, or one file.
#[derive(Debug)]
pub(crate) struct Source {
    /// The directory, or the file if the checkpoint is one file.
    pub(crate) path: PathBuf,
    /// The directory that file names are relative to.
    pub(crate) root: PathBuf,
    pub(crate) is_file: bool,
    /// Weight files, ordered by name.
    pub(crate) weights: Vec<PathBuf>,
    /// Other regular files, ordered by name, without those in `left_out`.
    pub(crate) others: Vec<PathBuf>,
    /// Files that are left out, with the reason.
    pub(crate) left_out: Vec<LeftOut>,
    /// Whether the listing descends into output folders of version 0.1, which look like those of a
    /// compressed checkpoint.
    is_packed: bool,
    /// What a plan says of the files, so that none has to be opened again.
    pub(crate) known: Option<Known>,
}

/// A file that is not copied to the output.
#[derive(Clone, Debug)]
pub(crate) struct LeftOut {
    pub(crate) name: PathBuf,
    pub(crate) why: String,
    /// Whether it is a regular file. Only a regular file has a length and a digest.
    pub(crate) is_file: bool,
}

/// A weight file of a checkpoint.
#[derive(Debug)]
pub(crate) struct WeightFile {
    /// The file's name, relative to the root, with slashes.
    pub(crate) name: String,
    pub(crate) container: Container,
    /// Whether an index names it, or its folder has no index.
    is_primary: bool,
}

/// Tensors with distinct names, from weight files of one folder, and the config beside them.
#[derive(Debug)]
pub(crate) struct Weights {
    /// The directory, or the file if the checkpoint is one file. Messages use it.
    pub(crate) path: PathBuf,
    /// The folder, relative to the root.
    pub(crate) folder: PathBuf,
    pub(crate) files: Vec<Arc<WeightFile>>,
    /// The location of each tensor by name: its file and its position in that file.
    pub(crate) tensors: IndexMap<String, (usize, usize)>,
    /// The text of `config.json` and its parsed value, if the file exists.
    pub(crate) config: Option<(String, Value)>,
    /// 0 for the tensors that loaders find. Tensors whose names are taken already go to the next
    /// number.
    pub(crate) duplicates: usize,
}

impl Source {
    /// Lists a checkpoint.
    ///
    /// `exclude` is a directory that does not belong to the checkpoint, even if it lies inside: the
    /// output.
    pub(crate) fn open(path: &Path, exclude: Option<&Path>) -> Result<Self, Error> {
        Self::list_all(path, exclude, false)
    }

    /// Lists a checkpoint that may be compressed.
    pub(crate) fn open_packed(path: &Path) -> Result<Self, Error> {
        Self::list_all(path, None, true)
    }

    fn list_all(path: &Path, exclude: Option<&Path>, is_packed: bool) -> Result<Self, Error> {
        if path == Path::new("-") {
            return Err(Error::Usage(
                "weights are read twice and cannot come through a pipe; save them to a file first".to_owned(),
            ));
        }
        if store::is_remote(path) {
            return Self::list_store(path, exclude, is_packed);
        }
        let info = fs::metadata(path).map_err(io("cannot open", path))?;
        let mut source = Self::empty_at(path, !info.is_dir(), is_packed);
        if source.is_file {
            return Ok(source);
        }
        let exclude = exclude.and_then(|path| fs::canonicalize(path).ok());
        source.list(Path::new(""), exclude.as_deref())?;
        source.weights.sort();
        source.others.sort();
        source.left_out.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(source)
    }

    /// Makes a listing without files, or, of one file, with that file.
    pub(crate) fn empty_at(path: &Path, is_file: bool, is_packed: bool) -> Self {
        let mut source = Source {
            path: path.to_owned(),
            root: path.to_owned(),
            is_file,
            weights: Vec::new(),
            others: Vec::new(),
            left_out: Vec::new(),
            is_packed,
            known: None,
        };
        if is_file {
            source.root = path.parent().map(Path::to_owned).unwrap_or_default();
            source.weights.push(PathBuf::from(path.file_name().unwrap_or_default()));
        }
        source
    }

    fn leave_out(&mut self, name: PathBuf, why: &str, is_file: bool) {
        self.left_out.push(LeftOut { name, why: why.to_owned(), is_file });
    }

    /// Lists the files below a folder.
    fn list(&mut self, below: &Path, exclude: Option<&Path>) -> Result<(), Error> {
        let dir = self.root.join(below);
        for entry in fs::read_dir(&dir).map_err(io("cannot list", &dir))? {
            let entry = entry.map_err(io("cannot list", &dir))?;
            let name = below.join(entry.file_name());
            let path = self.root.join(&name);
            let text = file_name(&name);
            if text.starts_with('.') && text != ".gitattributes" {
                if !text.starts_with(OURS) {
                    let is_file = fs::metadata(&path).is_ok_and(|info| info.is_file());
                    self.leave_out(name, "hidden", is_file);
                }
                continue;
            }
            // Models in download caches are links to files, so links to files are followed. Links
            // to directories are not: they may form loops.
            let Ok(info) = fs::metadata(&path) else {
                if is_weights(&name) {
                    return Err(Error::file(&path, "is a link to nothing; download it again"));
                }
                self.leave_out(name, "cannot be opened; a link to nothing?", false);
                continue;
            };
            if info.is_dir() {
                let is_link = entry.file_type().map_err(io("cannot open", &path))?.is_symlink();
                if is_link {
                    self.leave_out(name, "a link to a directory", false);
                } else if is_output(&path) || (!self.is_packed && is_output_of_0_1(&path)) {
                    self.leave_out(name, "a directory that df11 writes", false);
                } else if exclude.is_none_or(|exclude| fs::canonicalize(&path).is_ok_and(|p| p != exclude)) {
                    self.list(&name, exclude)?;
                }
            } else if info.is_file() {
                self.note_file(name, info.len());
            } else {
                self.leave_out(name, "not a regular file", false);
            }
        }
        Ok(())
    }

    fn note_file(&mut self, name: PathBuf, len: u64) {
        let is_other =
            name.extension().is_some_and(|e| OTHER_WEIGHTS.iter().any(|other| e.eq_ignore_ascii_case(other)));
        if is_weights(&name) {
            self.weights.push(name);
        } else if portable(&name).is_none() {
            self.leave_out(name, "its name is not portable text; rename it to take it along", true);
        } else if is_other && len > LARGE {
            self.leave_out(name, "weights in another form, larger than 64 MiB", true);
        } else {
            self.others.push(name);
        }
    }

    /// Opens the weight files and collects their tensors, folder by folder.
    pub(crate) fn weights(&self) -> Result<Vec<Weights>, Error> {
        if self.weights.is_empty() {
            let problem = "no .safetensors file in this directory; convert the model to safetensors first";
            return Err(Error::file(&self.path, problem));
        }
        let indices: Vec<&PathBuf> =
            self.others.iter().filter(|name| !self.is_file && is_index(name)).collect();
        let mut files = Vec::with_capacity(self.weights.len());
        for name in &self.weights {
            // Only compression has to restore names later, so it refuses names that it could not
            // restore.
            let text = portable(name).unwrap_or_else(|| name.to_string_lossy().into_owned());
            let path = if self.is_file { self.path.clone() } else { self.root.join(name) };
            files.push(WeightFile { name: text, container: self.container(name, &path)?, is_primary: false });
        }
        let mut folders: Vec<PathBuf> = self.weights.iter().map(|name| folder_of(name)).collect();
        let mut order: Vec<usize> = (0..files.len()).collect();
        let mut named: Vec<Option<BTreeMap<String, String>>> = vec![None; files.len()];
        for index in indices {
            self.apply_index(index, &mut files, &mut folders, &mut named)?;
        }
        let indexed: BTreeSet<PathBuf> = folders
            .iter()
            .zip(&files)
            .filter(|(_, file)| file.is_primary)
            .map(|(folder, _)| folder.clone())
            .collect();
        for (file, folder) in files.iter_mut().zip(&folders) {
            file.is_primary |= !indexed.contains(folder);
        }
        // The files that loaders look for first come first: shards of an index, then the shortest
        // names.
        order.sort_by_key(|&i| {
            let name = &files[i].name;
            (folders[i].clone(), !files[i].is_primary, named[i].is_none(), name.len(), name.clone())
        });
        let mut slots: Vec<Option<WeightFile>> = files.into_iter().map(Some).collect();
        let ordered =
            order.into_iter().filter_map(|i| Some((folders[i].clone(), Arc::new(slots[i].take()?))));
        self.put_together(ordered)
    }

    /// Records which files an index names.
    fn apply_index(
        &self,
        index: &Path,
        files: &mut [WeightFile],
        folders: &mut [PathBuf],
        named: &mut [Option<BTreeMap<String, String>>],
    ) -> Result<(), Error> {
        let (path, folder) = (self.root.join(index), folder_of(index));
        let wrong = |problem: String| Error::file(&path, problem);
        let text = self.text(index)?;
        let map = weight_map(&text).map_err(wrong)?;
        let mut shards: BTreeMap<String, bool> = map.values().map(|shard| (shard.clone(), false)).collect();
        if shards.is_empty() {
            return Err(Error::file(&path, "names no shards; download it again"));
        }
        let mut found = Vec::new();
        for (i, file) in files.iter().enumerate() {
            let of_folder = Path::new(&file.name).strip_prefix(&folder).ok().and_then(portable);
            if let Some(there) = of_folder.and_then(|name| shards.get_mut(&name)) {
                *there = true;
                found.push(i);
            }
        }
        if let Some((missing, _)) = shards.iter().find(|(_, there)| !**there) {
            // This index names other shards and is out of date. It is harmless if nothing that it
            // names is missing.
            let all: HashSet<&str> = (0..files.len())
                .filter(|&i| folders[i] == folder)
                .flat_map(|i| files[i].container.tensors.iter().map(|tensor| tensor.name.as_str()))
                .collect();
            if map.keys().all(|name| all.contains(name.as_str())) {
                return Ok(());
            }
            return Err(wrong(format!(
                "names the shard {missing}, which is not there; download it again, or remove the index if the \
                 model is whole without it"
            )));
        }
        for i in found {
            files[i].is_primary = true;
            folders[i].clone_from(&folder);
            named[i] = Some(BTreeMap::new());
        }
        Ok(())
    }

    /// Collects the tensors of one folder's files. A tensor whose name is taken goes to another
    /// lot.
    fn put_together(
        &self,
        files: impl Iterator<Item = (PathBuf, Arc<WeightFile>)>,
    ) -> Result<Vec<Weights>, Error> {
        let mut all: Vec<Weights> = Vec::new();
        let mut first = 0;
        for (folder, file) in files {
            if all.last().is_none_or(|last| last.folder != folder) {
                first = all.len();
                all.push(self.empty(&folder, 0)?);
            }
            // The position of the file in each lot that takes some of its tensors.
            let mut places: Vec<Option<usize>> = vec![None; all.len() - first];
            for (at, tensor) in file.container.tensors.iter().enumerate() {
                let free = all[first..].iter().position(|lot| !lot.tensors.contains_key(&tensor.name));
                let lot = free.unwrap_or(all.len() - first);
                if lot == all.len() - first {
                    all.push(self.empty(&folder, lot)?);
                    places.push(None);
                }
                let weights = &mut all[first + lot];
                let place = *places[lot].get_or_insert_with(|| {
                    weights.files.push(Arc::clone(&file));
                    weights.files.len() - 1
                });
                weights.tensors.insert(tensor.name.clone(), (place, at));
            }
            if file.container.tensors.is_empty() {
                all[first].files.push(file);
            }
        }
        all.iter_mut().for_each(|lot| lot.tensors.sort_unstable_keys());
        Ok(all)
    }

    /// Makes a lot without files.
    fn empty(&self, folder: &Path, duplicates: usize) -> Result<Weights, Error> {
        let name = folder.join(CONFIG);
        let config = if self.is_file || !self.others.contains(&name) {
            None
        } else {
            let path = self.root.join(&name);
            let text = self.text(&name)?;
            let value = config::parse(&text).map_err(|problem| Error::file(&path, problem))?;
            Some((text, value))
        };
        let path = if self.is_file { self.path.clone() } else { self.root.join(folder) };
        let (files, tensors) = (Vec::new(), IndexMap::new());
        Ok(Weights { path, folder: folder.to_owned(), files, tensors, config, duplicates })
    }
}

impl Weights {
    /// Opens what a loader of the checkpoint at `path` reads: the file itself, or the weight files
    /// that lie directly in the directory.
    pub(crate) fn open(path: &Path) -> Result<Self, Error> {
        let mut source = Source::open(path, None)?;
        if !source.is_file {
            source.weights.retain(|name| folder_of(name) == Path::new(""));
        }
        let mut all = source.weights()?;
        if let Some(twice) = all.get(1)
            && let Some((name, &(file, _))) = twice.tensors.first()
        {
            let path = &twice.files[file].container.path;
            let other = all[0].get(name).map(|(container, _)| container.path.display().to_string());
            let problem = format!("is also in {}; keep one of the two files", other.unwrap_or_default());
            return Err(Error::tensor(path, name, problem));
        }
        Ok(all.swap_remove(0))
    }

    /// Opens one file.
    pub(crate) fn of_file(path: &Path) -> Result<Self, Error> {
        Ok(Self::of_container(Container::open(path)?))
    }

    /// Takes one open file.
    pub(crate) fn of_container(container: Container) -> Self {
        let path = container.path.clone();
        let places = container.tensors.iter().enumerate().map(|(at, tensor)| (tensor.name.clone(), (0, at)));
        let mut tensors: IndexMap<_, _> = places.collect();
        tensors.sort_unstable_keys();
        let file = WeightFile { name: file_name(&path), container, is_primary: true };
        Weights {
            path,
            folder: PathBuf::new(),
            files: vec![Arc::new(file)],
            tensors,
            config: None,
            duplicates: 0,
        }
    }

    /// Finds a tensor by name, with the file that holds it.
    pub(crate) fn get(&self, name: &str) -> Option<Located<'_>> {
        self.tensors.get(name).map(|&place| self.at(place))
    }

    /// Returns the tensor at a location.
    pub(crate) fn at(&self, (file, at): (usize, usize)) -> Located<'_> {
        let container = &self.files[file].container;
        (container, &container.tensors[at])
    }

    /// Iterates over all tensors with their files, ordered by name.
    pub(crate) fn iter(&self) -> impl Iterator<Item = Located<'_>> {
        self.tensors.values().map(|&place| self.at(place))
    }

    /// Returns the parsed `config.json`, if the file exists.
    pub(crate) fn config(&self) -> Option<&Value> {
        self.config.as_ref().map(|(_, value)| value)
    }

    /// Returns the path that `config.json` has or would have.
    pub(crate) fn config_path(&self) -> PathBuf {
        self.path.join(CONFIG)
    }

    /// Tells whether a tensor is in a file that loaders look for first: one that an index names, or
    /// any file if there is no index.
    pub(crate) fn is_primary(&self, name: &str) -> bool {
        self.tensors.get(name).is_some_and(|&(file, _)| self.files[file].is_primary)
    }
}

/// Tells whether this program wrote a directory or began to.
fn is_output(path: &Path) -> bool {
    let unfinished = path.join(format!("{OURS}unfinished"));
    path.join(MANIFEST).is_file() || unfinished.is_file()
}

/// Tells whether version 0.1 wrote a directory. It recorded the originals in this file.
fn is_output_of_0_1(path: &Path) -> bool {
    let rest = path.join(format!("model{WEIGHTS}"));
    rest.is_file() && Container::open(&rest).is_ok_and(|file| file.metadata.contains_key("df11"))
}

/// Reads a text file of at most [`MAX_TEXT`] bytes.
pub(crate) fn read_text(path: &Path) -> Result<String, Error> {
    if store::is_remote(path) {
        let bytes = store::read(path, MAX_TEXT)?;
        return String::from_utf8(bytes).map_err(|_| Error::file(path, "is not UTF-8 text"));
    }
    let info = fs::metadata(path).map_err(io("cannot open", path))?;
    if !info.is_file() || info.len() > MAX_TEXT {
        return Err(Error::file(path, "is not a text file of a sensible length"));
    }
    let bytes = fs::read(path).map_err(io("cannot read", path))?;
    String::from_utf8(bytes).map_err(|_| Error::file(path, "is not UTF-8 text"))
}

/// Parses an index: the file that holds each tensor.
fn weight_map(index: &str) -> Result<BTreeMap<String, String>, String> {
    let index: Value = serde_json::from_str(index).map_err(|error| format!("is not valid JSON: {error}"))?;
    let map =
        index.get("weight_map").and_then(Value::as_object).ok_or("has no weight_map; download it again")?;
    map.iter()
        .map(|(tensor, file)| {
            let name = file.as_str().ok_or("its weight_map holds something other than file names")?;
            let inside = relative(name).filter(|_| name != CONFIG);
            inside.ok_or(format!("names a file outside its directory: {name}"))?;
            Ok((tensor.clone(), name.to_owned()))
        })
        .collect()
}
