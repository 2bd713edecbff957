//! Cases: drafts of units, their subjects, and how they are judged and stored.

use std::collections::BTreeMap;

use df11::hazmat::huffman::CodeLengths;
use df11::{EncodeOptions, EncodedUnit, Plan, Unit, bf16};
use df11_judge::vectors::{Outcome, Test};
use safetensors::tensor::Dtype;
use sha2::{Digest, Sha256};

use crate::corpus::Tensor;
use crate::weights::{bits, bytes, with_exponents};

/// For larger units, the weights are not stored beside the vectors, only their digest.
const KEPT: usize = 20_000;

/// A unit that can be damaged part by part.
#[derive(Clone, Debug)]
pub(super) struct Draft(pub(super) BTreeMap<&'static str, Tensor>);

impl Draft {
    pub(super) fn new(unit: &df11::Parts<&[u8]>) -> Self {
        let part = |dtype, shape: Vec<usize>, bytes: &[u8]| Tensor { dtype, shape, bytes: bytes.to_vec() };
        let u8s = |bytes: &[u8]| part(Dtype::U8, vec![bytes.len()], bytes);
        Draft(BTreeMap::from([
            ("luts", part(Dtype::U8, vec![unit.luts.len() / 256, 256], unit.luts)),
            ("encoded_exponent", u8s(unit.encoded_exponent)),
            ("sign_mantissa", u8s(unit.sign_mantissa)),
            ("output_positions", u8s(unit.output_positions)),
            ("gaps", u8s(unit.gaps)),
            ("split_positions", part(Dtype::I64, vec![unit.split_positions.len() / 8], unit.split_positions)),
        ]))
    }

    pub(super) fn get(&mut self, key: &str) -> &mut Vec<u8> {
        &mut self.0.get_mut(key).unwrap().bytes
    }

    /// Adapts shapes to bytes whose number has changed. If no shape fits, the part becomes a list
    /// of bytes.
    pub(super) fn reshape(&mut self) {
        for (key, tensor) in &mut self.0 {
            let len = tensor.bytes.len();
            match *key {
                "luts" if len.is_multiple_of(256) => tensor.shape = vec![len / 256, 256],
                "split_positions" if tensor.dtype == Dtype::I64 && len.is_multiple_of(8) => {
                    tensor.shape = vec![len / 8]
                }
                "split_positions" if tensor.dtype == Dtype::I64 => {
                    (tensor.dtype, tensor.shape) = (Dtype::U8, vec![len])
                }
                _ => tensor.shape = vec![len / (tensor.dtype.bitsize() / 8)],
            }
        }
    }

    pub(super) fn verdict(&self) -> Result<Vec<u16>, df11::Error> {
        let get = |key: &str| self.0[key].bytes.as_slice();
        let tensors = df11::Parts {
            luts: get("luts"),
            encoded_exponent: get("encoded_exponent"),
            sign_mantissa: get("sign_mantissa"),
            output_positions: get("output_positions"),
            gaps: get("gaps"),
            split_positions: get("split_positions"),
        };
        let reference = df11_reference::decode(&df11_reference::Unit {
            luts: tensors.luts.to_vec(),
            encoded_exponent: tensors.encoded_exponent.to_vec(),
            sign_mantissa: tensors.sign_mantissa.to_vec(),
            output_positions: tensors.output_positions.to_vec(),
            gaps: tensors.gaps.to_vec(),
            split_positions: tensors.split_positions.to_vec(),
        });
        let core = Unit::new(tensors).and_then(|unit| {
            let mut weights = vec![0; 2 * unit.len()];
            unit.verify_blocks_into(0..unit.blocks(), &mut weights).map(|()| bits(&weights))
        });
        match (&core, reference) {
            (Ok(core), Ok(reference)) => {
                assert!(reference.iter().map(|w| w.to_bits()).eq(core.iter().copied()))
            }
            (Err(_), Err(_)) => {}
            (core, reference) => panic!("core: {:?}, reference: {:?}", core.as_ref().err(), reference.err()),
        }
        core
    }
}

/// Collects the cases.
#[derive(Default)]
pub(super) struct Cases {
    pub(super) tests: BTreeMap<&'static str, Vec<Test>>,
    pub(super) units: crate::corpus::Tensors,
    pub(super) weights: crate::corpus::Tensors,
    pub(super) count: usize,
}

/// The subject of a case.
pub(super) struct About<'a> {
    pub(super) id: &'a str,
    pub(super) comment: &'a str,
    pub(super) flags: &'a [&'a str],
    pub(super) clauses: &'a [&'a str],
}

pub(super) fn about<'a>(
    id: &'a str,
    comment: &'a str,
    flags: &'a [&'a str],
    clauses: &'a [&'a str],
) -> About<'a> {
    About { id, comment, flags, clauses }
}

