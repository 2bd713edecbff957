//! The decoder and encoder of df11 itself.

use df11::delta::Delta;
use df11::dietgpu::{self, Archive, FloatArchive};
use df11::frame::Frame;
use df11::{EncodeOptions, EncodedUnit, Error, ErrorKind, PARTS, Unit};
use safetensors::SafeTensors;
use safetensors::tensor::TensorView;

use super::{Answer, Subject};
use crate::pair;
use crate::vectors::{Task, UNIT_TYPES, unit, unit_tensors};

/// The decoder and encoder of df11, as any other implementation is judged.
#[derive(Clone, Copy, Debug, Default)]
pub struct Ours;

impl Subject for Ours {
    fn tasks(&self) -> Vec<Task> {
        Task::ALL.to_vec()
    }

    fn answer(&mut self, task: Task, input: &[u8]) -> Result<Answer, String> {
        let answer = match task {
            Task::UnitDecode => return Ok(decoded(input)),
            Task::UnitEncode => return encoded(input),
            Task::FrameDecode => frame(input),
            Task::ArchiveDecode => archive(input),
            Task::DeltaDecode => return delta(input),
        };
        Ok(answer.map_or_else(refusal, Answer::Accepted))
    }
}

/// The answer that an error is.
fn refusal(error: Error) -> Answer {
    let text = match error.clause() {
        Some(clause) => format!("{clause}: {error}"),
        None => error.to_string(),
    };
    match error.kind() {
        ErrorKind::Unsupported => Answer::Unsupported(text),
        ErrorKind::InvalidInput => Answer::Crashed(text),
        _ => Answer::Invalid(text),
    }
}

/// The six parts of the unit in a safetensors file, or the rule that it breaks.
pub(super) fn unit_of<'a>(file: &SafeTensors<'a>) -> Result<df11::Parts<&'a [u8]>, String> {
    let tensors: Vec<(String, TensorView<'a>)> = file
        .tensors()
        .into_iter()
        .filter_map(|(name, view)| Some((name.strip_prefix("unit.")?.to_owned(), view)))
        .collect();
    for (key, dtype) in PARTS {
        match tensors.iter().find(|(name, _)| name == key) {
            None => return Err(format!("D-10.2: there is no {key}")),
            Some((_, view)) if view.dtype().to_string() != dtype => {
                return Err(format!("D-10.2: {key} is {}, not {dtype}", view.dtype()));
            }
            Some(_) => {}
        }
    }
    unit(&tensors).ok_or_else(|| "D-10.2: a part is missing".to_owned())
}

/// Checks every rule of a unit and decodes it.
fn decoded(input: &[u8]) -> Answer {
    let file = match SafeTensors::deserialize(input) {
        Ok(file) => file,
        Err(error) => return Answer::Invalid(format!("no safetensors file: {error}")),
    };
    let parts = match unit_of(&file) {
        Ok(parts) => parts,
        Err(why) => return Answer::Invalid(why),
    };
    let weights = Unit::new(parts).and_then(|unit| {
        let mut weights = vec![0; 2 * unit.len()];
        unit.verify_blocks_into(0..unit.blocks(), &mut weights).map(|()| weights)
    });
    weights.map_or_else(refusal, Answer::Accepted)
}

/// Encodes the tensors `0`, `1`, ... of a safetensors file.
fn encoded(input: &[u8]) -> Result<Answer, String> {
    let file = SafeTensors::deserialize(input).map_err(|error| error.to_string())?;
    let mut tensors = file.tensors();
    tensors.sort_by_key(|(name, _)| name.parse::<usize>().unwrap_or(usize::MAX));
    let weights: Vec<&[u8]> = tensors.iter().map(|(_, view)| view.data()).collect();
    match EncodeOptions::new().encode(&weights) {
        Ok(unit) => serialized(&unit).map(Answer::Accepted),
        Err(error) => Ok(refusal(error)),
    }
}

/// A safetensors file with a unit, under the path `unit`.
fn serialized(unit: &EncodedUnit) -> Result<Vec<u8>, String> {
    let tensors = unit_tensors(unit, &UNIT_TYPES)?.into_iter();
    let views = tensors.map(|(key, view)| (format!("unit.{key}"), view));
    safetensors::serialize(views, None).map_err(|error| error.to_string())
}

fn frame(input: &[u8]) -> Result<Vec<u8>, Error> {
    Frame::new(input)?.decode()
}

/// Applies a delta to its base.
fn delta(input: &[u8]) -> Result<Answer, String> {
    let (delta, base) = pair::split(input).ok_or("the input ends before the base does")?;
    let delta = match Delta::new(delta) {
        Ok(delta) => delta,
        Err(error) => return Ok(refusal(error)),
    };
    let (needed, found) = (delta.common() * delta.element_type().bytes(), base.len());
    if needed > found {
        let problem = format!("B-1.1: the delta needs {needed} bytes of a base, and there are {found}");
        return Ok(Answer::Invalid(problem));
    }
    Ok(delta.apply(base).map_or_else(refusal, Answer::Accepted))
}

fn archive(input: &[u8]) -> Result<Vec<u8>, Error> {
    if input.starts_with(&dietgpu::FLOAT_MAGIC.to_le_bytes()) {
        return FloatArchive::new(input)?.decode();
    }
    Archive::new(input)?.decode()
}
