//! The library from C, with the C compiler that Rust's own linker is, over emulated devices.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests")]

use std::path::Path;
use std::process::Command;

use df11::encode;
use df11::frame::{self, ElementType};

// Cargo builds the library for C where it builds the one for Rust, if something needs that.
use df11gpu as _;

#[test]
fn an_engine_in_c_decodes_with_its_own_context_stream_memory_and_graph() {
    let temp = tempfile::tempdir().unwrap();
    let write = |name: &str, bytes: &[u8]| std::fs::write(temp.path().join(name), bytes).unwrap();
    let weights: Vec<u8> =
        (0..12_000u32).flat_map(|i| ((0x3c00 + i * i % 999) as u16).to_le_bytes()).collect();
    let unit = encode(&weights).unwrap();
    let tensors = unit.as_slices();
    write("weights", &weights);
    write("luts", tensors.luts);
    write("encoded_exponent", tensors.encoded_exponent);
    write("sign_mantissa", tensors.sign_mantissa);
    write("output_positions", tensors.output_positions);
    write("gaps", tensors.gaps);
    write("split_positions", tensors.split_positions);
    write("frame", &frame::encode(ElementType::Bf16, &[12_000], &weights).unwrap());

    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let beside = std::env::current_exe().unwrap().parent().unwrap().to_owned();
    let program = temp.path().join("gpu");
    // Others than the plain C compiler are for test.sh.
    let compiler = std::env::var("CC").unwrap_or("cc".into());
    let language: &[&str] =
        if compiler.ends_with("++") { &["-std=c++17", "-x", "c++"] } else { &["-std=c99"] };
    let mut command = Command::new(&compiler);
    command.args(language).args(["-Wall", "-Wextra", "-Wpedantic", "-Werror", "-O1"]);
    command.args(std::env::var("CFLAGS").unwrap_or_default().split_whitespace());
    command.arg("-I").arg(here.join("include")).arg(here.join("tests/gpu.c"));
    command.args(["-x", "none"]).arg(beside.join("libdf11gpu.a")).arg("-o").arg(&program);
    command.args(["-Wl,--gc-sections", "-lpthread", "-ldl", "-lm"]);
    let output = command.output().unwrap_or_else(|error| panic!("no C compiler: {error}"));
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));

    let output = Command::new(&program).arg(temp.path()).output().unwrap();
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{}: {err}", output.status);
    let checks: u64 = out.trim().strip_suffix(" checks").unwrap().parse().unwrap();
    assert!(checks > 100, "{out}");
}
