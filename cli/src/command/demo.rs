//! `df11 demo`: compresses, verifies and restores real weights.

use std::fs;
use std::path::Path;

use df11_model::{
    CompressOptions, CompressReport, DecompressOptions, Error, VerifyReport, bf16_weights, decompress,
};
use serde::Serialize;
use tempfile::TempDir;

use super::{compress, verify};
use crate::output::{Output, Verdict};

/// The checkpoint that ships with the program: two attention matrices of all-MiniLM-L6-v2 with
/// their neighbours, in two shards. `demo/NOTICE` names its origin.
const FILES: [(&str, &[u8]); 4] = [
    ("config.json", include_bytes!("../../demo/config.json")),
    ("model-00001-of-00002.safetensors", include_bytes!("../../demo/model-00001-of-00002.safetensors")),
    ("model-00002-of-00002.safetensors", include_bytes!("../../demo/model-00002-of-00002.safetensors")),
    ("model.safetensors.index.json", include_bytes!("../../demo/model.safetensors.index.json")),
];

/// The result of the demonstration.
#[derive(Serialize)]
struct DemoReport {
    compress: CompressReport,
    verify: VerifyReport,
    /// Files that were restored byte for byte.
    identical: Vec<String>,
}

/// Writes the checkpoint into a new directory.
fn write_model(model: &Path) -> Result<(), Error> {
    fs::create_dir(model).map_err(io("cannot create", model))?;
    FILES.iter().try_for_each(|(name, bytes)| {
        let path = model.join(name);
        fs::write(&path, bytes).map_err(io("cannot write", &path))
    })
}

fn temporary_directory() -> Result<TempDir, Error> {
    tempfile::tempdir().map_err(io("cannot create a directory in", &std::env::temp_dir()))
}

fn io(action: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Error {
    let path = path.to_owned();
    move |source| Error::Io { action, path, source }
}

pub(crate) fn run(output: &Output) -> Result<Verdict, Error> {
    let report = demonstrate(output.threads)?;
    output.show(&report, || to_text(&report))
}

fn demonstrate(threads: usize) -> Result<DemoReport, Error> {
    let temp = temporary_directory()?;
    let [model, packed, restored] = ["model", "packed", "restored"].map(|name| temp.path().join(name));
    write_model(&model)?;

    let options = CompressOptions::default().threads(threads);
    let compress = df11_model::compress(&model, &packed, &options, &())?;
    let verify = df11_model::verify(&packed, Some(&model), threads, &())?;
    decompress(&packed, &restored, &DecompressOptions::default().threads(threads), &())?;

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

/// Returns the BF16 weights that ship with the program.
pub(crate) fn weights() -> Result<Vec<u8>, Error> {
    let temp = temporary_directory()?;
    let model = temp.path().join("model");
    write_model(&model)?;
    bf16_weights(&model)
}

fn to_text(report: &DemoReport) -> String {
    let mut out = compress::compressed(&report.compress) + &verify::verified(&report.verify);
    let DemoReport { identical, .. } = report;
    out += &format!("restored: {} files identical ({})\n", identical.len(), identical.join(", "));
    out
}
