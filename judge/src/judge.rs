//! Asks an implementation every question and judges the answers.

use std::time::Instant;

use serde::Serialize;

use crate::question::{Mode, Question};
use crate::subject::{Limits, Subject};
use crate::vectors::{Outcome, Task};

/// How to judge.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Terms {
    /// What acceptable input asks for.
    pub mode: Mode,
    /// What an answer may cost.
    pub limits: Limits,
    /// Only questions whose names hold this text.
    pub filter: Option<String>,
}

/// What an implementation did with one question.
#[derive(Clone, Debug, Serialize)]
pub struct Case {
    /// The vector.
    pub id: String,
    /// What was asked.
    pub task: Task,
    /// What it is about.
    pub comment: String,
    /// Clauses that decide it.
    pub clauses: Vec<String>,
    /// What was to be made of it.
    pub result: Outcome,
    /// What was made of it: `accepted`, `invalid`, `unsupported`, `crashed`.
    pub answer: &'static str,
    /// What was wrong; `None` if nothing was.
    pub failure: Option<String>,
    /// How long it took.
    pub seconds: f64,
}

/// The judgement.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Who was judged, by name or command.
    pub judged: String,
    /// How.
    pub terms: Terms,
    /// All cases, in the order of the vectors.
    pub cases: Vec<Case>,
}

/// Asks every question for the tasks that an implementation does.
///
/// # Errors
///
/// If there is nothing to ask, or it cannot be asked.
///
/// ```
/// use df11_judge::judge::{Terms, run};
/// use df11_judge::subject::Ours;
///
/// let terms = Terms { filter: Some("size-".to_owned()), ..Terms::default() };
/// assert!(run("df11", &mut Ours, &terms)?.passed());
/// # Ok::<(), String>(())
/// ```
pub fn run(judged: &str, subject: &mut dyn Subject, terms: &Terms) -> Result<Report, String> {
    let mut report = Report { judged: judged.to_owned(), terms: terms.clone(), cases: Vec::new() };
    let is_wanted = |id: &str| terms.filter.as_ref().is_none_or(|filter| id.contains(filter.as_str()));
    for task in subject.tasks() {
        for question in Question::all(task)?.into_iter().filter(|question| is_wanted(&question.id)) {
            let started = Instant::now();
            let answer = subject.answer(task, &question.input)?;
            let seconds = started.elapsed().as_secs_f64();
            let failure = question.judge(&answer, terms.mode).err();
            report.cases.push(Case {
                id: question.id,
                task,
                comment: question.comment,
                clauses: question.clauses,
                result: question.result,
                answer: answer.word(),
                failure,
                seconds,
            });
        }
    }
    if report.cases.is_empty() {
        return Err("no test was run: name a program, and a --filter that matches".to_owned());
    }
    Ok(report)
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
}
