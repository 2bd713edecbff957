//! A decoder and an encoder with a chosen fault, for the tests of the judge: `faulty FAULT INPUT
//! OUTPUT`. With `none` they are right. Decoders always refuse invalid input, so that only the
//! fault shows.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "a program that is meant to be bad"
)]

use std::collections::BTreeMap;
use std::fs;

use bitvec::prelude::*;
use df11_tests::{foreign, weights};
use half::bf16;
use safetensors::tensor::{Dtype, TensorView};
use safetensors::{SafeTensors, serialize};

fn main() {
    let args: Vec<String> = std::env::args().collect();
    let [_, fault, input, output] = args.as_slice() else { panic!("usage: faulty FAULT INPUT OUTPUT") };
    let bytes = fs::read(input).unwrap();
    if fault.starts_with("frame") {
        return decode_frame(fault, &bytes, output);
    }
    let file = SafeTensors::deserialize(&bytes).unwrap();
    if fault.starts_with("encode") {
        encode(fault, &file, output);
    } else {
        decode(fault, &file, output);
    }
}

fn decode_frame(fault: &str, frame: &[u8], output: &str) {
    let mut elements = match (df11_reference::frame::decode(frame), fault) {
        (Ok(tensor), _) => tensor.elements,
        (Err(_), "frame-takes-anything") => vec![0; 10],
        (Err(violation), _) => refuse(&violation.to_string()),
    };
    if fault == "frame-stops-early" {
        elements.pop();
    }
    fs::write(output, elements).unwrap();
}

fn refuse(why: &str) -> ! {
    eprintln!("refused: {why}");
    std::process::exit(1);
}

fn decode(fault: &str, file: &SafeTensors<'_>, output: &str) {
    let part = |key: &str| match file.tensor(&format!("unit.{key}")) {
        Ok(view)
            if (view.dtype() == Dtype::I64) == (key == "split_positions") && view.dtype() != Dtype::I8 =>
        {
            view.data().to_vec()
        }
        _ => refuse("D-10.2"),
    };
    let unit = df11_reference::Unit {
        luts: part("luts"),
        encoded_exponent: part("encoded_exponent"),
        sign_mantissa: part("sign_mantissa"),
        output_positions: part("output_positions"),
        gaps: part("gaps"),
        split_positions: part("split_positions"),
    };
    let sound = df11_reference::decode(&unit).unwrap_or_else(|violation| refuse(&violation.to_string()));
    let mut sound: Vec<u16> = sound.iter().map(|w| w.to_bits()).collect();
    let n = sound.len();
    match fault {
        "none" => {}
        "stops-early" => sound[n - 1] &= 0x807f,
        "crashes-on-short-positions" => {
            let blocks = unit.encoded_exponent.len().div_ceil(4096);
            let last = &unit.output_positions[4 * blocks..][..4];
            assert_eq!(u32::from_le_bytes(last.try_into().unwrap()) as usize, n);
        }
        "never-ends-on-jumps" if unit.luts.len() > 512 => loop {
            std::thread::sleep(std::time::Duration::from_secs(1));
        },
        "never-ends-on-jumps" => {}
        "ignores-jumps" => {
            let code = unit.encoded_exponent.view_bits::<Msb0>();
            let mut p = 0;
            for weight in &mut sound {
                let index =
                    (0..8).fold(0, |i, j| 2 * i + usize::from(code.get(p + j).is_some_and(|bit| *bit)));
                let symbol = unit.luts[index];
                *weight = *weight & 0x807f | u16::from(symbol) << 7;
                p += usize::from(unit.luts[unit.luts.len() - 256 + usize::from(symbol)]).max(1);
            }
        }
        "gaps-lsb-first" => {
            let gaps = unit.gaps.view_bits::<Msb0>();
            let code = unit.encoded_exponent.view_bits::<Msb0>();
            let lengths = &unit.luts[unit.luts.len() - 256..];
            let mut exponents = Vec::new();
            for window in 0..unit.encoded_exponent.len().div_ceil(8) {
                let gap = (0..5).fold(0, |gap, bit| gap + (usize::from(gaps[5 * window + bit]) << bit));
                let mut p = 64 * window + gap;
                while p < 64 * (window + 1) {
                    let byte = |d: usize| {
                        (0..8).fold(0, |i, j| {
                            2 * i + usize::from(code.get(p + 8 * d + j).is_some_and(|bit| *bit))
                        })
                    };
                    let (mut value, mut depth) = (unit.luts[byte(0)], 0);
                    while value >= 240 && depth < 3 {
                        depth += 1;
                        value = unit.luts[256 * (256 - usize::from(value)) + byte(depth)];
                    }
                    exponents.push(value);
                    p += usize::from(lengths[usize::from(value)]).max(1);
                }
            }
            exponents.resize(n, 0);
            for (weight, exponent) in sound.iter_mut().zip(exponents) {
                *weight = *weight & 0x807f | u16::from(exponent) << 7;
            }
        }
        _ => panic!("no fault {fault}"),
    }
    fs::write(output, weights::bytes(&sound)).unwrap();
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
        Err(violation) => refuse(&violation.to_string()),
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
