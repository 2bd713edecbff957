//! No file of the user is lost, and every claim is true.

use std::fs;
use std::path::Path;
use std::sync::Mutex;

use df11_model::{
    Codec, CompressOptions, DecompressOptions, ErrorKind, Progress, compress, decompress, verify,
};
use df11_tests::corpus::{Tensors, write};
use df11_tests::weights::Random;
use safetensors::tensor::Dtype;

use crate::support::{
    CODECS, blocks, df11, files, forced, matrix, model, of_type, path, same, stderr, text, there_and_back,
    weights, with, with_header,
};

#[test]
fn forcing_replaces_nothing_that_df11_did_not_write() {
    let (model, temp) = (model(), tempfile::tempdir().unwrap());
    let (packed, shelf) = (temp.path().join("packed"), temp.path().join("shelf"));
    compress(model.path(), &packed, &CompressOptions::default(), &()).unwrap();
    weights(&shelf, "other-model.safetensors", &blocks("h", 1));
    text(&shelf, "config.json", "{\"other\": 1}");
    let before = files(&shelf);
    // Without force, the directory is not empty; with it, config.json is in the way.
    let refused = decompress(&packed, &shelf, &DecompressOptions::default(), &()).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Usage);
    let refused = decompress(&packed, &shelf, &forced(), &()).unwrap_err();
    assert!(refused.to_string().contains("in the way") && refused.to_string().contains("config.json"));
    // For compression, weights of others are in the way as well: loaders read them all.
    let force = CompressOptions::default().force(true);
    let refused = compress(model.path(), &shelf, &force, &()).unwrap_err();
    assert!(refused.to_string().contains("other-model.safetensors"), "{refused}");
    assert!(files(&shelf) == before);
    // Files that are not in the way stay.
    fs::remove_file(shelf.join("config.json")).unwrap();
    decompress(&packed, &shelf, &forced(), &()).unwrap();
    assert!(files(&shelf)["other-model.safetensors"] == before["other-model.safetensors"]);
}

#[test]
fn what_was_changed_since_is_the_users_and_is_not_replaced() {
    let (model, temp) = (model(), tempfile::tempdir().unwrap());
    let packed = temp.path().join("packed");
    compress(model.path(), &packed, &CompressOptions::default(), &()).unwrap();
    text(&packed, "tokenizer.json", "{\"mine\": 1}");
    let before = files(&packed);
    let force = CompressOptions::default().force(true);
    let refused = compress(model.path(), &packed, &force, &()).unwrap_err();
    assert!(refused.to_string().contains("tokenizer.json"), "{refused}");
    assert!(files(&packed) == before);
}

#[test]
fn restoring_into_the_original_directory_loses_nothing() {
    let (model, temp) = (model(), tempfile::tempdir().unwrap());
    weights(model.path(), "mtp.safetensors", &blocks("mtp", 2));
    text(model.path(), ".env", "secret");
    let before = files(model.path());
    for codec in CODECS {
        let packed = temp.path().join(format!("{codec:?}"));
        compress(model.path(), &packed, &with(codec), &()).unwrap();
        // Everything is there as it should be.
        let report = decompress(&packed, model.path(), &forced(), &()).unwrap();
        assert!(report.original_restored && report.kept_files == 2, "{report:?}");
        assert!(files(model.path()) == before);
        // One file is gone, and comes back; one was changed, and stops the rest.
        fs::remove_file(model.path().join("mtp.safetensors")).unwrap();
        decompress(&packed, model.path(), &forced(), &()).unwrap();
        assert!(files(model.path()) == before);
        text(model.path(), "tokenizer.json", "mine");
        decompress(&packed, model.path(), &forced(), &()).unwrap_err();
        text(model.path(), "tokenizer.json", "{\"version\": \"1.0\"}\n");
    }
}

