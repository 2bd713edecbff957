//! Gives an external program every vector and judges what it does.
//!
//! A decoder is a command with `{unit}`, a safetensors file with the parts of one unit (`unit.luts`
//! and so on), and `{out}`, where it writes the weights: little-endian BF16, all tensors one after
//! the other, nothing else. An encoder is a command with `{bf16}`, a safetensors file with the
//! tensors `0`, `1`, ... in this order, and `{unit}`, where it writes a safetensors file with one
//! unit. A decoder of frames is a command with `{frame}`, a frame, and `{out}`, where it writes the
//! elements and nothing else. Each refuses by ending with an exit code from 1 to 100, without a
//! crash.

use std::fmt::Write;
use std::fs::{self, File};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use df11::frame::Frame;
use df11::{PARTS, Unit};
use safetensors::SafeTensors;
use safetensors::tensor::TensorView;
use serde::Serialize;
use wait_timeout::ChildExt;

use crate::lint::{Severity, lint};
use crate::vectors::{FrameTest, Outcome, Task, Test, Vectors, unit};

/// What to judge.
#[derive(Clone, Debug)]
pub struct Job {
    /// A command with `{unit}` and `{out}`.
    pub decoder: Option<String>,
    /// A command with `{bf16}` and `{unit}`.
    pub encoder: Option<String>,
    /// A command with `{frame}` and `{out}`.
    pub frame_decoder: Option<String>,
    /// How long a single case may take.
    pub time_limit: Duration,
    /// Only tests whose name holds this text.
    pub filter: Option<String>,
}

/// What a program did in one test.
#[derive(Clone, Debug, Serialize)]
pub struct Case {
    /// The test.
    pub id: String,
    /// What was asked.
    pub task: Task,
    /// What it is about.
    pub comment: String,
    /// Clauses that decide it.
    pub clauses: Vec<String>,
    /// What was wrong; `None` if nothing was.
    pub failure: Option<String>,
    /// Whether the program refused.
    pub refused: bool,
    /// How long it took.
    pub seconds: f64,
}

/// The judgement.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// All cases, in the order of the vectors.
    pub cases: Vec<Case>,
}

/// How a program ended.
enum End {
    Done,
    Refused(String),
    /// Crashed, or did not end.
    Failed(String),
}

/// Runs every vector.
///
/// # Errors
///
/// If there is nothing to run, a command cannot be understood or started, or temporary files cannot
/// be written.
pub fn run(job: &Job) -> Result<Report, String> {
    let (vectors, frames) = (Vectors::load()?, FrameTest::load()?);
    let temp =
        tempfile::tempdir().map_err(|error| format!("cannot create a temporary directory: {error}"))?;
    let mut report = Report { cases: Vec::new() };
    let is_wanted = |id: &str| job.filter.as_ref().is_none_or(|filter| id.contains(filter.as_str()));
    let stderr = temp.path().join("stderr");
    let output = temp.path().join("output");
    for (task, test) in vectors.tests() {
        let command = match task {
            Task::UnitDecode => &job.decoder,
            _ => &job.encoder,
        };
        let Some(command) = command.as_ref().filter(|_| is_wanted(&test.id)) else { continue };
        let input = temp.path().join("input.safetensors");
        let prefix = if task == Task::UnitDecode { "unit." } else { "" };
        write(&input, prefix, test)?;
        let _ = fs::remove_file(&output);
        let names = if task == Task::UnitDecode { ["{unit}", "{out}"] } else { ["{bf16}", "{unit}"] };
        let started = Instant::now();
        let end = execute(command, &names, [&input, &output], job.time_limit, &stderr)?;
        let seconds = started.elapsed().as_secs_f64();
        let refused = matches!(end, End::Refused(_));
        let failure = match task {
            Task::UnitDecode => judge_decoder("unit", test.result, &test.comment, &test.clauses, end, || {
                compare(test, &output)
            }),
            _ => judge_encoder(test, end, &output),
        };
        report.cases.push(Case {
            id: test.id.clone(),
            task,
            comment: test.comment.clone(),
            clauses: test.clauses.clone(),
            failure: failure.err(),
            refused,
            seconds,
        });
    }
    for test in frames.iter().filter(|test| is_wanted(&test.id)) {
        let Some(command) = &job.frame_decoder else { continue };
        let input = temp.path().join("input.frame");
        fs::write(&input, test.bytes()?)
            .map_err(|error| format!("cannot write {}: {error}", input.display()))?;
        let _ = fs::remove_file(&output);
        let started = Instant::now();
        let end = execute(command, &["{frame}", "{out}"], [&input, &output], job.time_limit, &stderr)?;
        let seconds = started.elapsed().as_secs_f64();
        let refused = matches!(end, End::Refused(_));
        let compare = || compare_elements(test, &output);
        let judged = judge_decoder("frame", test.result, &test.comment, &test.clauses, end, compare);
        report.cases.push(Case {
            id: test.id.clone(),
            task: Task::FrameDecode,
            comment: test.comment.clone(),
            clauses: test.clauses.clone(),
            failure: judged.err(),
            refused,
            seconds,
        });
    }
    if report.cases.is_empty() {
        return Err(
            "no test was run: name a --decoder, an --encoder or a --frame-decoder, and a --filter that matches"
                .to_owned(),
        );
    }
    Ok(report)
}

