//! Models, and what is done with them.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use df11_model::{Codec, CompressOptions, CompressReport, DecompressOptions, compress, decompress, verify};
use df11_tests::corpus::{Tensor, Tensors, write};
use df11_tests::weights::like_trained;
use safetensors::tensor::{Dtype, TensorView, serialize};
use serde_json::json;
use tempfile::TempDir;

pub(crate) const CODECS: [Codec; 3] = [Codec::Df11, Codec::Rans, Codec::Auto];

/// Returns all files below a directory, by name, except for those of an unfinished run.
pub(crate) fn files(directory: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut all = BTreeMap::new();
    let mut open = vec![directory.to_owned()];
    while let Some(next) = open.pop() {
        for entry in fs::read_dir(next).unwrap() {
            let path = entry.unwrap().path();
            let name = path.strip_prefix(directory).unwrap().to_string_lossy().into_owned();
            if path.is_dir() {
                open.push(path);
            } else if !name.starts_with(".df11-") {
                all.insert(name, fs::read(&path).unwrap());
            }
        }
    }
    all
}

pub(crate) fn with(codec: Codec) -> CompressOptions {
    CompressOptions::default().codec(codec)
}

pub(crate) fn forced() -> DecompressOptions {
    DecompressOptions::default().force(true)
}

/// Compresses, verifies in both directions, restores, and compares every file.
#[track_caller]
pub(crate) fn there_and_back(model: &Path, options: &CompressOptions) -> (TempDir, CompressReport) {
    let temp = tempfile::tempdir().unwrap();
    let (packed, back) = (temp.path().join("packed"), temp.path().join("back"));
    let report = compress(model, &packed, options, &()).unwrap();
    assert!(!report.nothing_to_gain);
    verify(&packed, Some(model), 0, &()).unwrap();
    let restored = decompress(&packed, &back, &DecompressOptions::default(), &()).unwrap();
    assert!(restored.original_restored, "{restored:?}");
    same(model, &back);
    (temp, report)
}

/// Compares two directories, file by file.
#[track_caller]
pub(crate) fn same(a: &Path, b: &Path) {
    let (a, b) = (files(a), files(b));
    assert_eq!(a.keys().collect::<Vec<_>>(), b.keys().collect::<Vec<_>>());
    for (name, bytes) in a {
        assert!(b[&name] == bytes, "{name} differs");
    }
}

pub(crate) fn matrix(rows: usize, columns: usize, seed: u64) -> Tensor {
    Tensor::bf16(&[rows, columns], &like_trained(rows * columns, seed))
}

/// Makes a tensor of another type whose bytes can be coded.
pub(crate) fn of_type(dtype: Dtype, shape: &[usize], seed: u64) -> Tensor {
    let bytes = shape.iter().product::<usize>() * dtype.bitsize() / 8;
    let weights = like_trained(bytes, seed);
    let bytes = match dtype {
        Dtype::F32 => {
            weights[..bytes / 4].iter().flat_map(|bits| (u32::from(*bits) << 16).to_le_bytes()).collect()
        }
        _ => weights[..bytes].iter().map(|bits| (bits >> 8) as u8).collect(),
    };
    Tensor { dtype, shape: shape.to_vec(), bytes }
}

/// Makes blocks of two matrices each.
pub(crate) fn blocks(prefix: &str, number: usize) -> Tensors {
    let mut tensors = Tensors::new();
    for i in 0..number {
        tensors.insert(format!("{prefix}.{i}.up.weight"), matrix(64, 96, i as u64));
        tensors.insert(format!("{prefix}.{i}.down.weight"), matrix(96, 64, 100 + i as u64));
        tensors.insert(format!("{prefix}.{i}.norm.weight"), Tensor::bf16(&[96], &like_trained(96, 7)));
    }
    tensors
}

/// Makes a model in a directory: blocks, a config, a tokenizer.
pub(crate) fn model() -> TempDir {
    let temp = tempfile::tempdir().unwrap();
    write(&temp.path().join("model.safetensors"), &blocks("layers", 3));
    text(temp.path(), "config.json", "{\n  \"model_type\": \"x\"\n}\n");
    text(temp.path(), "tokenizer.json", "{\"version\": \"1.0\"}\n");
    temp
}

/// Writes a text, and the folders above it.
pub(crate) fn text(directory: &Path, name: &str, content: &str) {
    let path = directory.join(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, content).unwrap();
}

/// Writes weights, and the folders above them.
pub(crate) fn weights(directory: &Path, name: &str, tensors: &Tensors) {
    let path = directory.join(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    write(&path, tensors);
}

/// Writes weights with metadata of their own.
pub(crate) fn weights_with(path: &Path, tensors: &Tensors, metadata: &[(&str, &str)]) {
    let views = tensors.iter().map(|(name, tensor)| {
        (name.as_str(), TensorView::new(tensor.dtype, tensor.shape.clone(), &tensor.bytes).unwrap())
    });
    let metadata = metadata.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
    fs::write(path, serialize(views, Some(metadata.collect())).unwrap()).unwrap();
}

/// Writes shards with an index: tensors of each part to a file of its own.
pub(crate) fn shards(directory: &Path, stem: &str, parts: &[Tensors]) {
    fs::create_dir_all(directory).unwrap();
    let mut map = serde_json::Map::new();
    for (i, part) in parts.iter().enumerate() {
        let name = format!("{stem}-{:05}-of-{:05}.safetensors", i + 1, parts.len());
        write(&directory.join(&name), part);
        part.keys().for_each(|tensor| drop(map.insert(tensor.clone(), json!(name))));
    }
    let index = json!({"metadata": {"total_size": 1}, "weight_map": map});
    text(directory, &format!("{stem}.safetensors.index.json"), &format!("{index:#}\n"));
}

/// The header of a file, and where its data begin.
pub(crate) fn header(bytes: &[u8]) -> (String, usize) {
    let end = 8 + u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    (String::from_utf8(bytes[8..end].to_vec()).unwrap(), end)
}

/// A file with another header.
pub(crate) fn with_header(bytes: &[u8], change: impl FnOnce(String) -> String) -> Vec<u8> {
    let (old, end) = header(bytes);
    let new = change(old);
    let mut changed = (new.len() as u64).to_le_bytes().to_vec();
    changed.extend(new.as_bytes());
    changed.extend(&bytes[end..]);
    changed
}

/// Runs the command.
pub(crate) fn df11(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_df11")).args(args).output().unwrap()
}

/// Runs the command in a shell, under limits.
#[cfg(unix)]
pub(crate) fn under(limits: &str, args: &[&str]) -> Output {
    let script = format!("{limits}; exec \"$0\" \"$@\"");
    Command::new("sh").args(["-c", &script, env!("CARGO_BIN_EXE_df11")]).args(args).output().unwrap()
}

pub(crate) fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

pub(crate) fn path(path: &Path) -> &str {
    path.to_str().unwrap()
}
