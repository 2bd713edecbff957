//! Damaged deltas and wrong bases: nothing is read or written where it should not be, and whatever
//! core refuses is refused.

use df11::delta::{Delta, EncodeOptions, Method};
use df11::frame::ElementType;
use df11::hazmat::frame::crc;
use df11_gpu::delta::{DeltaFault, Upload};
use df11_tests::cases;
use df11_tests::weights::Random;

use crate::support::{Change, DELTA, Sample, TYPES, base, changed, come_out, options, run, ways};

fn sample(element_type: ElementType, n: usize, change: Change) -> Sample {
    let base = base(element_type, n, 1);
    let new = changed(element_type, &base, change, 5);
    Sample::new(EncodeOptions::new(), element_type, &new, &base)
}

#[test]
fn one_wrong_base_leaves_all_tensors_as_they_are() {
    let bf16 = ElementType::Bf16;
    let coded = EncodeOptions::new().method(Method::Coded).block(4096);
    let base = base(bf16, 10_000, 1);
    let near = changed(bf16, &base, Change::Near, 5);
    let grown = [&near[..], &base].concat();
    let samples = [
        Sample::new(coded, bf16, &near, &base),
        sample(ElementType::F32, 30_000, Change::Few),
        sample(ElementType::F16, 5_000, Change::None),
        sample(ElementType::U8, 30_000, Change::Far),
        Sample::new(EncodeOptions::new(), bf16, &grown, &base),
    ];
    // The tensor, the byte that is wrong, and what is told.
    let cases =
        [(0, 9_000, 1, "B-5.5"), (0, 19_999, 2, "B-5.5"), (1, 70_000, 0, "B-4.2"), (2, 3, 0, "B-4.1")];
    for (number, (tensor, at, block, clause)) in cases.into_iter().enumerate() {
        for target in 0..4 {
            let mut wrong = samples.clone();
            wrong[tensor].base[at] ^= 0x40;
            let items: Vec<_> = wrong.iter().map(Sample::item).collect();
            let (found, faults) = run(&DELTA[target], &items, 3, 0, &options(number as u64));
            for (i, (found, sample)) in found.iter().zip(&wrong).enumerate() {
                // What a tensor has beyond its base, or without one, is undefined memory here.
                let common =
                    Delta::new(&sample.bytes).unwrap().common() * (found.len() / sample.new.len().max(1));
                let common = common.min(sample.base.len());
                assert!(found[..common] == sample.base[..common], "tensor {i} of case {number} has changed");
                let fault =
                    faults[i].map(|DeltaFault { block, clause, is_lost, .. }| (block, clause, is_lost));
                assert_eq!(fault, (i == tensor).then_some((block, clause, false)), "tensor {i}");
            }
        }
    }
    come_out(2, &samples, 3, 0, 0);
}

/// Where the directory of a delta of method 2 begins.
fn directory(bytes: &[u8]) -> usize {
    let (tables, flags) = (usize::from(bytes[12]), bytes[13]);
    let mut at = 44 + tables - 1;
    for _ in 0..tables + usize::from(flags >> 1) {
        let mut sum = 0;
        while sum < 2048 {
            let first = usize::from(bytes[at]);
            sum += if first < 128 { first } else { (first - 128) << 8 | usize::from(bytes[at + 1]) };
            at += if (1..128).contains(&first) { 1 } else { 2 };
        }
    }
    at + 2 * usize::from(flags & 1)
}

fn field(bytes: &[u8], at: usize) -> usize {
    u32::from_le_bytes(*bytes[at..].first_chunk().unwrap()) as usize
}