fn write(path: &Path, prefix: &str, test: &Test) -> Result<(), String> {
    fs::write(path, test.file(prefix)?).map_err(|error| format!("cannot write {}: {error}", path.display()))
}

fn execute(
    template: &str,
    names: &[&str; 2],
    paths: [&Path; 2],
    limit: Duration,
    stderr: &Path,
) -> Result<End, String> {
    let mut words =
        shlex::split(template).ok_or_else(|| format!("the command {template:?} has an open quote"))?;
    for name in names {
        if !words.iter().any(|word| word.contains(name)) {
            return Err(format!("the command {template:?} does not say where {name} goes"));
        }
    }
    for word in &mut words {
        for (name, path) in names.iter().zip(paths) {
            *word = word.replace(name, &path.to_string_lossy());
        }
    }
    let Some((program, arguments)) = words.split_first() else {
        return Err("the command is empty".to_owned());
    };
    let log = File::create(stderr).map_err(|error| format!("cannot write {}: {error}", stderr.display()))?;
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log)
        .spawn()
        .map_err(|error| format!("cannot start {program}: {error}"))?;
    let status = child.wait_timeout(limit).map_err(|error| format!("cannot wait for {program}: {error}"))?;
    let Some(status) = status else {
        let _ = child.kill();
        let _ = child.wait();
        return Ok(End::Failed(format!("did not end within {} s", limit.as_secs_f64())));
    };
    let said = fs::read(stderr).unwrap_or_default();
    let said = String::from_utf8_lossy(&said);
    let last = said.lines().rfind(|line| !line.trim().is_empty()).unwrap_or_default().trim().to_owned();
    Ok(match status.code() {
        Some(0) => End::Done,
        // An exception that nobody caught is no refusal: the program did not know what it met.
        _ if said.contains("Traceback (most recent call last)") => End::Failed(format!("crashed: {last}")),
        Some(code @ 1..=100) => End::Refused(format!("exit code {code}: {last}")),
        Some(code) => End::Failed(format!("crashed with exit code {code}: {last}")),
        None => End::Failed(format!("crashed ({status}): {last}")),
    })
}

fn judge_decoder(
    what: &str,
    outcome: Outcome,
    comment: &str,
    clauses: &[String],
    end: End,
    compare: impl FnOnce() -> Result<(), String>,
) -> Result<(), String> {
    match (end, outcome) {
        (End::Failed(how), _) => Err(how),
        (End::Refused(how), Outcome::Valid) => Err(format!("refused a valid {what} ({how})")),
        (End::Refused(_), _) => Ok(()),
        (End::Done, Outcome::Invalid | Outcome::Unsupported) => {
            let rule = clauses.first().map_or("", String::as_str);
            Err(format!("accepted an invalid {what}: {comment} ({rule})"))
        }
        (End::Done, Outcome::Valid | Outcome::Acceptable) => compare(),
    }
}

