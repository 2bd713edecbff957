//! Checkpoints of every shape, there and back.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests")]

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use df11::PUBLISHED_SHARED_MEMORY;
use df11_model::{
    Codec, CompressOptions, CompressReport, DecompressOptions, Error, ErrorKind, PatternDict, Reader,
    ReaderTensor, compress, decompress, inspect, verify,
};
use df11_tests::corpus::{Tensor, Tensors, read, write, write_shards};
use df11_tests::fixtures;
use df11_tests::weights::{Random, bits, like_trained, with_exponents};
use safetensors::tensor::Dtype;
use serde_json::{Value, json};
use tempfile::TempDir;

fn force() -> CompressOptions {
    CompressOptions { force: true, ..CompressOptions::default() }
}

/// All files below a directory, with their bytes, but for the marker of an unfinished run.
fn files(directory: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut all = BTreeMap::new();
    let mut open = vec![directory.to_owned()];
    while let Some(next) = open.pop() {
        for entry in fs::read_dir(next).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                open.push(path);
            } else {
                let name = path.strip_prefix(directory).unwrap().to_string_lossy().into_owned();
                all.insert(name, fs::read(&path).unwrap());
            }
        }
    }
    all
}

/// Compresses a directory, verifies, restores, and compares every file.
fn there_and_back(model: &Path, options: &CompressOptions) -> (TempDir, CompressReport) {
    let temp = tempfile::tempdir().unwrap();
    let (packed, restored) = (temp.path().join("packed"), temp.path().join("restored"));
    let report = compress(model, &packed, options, &()).unwrap();
    assert_eq!(report.nothing_to_gain, !packed.exists());
    if report.nothing_to_gain {
        assert!(report.units.is_empty() && report.frames.is_empty());
        return (temp, report);
    }
    let verified = verify(&packed, Some(model), 0, &()).unwrap();
    assert_eq!(verified.units, report.units.len());
    assert_eq!(verified.digests_missing, 0);
    let back = decompress(&packed, &restored, &DecompressOptions::default(), &()).unwrap();
    assert!(back.original_restored);
    assert_eq!(back.warnings, Vec::<String>::new());
    let (original, restored) = (files(model), files(&restored));
    assert_eq!(original.keys().collect::<Vec<_>>(), restored.keys().collect::<Vec<_>>());
    for (name, bytes) in &original {
        assert!(restored[name] == *bytes, "{name} differs");
    }
    reads_as(&packed, model);
    (temp, report)
}

/// Checks that a reader gives the same tensors, whole and in parts, out of both checkpoints; returns it.
fn reads_as(packed: &Path, model: &Path) -> Reader {
    let (reader, plain) = (Reader::open(packed).unwrap(), Reader::open(model).unwrap());
    assert_eq!(reader.tensors().len(), plain.tensors().len());
    let mut random = Random(5);
    for (tensor, expected) in reader.tensors().zip(plain.tensors()) {
        assert!(expected.is_plain());
        assert_eq!(
            (tensor.name(), tensor.dtype(), tensor.shape(), tensor.bytes()),
            (expected.name(), expected.dtype(), expected.shape(), expected.bytes())
        );
        let name = tensor.name();
        let [mut found, mut original] = [0, 1].map(|_| vec![0; tensor.bytes() as usize]);
        reader.decode_into(name, &mut found).unwrap();
        plain.decode_into(name, &mut original).unwrap();
        assert!(found == original, "{name} differs");
        let elements: u64 = tensor.shape().iter().map(|&dimension| dimension as u64).product();
        let size = tensor.bytes().checked_div(elements).unwrap_or(0);
        for _ in 0..8 {
            let cuts = [0, 1].map(|_| random.below(elements + 1));
            let range = cuts[0].min(cuts[1])..cuts[0].max(cuts[1]);
            let bytes = (size * range.start) as usize..(size * range.end) as usize;
            let mut part = vec![0; bytes.len()];
            reader.decode_range_into(name, range.clone(), &mut part).unwrap();
            assert!(part == original[bytes], "{name} differs in {range:?}");
        }
    }
    for (i, unit) in reader.units().iter().enumerate() {
        let mut all = vec![0; 2 * unit.elements() as usize];
        reader.decode_unit_into(i, &mut all).unwrap();
        let mut expected = Vec::new();
        for name in unit.tensors() {
            assert_eq!(reader.tensor(name).unwrap().unit(), Some(i));
            let at = expected.len();
            expected.resize(at + reader.tensor(name).unwrap().bytes() as usize, 0);
            plain.decode_into(name, &mut expected[at..]).unwrap();
        }
        assert!(all == expected, "unit {} differs", unit.path());
    }
    reader
}

fn matrix(rows: usize, columns: usize, seed: u64) -> Tensor {
    Tensor::bf16(&[rows, columns], &like_trained(rows * columns, seed))
}

/// A language model of two layers with everything a real one has.
fn llama(layers: usize) -> Tensors {
    let mut tensors = Tensors::new();
    for layer in 0..layers {
        for (i, (name, rows, columns)) in [
            ("self_attn.q_proj", 64, 64),
            ("self_attn.k_proj", 32, 64),
            ("self_attn.v_proj", 32, 64),
            ("self_attn.o_proj", 64, 64),
            ("mlp.gate_proj", 128, 64),
            ("mlp.up_proj", 128, 64),
            ("mlp.down_proj", 64, 128),
        ]
        .into_iter()
        .enumerate()
        {
            let seed = (layer * 7 + i) as u64;
            tensors.insert(format!("model.layers.{layer}.{name}.weight"), matrix(rows, columns, seed));
        }
        let norm = Tensor::bf16(&[64], &like_trained(64, 99));
        tensors.insert(format!("model.layers.{layer}.input_layernorm.weight"), norm);
    }
    tensors.insert("model.embed_tokens.weight".to_owned(), matrix(300, 64, 50));
    tensors.insert("lm_head.weight".to_owned(), matrix(300, 64, 51));
    tensors.insert("model.norm.weight".to_owned(), Tensor::bf16(&[64], &like_trained(64, 52)));
    tensors
}

fn llama_config() -> Value {
    json!({"architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 64, "intermediate_size": 128,
        "num_attention_heads": 8, "num_key_value_heads": 4, "vocab_size": 300, "tie_word_embeddings": false})
}

