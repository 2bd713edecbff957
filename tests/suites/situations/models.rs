//! Models that people use are compressed and restored.

use std::fs;

use df11_model::{
    Codec, CompressOptions, DecompressOptions, Purpose, Reader, compress, decompress, for_each_stored,
    inspect, verify,
};
use df11_tests::corpus::{Tensor, Tensors, read, write};
use safetensors::tensor::Dtype;
use serde_json::{Value, json};

use crate::support::{
    CODECS, blocks, df11, files, header, matrix, model, of_type, path, shards, stderr, text, there_and_back,
    weights, weights_with, with,
};

#[test]
fn pipelines_go_through_as_one_with_each_component_in_its_folder() {
    let temp = tempfile::tempdir().unwrap();
    let root = temp.path();
    text(root, "model_index.json", "{\"_class_name\": \"FluxPipeline\"}");
    let parts = [blocks("transformer_blocks", 2), blocks("single_transformer_blocks", 2)];
    shards(&root.join("transformer"), "diffusion_pytorch_model", &parts);
    text(root, "transformer/config.json", "{\"_class_name\": \"FluxTransformer2DModel\"}");
    weights(root, "text_encoder/model.safetensors", &blocks("layers", 2));
    text(root, "text_encoder/config.json", "{\n}\n");
    weights(root, "vae/x.safetensors", &Tensors::from([("conv".to_owned(), of_type(Dtype::F32, &[9], 1))]));
    text(root, "scheduler/scheduler_config.json", "{}");
    for codec in CODECS {
        let (packed, _) = there_and_back(root, &with(codec));
        let transformer = packed.path().join("packed/transformer");
        if codec == Codec::Df11 {
            let config: Value =
                serde_json::from_slice(&fs::read(transformer.join("config.json")).unwrap()).unwrap();
            assert!(config["dfloat11_config"]["pattern_dict"].is_object());
        }
        // A component on its own is read as its loader reads it.
        let (reader, plain) =
            (Reader::open(&transformer).unwrap(), Reader::open(root.join("transformer")).unwrap());
        assert!(reader.tensors().map(|tensor| tensor.name()).eq(plain.tensors().map(|tensor| tensor.name())));
    }
    // The same with a model at the root, beside the folders.
    weights(root, "flux1-dev.safetensors", &blocks("double_blocks", 2));
    there_and_back(root, &CompressOptions::default());
}

#[test]
fn two_indices_files_outside_an_index_and_stale_indices_are_no_obstacle() {
    let temp = model();
    let root = temp.path();
    fs::remove_file(root.join("model.safetensors")).unwrap();
    shards(root, "model", &[blocks("layers", 2), blocks("more", 2)]);
    shards(root, "consolidated", &[blocks("blk", 2), blocks("blk.x", 2)]);
    weights(root, "mtp.safetensors", &blocks("mtp", 2));
    for codec in CODECS {
        let (_, report) = there_and_back(root, &with(codec));
        if codec == Codec::Df11 {
            for module in ["layers.1", "blk.1", "mtp.0"] {
                assert!(report.units.iter().any(|unit| unit.path == module), "{module}");
            }
        }
    }
    // An index of shards that have other names now, though nothing is missing.
    let index = root.join("model.safetensors.index.json");
    let stale = fs::read_to_string(&index).unwrap().replace("of-00002", "of-00004");
    fs::write(&index, stale).unwrap();
    there_and_back(root, &CompressOptions::default());
    // Something is missing.
    fs::remove_file(root.join("model-00002-of-00002.safetensors")).unwrap();
    let out = tempfile::tempdir().unwrap();
    let error = compress(root, out.path().join("o"), &CompressOptions::default(), &()).unwrap_err();
    assert!(error.to_string().contains("which is not there; download it again"), "{error}");
}

#[test]
fn an_index_may_name_shards_in_a_folder_and_a_tensor_may_be_in_two_shards() {
    let temp = tempfile::tempdir().unwrap();
    let root = temp.path();
    shards(&root.join("weights"), "model", &[blocks("layers", 2), blocks("layers", 3)]);
    let index = root.join("weights/model.safetensors.index.json");
    let text = fs::read_to_string(&index).unwrap().replace("\"model-", "\"weights/model-");
    fs::write(root.join("model.safetensors.index.json"), text).unwrap();
    fs::remove_file(index).unwrap();
    for codec in CODECS {
        there_and_back(root, &with(codec));
    }
}

