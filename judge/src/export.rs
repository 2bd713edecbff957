//! The vectors as files: what a program is given, and what it has to give.

use std::fs;
use std::path::Path;

use serde::Serialize;

use crate::pair;
use crate::question::Question;
use crate::vectors::{Fingerprint, Outcome, Task, Vectors};

/// A vector in the index.
#[derive(Clone, Debug, Serialize)]
pub struct Entry {
    /// The name.
    pub id: String,
    /// What is asked.
    pub task: &'static str,
    /// What is to be made of it.
    pub result: Outcome,
    /// The exit code that says so; where there are two, either is right.
    pub codes: &'static [u8],
    /// What it is about.
    pub comment: String,
    /// Clauses that decide it.
    pub clauses: Vec<String>,
    /// The file that a program is given.
    pub input: String,
    /// Of a delta, the file with the elements of its base.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub base: Option<String>,
    /// The file with what it has to give, where there is one.
    pub output: Option<String>,
    /// SHA-256 of that.
    pub sha256: Option<String>,
}

/// The index of exported vectors.
#[derive(Clone, Debug, Serialize)]
pub struct Index {
    /// Which vectors these are.
    pub vectors: Fingerprint,
    /// All of them.
    pub entries: Vec<Entry>,
}

/// Writes each vector as a file, what it decodes to beside it, and `index.json`, into a new folder.
///
/// # Errors
///
/// If the folder is there already and not empty, or cannot be written.
pub fn export(folder: &Path) -> Result<Index, String> {
    let failed = |what: &Path, error: std::io::Error| format!("cannot write {}: {error}", what.display());
    fs::create_dir_all(folder).map_err(|error| failed(folder, error))?;
    let mut there = fs::read_dir(folder).map_err(|error| failed(folder, error))?;
    if there.next().is_some() {
        return Err(format!("{} is not empty; name a new folder", folder.display()));
    }
    let mut entries = Vec::new();
    for task in Task::ALL {
        let sub = folder.join(task.word());
        let questions = Question::all(task)?;
        if questions.is_empty() {
            continue;
        }
        fs::create_dir(&sub).map_err(|error| failed(&sub, error))?;
        let ends = match task {
            Task::UnitDecode => ["safetensors", "bf16"],
            Task::UnitEncode => ["safetensors", ""],
            Task::FrameDecode => ["frame", "elements"],
            Task::ArchiveDecode => ["archive", "elements"],
            Task::DeltaDecode => ["delta", "elements"],
        };
        for question in questions {
            let name = |end: &str| format!("{}/{}.{end}", task.word(), question.id);
            let write = |name: &str, bytes: &[u8]| {
                let path = folder.join(name);
                fs::write(&path, bytes).map_err(|error| failed(&path, error))
            };
            let input = name(ends[0]);
            let (bytes, base) = match task {
                Task::DeltaDecode => {
                    let (delta, base) = pair::split(&question.input).ok_or("the vectors are damaged")?;
                    (delta, Some((name("base"), base)))
                }
                _ => (&question.input[..], None),
            };
            write(&input, bytes)?;
            if let Some((name, bytes)) = &base {
                write(name, bytes)?;
            }
            let output = match question.expected()? {
                Some(bytes) => {
                    let output = name(ends[1]);
                    write(&output, &bytes)?;
                    Some(output)
                }
                None => None,
            };
            entries.push(Entry {
                task: task.word(),
                codes: codes(&question),
                id: question.id,
                result: question.result,
                comment: question.comment,
                base: base.map(|(name, _)| name),
                clauses: question.clauses,
                input,
                output,
                sha256: question.sha256,
            });
        }
    }
    let index = Index { vectors: Vectors::fingerprint()?, entries };
    let mut text = serde_json::to_string_pretty(&index).map_err(|error| error.to_string())?;
    text.push('\n');
    let path = folder.join("index.json");
    fs::write(&path, text).map_err(|error| failed(&path, error))?;
    Ok(index)
}

/// The exit codes that are right.
fn codes(question: &Question) -> &'static [u8] {
    match question.result {
        Outcome::Valid => &[0],
        Outcome::Acceptable => &[0, 10],
        _ if question.either => &[10, 11],
        Outcome::Invalid => &[10],
        Outcome::Unsupported => &[11],
    }
}
