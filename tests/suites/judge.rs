//! The judge beyond the vectors: programs in batches, campaigns, reports, what is exported.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests")]

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use df11_judge::campaign::{self, Campaign, Options};
use df11_judge::export::export;
use df11_judge::judge::{Report, Terms, run};
use df11_judge::pair;
use df11_judge::question::{Mode, Question};
use df11_judge::subject::{Answer, Batch, Limits, Ours, Subject, serve};
use df11_judge::vectors::{Outcome, Task, Vectors};
use df11_tests::faults::{FRAME_FAULTS, Faulty, UNIT_FAULTS};
use serde_json::Value;

fn batch(fault: &str) -> Batch {
    let limits = Limits { time: Duration::from_secs(20), memory: Some(1 << 30) };
    Batch::start(&[env!("CARGO_BIN_EXE_faulty").to_owned(), fault.to_owned()], limits).unwrap()
}

fn attack(subject: &mut dyn Subject, seed: u64, cases: u64, most: usize) -> Campaign {
    let options = Options { seed, cases, time: Duration::from_secs(600), most };
    campaign::run(subject, &options, &mut |_| true).unwrap()
}

/// Attacks a decoder with a fault; it must be found.
fn finds(fault: &str, what: &str) {
    let campaign = attack(&mut Faulty(fault), 1, 3000, 1);
    let [found] = &campaign.failures[..] else {
        panic!("{fault} ({what}) was not found in {} cases", campaign.cases)
    };
    // What is kept shows the fault, and only the fault: without it, the answer is right.
    let Question { task, input, .. } = &found.question;
    let answer = Faulty(fault).answer(*task, input).unwrap();
    assert_eq!(found.question.judge(&answer, Mode::Any), Err(found.failure.clone()), "{fault}");
    let right = Faulty("none").answer(*task, input).unwrap();
    assert_eq!(found.question.judge(&right, Mode::Any), Ok(()), "{fault}");
}

#[test]
fn a_campaign_finds_every_planted_fault_in_units() {
    UNIT_FAULTS.iter().for_each(|(fault, what)| finds(fault, what));
}

#[test]
fn a_campaign_finds_every_planted_fault_in_frames() {
    FRAME_FAULTS.iter().for_each(|(fault, what)| finds(fault, what));
}

#[test]
fn a_campaign_finds_nothing_in_decoders_without_faults() {
    for subject in [&mut Ours as &mut dyn Subject, &mut Faulty("none")] {
        let campaign = attack(subject, 2, 1000, 5);
        assert!(campaign.cases == 1000 && campaign.failures.is_empty(), "{:?}", campaign.failures);
    }
}

#[test]
fn a_campaign_asks_for_every_verdict_and_repeats_itself_from_its_seed() {
    /// A decoder that keeps what it was asked.
    struct Listener(Vec<(Task, Vec<u8>)>);
    impl Subject for Listener {
        fn tasks(&self) -> Vec<Task> {
            Ours.tasks()
        }
        fn answer(&mut self, task: Task, input: &[u8]) -> Result<Answer, String> {
            self.0.push((task, input.to_vec()));
            Ours.answer(task, input)
        }
    }
    let heard = |seed| {
        let mut listener = Listener(Vec::new());
        attack(&mut listener, seed, 300, 1);
        listener.0
    };
    let (first, again, other) = (heard(3), heard(3), heard(4));
    assert!(first == again && first != other);
    let words: BTreeSet<_> =
        first.iter().map(|(task, input)| (*task, Ours.answer(*task, input).unwrap().word())).collect();
    for expected in [
        (Task::UnitDecode, "accepted"),
        (Task::UnitDecode, "invalid"),
        (Task::FrameDecode, "accepted"),
        (Task::FrameDecode, "invalid"),
        (Task::FrameDecode, "unsupported"),
    ] {
        assert!(words.contains(&expected), "{words:?}");
    }
}

