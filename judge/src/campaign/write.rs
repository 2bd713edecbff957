//! Failures as vectors, in the form of `spec/vectors`.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use safetensors::tensor::{Dtype, TensorView};
use serde_json::json;

use super::{Failure, Made};
use crate::vectors::{FrameTest, Group, Note, Source, Task, Test, Vectors, unit_tensors};

/// Names of element types, by number.
const TYPES: [&str; 6] = ["U8", "BF16", "F16", "F32", "F8_E4M3", "F8_E5M2"];

/// The flag of these vectors, and the first line of their files.
const FLAG: &str = "Fuzzed";
const HEADER: &str = "What an implementation got wrong in a campaign.";

/// Writes failures into a folder, in the form of `spec/vectors`: those of units as `df11.json` with
/// `units.safetensors` and `weights.safetensors`, those of frames as `frames.json`. Returns the
/// names of the files.
///
/// # Errors
///
/// If a file cannot be written.
pub fn write(folder: &Path, seed: u64, failures: &[Failure]) -> Result<Vec<&'static str>, String> {
    fs::create_dir_all(folder).map_err(|error| format!("cannot write {}: {error}", folder.display()))?;
    let generator = format!("df11 judge fuzz --seed {seed}");
    let mut files = Vec::new();
    let mut put = |name: &'static str, bytes: Vec<u8>| {
        files.push(name);
        let path = folder.join(name);
        fs::write(&path, bytes).map_err(|error| format!("cannot write {}: {error}", path.display()))
    };
    let units: Vec<_> = of(failures, Task::UnitDecode).collect();
    if !units.is_empty() {
        put("df11.json", text(&vectors(&units, &generator)?)?)?;
        let (mut parts, mut weights) = (Vec::new(), Vec::new());
        for failure in units {
            let Made::Unit(made) = &failure.made else { continue };
            let id = &failure.question.id;
            for (key, view) in unit_tensors(&made.0, &made.1)? {
                parts.push((format!("{id}.{key}"), view));
            }
            if let Some(all) = &made.2 {
                let view = TensorView::new(Dtype::BF16, vec![all.len() / 2], all);
                weights.push((format!("{id}.all"), view.map_err(|error| error.to_string())?));
            }
        }
        let serialize = |views: Vec<(String, TensorView<'_>)>| {
            safetensors::serialize(views, None).map_err(|error| error.to_string())
        };
        put("units.safetensors", serialize(parts)?)?;
        put("weights.safetensors", serialize(weights)?)?;
    }
    let known = FrameTest::load()?;
    let frames: Vec<FrameTest> = (1..)
        .zip(of(failures, Task::FrameDecode))
        .filter_map(|(number, failure)| frame(number, failure, &known))
        .collect();
    if !frames.is_empty() {
        let file = json!({
            "algorithm": "FRAME, RANS, DICTIONARY, DIETGPU",
            "schema": "frames.schema.json",
            "specVersion": Vectors::fingerprint()?.frames,
            "generator": generator,
            "numberOfTests": frames.len(),
            "header": [HEADER],
            "notes": notes(),
            "testGroups": [{ "type": "FrameDecode", "source": source(), "tests": frames }],
        });
        put("frames.json", text(&file)?)?;
    }
    Ok(files)
}

/// What a flag of these vectors means.
fn notes() -> BTreeMap<String, Note> {
    let note = Note {
        description: "Made up by a campaign, and made small.".to_owned(),
        effect: "An implementation got it wrong.".to_owned(),
    };
    BTreeMap::from([(FLAG.to_owned(), note)])
}

fn source() -> Source {
    Source { name: "df11-judge".to_owned(), version: env!("CARGO_PKG_VERSION").to_owned() }
}

fn of(failures: &[Failure], task: Task) -> impl Iterator<Item = &Failure> {
    failures.iter().filter(move |failure| failure.question.task == task)
}

fn text(value: &impl serde::Serialize) -> Result<Vec<u8>, String> {
    let mut text = serde_json::to_vec_pretty(value).map_err(|error| error.to_string())?;
    text.push(b'\n');
    Ok(text)
}

fn comment(failure: &Failure) -> String {
    format!("{}; the judged program {}", failure.question.comment, failure.failure)
}

fn vectors(units: &[&Failure], generator: &str) -> Result<Vectors, String> {
    let known = Vectors::load()?;
    let test = |(number, failure): (usize, &&Failure)| {
        let question = &failure.question;
        let elements = match &failure.made {
            Made::Unit(made) => made.2.as_ref().map(|weights| weights.len() / 2),
            Made::Frame { .. } => None,
        };
        // The kind is what the vectors say of the clause.
        let kind = known.tests().find(|(_, test)| test.error.is_some() && test.clauses == question.clauses);
        Test {
            tc_id: number,
            id: question.id.clone(),
            comment: comment(failure),
            flags: vec![FLAG.to_owned()],
            clauses: question.clauses.clone(),
            result: question.result,
            error: kind.filter(|_| question.sha256.is_none()).and_then(|(_, test)| test.error.clone()),
            file: "units.safetensors".to_owned(),
            prefix: question.id.clone(),
            elements,
            sha256: question.sha256.clone(),
        }
    };
    Ok(Vectors {
        generator: generator.to_owned(),
        number_of_tests: units.len(),
        header: vec![HEADER.to_owned()],
        notes: notes(),
        test_groups: vec![Group {
            task: Task::UnitDecode,
            source: source(),
            tests: (1..).zip(units).map(test).collect(),
        }],
        ..known
    })
}

fn frame(number: usize, failure: &Failure, known: &[FrameTest]) -> Option<FrameTest> {
    let question = &failure.question;
    let Made::Frame { element_type, shape } = &failure.made else { return None };
    let mut clauses = question.clauses.clone();
    if clauses.is_empty() {
        clauses.push("F-5.2".to_owned());
    }
    // The kind is what the vectors say of the clause.
    let kind = known.iter().find(|test| test.error.is_some() && test.clauses.first() == clauses.first());
    Some(FrameTest {
        tc_id: number,
        id: question.id.clone(),
        comment: comment(failure),
        flags: vec![FLAG.to_owned()],
        clauses,
        result: question.result,
        error: kind.filter(|_| question.sha256.is_none()).and_then(|test| test.error.clone()),
        frame: hex::encode(&question.input),
        element_type: element_type.map(|number| TYPES[usize::from(number) % 6].to_owned()),
        shape: shape.clone(),
        sha256: question.sha256.clone(),
    })
}