#[test]
fn frames_keep_the_shards_and_resume() {
    let temp = tempfile::tempdir().unwrap();
    shards(temp.path(), "model", &[blocks("layers", 2), blocks("more", 2), blocks("last", 2)]);
    let (packed, _) = there_and_back(temp.path(), &with(Codec::Rans));
    let packed = packed.path().join("packed");
    let written = files(&packed);
    for name in files(temp.path()).keys() {
        assert!(written.contains_key(name), "{name}");
    }
    // As a run that was killed leaves them: finished, but not visible.
    let staged = |name: &str| {
        use sha2::{Digest, Sha256};
        packed.join(format!(".df11-staged-{}", &hex::encode(Sha256::digest(name))[..16]))
    };
    let shard = "model-00002-of-00003.safetensors";
    for name in written.keys() {
        if name == shard {
            fs::rename(packed.join(name), staged(name)).unwrap();
        } else {
            fs::remove_file(packed.join(name)).unwrap();
        }
    }
    let job = format!("df11 compress {}", fs::canonicalize(temp.path()).unwrap().display());
    fs::write(packed.join(".df11-unfinished"), job).unwrap();
    let report = compress(temp.path(), &packed, &with(Codec::Rans), &()).unwrap();
    assert_eq!(report.kept_files, 1);
    assert!(files(&packed) == written);
}

#[test]
fn restoring_resumes() {
    let (temp, model) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    shards(model.path(), "model", &[blocks("layers", 2), blocks("more", 2)]);
    for codec in CODECS {
        let packed = temp.path().join(format!("{codec:?}"));
        let back = temp.path().join(format!("{codec:?}-back"));
        compress(model.path(), &packed, &with(codec), &()).unwrap();
        fs::create_dir(&back).unwrap();
        use sha2::{Digest, Sha256};
        let name = "model-00002-of-00002.safetensors";
        let staged = format!(".df11-staged-{}", &hex::encode(Sha256::digest(name))[..16]);
        fs::copy(model.path().join(name), back.join(staged)).unwrap();
        let job = format!("df11 decompress {}", fs::canonicalize(&packed).unwrap().display());
        fs::write(back.join(".df11-unfinished"), job).unwrap();
        let report = decompress(&packed, &back, &DecompressOptions::default(), &()).unwrap();
        assert_eq!(report.kept_files, 1);
        crate::support::same(model.path(), &back);
    }
}

#[test]
fn shards_are_cut_at_the_size_that_is_asked_for() {
    let temp = tempfile::tempdir().unwrap();
    write(&temp.path().join("model.safetensors"), &blocks("layers", 6));
    for codec in [Codec::Rans, Codec::Df11] {
        let options = with(codec).max_shard_size(30_000);
        let (packed, _) = there_and_back(temp.path(), &options);
        let packed = packed.path().join("packed");
        let files = files(&packed);
        let weights = files.iter().filter(|(name, _)| name.ends_with(".safetensors"));
        for (name, bytes) in weights.clone() {
            assert!(bytes.len() - header(bytes).1 <= 30_000, "{name}");
        }
        assert!(weights.count() > 3);
        if codec == Codec::Rans {
            let index: Value = serde_json::from_slice(&files["model.safetensors.index.json"]).unwrap();
            for (tensor, file) in index["weight_map"].as_object().unwrap() {
                let file = read(&packed.join(file.as_str().unwrap()));
                assert!(file.contains_key(tensor));
            }
        }
    }
}

#[test]
fn metadata_of_the_originals_stay_in_every_output() {
    let temp = tempfile::tempdir().unwrap();
    let file = temp.path().join("flux dev (v1.0).safetensors");
    let metadata = [("format", "pt"), ("modelspec.architecture", "flux-1-dev"), ("ss_dim", "32")];
    weights_with(&file, &blocks("double_blocks", 2), &metadata);
    for codec in CODECS {
        let (packed, _) = there_and_back(temp.path(), &with(codec));
        for (name, bytes) in files(&packed.path().join("packed")) {
            if name.ends_with(".safetensors") {
                let header: Value = serde_json::from_str(&header(&bytes).0).unwrap();
                for (key, value) in metadata {
                    assert_eq!(header["__metadata__"][key], value, "{name}");
                }
            }
        }
    }
}