/// Makes the checksums of a delta's blocks and of its header right again.
fn seal(bytes: &mut [u8]) {
    let (delta, start) =
        (Delta::new(bytes).map(|delta| (delta.blocks(), delta.element_type().bytes())), directory(bytes));
    let (blocks, size) = delta.unwrap();
    let (low, codes) = (usize::from(bytes[11]), usize::from(bytes[13] >> 1));
    let end = start + 28 * blocks;
    let mut at = (end + 4).next_multiple_of(4);
    for block in 0..blocks {
        let entry = start + 28 * block;
        let [w, v, e, k] = [0, 4, 8, 12].map(|field| self::field(bytes, entry + field));
        let states = if codes == 1 && e > 0 { 256 } else { 128 };
        let len = (states + 2 * (w + v) + (size - codes) * e + low * k).next_multiple_of(4);
        let checksum = crc(block as u32, &bytes[at..at + len]);
        bytes[entry + 16..entry + 20].copy_from_slice(&checksum.to_le_bytes());
        at += len;
    }
    let checksum = crc(0, &bytes[..end]);
    bytes[end..end + 4].copy_from_slice(&checksum.to_le_bytes());
}

#[test]
fn what_core_refuses_is_refused_and_nothing_is_touched_that_should_not_be() {
    let (mut random, mut told) = (Random(21), [0; 2]);
    for round in 0..cases(120) as usize {
        let element_type = TYPES[round % 6];
        let ways = ways(element_type, 4096);
        let way = ways[random.below(ways.len() as u64) as usize];
        let base = base(element_type, 4096 + 1 + random.below(5000) as usize, random.next());
        let change = [Change::Near, Change::Rows, Change::Far][random.below(3) as usize];
        let new = changed(element_type, &base, change, random.next());
        let mut sample = Sample::new(way, element_type, &new, &base);
        let blocks = (directory(&sample.bytes) + 28 * Delta::new(&sample.bytes).unwrap().blocks() + 4)
            .next_multiple_of(4);
        for _ in 0..1 + random.below(3) {
            let rest = (sample.bytes.len() - blocks) as u64;
            let part = [128, rest][random.below(2) as usize];
            let at = blocks + random.below(part.min(rest)) as usize;
            let len = (1 + random.below(40) as usize).min(sample.bytes.len() - at);
            // States stay in their range half of the time, so that more is decoded.
            let mask = if random.below(2) == 0 { 0x0f } else { 0xff };
            sample.bytes[at..at + len].iter_mut().for_each(|byte| *byte ^= random.next() as u8 & mask);
        }
        seal(&mut sample.bytes);
        let expected = Delta::new(&sample.bytes).unwrap().apply(&base);
        let Ok(delta) = Upload::new(&sample.bytes) else {
            assert!(expected.is_err());
            continue;
        };
        let item = df11_gpu_lab::delta::Item { delta, ..sample_item(&sample) };
        let (found, faults) =
            run(&DELTA[round % 4], &[item], 1 + round as u32 % 3, 0, &options(round as u64));
        told[usize::from(faults[0].is_some())] += 1;
        match (expected, faults[0]) {
            (Ok(expected), None) => assert!(found[0] == expected),
            (Err(_), Some(fault)) => assert!(fault.is_lost, "{fault:?}"),
            (expected, fault) => panic!("round {round}: {:?}, {fault:?}", expected.err()),
        }
    }
    assert!(cases(120) < 120 || told[1] > 60, "{told:?}");
}

fn sample_item(sample: &Sample) -> df11_gpu_lab::delta::Item<'_> {
    df11_gpu_lab::delta::Item {
        delta: Upload::new(&sample.bytes).unwrap(),
        base: &sample.base,
        damage: Vec::new(),
    }
}