/// Writes a model directory with config and tokenizer.
fn model(tensors: &Tensors, config: Option<&Value>, shards: usize) -> TempDir {
    let temp = tempfile::tempdir().unwrap();
    if shards > 1 {
        write_shards(temp.path(), tensors, shards);
    } else {
        write(&temp.path().join("model.safetensors"), tensors);
    }
    if let Some(config) = config {
        fs::write(temp.path().join("config.json"), format!("{config:#}\n")).unwrap();
    }
    fs::write(temp.path().join("tokenizer.json"), "{\"x\": 1}").unwrap();
    fs::create_dir(temp.path().join("1_Pooling")).unwrap();
    fs::write(temp.path().join("1_Pooling/config.json"), "{}").unwrap();
    temp
}

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
        compress(model.path(), &path, &CompressOptions { threads, ..CompressOptions::default() }, &())
            .unwrap();
        files(&path)
    });
    assert!(outputs[0] == outputs[1] && outputs[1] == outputs[2]);
}

#[test]
fn a_single_file_holds_everything() {
    let model = model(&llama(2), Some(&llama_config()), 2);
    let options = CompressOptions { single_file: true, ..CompressOptions::default() };
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
        compress(&one, &temp.path().join("x.safetensors"), &CompressOptions::default(), &()).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Usage);
    let refused = decompress(&packed, &back, &DecompressOptions::default(), &()).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Usage);
}

#[test]
fn tied_embeddings_and_wrong_families_fall_back() {
    let mut tensors = llama(2);
    tensors.remove("lm_head.weight");
    let mut config = llama_config();
    config["tie_word_embeddings"] = json!(true);
    let (_, report) = there_and_back(model(&tensors, Some(&config), 1).path(), &CompressOptions::default());
    assert_eq!(report.units.len(), 2);
    // Without the flag, the missing head does not fit the family: the general rule finds the layers, but the embedding is
    // too small to be a unit on its own.
    let (_, report) =
        there_and_back(model(&tensors, Some(&llama_config()), 1).path(), &CompressOptions::default());
    assert!(report.units_from.contains("the tensor names do not fit llama-3.3-70b"), "{}", report.units_from);
    assert_eq!(report.units.len(), 2);
}

#[test]
fn the_general_rule_finds_blocks_wherever_they_stand() {
    let mut tensors = Tensors::new();
    for i in 0..3 {
        tensors.insert(format!("visual.trunk.blocks.{i}.attn.qkv.weight"), matrix(64, 40, i));
        tensors.insert(format!("visual.trunk.blocks.{i}.mlp.fc10.weight"), matrix(64, 40, 10 + i));
        tensors.insert(format!("visual.trunk.blocks.{i}.mlp.fc2.weight"), matrix(64, 40, 20 + i));
        tensors
            .insert(format!("visual.trunk.blocks.{i}.norm.bias"), Tensor::bf16(&[40], &like_trained(40, i)));
        // Only some blocks have this one.
        if i == 1 {
            tensors.insert(format!("visual.trunk.blocks.{i}.gate.weight"), matrix(64, 40, 30));
        }
    }
    tensors.insert("h.0.c_attn.weight".to_owned(), matrix(64, 64, 40));
    tensors.insert("head.0.weight".to_owned(), matrix(256, 256, 41));
    tensors.insert("small.weight".to_owned(), matrix(10, 10, 42));
    let (_, report) = there_and_back(model(&tensors, None, 1).path(), &CompressOptions::default());
    let units: Vec<_> = report.units.iter().map(|unit| (unit.path.as_str(), unit.tensors)).collect();
    assert_eq!(
        units,
        [
            ("h.0", 1),
            ("head.0", 1),
            ("visual.trunk.blocks.0", 3),
            ("visual.trunk.blocks.1", 4),
            ("visual.trunk.blocks.2", 3),
        ]
    );
    assert!(report.plain.iter().any(|plain| plain.name == "small.weight" && plain.reason == "in no unit"));
}

#[test]
fn a_given_dictionary_rules_and_what_it_misses_is_reported() {
    let model = model(&llama(2), Some(&llama_config()), 1);
    let dict: PatternDict = serde_json::from_value(json!({
        "model.layers.\\d+": ["mlp.down_proj", "mlp.up_proj"],
        "model\\.embed_tokens": [],
        "model.layers.1": ["mlp.up_proj"],
        "nothing": [],
        "lm_head": ["missing"],
        "model": ["embed_tokens", "missing"],
    }))
    .unwrap();
    let options = CompressOptions { pattern_dict: Some(dict), ..CompressOptions::default() };
    let (_, report) = there_and_back(model.path(), &options);
    let units: Vec<_> = report.units.iter().map(|unit| (unit.path.as_str(), unit.tensors)).collect();
    assert_eq!(units, [("model.embed_tokens", 1), ("model.layers.0", 2), ("model.layers.1", 2)]);
    assert_eq!(report.unmatched_patterns, ["nothing", "lm_head"]);
    let bad: PatternDict = serde_json::from_value(json!({"(": []})).unwrap();
    let options = CompressOptions { pattern_dict: Some(bad), ..CompressOptions::default() };
    let temp = tempfile::tempdir().unwrap();
    let error = compress(model.path(), &temp.path().join("x"), &options, &()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Usage);
    assert!(!temp.path().join("x").exists());
}

#[test]
fn everything_that_is_not_bf16_passes_through_and_is_counted() {
    let mut tensors = llama(1);
    let raw = |dtype, shape: &[usize], bytes: usize| Tensor {
        dtype,
        shape: shape.to_vec(),
        bytes: (0..bytes).map(|i| i as u8).collect(),
    };
    tensors.insert("a.f32".to_owned(), raw(Dtype::F32, &[3, 5], 60));
    tensors.insert("a.f16".to_owned(), raw(Dtype::F16, &[7], 14));
    tensors.insert("a.f8".to_owned(), raw(Dtype::F8_E4M3, &[13], 13));
    tensors.insert("a.i64".to_owned(), raw(Dtype::I64, &[2], 16));
    tensors.insert("a.bool".to_owned(), raw(Dtype::BOOL, &[3], 3));
    tensors.insert("a.empty".to_owned(), raw(Dtype::BF16, &[0, 4], 0));
    tensors.insert("a.scalar".to_owned(), raw(Dtype::BF16, &[], 2));
    // One matrix of the layer is F32: the unit of the family cannot be, so the general rule finds the other six.
    tensors.insert("model.layers.0.mlp.up_proj.weight".to_owned(), raw(Dtype::F32, &[128, 64], 128 * 64 * 4));
    let (_, report) =
        there_and_back(model(&tensors, Some(&llama_config()), 1).path(), &CompressOptions::default());
    let plain =
        |dtype: &str| -> u64 { report.plain.iter().filter(|p| p.dtype == dtype).map(|p| p.bytes).sum() };
    assert_eq!((plain("F16"), plain("F8_E4M3"), plain("I64"), plain("BOOL")), (14, 13, 16, 3));
    assert_eq!(plain("F32"), 60 + 128 * 64 * 4);
    let why = |name: &str| report.plain.iter().find(|plain| plain.name == name).unwrap().reason.clone();
    assert_eq!(
        why("model.layers.0.mlp.down_proj.weight"),
        "unit model.layers.0: model.layers.0.mlp.up_proj.weight is F32, not BF16"
    );
}

