//! Checkpoints that another program wrote, changed or took apart.

use std::fs;

use df11_model::{
    CompressOptions, DecompressOptions, PatternDict, Reader, ReaderTensor, compress, decompress, inspect,
    verify,
};
use df11_tests::corpus::{read, write};
use df11_tests::fixtures;
use serde_json::{Value, json};

use crate::support::{llama, llama_config, model, reads_as, there_and_back};

#[test]
fn foreign_models_give_plain_tensors_with_shapes_from_the_config() {
    let tensors = llama(2);
    let model = model(&tensors, Some(&llama_config()), 1);
    let temp = tempfile::tempdir().unwrap();
    let (packed, restored) = (temp.path().join("packed"), temp.path().join("restored"));
    compress(model.path(), &packed, &CompressOptions::default(), &()).unwrap();
    // Another program's files have no metadata.
    for path in fs::read_dir(&packed).unwrap().map(|entry| entry.unwrap().path()) {
        if path.extension().is_some_and(|e| e == "safetensors") {
            write(&path, &read(&path));
        }
    }
    fs::remove_file(packed.join("df11.json")).unwrap();
    let verified = verify(&packed, Some(model.path()), 0, &()).unwrap();
    assert_eq!((verified.digests_checked, verified.digests_missing), (0, tensors.len()));
    let report = decompress(&packed, &restored, &DecompressOptions::default(), &()).unwrap();
    assert!(!report.original_restored);
    assert_eq!(report.warnings, Vec::<String>::new());
    assert_eq!(read(&restored.join("model.safetensors")), tensors);
    let config: Value = serde_json::from_slice(&fs::read(restored.join("config.json")).unwrap()).unwrap();
    assert_eq!(config, llama_config());

    reads_as(&packed, model.path());

    // With a config of no known family, the bits are restored, in one dimension, with a warning.
    let config = fs::read_to_string(packed.join("config.json")).unwrap().replace("\"llama\"", "\"other\"");
    fs::write(packed.join("config.json"), config).unwrap();
    let report = decompress(&packed, temp.path().join("flat"), &DecompressOptions::default(), &()).unwrap();
    assert_eq!(report.warnings.len(), 1);
    let flat = read(&temp.path().join("flat/model.safetensors"));
    assert!(flat.iter().all(|(name, tensor)| tensor.bytes == tensors[name].bytes));
    assert_eq!(flat["model.layers.0.mlp.up_proj.weight"].shape, [128 * 64]);
}

#[test]
fn every_fixture_is_verified_and_restored() {
    let temp = tempfile::tempdir().unwrap();
    for fixture in fixtures::all() {
        verify(&fixture.path, None, 0, &()).unwrap();
        let out = temp.path().join(format!("{}.safetensors", fixture.name));
        let report = decompress(&fixture.path, &out, &DecompressOptions::default(), &()).unwrap();
        let restored = read(&out);
        let count = fixture.manifest["tensors"].as_u64().unwrap() as usize;
        assert_eq!(restored.len(), count);
        assert_eq!(report.warnings.len(), if count > 1 { 2 } else { 1 }, "{:?}", report.warnings);
        use sha2::{Digest, Sha256};
        let all: Vec<u8> = restored.values().flat_map(|tensor| tensor.bytes.clone()).collect();
        assert_eq!(hex::encode(Sha256::digest(all)), fixture.sha256());
        let inspected = inspect(&fixture.path, None, 0).unwrap();
        assert!(inspected.compressed);
        assert_eq!(inspected.units[0].short_output_positions, fixture.name == "short_output_positions");
    }
    // With a dictionary the tensors have their names.
    let dict: PatternDict = serde_json::from_value(json!({"unit": ["w0", "w1"]})).unwrap();
    let reader =
        Reader::open_with(fixtures::directory().join("real_two_tensors.df11.safetensors"), Some(&dict))
            .unwrap();
    assert_eq!(
        reader.tensors().map(ReaderTensor::name).collect::<Vec<_>>(),
        ["unit.w0.weight", "unit.w1.weight"]
    );
    let options = DecompressOptions::default().pattern_dict(dict);
    let out = temp.path().join("named.safetensors");
    decompress(fixtures::directory().join("real_two_tensors.df11.safetensors"), &out, &options, &()).unwrap();
    let original = read(&fixtures::original("real_two_tensors"));
    let named = read(&out);
    assert_eq!(named.keys().collect::<Vec<_>>(), original.keys().collect::<Vec<_>>());
    assert!(named.iter().all(|(name, tensor)| tensor.bytes == original[name].bytes));
}

#[test]
fn one_file_of_a_checkpoint_gives_its_tensors_with_their_shapes() {
    let tensors = llama(2);
    let model = model(&tensors, Some(&llama_config()), 1);
    let temp = tempfile::tempdir().unwrap();
    let packed = temp.path().join("packed");
    compress(model.path(), &packed, &CompressOptions::default(), &()).unwrap();
    let out = temp.path().join("layer.safetensors");
    let report =
        decompress(packed.join("model_layers_1.safetensors"), &out, &DecompressOptions::default(), &())
            .unwrap();
    assert!(!report.original_restored && report.warnings.is_empty());
    let layer = read(&out);
    assert_eq!(layer.len(), 8);
    assert!(layer.iter().all(|(name, tensor)| tensors[name] == *tensor));
}

#[test]
fn a_config_changed_after_compression_still_loses_our_key() {
    let model = model(&llama(1), Some(&llama_config()), 1);
    let (temp, _) = there_and_back(model.path(), &CompressOptions::default());
    let packed = temp.path().join("packed");
    let config = fs::read_to_string(packed.join("config.json")).unwrap();
    fs::write(packed.join("config.json"), config.replace("300", "301")).unwrap();
    let report = decompress(&packed, temp.path().join("again"), &DecompressOptions::default(), &()).unwrap();
    assert_eq!(report.warnings.len(), 1);
    let restored: Value =
        serde_json::from_slice(&fs::read(temp.path().join("again/config.json")).unwrap()).unwrap();
    assert_eq!(restored["vocab_size"], 301);
    assert_eq!(restored.get("dfloat11_config"), None);
}
