//! Judges CUDA kernels by the vectors, in the emulator.

use std::fs;
use std::path::PathBuf;
use std::time::Instant;

use df11::hazmat::layout::BLOCK_BYTES;
use df11::{PUBLISHED_SHARED_MEMORY, Unit};
use df11_emulator::{Kind, Module, Options};
use df11_gpu_lab::emulate::{self, Shape};
use df11_judge::judge::{Case, Report, Terms};
use df11_judge::vectors::{Outcome, Task, Test, Vectors, unit};
use df11_model::Error;

/// A kernel with the published signature, to be judged in the emulator.
pub(crate) struct Judged {
    pub(crate) ptx: PathBuf,
    pub(crate) entry: String,
    pub(crate) threads: u32,
}

/// Gives a kernel every vector whose buffer lengths match its sizes. A kernel cannot check the
/// lengths of buffers.
pub(crate) fn judge(judged: &Judged, terms: &Terms) -> Result<Report, Error> {
    let text = fs::read_to_string(&judged.ptx).map_err(|source| Error::Io {
        action: "cannot read",
        path: judged.ptx.clone(),
        source,
    })?;
    let module = Module::parse(&text)
        .map_err(|error| Error::File { path: judged.ptx.clone(), problem: error.to_string() })?;
    let vectors = Vectors::load().map_err(Error::Usage)?;
    let judged_name = format!("the kernel {} of {}", judged.entry, judged.ptx.display());
    let mut report = Report { judged: judged_name, terms: terms.clone(), cases: Vec::new() };
    let filter = terms.filter.as_deref();
    for (task, test) in vectors.tests() {
        if task != Task::UnitDecode || filter.is_some_and(|filter| !test.id.contains(filter)) {
            continue;
        }
        let tensors = test.tensors().map_err(Error::Usage)?;
        let Some(parts) = unit(&tensors) else { continue };
        if !emulate::has_right_lengths(&parts) {
            continue;
        }
        let blocks = parts.encoded_exponent.len().div_ceil(BLOCK_BYTES).max(1);
        // Published loaders pass this size. For an invalid unit, it is the largest size that they
        // ever pass.
        let shared = Unit::new(parts).map_or(PUBLISHED_SHARED_MEMORY, |unit| unit.shared_memory_bytes());
        let shape = Shape { threads: judged.threads, ..Shape::published(blocks, shared) };
        let started = Instant::now();
        // Many times the number of steps that a block of real weights takes.
        let options = Options { most_steps: 2_000_000, ..Options::default() };
        let ran = emulate::unit(&module, &judged.entry, &parts, shape, 0, &options);
        let (found, ran) =
            ran.map_err(|error| Error::File { path: judged.ptx.clone(), problem: error.to_string() })?;
        report.cases.push(Case {
            id: test.id.clone(),
            task,
            comment: test.comment.clone(),
            clauses: test.clauses.clone(),
            result: test.result,
            answer: "accepted",
            failure: verdict(test, &found, &ran.findings).err(),
            seconds: started.elapsed().as_secs_f64(),
        });
    }
    if report.cases.is_empty() {
        return Err(Error::Usage("no test was run: no vector has such a name".to_owned()));
    }
    Ok(report)
}

fn verdict(test: &Test, found: &[u8], findings: &[df11_emulator::Finding]) -> Result<(), String> {
    let is_valid = matches!(test.result, Outcome::Valid | Outcome::Acceptable);
    // For an invalid unit, a kernel may leave anything undefined, and send two blocks to the same
    // weights. It must not access memory out of bounds or run forever.
    let is_harmless = |kind: Kind| matches!(kind, Kind::UndefinedRead | Kind::UndefinedRegister | Kind::Race);
    let counts = |kind: Kind| is_valid || !is_harmless(kind);
    if let Some(finding) = findings.iter().find(|finding| counts(finding.kind)) {
        return Err(finding.to_string());
    }
    if is_valid && !test.is_answer(found) {
        return Err("gave other weights".to_owned());
    }
    Ok(())
}
