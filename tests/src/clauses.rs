//! Which clause of the specification has which vectors: `spec/vectors/CLAUSES.md`, made from the
//! documents and the vectors, and the reasons why some clauses have none.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;

use serde_json::Value;

use crate::vectors::Files;

/// The documents, in order, with the letter of their clauses.
const DOCUMENTS: [(&str, char); 6] = [
    ("DF11.md", 'D'),
    ("RANS.md", 'R'),
    ("DICTIONARY.md", 'V'),
    ("FRAME.md", 'F'),
    ("DELTA.md", 'B'),
    ("DIETGPU.md", 'G'),
];

/// Names of vectors that stand in a row, at most; the rest is counted.
const SHOWN: usize = 6;

/// Clauses without vectors, with the reason.
const WITHOUT: [(&str, &str); 61] = [
    ("D-1.1", "says what verdicts are; every vector has one"),
    ("D-1.2", "says what readers do with verdicts; every vector judges it"),
    ("D-1.4", "is about readers of parts; a vector is read whole"),
    ("D-1.5", "allows a way of decoding that must be asked for"),
    ("D-1.6", "is about later versions of the document"),
    ("D-10.3", "is about `config.json`, which no vector has"),
    ("D-10.4", "is about `config.json`, which no vector has"),
    ("D-10.5", "is about models, and a vector is a unit"),
    ("D-11.1", "is a SHOULD for writers, which is not judged"),
    ("D-11.3", "is a SHOULD for writers, which is not judged"),
    ("D-11.6", "is a SHOULD for writers, which is not judged"),
    ("D-12.2", "is another way to the bits of D-12.1"),
    ("D-12.3", "is another way to the bits of D-12.1"),
    ("D-12.4", "is another way to the bits of D-12.1"),
    ("D-13.1", "explains what follows for launches; its limits need units of 2 GB"),
    ("D-13.3", "is about memory that a kernel reads: the judge's emulator watches it"),
    ("D-13.4", "repeats what D-5.7 and D-11.2 mean for kernels"),
    ("D-14.1", "is about memory, not about verdicts"),
    ("D-14.2", "repeats what D-5.6 and D-8.6 mean for attacks"),
    ("D-14.3", "is about `config.json`, which no vector has"),
    ("D-14.4", "is about paths; a vector has none"),
    ("D-14.5", "says what no vector can show"),
    ("R-1.1", "is notation"),
    ("R-5.6", "says what readers do with invalid blocks; every invalid vector judges it"),
    ("R-7.1", "repeats what R-2.1 and R-2.2 mean for attacks"),
    ("R-7.2", "is about memory, not about verdicts"),
    ("R-7.3", "is about time, not about verdicts"),
    ("R-8.1", "is about later versions of the document"),
    ("V-1.1", "is notation"),
    ("V-3.4", "says what readers do with invalid chunks; every invalid vector judges it"),
    ("V-4.1", "allows writers any strings; readers see only codes"),
    ("V-7.1", "repeats what V-2.5 means for attacks"),
    ("V-7.2", "is about memory, not about verdicts"),
    ("V-7.3", "is about memory, not about verdicts"),
    ("V-8.1", "is about later versions of the document"),
    ("F-2.2", "is notation; every frame has checksums by F-8.1"),
    ("F-10.1", "is about checkpoints; a vector is a frame"),
    ("F-10.2", "is about checkpoints; a vector is a frame"),
    ("F-10.3", "is about checkpoints; a vector is a frame"),
    ("F-10.4", "is about checkpoints; a vector is a frame"),
    ("F-10.5", "is about checkpoints; a vector is a frame"),
    ("F-10.6", "is about paths; a vector has none"),
    ("F-11.1", "is about memory, not about verdicts"),
    ("F-11.2", "is about memory, not about verdicts"),
    ("F-11.3", "says what no vector can show"),
    ("F-11.4", "is about the order of steps, which no output shows"),
    ("F-12.1", "is about later versions of the document"),
    ("B-1.4", "is about containers; a vector is a delta"),
    ("B-6.1", "is about readers of parts; a vector is read whole"),
    ("B-6.2", "is about memory that a reader restores in place"),
    ("B-7.1", "is a SHOULD for writers, which is not judged"),
    ("B-8.1", "is about checkpoints; a vector is a delta"),
    ("B-8.2", "is about checkpoints; a vector is a delta"),
    ("B-8.3", "is about checkpoints; a vector is a delta"),
    ("B-10.1", "is about memory, not about verdicts"),
    ("B-10.2", "says what no vector can show"),
    ("B-11.1", "is about later versions of the document"),
    ("G-1.1", "is notation"),
    ("G-6.1", "is about memory, not about verdicts"),
    ("G-6.2", "refers to another section"),
    ("G-7.1", "is about later versions of the document"),
];

/// The clauses of a document, in order.
fn clauses(text: &str, letter: char) -> Vec<String> {
    let starts = text.split("**").filter_map(|part| {
        let (first, number) = part.split_once('-')?;
        let (section, clause) = number.split_once('.')?;
        let is_number = |text: &str| !text.is_empty() && text.chars().all(|c| c.is_ascii_digit());
        let is_clause =
            first.len() == 1 && first.starts_with(letter) && is_number(section) && is_number(clause);
        is_clause.then(|| part.to_owned())
    });
    starts.collect()
}

/// The text of `CLAUSES.md`.
///
/// # Panics
///
/// If a clause has neither vectors nor a reason, or both.
#[must_use]
pub fn render(files: &Files, frames: &str) -> String {
    let units: Value = serde_json::from_slice(&files["df11.json"]).unwrap();
    let frames: Value = serde_json::from_str(frames).unwrap();
    let mut by_clause: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let deltas: Value = serde_json::from_str(&crate::delta_vectors::generate()).unwrap();
    for group in [units, frames, deltas].iter().flat_map(|file| file["testGroups"].as_array().unwrap()) {
        for test in group["tests"].as_array().unwrap() {
            for clause in test["clauses"].as_array().unwrap() {
                let names = by_clause.entry(clause.as_str().unwrap().to_owned()).or_default();
                names.push(test["id"].as_str().unwrap().to_owned());
            }
        }
    }
    let mut out = "# Which clause has which vectors\n\nMade by a program from the documents and the vectors: of an invalid \
                   vector its clauses are the\nrule that it breaks, of others what it is about.\n"
        .to_owned();
    let mut wrong = Vec::new();
    for (name, letter) in DOCUMENTS {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../spec").join(name);
        let text = std::fs::read_to_string(path).unwrap();
        let _ = writeln!(out, "\n## {name}\n\n| clause | number | vectors |\n|---|---|---|");
        for clause in clauses(&text, letter) {
            let names = by_clause.remove(&clause).unwrap_or_default();
            let reason = WITHOUT.iter().find(|(other, _)| *other == clause).map(|(_, reason)| *reason);
            let shown = match (names.len(), reason) {
                (0, Some(reason)) => format!("none: it {reason}"),
                (0, None) | (1.., Some(_)) => {
                    wrong.push(clause.clone());
                    String::new()
                }
                (number, None) => {
                    let shown: Vec<String> = names.iter().take(SHOWN).map(|id| format!("`{id}`")).collect();
                    let more = if number > SHOWN { ", ..." } else { "" };
                    format!("{}{more}", shown.join(", "))
                }
            };
            let _ = writeln!(out, "| {clause} | {} | {shown} |", names.len());
        }
    }
    assert!(wrong.is_empty(), "neither vectors nor a reason, or both: {wrong:?}");
    assert!(by_clause.is_empty(), "no document has {:?}", by_clause.keys());
    out
}