#[test]
fn where_df11_gains_nothing_the_default_gives_frames_and_otherwise_says_what_they_would_give() {
    let temp = tempfile::tempdir().unwrap();
    let fp8 = temp.path().join("fp8.safetensors");
    write(&fp8, &Tensors::from([("w".to_owned(), of_type(Dtype::F8_E4M3, &[200, 100], 1))]));
    let out = |name: &str| temp.path().join(name);
    let report = compress(&fp8, out("a"), &with(Codec::Choose), &()).unwrap();
    assert_eq!((report.codec.as_str(), report.frames.len()), ("auto", 1));
    let report = compress(&fp8, out("b"), &with(Codec::Df11), &()).unwrap();
    assert!(report.nothing_to_gain && report.frames_would_save > 2000 && !out("b").exists());
    // Experts in three dimensions, beside matrices that DF11 takes.
    let mixed = temp.path().join("mixed.safetensors");
    let mut tensors = blocks("layers", 2);
    tensors.insert("layers.0.experts.up".to_owned(), Tensor { shape: vec![4, 64, 96], ..matrix(256, 96, 5) });
    write(&mixed, &tensors);
    let report = compress(&mixed, out("c"), &with(Codec::Choose), &()).unwrap();
    assert_eq!(report.codec, "df11");
    let output = df11(&["compress", path(&mixed), "-o", path(&out("d"))]);
    let said = String::from_utf8(output.stdout).unwrap();
    let hints: Vec<_> = said.lines().filter(|line| line.contains("--codec auto would give about")).collect();
    assert_eq!(hints.len(), 1, "{said}");
    // Nothing can be gained: this is reported, nothing is written, and it is no failure.
    let noise = temp.path().join("noise.safetensors");
    let mut random = df11_tests::weights::Random(3);
    let bytes = (0..4000).map(|_| random.next() as u8).collect();
    write(&noise, &Tensors::from([("w".to_owned(), Tensor { dtype: Dtype::U8, shape: vec![4000], bytes })]));
    let output = df11(&["compress", path(&noise), "-o", path(&out("e"))]);
    assert_eq!(output.status.code(), Some(0));
    assert!(String::from_utf8(output.stdout).unwrap().starts_with("nothing to gain: nothing was written"));
    assert!(!out("e").exists());
}

#[test]
fn what_other_programs_saved_again_is_recognised_and_restored_as_far_as_it_says_itself() {
    let (model, temp) = (model(), tempfile::tempdir().unwrap());
    let file = model.path().join("model.safetensors");
    let original = read(&file);
    // Frames without their metadata.
    let frames = temp.path().join("frames.safetensors");
    compress(&file, &frames, &with(Codec::Rans).single_file(true), &()).unwrap();
    let again = temp.path().join("again.safetensors");
    write(&again, &read(&frames));
    let back = temp.path().join("back.safetensors");
    let report = decompress(&again, &back, &DecompressOptions::default(), &()).unwrap();
    assert!(!report.original_restored && !report.recorded);
    assert_eq!(read(&back), original);
    assert!(verify(&again, None, 0, &()).unwrap().frames > 0);
    // Units with the metadata of one of their files.
    let (units, merged) = (temp.path().join("units"), temp.path().join("merged"));
    compress(model.path(), &units, &CompressOptions::default(), &()).unwrap();
    let (mut tensors, mut metadata) = (Tensors::new(), Vec::new());
    for (name, bytes) in files(&units).iter().filter(|(name, _)| name.ends_with(".safetensors")) {
        tensors.extend(read(&units.join(name)));
        let header: Value = serde_json::from_str(&header(bytes).0).unwrap();
        metadata = vec![header["__metadata__"]["df11"].as_str().unwrap().to_owned()];
    }
    fs::create_dir(&merged).unwrap();
    fs::copy(units.join("config.json"), merged.join("config.json")).unwrap();
    weights_with(&merged.join("model.safetensors"), &tensors, &[("df11", &metadata[0])]);
    let report = decompress(&merged, temp.path().join("b"), &DecompressOptions::default(), &()).unwrap();
    assert!(!report.original_restored && !report.warnings.is_empty());
    let restored = read(&temp.path().join("b/model.safetensors"));
    assert!(original.iter().all(|(name, tensor)| restored[name].bytes == tensor.bytes));
}

