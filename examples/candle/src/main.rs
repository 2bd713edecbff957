//! Embeds sentences with all-MiniLM-L6-v2 in three ways: from its BF16 weights, from compressed
//! weights that are decoded at the start, and from compressed weights that are decoded part by
//! part. Compares all outputs bit for bit, and the cost of each run.
//!
//! Each run is a process of its own, so that its peak memory is its own. Exit codes: 0 all
//! requirements hold, 1 a requirement does not hold, 2 invalid usage or a failed run.

mod run;
mod text;

use std::fs::File;
use std::io::{self, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use candle_core::{Error, Result, bail};
use clap::{Parser, ValueEnum};

use crate::run::{Taken, Variant};

/// The largest share of their BF16 bytes that the weights of a streamed run may take, apart from
/// one block.
const MOST: f64 = 0.72;

/// Fewer sentences than this would show little.
const LEAST_SENTENCES: usize = 100;

/// Embeds sentences from BF16 weights, from decoded and from streamed ones, and compares outputs as
/// bits.
#[derive(Clone, Debug, Parser)]
struct Options {
    /// The BF16 weights, a safetensors file.
    #[arg(long, value_name = "FILE", default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/../../.corpus/bf16/model.safetensors"))]
    model: PathBuf,
    /// The same weights, compressed by `df11 compress`; may be given more than once.
    #[arg(long, value_name = "DIR", required = true)]
    compressed: Vec<PathBuf>,
    /// The folder of config.json and tokenizer.json.
    #[arg(long, value_name = "DIR", default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/../../.corpus/f32"))]
    config_dir: PathBuf,
    /// A text file, which is cut into sentences; may be given more than once. Without it, the
    /// specifications and documents of this repository are used.
    #[arg(long, value_name = "FILE")]
    sentences: Vec<PathBuf>,
    /// The largest number of sentences to use.
    #[arg(long, value_name = "N", default_value_t = 600)]
    limit: usize,
    /// Buffers of a streamed run; each takes a third of a block.
    #[arg(long, value_name = "N", default_value_t = 3)]
    buffers: usize,
    /// One run alone, from the first of --compressed. It writes its outputs to --out, and prints
    /// its cost.
    #[arg(long, hide = true, requires = "out")]
    run: Option<Variant>,
    #[arg(long, hide = true)]
    out: Option<PathBuf>,
}

fn main() -> ExitCode {
    let options = Options::parse();
    let done = match (options.run, &options.out) {
        (Some(variant), Some(out)) => run::run(&options, variant, out).map(|()| true),
        _ => compare(&options),
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(error) => {
            let _ = writeln!(io::stderr(), "df11-candle: {error}");
            ExitCode::from(2)
        }
    }
}

/// Runs every variant in a process of its own, compares the outputs, and prints the table. Returns
/// whether all requirements hold.
fn compare(options: &Options) -> Result<bool> {
    let scratch = tempfile::tempdir()?;
    let expected = scratch.path().join("bf16");
    let plain = child(options, Variant::Plain, &options.model, &expected)?;
    let mut rows = vec![row("BF16", &plain, &plain, "—")];
    let mut failures = Vec::new();
    if plain.sentences < LEAST_SENTENCES {
        failures.push(format!("{} sentences are fewer than {LEAST_SENTENCES}", plain.sentences));
    }
    let most = (MOST * plain.weight_bytes as f64) as u64 + plain.block_bytes;
    for path in &options.compressed {
        let checkpoint = path.file_name().unwrap_or(path.as_os_str()).to_string_lossy();
        for (variant, how) in [(Variant::Whole, "decoded at the start"), (Variant::Streamed, "streamed")] {
            let name = format!("{checkpoint}, {how}");
            let found = scratch.path().join("other");
            let taken = child(options, variant, path, &found)?;
            let difference = first_difference(&expected, &found)?;
            rows.push(row(&name, &taken, &plain, if difference.is_none() { "yes" } else { "**no**" }));
            if let Some(at) = difference {
                failures.push(format!("{name}: outputs differ from those of BF16, first at byte {at}"));
            }
            if variant == Variant::Streamed && taken.weight_bytes > most {
                failures.push(format!("{name}: weights take {} bytes, more than {most}", taken.weight_bytes));
            }
        }
    }

    let mut out = io::stdout().lock();
    let (bf16, block) = (plain.weight_bytes, plain.block_bytes);
    writeln!(out, "{} sentences, {} tokens; one thread computes.\n", plain.sentences, plain.tokens)?;
    writeln!(
        out,
        "| weights | in memory, bytes | of BF16 | peak memory, MB | before weights, MB | first output, ms | \
         a sentence, ms | its CPU time, ms | same bits |\n| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | --- |"
    )?;
    writeln!(out, "{}\n", rows.join("\n"))?;
    writeln!(
        out,
        "In each run, one matrix at a time is there in F32 too, {} bytes at most.",
        plain.f32_bytes
    )?;
    writeln!(out, "Streamed weights may take {MOST} × {bf16} + {block} = {most} bytes.")?;
    for failure in &failures {
        writeln!(out, "failed: {failure}")?;
    }
    Ok(failures.is_empty())
}

fn row(name: &str, taken: &Taken, plain: &Taken, same: &str) -> String {
    let of_bf16 = taken.weight_bytes as f64 / plain.weight_bytes as f64;
    let [peak, before] = [taken.peak_bytes, taken.before_bytes].map(|bytes| bytes as f64 / 1e6);
    let [first, median, cpu] = [taken.first, taken.median, taken.processor].map(|seconds| 1e3 * seconds);
    format!(
        "| {name} | {} | {of_bf16:.3} | {peak:.1} | {before:.1} | {first:.0} | {median:.1} | {cpu:.1} | {same} |",
        taken.weight_bytes
    )
}

/// Runs one variant in a process of its own.
fn child(options: &Options, variant: Variant, weights: &Path, out: &Path) -> Result<Taken> {
    let mut command = Command::new(std::env::current_exe()?);
    // candle gets one thread, so that the way in which it splits sums never depends on the machine.
    command.env("RAYON_NUM_THREADS", "1");
    command.arg("--model").arg(&options.model).arg("--compressed").arg(weights);
    command.arg("--config-dir").arg(&options.config_dir).arg("--limit").arg(options.limit.to_string());
    for file in &options.sentences {
        command.arg("--sentences").arg(file);
    }
    let name = variant.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default();
    command.arg("--buffers").arg(options.buffers.to_string());
    let done = command.arg("--run").arg(&name).arg("--out").arg(out).output()?;
    if !done.status.success() {
        let said = String::from_utf8_lossy(&done.stderr);
        bail!("the {name} run of {} failed: {}", weights.display(), said.trim());
    }
    serde_json::from_slice(&done.stdout).map_err(Error::wrap)
}

/// Returns the position of the first byte in which two files differ, including their lengths.
fn first_difference(expected: &Path, found: &Path) -> Result<Option<u64>> {
    let [mut expected, mut found] =
        [BufReader::new(File::open(expected)?), BufReader::new(File::open(found)?)];
    let (mut a, mut b) = (Vec::new(), Vec::new());
    let mut at = 0;
    loop {
        a.clear();
        b.clear();
        Read::by_ref(&mut expected).take(1 << 20).read_to_end(&mut a)?;
        Read::by_ref(&mut found).take(1 << 20).read_to_end(&mut b)?;
        if a != b {
            let same = a.iter().zip(&b).take_while(|(a, b)| a == b).count();
            return Ok(Some(at + same as u64));
        }
        if a.is_empty() {
            return Ok(None);
        }
        at += a.len() as u64;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_differ_at_the_first_byte_that_is_not_the_same_or_where_one_ends() {
        let directory = tempfile::tempdir().unwrap();
        let [a, b] = ["a", "b"].map(|name| directory.path().join(name));
        // This is longer than one read.
        let bytes = vec![7; 3 << 20];
        let compare = |other: &[u8]| {
            std::fs::write(&b, other).unwrap();
            first_difference(&a, &b).unwrap()
        };
        std::fs::write(&a, &bytes).unwrap();
        assert_eq!(compare(&bytes), None);
        assert_eq!(compare(&bytes[1..]), Some(bytes.len() as u64 - 1));
        assert_eq!(compare(&[&bytes[..], b"7"].concat()), Some(bytes.len() as u64));
        let mut other = bytes.clone();
        for at in [bytes.len() - 1, 1 << 20, 5] {
            other[at] ^= 1;
            assert_eq!(compare(&other), Some(at as u64));
        }
    }
}
