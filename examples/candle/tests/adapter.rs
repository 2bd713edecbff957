//! Laws of the adapter, on small models compressed with each codec.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "helpers of tests")]

mod common;

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use candle_core::{CpuStorage, DType, Device, Storage, Tensor};
use candle_nn::VarBuilder;
use df11_candle::adapter::{Part, Weights};
use half::bf16;

use crate::common::{Originals, compressed, originals};

const BLOCKS: usize = 4;
/// Rows and width of the table; large enough for several blocks of a frame.
const TABLE: [usize; 2] = [2500, 64];

fn model() -> Originals {
    let mut shapes = vec![("table.weight".to_owned(), TABLE.to_vec())];
    for block in 0..BLOCKS {
        for (name, shape) in
            [("up.weight", vec![160, 96]), ("up.bias", vec![160]), ("down.weight", vec![96, 160])]
        {
            shapes.push((format!("layers.{block}.{name}"), shape));
        }
    }
    originals(shapes)
}

/// Two parts for each block.
fn parts() -> Vec<Vec<String>> {
    let name = |block: usize, names: &[&str]| names.iter().map(|n| format!("layers.{block}.{n}")).collect();
    (0..BLOCKS)
        .flat_map(|block| [name(block, &["up.weight", "up.bias"]), name(block, &["down.weight"])])
        .collect()
}

/// Runs a test on the model as each codec stores it.
fn with_each_codec(test: impl Fn(&Weights, &Originals, &Path)) {
    let (directory, originals) = (tempfile::tempdir().unwrap(), model());
    for path in compressed(&originals, directory.path()) {
        let weights = Weights::open(&path).unwrap();
        for name in ["table.weight", "layers.1.up.weight", "layers.2.down.weight"] {
            assert!(!weights.reader().tensor(name).unwrap().is_plain(), "{name} would show nothing");
        }
        test(&weights, &originals, &path);
    }
}

fn bits(tensor: &Tensor) -> Vec<u16> {
    let elements = tensor.flatten_all().unwrap().to_vec1::<bf16>().unwrap();
    elements.into_iter().map(bf16::to_bits).collect()
}

fn assert_is(tensor: &Tensor, name: &str, originals: &Originals) {
    let (shape, elements) = &originals[name];
    assert_eq!(tensor.dims(), shape, "{name}");
    assert!(bits(tensor).into_iter().eq(elements.iter().map(|e| e.to_bits())), "{name} has other bits");
}

/// Returns the address of a tensor's storage.
fn address(tensor: &Tensor) -> usize {
    match &*tensor.storage_and_layout().0 {
        Storage::Cpu(CpuStorage::BF16(elements)) => elements.as_ptr() as usize,
        _ => panic!("not BF16 on the CPU"),
    }
}

#[test]
fn loaded_tensors_are_the_originals() {
    with_each_codec(|weights, originals, _| {
        for name in originals.keys() {
            assert_is(&weights.load(name).unwrap(), name, originals);
        }
    });
}

#[test]
fn parts_come_in_order_with_original_bits_round_after_round_in_the_same_buffers() {
    with_each_codec(|weights, originals, _| {
        let parts = parts();
        for buffers in 1..=3 {
            let mut stream = weights.stream(&parts, buffers).unwrap();
            assert_eq!(stream.buffer_bytes(), buffers * 2 * (160 * 96 + 160));
            let mut addresses = BTreeSet::new();
            // While these live, one of their addresses can recur only if the buffer itself was
            // taken out of them.
            let mut kept = Vec::new();
            for _ in 0..5 {
                for (number, names) in parts.iter().enumerate() {
                    let part = stream.take(number).unwrap();
                    for name in names {
                        let tensor = part.tensor(name).unwrap();
                        assert_is(tensor, name, originals);
                    }
                    let first = part.tensor(&names[0]).unwrap();
                    addresses.insert(address(first));
                    kept.push(first.clone());
                }
            }
            assert_eq!(addresses.len(), buffers, "one address for each buffer");
        }
    });
}

