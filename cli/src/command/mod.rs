//! The commands of the program. Each file holds one command: its arguments, its work (a thin layer
//! over the libraries) and its text.

use std::fs;
use std::path::Path;

use df11_model::{Error, PatternDict};

pub(crate) mod bench;
pub(crate) mod compress;
pub(crate) mod decompress;
pub(crate) mod demo;
pub(crate) mod gpu;
#[cfg(all(target_os = "linux", feature = "gpu"))]
mod gpu_device;
#[cfg(all(target_os = "linux", feature = "gpu"))]
mod gpu_model;
mod gpu_report;
pub(crate) mod inspect;
pub(crate) mod judge;
mod judge_fuzz;
mod kernel;
pub(crate) mod lint;
pub(crate) mod transcode;
pub(crate) mod verify;

/// Reads a pattern dictionary: the dictionary itself, or a config that contains one.
fn read_dict(path: Option<&Path>) -> Result<Option<PatternDict>, Error> {
    let Some(path) = path else { return Ok(None) };
    let text = fs::read(path).map_err(|source| Error::Io {
        action: "cannot read",
        path: path.to_owned(),
        source,
    })?;
    let wrong = |error: serde_json::Error| {
        let what = "is not a pattern dictionary (an object of patterns, each with a list of sub-modules)";
        Error::Usage(format!("{} {what}: {error}", path.display()))
    };
    let mut value: serde_json::Value = serde_json::from_slice(&text).map_err(wrong)?;
    for key in ["dfloat11_config", "pattern_dict"] {
        if let Some(inner) = value.get_mut(key).filter(|inner| inner.is_object()) {
            value = inner.take();
        }
    }
    serde_json::from_value(value).map(Some).map_err(wrong)
}
