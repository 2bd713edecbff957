//! Readers: single tensors and parts of them out of a checkpoint.

use std::fs;

use df11::frame::Frame;
use df11_model::{Codec, CompressOptions, Error, ErrorKind, Reader, ReaderTensor, compress, verify};
use df11_tests::corpus::{Tensor, Tensors};
use safetensors::tensor::Dtype;
use serde_json::json;

use crate::support::{llama, llama_config, matrix, model, reads_as, with_metadata};

#[test]
fn a_reader_finds_a_row_in_any_block_of_a_frame() {
    // Three blocks and a part of one.
    let tensors = Tensors::from([("w".to_owned(), matrix(425, 512, 3))]);
    let model = model(&tensors, None, 1);
    let temp = tempfile::tempdir().unwrap();
    let packed = temp.path().join("packed");
    let options = CompressOptions::default().codec(Codec::Rans);
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
    // For programs that decode frames themselves.
    let frame = Frame::new(reader.frame_bytes("w").unwrap()).unwrap();
    let mut found = vec![0; frame.elements_bytes()];
    frame.decode_into(&mut found).unwrap();
    assert!(found == tensors["w"].bytes && reader.frame_bytes("x").is_none());
    assert!(Reader::open(model.path()).unwrap().frame_bytes("w").is_none(), "it is plain there");
    assert_eq!(reader.path(), packed);
}

#[test]
fn a_reader_says_what_was_asked_wrongly_and_what_is_damaged() {
    let model = model(&llama(2), Some(&llama_config()), 1);
    let temp = tempfile::tempdir().unwrap();
    let name = "model.layers.1.mlp.up_proj.weight";
    for codec in [Codec::Df11, Codec::Rans] {
        let packed = temp.path().join(format!("{codec:?}"));
        compress(model.path(), &packed, &CompressOptions::default().codec(codec), &()).unwrap();
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
        // All stored bytes become zeros. Any error, on opening or on decoding, names the file.
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
    let options = CompressOptions::default().codec(Codec::Rans);
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
    // The same bytes under another type of the same number of bits are equally valid.
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
    let options = CompressOptions::default().codec(Codec::Rans);
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
        let options = CompressOptions::default().codec(codec).single_file(true).force(true);
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
