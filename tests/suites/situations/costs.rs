//! Hostile and large inputs cost no more than their size allows. Costs are counted, and measured
//! under limits.

#![cfg(unix)]

use std::fs;

use df11_model::{Codec, CompressOptions, compress, verify};
use df11_tests::corpus::{Tensors, write};
use serde_json::{Value, json};

use crate::support::{blocks, df11, matrix, model, path, shards, stderr, text, there_and_back, under, with};

/// Makes a frame of zeros: some bytes for each 65,536 elements.
fn bomb(blocks: u64) -> Vec<u8> {
    use df11::frame::{BLOCK, ElementType, Encoder};
    let mut counts = [0; 256];
    counts[0] = blocks * BLOCK as u64;
    let mut encoder = Encoder::new(ElementType::U8, &[blocks * BLOCK as u64], &counts).unwrap();
    let mut frame = encoder.header();
    let block = vec![0; BLOCK];
    for _ in 0..blocks {
        frame.extend_from_slice(encoder.blocks(&block).unwrap());
    }
    frame.extend(encoder.finish().unwrap());
    frame
}

#[test]
fn a_frame_that_decodes_to_a_thousand_times_its_bytes_takes_no_such_memory() {
    let temp = tempfile::tempdir().unwrap();
    let frame = temp.path().join("bomb.frame");
    fs::write(&frame, bomb(8000)).unwrap();
    // 524 MB of zeros, under 300 MB of memory.
    let limit = "ulimit -v 300000";
    let output = under(limit, &["lint", path(&frame), "--threads", "1"]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let out = temp.path().join("out");
    let to = |form: &str| under(limit, &["transcode", path(&frame), "-o", path(&out), "--to", form]);
    let refused = to("dietgpu");
    assert_eq!(refused.status.code(), Some(1));
    assert!(stderr(&refused).contains("not taken into memory"), "{}", stderr(&refused));
    assert_eq!(to("raw").status.code(), Some(0));
    assert_eq!(fs::metadata(&out).unwrap().len(), 8000 << 16);
}

#[test]
fn a_hostile_dictionary_is_refused_before_it_costs_anything() {
    let (model, temp) = (model(), tempfile::tempdir().unwrap());
    let packed = temp.path().join("packed");
    compress(model.path(), &packed, &CompressOptions::default(), &()).unwrap();
    let config = packed.join("config.json");
    let sound: Value = serde_json::from_slice(&fs::read(&config).unwrap()).unwrap();
    let many: serde_json::Map<String, Value> = (0..100_000).map(|i| (format!("q{i}"), json!([]))).collect();
    let large: serde_json::Map<String, Value> =
        (0..200).map(|i| (format!("z{i}(\\w{{90}}){{90}}"), json!([]))).collect();
    for (dict, says) in [(many, "at most 1000"), (large, "size limit")] {
        let mut hostile = sound.clone();
        hostile["dfloat11_config"]["pattern_dict"] = Value::Object(dict);
        fs::write(&config, hostile.to_string()).unwrap();
        let output = under("ulimit -v 200000", &["verify", path(&packed), "--threads", "1"]);
        assert_eq!(output.status.code(), Some(1));
        assert!(stderr(&output).contains(says), "{}", stderr(&output));
    }
}

#[test]
fn hostile_names_take_memory_in_proportion_to_the_header() {
    let temp = tempfile::tempdir().unwrap();
    let file = temp.path().join("m.safetensors");
    for name in [
        |i: usize| format!("a{i}.layers.0.w.weight"),
        |i: usize| format!("{}.layers.{i}.w.weight", "x".repeat(210)),
        |i: usize| format!("layers.{i}.w{i}.weight"),
        |i: usize| format!("{}{i}.weight", "a.".repeat(60)),
    ] {
        let one = df11_tests::corpus::Tensor::bf16(&[1, 1], &[0x3f80]);
        let tensors: Tensors = (0..6000).map(|i| (name(i), one.clone())).collect();
        write(&file, &tensors);
        let out = temp.path().join("out");
        let args = ["compress", path(&file), "-o", path(&out), "--threads", "1", "--codec", "df11"];
        let output = under("ulimit -v 250000", &args);
        assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    }
}

#[test]
fn more_shards_than_files_may_be_open_are_no_obstacle() {
    let temp = tempfile::tempdir().unwrap();
    let (root, packed) = (temp.path().join("m"), temp.path().join("p"));
    let parts: Vec<Tensors> = (0..80)
        .map(|i| Tensors::from([(format!("layers.{}.{}.weight", i / 4, i % 4), matrix(64, 64, i))]))
        .collect();
    shards(&root, "model", &parts);
    text(&root, "config.json", "{}");
    for codec in ["df11", "rans"] {
        let back = temp.path().join(codec);
        let output = under(
            "ulimit -n 32",
            &["compress", path(&root), "-o", path(&packed), "--codec", codec, "--force"],
        );
        assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
        let output = under("ulimit -n 32", &["decompress", path(&packed), "-o", path(&back)]);
        assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
        crate::support::same(&root, &back);
    }
}

#[test]
fn frames_of_a_large_tensor_are_not_held_in_memory() {
    let temp = tempfile::tempdir().unwrap();
    // 96 MB of zeros and ones, whose frame is nearly 12 MB.
    let mut tensors = blocks("layers", 1);
    let mut large = matrix(1, 1, 1);
    large.shape = vec![48 << 20];
    large.bytes = (0..96 << 20).map(|i: u32| (i.wrapping_mul(2_654_435_761) >> 31) as u8).collect();
    tensors.insert("large".to_owned(), large);
    let file = temp.path().join("m.safetensors");
    write(&file, &tensors);
    let out = temp.path().join("out");
    let args = ["compress", path(&file), "-o", path(&out), "--threads", "1", "--codec", "rans"];
    let output = under("ulimit -v 120000", &args);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let output = under("ulimit -v 120000", &["verify", path(&out), "--threads", "1"]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
}

#[test]
fn twenty_thousand_tensors_go_through() {
    let temp = tempfile::tempdir().unwrap();
    let mut tensors = Tensors::from([("head.weight".to_owned(), matrix(4000, 4000, 1))]);
    let tiny = df11_tests::corpus::Tensor::bf16(&[2, 2], &[0x3f80; 4]);
    for i in 0..20_000 {
        tensors.insert(format!("layers.{}.experts.{}.w.weight", i % 40, i / 40), tiny.clone());
    }
    write(&temp.path().join("model.safetensors"), &tensors);
    there_and_back(temp.path(), &with(Codec::Auto));
}

#[test]
fn a_config_of_a_megabyte_of_numbers_is_read_as_any_other() {
    let (model, temp) = (model(), tempfile::tempdir().unwrap());
    text(model.path(), "config.json", &format!("{{\"a\": [{}1]}}", "0, ".repeat(300_000)));
    let packed = temp.path().join("packed");
    compress(model.path(), &packed, &CompressOptions::default(), &()).unwrap();
    verify(&packed, None, 0, &()).unwrap();
    assert_eq!(df11(&["verify", path(&packed)]).status.code(), Some(0));
}
