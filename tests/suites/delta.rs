//! Laws of deltas: agreement with the reference, on every level, and what damage and wrong bases
//! do.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests")]

use df11::delta::{DecodeTable, Delta, EncodeOptions, Method, encode};
use df11::frame::{self, ElementType};
use df11::{Error, ErrorKind, Level};
use df11_reference::delta as reference;
use df11_tests::weights::Random;

/// A base like trained weights of a type, and elements near to it: `near` in 256 are others, some
/// of them far away; every fourth run of 64 is the same.
fn pair(element_type: ElementType, n: usize, near: u64, seed: u64) -> (Vec<u8>, Vec<u8>) {
    let mut random = Random(seed);
    let size = element_type.bytes();
    let (mut base, mut new) = (Vec::new(), Vec::new());
    for i in 0..n {
        let exponent = 90 + (random.next() & random.next() & 31);
        let low = random.next();
        let b = match element_type {
            ElementType::Bf16 => exponent << 7 | low & 0x807f,
            ElementType::F16 => (exponent & 31) << 10 | low & 0x83ff,
            ElementType::F32 => exponent << 23 | low & 0x807f_ffff,
            _ => low & random.next() & 0xff,
        };
        let is_other = random.below(256) < near && i / 64 % 4 > 0;
        let step = if random.below(40) == 0 { random.next() } else { random.below(9) + 1 };
        let r = if is_other { b.wrapping_add(step) } else { b };
        base.extend(&b.to_le_bytes()[..size]);
        new.extend(&r.to_le_bytes()[..size]);
    }
    (base, new)
}

fn levels(delta: &[u8], base: &[u8], new: &[u8]) {
    let delta = Delta::new(delta).unwrap();
    for level in Level::all() {
        let mut table = Box::new(DecodeTable::new());
        table.set_level(level);
        let mut out = vec![0xa5; new.len()];
        delta.apply_in(&mut table, base, &mut out).unwrap();
        assert!(out == new, "{level}");
        let common = delta.common() * delta.element_type().bytes();
        out[..common].copy_from_slice(&base[..common]);
        delta.apply_in_place(&mut table, &mut out).unwrap();
        assert!(out == new, "{level}, in place");
    }
}

#[test]
fn every_method_gives_the_bytes_of_the_reference_and_comes_back_on_every_level() {
    for element_type in ElementType::ALL {
        let size = element_type.bytes();
        for n in [64, 65, 4096, 9000] {
            for near in [0, 3, 200] {
                let (base, new) = pair(element_type, n, near, n as u64 + near);
                for (map, escapes, raw) in [(false, false, 0), (true, true, size - 1), (false, true, 0)] {
                    let options = EncodeOptions::new().method(Method::Coded).block(4096).map(map);
                    let options = options.escapes(escapes).low_part(raw);
                    let delta = options.encode(element_type, &new, &base).unwrap();
                    levels(&delta, &base, &new);
                    for level in Level::all() {
                        assert!(options.level(level).encode(element_type, &new, &base).unwrap() == delta);
                    }
                    let map = Delta::new(&delta).unwrap().has_map();
                    let method = reference::Method::Coded { m: raw, block: 4096, map, escapes };
                    let theirs = reference::encode(element_type.number(), &new, &base, n, method).unwrap();
                    assert!(theirs == delta, "{element_type:?} {n} {near} {map} {escapes} {raw}");
                    assert_eq!(reference::decode(&delta, &base).unwrap().1, new);
                }
                let list = EncodeOptions::new().method(Method::List);
                let list = list.encode(element_type, &new, &base).unwrap();
                let theirs = reference::Method::List;
                let theirs = reference::encode(element_type.number(), &new, &base, n, theirs).unwrap();
                assert!(theirs == list);
                levels(&list, &base, &new);
            }
        }
    }
}