#[test]
fn files_put_beside_the_output_by_hand_are_restored_or_named() {
    let (model, temp) = (model(), tempfile::tempdir().unwrap());
    let (packed, back) = (temp.path().join("packed"), temp.path().join("back"));
    compress(model.path(), &packed, &CompressOptions::default(), &()).unwrap();
    weights(&packed, "mtp.safetensors", &blocks("mtp", 1));
    text(&packed, "notes/today.txt", "remember");
    text(&packed, ".cache/x", "x");
    let report = decompress(&packed, &back, &DecompressOptions::default(), &()).unwrap();
    assert_eq!(report.copied, ["notes/today.txt", "mtp.safetensors"]);
    assert_eq!(report.stays, [(".cache".to_owned(), "hidden".to_owned())]);
    let (there, restored) = (files(&packed), files(&back));
    for name in ["mtp.safetensors", "notes/today.txt"] {
        assert!(restored[name] == there[name]);
    }
    let output = df11(&["decompress", path(&packed), "-o", path(&temp.path().join("again")), "-q"]);
    assert_eq!(stderr(&output), "stays behind: .cache (hidden)\n");
}

#[test]
fn a_run_that_fails_has_changed_nothing_that_was_visible() {
    let (model, temp) = (model(), tempfile::tempdir().unwrap());
    let (packed, shelf) = (temp.path().join("packed"), temp.path().join("shelf"));
    compress(model.path(), &packed, &CompressOptions::default(), &()).unwrap();
    decompress(&packed, &shelf, &DecompressOptions::default(), &()).unwrap();
    fs::remove_file(shelf.join("model.safetensors")).unwrap();
    let before = files(&shelf);
    let unit = packed.join("layers_1.safetensors");
    let mut bytes = fs::read(&unit).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(&unit, bytes).unwrap();
    assert_eq!(decompress(&packed, &shelf, &forced(), &()).unwrap_err().kind(), ErrorKind::Data);
    assert!(files(&shelf) == before);
}

#[test]
fn every_file_below_a_directory_comes_along_or_is_said_to_stay() {
    let temp = model();
    let root = temp.path();
    weights(root, "2_Dense/model.safetensors", &blocks("linear", 2));
    text(root, "2_Dense/config.json", "{\"in_features\": 96}");
    weights(root, "consolidated.safetensors", &blocks("tok.layers", 2));
    weights(root, "model.fp16.safetensors", &blocks("layers", 3));
    weights(
        root,
        "onnx/tiny/x.safetensors",
        &Tensors::from([("w".to_owned(), of_type(Dtype::I64, &[3], 1))]),
    );
    text(root, "model-q4.gguf", "GGUF");
    text(root, "empty.bin", "");
    assert!(!df11_model::inspect(root, None, 0).unwrap().compressed);
    for codec in CODECS {
        let (packed, report) = there_and_back(root, &with(codec));
        assert!(report.left_behind.is_empty(), "{:?}", report.left_behind);
        // Loaders find no name twice in a folder.
        let mut names = std::collections::HashSet::new();
        for (name, bytes) in files(&packed.path().join("packed")) {
            if !name.contains('/') && name.ends_with(".safetensors") {
                let (header, _) = crate::support::header(&bytes);
                let header: serde_json::Value = serde_json::from_str(&header).unwrap();
                for tensor in header.as_object().unwrap().keys().filter(|key| *key != "__metadata__") {
                    assert!(names.insert(tensor.clone()), "{tensor} is there twice");
                }
            }
        }
    }
    // Hidden files stay behind, and this is reported, also with --quiet.
    text(root, ".env", "secret");
    let out = tempfile::tempdir().unwrap();
    let output = df11(&["compress", path(root), "-o", path(&out.path().join("o")), "-q"]);
    assert_eq!((output.status.code(), stderr(&output).as_str()), (Some(0), "not copied: .env (hidden)\n"));
}

/// Changes a byte of a file once the weights have been read.
struct Meddler<'a> {
    path: &'a Path,
    at: usize,
    done: Mutex<bool>,
}

impl Progress for Meddler<'_> {
    fn begin(&self, task: &str, _: u64) {
        let mut done = self.done.lock().unwrap();
        if task == "compressing" && !*done {
            let mut bytes = fs::read(self.path).unwrap();
            bytes[self.at] ^= 0x80;
            fs::write(self.path, bytes).unwrap();
            *done = true;
        }
    }
}

