//! A judgement as text, as JUnit's XML, as a document that can be kept, and as a badge.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::time::SystemTime;

use serde::Serialize;

use crate::judge::{Case, Report};
use crate::question::Mode;
use crate::vectors::{Fingerprint, Outcome, Task, Vectors};

/// The version of what the judge asks and how it judges; see `spec/CONFORMANCE.md`.
pub const VERSION: &str = "1.0";

/// Cases of one task and one verdict.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Totals {
    /// How many there are.
    pub of: usize,
    /// How many passed.
    pub passed: usize,
    /// What was answered, each how often.
    pub answers: BTreeMap<&'static str, usize>,
}

/// The document: everything that a claim of conformance rests on.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Document {
    /// The version of the judge.
    pub judge: &'static str,
    /// The program that judged.
    pub program: &'static str,
    /// The vectors, and the versions of the specification that they test.
    pub vectors: Fingerprint,
    /// Who was judged.
    pub judged: String,
    /// On what terms.
    pub terms: crate::judge::Terms,
    /// The day, UTC.
    pub date: String,
    /// Whether all passed.
    pub passed: bool,
    /// The line that may be quoted.
    pub quote: String,
    /// By task, then by verdict.
    pub totals: BTreeMap<&'static str, BTreeMap<Outcome, Totals>>,
    /// What went wrong, by the name of the vector.
    pub failures: BTreeMap<String, String>,
}

impl Report {
    fn of(&self, task: Task) -> impl Iterator<Item = &Case> {
        self.cases.iter().filter(move |case| case.task == task)
    }

    /// The judgement as text: a line for each failure, then the counts.
    #[must_use]
    pub fn to_text(&self) -> String {
        let mut out = String::new();
        for (case, failure) in self.failures() {
            let _ = writeln!(out, "FAILED {} ({}): {failure}", case.id, case.clauses.join(", "));
        }
        for task in Task::ALL {
            let all = self.of(task).count();
            if all > 0 {
                let failed = self.of(task).filter(|case| case.failure.is_some()).count();
                let refused = |case: &&Case| ["invalid", "unsupported"].contains(&case.answer);
                let refused = self.of(task).filter(refused).count();
                let passed = all - failed;
                let _ = writeln!(out, "{}: {passed} of {all} passed ({refused} refused)", task.judged());
            }
        }
        out
    }

    /// The judgement in the XML that continuous integration reads.
    #[must_use]
    pub fn to_junit(&self) -> String {
        let mut out = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n");
        let (tests, failures) = (self.cases.len(), self.failures().count());
        let _ = writeln!(out, "<testsuite name=\"DF11\" tests=\"{tests}\" failures=\"{failures}\">");
        for case in &self.cases {
            let (class, id, seconds) = (case.task.word(), escape(&case.id), case.seconds);
            let _ = write!(out, "  <testcase classname=\"{class}\" name=\"{id}\" time=\"{seconds:.3}\"");
            let _ = match &case.failure {
                None => writeln!(out, "/>"),
                Some(failure) => writeln!(out, "><failure message=\"{}\"/></testcase>", escape(failure)),
            };
        }
        out + "</testsuite>\n"
    }

