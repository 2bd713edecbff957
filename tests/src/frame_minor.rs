//! Frames that are new in version 1.1.0 of the vectors: what no vector of 1.0.0 noticed alone.

use std::collections::BTreeMap;

use df11::frame::ElementType;
use df11_reference::dictionary::Model;
use df11_reference::frame::{Coding, crc, encode, encode_as};
use df11_reference::rans::{self, Frequencies};

use crate::frame_pieces::Pieces;
use crate::frame_sample::FrameSample;
use crate::frame_vectors::{Frames, tensor, u8s};
use crate::weights::{bytes, like_trained};

const ONE: &[&str] = &["OneRule"];

pub(crate) fn minor_frames(frames: &mut Frames) {
    strangers(frames);
    strangers_of_dictionary(frames);
    padding(frames);
    half_a_word(frames);
    largest_limit(frames);
    states_at_their_ends(frames);
    checksums_both_ways(frames);
    string_of_the_limit(frames);
}

/// Bytes that belong to nothing, in frames of codecs raw and rANS whose offsets know of them.
fn strangers(frames: &mut Frames) {
    let some = tensor(ElementType::Bf16, &[9000], &bytes(&like_trained(9000, 1)));
    let counts = df11::frame::count(ElementType::Bf16, &some.elements).unwrap();
    let rans = Coding::Rans(Box::new(df11_reference::rans::Frequencies::normalise(&counts, 12)));
    for (name, coding) in [("raw", &Coding::Raw), ("rans", &rans)] {
        let pieces = Pieces::of(&encode_as(&some, coding, 4096).unwrap());
        let last = pieces.blocks.len();
        // Who reads on from block to block finds damage of other kinds in those before the last.
        let behind = &["F-5.2", "F-6.1", "F-6.2"][..];
        for (id, comment, place, bytes, flags, clauses) in [
            ("zeros-behind-blocks", "16 zeros stand behind the last block", last, &[0; 16][..], ONE, behind),
            ("bytes-behind-blocks", "16 bytes stand behind the last block", last, &[7; 16], ONE, behind),
            ("zeros-4-behind-blocks", "4 zeros stand behind the last block", last, &[0; 4], ONE, behind),
            (
                "zeros-between-blocks",
                "16 zeros stand between two blocks",
                1,
                &[0; 16],
                &[],
                &["F-5.2", "F-5.1"],
            ),
            (
                "zeros-before-blocks",
                "16 zeros stand before the first block",
                0,
                &[0; 16],
                &[],
                &["F-6.1", "F-5.1"],
            ),
        ] {
            let frame = pieces.with_strangers(place, bytes).frame();
            frames.invalid(&format!("{id}-{name}"), comment, flags, clauses, &frame);
        }
        let mut longer = pieces.clone();
        longer.blocks[last - 1].extend([0; 16]);
        let comment = "the last block is 16 zeros longer, which its checksum covers";
        frames.invalid(&format!("block-longer-{name}"), comment, ONE, &["F-5.2"], &longer.frame());
    }
    let empty = Pieces::of(&encode(&tensor(ElementType::U8, &[0], &[]), 0).unwrap());
    let comment = "no elements, and 16 zeros between header and trailer";
    let frame = empty.with_strangers(0, &[0; 16]).frame();
    frames.invalid("zeros-behind-header", comment, ONE, &["F-6.2", "F-6.1"], &frame);
}

/// The same with a dictionary.
fn strangers_of_dictionary(frames: &mut Frames) {
    let some = tensor(ElementType::Bf16, &[9000], &bytes(&like_trained(9000, 1)));
    let counts = df11::frame::count(ElementType::Bf16, &some.elements).unwrap();
    let coding = Coding::Dictionary(Model::of_counts(&counts, 12));
    let sound = FrameSample::new(encode_as(&some, &coding, 4096).unwrap());
    let last = sound.blocks.len() - 1;
    let (behind, first) = (&["F-5.8", "F-6.1", "F-6.2"][..], &["F-6.1", "F-5.8"][..]);
    for (id, comment, place, strangers, flags, clauses) in [
        (
            "zeros-behind",
            "16 zeros stand behind the codes and their padding",
            last,
            &[0u8; 16][..],
            ONE,
            behind,
        ),
        ("bytes-behind", "16 bytes stand behind the codes and their padding", last, &[7; 16], ONE, behind),
        ("zeros-between", "16 zeros stand between the codes of two blocks", 1, &[0; 16], &[], behind),
        ("zeros-before", "16 zeros stand before the codes of the first block", 0, &[0; 16], &[], first),
    ] {
        let (at, more) = (sound.blocks[place], strangers.len());
        let mut frame = sound.frame.clone();
        frame.splice(at..at, strangers.iter().copied());
        let (directory, end) = (sound.blocks[last] + more, frame.len() - 4);
        for j in place..last {
            let offset = (sound.blocks[j] + more) as u64;
            frame[directory + 12 * j..][..8].copy_from_slice(&offset.to_le_bytes());
        }
        frame[end - 20..][..8].copy_from_slice(&(directory as u64).to_le_bytes());
        let checksum = crc(0, &frame[directory..end]).to_le_bytes();
        frame[end..].copy_from_slice(&checksum);
        frames.invalid(&format!("{id}-codes-dictionary"), comment, flags, clauses, &frame);
    }
}

