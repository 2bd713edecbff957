//! Compression in pieces that any number of machines can do: a plan, its tasks, and an end.
//!
//! A plan is made from the headers of the input alone. A task reads the ranges that it needs, works
//! in memory, and leaves a file under the name of its content, and a record. When every record is
//! there, the end decides from all digests what a single run would have decided, gives the files
//! their names, and writes the config, the indices and the manifest. The output is that of
//! [`compress`](crate::compress), byte for byte.

use std::path::{Path, PathBuf};

use serde::Serialize;

use super::{CompressOptions, pool};
use crate::error::Error;
use crate::ops::report::CompressReport;
use crate::ops::two_at_a_time;
use crate::progress::{Progress, go_on};
use crate::store;

mod finish;
mod plan;
mod task;

use plan::{Plan, default_path};
pub use plan::{PlannedTask, TaskKind};

/// The report of [`plan`].
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct PlanReport {
    /// The file that holds the plan.
    pub plan: PathBuf,
    /// The tasks. A task is named by its position.
    pub tasks: Vec<PlannedTask>,
    /// The number of bytes that all tasks read.
    pub bytes: u64,
    /// The most memory that a task takes, in bytes, beside the program itself.
    pub memory: u64,
}

/// The report of [`run_task`].
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct TaskReport {
    /// The position of the task.
    pub task: usize,
    /// What it was to do.
    #[serde(flatten)]
    pub planned: PlannedTask,
    /// Whether it was done before, so that nothing was left to do.
    pub was_done: bool,
}

/// Plans the compression of the checkpoint at `input` into the directory, or the folder of a store,
/// `output`. Reads headers, and no weights. The plan is written to `path`, or else into the output,
/// under a hidden name. [`run_task`] does one task of it, on any machine that reaches both places,
/// and [`finish`] makes the whole visible.
///
/// # Errors
///
/// [`Error`], which names the file; also if the output is not empty, unless
/// [`force`](CompressOptions::force) is set.
pub fn plan(
    input: impl AsRef<Path>,
    output: impl AsRef<Path>,
    path: Option<&Path>,
    options: &CompressOptions,
) -> Result<PlanReport, Error> {
    let (input, output) = (&*store::plain(input.as_ref()), &*store::plain(output.as_ref()));
    let path = path.map_or_else(|| default_path(output), |path| store::plain(path).into_owned());
    let paper = Plan::make(input, output, options)?;
    if !options.force && !store::visible(output)?.is_empty() {
        let problem = "is not empty".to_owned();
        return Err(Error::OutputOccupied { path: output.to_owned(), problem });
    }
    store::write(&path, paper.text()?.into_bytes())?;
    let bytes = paper.tasks.iter().map(|task| task.bytes).sum();
    let memory = paper.tasks.iter().map(|task| task.memory).max().unwrap_or(0);
    Ok(PlanReport { plan: path, tasks: paper.tasks, bytes, memory })
}

/// Does the task at this position of a plan. It may be done twice, and twice at once: each leaves
/// the same, and a task that was done before is not done again.
///
/// # Errors
///
/// [`Error`], which names the file. The task can then be done again.
pub fn run_task(
    plan: impl AsRef<Path>,
    task: usize,
    threads: usize,
    progress: &dyn Progress,
) -> Result<TaskReport, Error> {
    let plan = Plan::open(&store::plain(plan.as_ref()))?;
    let job = plan.job(progress)?;
    let bytes = plan.paper.tasks.get(task).map_or(0, |task| task.bytes);
    progress.begin("compressing", bytes);
    let was_done = pool(threads)?.install(|| task::run(&plan, &job, task))?;
    Ok(TaskReport { task, planned: plan.paper.tasks[task].clone(), was_done })
}

/// Returns the positions of the tasks of a plan that are not done.
///
/// # Errors
///
/// [`Error`] if the plan or its output cannot be read.
pub fn tasks_left(plan: impl AsRef<Path>) -> Result<Vec<usize>, Error> {
    finish::missing(&Plan::open(&store::plain(plan.as_ref()))?)
}

/// Makes the output of a plan visible, if all its tasks are done: gives weight files their names,
/// and writes config, indices and manifest. Removes what the tasks left.
///
/// # Errors
///
/// [`Error`], which names the tasks that are not done, or the file.
pub fn finish(
    plan: impl AsRef<Path>,
    threads: usize,
    progress: &dyn Progress,
) -> Result<CompressReport, Error> {
    let plan = Plan::open(&store::plain(plan.as_ref()))?;
    let job = plan.job(progress)?;
    pool(threads)?.install(|| finish::finish(&plan, &job))
}

/// Plans, does all tasks and ends, in one process. This is how output gets into a store.
pub(super) fn all(
    input: &Path,
    output: &Path,
    options: &CompressOptions,
    progress: &dyn Progress,
) -> Result<CompressReport, Error> {
    let at = default_path(output);
    // An earlier run that was stopped left a plan. If it is the same, its tasks need not be done
    // again.
    let paper = Plan::make(input, output, options)?;
    let text = paper.text()?.into_bytes();
    if store::read_if_there(&at, u64::MAX)?.as_ref() != Some(&text) {
        plan(input, output, None, options)?;
    }
    let plan = Plan::open(&at)?;
    let job = plan.job(&())?;
    let left = finish::missing(&plan)?;
    let kept = plan.paper.tasks.len() - left.len();
    progress.begin("compressing", left.iter().map(|&task| plan.paper.tasks[task].bytes).sum());
    let pool = pool(options.threads)?;
    let done = two_at_a_time(&left, |&task| {
        go_on(progress)?;
        pool.install(|| task::run(&plan, &job, task))?;
        progress.advance(plan.paper.tasks[task].bytes);
        Ok(())
    });
    let done = done.and_then(|()| pool.install(|| finish::finish(&plan, &job)));
    if done.is_err() && store::len(&at)?.is_none() {
        // Only the end of a plan removes it.
        finish::clean(&plan)?;
        let problem = "was finished by another run of the same job while this one was under way; `df11 verify` \
                       tells whether it is right";
        return Err(Error::Usage(format!("{} {problem}", output.display())));
    }
    let mut report = done?;
    report.kept_files = kept;
    Ok(report)
}
