//! Checkpoints are restored byte for byte, whatever the model, the layout of its files and the
//! number of threads.

use std::fs;

use df11_model::{
    Codec, CompressOptions, DecompressOptions, ErrorKind, compress, decompress, inspect, verify,
};
use df11_tests::corpus::{Tensors, read, write};
use df11_tests::weights::like_trained;
use safetensors::tensor::Dtype;
use serde_json::{Value, json};

use crate::support::{files, llama, llama_config, matrix, mixed, model, there_and_back};

#[test]
fn a_known_family_in_shards_comes_back_byte_for_byte() {
    let model = model(&llama(3), Some(&llama_config()), 3);
    let (packed, report) = there_and_back(model.path(), &CompressOptions::default());
    assert_eq!(report.units_from, "model family llama-3.3-70b");
    let units: Vec<_> = report.units.iter().map(|unit| (unit.path.as_str(), unit.tensors)).collect();
    let layers = [0, 1, 2].map(|i| format!("model.layers.{i}"));
    assert_eq!(
        units,
        [("lm_head", 1), ("model.embed_tokens", 1), (&layers[0], 7), (&layers[1], 7), (&layers[2], 7)]
    );
    let packed = files(&packed.path().join("packed"));
    let names: Vec<_> = packed.keys().map(String::as_str).collect();
    assert_eq!(
        names,
        [
            "1_Pooling/config.json",
            "config.json",
            "df11.json",
            "lm_head.safetensors",
            "model.safetensors",
            "model_embed_tokens.safetensors",
            "model_layers_0.safetensors",
            "model_layers_1.safetensors",
            "model_layers_2.safetensors",
            "tokenizer.json",
        ]
    );
    // A layer's norm is beside its unit, the final norm with the rest.
    let temp = tempfile::tempdir().unwrap();
    fs::write(temp.path().join("layer"), &packed["model_layers_1.safetensors"]).unwrap();
    let layer = read(&temp.path().join("layer"));
    assert!(layer.contains_key("model.layers.1.input_layernorm.weight"));
    assert_eq!(layer["model.layers.1.luts"].shape[1], 256);
    assert_eq!(layer["model.layers.1.split_positions"].dtype, Dtype::I64);
    assert_eq!(layer["model.layers.1.split_positions"].shape, [6]);
    assert_eq!(layer.len(), 7);
    fs::write(temp.path().join("rest"), &packed["model.safetensors"]).unwrap();
    assert_eq!(read(&temp.path().join("rest")).keys().collect::<Vec<_>>(), ["model.norm.weight"]);
    let config: Value = serde_json::from_slice(&packed["config.json"]).unwrap();
    assert_eq!(config["dfloat11_config"]["version"], "0.5.0");
    assert_eq!(config["dfloat11_config"]["threads_per_block"], json!([512]));
    assert_eq!(config["dfloat11_config"]["bytes_per_thread"], 8);
    assert_eq!(config["dfloat11_config"]["pattern_dict"]["lm_head"], json!([]));
    // Data starts at a multiple of 8 bytes, as safetensors libraries write it.
    for (name, bytes) in packed.iter().filter(|(name, _)| name.ends_with(".safetensors")) {
        let header = u64::from_le_bytes(bytes[..8].try_into().unwrap());
        assert_eq!(header % 8, 0, "{name}");
    }
}

#[test]
fn output_does_not_depend_on_the_number_of_threads() {
    let model = model(&llama(3), Some(&llama_config()), 2);
    let temp = tempfile::tempdir().unwrap();
    let outputs = [1, 2, 5].map(|threads| {
        let path = temp.path().join(threads.to_string());
        compress(model.path(), &path, &CompressOptions::default().threads(threads), &()).unwrap();
        files(&path)
    });
    assert!(outputs[0] == outputs[1] && outputs[1] == outputs[2]);
}

#[test]
fn a_single_file_holds_everything() {
    let model = model(&llama(2), Some(&llama_config()), 2);
    let options = CompressOptions::default().single_file(true);
    let (packed, report) = there_and_back(model.path(), &options);
    assert_eq!(report.units.len(), 4);
    let weights: Vec<_> =
        files(&packed.path().join("packed")).into_keys().filter(|n| n.ends_with("safetensors")).collect();
    assert_eq!(weights, ["model.safetensors"]);

    // To a file of any name, and back to a file.
    let temp = tempfile::tempdir().unwrap();
    let one = temp.path().join("one.safetensors");
    write(&one, &llama(2));
    let (packed, back) = (temp.path().join("packed.safetensors"), temp.path().join("back.safetensors"));
    compress(&one, &packed, &options, &()).unwrap();
    decompress(&packed, &back, &DecompressOptions::default(), &()).unwrap();
    assert!(fs::read(&one).unwrap() == fs::read(&back).unwrap());
    let refused =
        compress(&one, temp.path().join("x.safetensors"), &CompressOptions::default(), &()).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Usage);
    let refused = decompress(&packed, &back, &DecompressOptions::default(), &()).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Usage);
}