#[test]
fn the_shortest_is_never_longer_than_a_frame_and_its_header() {
    for element_type in ElementType::ALL {
        for near in [0, 1, 20, 256] {
            let (base, new) = pair(element_type, 70_000, near, 5);
            let delta = encode(element_type, &new, &base).unwrap();
            let frame = frame::encode(element_type, &[70_000], &new).unwrap();
            assert!(delta.len() <= frame.len() + 40, "{element_type:?} {near}");
            levels(&delta, &base, &new);
            // Of another tensor, nothing is gained.
            let (other, _) = pair(element_type, 70_000, 0, 99);
            let delta = encode(element_type, &new, &other).unwrap();
            assert!(delta.len() <= frame.len() + 40, "{element_type:?} {near}");
            levels(&delta, &other, &new);
        }
    }
}

#[test]
fn any_range_of_grown_and_shrunk_tensors_comes_back() {
    let (base, new) = pair(ElementType::Bf16, 30_000, 30, 3);
    let (grown, shrunk) = (&base[..40_000], &base);
    for (base, new) in [(grown, &new[..]), (&shrunk[..], &new[..20_002])] {
        let options = EncodeOptions::new().method(Method::Coded).block(8192);
        let bytes = options.encode(ElementType::Bf16, new, base).unwrap();
        let delta = Delta::new(&bytes).unwrap();
        assert_eq!(delta.common(), new.len().min(base.len()) / 2);
        levels(&bytes, base, new);
        let mut table = Box::new(DecodeTable::new());
        delta.build(&mut table).unwrap();
        let mut random = Random(1);
        for _ in 0..200 {
            let end = random.below(delta.len() as u64 + 1) as usize;
            let start = random.below(end as u64 + 1) as usize;
            let mut out = vec![0; 2 * (end - start)];
            delta.apply_range_in(&table, base, start..end, &mut out).unwrap();
            assert!(out == new[2 * start..2 * end], "{start}..{end}");
        }
    }
}

#[test]
fn a_wrong_base_is_refused_and_left_as_it_was() {
    let (base, new) = pair(ElementType::Bf16, 20_000, 5, 8);
    let coded = EncodeOptions::new().method(Method::Coded).block(4096);
    let mut random = Random(4);
    let mut table = Box::new(DecodeTable::new());
    for (options, new) in [
        (coded, &new),
        (coded.map(true), &new),
        (EncodeOptions::new().method(Method::List), &new),
        (EncodeOptions::new().method(Method::Same), &base),
    ] {
        let bytes = options.encode(ElementType::Bf16, new, &base).unwrap();
        let delta = Delta::new(&bytes).unwrap();
        for _ in 0..300 {
            let mut wrong = base.clone();
            let at = random.below(wrong.len() as u64) as usize;
            wrong[at] ^= 1 << random.below(8);
            let error = delta.apply(&wrong).unwrap_err();
            assert!(matches!(error, Error::DeltaBase { .. }), "{error}");
            let before = wrong.clone();
            delta.apply_in_place(&mut table, &mut wrong).unwrap_err();
            assert!(wrong == before);
        }
        assert!(matches!(delta.apply(&base[2..]), Err(Error::BufferLength { .. })));
    }
}

/// How many damaged deltas are tried: `DF11_DAMAGED`, or some thousands.
fn trials() -> u64 {
    std::env::var("DF11_DAMAGED").map_or(6000, |number| number.parse().unwrap())
}

#[test]
fn damage_is_always_noticed() {
    let mut samples = Vec::new();
    for element_type in [ElementType::Bf16, ElementType::F32, ElementType::F8E4M3] {
        let (base, new) = pair(element_type, 5000, 40, 6);
        for (method, map, escapes) in [
            (Method::Coded, false, false),
            (Method::Coded, true, true),
            (Method::List, false, false),
            (Method::Frame, false, false),
        ] {
            let options = EncodeOptions::new().method(method).block(4096).map(map).escapes(escapes);
            samples.push((options.encode(element_type, &new, &base).unwrap(), base.clone()));
        }
        samples.push((encode(element_type, &base, &base).unwrap(), base));
    }
    let mut random = Random(11);
    for trial in 0..trials() {
        let (delta, base) = &samples[random.below(samples.len() as u64) as usize];
        let mut damaged = delta.clone();
        match trial % 5 {
            0 | 1 => {
                let at = random.below(damaged.len() as u64) as usize;
                damaged[at] ^= 1 << random.below(8);
            }
            2 => damaged.truncate(random.below(damaged.len() as u64) as usize),
            3 => damaged.push(random.next() as u8),
            _ => {
                // A run of bytes from elsewhere.
                let len = 1 + random.below(64) as usize;
                let last = (damaged.len() - len.min(damaged.len())) as u64 + 1;
                let (from, to) = (random.below(last) as usize, random.below(last) as usize);
                let end = (from + len).min(damaged.len());
                damaged.copy_within(from..end, to);
            }
        }
        if &damaged == delta {
            continue;
        }
        let result = Delta::new(&damaged).and_then(|delta| delta.apply(base));
        // The digest of a frame is not what decoding compares (F-6.3).
        let is_frame = delta[10] == Method::Frame.number();
        let before = || Delta::new(delta).unwrap().apply(base).unwrap();
        assert!(result.is_err() || (is_frame && result.unwrap() == before()), "trial {trial}");
    }
}

