//! Which files are written, replaced and left alone.

use std::fs;

use df11_model::{CompressOptions, DecompressOptions, ErrorKind, compress, decompress, verify};
use df11_tests::corpus::{read, write};

use crate::support::{files, force, llama, llama_config, model, there_and_back};

#[test]
fn nothing_is_overwritten_without_force_and_stale_weights_go_with_it() {
    let small = model(&llama(1), Some(&llama_config()), 1);
    let large = model(&llama(3), Some(&llama_config()), 3);
    let temp = tempfile::tempdir().unwrap();
    let out = temp.path().join("out");
    compress(large.path(), &out, &CompressOptions::default(), &()).unwrap();
    let refused = compress(small.path(), &out, &CompressOptions::default(), &()).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Usage);
    // A file of another program is never removed, and the error comes before any change.
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
        let options = force().single_file(output == inside);
        let error = compress(input, output, &options, &()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Usage, "{error}");
    }
    assert!(files(model.path()) == before);
    // An output inside the input is not copied into itself.
    compress(model.path(), model.path().join("packed"), &CompressOptions::default(), &()).unwrap();
    assert!(!model.path().join("packed/packed").exists());
    let again =
        compress(model.path().join("packed"), model.path().join("twice"), &CompressOptions::default(), &());
    assert!(again.unwrap_err().to_string().contains("compressed already"));
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
    let report = compress(&link, temp.path().join("fine"), &CompressOptions::default(), &()).unwrap();
    assert_eq!(report.left_behind[0].0, "dangling");
}

#[test]
fn an_output_inside_the_compressed_model_is_refused() {
    let model = model(&llama(1), Some(&llama_config()), 1);
    let (temp, _) = there_and_back(model.path(), &CompressOptions::default());
    let packed = temp.path().join("packed");
    let error =
        decompress(&packed, packed.join("x.safetensors"), &DecompressOptions::default(), &()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Usage);
    let error =
        decompress(&packed, packed.join("config.json"), &DecompressOptions::default(), &()).unwrap_err();
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
