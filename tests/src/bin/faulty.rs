//! A decoder and an encoder with a fault of choice, for the tests of the judge: `faulty FAULT INPUT
//! OUTPUT`, `faulty FAULT BASE DELTA OUTPUT`, or `faulty FAULT --batch`. With `none` they are
//! right; decoders always refuse what is invalid, so that nothing but the fault shows.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "a program that is meant to be bad"
)]

use std::collections::BTreeMap;
use std::fs;

use df11_judge::pair;
use df11_judge::subject::{Answer, INVALID, Subject, UNSUPPORTED, serve};
use df11_judge::vectors::Task;
use df11_tests::faults::Faulty;
use df11_tests::{foreign, weights};
use half::bf16;
use safetensors::tensor::{Dtype, TensorView};
use safetensors::{SafeTensors, serialize};

fn main() {
    let args: Vec<String> = std::env::args().collect();
    match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [_, fault, "--batch"] => {
            serve(&mut Really(Faulty(fault)), std::io::stdin().lock(), std::io::stdout().lock()).unwrap();
        }
        [_, fault, input, output] => {
            let bytes = fs::read(input).unwrap();
            if fault.starts_with("encode") {
                encode(fault, &SafeTensors::deserialize(&bytes).unwrap(), output);
                return;
            }
            let task = if fault.starts_with("frame") { Task::FrameDecode } else { Task::UnitDecode };
            decode(fault, task, &bytes, output);
        }
        [_, fault, base, delta, output] => {
            let input = pair::join(&fs::read(delta).unwrap(), &fs::read(base).unwrap()).unwrap();
            decode(fault, Task::DeltaDecode, &input, output);
        }
        _ => panic!(
            "usage: faulty FAULT INPUT OUTPUT, faulty FAULT BASE DELTA OUTPUT, or faulty FAULT --batch"
        ),
    }
}

fn decode(fault: &str, task: Task, input: &[u8], output: &str) {
    match Really(Faulty(fault)).answer(task, input).unwrap() {
        Answer::Accepted(elements) => fs::write(output, elements).unwrap(),
        Answer::Invalid(why) => leave(INVALID, &why),
        Answer::Unsupported(why) => leave(UNSUPPORTED, &why),
        Answer::Crashed(how) => panic!("{how}"),
    }
}

/// A decoder whose crashes are crashes, and that may also never end.
struct Really<'a>(Faulty<'a>);

impl Subject for Really<'_> {
    fn tasks(&self) -> Vec<Task> {
        self.0.tasks()
    }

    fn answer(&mut self, task: Task, input: &[u8]) -> Result<Answer, String> {
        let parsed = SafeTensors::deserialize(input);
        let rows =
            |file: &SafeTensors<'_>| file.tensor("unit.luts").map_or(0, |luts| luts.data().len() / 256);
        let positions = |file: &SafeTensors<'_>| {
            let len = |key: &str| file.tensor(key).map_or(0, |part| part.data().len());
            (len("unit.encoded_exponent").div_ceil(4096) * 4, len("unit.output_positions"))
        };
        match (self.0.0, &parsed) {
            ("never-ends-on-jumps", Ok(file)) if rows(file) > 2 => loop {
                std::thread::sleep(std::time::Duration::from_secs(1));
            },
            ("crashes-on-short-positions", Ok(file)) => {
                let (short, found) = positions(file);
                let answer = self.0.answer(task, input)?;
                let sound = matches!(answer, Answer::Accepted(_));
                assert!(!sound || short != found, "the last output position is missing");
                return Ok(answer);
            }
            ("dies-of-a-signal", _) => std::process::abort(),
            ("takes-all-memory", _) => {
                let mut all: Vec<Vec<u8>> = Vec::new();
                loop {
                    all.push(vec![1; 64 << 20]);
                }
            }
            // As an exception that nobody catches ends Node, Java and Ruby.
            ("dies-on-bad-units", _) => {
                let answer = Faulty("none").answer(task, input)?;
                if !matches!(answer, Answer::Accepted(_)) {
                    leave(1, "TypeError: the weights are null");
                }
                return Ok(answer);
            }
            _ => {}
        }
        match self.0.answer(task, input)? {
            Answer::Crashed(how) => panic!("{how}"),
            answer => Ok(answer),
        }
    }
}

fn leave(code: u8, why: &str) -> ! {
    eprintln!("refused: {why}");
    std::process::exit(code.into());
}

fn encode(fault: &str, file: &SafeTensors<'_>, output: &str) {
    let mut tensors: Vec<(usize, Vec<bf16>)> = file
        .tensors()
        .iter()
        .map(|(name, view)| {
            let weights = weights::bits(view.data()).into_iter().map(bf16::from_bits).collect();
            (name.parse().unwrap(), weights)
        })
        .collect();
    tensors.sort_by_key(|(number, _)| *number);
    let parts: Vec<&[bf16]> = tensors.iter().map(|(_, weights)| weights.as_slice()).collect();
    let unit = match df11_reference::encode(&parts) {
        Ok(unit) => unit,
        Err(violation) if violation.clause == "D-4.1" && fault == "encode-255" => {
            // Like the official encoder, this makes no check, so exponents become jumps to nowhere.
            let all: Vec<u16> = parts.concat().iter().map(|w| w.to_bits()).collect();
            let exponents: Vec<u8> = all.iter().map(|w| (w >> 7) as u8).collect();
            let foreign = foreign::write(&all, &foreign::huffman(&exponents, 1));
            df11_reference::Unit {
                luts: foreign.luts,
                encoded_exponent: foreign.encoded_exponent,
                sign_mantissa: foreign.sign_mantissa,
                output_positions: foreign.output_positions,
                gaps: foreign.gaps,
                split_positions: Vec::new(),
            }
        }
        Err(violation) => leave(UNSUPPORTED, &violation.to_string()),
    };
    let mut unit = unit;
    if fault == "encode-short" && unit.encoded_exponent.len() > 4096 {
        unit.gaps.truncate(320);
    }
    let u8s = |bytes: &[u8]| (Dtype::U8, vec![bytes.len()], bytes.to_vec());
    let views = BTreeMap::from([
        ("unit.luts", (Dtype::U8, vec![unit.luts.len() / 256, 256], unit.luts.clone())),
        ("unit.encoded_exponent", u8s(&unit.encoded_exponent)),
        ("unit.sign_mantissa", u8s(&unit.sign_mantissa)),
        ("unit.output_positions", u8s(&unit.output_positions)),
        ("unit.gaps", u8s(&unit.gaps)),
        (
            "unit.split_positions",
            (Dtype::I64, vec![unit.split_positions.len() / 8], unit.split_positions.clone()),
        ),
    ]);
    let views = views
        .iter()
        .map(|(name, (dtype, shape, bytes))| (*name, TensorView::new(*dtype, shape.clone(), bytes).unwrap()));
    fs::write(output, serialize(views, None).unwrap()).unwrap();
}