/// A model of every element type that frames know, and others; NaN payloads, infinities and subnormals among them.
fn mixed() -> Tensors {
    let mut tensors = llama(1);
    let trained = like_trained(40_000, 9);
    let mut insert = |name: &str, dtype: Dtype, shape: &[usize], bytes: Vec<u8>| {
        tensors.insert(name.to_owned(), Tensor { dtype, shape: shape.to_vec(), bytes });
    };
    let special = [0x7f80u16, 0xff80, 0x7fc1, 0xffff, 0x7f81, 0x0001, 0x8000, 0];
    let with_special = || trained.iter().copied().chain(special.into_iter().cycle().take(400));
    insert("a.bf16", Dtype::BF16, &[101, 400], with_special().flat_map(u16::to_le_bytes).collect());
    insert("a.f16", Dtype::F16, &[40_400], with_special().flat_map(u16::to_le_bytes).collect());
    let f32s = with_special()
        .enumerate()
        .flat_map(|(i, bits)| (u32::from(bits) << 16 | (i as u32 * 77) & 0xffff).to_le_bytes());
    insert("a.f32", Dtype::F32, &[2, 20_200], f32s.collect());
    insert("a.e4m3", Dtype::F8_E4M3, &[40_400], with_special().map(|bits| (bits >> 8) as u8).collect());
    insert("a.e5m2", Dtype::F8_E5M2, &[40_400], with_special().map(|bits| (bits >> 8) as u8).collect());
    insert("a.i64", Dtype::I64, &[5000], (0..5000i64).flat_map(i64::to_le_bytes).collect());
    insert("a.u8", Dtype::U8, &[3], vec![1, 2, 3]);
    insert("a.bool", Dtype::BOOL, &[4, 5000], vec![1; 20_000]);
    insert("a.empty", Dtype::F16, &[0, 4], vec![]);
    insert("a.scalar", Dtype::F32, &[], vec![0, 0, 0xc0, 0x7f]);
    tensors
}

