//! What is applied is what core restores.

use df11::delta::{self, Delta, EncodeOptions, Method};
use df11::frame::{self, Codec, ElementType, Frame};
use df11_tests::cases;
use df11_tests::weights::Random;

use crate::support::{CHANGES, Change, DELTA, Sample, TYPES, base, changed, come_out, options, run, ways};

fn method(sample: &Sample) -> Method {
    Delta::new(&sample.bytes).unwrap().method()
}

#[test]
fn every_way_to_code_every_type_is_applied_for_every_target() {
    for (number, element_type) in TYPES.into_iter().enumerate() {
        let base = base(element_type, 8_613, 1);
        let mut samples = Vec::new();
        for change in [Change::Near, Change::Rows, Change::Far] {
            let new = changed(element_type, &base, change, 5);
            let of_way = |way| Sample::new(way, element_type, &new, &base);
            samples.extend(ways(element_type, 4096).into_iter().map(of_way));
        }
        assert!(samples.iter().all(|sample| method(sample) == Method::Coded));
        let has_map = |sample: &Sample| Delta::new(&sample.bytes).unwrap().has_map();
        assert!(samples.iter().any(has_map) && !samples.iter().all(has_map));
        for target in 0..4 {
            come_out(target, &samples, 1 + (number + target) as u32 % 3, 0, (number + target) as u64);
        }
    }
}

#[test]
fn whatever_was_changed_is_applied_at_any_address_by_any_number_of_thread_blocks() {
    let mut random = Random(31);
    for round in 0..cases(40) as usize {
        let mut samples = Vec::new();
        // All begin as many bytes after a multiple of 256.
        let skipped = [0, 4, 16, 8, 12][round % 5];
        for _ in 0..1 + random.below(5) {
            let element_type = TYPES[random.below(6) as usize];
            let most = [2, 70, 5000, 9000, 20_000][random.below(5) as usize];
            let base = base(element_type, 1 + random.below(most) as usize, random.next());
            let change = CHANGES[random.below(5) as usize];
            let mut new = changed(element_type, &base, change, random.next());
            if random.below(3) == 0 {
                new.extend(self::base(element_type, random.below(9000) as usize, random.next()));
            } else if random.below(3) == 0 {
                new.truncate(new.len() / element_type.bytes() / 2 * element_type.bytes());
            }
            samples.push(Sample::new(EncodeOptions::new(), element_type, &new, &base));
        }
        come_out(round % 4, &samples, 1 + random.below(4) as u32, skipped, round as u64);
    }
}

#[test]
fn elements_at_addresses_that_no_wide_access_suits_are_applied_as_well() {
    for element_type in TYPES {
        let size = element_type.bytes();
        let base = base(element_type, 5_000, 3);
        let samples = [Change::Near, Change::Few].map(|change| {
            let new = changed(element_type, &base, change, 9);
            Sample::new(EncodeOptions::new(), element_type, &new, &base)
        });
        for skipped in [size, 3 * size, 7 * size] {
            come_out(skipped % 4, &samples, 2, skipped, skipped as u64);
        }
    }
}

#[test]
fn maps_of_long_blocks_are_applied() {
    let element_type = ElementType::Bf16;
    let base = base(element_type, 300_100, 3);
    let mut new = base.clone();
    // Chunks that are coded at both ends of steps, and of 32 steps.
    for chunk in [0, 31, 32, 1000, 1023, 1024, 1055, 1056, 2047, 2048, 3000, 4096, 4688, 4689] {
        new[128 * chunk + 2] ^= 1;
    }
    let samples = [1 << 16, (1 << 16) + 64, 1 << 17, 1 << 18, 1 << 20].map(|block| {
        let way = EncodeOptions::new().method(Method::Coded).block(block).map(true);
        Sample::new(way, element_type, &new, &base)
    });
    assert!(samples.iter().all(|sample| Delta::new(&sample.bytes).unwrap().has_map()));
    for target in 0..4 {
        come_out(target, &samples, 1 + target as u32, 0, target as u64);
    }
}

#[test]
fn every_method_is_applied() {
    for element_type in TYPES {
        let base = base(element_type, 6_001, 7);
        let of = |change, method| {
            let new = changed(element_type, &base, change, 11);
            Sample::new(EncodeOptions::new().method(method), element_type, &new, &base)
        };
        let samples = [
            of(Change::None, Method::Same),
            of(Change::Few, Method::List),
            // Entries for all elements.
            of(Change::Far, Method::List),
            of(Change::Near, Method::Coded),
            of(Change::Near, Method::Frame),
            of(Change::Far, Method::Frame),
        ];
        let methods = [Method::Same, Method::List, Method::List, Method::Coded, Method::Frame, Method::Frame];
        assert_eq!(samples.each_ref().map(method), methods, "{element_type:?}");
        for target in 0..4 {
            come_out(target, &samples, 3, 0, target as u64);
        }
    }
}

#[test]
fn tensors_grow_and_shrink_and_may_be_empty_or_one_element() {
    for element_type in TYPES {
        let size = element_type.bytes();
        let base = base(element_type, 9_000, 7);
        let near = changed(element_type, &base, Change::Near, 11);
        let more = self::base(element_type, 20_000, 8);
        let other = changed(element_type, &more, Change::Far, 12);
        let way = EncodeOptions::new();
        let sample = |new: &[u8], base: &[u8]| Sample::new(way, element_type, new, base);
        let grown = sample(&[&near[..], &more].concat(), &base);
        let grown_by_noise = sample(&[&base[..], &other[..size * 77]].concat(), &base);
        let codec = |sample: &Sample| {
            let at = sample.bytes.windows(8).position(|bytes| bytes == frame::MAGIC).unwrap();
            Frame::new(&sample.bytes[at..]).unwrap().header().codec()
        };
        assert_eq!([codec(&grown), codec(&grown_by_noise)], [Codec::Rans, Codec::Raw], "{element_type:?}");
        let samples = [
            grown,
            grown_by_noise,
            sample(&near[..size * 4_200], &base),
            sample(&near[..size], &base[..size]),
            sample(&more[..size], &base[..size]),
            sample(&base[..size], &base),
            sample(&[], &base),
            sample(&[], &[]),
            sample(&base, &[]),
            sample(&base[..size], &[]),
        ];
        for target in 0..4 {
            come_out(target, &samples, 2, 0, target as u64);
        }
    }
}

#[test]
fn nothing_is_launched_for_nothing() {
    let (found, faults) = run(&DELTA[2], &[], 4, 0, &options(0));
    assert!(found.is_empty() && faults.is_empty());
    let bytes = delta::encode(ElementType::F32, &[], &[]).unwrap();
    let sample = Sample { bytes, base: Vec::new(), new: Vec::new() };
    come_out(2, &[sample], 1, 0, 0);
}