#[test]
fn parts_that_are_held_keep_their_bits_and_more_than_there_are_buffers_is_an_error() {
    with_each_codec(|weights, originals, _| {
        let parts = parts();
        let mut stream = weights.stream(&parts, 2).unwrap();
        let first = stream.take(0).unwrap();
        let second = stream.take(1).unwrap();
        let error = stream.take(2).unwrap_err().to_string();
        assert!(error.contains("layers.1.up.weight") && error.contains("still held"), "{error}");
        // The stream continues where it was, in the free buffer.
        drop(second);
        for (number, names) in parts.iter().enumerate().skip(2) {
            let part = stream.take(number).unwrap();
            assert_is(part.tensor(&names[0]).unwrap(), &names[0], originals);
        }
        assert_is(first.tensor("layers.0.up.weight").unwrap(), "layers.0.up.weight", originals);
        // Parts outlive their stream.
        let last = stream.take(0).unwrap();
        drop(stream);
        assert_is(last.tensor("layers.0.up.weight").unwrap(), "layers.0.up.weight", originals);
    });
}

#[test]
fn a_part_out_of_order_is_an_error_that_changes_nothing() {
    with_each_codec(|weights, originals, _| {
        let mut stream = weights.stream(&parts(), 2).unwrap();
        let error = stream.take(3).unwrap_err().to_string();
        assert!(error.contains("layers.1.down.weight") && error.contains("layers.0.up.weight"), "{error}");
        assert!(stream.take(99).unwrap_err().to_string().contains("not in this stream"));
        let part = stream.take(0).unwrap();
        assert_is(part.tensor("layers.0.up.bias").unwrap(), "layers.0.up.bias", originals);
        let error = part.tensor("layers.0.down.weight").unwrap_err().to_string();
        assert!(error.contains("layers.0.up.bias"), "{error}");
    });
}

#[test]
fn rows_are_those_of_the_whole_table() {
    with_each_codec(|weights, originals, _| {
        let [height, width] = TABLE;
        let (_, elements) = &originals["table.weight"];
        let last = height as u32 - 1;
        // Runs, single rows, the same row again, backwards, the first, the last, and across blocks
        // of a frame.
        for rows in [
            vec![],
            vec![0],
            vec![last],
            vec![7, 8, 9, 3, 3, 3, last, last - 1, 0, 1],
            (0..=last).collect(),
            (1020..1030).rev().chain(1020..1030).collect(),
        ] {
            let gathered = weights.rows("table.weight", &rows).unwrap();
            assert_eq!(gathered.dims(), [rows.len(), width]);
            let expected = rows.iter().flat_map(|&row| &elements[row as usize * width..][..width]);
            assert!(bits(&gathered).into_iter().eq(expected.map(|e| e.to_bits())), "rows {rows:?}");
        }
        let error = weights.rows("table.weight", &[0, height as u32]).unwrap_err().to_string();
        assert!(error.contains("table.weight") && error.contains("2500"), "{error}");
        let error = weights.rows("layers.0.up.bias", &[0]).unwrap_err().to_string();
        assert!(error.contains("layers.0.up.bias"), "{error}");
    });
}

#[test]
fn what_is_not_there_is_named() {
    with_each_codec(|weights, _, path| {
        let absent = "layers.9.up.weight";
        let missing = vec![vec!["layers.0.up.weight".to_owned()], vec![absent.to_owned()]];
        for error in [
            weights.load(absent).unwrap_err(),
            weights.rows(absent, &[0]).unwrap_err(),
            weights.stream(&missing, 2).unwrap_err(),
        ] {
            let error = error.to_string();
            assert!(error.contains(absent) && error.contains(path.to_str().unwrap()), "{error}");
        }
        assert!(weights.stream(&[], 2).is_err());
        assert!(weights.stream(&[vec![]], 2).is_err());
        assert!(weights.stream(&parts(), 0).is_err());
        let nowhere = path.join("nowhere");
        let error = Weights::open(&nowhere).unwrap_err().to_string();
        assert!(error.contains(nowhere.to_str().unwrap()), "{error}");
    });
}