/// Padding before planes, which no checksum covers.
fn padding(frames: &mut Frames) {
    for element_type in [ElementType::F32, ElementType::Bf16, ElementType::U8] {
        let n = 600 + usize::from(element_type == ElementType::U8);
        let elements = &bytes(&like_trained(2 * n, 1))[..n * element_type.bytes()];
        let sound = FrameSample::new(encode(&tensor(element_type, &[n as u64], elements), 3).unwrap());
        let name = element_type.name().to_lowercase();
        // Where the padding before each plane begins, and ends; then that before the codes.
        let groups = sound.groups.clone().unwrap();
        let starts = std::iter::once(groups.end).chain(sound.planes.iter().map(|plane| plane + n));
        let ends = sound.planes.iter().copied().chain([sound.blocks[0]]);
        let places: Vec<_> = starts.zip(ends).collect();
        for (plane, (start, end)) in places.iter().enumerate() {
            assert!(start < end && sound.frame[*start..*end].iter().all(|byte| *byte == 0));
            let what =
                if plane < sound.planes.len() { format!("plane {plane}") } else { "the codes".to_owned() };
            for (which, at) in [("first", *start), ("last", end - 1)] {
                let mut frame = sound.frame.clone();
                frame[at] = 1;
                let id =
                    format!("padding-before-{}-{which}-{name}", what.replace(' ', "-").replace("the-", ""));
                let comment = format!("the {which} byte of the padding before {what} is not 0");
                frames.invalid(&id, &comment, ONE, &["F-1.2"], &frame);
            }
        }
    }
}

/// Words of an odd number of bytes, of which all but the last byte are right.
fn half_a_word(frames: &mut Frames) {
    let some = tensor(ElementType::Bf16, &[300], &bytes(&like_trained(300, 1)));
    let coded = Pieces::of(&encode(&some, 1).unwrap());
    for (id, byte) in [("words-half-last", 0u8), ("words-half-last-255", 255)] {
        let frame = coded.with_words(0, 300, |words| words.push(byte)).frame();
        let comment = "half a word more, behind the last";
        frames.invalid(id, comment, ONE, &["F-5.2", "F-5.3", "F-1.2"], &frame);
    }
    let none = Pieces::of(&encode(&tensor(ElementType::U8, &[500], &[255; 500]), 1).unwrap());
    let frame = none.with_words(0, 0, |words| words.push(0)).frame();
    frames.invalid("words-half-alone", "half a word, and no other", ONE, &["F-5.2", "F-5.3"], &frame);
}

/// The largest limit, which is more than any string costs.
fn largest_limit(frames: &mut Frames) {
    for (symbols, w, r) in [(1u8, 8, 0), (1, 12, 65_535), (2, 8, 0), (2, 8, 65_535), (3, 12, 1)] {
        let elements: Vec<u8> = (0..500).map(|i| 100 + (i * i % 7) as u8 % symbols).collect();
        let costs: BTreeMap<u8, (u64, u64)> = (0..symbols).map(|s| (100 + s, (255, 255))).collect();
        let model = Model { w, costs, l: 65_535, r };
        let some = tensor(ElementType::U8, &[500], &elements);
        let frame = encode_as(&some, &Coding::Dictionary(model), 4096).unwrap();
        let id = format!("dictionary-largest-limit-{symbols}-{w}-{r}");
        let comment = "a limit of 65,535: all strings of up to seven symbols";
        frames.valid(&id, comment, &["Field"], &["V-2.1", "V-2.4"], &some, &frame);
    }
    // Three symbols have 3,279 strings.
    let some = tensor(ElementType::U8, &[500], &u8s(500));
    let costs: BTreeMap<u8, (u64, u64)> = (100..107).map(|s| (s, (1, 1))).collect();
    let model = Model { w: 8, costs, l: 0, r: 0 };
    let mut sample = FrameSample::new(encode_as(&some, &Coding::Dictionary(model), 4096).unwrap());
    let limit = 40 + 32 + 2 * 7;
    sample.put(limit, &[255, 255]);
    let comment = "a limit of 65,535, and seven symbols: too many strings for codes of 8 bits";
    frames.invalid("dictionary-largest-limit-7", comment, ONE, &["V-2.5"], &sample.repair());
}

