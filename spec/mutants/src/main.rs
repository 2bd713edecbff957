//! Tests the vectors: does every mistake in the reference make it fail at least one of them?
//!
//! ```sh
//! cargo run -p df11-mutants [-- --list] [-- --quick] [-- --only TEXT]
//! ```
//!
//! `build.rs` plants the mistakes: a comparison turned or moved by one, a number that is one more
//! or less, an operator for another, a rule that is not checked, a step that is left out. Each
//! mutant runs on every vector, the smallest first, until one gives other bits or another verdict
//! than it must: that vector kills it. What survives either shows a vector that is missing, or is
//! equivalent: nothing tells it from the original. Those stand in `equivalent_reference.txt`, each
//! with the reason, and are run as well: one that is killed must not stand there. `--quick` leaves
//! the larger vectors out, and `--list` says which vector kills each.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a tool for developers")]

use std::cell::Cell;
use std::collections::{BTreeMap, HashSet};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind, set_hook};
use std::process::ExitCode;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use half::slice::HalfFloatSliceExt;
use safetensors::SafeTensors;
use serde_json::Value;
use sha2::{Digest, Sha256};

#[allow(
    warnings,
    clippy::all,
    clippy::restriction,
    arithmetic_overflow,
    overflowing_literals,
    reason = "mistakes"
)]
mod reference {
    include!(concat!(env!("OUT_DIR"), "/reference.rs"));
}

/// The names of the mutants, from number 1 on.
const NAMES: &[&str] = include!(concat!(env!("OUT_DIR"), "/names.rs"));

/// At least this many there are, so that none gets lost.
const LEAST: usize = 200;

/// Larger vectors are for those mutants alone that survive the others.
const SMALL: usize = 5000;

thread_local! {
    /// The mutant that is tried, 0 for the original, and how many questions it may still ask.
    static TRIED: Cell<(u32, u64)> = const { Cell::new((0, u64::MAX)) };
}

/// Asks whether this mutant is the one that is tried.
fn on(number: u32) -> bool {
    TRIED.with(|tried| {
        let (it, left) = tried.get();
        if left == 0 {
            resume_unwind(Box::new("too long"));
        }
        tried.set((it, left - 1));
        it == number
    })
}

enum Input {
    Unit(reference::Unit),
    Frame(Vec<u8>),
}

struct Vector {
    id: String,
    len: usize,
    input: Input,
    /// The SHA-256 of what it decodes to, or the verdict.
    expected: String,
    /// How many questions a mutant may ask: ten times as many as the original.
    fuel: u64,
}

impl Vector {
    fn new(test: &Value, len: usize, input: Input) -> Self {
        let text = |key: &str| test[key].as_str().map(str::to_owned);
        let expected = match text("result").unwrap().as_str() {
            "valid" | "acceptable" => text("sha256").unwrap(),
            refused => refused.to_owned(),
        };
        Vector { id: text("id").unwrap(), len, input, expected, fuel: u64::MAX }
    }

    /// What a mutant gives: the SHA-256 of what it decodes, its verdict, or how it fails.
    fn answer(&self, mutant: u32) -> (String, u64) {
        TRIED.set((mutant, self.fuel));
        let decoded = catch_unwind(AssertUnwindSafe(|| match &self.input {
            Input::Unit(unit) => reference::decode(unit).map(|weights| {
                weights.reinterpret_cast().iter().flat_map(|w: &u16| w.to_le_bytes()).collect()
            }),
            Input::Frame(frame) => reference::frame::decode(frame).map(|tensor| tensor.elements),
        }));
        let asked = self.fuel - TRIED.get().1;
        TRIED.set((0, u64::MAX));
        let answer = match decoded {
            Ok(Ok::<Vec<u8>, _>(bytes)) => hex::encode(Sha256::digest(bytes)),
            Ok(Err(violation)) if violation.clause == "F-1.3" => "unsupported".to_owned(),
            Ok(Err(_)) => "invalid".to_owned(),
            Err(why) => why.downcast_ref::<&str>().map_or("a panic", |why| why).to_owned(),
        };
        (answer, asked)
    }
}

/// The tests of these groups of a file of vectors.
fn tests(file: &str, kind: &str) -> Vec<Value> {
    let file: Value = serde_json::from_str(file).unwrap();
    let groups = file["testGroups"].as_array().unwrap().iter().filter(|group| group["type"] == kind);
    groups.flat_map(|group| group["tests"].as_array().unwrap().clone()).collect()
}

/// The vectors of units and of frames, the smallest first. Those of the container are not for a
/// decoder of parts.
fn vectors() -> Vec<Vector> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../vectors/");
    let mut files = BTreeMap::new();
    let mut vectors = Vec::new();
    for test in tests(include_str!("../../vectors/df11.json"), "UnitDecode") {
        let name = test["file"].as_str().unwrap().to_owned();
        let file =
            files.entry(name.clone()).or_insert_with(|| std::fs::read(format!("{folder}{name}")).unwrap());
        let file = SafeTensors::deserialize(file).unwrap();
        let part = |key: &str| {
            let view = file.tensor(&format!("{}.{key}", test["prefix"].as_str().unwrap())).ok()?;
            let dtype = if key == "split_positions" { "I64" } else { "U8" };
            (view.dtype().to_string() == dtype).then(|| view.data().to_vec())
        };
        let unit = (|| {
            Some(reference::Unit {
                luts: part("luts")?,
                encoded_exponent: part("encoded_exponent")?,
                sign_mantissa: part("sign_mantissa")?,
                output_positions: part("output_positions")?,
                gaps: part("gaps")?,
                split_positions: part("split_positions")?,
            })
        })();
        if let Some(unit) = unit {
            let len = unit.encoded_exponent.len() + unit.sign_mantissa.len();
            vectors.push(Vector::new(&test, len, Input::Unit(unit)));
        }
    }
    for test in tests(include_str!("../../vectors/frames.json"), "FrameDecode") {
        let frame = hex::decode(test["frame"].as_str().unwrap()).unwrap();
        vectors.push(Vector::new(&test, 2 * frame.len(), Input::Frame(frame)));
    }
    vectors.sort_by_key(|vector| vector.len);
    vectors
}

