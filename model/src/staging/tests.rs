//! Tests of runs that are interrupted, and of files that are in the way.

use super::marker::MARKER;
use super::*;
use crate::packed::manifest::{Input, Kept};

fn record(name: &str, bytes: &[u8]) -> OutputRecord {
    OutputRecord { name: name.to_owned(), bytes: bytes.len() as u64, sha256: digest(bytes), weights: false }
}

/// Makes a directory that an earlier run filled.
fn filled() -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    let files: [(&str, &[u8]); 3] = [("old.safetensors", b"old"), ("same.txt", b"1"), ("config.json", b"{}")];
    for (name, bytes) in files {
        fs::write(directory.path().join(name), bytes).unwrap();
    }
    let outputs = files.map(|(name, bytes)| record(name, bytes)).to_vec();
    let input = Input { name: "m".to_owned(), bytes: 0, sha256: String::new(), kept: Kept::Copied };
    let mut outputs_of_manifest = outputs;
    outputs_of_manifest.push(record("m", b""));
    let manifest = Manifest::new(vec![input], outputs_of_manifest);
    fs::write(directory.path().join(MANIFEST), manifest.seal().unwrap()).unwrap();
    directory
}

#[test]
fn stale_files_go_before_new_ones_come_and_the_configuration_comes_last() {
    let directory = filled();
    let at = |name: &str| directory.path().join(name);
    let staging = Staging::directory(directory.path(), "job", &[], true).unwrap();
    for name in ["new.safetensors", "config.json", MANIFEST] {
        staging.write(Path::new(name), b"new").unwrap();
    }
    // The run is interrupted where a new file becomes visible.
    fs::create_dir_all(at("new.safetensors/in the way")).unwrap();
    staging.publish().unwrap_err();
    assert!(!at("config.json").exists() && !at("old.safetensors").exists());
    // The next run continues from there.
    fs::remove_dir_all(at("new.safetensors")).unwrap();
    let staging = Staging::directory(directory.path(), "job", &[], false).unwrap();
    for name in ["new.safetensors", "config.json"] {
        let staged = staging.candidate(Path::new(name)).unwrap();
        staging.keep(Path::new(name), staged);
    }
    staging.write(Path::new(MANIFEST), b"new").unwrap();
    staging.publish().unwrap();
    assert_eq!(fs::read(at("config.json")).unwrap(), b"new");
    let mut names: Vec<_> =
        fs::read_dir(directory.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    assert!(!names.iter().any(|name| name.to_string_lossy().starts_with(OURS)), "{names:?}");
}

#[test]
fn what_is_not_as_it_was_written_is_in_the_way() {
    let directory = filled();
    let planned = |name: &str| [Planned { name: PathBuf::from(name), content: None }];
    let begin = || Staging::directory(directory.path(), "job", &[], true).unwrap();
    begin().clear_the_way(&planned("same.txt"), false).unwrap();
    fs::write(directory.path().join("same.txt"), "2").unwrap();
    let error = begin().clear_the_way(&planned("same.txt"), false).unwrap_err();
    assert!(error.to_string().contains("in the way") && error.to_string().contains("same.txt"));
    // A run that did nothing leaves nothing.
    assert!(!directory.path().join(MARKER).exists());
}