#[test]
fn a_run_that_was_killed_after_its_last_step_can_be_repeated_as_any_other() {
    // All is there, and the marker is gone: the next run finds that, and writes nothing.
    let (model, temp) = (model(), tempfile::tempdir().unwrap());
    for codec in CODECS {
        let (packed, back) =
            (temp.path().join(format!("{codec:?}")), temp.path().join(format!("{codec:?}-b")));
        let times = |directory: &Path| -> Vec<_> {
            let entries = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
            entries.map(|path| (path.clone(), fs::metadata(path).unwrap().modified().unwrap())).collect()
        };
        compress(model.path(), &packed, &with(codec), &()).unwrap();
        let before = times(&packed);
        let report = compress(model.path(), &packed, &with(codec), &()).unwrap();
        assert!(report.kept_files > 0 && times(&packed) == before);
        decompress(&packed, &back, &DecompressOptions::default(), &()).unwrap();
        let before = times(&back);
        assert!(decompress(&packed, &back, &DecompressOptions::default(), &()).unwrap().original_restored);
        assert!(times(&back) == before);
        // Anything else is not touched.
        fs::remove_file(back.join("tokenizer.json")).unwrap();
        decompress(&packed, &back, &DecompressOptions::default(), &()).unwrap_err();
        text(&packed, "config.json", "{}");
        compress(model.path(), &packed, &with(codec), &()).unwrap_err();
        assert!(!packed.join(".df11-unfinished").exists() && !back.join(".df11-unfinished").exists());
    }
}

#[test]
fn a_source_that_changes_while_it_is_compressed_is_an_error() {
    for codec in CODECS {
        for name in ["plain", "layers.0.up.weight", "tokenizer.json"] {
            let model = model();
            let file = model.path().join("model.safetensors");
            let mut tensors = blocks("layers", 3);
            tensors.insert("plain".to_owned(), of_type(Dtype::I64, &[1], 3));
            write(&file, &tensors);
            let companion = model.path().join(name);
            let (path, at) = if companion.exists() {
                (companion.as_path(), 3)
            } else {
                let bytes = fs::read(&file).unwrap();
                let wanted = &tensors[name].bytes;
                (file.as_path(), bytes.windows(wanted.len()).position(|bytes| bytes == wanted).unwrap() + 1)
            };
            let meddler = Meddler { path, at, done: Mutex::new(false) };
            let out = tempfile::tempdir().unwrap();
            let packed = out.path().join("packed");
            let error = compress(model.path(), &packed, &with(codec), &meddler).unwrap_err();
            assert!(error.to_string().contains("change"), "{codec:?} {name}: {error}");
            assert!(files(&packed).is_empty());
            // The next run takes the file as it is now.
            compress(model.path(), &packed, &with(codec), &()).unwrap();
            verify(&packed, Some(model.path()), 0, &()).unwrap();
        }
    }
}

#[cfg(unix)]
#[test]
fn a_link_to_nothing_where_weights_should_be_is_an_error() {
    let (model, out) = (model(), tempfile::tempdir().unwrap());
    std::os::unix::fs::symlink("../nowhere", model.path().join("model-2.safetensors")).unwrap();
    let error = compress(model.path(), out.path().join("o"), &CompressOptions::default(), &()).unwrap_err();
    assert!(error.to_string().contains("model-2.safetensors: is a link to nothing"), "{error}");
    assert!(!out.path().join("o").exists());
}

