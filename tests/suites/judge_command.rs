//! `df11 judge`, as people and continuous integration call it.
#![cfg(unix)]
#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;
use tempfile::TempDir;

const DF11: &str = env!("CARGO_BIN_EXE_df11");

fn df11(args: &[&str]) -> Output {
    Command::new(DF11).args(args).output().unwrap()
}

fn run(args: &[&str]) -> Output {
    df11(&[&["judge", "run"], args].concat())
}

fn code(output: &Output) -> i32 {
    output.status.code().unwrap()
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn json(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap()
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[test]
fn the_old_name_of_the_command_still_works() {
    assert_eq!(df11(&["conformance", "list"]).stdout, df11(&["judge", "list"]).stdout);
    let list = json(&df11(&["judge", "list", "--json"]));
    assert!(list["numberOfTests"].as_u64().unwrap() >= 150);
    assert!(!list["archives"].as_array().unwrap().is_empty());
    assert!(!list["deltas"].as_array().unwrap().is_empty());
}

#[test]
fn programs_are_judged_by_their_exit_codes() {
    let temp = tempfile::tempdir().unwrap();
    let junit = temp.path().join("junit.xml");
    let with = |decoder: &str, more: &[&str]| run(&[&["--decoder", decoder], more].concat());
    // One that refuses everything fails what is valid; `cp` writes no weights.
    let refuses = "sh -c 'exit 10' {unit} {out}";
    let output = with(refuses, &["--filter", "size-1", "--json", "--junit", text(&junit)]);
    assert_eq!(code(&output), 1);
    assert!(json(&output)["cases"][0]["failure"].as_str().unwrap().contains("refused a valid unit"));
    assert!(fs::read_to_string(&junit).unwrap().contains("<failure"));
    let output = with("cp {unit} {out}", &["--filter", "gaps-cut"]);
    assert!(code(&output) == 1 && stdout(&output).contains("accepted an invalid unit"));
    assert_eq!(code(&with(refuses, &["--filter", "gaps-cut"])), 0);
    // 1 is what languages end with by themselves.
    let output = with("false {unit} {out}", &["--filter", "gaps-cut"]);
    assert!(code(&output) == 1 && stdout(&output).contains("crashed with exit code 1"));
    let output = with("sh -c 'exit 11' {unit} {out}", &["--filter", "gaps-cut"]);
    assert!(code(&output) == 1 && stdout(&output).contains("called an invalid unit unsupported"));
    // A decoder of deltas is given two files.
    let deltas = |decoder: &str, filter| run(&["--delta-decoder", decoder, "--filter", filter]);
    let copies = deltas("cp {base} {out} {delta}", "delta-bf16-same");
    assert!(code(&copies) == 1 && stdout(&copies).contains("crashed with exit code 1"));
    let copies = "sh -c 'test -f {delta} && cp {base} {out}'";
    assert_eq!(code(&deltas(copies, "delta-bf16-same")), 0);
    let output = deltas(copies, "delta-base-coded");
    assert!(code(&output) == 1 && stdout(&output).contains("accepted an invalid delta"));
    assert_eq!(code(&run(&["--delta-decoder", "cp {delta} {out}"])), 2);
    assert_eq!(code(&run(&["--delta-decoder", copies, DF11, "judge", "serve"])), 2);
    // Nobody to judge, or nobody there.
    assert_eq!(code(&run(&[])), 2);
    assert_eq!(code(&run(&["/no/such/program"])), 2);
    assert_eq!(code(&run(&["--library", "/no/such/library.so"])), 3);
}

#[test]
fn a_report_and_a_badge_are_written() {
    let temp = tempfile::tempdir().unwrap();
    let [report, badge] = ["report.json", "badge.svg"].map(|name| temp.path().join(name));
    let files = ["--mode", "lenient", "--report", text(&report), "--badge", text(&badge)];
    let output = run(&[&files[..], &[DF11, "judge", "serve"]].concat());
    assert_eq!(code(&output), 0, "{}", stdout(&output));
    let report: Value = serde_json::from_slice(&fs::read(&report).unwrap()).unwrap();
    assert!(report["quote"].as_str().unwrap().starts_with("passes df11 judge 1.0"));
    assert!(fs::read_to_string(&badge).unwrap().contains("passed"));

    // What is in the repository is of the same vectors, and nothing else differs.
    let kept = Path::new(env!("CARGO_MANIFEST_DIR")).join("../spec/reports/df11.json");
    let kept: Value = serde_json::from_slice(&fs::read(kept).unwrap()).unwrap();
    for field in ["judge", "program", "vectors", "terms", "passed", "quote", "totals", "failures"] {
        assert_eq!(kept[field], report[field], "{field}: run spec/reports/make.sh");
    }
}

/// A library in C, compiled here.
fn library(temp: &TempDir, name: &str, source: &str) -> PathBuf {
    let [from, to] = [format!("{name}.c"), format!("lib{name}.so")].map(|name| temp.path().join(name));
    fs::write(&from, source).unwrap();
    let compiler = std::env::var_os("CC").unwrap_or("cc".into());
    let output = Command::new(compiler).args(["-shared", "-fPIC", "-o"]).args([&to, &from]).output();
    let output = output.unwrap_or_else(|error| panic!("no C compiler: {error}"));
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    to
}

#[test]
fn what_a_library_does_wrong_is_a_verdict_and_not_the_end_of_the_judge() {
    let temp = tempfile::tempdir().unwrap();
    let describe = "int df11_dietgpu_describe(const void *data, size_t len, size_t *info, void *error)
        { info[1] = info[2] = len; return 0; }";
    let decoder = |body: &str| {
        format!(
            "#include <stdlib.h>\n#include <string.h>\n{describe}\n\
             int df11_dietgpu_decode(const void *data, size_t len, char *out, size_t out_len, void *error)\
             {{ {body} }}"
        )
    };
    let judged = |name: &str, body: &str| {
        let path = library(&temp, name, &decoder(body));
        json(&run(&["--library", text(&path), "--filter", "archive-0", "--json"]))
    };
    for (name, body, says) in [
        ("aborts", "abort();", "crashed (signal: 6"),
        ("reads", "return *(volatile int *)8;", "crashed (signal: 11"),
        ("exits", "exit(0);", "ended without an answer"),
        ("writes", "memset(out, 0, out_len + 1); return 0;", "wrote behind the end of its output"),
        ("claims", "return 8;", "ended with status 8"),
        ("lies", "memset(out, 1, out_len); return 0;", "gave "),
    ] {
        let report = judged(name, body);
        let cases = report["cases"].as_array().unwrap();
        assert!(!cases.is_empty());
        for case in cases.iter().filter(|case| case["result"] == "valid") {
            assert!(case["failure"].as_str().unwrap().contains(says), "{name}: {case}");
        }
    }
    let nothing = library(&temp, "nothing", "int nothing(void) { return 0; }");
    let output = run(&["--library", text(&nothing)]);
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(code(&output) == 2 && told.contains("exports no decoder"), "{told}");
}

#[test]
fn a_campaign_ends_with_0_if_nothing_was_found_and_writes_what_was() {
    let temp = tempfile::tempdir().unwrap();
    let folder = temp.path().join("failures");
    let fuzz = |more: &[&str]| df11(&[&["judge", "fuzz", "--cases", "100", "--json"], more].concat());
    let output = fuzz(&["--out", text(&folder), DF11, "judge", "serve"]);
    assert!(code(&output) == 0 && json(&output)["cases"] == 100 && !folder.exists());
    let output = fuzz(&["--out", text(&folder), "--failures", "1", "--frame-decoder", "cp {frame} {out}"]);
    assert_eq!((code(&output), json(&output)["failures"].as_array().unwrap().len()), (1, 1));
    assert!(folder.join("frames.json").exists());
}

#[test]
fn vectors_are_exported_once() {
    let temp = tempfile::tempdir().unwrap();
    let folder = temp.path().join("vectors");
    assert_eq!(code(&df11(&["judge", "export", text(&folder)])), 0);
    assert!(folder.join("index.json").exists() && folder.join("unit/size-1.bf16").exists());
    assert_eq!(code(&df11(&["judge", "export", text(&folder)])), 2);
}