#[test]
fn models_of_every_element_type_come_back_from_frames() {
    let tensors = mixed();
    for config in [Some(llama_config()), None] {
        let model = model(&tensors, config.as_ref(), 2);
        let bytes_after = [Codec::Df11, Codec::Rans, Codec::Auto].map(|codec| {
            let options = CompressOptions { codec, ..CompressOptions::default() };
            let (temp, report) = there_and_back(model.path(), &options);
            let packed = temp.path().join("packed");
            let verified = verify(&packed, None, 1, &()).unwrap();
            assert_eq!(verified.frames, report.frames.len());
            let inspected = inspect(&packed, None, 1).unwrap();
            assert!(inspected.compressed);
            assert_eq!(inspected.frames.len(), report.frames.len());
            let error = compress(&packed, &temp.path().join("again"), &options, &()).unwrap_err();
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
        let options = CompressOptions { codec: Codec::Auto, threads, ..CompressOptions::default() };
        compress(model.path(), &path, &options, &()).unwrap();
        files(&path)
    });
    assert!(one == two);
}

#[test]
fn a_damaged_frame_is_never_restored_wrongly() {
    let model = model(&mixed(), None, 1);
    let temp = tempfile::tempdir().unwrap();
    let packed = temp.path().join("packed");
    let options = CompressOptions { codec: Codec::Rans, ..CompressOptions::default() };
    compress(model.path(), &packed, &options, &()).unwrap();
    let original = files(model.path());
    let path = packed.join("model.safetensors");
    let sound = fs::read(&path).unwrap();
    let mut random = Random(13);
    for round in 0..150 {
        let mut damaged = sound.clone();
        let header = 8 + u64::from_le_bytes(sound[..8].try_into().unwrap());
        let until = if random.below(2) == 0 { header } else { sound.len() as u64 };
        let at = random.below(until) as usize;
        match random.below(3) {
            0 => damaged.truncate(at),
            1 => damaged[at] ^= 1 << random.below(8),
            _ => damaged[at] = random.next() as u8,
        }
        fs::write(&path, &damaged).unwrap();
        let out = temp.path().join(format!("out-{round}"));
        let is_sound = verify(&packed, None, 1, &()).is_ok();
        match decompress(&packed, &out, &DecompressOptions::default(), &()) {
            Ok(_) => assert!(files(&out) == original),
            Err(error) => {
                assert!(!is_sound, "verification missed: {error}");
                assert_eq!(error.kind(), ErrorKind::Data, "{error}");
                assert!(!out.join("model.safetensors").exists());
                assert!(!error.to_string().contains('\n'), "{error}");
            }
        }
        if out.exists() {
            fs::remove_dir_all(out).unwrap();
        }
    }
}

#[test]
fn units_that_the_layout_cannot_hold_stay_plain_with_the_reason() {
    let mut tensors = llama(3);
    let name = "model.layers.1.mlp.up_proj.weight";
    let mut weights = bits(&tensors[name].bytes);
    weights[7] = 0x7fc1; // NaN
    weights[8] = 0xff80; // -Inf
    tensors.insert(name.to_owned(), Tensor::bf16(&[128, 64], &weights));
    // Random bits do not shrink.
    let mut random = Random(1);
    let noise = with_exponents((0..300 * 64).map(|_| random.below(240) as u8), 2);
    tensors.insert("lm_head.weight".to_owned(), Tensor::bf16(&[300, 64], &noise));
    let (_, report) =
        there_and_back(model(&tensors, Some(&llama_config()), 1).path(), &CompressOptions::default());
    assert_eq!(report.units.len(), 3);
    let why = |name: &str| report.plain.iter().find(|plain| plain.name == name).unwrap().reason.clone();
    assert!(
        why("model.layers.1").starts_with(&format!("2 of the 8192 weights of {name} are")),
        "{}",
        why("model.layers.1")
    );
    assert!(why("lm_head").starts_with("would not shrink"), "{}", why("lm_head"));
}

#[test]
fn units_of_zeros_stay_within_published_shared_memory() {
    let mut tensors = llama(1);
    tensors.insert("lm_head.weight".to_owned(), Tensor::bf16(&[300, 640], &vec![0; 300 * 640]));
    let (_, report) =
        there_and_back(model(&tensors, Some(&llama_config()), 1).path(), &CompressOptions::default());
    let head = report.units.iter().find(|unit| unit.path == "lm_head").unwrap();
    assert_eq!((head.alphabet, head.longest_codeword), (1, 2));
    assert!(report.units.iter().all(|unit| unit.shared_memory_bytes <= PUBLISHED_SHARED_MEMORY));
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
fn nothing_is_overwritten_without_force_and_stale_weights_go_with_it() {
    let small = model(&llama(1), Some(&llama_config()), 1);
    let large = model(&llama(3), Some(&llama_config()), 3);
    let temp = tempfile::tempdir().unwrap();
    let out = temp.path().join("out");
    compress(large.path(), &out, &CompressOptions::default(), &()).unwrap();
    let refused = compress(small.path(), &out, &CompressOptions::default(), &()).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Usage);
    // What another program wrote is never removed, and it is said before anything changes.
    let (index, before) = (out.join("model.safetensors.index.json"), files(&out));
    fs::write(&index, "{}").unwrap();
    let refused = compress(small.path(), &out, &force(), &()).unwrap_err();
    assert!(
        refused.to_string().contains("in the way") && refused.to_string().contains("index.json"),
        "{refused}"
    );
    fs::remove_file(&index).unwrap();
    let marker = |name: &String| name.starts_with(".df11-");
    assert!(files(&out).into_iter().filter(|(name, _)| !marker(name)).eq(before));
    compress(small.path(), &out, &force(), &()).unwrap();
    // Layers 1 and 2 of the large model would be loaded with the small one.
    assert!(!out.join("model_layers_2.safetensors").exists());
    verify(&out, Some(small.path()), 0, &()).unwrap();
}

#[test]
fn input_and_output_are_never_the_same() {
    let model = model(&llama(1), Some(&llama_config()), 1);
    let before = files(model.path());
    let inside = model.path().join("model.safetensors");
    for (input, output) in [(model.path(), model.path()), (&inside, model.path()), (&inside, &inside)] {
        let options = CompressOptions { single_file: output == inside, ..force() };
        let error = compress(input, output, &options, &()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Usage, "{error}");
    }
    assert!(files(model.path()) == before);
    // An output inside the input is not copied into itself.
    compress(model.path(), &model.path().join("packed"), &CompressOptions::default(), &()).unwrap();
    assert!(!model.path().join("packed/packed").exists());
    let again =
        compress(&model.path().join("packed"), &model.path().join("twice"), &CompressOptions::default(), &());
    assert!(again.unwrap_err().to_string().contains("compressed already"));
}

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

    // A config of no known family: the bits are there, in one dimension, with a warning.
    let config = fs::read_to_string(packed.join("config.json")).unwrap().replace("\"llama\"", "\"other\"");
    fs::write(packed.join("config.json"), config).unwrap();
    let report = decompress(&packed, &temp.path().join("flat"), &DecompressOptions::default(), &()).unwrap();
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
        Reader::open_with(&fixtures::directory().join("real_two_tensors.df11.safetensors"), Some(&dict))
            .unwrap();
    assert_eq!(
        reader.tensors().map(ReaderTensor::name).collect::<Vec<_>>(),
        ["unit.w0.weight", "unit.w1.weight"]
    );
    let options = DecompressOptions { pattern_dict: Some(dict), ..DecompressOptions::default() };
    let out = temp.path().join("named.safetensors");
    decompress(&fixtures::directory().join("real_two_tensors.df11.safetensors"), &out, &options, &())
        .unwrap();
    let original = read(&fixtures::original("real_two_tensors"));
    let named = read(&out);
    assert_eq!(named.keys().collect::<Vec<_>>(), original.keys().collect::<Vec<_>>());
    assert!(named.iter().all(|(name, tensor)| tensor.bytes == original[name].bytes));
}

#[test]
fn a_reader_finds_a_row_in_any_block_of_a_frame() {
    // Three blocks and a part of one.
    let tensors = Tensors::from([("w".to_owned(), matrix(425, 512, 3))]);
    let model = model(&tensors, None, 1);
    let temp = tempfile::tempdir().unwrap();
    let packed = temp.path().join("packed");
    let options = CompressOptions { codec: Codec::Rans, ..CompressOptions::default() };
    assert_eq!(compress(model.path(), &packed, &options, &()).unwrap().frames.len(), 1);
    let reader = reads_as(&packed, model.path());
    for row in 0..425 {
        let mut found = [0; 1024];
        reader.decode_range_into("w", 512 * row..512 * (row + 1), &mut found).unwrap();
        assert_eq!(found, tensors["w"].bytes[1024 * row as usize..][..1024], "row {row}");
    }
    // From the middle of one block, over two whole ones, to the end.
    for range in [65_536..217_600, 1..217_600, 0..131_072, 65_000..196_609] {
        let mut found = vec![0; 2 * (range.end - range.start) as usize];
        reader.decode_range_into("w", range.clone(), &mut found).unwrap();
        assert!(found == tensors["w"].bytes[2 * range.start as usize..2 * range.end as usize], "{range:?}");
    }
}

#[test]
fn a_reader_says_what_was_asked_wrongly_and_what_is_damaged() {
    let model = model(&llama(2), Some(&llama_config()), 1);
    let temp = tempfile::tempdir().unwrap();
    let name = "model.layers.1.mlp.up_proj.weight";
    for codec in [Codec::Df11, Codec::Rans] {
        let packed = temp.path().join(format!("{codec:?}"));
        compress(model.path(), &packed, &CompressOptions { codec, ..CompressOptions::default() }, &())
            .unwrap();
        let reader = Reader::open(&packed).unwrap();
        let mut out = vec![0; 2 * 128 * 64];
        let units = reader.units().len();
        #[expect(clippy::reversed_empty_ranges, reason = "one of the faults")]
        for (error, says) in [
            (reader.decode_into("nothing", &mut out), "nothing: is not in this checkpoint"),
            (reader.decode_into(name, &mut out[..100]), "takes 16384 bytes, but 100 were given"),
            (reader.decode_range_into(name, 0..8193, &mut out), "elements 0 to 8193 of its 8192"),
            (reader.decode_range_into(name, 9..8, &mut []), "elements 9 to 8 of its 8192"),
            (reader.decode_range_into(name, 0..u64::MAX, &mut out), "of its 8192"),
            (reader.decode_unit_into(units, &mut out), "there is no unit"),
        ] {
            let error = error.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Usage);
            assert!(error.to_string().contains(says), "{error}");
        }
        // Zeros for all that is stored: whatever is noticed on opening or decoding names the file.
        for path in fs::read_dir(&packed).unwrap().map(|entry| entry.unwrap().path()) {
            if path.extension().is_some_and(|e| e == "safetensors") {
                let mut bytes = fs::read(&path).unwrap();
                let data = 8 + u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
                bytes[data..].fill(0);
                fs::write(&path, bytes).unwrap();
            }
        }
        let error = Reader::open(&packed).and_then(|reader| reader.decode_into(name, &mut out)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Data, "{error}");
        assert!(error.to_string().contains(".safetensors"), "{error}");
    }
}

