//! What implementations are asked: the vectors in the form that a program is given them.

use std::fmt::Write;

use safetensors::SafeTensors;
use safetensors::tensor::TensorView;

use df11::{PARTS, Unit};

use crate::lint::{Severity, lint};
use crate::pair;
use crate::subject::Answer;
use crate::vectors::{DeltaTest, FrameTest, Outcome, Task, Test, Vectors, is_digest, unit};

/// How acceptable input must be treated.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// Some may be taken, and others refused.
    #[default]
    Any,
    /// All must be refused.
    Strict,
    /// All must be taken.
    Lenient,
}

/// A vector as a program gets it: a file, and what to make of it.
#[derive(Clone, Debug)]
pub struct Question {
    /// The name of the vector.
    pub id: String,
    /// What is asked.
    pub task: Task,
    /// What it is about.
    pub comment: String,
    /// Clauses that decide it; of invalid input, the rule that is broken.
    pub clauses: Vec<String>,
    /// What is to be made of it.
    pub result: Outcome,
    /// Of input to be refused: whether it may be called invalid or unsupported, as one likes.
    pub either: bool,
    /// The file: safetensors, a frame, or an archive; or a delta and its base, as [`pair::join`]
    /// joins them.
    pub input: Vec<u8>,
    /// SHA-256 of the right output; `None` where there is none, or where many are right (encoders).
    pub sha256: Option<String>,
}

impl Question {
    /// Every question for one task, in the order of the vectors.
    ///
    /// # Errors
    ///
    /// If the vectors are damaged.
    ///
    /// ```
    /// use df11_judge::question::Question;
    /// use df11_judge::vectors::Task;
    ///
    /// assert!(Question::all(Task::UnitEncode)?[0].id.starts_with("encode-"));
    /// # Ok::<(), String>(())
    /// ```
    pub fn all(task: Task) -> Result<Vec<Self>, String> {
        match task {
            Task::UnitDecode | Task::UnitEncode => {
                let vectors = Vectors::load()?;
                let tests = vectors.tests().filter(|(of, _)| *of == task);
                tests.map(|(_, test)| Question::of_unit(task, test)).collect()
            }
            Task::FrameDecode => FrameTest::load()?.iter().map(|test| Question::of(task, test)).collect(),
            Task::ArchiveDecode => {
                FrameTest::load_archives()?.iter().map(|test| Question::of(task, test)).collect()
            }
            Task::DeltaDecode => DeltaTest::load()?.into_iter().map(Question::of_delta).collect(),
        }
    }

    fn of_unit(task: Task, test: &Test) -> Result<Self, String> {
        let prefix = if task == Task::UnitDecode { "unit." } else { "" };
        Ok(Question {
            id: test.id.clone(),
            task,
            comment: test.comment.clone(),
            clauses: test.clauses.clone(),
            result: test.result,
            either: task == Task::UnitEncode || test.error.as_deref() == Some("Unsupported"),
            input: test.file(prefix)?,
            sha256: test.sha256.clone().filter(|_| task == Task::UnitDecode),
        })
    }

    fn of(task: Task, test: &FrameTest) -> Result<Self, String> {
        Ok(Question {
            id: test.id.clone(),
            task,
            comment: test.comment.clone(),
            clauses: test.clauses.clone(),
            result: test.result,
            either: false,
            input: test.bytes()?,
            sha256: test.sha256.clone(),
        })
    }

    fn of_delta(test: DeltaTest) -> Result<Self, String> {
        let (delta, base) = test.bytes()?;
        Ok(Question {
            input: pair::join(&delta, &base)?,
            id: test.id,
            task: Task::DeltaDecode,
            comment: test.comment,
            clauses: test.clauses,
            result: test.result,
            either: false,
            sha256: test.sha256,
        })
    }

    /// The right output, where there is one: decoded, and of the digest that the vector names.
    ///
    /// # Errors
    ///
    /// If the vectors are damaged.
    pub fn expected(&self) -> Result<Option<Vec<u8>>, String> {
        use crate::subject::{Ours, Subject};
        if self.sha256.is_none() {
            return Ok(None);
        }
        match Ours.answer(self.task, &self.input)? {
            Answer::Accepted(output) if is_digest(&self.sha256, &output) => Ok(Some(output)),
            other => Err(format!("{}: the vector has another digest, or is {}", self.id, other.word())),
        }
    }

