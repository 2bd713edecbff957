//! Runs that are killed, or run out of disk space. They leave nothing that looks complete, and the
//! next run finishes the job.

#![cfg(unix)]
#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use df11_tests::corpus::{Tensor, Tensors, write_shards};
use df11_tests::weights::{Random, like_trained};
use serde_json::Value;
use tempfile::TempDir;

fn df11() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_df11"));
    command.stdout(Stdio::null()).stderr(Stdio::null());
    command
}

/// Makes a model of twelve layers, 5 MB, in two shards.
fn model() -> TempDir {
    let temp = tempfile::tempdir().unwrap();
    let mut tensors = Tensors::new();
    for layer in 0..12 {
        let weights = like_trained(400 * 512, layer);
        tensors.insert(format!("layers.{layer}.up.weight"), Tensor::bf16(&[400, 512], &weights));
        tensors.insert(format!("layers.{layer}.norm.weight"), Tensor::bf16(&[512], &weights[..512]));
    }
    write_shards(temp.path(), &tensors, 2);
    fs::write(temp.path().join("config.json"), "{\n  \"model_type\": \"x\"\n}\n").unwrap();
    temp
}

fn weights(directory: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(directory) else { return Vec::new() };
    entries
        .map(|entry| entry.unwrap().path())
        .filter(|p| p.extension().is_some_and(|e| e == "safetensors"))
        .collect()
}

/// Checks the state after an interruption. Every visible weight file is complete. A config, which
/// every loader needs to open the directory, exists only if all of them are complete.
fn nothing_looks_complete(packed: &Path) {
    assert!(!packed.join("config.json").exists() || weights(packed).len() == 13);
    for file in weights(packed) {
        assert!(
            df11().arg("verify").arg(&file).status().unwrap().success(),
            "{} is not whole",
            file.display()
        );
    }
}

/// Runs the job to its end and restores. Returns how many files were kept.
fn finish(model: &Path, packed: &Path) -> u64 {
    let output = Command::new(env!("CARGO_BIN_EXE_df11"))
        .args(["compress", "--json", "-o"])
        .args([packed, model])
        .output()
        .unwrap();
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!(output.status.success(), "{report}");
    for entry in fs::read_dir(packed).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        assert!(!name.starts_with('.'), "{name} is left over");
    }
    assert_eq!(weights(packed).len(), 13);
    let restored = packed.with_extension("restored");
    assert!(df11().arg("decompress").arg(packed).arg("-o").arg(&restored).status().unwrap().success());
    for entry in fs::read_dir(model).unwrap() {
        let path = entry.unwrap().path();
        assert!(fs::read(&path).unwrap() == fs::read(restored.join(path.file_name().unwrap())).unwrap());
    }
    fs::remove_dir_all(restored).unwrap();
    report["kept_files"].as_u64().unwrap()
}

#[test]
fn a_kill_at_any_point_leaves_nothing_wrong_and_the_next_run_finishes() {
    let model = model();
    let temp = tempfile::tempdir().unwrap();
    let mut random = Random(3);
    let started = Instant::now();
    assert!(
        df11()
            .arg("compress")
            .arg(model.path())
            .arg("-o")
            .arg(temp.path().join("all"))
            .status()
            .unwrap()
            .success()
    );
    let whole = started.elapsed().as_micros() as u64;
    let (mut killed, mut kept) = (0, 0);
    for round in 0..25 {
        let packed = temp.path().join(round.to_string());
        // Killed once or twice before it may finish.
        for _ in 0..=random.below(2) {
            let mut child = df11()
                .args(["compress", "--threads", "1", "-o"])
                .args([&packed, model.path()])
                .spawn()
                .unwrap();
            sleep(Duration::from_micros(random.below(whole + whole / 2)));
            child.kill().unwrap();
            if child.wait().unwrap().success() {
                break;
            }
            killed += 1;
            nothing_looks_complete(&packed);
        }
        if packed.join("config.json").exists() {
            continue;
        }
        kept += finish(model.path(), &packed);
        fs::remove_dir_all(packed).unwrap();
    }
    assert!(killed > 5, "only {killed} runs were killed in time");
    assert!(kept > 0, "no file of a killed run was kept");
}