/// Whether the elements of a frame are right.
fn compare_elements(test: &FrameTest, output: &Path) -> Result<(), String> {
    let found = read_output(output)?;
    if test.is_answer(&found) {
        return Ok(());
    }
    let bytes = test.bytes()?;
    let frame = Frame::new(&bytes).map_err(|error| error.to_string())?;
    let mut expected = vec![0; frame.elements_bytes()];
    frame.decode_into(&mut expected).map_err(|error| error.to_string())?;
    if found.len() != expected.len() {
        return Err(format!("gave {} bytes instead of {}", found.len(), expected.len()));
    }
    let mut differs =
        found.iter().zip(&expected).enumerate().filter(|(_, (found, expected))| found != expected);
    let Some((first, (found, expected))) = differs.next() else { return Err("gave other bytes".to_owned()) };
    Err(format!(
        "{} bytes are wrong; byte {first} is {found:#04x} instead of {expected:#04x}",
        1 + differs.count()
    ))
}

fn read_output(output: &Path) -> Result<Vec<u8>, String> {
    fs::read(output).map_err(|error| format!("ended well, but its output cannot be read: {error}"))
}

fn compare(test: &Test, output: &Path) -> Result<(), String> {
    let found = read_output(output)?;
    if test.is_answer(&found) {
        return Ok(());
    }
    let expected = expected(test)?;
    if found.len() != expected.len() {
        return Err(format!("gave {} bytes instead of {}", found.len(), expected.len()));
    }
    let differs = found.as_chunks::<2>().0.iter().zip(expected.as_chunks::<2>().0).enumerate();
    let mut differs = differs.filter(|(_, (found, expected))| found != expected);
    let Some((first, (found, expected))) = differs.next() else { return Err("gave other bytes".to_owned()) };
    let (found, expected) = (u16::from_le_bytes(*found), u16::from_le_bytes(*expected));
    Err(format!(
        "{} weights are wrong; weight {first} is {found:#06x} instead of {expected:#06x}",
        1 + differs.count()
    ))
}

/// The weights of a test: kept, or, for large units, decoded.
fn expected(test: &Test) -> Result<Vec<u8>, String> {
    if let Some(weights) = test.weights()? {
        return Ok(weights.to_vec());
    }
    let tensors = test.tensors()?;
    let unit = unit(&tensors).ok_or("the vector lacks a part")?;
    let unit = Unit::new(unit).map_err(|error| error.to_string())?;
    let mut weights = vec![0; 2 * unit.len()];
    unit.decode_into(&mut weights).map_err(|error| error.to_string())?;
    Ok(weights)
}

fn judge_encoder(test: &Test, end: End, output: &Path) -> Result<(), String> {
    match (end, test.result) {
        (End::Failed(how), _) => Err(how),
        (End::Refused(how), Outcome::Valid) => Err(format!("refused weights that the layout holds ({how})")),
        (End::Refused(_), _) => Ok(()),
        (End::Done, Outcome::Invalid | Outcome::Unsupported) => {
            let written = check_written(test, output);
            let rule = test.clauses.first().map_or("", String::as_str);
            let wrote = written.err().unwrap_or_default();
            Err(format!("encoded what the layout cannot hold: {} ({rule}); {wrote}", test.comment)
                .trim_end_matches("; ")
                .to_owned())
        }
        (End::Done, Outcome::Valid | Outcome::Acceptable) => check_written(test, output),
    }
}