#[test]
fn a_reader_believes_no_shape_that_the_data_does_not_have() {
    let mut tensors = Tensors::new();
    let bytes: Vec<u8> = (0..4000u16).flat_map(|i| (i % 9).to_le_bytes()).collect();
    tensors.insert("w".to_owned(), Tensor { dtype: Dtype::I16, shape: vec![4000], bytes });
    let model = model(&tensors, None, 1);
    let temp = tempfile::tempdir().unwrap();
    let packed = temp.path().join("packed");
    let options = CompressOptions { codec: Codec::Rans, ..CompressOptions::default() };
    assert_eq!(compress(model.path(), &packed, &options, &()).unwrap().frames.len(), 1);
    let path = packed.join("model.safetensors");
    let sound = fs::read(&path).unwrap();
    for (dtype, shape) in [
        ("I16", json!([5])),
        ("F32", json!([3])),
        ("BF16", json!([1_000_000, 1000])),
        ("X\0Y", json!([4000])),
        ("I16", json!([1u64 << 40, 1u64 << 40])),
        ("I16", json!([1u64 << 33, 1u64 << 33, 0])),
        ("F4", json!([4000])),
    ] {
        fs::write(&path, &sound).unwrap();
        with_metadata(&path, |metadata| {
            metadata["tensors"][0]["dtype"] = json!(dtype);
            metadata["tensors"][0]["shape"] = shape.clone();
        });
        let error = Reader::open(&path).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Data);
        assert!(error.to_string().contains("w: holds a frame of U8"), "{dtype} {shape}: {error}");
        assert_eq!(verify(&path, None, 1, &()).unwrap_err().to_string(), error.to_string());
    }
    // The same bytes by another name of as many bits are as good.
    fs::write(&path, &sound).unwrap();
    with_metadata(&path, |metadata| metadata["tensors"][0]["dtype"] = json!("U16"));
    let reader = Reader::open(&path).unwrap();
    assert_eq!(reader.tensor("w").unwrap().elements(), 4000);
}

#[test]
fn a_damaged_frame_tells_the_rule_through_a_reader() {
    let model = model(&Tensors::from([("w".to_owned(), matrix(64, 512, 3))]), None, 1);
    let temp = tempfile::tempdir().unwrap();
    let packed = temp.path().join("packed");
    let options = CompressOptions { codec: Codec::Rans, ..CompressOptions::default() };
    compress(model.path(), &packed, &options, &()).unwrap();
    let path = packed.join("model.safetensors");
    let mut bytes = fs::read(&path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&path, bytes).unwrap();
    let error = Reader::open(&path).unwrap().decode_into("w", &mut [0; 65_536]).unwrap_err();
    let Error::Frame { tensor, source, .. } = error else { panic!("{error}") };
    assert_eq!((tensor.as_str(), source.kind()), ("w", df11::ErrorKind::Checksum));
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
        decompress(&packed.join("model_layers_1.safetensors"), &out, &DecompressOptions::default(), &())
            .unwrap();
    assert!(!report.original_restored && report.warnings.is_empty());
    let layer = read(&out);
    assert_eq!(layer.len(), 8);
    assert!(layer.iter().all(|(name, tensor)| tensors[name] == *tensor));
}

#[test]
fn what_inspection_predicts_is_what_compression_gives() {
    let mut tensors = llama(2);
    tensors.insert("lm_head.weight".to_owned(), Tensor::bf16(&[300, 64], &vec![0x7f80; 300 * 64]));
    let model = model(&tensors, Some(&llama_config()), 1);
    let (packed, report) = there_and_back(model.path(), &CompressOptions::default());
    let predicted = inspect(model.path(), None, 0).unwrap();
    let found = inspect(&packed.path().join("packed"), None, 0).unwrap();
    assert!(!predicted.compressed && found.compressed);
    let figures = |units: &[df11_model::InspectedUnit]| -> Vec<_> {
        let figures = |u: &df11_model::InspectedUnit| {
            (
                u.unit.path.clone(),
                u.unit.bytes_after,
                u.code_lengths.clone(),
                u.frequencies.clone(),
                u.unit.shared_memory_bytes,
            )
        };
        units.iter().map(figures).collect()
    };
    assert_eq!(figures(&predicted.units), figures(&found.units));
    let sizes: Vec<_> = report.units.iter().map(|unit| unit.bytes_after).collect();
    assert_eq!(sizes, predicted.units.iter().map(|unit| unit.unit.bytes_after).collect::<Vec<_>>());
    let plain = |plain: &[df11_model::PlainReport]| {
        plain.iter().find(|p| p.name == "lm_head").unwrap().reason.clone()
    };
    assert_eq!(plain(&predicted.plain), plain(&report.plain));
}

#[test]
fn a_config_changed_after_compression_still_loses_our_key() {
    let model = model(&llama(1), Some(&llama_config()), 1);
    let (temp, _) = there_and_back(model.path(), &CompressOptions::default());
    let packed = temp.path().join("packed");
    let config = fs::read_to_string(packed.join("config.json")).unwrap();
    fs::write(packed.join("config.json"), config.replace("300", "301")).unwrap();
    let report = decompress(&packed, &temp.path().join("again"), &DecompressOptions::default(), &()).unwrap();
    assert_eq!(report.warnings.len(), 1);
    let restored: Value =
        serde_json::from_slice(&fs::read(temp.path().join("again/config.json")).unwrap()).unwrap();
    assert_eq!(restored["vocab_size"], 301);
    assert_eq!(restored.get("dfloat11_config"), None);
}