/// A sum of crafted headers must not lead to allocation, long loops or a panic.
#[test]
fn forged_deltas_whose_checksums_are_right_never_panic() {
    let (base, new) = pair(ElementType::Bf16, 9000, 60, 6);
    let mut random = Random(77);
    for (map, escapes) in [(false, false), (true, true)] {
        let options = EncodeOptions::new().method(Method::Coded).block(4096).map(map).escapes(escapes);
        let delta = options.encode(ElementType::Bf16, &new, &base).unwrap();
        let blocks = 3 * 28;
        // The header ends before the first block, whose checksum is the fifth field of its entry.
        let header = (44..delta.len() - 4)
            .find(|at| delta[*at..at + 4] == frame_crc(0, &delta[..*at]).to_le_bytes())
            .unwrap();
        for _ in 0..trials() / 4 {
            let mut forged = delta.clone();
            let at = 8 + random.below(forged.len() as u64 - 8) as usize;
            forged[at] = random.next() as u8;
            let mut start = (header + 4).next_multiple_of(4);
            for block in 0..3 {
                let entry = header - blocks + 28 * block;
                let field = |i: usize| u32::from_le_bytes(forged[entry + 4 * i..][..4].try_into().unwrap());
                let [w, v, e] = [0, 1, 2].map(|i| field(i) as usize);
                let each = if escapes { 1 } else { 2 };
                let len = if escapes && e > 0 { 256 } else { 128 } + 2 * w + 2 * v + each * e;
                let end = start.saturating_add(len.next_multiple_of(4)).min(forged.len());
                let crc = frame_crc(block as u32, &forged[start.min(end)..end]);
                forged[entry + 16..entry + 20].copy_from_slice(&crc.to_le_bytes());
                start = end;
            }
            let check = frame_crc(0, &forged[..header]);
            forged[header..header + 4].copy_from_slice(&check.to_le_bytes());
            if let Err(error) = Delta::new(&forged).and_then(|delta| delta.apply(&base)) {
                assert_ne!(error.kind(), ErrorKind::Internal, "{error}");
            }
        }
    }
}

fn frame_crc(seed: u32, bytes: &[u8]) -> u32 {
    df11::hazmat::frame::crc(seed, bytes)
}

#[test]
fn swapped_blocks_are_noticed() {
    let (base, _) = pair(ElementType::Bf16, 8192, 0, 6);
    let base = [&base[..8192], &base[..8192]].concat();
    let mut new = base.clone();
    new.iter_mut().step_by(20).for_each(|byte| *byte ^= 1);
    let options = EncodeOptions::new().method(Method::Coded).block(4096).map(false);
    let delta = options.encode(ElementType::Bf16, &new, &base).unwrap();
    assert!(Delta::new(&delta).unwrap().apply(&base).is_ok());
    let blocks = delta.len() - (delta.len() % 8);
    let mut swapped = delta.clone();
    let half = (delta.len() - 200) / 2;
    swapped[blocks - 2 * half..].rotate_left(half);
    assert!(Delta::new(&swapped).and_then(|delta| delta.apply(&base)).is_err());
}

#[test]
fn the_vectors_are_those_that_the_generator_makes() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../spec/vectors/delta.json");
    let there = std::fs::read_to_string(path).unwrap();
    let made = df11_tests::delta_vectors::generate();
    assert!(there == made, "spec/vectors/delta.json: run `cargo run -p df11-tests --bin vectors`");
}