/// The greatest state that is allowed, the greatest that needs a word, and more words than half of
/// the symbols.
fn states_at_their_ends(frames: &mut Frames) {
    let mut f = [0; 256];
    (f[10], f[20], f[30]) = (2049, 2046, 1);
    let coding = |f| Coding::Rans(Box::new(Frequencies { scale_bits: 12, f }));
    // These lead lane 0 to a state whose high half is 2^15 - 1: its next symbol leaves that, and a
    // word. Lane 1 comes to 2^31 - 1.
    let mut elements = vec![10; 321];
    let lanes = [[10, 20, 30, 20, 10, 20, 20, 20, 30, 20], [10, 20, 20, 10, 10, 20, 20, 10, 30, 30]];
    for (lane, symbols) in lanes.into_iter().enumerate() {
        for (step, symbol) in symbols.into_iter().enumerate() {
            elements[32 * step + lane] = symbol;
        }
    }
    let block = rans::encode(&Frequencies { scale_bits: 12, f }, &elements).unwrap();
    assert_eq!((block.states[1], block.words.last()), ((1 << 31) - 1, Some(&0x3fe6)));
    let some = tensor(ElementType::U8, &[321], &elements);
    let frame = encode_as(&some, &coding(f), 4096).unwrap();
    let comment = "lane 1 is in the state 2^31 - 1, and lane 0 comes to 2^15 - 1, which needs a word";
    frames.valid("state-greatest", comment, &["OneRule"], &["R-5.2", "R-5.3"], &some, &frame);
    let mut f = [0; 256];
    (f[10], f[30]) = (4095, 1);
    let some = tensor(ElementType::U8, &[320], &[30; 320]);
    let frame = encode_as(&some, &coding(f), 4096).unwrap();
    let comment = "rare symbols alone: three words for each four";
    frames.valid("words-many", comment, &["Field"], &["F-5.3", "R-5.1"], &some, &frame);
}

/// Checksums that are too small, and too great.
fn checksums_both_ways(frames: &mut Frames) {
    let some = tensor(ElementType::U8, &[300], &u8s(300));
    let sound = encode(&some, 1).unwrap();
    let pieces = Pieces::of(&sound);
    for (name, value) in [("least", [0; 4]), ("greatest", [255; 4])] {
        let id = format!("coded-checksum-{name}");
        let comment = format!("the checksum of the coded bytes is the {name} that there is");
        frames.invalid(&id, &comment, ONE, &["F-5.4"], &pieces.with_block(0, 4, &value).frame());
        let mut frame = sound.clone();
        let end = frame.len();
        let block = u64::from_le_bytes(*frame[end - 36..].first_chunk().unwrap()) as usize;
        frame[block..block + 4].copy_from_slice(&value);
        frame[end - 28..end - 24].copy_from_slice(&value);
        let checksum = crc(0, &frame[end - 36..end - 4]).to_le_bytes();
        frame[end - 4..].copy_from_slice(&checksum);
        let id = format!("block-checksum-{name}");
        let comment = format!("the checksum of the block is the {name} that there is, in the directory too");
        frames.invalid(&id, &comment, ONE, &["F-5.2", "F-6.1"], &frame);
    }
}

/// A string that costs as much as the limit, and what goes on from it by a cost of 1.
fn string_of_the_limit(frames: &mut Frames) {
    let elements: Vec<u8> = (0..500).map(|i| if i % 7 < 5 { 100 } else { 101 }).collect();
    let some = tensor(ElementType::U8, &[500], &elements);
    for r in [1, 2] {
        let costs = BTreeMap::from([(100, (1, 1)), (101, (3, 2))]);
        let model = Model { w: 8, costs, l: 2, r };
        let frame = encode_as(&some, &Coding::Dictionary(model), 4096).unwrap();
        let id = format!("dictionary-string-of-the-limit-{r}");
        let comment = "a string of cost L, and those of cost L + 1 that begin with it";
        frames.valid(&id, comment, &["Field"], &["V-2.4"], &some, &frame);
    }
}
