//! A command that is started for each question, with files.

use std::fs::{self, File};
use std::path::PathBuf;
use std::process::Stdio;

use tempfile::TempDir;
use wait_timeout::ChildExt;

use super::child::{command, late, refusal, words};
use super::{Answer, Limits, Subject};
use crate::pair;
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
    /// A command with `{base}`, `{delta}` and `{out}`.
    pub delta_decoder: Option<String>,
}

impl Commands {
    fn of(&self, task: Task) -> Option<&str> {
        match task {
            Task::UnitDecode => self.decoder.as_deref(),
            Task::UnitEncode => self.encoder.as_deref(),
            Task::FrameDecode => self.frame_decoder.as_deref(),
            Task::ArchiveDecode => self.archive_decoder.as_deref(),
            Task::DeltaDecode => self.delta_decoder.as_deref(),
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

    /// Starts a command with these files in the places of these names; the last is the output.
    fn start(&self, files: &[(&str, PathBuf)], template: &str) -> Result<Answer, String> {
        let mut words = words(template)?;
        for (name, _) in files {
            if !words.iter().any(|word| word.contains(name)) {
                return Err(format!("the command {template:?} does not say where {name} goes"));
            }
        }
        for word in &mut words {
            for (name, path) in files {
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
        let output = files.last().map(|(_, path)| fs::read(path)).ok_or("the command has no output")?;
        Ok(match (refusal(status, &log), output) {
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
        // The files to read: each with its name in the command, and its bytes. Then the output.
        let (inputs, output): (Vec<(&str, &str, &[u8])>, _) = match task {
            Task::UnitDecode => (vec![("{unit}", "unit.safetensors", input)], "{out}"),
            Task::UnitEncode => (vec![("{bf16}", "weights.safetensors", input)], "{unit}"),
            Task::FrameDecode => (vec![("{frame}", "input.frame", input)], "{out}"),
            Task::ArchiveDecode => (vec![("{archive}", "input.archive", input)], "{out}"),
            Task::DeltaDecode => {
                let (delta, base) = pair::split(input).ok_or("the input ends before the base does")?;
                (vec![("{base}", "input.base", base), ("{delta}", "input.delta", delta)], "{out}")
            }
        };
        let path = |name: &str| self.folder.path().join(name);
        let mut files = Vec::new();
        for (name, file, bytes) in inputs {
            let path = path(file);
            fs::write(&path, bytes).map_err(|error| format!("cannot write {}: {error}", path.display()))?;
            files.push((name, path));
        }
        files.push((output, path("output")));
        let _ = fs::remove_file(path("output"));
        self.start(&files, template)
    }
}
