//! Tests the library from C, with the C compiler that Rust uses as its linker. `test.sh` runs the
//! tests with other compilers, and under sanitizers.
#![cfg(all(unix, feature = "files"))]
#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests")]

use std::path::{Path, PathBuf};
use std::process::Command;

use df11::hazmat::frame::crc;
use df11_model::{Codec, CompressOptions, Reader, compress};

// Cargo builds the C library beside the Rust library, but only if something needs the latter.
use df11_capi as _;

fn here() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Compiles a program, and links it with the static library of this build.
fn build(source: &str, to: &Path) {
    let beside = std::env::current_exe().unwrap().parent().unwrap().to_owned();
    let mut command = Command::new(std::env::var_os("CC").unwrap_or("cc".into()));
    command
        .args(["-std=c99", "-Wall", "-Wextra", "-Wpedantic", "-Werror", "-O1", "-I"])
        .arg(here().join("include"));
    command.arg(here().join(source)).arg(beside.join("libdf11_capi.a")).arg("-o").arg(to);
    command.args(["-lpthread", "-ldl", "-lm"]);
    let output = command.output().unwrap_or_else(|error| panic!("no C compiler: {error}"));
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// Runs a program, and returns what it printed.
fn run(program: &Path, arguments: &[&Path]) -> String {
    let output = Command::new(program).args(arguments).output().unwrap();
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{} ended with {}: {told}", program.display(), output.status);
    String::from_utf8(output.stdout).unwrap()
}

fn weights() -> PathBuf {
    here().join("../../cli/demo")
}

#[test]
fn every_law_of_the_library_holds_in_c() {
    let temp = tempfile::tempdir().unwrap();
    let program = temp.path().join("library");
    build("tests/library.c", &program);
    for codec in [Codec::Df11, Codec::Rans] {
        let packed = temp.path().join(format!("{codec:?}"));
        compress(weights(), &packed, &CompressOptions::default().codec(codec), &()).unwrap();
        let told = run(&program, &[&packed, &weights()]);
        let checks: u64 = told.trim().strip_suffix(" checks").unwrap().parse().unwrap();
        assert!(checks > 10_000, "{told}");
    }
}

#[test]
fn the_example_prints_the_checksum_of_the_original() {
    let temp = tempfile::tempdir().unwrap();
    let (program, packed) = (temp.path().join("checksum"), temp.path().join("packed"));
    build("examples/checksum.c", &program);
    compress(weights(), &packed, &CompressOptions::default(), &()).unwrap();
    let plain = Reader::open(weights()).unwrap();
    for tensor in plain.tensors() {
        let mut original = vec![0; tensor.bytes() as usize];
        plain.decode_into(tensor.name(), &mut original).unwrap();
        let expected = format!("{:08x}  {}  {} bytes\n", crc(0, &original), tensor.dtype(), tensor.bytes());
        assert_eq!(run(&program, &[&packed, Path::new(tensor.name())]), expected);
    }
    let source = std::fs::read_to_string(here().join("examples/checksum.c")).unwrap();
    assert!(source.lines().count() < 60);
    assert!(
        std::fs::read_to_string(here().join("README.md")).unwrap().contains(&source),
        "README has another"
    );
}

#[test]
fn the_example_decoder_gives_the_weights_of_a_fixture_and_refuses_a_damaged_one() {
    let temp = tempfile::tempdir().unwrap();
    let (program, out) = (temp.path().join("decode"), temp.path().join("out"));
    build("examples/decode.c", &program);
    let fixture = here().join("../../spec/vectors/official-0.5.0/real_two_tensors.df11.safetensors");
    run(&program, &[Path::new("unit"), &fixture, &out]);
    let reader = Reader::open(&fixture).unwrap();
    let mut expected = vec![0; 2 * reader.units()[0].elements() as usize];
    reader.decode_unit_into(0, &mut expected).unwrap();
    assert!(std::fs::read(&out).unwrap() == expected);

    let mut bytes = std::fs::read(&fixture).unwrap();
    let len = bytes.len();
    bytes.truncate(len - 1);
    let damaged = temp.path().join("damaged.safetensors");
    std::fs::write(&damaged, bytes).unwrap();
    let output = Command::new(&program).args([Path::new("unit"), &damaged, &out]).output().unwrap();
    assert_eq!(output.status.code(), Some(10), "invalid");
}