/// Rewrites the metadata of a packed file.
fn with_metadata(path: &Path, change: impl FnOnce(&mut Value)) {
    let bytes = fs::read(path).unwrap();
    let header_len = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let mut header: Value = serde_json::from_slice(&bytes[8..8 + header_len]).unwrap();
    let mut metadata: Value = serde_json::from_str(header["__metadata__"]["df11"].as_str().unwrap()).unwrap();
    change(&mut metadata);
    header["__metadata__"]["df11"] = json!(metadata.to_string());
    let header = header.to_string();
    let mut changed = (header.len() as u64).to_le_bytes().to_vec();
    changed.extend(header.as_bytes());
    changed.extend(&bytes[8 + header_len..]);
    fs::write(path, changed).unwrap();
}

/// Rewrites the record of a directory, with a digest that fits.
fn with_manifest(path: &Path, change: impl FnOnce(&mut Value)) {
    use sha2::{Digest, Sha256};
    let sealed: Value = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
    let mut manifest = sealed["df11"].clone();
    change(&mut manifest);
    let inner = manifest.to_string();
    let sha256 = hex::encode(Sha256::digest(&inner));
    fs::write(path, format!("{{\"df11\":{inner},\"sha256\":\"{sha256}\"}}")).unwrap();
}

#[test]
fn names_that_would_clash_leave_units_plain() {
    let u8s = |n: usize| Tensor { dtype: Dtype::U8, shape: vec![n], bytes: vec![7; n] };
    for single_file in [false, true] {
        let options = |dict: Option<Value>| CompressOptions {
            pattern_dict: dict.map(|dict| serde_json::from_value(dict).unwrap()),
            single_file,
            ..CompressOptions::default()
        };
        // A plain tensor that is called what a part of the unit would be called.
        let tensors =
            Tensors::from([("a.weight".to_owned(), matrix(300, 300, 1)), ("a.luts".to_owned(), u8s(9))]);
        let (_, report) = there_and_back(model(&tensors, None, 1).path(), &options(None));
        assert!(report.units.is_empty() && report.plain[1].reason.contains("there is a tensor a.luts"));
        // Two patterns for one module; one sub-module twice; a module without a name.
        let tensors = Tensors::from([
            ("a.x.weight".to_owned(), matrix(100, 100, 1)),
            ("a.y.weight".to_owned(), matrix(100, 100, 2)),
            (".weight".to_owned(), matrix(300, 300, 3)),
        ]);
        let dict = json!({"a": ["x"], "a|b": ["y"], "": []});
        let (_, report) = there_and_back(model(&tensors, None, 1).path(), &options(Some(dict)));
        assert_eq!(report.units.len(), 1);
        let (_, report) =
            there_and_back(model(&tensors, None, 1).path(), &options(Some(json!({"a": ["x", "x"]}))));
        assert!(report.units.is_empty() && report.plain.iter().any(|p| p.reason.contains("is listed twice")));
        let (_, report) = there_and_back(model(&tensors, None, 1).path(), &options(None));
        assert!(report.units.is_empty(), "{:?}", report.units);
    }
}