/// The first of these vectors that a mutant fails, and what it gives.
fn killer(mutant: u32, vectors: &mut Vec<&Vector>) -> Option<String> {
    let (at, answer) = vectors.iter().enumerate().find_map(|(at, vector)| {
        let answer = vector.answer(mutant).0;
        (answer != vector.expected).then_some((at, answer))
    })?;
    let is_word = answer.len() < 20;
    let id = vectors[at].id.clone();
    // It may kill the next as well.
    let vector = vectors.remove(at);
    vectors.insert(0, vector);
    Some(if is_word { format!("{id}: {answer}") } else { format!("{id}: other bits") })
}

/// The mutants of `equivalent_reference.txt`, each with its reason.
fn equivalent() -> BTreeMap<&'static str, &'static str> {
    let mut reason = "";
    let mut listed = BTreeMap::new();
    for line in include_str!("../equivalent_reference.txt").lines() {
        match line.strip_prefix("# ") {
            Some(text) => reason = text,
            None if !line.is_empty() => drop(listed.insert(line, reason)),
            None => {}
        }
    }
    listed
}

/// What each of these mutants is killed by, or nothing; on every processor.
fn run(mutants: &[u32], vectors: &[Vector], listed: &BTreeMap<&str, &str>) -> BTreeMap<u32, Option<String>> {
    let next = AtomicUsize::new(0);
    let work = || {
        let mut small: Vec<&Vector> = vectors.iter().filter(|vector| vector.len < SMALL).collect();
        let mut large: Vec<&Vector> = vectors.iter().filter(|vector| vector.len >= SMALL).collect();
        let mut killers = BTreeMap::new();
        while let Some(&mutant) = mutants.get(next.fetch_add(1, Ordering::Relaxed)) {
            let name = NAMES[mutant as usize - 1];
            let mut found = killer(mutant, &mut small);
            if found.is_none() && !listed.contains_key(name) {
                found = killer(mutant, &mut large);
            }
            killers.insert(mutant, found);
        }
        killers
    };
    std::thread::scope(|scope| {
        let threads = std::thread::available_parallelism().map_or(1, |number| number.get());
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        workers.into_iter().flat_map(|worker| worker.join().unwrap()).collect()
    })
}

fn main() -> ExitCode {
    let started = Instant::now();
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let lists = arguments.iter().any(|argument| argument == "--list");
    let only =
        arguments.iter().position(|argument| argument == "--only").and_then(|at| arguments.get(at + 1));
    set_hook(Box::new(|_| {}));
    let mut vectors = vectors();
    if arguments.iter().any(|argument| argument == "--quick") {
        vectors.retain(|vector| vector.len < SMALL);
    }
    for vector in &mut vectors {
        let (answer, asked) = vector.answer(0);
        if answer != vector.expected {
            println!("the reference as it is fails {}: {answer}", vector.id);
            return ExitCode::FAILURE;
        }
        vector.fuel = 10 * asked + 10_000;
    }
    let listed = equivalent();
    let mutants: Vec<u32> = (1..=NAMES.len() as u32)
        .filter(|mutant| only.is_none_or(|only| NAMES[*mutant as usize - 1].contains(only.as_str())))
        .collect();
    let killers = run(&mutants, &vectors, &listed);
    let mut wrong = 0;
    let mut complain = |line: String| {
        println!("{line}");
        wrong += 1;
    };
    for (mutant, killer) in &killers {
        let name = NAMES[*mutant as usize - 1];
        match killer {
            None if !listed.contains_key(name) => complain(format!("survives: {name}")),
            Some(killer) if listed.contains_key(name) => {
                complain(format!("{name}\n    stands in the list, but is killed by {killer}"));
            }
            Some(killer) if lists => println!("{name}\n    {killer}"),
            _ => {}
        }
    }
    let names: HashSet<&str> = NAMES.iter().copied().collect();
    for name in listed.keys().filter(|name| !names.contains(*name)) {
        complain(format!("{name}\n    stands in the list, but is no mutant"));
    }
    let killed = killers.values().flatten().count();
    println!(
        "{} mutants of the reference: {killed} killed by a vector, {} survive, of which {} are equivalent for a reason \
         given; {} vectors, {:.0} s",
        killers.len(),
        killers.len() - killed,
        killers.iter().filter(|(m, k)| k.is_none() && listed.contains_key(NAMES[**m as usize - 1])).count(),
        vectors.len(),
        started.elapsed().as_secs_f64(),
    );
    if wrong > 0 || (only.is_none() && killers.len() < LEAST) { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}
