//! A command that is started for each question, with files.

use std::fs::{self, File};
use std::path::Path;
use std::process::Stdio;

use tempfile::TempDir;
use wait_timeout::ChildExt;

use super::child::{command, late, refusal, words};
use super::{Answer, Limits, Subject};
use crate::vectors::Task;

/// The command for each task, with words in braces for the two files.
#[derive(Clone, Debug, Default)]
pub struct Commands {
    /// A command with `{unit}` and `{out}`.
    pub decoder: Option<String>,
    /// A command with `{bf16}` and `{unit}`.
    pub encoder: Option<String>,
    /// A command with `{frame}` and `{out}`.
    pub frame_decoder: Option<String>,
    /// A command with `{archive}` and `{out}`.
    pub archive_decoder: Option<String>,
}

impl Commands {
    fn of(&self, task: Task) -> Option<&str> {
        match task {
            Task::UnitDecode => self.decoder.as_deref(),
            Task::UnitEncode => self.encoder.as_deref(),
            Task::FrameDecode => self.frame_decoder.as_deref(),
            Task::ArchiveDecode => self.archive_decoder.as_deref(),
        }
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        Task::ALL.iter().all(|task| self.of(*task).is_none())
    }

    /// All of them, as a report names them.
    #[must_use]
    pub fn name(&self) -> String {
        Task::ALL.iter().filter_map(|task| self.of(*task)).collect::<Vec<_>>().join("; ")
    }
}

/// A program that reads a file, writes a file and says by its exit code what it thinks.
#[derive(Debug)]
pub struct Program {
    commands: Commands,
    limits: Limits,
    folder: TempDir,
}

impl Program {
    /// Prepares to start these commands.
    ///
    /// # Errors
    ///
    /// If there can be no temporary files.
    pub fn new(commands: Commands, limits: Limits) -> Result<Self, String> {
        let folder =
            tempfile::tempdir().map_err(|error| format!("cannot create a temporary directory: {error}"))?;
        Ok(Program { commands, limits, folder })
    }

    fn start(&self, names: [&str; 2], paths: [&Path; 2], template: &str) -> Result<Answer, String> {
        let mut words = words(template)?;
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
        let log = self.folder.path().join("stderr");
        let to = File::create(&log).map_err(|error| format!("cannot write {}: {error}", log.display()))?;
        let program = &words[0];
        let mut child = command(&words, &self.limits)?
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(to)
            .spawn()
            .map_err(|error| format!("cannot start {program}: {error}"))?;
        let waited = child.wait_timeout(self.limits.time);
        let Some(status) = waited.map_err(|error| format!("cannot wait for {program}: {error}"))? else {
            let _ = child.kill();
            let _ = child.wait();
            return Ok(late(&self.limits));
        };
        Ok(match (refusal(status, &log), fs::read(paths[1])) {
            (Some(refusal), _) => refusal,
            (None, Ok(output)) => Answer::Accepted(output),
            (None, Err(error)) => {
                Answer::Crashed(format!("ended well, but its output cannot be read: {error}"))
            }
        })
    }
}

impl Subject for Program {
    fn tasks(&self) -> Vec<Task> {
        Task::ALL.into_iter().filter(|task| self.commands.of(*task).is_some()).collect()
    }

    fn answer(&mut self, task: Task, input: &[u8]) -> Result<Answer, String> {
        let template = self.commands.of(task).ok_or("there is no command for this task")?;
        let (names, file) = match task {
            Task::UnitDecode => (["{unit}", "{out}"], "unit.safetensors"),
            Task::UnitEncode => (["{bf16}", "{unit}"], "weights.safetensors"),
            Task::FrameDecode => (["{frame}", "{out}"], "input.frame"),
            Task::ArchiveDecode => (["{archive}", "{out}"], "input.archive"),
        };
        let [from, to] = [file, "output"].map(|name| self.folder.path().join(name));
        fs::write(&from, input).map_err(|error| format!("cannot write {}: {error}", from.display()))?;
        let _ = fs::remove_file(&to);
        self.start(names, [&from, &to], template)
    }
}
