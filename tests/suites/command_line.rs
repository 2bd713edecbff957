//! The command itself: its output, its files and its errors.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests")]

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use df11::Level;
use df11::frame::Frame;
use df11_tests::corpus::{Tensor, Tensors, read, write};
use df11_tests::fixtures;
use df11_tests::weights::like_trained;
use safetensors::tensor::Dtype;
use serde_json::Value;
use tempfile::TempDir;

fn df11(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_df11")).args(args).output().unwrap()
}

fn code(output: &Output) -> i32 {
    output.status.code().unwrap()
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// Runs a command that must fail with this code and this text, in one line, and must leave standard
/// output empty.
#[track_caller]
fn fails(args: &[&str], expected: i32, says: &str) {
    let output = df11(args);
    let error = stderr(&output);
    assert_eq!(code(&output), expected, "{error}");
    assert!(error.contains(says), "{error}");
    assert_eq!(error.lines().count(), 1, "{error}");
    assert_eq!(stdout(&output), "");
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// Makes a file with a layer that compresses.
fn layer(directory: &TempDir) -> String {
    let path = directory.path().join("layer.safetensors");
    let weights = Tensor::bf16(&[256, 300], &like_trained(256 * 300, 1));
    write(&path, &Tensors::from([("layers.0.up.weight".to_owned(), weights)]));
    text(&path).to_owned()
}

#[test]
fn the_demonstration_restores_every_file() {
    let output = df11(&["demo"]);
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    let out = stdout(&output);
    assert!(out.contains("encoder.layer.1") && out.contains("total"), "{out}");
    assert!(out.contains("restored: 4 files identical"), "{out}");
    assert_eq!(stderr(&output), "");
    let json: Value = serde_json::from_slice(&df11(&["demo", "--json"]).stdout).unwrap();
    assert_eq!(json["identical"].as_array().unwrap().len(), 4);
    assert_eq!(json["compress"]["units"].as_array().unwrap().len(), 2);
}

#[test]
fn every_bit_pattern_comes_back() {
    let temp = tempfile::tempdir().unwrap();
    let path = temp.path().join("all.safetensors");
    let all: Vec<u16> = (0..=u16::MAX).collect();
    // The patterns that the layout can hold, often enough to be worth a unit: signed zeros,
    // subnormals, and all.
    let below: Vec<u16> = (0..8u16)
        .flat_map(|_| [0x8000, 0x0001, 0x807f, 0x3f80, 0xbf80])
        .cycle()
        .take(60_000)
        .chain(0..0x7800)
        .collect();
    let tensors = Tensors::from([
        ("layers.0.special.weight".to_owned(), Tensor::bf16(&[256, 256], &all)),
        (
            "layers.1.below.weight".to_owned(),
            Tensor::bf16(&[3, below.len() / 3], &below[..below.len() / 3 * 3]),
        ),
        ("lm_head.weight".to_owned(), Tensor::bf16(&[256, 300], &like_trained(256 * 300, 2))),
    ]);
    write(&path, &tensors);
    let [packed, back] = ["packed", "back"].map(|name| temp.path().join(name));
    let output = df11(&["compress", text(&path), "-o", text(&packed), "--json"]);
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let reason = report["plain"][0]["reason"].as_str().unwrap();
    assert!(reason.contains("4096 of the 65536 weights") && reason.contains("NaN"), "{reason}");
    assert_eq!(report["units"].as_array().unwrap().len(), 2, "{report}");
    assert_eq!(code(&df11(&["verify", text(&packed), "--against", text(&path)])), 0);
    assert_eq!(code(&df11(&["decompress", text(&packed), "-o", text(&back)])), 0);
    assert!(fs::read(back.join("all.safetensors")).unwrap() == fs::read(&path).unwrap());
}

#[test]
fn official_files_are_verified_inspected_and_restored() {
    let temp = tempfile::tempdir().unwrap();
    for fixture in fixtures::all() {
        let path = text(&fixture.path);
        let output = df11(&["verify", path]);
        assert_eq!(code(&output), 0, "{}", stderr(&output));
        let json: Value = serde_json::from_slice(&df11(&["inspect", path, "--json"]).stdout).unwrap();
        assert_eq!(json["units"][0]["elements"], fixture.manifest["elements"]);
        assert!(stdout(&df11(&["inspect", path])).contains("exponent  codeword"));
        let out = temp.path().join(&fixture.name);
        assert_eq!(code(&df11(&["decompress", path, "-o", text(&out)])), 0);
        let restored = read(&out.join("model.safetensors"));
        let elements: usize = restored.values().map(|tensor| tensor.bytes.len() / 2).sum();
        assert_eq!(elements as u64, fixture.manifest["elements"].as_u64().unwrap());
        assert!(restored.values().all(|tensor| tensor.dtype == Dtype::BF16));
    }
    // The official encoder's unit against the original, under the names the original has.
    let dict = temp.path().join("dict.json");
    fs::write(&dict, r#"{"unit": ["w0", "w1"]}"#).unwrap();
    let unit = fixtures::directory().join("real_two_tensors.df11.safetensors");
    let out = temp.path().join("named.safetensors");
    let output = df11(&["decompress", text(&unit), "-o", text(&out), "--pattern-dict", text(&dict)]);
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    let original = read(&fixtures::original("real_two_tensors"));
    assert!(read(&out).iter().all(|(name, tensor)| tensor.bytes == original[name].bytes));
}

#[test]
fn json_is_one_document_and_quiet_is_silent() {
    let temp = tempfile::tempdir().unwrap();
    let path = layer(&temp);
    let at = |name: &str| text(&temp.path().join(name)).to_owned();
    let json = |args: &[&str]| -> Value { serde_json::from_slice(&df11(args).stdout).unwrap() };
    assert_eq!(json(&["inspect", &path, "--json"])["compressed"], false);
    assert_eq!(json(&["--json", "compress", &path, "-o", &at("a")])["units"][0]["path"], "layers.0");
    assert_eq!(json(&["verify", &at("a"), "--json", "--quiet"])["units"], 1);
    assert_eq!(json(&["decompress", &at("a"), "-o", &at("b"), "--json"])["original_restored"], true);
    assert_eq!(json(&["verify", &path, "--json"])["kind"], "data");
    let output = df11(&["compress", &path, "-o", &at("c"), "--quiet", "--threads", "1"]);
    assert_eq!((code(&output), stdout(&output), stderr(&output)), (0, String::new(), String::new()));
    // Not on a terminal: no progress bars anywhere.
    let output = df11(&["compress", &path, "-o", &at("d")]);
    assert_eq!(stderr(&output), "");
    assert!(stdout(&output).contains("bits/weight"));
}

#[test]
fn wrong_use_is_one_line_that_says_what_to_do() {
    let temp = tempfile::tempdir().unwrap();
    let path = layer(&temp);
    let at = |name: &str| text(&temp.path().join(name)).to_owned();
    fails(&["compress", "-", "-o", &at("x")], 2, "save them to a file first");
    fails(&["compress", &at("none"), "-o", &at("x")], 3, "cannot open");
    fs::create_dir(temp.path().join("empty")).unwrap();
    fails(&["compress", &at("empty"), "-o", &at("x")], 1, "no .safetensors file in this directory");
    fails(&["compress", &path, "-o", &at("x.safetensors")], 2, "--single-file");
    fs::create_dir_all(temp.path().join("pipeline/transformer")).unwrap();
    fs::copy(&path, temp.path().join("pipeline/transformer/model.safetensors")).unwrap();
    assert_eq!(code(&df11(&["compress", &at("pipeline"), "-o", &at("y")])), 0);
    assert!(temp.path().join("y/transformer/layers_0.safetensors").exists());
    fails(&["verify", &path], 1, "holds no DF11 units");
    fails(&["decompress", &path, "-o", &at("x")], 1, "holds no DF11 units");
    fs::create_dir(temp.path().join("full")).unwrap();
    fs::write(temp.path().join("full/keep"), "x").unwrap();
    fails(&["compress", &path, "-o", &at("full")], 2, "--force");
    assert_eq!(fs::read(temp.path().join("full/keep")).unwrap(), b"x");
    fs::write(temp.path().join("dict"), "[1]").unwrap();
    fails(
        &["compress", &path, "-o", &at("x"), "--pattern-dict", &at("dict")],
        2,
        "is not a pattern dictionary",
    );
    fails(&["compress", &path, "-o", &at("dict")], 2, "is a file");
    fails(&["compress", &at("new\nline"), "-o", &at("x")], 3, "new\\nline");
    assert_eq!(code(&df11(&["compress", &path, "-o", &at("x"), "--threads", "5000"])), 2);
    assert_eq!(code(&df11(&["compress", &path])), 2);
    assert_eq!(code(&df11(&["frobnicate"])), 2);
    assert!(!temp.path().join("x").exists());
}

#[test]
fn damaged_containers_are_one_line_that_says_what_is_wrong() {
    let temp = tempfile::tempdir().unwrap();
    let path = layer(&temp);
    let sound = fs::read(&path).unwrap();
    let at = |name: &str| text(&temp.path().join(name)).to_owned();
    let damaged = at("damaged.safetensors");
    let header = 8 + u64::from_le_bytes(sound[..8].try_into().unwrap()) as usize;
    let lie = |from: &str, to: &str| {
        let text = String::from_utf8(sound[8..header].to_vec()).unwrap();
        assert!(text.contains(from) && from.len() == to.len(), "{text}");
        [&sound[..8], text.replace(from, to).as_bytes(), &sound[header..]].concat()
    };
    let cases: [(Vec<u8>, &str); 9] = [
        (Vec::new(), "too few for a safetensors file"),
        (sound[..5].to_vec(), "too few for a safetensors file"),
        (sound[..header - 1].to_vec(), "promise a header"),
        (sound[..sound.len() - 1].to_vec(), "cut short"),
        ([&sound[..], b"x"].concat(), "bytes of tensors"),
        ([&u64::MAX.to_le_bytes()[..], &sound[8..]].concat(), "promise a header"),
        ([&sound[..8], b"\xff", &sound[9..]].concat(), "not UTF-8"),
        (lie("[256,300]", "[257,300]"), "the safetensors header is wrong"),
        (lie("\"BF16\"", "\"BF61\""), "the safetensors header is wrong"),
    ];
    for (bytes, says) in cases {
        fs::write(&damaged, bytes).unwrap();
        for command in ["inspect", "verify"] {
            fails(&[command, &damaged], 1, says);
        }
        fails(&["compress", &damaged, "-o", &at("x")], 1, says);
        fails(&["decompress", &damaged, "-o", &at("x")], 1, says);
    }
    assert!(!temp.path().join("x").exists());
    fs::create_dir(temp.path().join("sharded")).unwrap();
    fs::write(temp.path().join("sharded/a.safetensors"), &sound).unwrap();
    let index = temp.path().join("sharded/model.safetensors.index.json");
    fs::write(&index, r#"{"weight_map": {"x": "b.safetensors"}}"#).unwrap();
    fails(&["compress", &at("sharded"), "-o", &at("x")], 1, "the shard b.safetensors, which is not there");
    fs::write(&index, r#"{"weight_map": {"x": "../layer.safetensors"}}"#).unwrap();
    fails(&["compress", &at("sharded"), "-o", &at("x")], 1, "outside its directory");
}

#[test]
fn damage_is_found_by_verification() {
    let temp = tempfile::tempdir().unwrap();
    let path = layer(&temp);
    let packed = temp.path().join("packed");
    assert_eq!(code(&df11(&["compress", &path, "-o", text(&packed)])), 0);
    let unit = packed.join("layers_0.safetensors");
    let sound = fs::read(&unit).unwrap();
    let mut damaged = sound.clone();
    // The last byte belongs to sign_mantissa: every rule of the layout still holds, only the digest
    // can tell.
    *damaged.last_mut().unwrap() ^= 1;
    fs::write(&unit, &damaged).unwrap();
    fails(&["verify", text(&packed)], 1, "SHA-256 of the original");
    fails(
        &["decompress", text(&packed), "-o", text(&temp.path().join("back"))],
        1,
        "SHA-256 of the original",
    );
    fs::write(&unit, &sound).unwrap();
    assert_eq!(code(&df11(&["verify", text(&packed)])), 0);
    // Against another original.
    let other = temp.path().join("other.safetensors");
    let weights = Tensor::bf16(&[256, 300], &like_trained(256 * 300, 2));
    write(&other, &Tensors::from([("layers.0.up.weight".to_owned(), weights)]));
    fails(&["verify", text(&packed), "--against", text(&other)], 1, "differs from the original near byte 0");
}

#[test]
fn frames_in_a_checkpoint_and_on_their_own_are_linted_and_read() {
    let temp = tempfile::tempdir().unwrap();
    let path = layer(&temp);
    for (codec, form, clause) in [("rans", "frame", "F-5.2"), ("fast", "fast", "F-5.8")] {
        let at = |name: &str| temp.path().join(format!("{codec}-{name}"));
        let packed = at("packed");
        assert_eq!(code(&df11(&["compress", &path, "-o", text(&packed), "--codec", codec])), 0);
        assert_eq!(code(&df11(&["verify", text(&packed), "--against", &path])), 0);
        let restored = at("restored");
        assert_eq!(code(&df11(&["decompress", text(&packed), "-o", text(&restored)])), 0);
        let name = Path::new(&path).file_name().unwrap();
        assert!(fs::read(&path).unwrap() == fs::read(restored.join(name)).unwrap());
        let output = df11(&["lint", text(&packed)]);
        assert_eq!(code(&output), 0, "{}", stderr(&output));
        let said = stdout(&output);
        assert!(said.starts_with("0 units, ") && said.contains(" frames: 0 invalid, 0 acceptable"), "{said}");

        // One of them, by its name, to a file of its own.
        let lint = |path: &Path| {
            let output = df11(&["lint", text(path), "--json"]);
            (code(&output), serde_json::from_slice::<Value>(&output.stdout).unwrap())
        };
        let (_, report) = lint(&packed);
        let name = report["frames"][0]["name"].as_str().unwrap().to_owned();
        let frame = at("one.frame");
        let output = df11(&["transcode", text(&packed), "-o", text(&frame), "--to", form, "--unit", &name]);
        assert_eq!(code(&output), 0, "{}", stderr(&output));
        assert_eq!(lint(&frame).0, 0);

        let mut damaged = fs::read(&frame).unwrap();
        let middle = damaged.len() / 2;
        damaged[middle] ^= 1;
        fs::write(&frame, damaged).unwrap();
        let (exit, report) = lint(&frame);
        assert_eq!((exit, &report["frames"][0]["findings"][0]["clause"]), (1, &clause.into()), "{report}");
    }
}

#[cfg(target_os = "linux")]
#[test]
fn devices_are_listed_and_the_emulated_one_decodes_as_the_processor_does() {
    let output = df11(&["devices"]);
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    assert!(stdout(&output).contains("cpu ") && stdout(&output).contains("emulated "));

    let temp = tempfile::tempdir().unwrap();
    let path = layer(&temp);
    for codec in ["df11", "rans"] {
        let packed = temp.path().join(codec);
        assert_eq!(code(&df11(&["compress", &path, "-o", text(&packed), "--codec", codec])), 0);
        let output = df11(&["gpu", "check", text(&packed), "--device", "emulated", "--json"]);
        assert_eq!(code(&output), 0, "{}", stderr(&output));
        let report: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(report["units"].as_u64().unwrap() + report["frames"].as_u64().unwrap(), 1);
        // An emulator cannot time a card.
        assert_eq!((&report["bytes"], &report["device_seconds"]), (&(2 * 256 * 300).into(), &Value::Null));
    }
    let cpu = df11(&["gpu", "check", &path, "--device", "cpu"]);
    assert_eq!(code(&cpu), 2, "{}", stderr(&cpu));
}

#[test]
fn kernels_are_counted_and_judged() {
    let temp = tempfile::tempdir().unwrap();
    let path = layer(&temp);
    let report = df11(&["gpu", "report", &path, "--json"]);
    assert_eq!(code(&report), 0, "{}", stderr(&report));
    let report: Value = serde_json::from_slice(&report.stdout).unwrap();
    let rows = report["rows"].as_array().unwrap();
    assert_eq!(rows.len(), 16);
    for row in rows {
        assert_eq!(row["findings"], Value::Array(Vec::new()), "{row}");
        assert!(row["ptx_instructions"].as_f64().unwrap() > 0.2 && row["machine_instructions"].is_null());
    }
    assert!(stdout(&df11(&["gpu", "report", &path])).contains("these are not times"));

    let kernel = concat!(env!("CARGO_MANIFEST_DIR"), "/../gpu/ptx/df11_decode.sm_75.ptx");
    let judge = |more: &[&str]| df11(&[&["judge", "run", "--ptx", kernel], more].concat());
    let output = judge(&["--entry", "df11_decode", "--block-threads", "256"]);
    assert_eq!(code(&output), 0, "{}", stdout(&output));
    assert!(stdout(&output).contains(" passed (0 refused)"));
    // On half of the threads that it is written for, it decodes half.
    let output = judge(&["--entry", "df11_decode", "--block-threads", "128", "--filter", "size-"]);
    assert_eq!(code(&output), 1, "{}", stdout(&output));
    let output = judge(&["--entry", "nothing"]);
    assert!(
        stderr(&output).contains("there is no kernel \"nothing\"; the module has df11_decode"),
        "{}",
        stderr(&output)
    );
}

#[test]
fn the_purpose_or_a_number_chooses_the_length_of_blocks() {
    let temp = tempfile::tempdir().unwrap();
    let path = layer(&temp);
    let blocks = |more: &[&str]| {
        let packed = temp.path().join(["packed", &more.concat()].concat());
        let output = df11(&[&["compress", &path, "-o", text(&packed), "--codec", "rans"], more].concat());
        assert_eq!(code(&output), 0, "{}", stderr(&output));
        let mut files = fs::read_dir(&packed).unwrap().map(|entry| entry.unwrap().path());
        let file = files.find(|path| path.extension().is_some_and(|end| end == "safetensors")).unwrap();
        let bytes = fs::read(file).unwrap();
        let begin = 8 + u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
        Frame::new(&bytes[begin..]).unwrap().header().block_len()
    };
    assert_eq!(blocks(&[]), 65_536);
    assert_eq!(blocks(&["--for", "gpu"]), 16_384);
    assert_eq!(blocks(&["--block-len", "4096"]), 4096);
    assert_eq!(blocks(&["--for", "gpu", "--block-len", "8192"]), 8192);
    for wrong in ["0", "4095", "65600", "100"] {
        let to = temp.path().join("wrong");
        let args = ["compress", &path, "-o", text(&to), "--codec", "rans", "--block-len", wrong];
        fails(&args, 2, "a multiple of 64");
        assert!(!to.exists());
    }
}

#[cfg(target_os = "linux")]
#[test]
fn the_limits_of_cards_are_computed_and_called_so() {
    let temp = tempfile::tempdir().unwrap();
    let path = layer(&temp);
    let args = ["gpu", "bench", &path, "--device", "emulated"];
    let said = stdout(&df11(&args));
    assert!(said.contains("H100") && said.contains("nothing here was measured"), "{said}");
    let report: Value = serde_json::from_slice(&df11(&[&args[..], &["--json"]].concat()).stdout).unwrap();
    assert_eq!(report["modelled"], Value::Bool(true));
    let limits = report["limits"].as_array().unwrap();
    // Four kernels on each of six cards.
    assert_eq!(limits.len(), 24, "{report}");
    for limit in limits {
        // A card of 320 GB/s at the least, of 4,800 at the most, reads 1 byte for each weight at
        // least and writes 2.
        let speed = limit["gigabytes_per_second"].as_f64().unwrap();
        assert!(speed > 50.0 && speed < 4800.0 * 2.0 / 3.0, "{limit}");
    }
    fails(&["gpu", "bench", &path, "--device", "cpu"], 2, "is no card");
}

#[test]
fn the_linter_tells_by_exit_code_and_in_one_document() {
    let temp = tempfile::tempdir().unwrap();
    let path = text(&fixtures::directory().join("short_output_positions.df11.safetensors")).to_owned();
    let output = df11(&["lint", &path]);
    assert!(code(&output) == 0 && stdout(&output).contains("acceptable D-8.4"), "{}", stdout(&output));
    // A wrong gap is invalid, with its clause, in text and in JSON.
    let mut tensors = read(Path::new(&path));
    tensors.get_mut("unit.gaps").unwrap().bytes[0] ^= 1;
    let damaged = temp.path().join("damaged.safetensors");
    write(&damaged, &tensors);
    let output = df11(&["lint", text(&damaged)]);
    assert!(code(&output) == 1 && stdout(&output).contains("invalid D-7.2"), "{}", stdout(&output));
    let output = df11(&["lint", text(&damaged), "--json"]);
    let json: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((code(&output), &json["units"][0]["findings"][0]["clause"]), (1, &Value::from("D-7.2")));
}

#[test]
fn every_operation_is_measured_at_every_level() {
    let temp = tempfile::tempdir().unwrap();
    let path = layer(&temp);
    let args = ["bench", &path, "--rounds", "9", "--at-least", "1000000", "--threads", "2"];
    let output = df11(&[&args[..], &["--json"]].concat());
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_ne!(report["processor"], "");
    // Whole copies of the weights, to a megabyte and no further.
    assert_eq!(
        (&report["source"], &report["weights"]),
        (&"layer.safetensors".into(), &(7 * 256 * 300).into())
    );
    assert!(report["memcpy_gbps"].as_f64().unwrap() > 0.0);
    let levels = || Level::all().map(|level| (level.name(), 1)).chain([(Level::best().name(), 2)]);
    let operations = [
        ("df11", "encode"),
        ("df11", "decode"),
        ("df11", "verify"),
        ("rans", "encode"),
        ("rans", "decode"),
        ("fast", "encode"),
        ("fast", "decode"),
        ("none", "merge"),
        ("none", "split"),
    ];
    let expected = operations.into_iter().flat_map(|(codec, op)| {
        let row = move |(level, threads): (&str, i32)| {
            [Value::from(codec), op.into(), level.into(), threads.into()]
        };
        levels().map(row)
    });
    let rows = report["rows"].as_array().unwrap();
    let found: Vec<[Value; 4]> =
        rows.iter().map(|row| ["codec", "op", "level", "threads"].map(|key| row[key].clone())).collect();
    assert_eq!(found, expected.collect::<Vec<_>>());
    for row in rows {
        assert_eq!(row["rounds"], 9, "{row}");
        let number = |key: &str| row[key].as_f64().unwrap();
        assert!(
            number("gbps") > 0.0 && number("ns_per_weight") > 0.0 && number("ratio_to_merge") > 0.0,
            "{row}"
        );
        assert!(number("gbps_min") <= number("gbps") && number("gbps") <= number("gbps_max"), "{row}");
    }
    let out = stdout(&df11(&args));
    assert!(out.contains("of roofline") && out.contains("copying memory"), "{out}");
    // Processor, title, header, rows, memory copy, where the published figures are from.
    assert_eq!(out.lines().count(), 3 + rows.len() + 2, "{out}");
}

#[test]
fn what_cannot_be_measured_is_one_line_that_says_why() {
    let temp = tempfile::tempdir().unwrap();
    let path = layer(&temp);
    let sound = fs::read(&path).unwrap();
    let at = |name: &str| text(&temp.path().join(name)).to_owned();
    let other = |dtype, size: usize| Tensor { dtype, shape: vec![2], bytes: vec![0; 2 * size] };
    let others = [("a".to_owned(), other(Dtype::F32, 4)), ("b".to_owned(), other(Dtype::I64, 8))];
    write(Path::new(&at("plain")), &Tensors::from(others));
    fails(&["bench", &at("plain")], 1, "plain: no BF16 weights (tensors: 1 of F32, 1 of I64); pass");
    write(Path::new(&at("nothing")), &Tensors::new());
    fails(&["bench", &at("nothing")], 1, "(tensors: none)");
    let infinite = Tensor::bf16(&[3], &[0x3f80, 0x7f80, 0xff80]);
    write(Path::new(&at("infinite")), &Tensors::from([("x.weight".to_owned(), infinite)]));
    fails(&["bench", &at("infinite")], 1, "tensor x.weight: 2 of its 3 weights are infinite, NaN or");
    fs::write(at("cut"), &sound[..sound.len() - 1]).unwrap();
    fails(&["bench", &at("cut")], 1, "cut");
    fails(&["bench", &at("none")], 3, "cannot open");
    assert_eq!(code(&df11(&["bench", &path, "--rounds", "8"])), 2);
}

#[test]
fn a_reader_that_goes_away_is_no_error() {
    use std::process::Stdio;
    let mut child = Command::new(env!("CARGO_BIN_EXE_df11"))
        .args(["inspect", text(&fixtures::all()[0].path)])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!((code(&output), stderr(&output)), (0, String::new()));
}

#[test]
fn a_tensor_goes_through_every_form_and_comes_back() {
    let temp = tempfile::tempdir().unwrap();
    let at = |name: &str| temp.path().join(name).to_str().unwrap().to_owned();
    let weights = df11_tests::weights::bytes(&like_trained(70_000, 3));
    let raw = at("weights.bin");
    fs::write(&raw, &weights).unwrap();
    let run = |args: &[&str]| {
        let output = df11(&[&["transcode"], args].concat());
        assert_eq!(code(&output), 0, "{}", stderr(&output));
        stdout(&output)
    };
    let (frame, archive, unit) = (at("a.frame"), at("a.dietgpu"), at("unit.safetensors"));
    let out = run(&[&raw, "-o", &frame, "--to", "frame", "--type", "bf16", "--shape", "70,1000"]);
    assert!(out.starts_with("70,000 elements of BF16: 140,000 -> "), "{out}");
    run(&[&frame, "-o", &archive, "--to", "dietgpu"]);
    run(&[&archive, "-o", &unit, "--to", "df11"]);
    assert_eq!(code(&df11(&["lint", &unit])), 0);
    let again = at("b.frame");
    run(&[&unit, "-o", &again, "--to", "frame", "--shape", "70,1000"]);
    assert_eq!(fs::read(&again).unwrap(), fs::read(&frame).unwrap());
    let back = at("back.bin");
    run(&[&again, "-o", &back, "--to", "raw"]);
    assert_eq!(fs::read(&back).unwrap(), weights);

    // Bytes, and data that has no other form.
    let (bytes, plain) = (at("bytes.dietgpu"), at("bytes.bin"));
    run(&[&raw, "-o", &bytes, "--to", "dietgpu", "--type", "U8"]);
    run(&[&bytes, "-o", &plain, "--to", "raw"]);
    assert_eq!(fs::read(&plain).unwrap(), weights);
    let to = at("none");
    fails(&["transcode", &bytes, "-o", &to, "--to", "df11"], 1, "holds U8, but DF11 units hold BF16");
    fails(&["transcode", &raw, "-o", &to, "--to", "frame"], 1, "say of which type");
    fails(&["transcode", &frame, "-o", &to, "--to", "frame", "--shape", "3"], 1, "has 70000 elements");
    let unknown = df11(&["transcode", &raw, "-o", &to, "--to", "frame", "--type", "F64"]);
    assert_eq!(code(&unknown), 2);
    assert!(stderr(&unknown).contains("one of U8, BF16"), "{}", stderr(&unknown));
    fails(&["transcode", &frame, "-o", &raw, "--to", "raw"], 3, "cannot create");
    fails(&["transcode", &unit, "-o", &to, "--to", "raw", "--unit", "other"], 1, "holds no unit");
    let mut damaged = fs::read(&frame).unwrap();
    damaged[50_000] ^= 1;
    fs::write(&frame, damaged).unwrap();
    fails(&["transcode", &frame, "-o", &to, "--to", "raw"], 1, "not what its checksum promises");
    assert!(!Path::new(&to).exists());
}
