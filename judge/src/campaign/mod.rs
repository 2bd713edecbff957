//! A campaign: questions without end, made up from a seed, whose answers the reference knows.
//!
//! Units and frames are written by a recipe, sound or with a rule bent; the reference
//! (`spec/reference`) says what is to be made of them. What an implementation gets wrong is made
//! small, and can be kept as vectors.

mod frame;
mod unit;
mod write;

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use df11::Parts;
use fastrand::Rng;
use safetensors::tensor::Dtype;
use sha2::{Digest, Sha256};

use self::frame::FrameCase;
use self::unit::UnitCase;
pub use self::write::write;
use crate::lint::{Severity, lint};
use crate::question::{Mode, Question};
use crate::subject::Subject;
use crate::vectors::{Outcome, Task, unit_tensors};

/// How many smaller cases are tried for each failure.
const PROBES: usize = 400;

/// How long a campaign goes on, and what decides its cases.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// The same seed gives the same cases.
    pub seed: u64,
    /// The most cases.
    pub cases: u64,
    /// The longest time.
    pub time: Duration,
    /// The most failures, each of another kind.
    pub most: usize,
}

/// A case that an implementation got wrong, made small.
#[derive(Clone, Debug)]
pub struct Failure {
    /// The number of the case that began it.
    pub case: u64,
    /// What is asked.
    pub question: Question,
    /// What was wrong with the answer.
    pub failure: String,
    made: Made,
}

/// What a campaign came to.
#[derive(Clone, Debug, Default)]
pub struct Campaign {
    /// How many cases were tried, those for making failures small not counted.
    pub cases: u64,
    /// The failures, one of each kind.
    pub failures: Vec<Failure>,
}

/// A recipe.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Case {
    Unit(Box<UnitCase>),
    Frame(Box<FrameCase>),
}

/// The parts of a unit, their types, and the weights, where there are any.
type MadeUnit = (Parts<Vec<u8>>, [Dtype; 6], Option<Vec<u8>>);

/// What a recipe made.
#[derive(Clone, Debug)]
enum Made {
    Unit(Box<MadeUnit>),
    Frame { element_type: Option<u8>, shape: Option<Vec<u64>> },
}

/// Runs a campaign. `step` hears the number of cases so far, and ends the campaign by `false`.
///
/// # Errors
///
/// If the implementation cannot be asked, or is asked for nothing that can be made up.
///
/// ```
/// use std::time::Duration;
/// use df11_judge::campaign::{Options, run};
/// use df11_judge::subject::Ours;
///
/// let options = Options { seed: 1, cases: 200, time: Duration::from_secs(60), most: 1 };
/// let campaign = run(&mut Ours, &options, &mut |_| true)?;
/// assert!(campaign.cases == 200 && campaign.failures.is_empty());
/// # Ok::<(), String>(())
/// ```
pub fn run(
    subject: &mut dyn Subject,
    options: &Options,
    step: &mut dyn FnMut(u64) -> bool,
) -> Result<Campaign, String> {
    let tasks: Vec<Task> = subject
        .tasks()
        .into_iter()
        .filter(|task| matches!(task, Task::UnitDecode | Task::FrameDecode))
        .collect();
    if tasks.is_empty() {
        return Err("there are made-up cases for decoders of units and of frames alone".to_owned());
    }
    let started = Instant::now();
    let (mut campaign, mut kinds) = (Campaign::default(), BTreeSet::new());
    while campaign.cases < options.cases
        && started.elapsed() < options.time
        && campaign.failures.len() < options.most
        && step(campaign.cases)
    {
        let number = campaign.cases;
        campaign.cases += 1;
        // Each case has a seed of its own, so that it can be made again alone.
        let mut rng = Rng::with_seed(options.seed.wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(number));
        let case = match tasks[number as usize % tasks.len()] {
            Task::UnitDecode => Case::Unit(Box::new(UnitCase::new(&mut rng))),
            _ => Case::Frame(Box::new(FrameCase::new(&mut rng))),
        };
        let Some(found) = ask(subject, &case, number)? else { continue };
        if kinds.insert(kind(&found)) {
            campaign.failures.push(smallest(subject, case, found)?);
        }
    }
    Ok(campaign)
}

/// What failures have in common that are likely the same fault.
fn kind(failure: &Failure) -> (Task, Outcome, String) {
    let question = &failure.question;
    let what = match question.result {
        Outcome::Valid | Outcome::Acceptable => {
            let words = failure.failure.split_whitespace().take(2).collect::<Vec<_>>().join(" ");
            words.trim_start_matches(|c: char| c.is_ascii_digit()).to_owned()
        }
        _ => question.clauses.concat(),
    };
    (question.task, question.result, what)
}

/// Asks one question; gives the failure, if the answer is wrong.
fn ask(subject: &mut dyn Subject, case: &Case, number: u64) -> Result<Option<Failure>, String> {
    let (mut question, made) = case.question()?;
    question.id = format!("fuzz-{number}");
    let answer = subject.answer(question.task, &question.input)?;
    let failure = question.judge(&answer, Mode::Any).err();
    Ok(failure.map(|failure| Failure { case: number, question, failure, made }))
}