#[test]
fn a_tensor_of_more_dimensions_than_a_frame_has_stays_plain() {
    let temp = tempfile::tempdir().unwrap();
    let mut tensors = blocks("layers", 2);
    let shape: Vec<usize> = std::iter::repeat_n(1, 32).chain([64, 96]).collect();
    tensors.insert("deep".to_owned(), Tensor { shape, ..matrix(64, 96, 3) });
    write(&temp.path().join("model.safetensors"), &tensors);
    let (_, report) = there_and_back(temp.path(), &with(Codec::Rans));
    assert!(report.plain.iter().any(|plain| plain.name == "deep"));
}

#[test]
fn a_plain_tensor_may_be_named_like_a_part_of_a_unit() {
    let temp = tempfile::tempdir().unwrap();
    let mut tensors = blocks("layers", 2);
    tensors.insert("encoded_exponent".to_owned(), of_type(Dtype::I64, &[3], 1));
    tensors.insert("x.luts".to_owned(), of_type(Dtype::I64, &[3], 1));
    write(&temp.path().join("model.safetensors"), &tensors);
    for codec in CODECS {
        there_and_back(temp.path(), &with(codec));
    }
}

#[test]
fn what_is_not_weights_is_said_to_be_what_it_is() {
    let out = tempfile::tempdir().unwrap();
    for (content, says) in [
        ("version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 45442040\n", "git lfs pull"),
        ("<!DOCTYPE html><html><head><title>401</title></head></html>\n", "web page"),
        ("PK\u{3}\u{4}..................", "PyTorch"),
    ] {
        let temp = tempfile::tempdir().unwrap();
        text(temp.path(), "model.safetensors", content);
        let output = df11(&["compress", path(temp.path()), "-o", path(&out.path().join("o"))]);
        assert_eq!(output.status.code(), Some(1));
        assert!(stderr(&output).contains(says), "{}", stderr(&output));
    }
}

#[test]
fn many_tiny_tensors_share_files_and_hardly_grow() {
    let temp = tempfile::tempdir().unwrap();
    let mut tensors = blocks("layers", 2);
    for i in 0..5000 {
        tensors.insert(format!("experts.{i}.s"), Tensor::bf16(&[4], &[0x3f80, 0x3f81, 0x3f82, 0x3f83]));
    }
    // A matrix that outweighs the records of all the small ones.
    tensors.insert("head.weight".to_owned(), matrix(3000, 1500, 3));
    write(&temp.path().join("model.safetensors"), &tensors);
    for codec in CODECS {
        let (packed, report) = there_and_back(temp.path(), &with(codec));
        let all: usize = files(&packed.path().join("packed")).values().map(Vec::len).sum();
        assert!((all as u64) < report.bytes_before * 11 / 10, "{all} of {}", report.bytes_before);
        assert!(files(&packed.path().join("packed")).len() < 10);
    }
    // Without it, nothing pays: they are copied, or nothing is written.
    tensors.remove("head.weight");
    write(&temp.path().join("model.safetensors"), &tensors);
    let out = tempfile::tempdir().unwrap();
    for codec in CODECS {
        let report = compress(temp.path(), out.path().join("o"), &with(codec), &()).unwrap();
        assert!(report.nothing_to_gain);
    }
}

#[test]
fn many_small_units_share_files() {
    let temp = tempfile::tempdir().unwrap();
    write(&temp.path().join("model.safetensors"), &blocks("layers", 600));
    let (packed, report) = there_and_back(temp.path(), &CompressOptions::default());
    assert_eq!(report.units.len(), 600);
    assert!(files(&packed.path().join("packed")).len() < 10);
    assert!(inspect(packed.path().join("packed"), None, 0).unwrap().units.len() == 600);
}

#[test]
fn the_linter_accepts_a_checkpoint_in_which_nothing_was_compressed() {
    // As version 0.1 wrote them, where now nothing is written.
    let temp = tempfile::tempdir().unwrap();
    let metadata = json!({"version": 1, "writer": "df11 0.1.0", "tensors": []}).to_string();
    let file = temp.path().join("m.safetensors");
    weights_with(&file, &Tensors::new(), &[("df11", &metadata)]);
    let mut stored = 0;
    for_each_stored(&file, |_, _, _| stored += 1).unwrap();
    assert_eq!(stored, 0);
    assert_eq!(df11(&["lint", path(&file)]).status.code(), Some(0));
}