#[test]
fn failures_of_a_campaign_are_small_and_are_written_as_vectors() {
    let folder = tempfile::tempdir().unwrap();
    let campaign = attack(&mut Faulty("gaps-unchecked"), 5, 2000, 1);
    let files = campaign::write(folder.path(), 5, &campaign.failures).unwrap();
    assert_eq!(files, ["df11.json", "units.safetensors", "weights.safetensors"]);
    let vectors: Vectors =
        serde_json::from_slice(&std::fs::read(folder.path().join("df11.json")).unwrap()).unwrap();
    let (task, test) = vectors.tests().next().unwrap();
    assert_eq!(
        (task, test.result, &test.clauses[..]),
        (Task::UnitDecode, Outcome::Invalid, &["D-7.2".to_owned()][..])
    );
    let bytes = std::fs::read(folder.path().join("units.safetensors")).unwrap();
    let units = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    for (key, _) in df11::PARTS {
        assert!(units.tensor(&format!("{}.{key}", test.prefix)).is_ok(), "{key}");
    }
    let weights = units.tensor(&format!("{}.sign_mantissa", test.prefix)).unwrap().data().len();
    assert!(weights <= 4, "{weights} weights are not small");

    let campaign = attack(&mut Faulty("frame-first-block"), 5, 3000, 1);
    assert_eq!(campaign::write(folder.path(), 5, &campaign.failures).unwrap(), ["frames.json"]);
    let file: Value =
        serde_json::from_slice(&std::fs::read(folder.path().join("frames.json")).unwrap()).unwrap();
    let frame = hex::decode(file["testGroups"][0]["tests"][0]["frame"].as_str().unwrap()).unwrap();
    assert!(matches!(Ours.answer(Task::FrameDecode, &frame), Ok(Answer::Accepted(_))));
}

#[test]
fn programs_in_batches_are_judged_as_those_with_files_are() {
    let report = run("faulty", &mut batch("none"), &Terms::default()).unwrap();
    assert!(report.passed(), "{}", report.to_text());
    let report = run("faulty", &mut batch("ignores-jumps"), &Terms::default()).unwrap();
    assert!(report.failures().any(|(case, _)| case.id == "longest-32"));
    assert!(report.failures().all(|(case, _)| !case.id.starts_with("size-")));
}

#[test]
fn a_program_that_crashes_in_a_batch_is_started_anew() {
    let report = run("faulty", &mut batch("crashes-on-short-positions"), &Terms::default()).unwrap();
    let crashed = |case: &&df11_judge::judge::Case| case.answer == "crashed";
    let crashes = report.cases.iter().filter(crashed).count();
    assert!(crashes > 0 && report.failures().count() == crashes, "{}", report.to_text());
    assert!(report.failures().all(|(_, why)| why.starts_with("crashed with exit code 101")));
}

#[test]
fn programs_that_do_not_speak_the_protocol_are_errors() {
    let limits = Limits { time: Duration::from_millis(300), memory: None };
    let start = |words: &[&str]| {
        let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
        Batch::start(&words, limits).unwrap_err()
    };
    assert!(start(&["/no/such/program"]).contains("cannot start"));
    assert!(start(&["false"]).contains("does not say \"df11-batch 1\""));
    assert!(start(&["echo", "hello"]).contains("begins with \"df11-batch 1\", not with \"hello --batch\""));
    assert!(start(&["sh", "-c", "sleep 20"]).contains("did not end within 0.3 s"));
    // A question that breaks off, and one of no known task.
    let answered = |question: &[u8]| serve(&mut Ours, question, &mut Vec::new());
    assert!(answered(&[1, 5, 0, 0, 0, 1]).is_err() && answered(&[9, 0, 0, 0, 0]).is_err());
    // A delta whose base is cut off.
    assert!(answered(&[5, 5, 0, 0, 0, 2, 0, 0, 0, 1]).is_err());
    assert!(answered(&[]).is_ok());
}