#[test]
fn companions_and_configurations_that_are_not_as_recorded_are_noticed_and_named() {
    let (model, temp) = (model(), tempfile::tempdir().unwrap());
    text(model.path(), "sub/README.md", "hello");
    let packed = temp.path().join("packed");
    let options = CompressOptions::default().force(true);
    type Damage = fn(&Path);
    let damages: [(&str, Damage); 4] = [
        ("tokenizer.json", |path| fs::write(path, "{\"v").unwrap()),
        ("tokenizer.json", |path| fs::remove_file(path).unwrap()),
        ("sub/README.md", |path| fs::write(path, "hallo").unwrap()),
        ("config.json", |path| {
            let text = fs::read_to_string(path).unwrap();
            fs::write(path, text.replacen("\"x\"", "\"y\"", 1)).unwrap();
        }),
    ];
    for (i, (name, damage)) in damages.into_iter().enumerate() {
        let _ = fs::remove_dir_all(&packed);
        compress(model.path(), &packed, &options, &()).unwrap();
        damage(&packed.join(name));
        for against in [None, Some(model.path())] {
            let error = verify(&packed, against, 0, &()).unwrap_err();
            assert!(error.to_string().contains(name), "{error}");
        }
        let back = temp.path().join(i.to_string());
        let output = df11(&["decompress", path(&packed), "-o", path(&back)]);
        let said = String::from_utf8(output.stdout.clone()).unwrap();
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(!said.contains("byte for byte: every") && stderr(&output).contains(name), "{said}");
        // All other files were restored.
        let (original, restored) = (files(model.path()), files(&back));
        for (other, bytes) in original.iter().filter(|(other, _)| *other != name) {
            assert!(restored[other] == *bytes, "{other}");
        }
    }
}

#[test]
fn types_and_shapes_are_compared() {
    let temp = tempfile::tempdir().unwrap();
    let (file, packed) = (temp.path().join("m.safetensors"), temp.path().join("packed.safetensors"));
    let mut tensors = blocks("layers", 2);
    tensors.insert("norm".to_owned(), matrix(4, 24, 9));
    write(&file, &tensors);
    let single = CompressOptions::default().single_file(true);
    compress(&file, &packed, &single, &()).unwrap();
    let sound = fs::read(&packed).unwrap();
    let norm = "\"norm\":{\"dtype\":\"BF16\",\"shape\":[4,24]";
    for other in
        ["\"norm\":{\"dtype\":\"F16\",\"shape\":[4,24]", "\"norm\":{\"dtype\":\"BF16\",\"shape\":[24,4]"]
    {
        fs::write(&packed, with_header(&sound, |header| header.replacen(norm, other, 1))).unwrap();
        for against in [None, Some(file.as_path())] {
            let error = verify(&packed, against, 0, &()).unwrap_err();
            assert!(error.to_string().contains("norm: is "), "{error}");
        }
        let back = temp.path().join("back.safetensors");
        decompress(&packed, &back, &DecompressOptions::default(), &()).unwrap_err();
        assert!(!back.exists());
    }
    // Against an original of other types.
    fs::write(&packed, &sound).unwrap();
    let other = temp.path().join("other.safetensors");
    let original = fs::read(&file).unwrap();
    fs::write(&other, with_header(&original, |header| header.replacen("[4,24]", "[24,4]", 1))).unwrap();
    verify(&packed, Some(&other), 0, &()).unwrap_err();
}

#[test]
fn against_compares_files_in_both_directions() {
    let (model, temp) = (model(), tempfile::tempdir().unwrap());
    let packed = temp.path().join("packed");
    compress(model.path(), &packed, &CompressOptions::default(), &()).unwrap();
    verify(&packed, Some(model.path()), 0, &()).unwrap();
    text(model.path(), "new.txt", "x");
    let error = verify(&packed, Some(model.path()), 0, &()).unwrap_err();
    assert!(error.to_string().contains("new.txt: is in the original, but not here"), "{error}");
    fs::remove_file(model.path().join("new.txt")).unwrap();
    fs::remove_file(model.path().join("tokenizer.json")).unwrap();
    let error = verify(&packed, Some(model.path()), 0, &()).unwrap_err();
    assert!(error.to_string().contains("tokenizer.json: was compressed, but is not"), "{error}");
}

#[test]
fn a_changed_byte_anywhere_is_noticed_or_harmless() {
    let (model, temp) = (model(), tempfile::tempdir().unwrap());
    for codec in [Codec::Df11, Codec::Rans] {
        let packed = temp.path().join(format!("{codec:?}"));
        compress(model.path(), &packed, &with(codec), &()).unwrap();
        let mut random = Random(17);
        for (name, sound) in files(&packed) {
            for _ in 0..60 {
                let mut damaged = sound.clone();
                let at = random.below(sound.len() as u64) as usize;
                damaged[at] ^= 1 << random.below(8);
                fs::write(packed.join(&name), &damaged).unwrap();
                if verify(&packed, None, 1, &()).is_err() {
                    continue;
                }
                // No rule reads these bits, and everything is restored all the same.
                let back = temp.path().join("back");
                let report = decompress(&packed, &back, &DecompressOptions::default(), &()).unwrap();
                assert!(report.original_restored, "byte {at} of {name}");
                same(model.path(), &back);
                fs::remove_dir_all(back).unwrap();
            }
            fs::write(packed.join(&name), &sound).unwrap();
        }
    }
}

