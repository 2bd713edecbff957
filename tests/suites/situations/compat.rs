//! What earlier releases wrote is still read and restored: `spec/compat`.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use df11_model::{DecompressOptions, Reader, decompress, inspect, verify};
use sha2::{Digest, Sha256};

use crate::support::files;

#[test]
fn what_0_1_0_wrote_is_verified_read_and_restored() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../spec/compat/0.1.0");
    let text = fs::read_to_string(folder.join("originals.json")).unwrap();
    let originals: BTreeMap<String, BTreeMap<String, String>> = serde_json::from_str(&text).unwrap();
    assert_eq!(originals.len(), 4);
    for (name, expected) in originals {
        let (packed, temp) = (folder.join(&name), tempfile::tempdir().unwrap());
        let verified = verify(&packed, None, 1, &()).unwrap();
        assert_eq!(verified.digests_missing, 0, "{name}");
        assert!(inspect(&packed, None, 1).unwrap().compressed);
        let reader = Reader::open(&packed).unwrap();
        for tensor in reader.tensors() {
            reader.decode_into(tensor.name(), &mut vec![0; tensor.bytes() as usize]).unwrap();
        }
        let back = temp.path().join("back");
        let report = decompress(&packed, &back, &DecompressOptions::default(), &()).unwrap();
        assert!(report.original_restored && report.warnings.is_empty(), "{name}: {report:?}");
        let restored = files(&back);
        let digests: BTreeMap<String, String> =
            restored.iter().map(|(name, bytes)| (name.clone(), hex::encode(Sha256::digest(bytes)))).collect();
        assert_eq!(digests, expected, "{name}");
    }
}

#[test]
fn lies_in_records_of_0_1_0_are_errors() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("../spec/compat/0.1.0/frames.safetensors");
    let sound = fs::read(source).unwrap();
    type Lie = fn(&mut serde_json::Value);
    let lies: [Lie; 5] = [
        |m| m["checkpoint"]["files"] = serde_json::json!([]),
        |m| {
            m["checkpoint"]["index"] = serde_json::json!({"name": "i.json", "text": "{}", "sha256": ""});
            m["checkpoint"]["files"] = serde_json::json!([]);
        },
        |m| m["checkpoint"]["files"][0]["text"] = serde_json::json!("{}"),
        |m| m["checkpoint"]["files"][0]["name"] = serde_json::json!("../evil.safetensors"),
        |m| m["tensors"][1]["dtype"] = serde_json::json!("I32"),
    ];
    for (i, lie) in lies.into_iter().enumerate() {
        let temp = tempfile::tempdir().unwrap();
        let packed = temp.path().join("p.safetensors");
        let changed = crate::support::with_header(&sound, |header| {
            let mut header: serde_json::Value = serde_json::from_str(&header).unwrap();
            let text = header["__metadata__"]["df11"].as_str().unwrap();
            let mut metadata: serde_json::Value = serde_json::from_str(text).unwrap();
            lie(&mut metadata);
            let checkpoint = metadata["checkpoint"].as_object_mut().unwrap();
            let (files, index) = (checkpoint["files"].clone(), checkpoint.get("index").cloned());
            let mut texts: Vec<_> = files.as_array().unwrap().iter().cloned().chain(index).collect();
            for file in &mut texts {
                let bytes = format!("{}\0{}", file["name"].as_str().unwrap(), file["text"].as_str().unwrap());
                file["sha256"] = hex::encode(Sha256::digest(bytes)).into();
            }
            let files = files.as_array().unwrap().len();
            if let Some(index) = texts.get(files) {
                checkpoint["index"] = index.clone();
            }
            texts.truncate(files);
            checkpoint["files"] = texts.into();
            header["__metadata__"]["df11"] = metadata.to_string().into();
            header.to_string()
        });
        fs::write(&packed, changed).unwrap();
        let out = temp.path().join("out");
        decompress(&packed, &out, &DecompressOptions::default(), &()).unwrap_err();
        // One file alone may be the rest of a directory. What the record leaves out is noticed on
        // restoring.
        assert!(verify(&packed, None, 1, &()).is_err() || i == 2);
        assert!(!temp.path().join("evil.safetensors").exists());
        assert!(!out.exists() || files(&out).is_empty());
    }
}