impl Cases {
    pub(super) fn push(
        &mut self,
        group: &'static str,
        about: &About<'_>,
        result: Outcome,
        error: Option<String>,
        weights: Option<&[u16]>,
    ) -> &mut Test {
        self.count += 1;
        let owned = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
        let test = Test {
            tc_id: self.count,
            id: about.id.to_owned(),
            comment: about.comment.to_owned(),
            flags: owned(about.flags),
            clauses: owned(about.clauses),
            result,
            error,
            file: "units.safetensors".to_owned(),
            prefix: about.id.to_owned(),
            elements: weights.map(<[u16]>::len),
            sha256: weights.map(|weights| hex::encode(Sha256::digest(bytes(weights)))),
        };
        let tests = self.tests.entry(group).or_default();
        assert!(tests.iter().all(|other| other.id != test.id), "{} is there twice", test.id);
        tests.push(test);
        tests.last_mut().unwrap()
    }

    pub(super) fn keep(&mut self, about: &About<'_>, parts: &Draft) {
        for (key, tensor) in &parts.0 {
            self.units.insert(format!("{}.{key}", about.id), tensor.clone());
        }
    }

    /// Adds a unit that decodes.
    pub(super) fn sound(
        &mut self,
        group: &'static str,
        about: About<'_>,
        result: Outcome,
        parts: &Draft,
        weights: &[u16],
    ) {
        assert_eq!(parts.verdict().as_deref(), Ok(weights), "{}", about.id);
        self.push(group, &about, result, None, Some(weights));
        if weights.len() <= KEPT {
            self.weights.insert(format!("{}.all", about.id), Tensor::bf16(&[weights.len()], weights));
        }
        self.keep(&about, parts);
    }

    pub(super) fn valid(&mut self, about: About<'_>, tensors: &[Vec<u16>]) -> EncodedUnit {
        let owned: Vec<Vec<u8>> = tensors.iter().map(|tensor| bytes(tensor)).collect();
        let parts: Vec<&[u8]> = owned.iter().map(Vec::as_slice).collect();
        let encoded = EncodeOptions::new().encode(&parts).unwrap();
        self.sound("df11", about, Outcome::Valid, &Draft::new(&encoded.as_slices()), &tensors.concat());
        encoded
    }

    /// Adds a unit with the given code lengths.
    pub(super) fn with_lengths(
        &mut self,
        about: About<'_>,
        weights: &[u16],
        lengths: &[(u8, u8)],
    ) -> EncodedUnit {
        let encoded = encode_with(weights, lengths);
        self.sound("df11", about, Outcome::Valid, &Draft::new(&encoded.as_slices()), weights);
        encoded
    }

    /// Adds a unit that a strict reader may refuse.
    pub(super) fn acceptable(
        &mut self,
        about: About<'_>,
        base: &Draft,
        weights: &[u16],
        change: impl FnOnce(&mut Draft),
    ) {
        let mut parts = base.clone();
        change(&mut parts);
        parts.reshape();
        self.sound("df11", about, Outcome::Acceptable, &parts, weights);
    }

    /// Adds a unit that breaks one of the clauses. If it breaks several, readers may name any of
    /// them.
    pub(super) fn invalid(&mut self, about: About<'_>, base: &Draft, damage: impl FnOnce(&mut Draft)) {
        let mut parts = base.clone();
        damage(&mut parts);
        parts.reshape();
        let Err(error) = parts.verdict() else { panic!("{} is not invalid", about.id) };
        let clause = error.clause().unwrap();
        assert!(about.clauses.contains(&clause), "{}: {clause}: {error}", about.id);
        self.push("df11", &about, Outcome::Invalid, Some(format!("{:?}", error.kind())), None);
        self.keep(&about, &parts);
    }

    pub(super) fn encoder(
        &mut self,
        about: About<'_>,
        tensors: &[Vec<u16>],
        result: Outcome,
        error: Option<&str>,
    ) {
        let all = tensors.concat();
        let test = self.push("encode", &about, result, error.map(str::to_owned), Some(&all));
        test.file = "weights.safetensors".to_owned();
        for (i, tensor) in tensors.iter().enumerate() {
            self.weights.insert(format!("{}.{i}", about.id), Tensor::bf16(&[tensor.len()], tensor));
        }
    }
}

pub(super) fn encode_with(weights: &[u16], lengths: &[(u8, u8)]) -> EncodedUnit {
    let all = bytes(weights);
    let mut frequencies = [0; 256];
    bf16::add_to_histogram(&all, &mut frequencies).unwrap();
    let mut table = [0; 256];
    for &(symbol, length) in lengths {
        table[usize::from(symbol)] = length;
    }
    Plan::with_lengths(&frequencies, 1, &CodeLengths::new(&table).unwrap()).unwrap().encode(&[&all]).unwrap()
}

/// Makes weights whose exponents take two bits each: 32 to a window, 16,384 to a block.
pub(super) fn two_bits(n: usize) -> Vec<u16> {
    with_exponents((0..n).map(|i| 100 + (i % 4) as u8), n as u64)
}