#[test]
fn damage_is_reported_by_take_and_ends_the_stream() {
    let (directory, originals) = (tempfile::tempdir().unwrap(), model());
    for path in compressed(&originals, directory.path()) {
        // The part is in the middle of the stream, so that valid ones come before it.
        let damaged = "layers.2.down.weight";
        let file = damage(&path, damaged);
        let weights = Weights::open(&path).unwrap();
        let parts = parts();
        let mut stream = weights.stream(&parts, 2).unwrap();
        let failed =
            (0..parts.len()).find_map(|number| stream.take(number).err().map(|error| (number, error)));
        let (number, error) = failed.expect("damage goes unnoticed");
        // A unit's tensors share one code, and the whole of it may be damaged for the decoder.
        assert!((4..=5).contains(&number), "part {number}");
        let error = error.to_string();
        assert!(error.contains(&file) && error.contains("layers.2."), "{error}");
        assert!(stream.take(number).is_err(), "a second try waits for nothing");
    }
}

/// Overwrites stored bytes of a tensor, or of its unit's code, with ones. Returns the file's name.
fn damage(checkpoint: &Path, tensor: &str) -> String {
    let unit = tensor.rsplit_once(".down").unwrap().0;
    for entry in fs::read_dir(checkpoint).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "safetensors") {
            continue;
        }
        let mut bytes = fs::read(&path).unwrap();
        let header = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
        let json: serde_json::Value = serde_json::from_slice(&bytes[8..8 + header]).unwrap();
        let stored = [format!("{unit}.encoded_exponent"), tensor.to_owned()];
        let Some(info) = stored.iter().find_map(|name| json.get(name)) else { continue };
        let at = |i: usize| 8 + header + info["data_offsets"][i].as_u64().unwrap() as usize;
        let (start, end) = (at(0), at(1));
        bytes[(start + end) / 2..end - 64].fill(0xff);
        fs::write(&path, bytes).unwrap();
        return path.file_name().unwrap().to_str().unwrap().to_owned();
    }
    panic!("{tensor} is stored nowhere");
}

#[test]
fn a_var_builder_takes_weights_with_the_type_and_shape_that_it_asks_for() {
    with_each_codec(|weights, originals, _| {
        let builder = VarBuilder::from_backend(Box::new(weights.clone()), DType::F32, Device::Cpu);
        let block = builder.pp("layers.3");
        assert!(block.contains_tensor("up.weight") && !block.contains_tensor("sideways.weight"));
        let tensor = block.get((160, 96), "up.weight").unwrap();
        assert_eq!(tensor.dtype(), DType::F32);
        let (_, elements) = &originals["layers.3.up.weight"];
        let expected: Vec<f32> = elements.iter().map(|element| element.to_f32()).collect();
        assert_eq!(tensor.flatten_all().unwrap().to_vec1::<f32>().unwrap(), expected);
        let error = block.get((96, 160), "up.weight").unwrap_err().to_string();
        assert!(error.contains("layers.3.up.weight"), "{error}");
    });
}

#[test]
fn types_other_than_bf16_are_loaded_but_not_streamed() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("model.safetensors");
    let ids = Tensor::new(&[[3i64, -1]], &Device::Cpu).unwrap();
    candle_core::safetensors::save(&[("ids".to_owned(), ids.clone())].into(), &path).unwrap();
    let weights = Weights::open(&path).unwrap();
    assert_eq!(weights.load("ids").unwrap().to_vec2::<i64>().unwrap(), [[3, -1]]);
    let error = weights.stream(&[vec!["ids".to_owned()]], 1).unwrap_err().to_string();
    assert!(error.contains("ids") && error.contains("I64"), "{error}");
}

#[test]
fn a_resident_part_has_what_it_was_given() {
    let one = Tensor::new(1f32, &Device::Cpu).unwrap();
    let part = Part::resident([("one".to_owned(), one)].into());
    assert_eq!(part.tensor("one").unwrap().to_scalar::<f32>().unwrap(), 1.0);
    assert!(part.tensor("two").is_err());
}
