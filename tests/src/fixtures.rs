//! The units that the official encoder wrote.

use std::path::{Path, PathBuf};

use df11::Parts;
use safetensors::SafeTensors;
use serde_json::Value;

/// Returns the directory of the fixtures.
#[must_use]
pub fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../spec/vectors/official-0.5.0")
}

/// Returns the original of a fixture, which is kept for two of them.
#[must_use]
pub fn original(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("fixtures/{name}.bf16.safetensors"))
}

/// A fixture: its name, its entry in the manifest, and its bytes.
#[derive(Debug)]
pub struct Fixture {
    /// The name in the manifest.
    pub name: String,
    /// The entry in the manifest.
    pub manifest: Value,
    /// The file with the unit.
    pub path: PathBuf,
    bytes: Vec<u8>,
}

/// All fixtures; seven.
#[must_use]
pub fn all() -> Vec<Fixture> {
    let text = std::fs::read_to_string(directory().join("manifest.json")).unwrap();
    let manifest: Value = serde_json::from_str(&text).unwrap();
    let cases = manifest["cases"].as_object().unwrap();
    let fixtures: Vec<_> = cases
        .iter()
        .map(|(name, entry)| {
            let path = directory().join(format!("{name}.df11.safetensors"));
            let bytes = std::fs::read(&path).unwrap();
            Fixture { name: name.clone(), manifest: entry.clone(), path, bytes }
        })
        .collect();
    assert_eq!(fixtures.len(), 7);
    fixtures
}

impl Fixture {
    /// Calls `f` with the tensors of the unit.
    pub fn with_unit<T>(&self, f: impl FnOnce(Parts<&[u8]>) -> T) -> T {
        let file = SafeTensors::deserialize(&self.bytes).unwrap();
        let tensor = |key: &str| file.tensor(&format!("unit.{key}")).unwrap().data();
        f(Parts {
            luts: tensor("luts"),
            encoded_exponent: tensor("encoded_exponent"),
            sign_mantissa: tensor("sign_mantissa"),
            output_positions: tensor("output_positions"),
            gaps: tensor("gaps"),
            split_positions: tensor("split_positions"),
        })
    }

    /// Returns the digest of the weights that the unit must decode to.
    #[must_use]
    pub fn sha256(&self) -> &str {
        self.manifest["sha256_bf16"].as_str().unwrap()
    }
}
