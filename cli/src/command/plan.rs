//! `df11 plan`, `df11 run` and `df11 finish`: one compression on many machines.

use std::fmt::Write;
use std::path::PathBuf;

use clap::Args;
use df11_model::{Error, PlanReport, TaskKind, TaskReport, finish, plan, run_task, tasks_left};
use serde_json::json;

use super::compress::{Form, compressed};
use crate::output::{Output, Verdict};
use crate::render::grouped;

#[derive(Args)]
pub(crate) struct Plan {
    /// The file or directory to compress, or its address in a store.
    input: PathBuf,
    /// The directory to write, or its address in a store.
    #[arg(long, short)]
    output: PathBuf,
    /// The file to write the plan to, or its address. By default it is hidden in the output.
    #[arg(long, value_name = "PLAN")]
    plan: Option<PathBuf>,
    #[command(flatten)]
    form: Form,
}

impl Plan {
    pub(crate) fn run(self, output: &Output) -> Result<Verdict, Error> {
        let options = self.form.options(output)?;
        let report = plan(&self.input, &self.output, self.plan.as_deref(), &options)?;
        output.show(&report, || planned(&report))
    }
}

fn planned(report: &PlanReport) -> String {
    let mut out = String::new();
    let written = report.tasks.iter().filter(|task| task.kind == TaskKind::Write).count();
    let (all, plan) = (report.tasks.len(), report.plan.display());
    let _ = writeln!(out, "{plan}: {all} tasks, {written} of which write a file");
    let _ = writeln!(
        out,
        "{} bytes to read; a task takes at most {} bytes of memory",
        grouped(report.bytes),
        grouped(report.memory)
    );
    let last = all.saturating_sub(1);
    let _ =
        writeln!(out, "next: df11 run {plan} --task K for each K from 0 to {last}, anywhere, in any order");
    let _ = writeln!(out, "then: df11 finish {plan}");
    out
}

#[derive(Args)]
pub(crate) struct Run {
    /// The plan, or its address.
    plan: PathBuf,
    /// The number of the task, from 0.
    #[arg(long, value_name = "K", required_unless_present = "left")]
    task: Option<usize>,
    /// List the tasks that are not done, one to a line, and do none.
    #[arg(long, conflicts_with = "task")]
    left: bool,
}

impl Run {
    pub(crate) fn run(self, output: &Output) -> Result<Verdict, Error> {
        let Some(task) = self.task.filter(|_| !self.left) else {
            let left = tasks_left(&self.plan)?;
            let lines = || left.iter().map(|task| format!("{task}\n")).collect();
            return output.show(&json!({"left": left}), lines);
        };
        let report = run_task(&self.plan, task, output.threads, &output.progress)?;
        output.show(&report, || done(&report))
    }
}

fn done(report: &TaskReport) -> String {
    let what = match (report.was_done, report.planned.kind) {
        (true, _) => "was done before",
        (false, TaskKind::Digest) => "digested",
        (false, TaskKind::Write) => "encoded and checked",
    };
    let (task, file, bytes) = (report.task, &report.planned.file, grouped(report.planned.bytes));
    format!("task {task}: {file}: {what}, {bytes} bytes\n")
}

#[derive(Args)]
pub(crate) struct Finish {
    /// The plan, or its address.
    plan: PathBuf,
}

impl Finish {
    pub(crate) fn run(self, output: &Output) -> Result<Verdict, Error> {
        let report = finish(&self.plan, output.threads, &output.progress)?;
        output.show(&report, || compressed(&report))
    }
}