#[test]
fn tied_embeddings_stay_plain_in_models_of_no_family() {
    let tensors = Tensors::from([
        ("transformer.wte.weight".to_owned(), matrix(300, 300, 1)),
        ("transformer.h.0.mlp.weight".to_owned(), matrix(300, 300, 2)),
        ("transformer.other.weight".to_owned(), matrix(300, 300, 3)),
    ]);
    let units = |config: Value| -> Vec<String> {
        let (_, report) =
            there_and_back(model(&tensors, Some(&config), 1).path(), &CompressOptions::default());
        report.units.into_iter().map(|unit| unit.path).collect()
    };
    let all = ["transformer.h.0", "transformer.other", "transformer.wte"];
    assert_eq!(units(json!({"model_type": "x", "tie_word_embeddings": true})), all[..2]);
    assert_eq!(units(json!({"text_config": {"tie_word_embeddings": true}})), all[..2]);
    // Not said, but a class with an output embedding has none in the file.
    assert_eq!(units(json!({"architectures": ["GPT2LMHeadModel"]})), all[..2]);
    assert_eq!(units(json!({"architectures": ["BertModel"]})), all);
    assert_eq!(units(json!({"architectures": ["GPT2LMHeadModel"], "tie_word_embeddings": false})), all);
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

#[test]
fn a_config_of_another_geometry_or_without_a_unit_is_refused() {
    let model = model(&llama(1), Some(&llama_config()), 1);
    let (temp, _) = there_and_back(model.path(), &CompressOptions::default());
    let path = temp.path().join("packed/config.json");
    let sound = fs::read_to_string(&path).unwrap();
    let verify =
        || verify(&temp.path().join("packed"), None, 0, &()).map(|_| ()).map_err(|error| error.to_string());
    fs::write(&path, sound.replace("\"bytes_per_thread\": 8", "\"bytes_per_thread\": 16")).unwrap();
    assert!(verify().unwrap_err().contains("bytes_per_thread is 16"));
    fs::write(&path, sound.replace("\"mlp.up_proj\"", "\"mlp.up_porj\"")).unwrap();
    assert!(verify().unwrap_err().contains("gives the tensors of unit model.layers.0"));
    fs::write(&path, sound).unwrap();
    verify().unwrap();
}

#[test]
fn hostile_names_and_splits_cost_no_time_and_no_memory() {
    // 100,000 parts in one name: modules would take time in the square of them.
    let deep = Tensors::from([(format!("{}weight", "a.".repeat(100_000)), matrix(300, 300, 1))]);
    let (_, report) = there_and_back(model(&deep, None, 1).path(), &CompressOptions::default());
    assert!(report.units.is_empty());
    // 100,000 tensors without elements.
    let temp = tempfile::tempdir().unwrap();
    let path = temp.path().join("unit.safetensors");
    let mut tensors = read(&fixtures::directory().join("byte_aligned_end.df11.safetensors"));
    let splits = tensors.get_mut("unit.split_positions").unwrap();
    (splits.shape, splits.bytes) = (vec![100_000], vec![0; 800_000]);
    write(&path, &tensors);
    assert!(verify(&path, None, 0, &()).unwrap_err().to_string().contains("at most 65536 are accepted"));
}

#[cfg(unix)]
#[test]
fn files_that_could_not_be_restored_or_would_be_destroyed_are_refused() {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;
    use std::os::unix::fs::symlink;
    let temp = tempfile::tempdir().unwrap();
    let out = temp.path().join("out");
    for name in [&b"a\xff.safetensors"[..], b"we\\ird.safetensors", b".df11-unfinished", b"config.json"] {
        let path = temp.path().join(OsStr::from_bytes(name));
        write(&path, &llama(1));
        let error = compress(&path, &out, &CompressOptions::default(), &()).unwrap_err();
        assert!(error.to_string().contains("rename it first"), "{error}");
        fs::remove_file(path).unwrap();
    }
    // The shard is a link into the output directory.
    let (real, link) = (temp.path().join("real"), temp.path().join("link"));
    fs::create_dir(&real).unwrap();
    fs::create_dir(&link).unwrap();
    write(&real.join("weights.safetensors"), &llama(1));
    symlink("../real/weights.safetensors", link.join("model.safetensors")).unwrap();
    let error = compress(&link, &real, &force(), &()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Usage);
    assert_eq!(read(&real.join("weights.safetensors")), llama(1));
    // A marker that is a link is not followed.
    fs::create_dir(&out).unwrap();
    fs::write(temp.path().join("victim"), "text").unwrap();
    symlink("../victim", out.join(".df11-unfinished")).unwrap();
    assert_eq!(compress(&link, &out, &force(), &()).unwrap_err().kind(), ErrorKind::Usage);
    assert_eq!(fs::read(temp.path().join("victim")).unwrap(), b"text");
    // Links to files are followed, as in download caches; links to nothing are reported.
    symlink("nowhere", link.join("dangling")).unwrap();
    let report = compress(&link, &temp.path().join("fine"), &CompressOptions::default(), &()).unwrap();
    assert_eq!(report.left_behind[0].0, "dangling");
}

#[test]
fn an_output_inside_the_compressed_model_is_refused() {
    let model = model(&llama(1), Some(&llama_config()), 1);
    let (temp, _) = there_and_back(model.path(), &CompressOptions::default());
    let packed = temp.path().join("packed");
    let error =
        decompress(&packed, &packed.join("x.safetensors"), &DecompressOptions::default(), &()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Usage);
    let error =
        decompress(&packed, &packed.join("config.json"), &DecompressOptions::default(), &()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Usage, "{error}");
}

#[test]
fn strangers_in_an_unfinished_output_are_left_alone() {
    let model = model(&llama(1), Some(&llama_config()), 1);
    let temp = tempfile::tempdir().unwrap();
    let packed = temp.path().join("packed");
    compress(model.path(), &packed, &CompressOptions::default(), &()).unwrap();
    fs::write(packed.join("lora.safetensors"), "mine").unwrap();
    let job = format!("df11 compress {}", fs::canonicalize(model.path()).unwrap().display());
    fs::write(packed.join(".df11-unfinished"), &job).unwrap();
    compress(model.path(), &packed, &CompressOptions::default(), &()).unwrap();
    assert_eq!(fs::read(packed.join("lora.safetensors")).unwrap(), b"mine");
    // Nor does a run that takes over from one of version 0.1 that was forced.
    fs::write(packed.join(".df11-unfinished"), job + "\nreplacing").unwrap();
    compress(model.path(), &packed, &CompressOptions::default(), &()).unwrap();
    assert_eq!(fs::read(packed.join("lora.safetensors")).unwrap(), b"mine");
}

#[test]
fn metadata_that_lies_is_an_error_and_writes_nothing() {
    let model = model(&llama(1), Some(&llama_config()), 2);
    type Change = fn(&mut Value);
    fn input(m: &mut Value, i: usize) -> &mut Value {
        let inputs = m["inputs"].as_array_mut().unwrap();
        inputs.iter_mut().filter(|input| input["kept"] == "tensors").nth(i).unwrap()
    }
    fn index(m: &mut Value) -> &mut Value {
        m["inputs"].as_array_mut().unwrap().iter_mut().find(|input| input["kept"] == "text").unwrap()
    }
    let lies: [(&str, Change); 13] = [
        ("df11.json", |m| input(m, 0)["name"] = json!("../evil.safetensors")),
        ("df11.json", |m| input(m, 0)["name"] = json!("/tmp/evil.safetensors")),
        ("df11.json", |m| input(m, 0)["name"] = json!(".df11-unfinished")),
        ("df11.json", |m| index(m)["name"] = json!("../evil.json")),
        ("df11.json", |m| {
            let header = input(m, 1)["header"].as_str().unwrap().replace("model.norm", "model.mron");
            input(m, 1)["header"] = json!(header);
        }),
        ("df11.json", |m| {
            let header = input(m, 1)["header"].as_str().unwrap().replacen("BF16", "F16", 1);
            input(m, 1)["header"] = json!(header);
        }),
        ("df11.json", |m| m["inputs"] = json!([])),
        ("df11.json", |m| m["version"] = json!(2)),
        ("df11.json", |m| {
            let first = input(m, 0).clone();
            m["inputs"].as_array_mut().unwrap().push(first);
        }),
        ("model_layers_0.safetensors", |m| m["units"][0]["tensors"][0] = json!("other")),
        ("model_layers_0.safetensors", |m| {
            m["units"][0]["tensors"].as_array_mut().unwrap().pop();
        }),
        ("model_layers_0.safetensors", |m| m["tensors"][0]["sha256"] = json!("00")),
        ("model_layers_0.safetensors", |m| m["version"] = json!(2)),
    ];
    for (file, lie) in lies {
        let temp = tempfile::tempdir().unwrap();
        let (packed, restored) = (temp.path().join("packed"), temp.path().join("restored"));
        compress(model.path(), &packed, &CompressOptions::default(), &()).unwrap();
        if file == "df11.json" {
            with_manifest(&packed.join(file), lie);
        } else {
            with_metadata(&packed.join(file), lie);
        }
        let error = decompress(&packed, &restored, &DecompressOptions::default(), &()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Data, "{error}");
        let left = if restored.exists() { files(&restored).into_keys().collect() } else { Vec::new() };
        assert!(left.iter().all(|name| name.starts_with('.')), "{left:?}");
        assert!(!temp.path().join("evil.safetensors").exists() && !temp.path().join("evil.json").exists());
    }
}

#[test]
fn missing_and_repeated_parts_are_named() {
    let model = model(&llama(1), Some(&llama_config()), 1);
    let temp = tempfile::tempdir().unwrap();
    let packed = temp.path().join("packed");
    let fresh = || {
        compress(model.path(), &packed, &force(), &()).unwrap();
    };
    let restore = || -> Error {
        let error =
            decompress(&packed, &temp.path().join("out"), &DecompressOptions::default(), &()).unwrap_err();
        assert_eq!(verify(&packed, None, 0, &()).unwrap_err().to_string(), error.to_string());
        error
    };
    fresh();
    fs::remove_file(packed.join("model_layers_0.safetensors")).unwrap();
    assert!(restore().to_string().contains("is not there"));
    fresh();
    fs::remove_file(packed.join("model.safetensors")).unwrap();
    assert!(restore().to_string().contains("records the originals"));
    fresh();
    fs::copy(packed.join("lm_head.safetensors"), packed.join("copy.safetensors")).unwrap();
    assert!(restore().to_string().contains("is also in"));
    fs::remove_file(packed.join("copy.safetensors")).unwrap();
    fresh();
    let head = packed.join("lm_head.safetensors");
    let mut tensors = read(&head);
    tensors.remove("lm_head.gaps");
    write(&head, &tensors);
    assert!(restore().to_string().contains("lm_head.gaps: is missing"));
}

#[test]
fn a_damaged_file_is_never_restored_wrongly() {
    let model = model(&llama(1), Some(&llama_config()), 1);
    let temp = tempfile::tempdir().unwrap();
    let packed = temp.path().join("packed");
    compress(model.path(), &packed, &CompressOptions::default(), &()).unwrap();
    let original = files(model.path());
    let weights = ["lm_head.safetensors", "model_layers_0.safetensors", "model.safetensors"];
    let mut random = Random(11);
    let (mut refused, rounds) = (0, 400);
    for round in 0..rounds {
        let path = packed.join(weights[round % weights.len()]);
        let sound = fs::read(&path).unwrap();
        let mut damaged = sound.clone();
        // Headers are small beside the data, and where parsers break: damage them as often.
        let header = 8 + u64::from_le_bytes(sound[..8].try_into().unwrap());
        let until = if random.below(2) == 0 { header } else { sound.len() as u64 };
        match random.below(3) {
            0 => damaged.truncate(random.below(until) as usize),
            1 => damaged[random.below(until) as usize] ^= 1 << random.below(8),
            _ => damaged[random.below(until) as usize] = random.next() as u8,
        }
        fs::write(&path, &damaged).unwrap();
        let out = temp.path().join(format!("out-{round}"));
        match decompress(&packed, &out, &DecompressOptions::default(), &()) {
            Ok(_) => assert!(files(&out) == original),
            Err(error) => {
                refused += 1;
                assert_eq!(error.kind(), ErrorKind::Data, "{error}");
                assert!(!out.join("model.safetensors").exists());
                assert!(!error.to_string().contains('\n'), "{error}");
            }
        }
        if out.exists() {
            fs::remove_dir_all(out).unwrap();
        }
        fs::write(&path, sound).unwrap();
    }
    assert!(refused > rounds * 8 / 10, "{refused}");
}

/// Progress that is stopped after so many pieces.
struct StopAfter(std::sync::atomic::AtomicI64);

impl df11_model::Progress for StopAfter {
    fn is_cancelled(&self) -> bool {
        self.0.fetch_sub(1, std::sync::atomic::Ordering::Relaxed) <= 0
    }
}

#[test]
fn what_is_stopped_has_changed_nothing_and_can_be_repeated() {
    let temp = tempfile::tempdir().unwrap();
    let [model, plain] = ["model.safetensors", "plain"].map(|name| temp.path().join(name));
    let tensors: Tensors =
        (0..4u64).map(|i| (format!("layers.{i}.up_proj.weight"), matrix(512, 256, i))).collect();
    write(&model, &tensors);
    for codec in [Codec::Df11, Codec::Rans, Codec::Fast] {
        let options = CompressOptions { codec, ..CompressOptions::default() };
        let [packed, restored] =
            ["packed", "restored"].map(|name| temp.path().join(format!("{codec:?}{name}")));
        let mut stopped = 0;
        for pieces in 0.. {
            let stop = StopAfter(pieces.into());
            match compress(&model, &packed, &options, &stop) {
                Err(error) => assert!(error.kind() == ErrorKind::Cancelled, "{error}"),
                Ok(_) => break,
            }
            assert!(!packed.join("df11.json").exists());
            stopped += 1;
        }
        assert!(stopped > 2, "{codec:?} was asked {stopped} times");
        let stop = || StopAfter(1.into());
        assert_eq!(verify(&packed, None, 1, &stop()).unwrap_err().kind(), ErrorKind::Cancelled);
        let options = DecompressOptions::default();
        let error = decompress(&packed, &restored, &options, &stop()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Cancelled);
        assert!(!restored.join("model.safetensors").exists());
        assert!(decompress(&packed, &restored, &options, &()).unwrap().original_restored);
    }
    assert!(!plain.exists());
}

#[test]
fn readers_tell_metadata_of_the_original_and_the_order_of_storage() {
    let temp = tempfile::tempdir().unwrap();
    let [model, packed] = ["model.safetensors", "packed"].map(|name| temp.path().join(name));
    let tensors: Tensors = ["layers.0.b", "layers.0.a", "z"]
        .iter()
        .map(|name| ((*name).to_owned(), matrix(512, 256, 7)))
        .collect();
    let views: Vec<_> = tensors
        .iter()
        .map(|(name, tensor)| {
            let view = safetensors::tensor::TensorView::new(Dtype::BF16, tensor.shape.clone(), &tensor.bytes);
            (format!("{name}.weight"), view.unwrap())
        })
        .collect();
    let metadata = std::collections::HashMap::from([("format".to_owned(), "pt".to_owned())]);
    fs::write(&model, safetensors::tensor::serialize(views, Some(metadata)).unwrap()).unwrap();
    for codec in [Codec::Df11, Codec::Rans] {
        let options = CompressOptions { codec, single_file: true, force: true, ..CompressOptions::default() };
        compress(&model, &packed, &options, &()).unwrap();
        let reader = Reader::open(&packed).unwrap();
        assert_eq!(reader.metadata().iter().collect::<Vec<_>>(), [(&"format".to_owned(), &"pt".to_owned())]);
        let mut order = reader.stored_order();
        order.sort_unstable();
        assert_eq!(order, reader.tensors().map(ReaderTensor::name).collect::<Vec<_>>());
    }
    let plain = Reader::open(&model).unwrap();
    assert_eq!(plain.stored_order(), ["layers.0.a.weight", "layers.0.b.weight", "z.weight"]);
}