#[test]
fn strict_readers_refuse_what_is_acceptable_and_lenient_ones_take_it() {
    /// A reader that refuses what the linter calls acceptable.
    struct Strict;
    impl Subject for Strict {
        fn tasks(&self) -> Vec<Task> {
            vec![Task::UnitDecode]
        }
        fn answer(&mut self, task: Task, input: &[u8]) -> Result<Answer, String> {
            let acceptable = Question::all(task)?
                .into_iter()
                .any(|question| question.input == input && question.result == Outcome::Acceptable);
            if acceptable { Ok(Answer::Invalid(String::new())) } else { Ours.answer(task, input) }
        }
    }
    let judge = |subject: &mut dyn Subject, mode| {
        let filter = Some("short".to_owned());
        run("a reader", subject, &Terms { mode, filter, ..Terms::default() }).unwrap().passed()
    };
    let verdicts =
        |subject: &mut dyn Subject| [Mode::Any, Mode::Strict, Mode::Lenient].map(|mode| judge(subject, mode));
    assert_eq!(verdicts(&mut Strict), [true, true, false]);
    assert_eq!(verdicts(&mut Ours), [true, false, true]);
}

fn of_ours(terms: &Terms) -> Report {
    run("df11", &mut Ours, terms).unwrap()
}

#[test]
fn a_report_says_what_may_be_quoted() {
    let document = |report: &Report| serde_json::to_value(report.document().unwrap()).unwrap();
    let all = document(&of_ours(&Terms { mode: Mode::Lenient, ..Terms::default() }));
    let quote = all["quote"].as_str().unwrap();
    let sha256 = all["vectors"]["sha256"].as_str().unwrap();
    assert!(
        quote.starts_with(
            "passes df11 judge 1.0 (decoder, encoder, frame decoder, archive decoder, delta decoder;"
        ),
        "{quote}"
    );
    assert!(quote.contains("; lenient; ") && quote.contains(&sha256[..16]), "{quote}");
    assert!(all["passed"] == true && all["failures"].as_object().unwrap().is_empty());
    let totals = &all["totals"]["decoder"];
    assert_eq!(totals["valid"]["of"], totals["valid"]["answers"]["accepted"]);
    let date = all["date"].as_str().unwrap();
    assert!(date.len() == 10 && date > "2026-11-01", "{date}");

    // Of a part, nothing may be said; of a failure, what it is.
    let part = document(&of_ours(&Terms { filter: Some("size-1".to_owned()), ..Terms::default() }));
    assert!(part["quote"].as_str().unwrap().starts_with("no claim"));
    let report = run("faulty", &mut Faulty("ignores-jumps"), &Terms::default()).unwrap();
    let faulty = document(&report);
    assert!(faulty["quote"].as_str().unwrap().starts_with("does not pass"), "{}", faulty["quote"]);
    assert!(faulty["failures"]["longest-32"].is_string() && faulty["failures"]["size-1"].is_null());
    assert!(report.to_badge().contains("#c62828"));
    assert!(of_ours(&Terms::default()).to_badge().contains("passed"));
}

#[test]
fn vectors_are_exported_with_what_they_decode_to() {
    let temp = tempfile::tempdir().unwrap();
    let folder = temp.path().join("vectors");
    let index = export(&folder).unwrap();
    let questions: usize = Task::ALL.iter().map(|task| Question::all(*task).unwrap().len()).sum();
    assert_eq!(index.entries.len(), questions);
    let read = |name: &str| std::fs::read(folder.join(name)).unwrap();
    for entry in &index.entries {
        let task = Task::ALL.into_iter().find(|task| task.word() == entry.task).unwrap();
        let input = match &entry.base {
            Some(base) => pair::join(&read(&entry.input), &read(base)).unwrap(),
            None => read(&entry.input),
        };
        let answer = Ours.answer(task, &input).unwrap();
        match (&entry.output, answer) {
            (Some(output), Answer::Accepted(found)) => assert!(read(output) == found, "{}", entry.id),
            (Some(_), answer) => panic!("{}: {answer:?}", entry.id),
            (None, Answer::Accepted(_)) => assert_eq!(task, Task::UnitEncode),
            (None, Answer::Invalid(_)) => assert!(entry.codes.contains(&10), "{}", entry.id),
            (None, _) => assert!(entry.codes.contains(&11), "{}", entry.id),
        }
    }
    let written: Value = serde_json::from_slice(&read("index.json")).unwrap();
    assert_eq!(written["entries"].as_array().unwrap().len(), questions);
    assert!(export(&folder).unwrap_err().contains("not empty"));
    assert!(export(Path::new("/proc/nothing")).is_err());
}
