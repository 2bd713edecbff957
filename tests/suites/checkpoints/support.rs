//! Models, and helpers that compress, restore and read them.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use df11_model::{CompressOptions, CompressReport, DecompressOptions, Reader, compress, decompress, verify};
use df11_tests::corpus::{Tensor, Tensors, write, write_shards};
use df11_tests::weights::{Random, like_trained};
use safetensors::tensor::Dtype;
use serde_json::{Value, json};
use tempfile::TempDir;

pub(crate) fn force() -> CompressOptions {
    CompressOptions::default().force(true)
}

/// Returns all files below a directory with their bytes, except for the marker of an unfinished
/// run.
pub(crate) fn files(directory: &Path) -> BTreeMap<String, Vec<u8>> {
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
pub(crate) fn there_and_back(model: &Path, options: &CompressOptions) -> (TempDir, CompressReport) {
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

/// Checks that a reader gives the same tensors, whole and in parts, for both checkpoints, and
/// returns it.
pub(crate) fn reads_as(packed: &Path, model: &Path) -> Reader {
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

pub(crate) fn matrix(rows: usize, columns: usize, seed: u64) -> Tensor {
    Tensor::bf16(&[rows, columns], &like_trained(rows * columns, seed))
}

/// Makes a language model of two layers with all parts of a real one.
pub(crate) fn llama(layers: usize) -> Tensors {
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

pub(crate) fn llama_config() -> Value {
    json!({"architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 64, "intermediate_size": 128,
        "num_attention_heads": 8, "num_key_value_heads": 4, "vocab_size": 300, "tie_word_embeddings": false})
}

/// Writes a model directory with config and tokenizer.
pub(crate) fn model(tensors: &Tensors, config: Option<&Value>, shards: usize) -> TempDir {
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

/// Makes a model of every element type that frames support, and of others, including NaN payloads,
/// infinities and subnormals.
pub(crate) fn mixed() -> Tensors {
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

/// Rewrites the metadata of a packed file.
pub(crate) fn with_metadata(path: &Path, change: impl FnOnce(&mut Value)) {
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
pub(crate) fn with_manifest(path: &Path, change: impl FnOnce(&mut Value)) {
    use sha2::{Digest, Sha256};
    let sealed: Value = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
    let mut manifest = sealed["df11"].clone();
    change(&mut manifest);
    let inner = manifest.to_string();
    let sha256 = hex::encode(Sha256::digest(&inner));
    fs::write(path, format!("{{\"df11\":{inner},\"sha256\":\"{sha256}\"}}")).unwrap();
}