#[test]
fn files_of_an_unfinished_run_are_kept_only_if_they_are_right() {
    let model = model();
    let temp = tempfile::tempdir().unwrap();
    let packed = temp.path().join("packed");
    let compress =
        || df11().arg("compress").arg(model.path()).arg("-o").arg(&packed).status().unwrap().success();
    assert!(compress());
    // As after a kill: the marker is there, the config is not; one file is damaged, one is of
    // another model.
    let marker = format!("df11 compress {}\npublishing", fs::canonicalize(model.path()).unwrap().display());
    fs::remove_file(packed.join("config.json")).unwrap();
    let mut damaged = fs::read(packed.join("layers_3.safetensors")).unwrap();
    *damaged.last_mut().unwrap() ^= 0x80;
    fs::write(packed.join("layers_3.safetensors"), damaged).unwrap();
    fs::copy(packed.join("layers_5.safetensors"), packed.join("layers_4.safetensors")).unwrap();
    fs::write(packed.join(".df11-partial-x"), "half").unwrap();
    // Without the marker, or with a marker that does not name its job, it is an ordinary directory
    // that is not empty.
    assert!(!compress());
    fs::write(packed.join(".df11-unfinished"), "").unwrap();
    assert!(!compress());
    fs::write(packed.join(".df11-unfinished"), "df11 compress /another/model").unwrap();
    assert!(!compress());
    fs::write(packed.join(".df11-unfinished"), marker).unwrap();
    assert_eq!(finish(model.path(), &packed), 11);
}

#[test]
fn a_run_that_fails_to_replace_a_finished_directory_changes_nothing_in_it() {
    let model = model();
    let temp = tempfile::tempdir().unwrap();
    let packed = temp.path().join("packed");
    assert!(df11().arg("compress").arg(model.path()).arg("-o").arg(&packed).status().unwrap().success());
    let state = || {
        let files = fs::read_dir(&packed).unwrap().map(|entry| entry.unwrap().path());
        let visible = files.filter(|path| !path.file_name().unwrap().to_string_lossy().starts_with(".df11-"));
        let mut all: Vec<_> = visible.map(|path| (path.clone(), fs::read(path).unwrap())).collect();
        all.sort();
        all
    };
    let before = state();
    // The new run fails at its first unit: a file may not grow that far.
    let script = format!(
        "trap '' XFSZ; ulimit -f 64; exec {} compress --force {} -o packed",
        env!("CARGO_BIN_EXE_df11"),
        model.path().display()
    );
    let output = Command::new("sh").args(["-c", &script]).current_dir(temp.path()).output().unwrap();
    assert_eq!(output.status.code(), Some(3));
    assert!(state() == before);
    finish(model.path(), &packed);
}

#[test]
fn a_full_disk_is_an_error_and_leaves_nothing_half_written() {
    let model = model();
    let temp = tempfile::tempdir().unwrap();
    let exe = env!("CARGO_BIN_EXE_df11");
    // No file may grow beyond 128 KiB: writing a unit fails as it does on a full disk.
    let limited = |args: &str| {
        let script = format!("trap '' XFSZ; ulimit -f 256; exec {exe} {args}");
        Command::new("sh").args(["-c", &script]).current_dir(temp.path()).output().unwrap()
    };
    let output = limited(&format!("compress {} -o packed", model.path().display()));
    let error = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(3), "{error}");
    assert!(error.contains("cannot write") && error.lines().count() == 1, "{error}");
    let packed = temp.path().join("packed");
    nothing_looks_complete(&packed);
    assert!(
        !fs::read_dir(&packed).unwrap().any(|e| e.unwrap().file_name().to_string_lossy().contains("partial"))
    );
    finish(model.path(), &packed);

    let output = limited("decompress packed -o restored");
    assert_eq!(output.status.code(), Some(3));
    assert_eq!(weights(&temp.path().join("restored")), Vec::<PathBuf>::new());
    assert!(
        df11()
            .current_dir(temp.path())
            .args(["decompress", "packed", "-o", "restored"])
            .status()
            .unwrap()
            .success()
    );
}

#[test]
fn two_runs_do_not_write_the_same_directory() {
    let model = model();
    let temp = tempfile::tempdir().unwrap();
    let packed = temp.path().join("packed");
    fs::create_dir(&packed).unwrap();
    let marker = fs::File::create(packed.join(".df11-unfinished")).unwrap();
    marker.lock().unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_df11"))
        .args(["compress", "-o"])
        .args([&packed, model.path()])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8(output.stderr).unwrap().contains("another run"));
    // The lock is released explicitly: a process that another test is just starting may hold the
    // file for a moment longer.
    marker.unlock().unwrap();
    drop(marker);
    assert!(df11().arg("compress").arg(model.path()).arg("-o").arg(&packed).status().unwrap().success());
}