    /// What is wrong with an answer; nothing, if it is right.
    ///
    /// # Errors
    ///
    /// What the implementation did wrong, in one line.
    pub fn judge(&self, answer: &Answer, mode: Mode) -> Result<(), String> {
        let rule = || self.clauses.first().map_or("", String::as_str);
        let what = match self.task {
            Task::UnitDecode => "unit",
            Task::FrameDecode => "frame",
            Task::ArchiveDecode => "archive",
            Task::DeltaDecode => "delta",
            Task::UnitEncode => return self.judge_encoder(answer),
        };
        match (answer, self.result) {
            (Answer::Crashed(how), _) => Err(how.clone()),
            (Answer::Invalid(how) | Answer::Unsupported(how), Outcome::Valid) => {
                Err(told(format!("refused a valid {what}"), how))
            }
            (Answer::Invalid(how), Outcome::Unsupported) if !self.either => Err(told(
                format!(
                    "called {what} invalid that is of a version, type or codec it need not know ({})",
                    rule()
                ),
                how,
            )),
            (Answer::Unsupported(how), Outcome::Invalid) if !self.either => {
                Err(told(format!("called an invalid {what} unsupported: {} ({})", self.comment, rule()), how))
            }
            (Answer::Invalid(how) | Answer::Unsupported(how), Outcome::Acceptable)
                if mode == Mode::Lenient =>
            {
                Err(told(format!("refused an acceptable {what}, which a lenient reader takes"), how))
            }
            (Answer::Accepted(_), Outcome::Acceptable) if mode == Mode::Strict => {
                Err(format!("accepted what a strict reader refuses: {} ({})", self.comment, rule()))
            }
            (Answer::Accepted(_), Outcome::Invalid | Outcome::Unsupported) => {
                Err(format!("accepted an {} {what}: {} ({})", word(self.result), self.comment, rule()))
            }
            (Answer::Accepted(found), Outcome::Valid | Outcome::Acceptable) => self.compare(found),
            (Answer::Invalid(_) | Answer::Unsupported(_), _) => Ok(()),
        }
    }

    fn compare(&self, found: &[u8]) -> Result<(), String> {
        if is_digest(&self.sha256, found) {
            return Ok(());
        }
        let Some(expected) = self.expected()? else { return Err("gave other bytes".to_owned()) };
        Err(difference(self.task, found, &expected))
    }

    fn judge_encoder(&self, answer: &Answer) -> Result<(), String> {
        let refuses = !matches!(self.result, Outcome::Valid | Outcome::Acceptable);
        match answer {
            Answer::Crashed(how) => Err(how.clone()),
            Answer::Invalid(how) | Answer::Unsupported(how) if !refuses => {
                Err(told("refused weights that the layout holds".to_owned(), how))
            }
            Answer::Invalid(_) | Answer::Unsupported(_) => Ok(()),
            Answer::Accepted(unit) if refuses => {
                let rule = self.clauses.first().map_or("", String::as_str);
                let mut failure = format!("encoded what the layout cannot hold: {} ({rule})", self.comment);
                if let Err(wrote) = check_written(&self.input, unit) {
                    let _ = write!(failure, "; {wrote}");
                }
                Err(failure)
            }
            Answer::Accepted(unit) => check_written(&self.input, unit),
        }
    }
}

fn told(what: String, how: &str) -> String {
    if how.is_empty() { what } else { format!("{what} ({how})") }
}

fn word(result: Outcome) -> &'static str {
    match result {
        Outcome::Valid => "valid",
        Outcome::Invalid => "invalid",
        Outcome::Acceptable => "acceptable",
        Outcome::Unsupported => "unsupported",
    }
}

/// How an output differs from the right one.
#[must_use]
pub fn difference(task: Task, found: &[u8], expected: &[u8]) -> String {
    if found.len() != expected.len() {
        return format!("gave {} bytes instead of {}", found.len(), expected.len());
    }
    let (step, name) = if task == Task::UnitDecode { (2, "weight") } else { (1, "byte") };
    let mut differs = found.chunks(step).zip(expected.chunks(step)).enumerate().filter(|(_, (a, b))| a != b);
    let Some((first, (found, expected))) = differs.next() else { return "gave other bytes".to_owned() };
    let hex = |bytes: &[u8]| hex::encode(bytes.iter().rev().copied().collect::<Vec<_>>());
    format!(
        "{} {name}s are wrong; {name} {first} is 0x{} instead of 0x{}",
        1 + differs.count(),
        hex(found),
        hex(expected)
    )
}

/// Checks the unit that an encoder wrote: every rule for writers, the bits, the tensors.
fn check_written(weights: &[u8], written: &[u8]) -> Result<(), String> {
    let parsed =
        SafeTensors::deserialize(written).map_err(|error| format!("wrote no safetensors file: {error}"))?;
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
    let decoded = unit.decode().map_err(|error| error.to_string())?;
    let originals = SafeTensors::deserialize(weights).map_err(|error| error.to_string())?;
    let mut originals = originals.tensors();
    originals.sort_by_key(|(name, _)| name.parse::<usize>().unwrap_or(usize::MAX));
    let lengths: Vec<usize> = originals.iter().map(|(_, view)| view.data().len() / 2).collect();
    if !unit.tensor_ranges().map(|range| range.len()).eq(lengths.iter().copied()) {
        let found: Vec<usize> = unit.tensor_ranges().map(|range| range.len()).collect();
        return Err(format!("cut the unit into tensors of {found:?} weights instead of {lengths:?} (D-9.1)"));
    }
    let original = originals.iter().flat_map(|(_, view)| view.data().iter().copied());
    let differs = decoded.iter().copied().zip(original).position(|(a, b)| a != b);
    differs.map_or(Ok(()), |at| Err(format!("wrote a unit that decodes to another weight {}", at / 2)))
}