#[test]
fn a_second_output_inside_the_model_takes_nothing_of_the_first() {
    let model = model();
    let (first, second) = (model.path().join("df11"), model.path().join("rans"));
    let before = files(model.path());
    compress(model.path(), &first, &CompressOptions::default(), &()).unwrap();
    let report = compress(model.path(), &second, &with(Codec::Rans), &()).unwrap();
    assert!(report.left_behind.iter().any(|(name, _)| name == "df11"), "{:?}", report.left_behind);
    assert!(files(&second).keys().all(|name| !name.contains('/')));
    let back = tempfile::tempdir().unwrap();
    decompress(&second, back.path().join("b"), &DecompressOptions::default(), &()).unwrap();
    assert!(files(&back.path().join("b")) == before);
}

#[test]
fn leftovers_of_killed_runs_are_removed_by_the_next() {
    let (model, temp) = (model(), tempfile::tempdir().unwrap());
    let one = temp.path().join("one.safetensors");
    let single = CompressOptions::default().single_file(true).force(true);
    let file = model.path().join("model.safetensors");
    compress(&file, &one, &single, &()).unwrap();
    // As a killed run to this file would leave it, and one to another.
    let key = |name: &str| {
        use sha2::{Digest, Sha256};
        hex::encode(Sha256::digest(name))[..16].to_owned()
    };
    let (ours, other) = (key("one.safetensors"), key("two.safetensors"));
    for key in [&ours, &other] {
        fs::write(temp.path().join(format!(".df11-partial-{key}-abc")), "half").unwrap();
    }
    compress(&file, &one, &single, &()).unwrap();
    assert!(!temp.path().join(format!(".df11-partial-{ours}-abc")).exists());
    assert!(temp.path().join(format!(".df11-partial-{other}-abc")).exists());
}

#[test]
fn operations_in_any_order_keep_what_is_the_users() {
    // Compress, damage, move, restore, force: after any sequence, files that a user put somewhere
    // are unchanged.
    let mut random = Random(23);
    for round in 0..12 {
        let (model, temp) = (model(), tempfile::tempdir().unwrap());
        let places = [temp.path().join("a"), temp.path().join("b")];
        let mut mine: Vec<(std::path::PathBuf, Vec<u8>)> = Vec::new();
        for step in 0..14 {
            let place = &places[random.below(2) as usize];
            let other = &places[random.below(2) as usize];
            let codec = CODECS[random.below(3) as usize];
            match random.below(5) {
                0 | 1 => {
                    let force = random.below(2) == 0;
                    let _ = compress(model.path(), place, &with(codec).force(force), &());
                }
                2 => {
                    let force = random.below(2) == 0;
                    let options = DecompressOptions::default().force(force);
                    let _ = decompress(place, other, &options, &());
                }
                3 => {
                    let names = ["notes.txt", "mtp.safetensors", "config.json", "layers_0.safetensors"];
                    let path = place.join(names[random.below(4) as usize]);
                    if place.exists() && !path.exists() {
                        let bytes = format!("mine, {round} {step}").into_bytes();
                        fs::write(&path, &bytes).unwrap();
                        mine.push((path, bytes));
                    }
                }
                _ => {
                    // A person changes a companion: now it is theirs.
                    let path = place.join("tokenizer.json");
                    if path.exists() {
                        let bytes = format!("changed, {round} {step}").into_bytes();
                        fs::write(&path, &bytes).unwrap();
                        mine.retain(|(other, _)| *other != path);
                        mine.push((path, bytes));
                    }
                }
            }
            for (path, bytes) in &mine {
                assert_eq!(fs::read(path).ok().as_ref(), Some(bytes), "{} step {step}", path.display());
            }
        }
    }
}