#[test]
fn numbers_of_a_block_that_do_not_fit_are_refused_or_told() {
    let bf16 = ElementType::Bf16;
    let base = base(bf16, 9_000, 1);
    for (way, escapes) in ways(bf16, 4096).into_iter().zip([false, true].into_iter().cycle()) {
        for change in [Change::Rows, Change::Far] {
            let new = changed(bf16, &base, change, 5);
            let whole = Sample::new(way, bf16, &new, &base);
            let start = directory(&whole.bytes);
            for (number, name) in ["words", "words of escapes", "escapes", "coded"].into_iter().enumerate() {
                for less in [false, true] {
                    let mut sample = whole.clone();
                    let at = start + 4 * number;
                    let value = field(&sample.bytes, at);
                    // Two blocks share what one has more and the other less, so that lengths add
                    // up.
                    let unit = if number == 3 { 64 } else { 4 };
                    let next = field(&sample.bytes, at + 28);
                    if value < unit || next < unit {
                        continue;
                    }
                    let (value, next) =
                        if less { (value - unit, next + unit) } else { (value + unit, next - unit) };
                    sample.bytes[at..at + 4].copy_from_slice(&(value as u32).to_le_bytes());
                    sample.bytes[at + 28..at + 32].copy_from_slice(&(next as u32).to_le_bytes());
                    seal_header(&mut sample.bytes);
                    let Ok(_) = Delta::new(&sample.bytes) else { continue };
                    seal(&mut sample.bytes);
                    assert!(Delta::new(&sample.bytes).unwrap().apply(&base).is_err());
                    let Ok(delta) = Upload::new(&sample.bytes) else { continue };
                    let item = df11_gpu_lab::delta::Item { delta, base: &base, damage: Vec::new() };
                    let (_, faults) = run(&DELTA[number], &[item], 1, 0, &options(number as u64));
                    assert!(faults[0].is_some_and(|fault| fault.is_lost), "{name}, {less}, {escapes}");
                }
            }
        }
    }
}

/// Makes the checksum of the header right again.
fn seal_header(bytes: &mut [u8]) {
    let blocks =
        (u64::from_le_bytes(*bytes[24..].first_chunk().unwrap()) as usize).div_ceil(field(bytes, 32));
    let end = directory(bytes) + 28 * blocks;
    let checksum = crc(0, &bytes[..end]);
    bytes[end..end + 4].copy_from_slice(&checksum.to_le_bytes());
}

#[test]
fn what_changes_on_the_device_after_the_host_has_checked_it_does_no_harm() {
    let mut random = Random(22);
    for round in 0..cases(60) as usize {
        let element_type = TYPES[round % 6];
        let ways = ways(element_type, 4096);
        let way = ways[random.below(ways.len() as u64) as usize];
        let base = base(element_type, 9_000, random.next());
        let change = [Change::Near, Change::Rows, Change::Far][random.below(3) as usize];
        let new = changed(element_type, &base, change, random.next());
        let sample = Sample::new(way, element_type, &new, &base);
        let mut item = sample_item(&sample);
        let len = item.delta.parts()[2].len() as u64;
        let all = random.below(3) == 0;
        item.damage = match all {
            // All bytes but the states' highest, so that blocks begin.
            true => (128..len as usize).map(|at| (at, random.next() as u8 & 0x3f)).collect(),
            false => (0..5).map(|_| (random.below(len) as usize, random.next() as u8)).collect(),
        };
        let (found, faults) = run(&DELTA[round % 4], &[item], 2, 0, &options(round as u64));
        assert!(faults[0].is_some_and(|fault| fault.is_lost) || found[0] == new, "round {round}");
        assert!(!all || faults[0].is_some(), "round {round}");
    }
}

#[test]
fn damage_that_the_host_can_see_is_refused_before_anything_is_uploaded() {
    let samples = [
        sample(ElementType::Bf16, 9_000, Change::Near),
        sample(ElementType::F32, 70_000, Change::Few),
        sample(ElementType::U8, 100, Change::None),
    ];
    let mut random = Random(23);
    for sample in &samples {
        for _ in 0..cases(300) {
            let mut bytes = sample.bytes.clone();
            let at = random.below(bytes.len() as u64) as usize;
            bytes[at] ^= 1 << random.below(8);
            assert!(Upload::new(&bytes).is_err(), "byte {at}");
            bytes.truncate(at);
            assert!(Upload::new(&bytes).is_err(), "{at} bytes");
        }
    }
}
