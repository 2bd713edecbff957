//! `df11 judge fuzz`: a campaign against an implementation.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use df11_judge::campaign::{self, Campaign, Options};
use df11_judge::vectors::Outcome;
use df11_model::Error;
use serde::Serialize;

use super::judge::Who;
use crate::output::{Output, Verdict};

#[derive(Args)]
pub(crate) struct Fuzz {
    #[command(flatten)]
    who: Who,
    /// What decides the cases: the same seed gives the same ones.
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    /// Seconds to go on for.
    #[arg(long, value_name = "S", default_value_t = 600.0)]
    time: f64,
    /// The most cases.
    #[arg(long, value_name = "N", default_value_t = u64::MAX, hide_default_value = true)]
    cases: u64,
    /// End after this many failures, each of another kind.
    #[arg(long, value_name = "N", default_value_t = 20)]
    failures: usize,
    /// Write failures, made small, as vectors into this folder.
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

/// A failure, as it is shown.
#[derive(Serialize)]
struct Shown<'a> {
    id: &'a str,
    result: Outcome,
    clauses: &'a [String],
    comment: &'a str,
    failure: &'a str,
}

#[derive(Serialize)]
struct Found<'a> {
    judged: &'a str,
    seed: u64,
    cases: u64,
    failures: Vec<Shown<'a>>,
    files: Vec<PathBuf>,
}

impl Fuzz {
    pub(crate) fn run(self, output: &Output) -> Result<Verdict, Error> {
        let time = Duration::try_from_secs_f64(self.time)
            .map_err(|_| Error::Usage(format!("{} seconds are no time", self.time)))?;
        let (name, mut subject) = self.who.subject()?;
        let Fuzz { seed, cases, failures: most, out, .. } = self;
        let options = Options { seed, cases, time, most };
        let found = campaign::run(&mut *subject, &options, &mut |_| true).map_err(Error::Usage)?;
        let mut files = Vec::new();
        if let Some(folder) = out.filter(|_| !found.failures.is_empty()) {
            let written = campaign::write(&folder, seed, &found.failures).map_err(Error::Usage)?;
            files = written.into_iter().map(|name| folder.join(name)).collect();
        }
        let shown = Found { judged: &name, seed, cases: found.cases, failures: shown(&found), files };
        output.show(&shown, || text(&shown))?;
        let problem = format!("{} kinds of failure in {} cases", found.failures.len(), found.cases);
        let failed = !found.failures.is_empty();
        Ok(failed.then(|| Error::File { path: PathBuf::from("the judged program"), problem }))
    }
}

fn shown(campaign: &Campaign) -> Vec<Shown<'_>> {
    let shown = campaign.failures.iter().map(|found| Shown {
        id: &found.question.id,
        result: found.question.result,
        clauses: &found.question.clauses,
        comment: &found.question.comment,
        failure: &found.failure,
    });
    shown.collect()
}

fn text(shown: &Found<'_>) -> String {
    let failure = |found: &Shown<'_>| {
        format!("FAILED {} ({}): {}\n", found.id, found.clauses.join(", "), found.failure)
    };
    let mut text: String = shown.failures.iter().map(failure).collect();
    text += &format!(
        "{} cases from seed {}: {} kinds of failure\n",
        shown.cases,
        shown.seed,
        shown.failures.len()
    );
    for file in &shown.files {
        text += &format!("wrote {}\n", file.display());
    }
    text
}
