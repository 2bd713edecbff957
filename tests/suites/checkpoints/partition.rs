//! Which tensors make which units, and which stay plain, with the reason.

use df11::PUBLISHED_SHARED_MEMORY;
use df11_model::{CompressOptions, ErrorKind, PatternDict, compress, inspect, verify};
use df11_tests::corpus::{Tensor, Tensors, read, write};
use df11_tests::fixtures;
use df11_tests::weights::{Random, bits, like_trained, with_exponents};
use safetensors::tensor::Dtype;
use serde_json::{Value, json};

use crate::support::{llama, llama_config, matrix, model, there_and_back};

#[test]
fn tied_embeddings_and_wrong_families_fall_back() {
    let mut tensors = llama(2);
    tensors.remove("lm_head.weight");
    let mut config = llama_config();
    config["tie_word_embeddings"] = json!(true);
    let (_, report) = there_and_back(model(&tensors, Some(&config), 1).path(), &CompressOptions::default());
    assert_eq!(report.units.len(), 2);
    // Without the flag, the missing head does not fit the family: the general rule finds the
    // layers, but the embedding is too small to be a unit on its own.
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
    let options = CompressOptions::default().pattern_dict(dict);
    let (_, report) = there_and_back(model.path(), &options);
    let units: Vec<_> = report.units.iter().map(|unit| (unit.path.as_str(), unit.tensors)).collect();
    assert_eq!(units, [("model.embed_tokens", 1), ("model.layers.0", 2), ("model.layers.1", 2)]);
    assert_eq!(report.unmatched_patterns, ["nothing", "lm_head"]);
    let bad: PatternDict = serde_json::from_value(json!({"(": []})).unwrap();
    let options = CompressOptions::default().pattern_dict(bad);
    let temp = tempfile::tempdir().unwrap();
    let error = compress(model.path(), temp.path().join("x"), &options, &()).unwrap_err();
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
    // One matrix of the layer is F32: the unit of the family cannot be, so the general rule finds
    // the other six.
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
fn what_inspection_predicts_is_what_compression_gives() {
    let mut tensors = llama(2);
    tensors.insert("lm_head.weight".to_owned(), Tensor::bf16(&[300, 64], &vec![0x7f80; 300 * 64]));
    let model = model(&tensors, Some(&llama_config()), 1);
    let (packed, report) = there_and_back(model.path(), &CompressOptions::default());
    let predicted = inspect(model.path(), None, 0).unwrap();
    let found = inspect(packed.path().join("packed"), None, 0).unwrap();
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
fn names_that_would_clash_leave_units_plain() {
    let u8s = |n: usize| Tensor { dtype: Dtype::U8, shape: vec![n], bytes: vec![7; n] };
    for single_file in [false, true] {
        let options = |dict: Option<Value>| {
            let options = CompressOptions::default().single_file(single_file);
            match dict {
                Some(dict) => options.pattern_dict(serde_json::from_value(dict).unwrap()),
                None => options,
            }
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