/// Checks the unit that an encoder wrote: every rule for writers, the bits, the tensors.
fn check_written(test: &Test, output: &Path) -> Result<(), String> {
    let bytes =
        fs::read(output).map_err(|error| format!("ended well, but its unit cannot be read: {error}"))?;
    let parsed =
        SafeTensors::deserialize(&bytes).map_err(|error| format!("wrote no safetensors file: {error}"))?;
    let parts: Vec<(String, TensorView<'_>)> = parsed
        .tensors()
        .into_iter()
        .map(|(name, view)| (name.rsplit('.').next().unwrap_or(&name).to_owned(), view))
        .collect();
    for (key, dtype) in PARTS {
        match parts.iter().find(|(name, _)| name == key) {
            None => return Err(format!("wrote no {key} (D-10.2)")),
            Some((_, view)) if view.dtype().to_string() != dtype => {
                return Err(format!("wrote {key} as {}, not {dtype} (D-10.2)", view.dtype()));
            }
            Some(_) => {}
        }
    }
    let tensors = unit(&parts).ok_or("wrote an incomplete unit")?;
    if let Some(finding) = lint(&tensors).iter().find(|finding| finding.severity >= Severity::Writer) {
        return Err(format!("{} ({})", finding.message, finding.clause));
    }
    let unit = Unit::new(tensors).map_err(|error| error.to_string())?;
    let mut weights = vec![0; 2 * unit.len()];
    unit.decode_into(&mut weights).map_err(|error| error.to_string())?;
    let originals = test.tensors()?;
    let lengths: Vec<usize> = originals.iter().map(|(_, view)| view.data().len() / 2).collect();
    if !unit.tensor_ranges().map(|range| range.len()).eq(lengths.iter().copied()) {
        let found: Vec<usize> = unit.tensor_ranges().map(|range| range.len()).collect();
        return Err(format!("cut the unit into tensors of {found:?} weights instead of {lengths:?} (D-9.1)"));
    }
    let original: Vec<u8> = originals.iter().flat_map(|(_, view)| view.data().iter().copied()).collect();
    let differs = weights.iter().zip(&original).position(|(a, b)| a != b);
    differs.map_or(Ok(()), |at| Err(format!("wrote a unit that decodes to another weight {}", at / 2)))
}

impl Report {
    /// The cases that went wrong.
    pub fn failures(&self) -> impl Iterator<Item = (&Case, &str)> {
        self.cases.iter().filter_map(|case| Some((case, case.failure.as_deref()?)))
    }

    /// Whether nothing went wrong.
    #[must_use]
    pub fn passed(&self) -> bool {
        self.failures().next().is_none()
    }

    /// The judgement as text: a line for each failure, then the counts.
    #[must_use]
    pub fn to_text(&self) -> String {
        let mut out = String::new();
        for (case, failure) in self.failures() {
            let _ = writeln!(out, "FAILED {} ({}): {failure}", case.id, case.clauses.join(", "));
        }
        for (task, name) in [
            (Task::UnitDecode, "decoder"),
            (Task::UnitEncode, "encoder"),
            (Task::FrameDecode, "frame decoder"),
        ] {
            let cases = || self.cases.iter().filter(|case| case.task == task);
            let failed = cases().filter(|case| case.failure.is_some()).count();
            if cases().next().is_some() {
                let refused = cases().filter(|case| case.refused).count();
                let (all, passed) = (cases().count(), cases().count() - failed);
                let _ = writeln!(out, "{name}: {passed} of {all} passed ({refused} refused)");
            }
        }
        out
    }

    /// The judgement in the XML that continuous integration reads.
    #[must_use]
    pub fn to_junit(&self) -> String {
        let escape = |text: &str| {
            let text: String = text.chars().filter(|c| !c.is_control()).collect();
            text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
        };
        let mut out = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n");
        let failures = self.failures().count();
        let _ =
            writeln!(out, "<testsuite name=\"DF11\" tests=\"{}\" failures=\"{failures}\">", self.cases.len());
        for case in &self.cases {
            let class = match case.task {
                Task::UnitDecode => "decode",
                Task::UnitEncode => "encode",
                Task::FrameDecode => "frame",
            };
            let (id, seconds) = (escape(&case.id), case.seconds);
            let _ = write!(out, "  <testcase classname=\"{class}\" name=\"{id}\" time=\"{seconds:.3}\"");
            let _ = match &case.failure {
                None => writeln!(out, "/>"),
                Some(failure) => writeln!(out, "><failure message=\"{}\"/></testcase>", escape(failure)),
            };
        }
        out + "</testsuite>\n"
    }
}