/// Makes a failure small: tries smaller cases as long as they fail in the same way.
fn smallest(subject: &mut dyn Subject, case: Case, found: Failure) -> Result<Failure, String> {
    let (mut case, mut found, wanted) = (case, found.clone(), kind(&found));
    let mut probes = 0;
    'smaller: loop {
        for smaller in case.smaller() {
            probes += 1;
            if probes > PROBES {
                break 'smaller;
            }
            let number = found.case;
            if let Some(other) = ask(subject, &smaller, number)?.filter(|other| kind(other) == wanted) {
                (case, found) = (smaller, other);
                continue 'smaller;
            }
        }
        break;
    }
    Ok(found)
}

impl Case {
    fn smaller(&self) -> Vec<Case> {
        match self {
            Case::Unit(case) => case.smaller().into_iter().map(|case| Case::Unit(Box::new(case))).collect(),
            Case::Frame(case) => case.smaller().into_iter().map(|case| Case::Frame(Box::new(case))).collect(),
        }
    }

    /// The question that a recipe makes.
    fn question(&self) -> Result<(Question, Made), String> {
        match self {
            Case::Unit(case) => unit_question(case),
            Case::Frame(case) => frame_question(case),
        }
    }
}

fn unit_question(case: &UnitCase) -> Result<(Question, Made), String> {
    let (parts, types) = case.build();
    let tensors = unit_tensors(&parts, &types)?;
    let wrong =
        df11::PARTS.iter().zip(&tensors).find(|((_, dtype), (_, view))| view.dtype().to_string() != *dtype);
    let mut comment = format!("made up: {} weights", case.weights.len());
    let (mut result, mut clauses, mut weights) = (Outcome::Invalid, vec!["D-10.2".to_owned()], None);
    if wrong.is_none() {
        match df11_reference::decode(&unit::reference(&parts)) {
            Ok(decoded) => {
                let found = lint(&parts.as_slices());
                let worst = found.first().filter(|finding| finding.severity >= Severity::Acceptable);
                result = if worst.is_some() { Outcome::Acceptable } else { Outcome::Valid };
                clauses = vec![worst.map_or("D-12.1", |finding| finding.clause).to_owned()];
                let bytes = decoded.iter().flat_map(|weight| weight.to_bits().to_le_bytes());
                weights = Some(bytes.collect::<Vec<u8>>());
            }
            Err(violation) => {
                comment = format!("{comment}; {}", violation.found);
                clauses = vec![violation.clause.to_owned()];
            }
        }
    }
    let named = tensors.into_iter().map(|(name, view)| (format!("unit.{name}"), view));
    let input = safetensors::serialize(named, None).map_err(|error| error.to_string())?;
    let sha256 = weights.as_ref().map(|weights| hex::encode(Sha256::digest(weights)));
    // Appendix A of DF11.md calls a unit without elements unsupported.
    let either = clauses == ["D-3.4"];
    let (id, task) = (String::new(), Task::UnitDecode);
    let question = Question { id, task, comment, clauses, result, either, input, sha256 };
    Ok((question, Made::Unit(Box::new((parts, types, weights)))))
}

fn frame_question(case: &FrameCase) -> Result<(Question, Made), String> {
    let input = case.build()?;
    let mut comment = format!("made up: {} bytes of elements", case.elements.len());
    let (result, clauses, sha256, made);
    match df11_reference::frame::decode(&input) {
        Ok(tensor) => {
            let at = input.len().saturating_sub(8);
            let digest = df11_reference::frame::crc(0, &tensor.elements).to_le_bytes();
            // F-6.3: a reader may compare the digest.
            let same = input.get(at..at + 4) == Some(&digest[..]);
            result = if same { Outcome::Valid } else { Outcome::Acceptable };
            clauses = if same { Vec::new() } else { vec!["F-6.3".to_owned()] };
            sha256 = Some(hex::encode(Sha256::digest(&tensor.elements)));
            made = Made::Frame { element_type: Some(tensor.element_type), shape: Some(tensor.shape) };
        }
        Err(violation) => {
            let unknown = violation.clause == "F-1.3";
            result = if unknown { Outcome::Unsupported } else { Outcome::Invalid };
            comment = format!("{comment}; {}", violation.found);
            clauses = vec![violation.clause.to_owned()];
            sha256 = None;
            made = Made::Frame { element_type: None, shape: None };
        }
    }
    // Where more than one thing is wrong, which is noticed first is free; and so is whether fields
    // that contradict each other are of a later version.
    let either = result == Outcome::Invalid || case.bends.len() > 1 || !case.repaired;
    let (id, task) = (String::new(), Task::FrameDecode);
    Ok((Question { id, task, comment, clauses, result, either, input, sha256 }, made))
}
