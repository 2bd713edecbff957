//! Frames of codec dictionary for `spec/vectors/frames.json`.

use std::collections::BTreeMap;

use df11::frame::ElementType;
use df11::hazmat::dictionary::{Model, Width};
use df11_reference::dictionary as reference;
use df11_reference::frame::{Coding, Tensor, crc, encode, encode_as};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::frame_sample::FrameSample;
use crate::frame_vectors::test;
use crate::weights::{bytes, like_trained};

fn tensor(element_type: ElementType, elements: &[u8]) -> Tensor {
    let n = elements.len() / element_type.bytes();
    Tensor { element_type: element_type.number(), shape: vec![n as u64], elements: elements.to_vec() }
}

fn u8s(n: usize) -> Vec<u8> {
    (0..n).map(|i| 100 + (i * i % 7) as u8).collect()
}

/// Makes a model of seven symbols, whose costs do not follow their frequencies.
fn model(w: u32, l: u64, r: usize) -> reference::Model {
    let costs: BTreeMap<u8, (u64, u64)> =
        (100..107).map(|s| (s, (160 - u64::from(s), 3 + u64::from(s) % 4))).collect();
    reference::Model { w, costs, l, r }
}

/// Valid frames: name, comment, flag, what they hold, and their bytes.
pub(crate) fn valid() -> Vec<(String, &'static str, &'static str, Tensor, Vec<u8>)> {
    let mut frames = Vec::new();
    let mut written = |id: String, comment, flag, tensor: Tensor| {
        let frame = encode(&tensor, 3).unwrap();
        frames.push((id, comment, flag, tensor, frame));
    };
    let trained = bytes(&like_trained(1200, 1));
    for element_type in ElementType::ALL {
        let id = format!("{}-dictionary", element_type.name().to_lowercase());
        written(
            id,
            "coded bytes by a dictionary",
            "ElementType",
            tensor(element_type, &trained[..600 * element_type.bytes()]),
        );
    }
    for n in [1, 7, 8, 9, 4095, 4096, 4097] {
        let comment = "a number of symbols around those of strings, groups and chunks";
        written(format!("dictionary-{n}"), comment, "Size", tensor(ElementType::U8, &u8s(n)));
    }
    let comment = "an alphabet of one symbol: seven strings, and other numbers stand for the first";
    written("dictionary-one-symbol".to_owned(), comment, "Alphabet", tensor(ElementType::U8, &[255; 500]));
    let every: Vec<u8> = (0..1024).map(|i| (i % 256) as u8).collect();
    let comment = "all 256 symbols: with 8 bits, no string has two";
    written("dictionary-every-symbol".to_owned(), comment, "Alphabet", tensor(ElementType::U8, &every));
    let nan: Vec<u8> = (0..64).flat_map(|i| (0x7f80u16 + i).to_le_bytes()).collect();
    let comment = "infinity and NaN with payloads";
    written("dictionary-nan".to_owned(), comment, "Special", tensor(ElementType::Bf16, &nan));

    let some = tensor(ElementType::U8, &u8s(5000));
    for (id, comment, model) in [
        ("dictionary-12-bits", "codes of 12 bits, costs of its own, blocks of one chunk", model(12, 70, 273)),
        ("dictionary-ties", "of the strings of the highest cost, some are in", model(8, 64, 3)),
        (
            "dictionary-symbol-at-limit",
            "a string of one symbol costs one more than the limit, and takes nothing of the remainder",
            model(8, 59, 2),
        ),
        ("dictionary-no-remainder", "no string costs more than the limit", model(8, 64, 0)),
        ("dictionary-large-remainder", "all strings that cost one more are in", model(8, 63, 65535)),
        ("dictionary-no-limit", "strings of one symbol alone", model(12, 0, 0)),
    ] {
        let frame = encode_as(&some, &Coding::Dictionary(model), 4096).unwrap();
        frames.push((id.to_owned(), comment, "Field", some.clone(), frame));
    }
    // Ten symbols 255: seven, two, and one by a number that is that of no string.
    let ten = tensor(ElementType::U8, &[255; 10]);
    let frame = of_ten(&[6, 1, 7]);
    let comment = "an alphabet of one symbol, and the number after that of the last string";
    frames.push(("dictionary-number-of-none".to_owned(), comment, "Alphabet", ten, frame));
    // Planes over several blocks.
    let trained = bytes(&like_trained(18_000, 1));
    for element_type in [ElementType::F32, ElementType::Bf16] {
        let some = tensor(element_type, &trained[..9000 * element_type.bytes()]);
        let coded = df11::frame::count(element_type, &some.elements).unwrap();
        let coding = Coding::Dictionary(reference::Model::of_counts(&coded, 12));
        let frame = encode_as(&some, &coding, 4096).unwrap();
        let id = format!("blocks-{}-dictionary", element_type.name().to_lowercase());
        frames.push((id, "three blocks", "Blocks", some, frame));
    }
    frames
}