#[test]
fn a_unit_with_code_behind_its_last_codeword_is_restored_and_the_linter_says_so() {
    // What is cut out of a larger unit ends like this: with code of elements that are no longer
    // there.
    let original = df11_tests::weights::like_trained(30_000, 5);
    let bytes = df11_tests::weights::bytes(&original);
    let whole = df11::encode(&bytes).unwrap();
    let elements = whole.as_unit().block_range(1).end;
    let kept = 2 * df11::hazmat::layout::BLOCK_BYTES;
    let mut positions = whole.output_positions[..12].to_vec();
    positions.extend((elements as u32).to_le_bytes());
    let part = |dtype, shape: Vec<usize>, bytes: &[u8]| Tensor { dtype, shape, bytes: bytes.to_vec() };
    let u8s = |bytes: &[u8]| part(Dtype::U8, vec![bytes.len()], bytes);
    let unit = Tensors::from([
        ("layers.0.luts".to_owned(), part(Dtype::U8, vec![whole.luts.len() / 256, 256], &whole.luts)),
        ("layers.0.encoded_exponent".to_owned(), u8s(&whole.encoded_exponent[..kept + 8])),
        ("layers.0.sign_mantissa".to_owned(), u8s(&whole.sign_mantissa[..elements])),
        ("layers.0.output_positions".to_owned(), u8s(&positions)),
        ("layers.0.gaps".to_owned(), u8s(&whole.gaps[..3 * df11::hazmat::layout::GAP_BYTES_PER_BLOCK])),
        ("layers.0.split_positions".to_owned(), part(Dtype::I64, vec![0], &[])),
    ]);
    let temp = tempfile::tempdir().unwrap();
    let file = temp.path().join("cut.safetensors");
    weights_with(&file, &unit, &[]);
    verify(&file, None, 0, &()).unwrap();
    let lint = df11(&["lint", path(&file)]);
    let said = String::from_utf8_lossy(&lint.stdout).into_owned();
    assert!(
        lint.status.success() && said.contains("acceptable D-6.3") && said.contains(" bits are left"),
        "{said}"
    );
    let restored = temp.path().join("restored.safetensors");
    decompress(&file, &restored, &DecompressOptions::default(), &()).unwrap();
    assert!(read(&restored)["layers.0.weight"].bytes == bytes[..2 * elements]);
}

#[test]
fn a_folder_where_a_file_of_the_output_belongs_is_an_error_before_anything_is_written() {
    let temp = model();
    fs::remove_file(temp.path().join("config.json")).ok();
    text(temp.path(), "config.json/notes.txt", "a folder with the name of a configuration");
    let out = tempfile::tempdir().unwrap();
    let packed = out.path().join("packed");
    let error = compress(temp.path(), &packed, &CompressOptions::default(), &()).unwrap_err();
    assert!(error.to_string().contains("config.json would be both a file and a folder"), "{error}");
    assert_eq!(files(&packed).len(), 0);
}

#[test]
fn frames_of_another_codec_or_another_block_length_are_not_taken_for_what_was_asked_for() {
    let temp = model();
    let out = tempfile::tempdir().unwrap();
    let packed = out.path().join("packed");
    let mut seen = std::collections::BTreeSet::new();
    for (purpose, codec) in [
        (Purpose::Size, Some(Codec::Rans)),
        (Purpose::Speed, None),
        (Purpose::Gpu, Some(Codec::Rans)),
        (Purpose::Gpu, None),
    ] {
        let options = CompressOptions::of(purpose, codec).force(true);
        compress(temp.path(), &packed, &options, &()).unwrap();
        verify(&packed, Some(temp.path()), 0, &()).unwrap();
        let mut forms = std::collections::BTreeSet::new();
        for file in files(&packed).into_iter().filter(|(name, _)| name.ends_with(".safetensors")) {
            let tensors = safetensors::SafeTensors::deserialize(&file.1).unwrap();
            for (_, view) in tensors.tensors() {
                if let Ok(frame) = df11::frame::Frame::new(view.data()) {
                    forms.insert((frame.header().codec().number(), frame.header().block_len()));
                }
            }
        }
        assert_eq!(forms.len(), 1, "{forms:?}");
        seen.extend(forms);
    }
    assert_eq!(Vec::from_iter(seen), [(1, 16_384), (1, 65_536), (3, 65_536)]);
    let odd = CompressOptions::default().codec(Codec::Rans).block_len(5000);
    let error = compress(temp.path(), out.path().join("odd"), &odd, &()).unwrap_err();
    assert!(error.to_string().contains("blocks cannot have 5000 elements"), "{error}");
}
