//! A checkpoint: one safetensors file, or a directory in Hugging Face form.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::config;
use crate::container::{Container, Located};
use crate::error::{Error, io};

/// Files above this size are not copied along: they are weights in another form, not tokenizers.
const MAX_COPIED: u64 = 64 << 20;

/// Endings of weights in other forms, which are not copied along.
const OTHER_WEIGHTS: [&str; 9] = ["bin", "pt", "pth", "ckpt", "h5", "msgpack", "onnx", "gguf", "safetensors"];

/// The file that tells what a model is.
pub(crate) const CONFIG: &str = "config.json";

/// How the names of files begin that are ours while a run lasts.
pub(crate) const OURS: &str = ".df11-";

/// The ending of the file that says which tensor is in which shard.
pub(crate) const INDEX: &str = ".safetensors.index.json";

/// An open checkpoint. Headers are read; weights are mapped when they are needed.
#[derive(Debug)]
pub(crate) struct Checkpoint {
    /// The directory, or the file if the checkpoint is one file.
    pub(crate) path: PathBuf,
    pub(crate) files: Vec<Container>,
    /// Where each tensor is: file and position in it.
    pub(crate) tensors: BTreeMap<String, (usize, usize)>,
    /// Name and text of the index, if there is one.
    pub(crate) index: Option<(String, String)>,
    /// The text of `config.json`, if there is one, and what it says.
    pub(crate) config: Option<(String, Value)>,
    /// Files beside the weights that belong to the model, by their paths in the directory.
    pub(crate) companions: Vec<PathBuf>,
    /// Files that are left behind, with the reason.
    pub(crate) left_behind: Vec<(PathBuf, &'static str)>,
}

impl Checkpoint {
    /// Opens a checkpoint.
    ///
    /// `exclude` is a directory that is not part of it, even if it lies inside: the output.
    pub(crate) fn open(path: &Path, exclude: Option<&Path>) -> Result<Self, Error> {
        if path == Path::new("-") {
            return Err(Error::Usage(
                "weights are memory-mapped and cannot come through a pipe; save them to a file first"
                    .to_owned(),
            ));
        }
        let info = fs::metadata(path).map_err(io("cannot open", path))?;
        let mut checkpoint = Checkpoint {
            path: path.to_owned(),
            files: Vec::new(),
            tensors: BTreeMap::new(),
            index: None,
            config: None,
            companions: Vec::new(),
            left_behind: Vec::new(),
        };
        if info.is_dir() {
            checkpoint.open_directory(exclude)?;
        } else {
            checkpoint.files.push(Container::open(path)?);
        }
        for (file, container) in checkpoint.files.iter().enumerate() {
            for (at, tensor) in container.tensors.iter().enumerate() {
                if let Some((other, _)) = checkpoint.tensors.insert(tensor.name.clone(), (file, at)) {
                    let other = checkpoint.files[other].path.display();
                    return Err(Error::tensor(
                        &container.path,
                        &tensor.name,
                        format!("is also in {other}; keep one of the two files"),
                    ));
                }
            }
        }
        Ok(checkpoint)
    }

    fn open_directory(&mut self, exclude: Option<&Path>) -> Result<(), Error> {
        let root = self.path.clone();
        let exclude = exclude.and_then(|path| fs::canonicalize(path).ok());
        let mut names = Vec::new();
        list(&root, Path::new(""), exclude.as_deref(), &mut names, &mut self.left_behind)?;
        names.sort();

        let at_root = |name: &PathBuf| name.parent() == Some(Path::new(""));
        let is_weights = |name: &PathBuf| name.extension().is_some_and(|e| e == "safetensors");
        let is_index = |name: &PathBuf| name.to_string_lossy().ends_with(INDEX);
        let mut weights: Vec<_> = names.iter().filter(|n| at_root(n) && is_weights(n)).cloned().collect();
        let indices: Vec<_> = names.iter().filter(|n| at_root(n) && is_index(n)).cloned().collect();

        match indices.as_slice() {
            [] => {}
            [name] => {
                let path = root.join(name);
                let text = read_text(&path)?;
                let shards = shards(&text).map_err(|problem| Error::file(&path, problem))?;
                if shards.is_empty() {
                    return Err(Error::file(&path, "names no shards; download it again"));
                }
                if let Some(missing) = shards.iter().find(|shard| !weights.contains(&PathBuf::from(shard))) {
                    let problem = format!("names the shard {missing}, which is not there; download it again");
                    return Err(Error::file(&path, problem));
                }
                weights.retain(|name| shards.contains(&*name.to_string_lossy()));
                self.index = Some((name.to_string_lossy().into_owned(), text));
            }
            [a, b, ..] => {
                return Err(Error::file(
                    &root,
                    format!(
                        "two indices, {} and {}; pass one of the weight files instead",
                        a.display(),
                        b.display()
                    ),
                ));
            }
        }
        if weights.is_empty() {
            let deeper = names.iter().find(|name| is_weights(name)).and_then(|name| name.parent());
            let advice = deeper.map_or_else(
                || "convert the model to safetensors first".to_owned(),
                |parent| format!("but {} has some; pass that directory", root.join(parent).display()),
            );
            return Err(Error::file(&root, format!("no .safetensors file in this directory; {advice}")));
        }
        for name in &weights {
            self.files.push(Container::open(&root.join(name))?);
        }
        for name in names {
            if weights.contains(&name) || (at_root(&name) && is_index(&name)) {
                continue;
            }
            let path = root.join(&name);
            if at_root(&name) && file_name(&name).starts_with(OURS) {
                continue; // of an unfinished run
            }
            if name == Path::new(CONFIG) {
                let text = read_text(&path)?;
                let value = config::parse(&text).map_err(|problem| Error::file(&path, problem))?;
                self.config = Some((text, value));
                continue;
            }
            let info = fs::metadata(&path).map_err(io("cannot open", &path))?;
            if name.extension().is_some_and(|e| OTHER_WEIGHTS.iter().any(|other| e == *other)) {
                self.left_behind.push((name, "weights that the model's safetensors files do not include"));
            } else if info.len() > MAX_COPIED {
                self.left_behind.push((name, "larger than 64 MiB"));
            } else {
                self.companions.push(name);
            }
        }
        Ok(())
    }