/// The frame of ten symbols 255, with these codes in place of those that it has.
fn of_ten(codes: &[u8]) -> Vec<u8> {
    let mut sample = FrameSample::new(encode(&tensor(ElementType::U8, &[255; 10]), 3).unwrap());
    let at = sample.blocks[0];
    sample.put(at, codes);
    sample.repair()
}

/// A frame of ten symbols whose alphabet has none, with everything else right: a chunk of one
/// group, whose codes are 0.
fn of_no_alphabet() -> Vec<u8> {
    let mut frame = of_ten(&[6, 1, 0])[..40].to_vec();
    frame.extend([0; 32 + 4]);
    frame.extend(crc(0, &frame).to_le_bytes());
    frame.extend([&[1, 0][..], &[0; 14], &[0; 16]].concat());
    let mut end = [&96u64.to_le_bytes()[..], &crc(0, &[1, 0, 0, 0, 0, 0, 0, 0, 0, 0]).to_le_bytes()].concat();
    end.extend([&112u64.to_le_bytes()[..], &1u64.to_le_bytes(), &[0; 4]].concat());
    end.extend(crc(0, &end).to_le_bytes());
    [frame, end].concat()
}

/// A frame that breaks a rule: its name, a comment, the rule, and its bytes.
pub(crate) type Invalid = (&'static str, &'static str, &'static str, Vec<u8>);

/// Invalid frames: name, comment, the clause that they break, and their bytes.
pub(crate) fn invalid() -> Vec<Invalid> {
    let trained = bytes(&like_trained(1200, 1));
    // The last group of this frame is not full, and padding follows it.
    let of = |n: usize| FrameSample::new(encode(&tensor(ElementType::Bf16, &trained[..2 * n]), 3).unwrap());
    let sound = (1100..1200).map(of).find(|sample| {
        let groups = sample.groups.clone().unwrap().start;
        let is_odd = sample.frame[groups] % 2 == 1;
        is_odd && sample.frame[sample.blocks[0] + 8 * usize::from(sample.frame[groups]) - 2..][..2] == [0, 0]
    });
    let sound = sound.unwrap();
    let (groups, codes) = (sound.groups.clone().unwrap().start, sound.blocks[0]);
    let directory = sound.blocks[1];
    let number = usize::from(u16::from_le_bytes([sound.frame[groups], sound.frame[groups + 1]]));
    let k = sound.frame[40..72].iter().map(|marks| marks.count_ones() as usize).sum::<usize>();
    let (costs, limit) = (40 + 32, 40 + 32 + 2 * k);
    let end = sound.frame.len();
    let mut frames = Vec::new();
    let mut with = |id, comment, clause, at: usize, value: &[u8]| {
        let mut sample = sound.clone();
        sample.put(at, value);
        frames.push((id, comment, clause, sample.repair()));
    };
    with("dictionary-width", "codes of 10 bits", "F-3.1", 12, &[10]);
    with("dictionary-codec", "codec rANS with a dictionary", "F-3.3", 10, &[1]);
    with("dictionary-block-size", "blocks that are no whole chunks", "F-3.3", 24, &4160u32.to_le_bytes());
    with("dictionary-cost", "a cost of 0", "F-3.3", costs + k, &[0]);
    with("dictionary-limit", "a limit by which there are too many strings", "V-2.5", limit, &[0xff, 0xff]);
    with("dictionary-groups-0", "a chunk without groups", "F-5.5", groups, &[0, 0]);
    with("dictionary-groups-513", "a chunk of 513 groups", "F-5.5", groups, &513u16.to_le_bytes());
    let more = (number as u16 + 3).to_le_bytes();
    with("dictionary-groups", "more groups than there are codes", "F-5.8", groups, &more);
    with("dictionary-padding-before", "padding before a plane is not 0", "F-1.2", groups + 2, &[1]);
    with("dictionary-padding-after", "padding after the codes is not 0", "F-1.2", directory - 1, &[1]);
    with(
        "dictionary-offset",
        "the offset of a block is another",
        "F-6.1",
        directory,
        &[sound.frame[directory] ^ 16],
    );
    with("dictionary-code", "all codes of a group are 0", "V-3.3", codes, &[0; 8]);
    let last = codes + 8 * number - 1;
    with("dictionary-padding-code", "a code after the last is not 0", "V-3.3", last, &[1]);
    let count = end - 24 + 8;
    with("dictionary-blocks", "the trailer counts another number of blocks", "F-6.2", count, &[2]);

    let mut raw = sound.clone();
    raw.put(codes - 20, &[!raw.frame[codes - 20]]);
    let comment = "a byte of a plane is another";
    frames.push(("dictionary-block-checksum", comment, "F-5.8", raw.frame));
    frames.push((
        "dictionary-truncated",
        "the last byte is missing",
        "F-6.2",
        sound.frame[..end - 1].to_vec(),
    ));
    let empty = [&sound.frame[..40], &[0; 36]].concat();
    let empty = [&empty[..], &crc(0, &empty).to_le_bytes(), &[0; 100]].concat();
    let mut crc_alone = |id, comment, clause, at: usize| {
        let mut frame = sound.frame.clone();
        frame[at] ^= 1;
        frames.push((id, comment, clause, frame));
    };
    let comment = "only the trailer's checksum is wrong";
    crc_alone("dictionary-crc-of-trailer", comment, "F-6.2", end - 1);
    let at = (limit + 4).next_multiple_of(4);
    crc_alone("dictionary-crc-of-header", "only the header's checksum is wrong", "F-3.1", at);
    let mut other = sound.frame.clone();
    other[directory + 8] ^= 1;
    let checksum = crc(0, &other[directory..end - 4]);
    other[end - 4..].copy_from_slice(&checksum.to_le_bytes());
    let comment = "only the checksum in the directory is wrong";
    frames.push(("dictionary-crc-in-directory", comment, "F-5.8", other));
    frames.push(("dictionary-no-alphabet", "an alphabet of no symbols", "F-3.3", empty));

    frames.extend(invalid_models());
    frames.extend(wrong_groups());
    frames
}

/// Makes frames whose dictionary, or a chunk under it, breaks a rule.
fn invalid_models() -> Vec<Invalid> {
    let mut frames = Vec::new();
    let comment = "the last string goes on behind the last symbol";
    frames.push(("dictionary-string-too-long", comment, "V-3.3", of_ten(&[6, 6])));
    let mut free = FrameSample::new(of_ten(&[6, 1, 0]));
    free.put(40 + 32 + 1, &[0]);
    let comment = "a following cost of 0, by which the strings are the same";
    frames.push(("dictionary-following-cost-0", comment, "F-3.3", free.repair()));
    let comment = "an alphabet of no symbols, and a chunk of codes 0";
    frames.push(("dictionary-no-alphabet-and-codes", comment, "F-3.3", of_no_alphabet()));
    // Symbol 103 does not occur, and its strings are the last.
    let some = tensor(ElementType::U8, &u8s(500));
    let coding = Coding::Dictionary(model(12, 8, 0));
    let mut free = FrameSample::new(encode_as(&some, &coding, 4096).unwrap());
    free.put(40 + 32 + 3, &[0]);
    let comment = "a first cost of 0 of a symbol that does not occur";
    frames.push(("dictionary-first-cost-0", comment, "F-3.3", free.repair()));
    let coding = Coding::Dictionary(model(10, 8, 0));
    let wide = encode_as(&tensor(ElementType::U8, &u8s(500)), &coding, 4096).unwrap();
    frames.push(("dictionary-width-10", "codes of 10 bits, and all else for them", "F-3.1", wide));
    // One string more than codes of 8 bits can number, behind those that are used.
    let mut counts = [0; 256];
    u8s(5000).iter().for_each(|symbol| counts[usize::from(*symbol)] += 1);
    let model = reference::Model::of_counts(&counts, 8);
    let first = model.costs.iter().min_by_key(|(symbol, costs)| (costs.1, **symbol)).unwrap();
    let some = tensor(ElementType::U8, &[*first.0; 100]);
    let mut full = FrameSample::new(encode_as(&some, &Coding::Dictionary(model.clone()), 4096).unwrap());
    let remainder = 40 + 32 + 2 * model.costs.len() + 2;
    full.put(remainder, &(model.r as u16 + 1).to_le_bytes());
    frames.push(("dictionary-257-strings", "257 strings, for codes of 8 bits", "V-2.5", full.repair()));
    frames
}

/// Makes frames that have one group more or less, in place of padding that is as long.
fn wrong_groups() -> Vec<Invalid> {
    let mut frames = Vec::new();
    for (id, comment, is_odd) in [
        ("dictionary-group-too-many", "a group of zeros more than is needed", true),
        ("dictionary-group-missing", "a group less than is needed", false),
    ] {
        let of = |n: usize| FrameSample::new(encode(&tensor(ElementType::U8, &u8s(n)), 3).unwrap());
        let at = |sample: &FrameSample| sample.groups.clone().unwrap().start;
        let mut samples = (30..500).step_by(10).map(of);
        let mut sample = samples.find(|sample| (sample.frame[at(sample)] % 2 == 1) == is_odd).unwrap();
        let groups = at(&sample);
        let (number, codes) = (sample.frame[groups], sample.blocks[0]);
        if is_odd {
            sample.put(groups, &[number + 1]);
        } else {
            sample.put(groups, &[number - 1]);
            sample.put(codes + 8 * (usize::from(number) - 1), &[0; 8]);
        }
        frames.push((id, comment, "V-3.3", sample.repair()));
    }
    frames
}

/// Makes dictionaries, with the counts that they are made from.
pub(crate) fn dictionaries() -> Vec<Value> {
    let mut dictionaries = Vec::new();
    let mut of = |id: &str, comment: &str, counts: &[(u8, u64)], width: Width| {
        let mut all = [0; 256];
        counts.iter().for_each(|(symbol, count)| all[usize::from(*symbol)] = *count);
        let model = Model::of_counts(&all, width).unwrap();
        let theirs = reference::Model::of_counts(&all, u32::from(width.bits()));
        let costs = |costs: &[u8; 256]| costs.iter().copied().filter(|cost| *cost > 0).collect::<Vec<_>>();
        let (first, following) = (costs(model.first_costs()), costs(model.following_costs()));
        let expected: Vec<_> = theirs.costs.values().copied().collect();
        let found = first.iter().zip(&following).map(|(a, b)| (u64::from(*a), u64::from(*b)));
        assert!(found.eq(expected), "{id}");
        assert_eq!((u64::from(model.limit()), usize::from(model.remainder())), (theirs.l, theirs.r), "{id}");
        let strings = theirs.strings().unwrap();
        let text: String = strings.iter().map(|string| hex::encode(string) + "\n").collect();
        let clauses = ["V-4.2", "V-4.3", "V-4.4", "V-2.3", "V-2.4"];
        let mut test = test(&format!("dictionaries-{id}"), comment, &[], &clauses);
        let facts = json!({
            "width": width.bits(),
            "counts": all.as_slice(),
            "first": first,
            "following": following,
            "limit": model.limit(),
            "remainder": model.remainder(),
            "strings": strings.len(),
            "sha256": hex::encode(Sha256::digest(text)),
        });
        if let (Some(test), Value::Object(facts)) = (test.as_object_mut(), facts) {
            test.extend(facts);
        }
        dictionaries.push(test);
    };
    let exponents: Vec<(u8, u64)> =
        (0..20).map(|i| (120 - i, 3_000_000 >> i)).chain([(121, 900_000), (122, 7)]).collect();
    let ramp: Vec<(u8, u64)> = (0..=255).map(|symbol| (symbol, u64::from(symbol) * 3 + 1)).collect();
    for (width, bits) in [(Width::Eight, "8"), (Width::Twelve, "12")] {
        of(
            &format!("exponents-{bits}"),
            "halving from one to the next, as in trained weights",
            &exponents,
            width,
        );
        of(&format!("ramp-{bits}"), "all symbols", &ramp, width);
        of(&format!("one-{bits}"), "one symbol", &[(0, 1)], width);
        let rare = [(3, u64::MAX >> 8), (4, 1), (5, 1), (255, 2)];
        of(&format!("rare-{bits}"), "rare symbols get the highest cost", &rare, width);
    }
    of("worked-example", "appendix A of DICTIONARY.md", &[(7, 12), (9, 3), (200, 1)], Width::Eight);
    dictionaries
}