#[test]
fn models_of_every_element_type_come_back_from_frames() {
    let tensors = mixed();
    for config in [Some(llama_config()), None] {
        let model = model(&tensors, config.as_ref(), 2);
        let bytes_after = [Codec::Df11, Codec::Rans, Codec::Auto].map(|codec| {
            let options = CompressOptions::default().codec(codec);
            let (temp, report) = there_and_back(model.path(), &options);
            let packed = temp.path().join("packed");
            let verified = verify(&packed, None, 1, &()).unwrap();
            assert_eq!(verified.frames, report.frames.len());
            let inspected = inspect(&packed, None, 1).unwrap();
            assert!(inspected.compressed);
            assert_eq!(inspected.frames.len(), report.frames.len());
            let error = compress(&packed, temp.path().join("again"), &options, &()).unwrap_err();
            assert!(error.to_string().contains("compressed already"), "{error}");
            let is_frame = |name: &str| report.frames.iter().any(|frame| frame.name == name);
            if codec == Codec::Df11 {
                assert_eq!(report.frames.len(), 0);
                assert!(!report.units.is_empty());
            } else {
                for name in ["a.f16", "a.f32", "a.e4m3", "a.e5m2", "a.i64", "a.bool", "a.bf16"] {
                    assert!(is_frame(name), "{name}");
                }
                assert!(!is_frame("a.u8") && !is_frame("a.empty") && !is_frame("a.scalar"));
            }
            assert_eq!(codec == Codec::Rans, report.units.is_empty() && codec != Codec::Auto);
            report.bytes_after
        });
        let [df11, rans, auto] = bytes_after;
        assert!(rans < df11 && auto < df11, "{df11} {rans} {auto}");
    }
}

#[test]
fn frames_do_not_depend_on_the_number_of_threads() {
    let model = model(&mixed(), Some(&llama_config()), 1);
    let temp = tempfile::tempdir().unwrap();
    let [one, two] = [1, 2].map(|threads| {
        let path = temp.path().join(threads.to_string());
        let options = CompressOptions::default().codec(Codec::Auto).threads(threads);
        compress(model.path(), &path, &options, &()).unwrap();
        files(&path)
    });
    assert!(one == two);
}

#[test]
fn file_names_never_collide() {
    let mut tensors = Tensors::new();
    for name in ["a.b", "a_b", "A.b", "model", "a/b"] {
        tensors.insert(format!("{name}.weight"), matrix(256, 256, name.len() as u64));
    }
    tensors.insert(format!("{}.weight", "x".repeat(300)), matrix(256, 256, 1));
    tensors.insert("../../evil.weight".to_owned(), matrix(256, 256, 2));
    let (packed, report) = there_and_back(model(&tensors, None, 1).path(), &CompressOptions::default());
    assert_eq!(report.units.len(), 7);
    let names = files(&packed.path().join("packed"));
    let mut lower: Vec<_> =
        names.keys().filter(|n| n.ends_with(".safetensors")).map(|n| n.to_lowercase()).collect();
    lower.dedup();
    assert_eq!(lower.len(), 8, "{lower:?}");
}

#[test]
fn headers_of_other_writers_come_back_to_the_byte() {
    // Not padded, not sorted, with odd spacing, odd data offsets and unknown metadata.
    let weights = df11_tests::weights::bytes(&like_trained(65_536, 1));
    let header = format!(
        "{{ \"b\":{{\"dtype\":\"U8\",\"shape\":[3],\"data_offsets\":[0,3]}},\n\"__metadata__\":{{\"k\":\"\\u00e9\"}}, \
         \"w.weight\":{{\"data_offsets\":[3,{}],\"shape\":[256,256],\"dtype\":\"BF16\"}}}}  ",
        3 + weights.len()
    );
    let mut file = (header.len() as u64).to_le_bytes().to_vec();
    file.extend(header.as_bytes());
    file.extend([7, 8, 9]);
    file.extend(weights);
    let temp = tempfile::tempdir().unwrap();
    fs::write(temp.path().join("odd name.safetensors"), file).unwrap();
    let (_, report) = there_and_back(temp.path(), &CompressOptions::default());
    assert_eq!(report.units.len(), 1);
}

#[test]
fn configs_that_only_python_reads_are_extended_and_restored() {
    let temp = model(&llama(1), None, 1);
    let text = "{\n  \"time_step_limit\": [0.0, Infinity],\n  \"model_type\": \"x\"\n}\n";
    fs::write(temp.path().join("config.json"), text).unwrap();
    let (packed, _) = there_and_back(temp.path(), &CompressOptions::default());
    let config = fs::read_to_string(packed.path().join("packed/config.json")).unwrap();
    assert!(config.starts_with(&text[..text.len() - 3]) && config.contains("dfloat11_config"));
}
