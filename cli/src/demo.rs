//! The demonstration: real weights, the whole way there and back.

use std::fs;
use std::path::Path;

use df11_model::{
    CompressOptions, CompressReport, DecompressOptions, Error, VerifyReport, compress, decompress, verify,
};
use serde::Serialize;
use tempfile::TempDir;

/// The checkpoint that ships with the program: two attention matrices of all-MiniLM-L6-v2 with their neighbours, in two
/// shards. `demo/NOTICE` tells where it comes from.
const FILES: [(&str, &[u8]); 4] = [
    ("config.json", include_bytes!("../demo/config.json")),
    ("model-00001-of-00002.safetensors", include_bytes!("../demo/model-00001-of-00002.safetensors")),
    ("model-00002-of-00002.safetensors", include_bytes!("../demo/model-00002-of-00002.safetensors")),
    ("model.safetensors.index.json", include_bytes!("../demo/model.safetensors.index.json")),
];

/// What the demonstration did.
#[derive(Serialize)]
pub(crate) struct DemoReport {
    pub(crate) compress: CompressReport,
    pub(crate) verify: VerifyReport,
    /// Files that came back byte for byte.
    pub(crate) identical: Vec<String>,
}

/// Writes the checkpoint into a new directory.
pub(crate) fn write_model(model: &Path) -> Result<(), Error> {
    fs::create_dir(model).map_err(io("cannot create", model))?;
    FILES.iter().try_for_each(|(name, bytes)| {
        let path = model.join(name);
        fs::write(&path, bytes).map_err(io("cannot write", &path))
    })
}

pub(crate) fn temporary_directory() -> Result<TempDir, Error> {
    tempfile::tempdir().map_err(io("cannot create a directory in", &std::env::temp_dir()))
}

fn io(action: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Error {
    let path = path.to_owned();
    move |source| Error::Io { action, path, source }
}

pub(crate) fn run(threads: usize) -> Result<DemoReport, Error> {
    let temp = temporary_directory()?;
    let [model, packed, restored] = ["model", "packed", "restored"].map(|name| temp.path().join(name));
    write_model(&model)?;

    let options = CompressOptions { threads, ..CompressOptions::default() };
    let compress = compress(&model, &packed, &options, &())?;
    let verify = verify(&packed, Some(&model), threads, &())?;
    decompress(&packed, &restored, &DecompressOptions { threads, ..DecompressOptions::default() }, &())?;

    let mut identical = Vec::new();
    for (name, bytes) in FILES {
        let path = restored.join(name);
        if fs::read(&path).map_err(io("cannot read", &path))? != bytes {
            return Err(Error::File { path, problem: "differs from the original".to_owned() });
        }
        identical.push(name.to_owned());
    }
    Ok(DemoReport { compress, verify, identical })
}