    /// A tensor by name, with the file it is in.
    pub(crate) fn get(&self, name: &str) -> Option<Located<'_>> {
        let &(file, at) = self.tensors.get(name)?;
        Some((&self.files[file], &self.files[file].tensors[at]))
    }

    /// All tensors with their files, by name.
    pub(crate) fn iter(&self) -> impl Iterator<Item = Located<'_>> {
        self.tensors.values().map(|&(file, at)| (&self.files[file], &self.files[file].tensors[at]))
    }

    /// What `config.json` says, if there is one.
    pub(crate) fn config(&self) -> Option<&Value> {
        self.config.as_ref().map(|(_, value)| value)
    }
}

/// The name of a file, as text.
pub(crate) fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

fn read_text(path: &Path) -> Result<String, Error> {
    let bytes = fs::read(path).map_err(io("cannot read", path))?;
    String::from_utf8(bytes).map_err(|_| Error::file(path, "is not UTF-8 text"))
}

/// The files that an index names.
fn shards(index: &str) -> Result<BTreeSet<String>, String> {
    let index: Value = serde_json::from_str(index).map_err(|error| format!("is not valid JSON: {error}"))?;
    let map =
        index.get("weight_map").and_then(Value::as_object).ok_or("has no weight_map; download it again")?;
    map.values()
        .map(|file| {
            let name = file.as_str().ok_or("its weight_map holds something other than file names")?;
            plain_name(name).map(str::to_owned).ok_or(format!("names a file outside its directory: {name}"))
        })
        .collect()
}

/// The name, if it is nothing but a file's name: a text from a file must not lead out of its directory, nor to the files
/// that a run needs for itself.
pub(crate) fn plain_name(name: &str) -> Option<&str> {
    let mut parts = Path::new(name).components();
    let normal = matches!((parts.next(), parts.next()), (Some(std::path::Component::Normal(_)), None));
    (normal && !name.contains(['/', '\\', '\0']) && !name.starts_with(OURS) && name != CONFIG).then_some(name)
}

/// Lists the regular files below `root.join(below)`, but for hidden ones, and what else is there and stays behind.
fn list(
    root: &Path,
    below: &Path,
    exclude: Option<&Path>,
    out: &mut Vec<PathBuf>,
    left_behind: &mut Vec<(PathBuf, &'static str)>,
) -> Result<(), Error> {
    let dir = root.join(below);
    for entry in fs::read_dir(&dir).map_err(io("cannot list", &dir))? {
        let entry = entry.map_err(io("cannot list", &dir))?;
        let name = below.join(entry.file_name());
        if file_name(&name).starts_with('.') && name != Path::new(".gitattributes") {
            if !file_name(&name).starts_with(OURS) {
                left_behind.push((name, "hidden"));
            }
            continue;
        }
        let path = root.join(&name);
        // Models in download caches are links to files: follow those, but no links to directories, which may be loops.
        let Ok(info) = fs::metadata(&path) else {
            left_behind.push((name, "cannot be opened; a link to nothing?"));
            continue;
        };
        if info.is_dir() {
            if entry.file_type().map_err(io("cannot open", &path))?.is_symlink() {
                left_behind.push((name, "a link to a directory"));
            } else if exclude.is_none_or(|exclude| fs::canonicalize(&path).is_ok_and(|path| path != exclude))
            {
                list(root, &name, exclude, out, left_behind)?;
            }
        } else if info.is_file() {
            out.push(name);
        } else {
            left_behind.push((name, "not a regular file"));
        }
    }
    Ok(())
}