    /// What acceptable input met: `strict` if all was refused, `lenient` if all was taken.
    fn manner(&self) -> &'static str {
        let acceptable = || self.cases.iter().filter(|case| case.result == Outcome::Acceptable);
        let taken = acceptable().filter(|case| case.answer == "accepted").count();
        match (taken, acceptable().count()) {
            (0, 0) => "no acceptable vectors",
            (taken, all) if taken == all => "lenient",
            (0, _) => "strict",
            _ => "neither strict nor lenient",
        }
    }

    /// The one line that may be quoted.
    fn quote(&self, vectors: &Fingerprint) -> String {
        if let Some(filter) = &self.terms.filter {
            return format!("no claim: only vectors with {filter:?} in their names were tried");
        }
        let names: Vec<&str> =
            Task::ALL.into_iter().filter(|task| self.of(*task).next().is_some()).map(Task::judged).collect();
        let (all, failed) = (self.cases.len(), self.failures().count());
        let verdict = if failed == 0 { "passes" } else { "does not pass" };
        format!(
            "{verdict} df11 judge {VERSION} ({}; {}; {} of {all}; vectors sha256 {})",
            names.join(", "),
            self.manner(),
            all - failed,
            &vectors.sha256[..16]
        )
    }

    /// The document to keep.
    ///
    /// # Errors
    ///
    /// If the vectors are damaged.
    pub fn document(&self) -> Result<Document, String> {
        let vectors = Vectors::fingerprint()?;
        let mut totals: BTreeMap<_, BTreeMap<Outcome, Totals>> = BTreeMap::new();
        for case in &self.cases {
            let of = totals.entry(case.task.judged()).or_default().entry(case.result).or_default();
            of.of += 1;
            of.passed += usize::from(case.failure.is_none());
            *of.answers.entry(case.answer).or_default() += 1;
        }
        Ok(Document {
            judge: VERSION,
            program: concat!("df11-judge ", env!("CARGO_PKG_VERSION")),
            quote: self.quote(&vectors),
            vectors,
            judged: self.judged.clone(),
            terms: self.terms.clone(),
            date: today(),
            passed: self.passed(),
            totals,
            failures: self.failures().map(|(case, why)| (case.id.clone(), why.to_owned())).collect(),
        })
    }

    /// A badge, as SVG: what was judged, and how many passed.
    #[must_use]
    pub fn to_badge(&self) -> String {
        let all = self.cases.len();
        let passed = all - self.failures().count();
        let manner = match self.terms.mode {
            Mode::Any => String::new(),
            Mode::Strict => " strict".to_owned(),
            Mode::Lenient => " lenient".to_owned(),
        };
        let left = format!("df11 judge {VERSION}{manner}");
        let (right, colour) = match (&self.terms.filter, passed == all) {
            (Some(_), _) => (format!("{passed} of {all}, in part"), "#9f9f9f"),
            (None, true) => (format!("passed {all} of {all}"), "#2e7d32"),
            (None, false) => (format!("{passed} of {all}"), "#c62828"),
        };
        // About as wide as a letter of 11 pixels is on average, and a margin on both sides.
        let width = |text: &str| 10 + 7 * text.chars().count();
        let (a, b) = (width(&left), width(&right));
        let text = |x: usize, text: &str| {
            format!("<text x=\"{x}\" y=\"14\" text-anchor=\"middle\">{}</text>", escape(text))
        };
        format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{all}\" height=\"20\" role=\"img\" \
             aria-label=\"{label}\">\n<title>{label}</title>\n\
             <rect width=\"{a}\" height=\"20\" fill=\"#555\"/>\n\
             <rect x=\"{a}\" width=\"{b}\" height=\"20\" fill=\"{colour}\"/>\n\
             <g fill=\"#fff\" font-family=\"Verdana,Geneva,DejaVu Sans,sans-serif\" font-size=\"11\">\n\
             {}\n{}\n</g>\n</svg>\n",
            text(a / 2, &left),
            text(a + b / 2, &right),
            all = a + b,
            label = escape(&format!("{left}: {right}")),
        )
    }
}

/// Text for XML.
fn escape(text: &str) -> String {
    let text: String = text.chars().filter(|c| !c.is_control()).collect();
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// The day, UTC, as `YYYY-MM-DD`.
fn today() -> String {
    let seconds = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |time| time.as_secs());
    let mut day = seconds / 86_400;
    let mut year = 1970;
    let is_leap =
        |year: u64| year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    let days_of = |year: u64| if is_leap(year) { 366 } else { 365 };
    while day >= days_of(year) {
        day -= days_of(year);
        year += 1;
    }
    let mut month = 0;
    let lengths = [31, if is_leap(year) { 29 } else { 28 }, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    while day >= lengths[month] {
        day -= lengths[month];
        month += 1;
    }
    format!("{year}-{:02}-{:02}", month + 1, day + 1)
}
