//! Laws of frames.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests")]

use std::sync::LazyLock;

use df11::frame::{
    self, BLOCK, Codec, DecodeTable, ElementType, EncodeOptions, Encoder, Frame, Header, encode,
};
use df11::hazmat::dictionary;
use df11::hazmat::frame::{ENTRY_BYTES, TRAILER_BYTES};
use df11::hazmat::rans;
use df11::{Error, ErrorKind, FramePart, Level};
use df11_reference::frame as reference;
use df11_tests::frame_sample::FrameSample;
use df11_tests::weights::{Random, bytes, like_trained};
use df11_tests::{cases, frame_vectors};
use proptest::prelude::*;

#[test]
fn checked_in_vectors_are_up_to_date() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../spec/vectors/frames.json");
    let there = std::fs::read_to_string(path).unwrap();
    assert!(there == frame_vectors::generate(), "run `cargo run -p df11-tests --bin vectors`");
}

/// Decodes a frame whole on every instruction set, block by block, and block by block without the
/// end of the frame. All must agree.
fn decode(bytes: &[u8]) -> Result<Vec<u8>, Error> {
    let frame = Frame::new(bytes)?;
    let mut table = Box::new(DecodeTable::new());
    let mut elements = vec![0xaa; frame.elements_bytes()];
    let result = frame.decode_in(&mut table, &mut elements).map(|()| elements);
    for level in Level::all() {
        let mut elements = vec![0x55; frame.elements_bytes()];
        let found = frame.clone().at_level(level).decode_in(&mut table, &mut elements).map(|()| elements);
        match &result {
            Ok(_) => assert_eq!(found, result, "{}", level.name()),
            // If several blocks are damaged, another instruction set may find another block first.
            Err(_) => assert!(found.is_err(), "{}", level.name()),
        }
    }
    let size = frame.header().element_type().bytes();
    let by_block = (0..frame.header().blocks()).map(|block| {
        let mut elements = vec![0; frame.header().block_range(block).len() * size];
        frame.decode_block_into(&table, block, &mut elements).map(|()| elements)
    });
    let by_block = by_block.collect::<Result<Vec<_>, _>>().map(|blocks| blocks.concat());
    if let Ok(elements) = &result {
        assert_eq!(by_block.as_ref(), Ok(elements));
    }
    result
}

/// Generates shapes with few or many elements, and their bytes: like trained weights, arbitrary, or
/// all equal.
fn tensors() -> impl Strategy<Value = (ElementType, Vec<u64>, Vec<u8>)> {
    let types = prop::sample::select(&ElementType::ALL[..]);
    let shapes = prop_oneof![
        prop::collection::vec(0u64..20, 0..4),
        (1u64..3000).prop_map(|n| vec![n]),
        prop::sample::select(vec![4095u64, 4096, 65535, 65536, 65537, 131_072, 300_001])
            .prop_map(|n| vec![1, n]),
    ];
    (types, shapes, any::<u64>(), 0..3).prop_map(|(element_type, shape, seed, kind)| {
        let len = shape.iter().product::<u64>() as usize * element_type.bytes();
        let mut random = Random(seed);
        let elements = match kind {
            0 => (0..len).map(|_| random.next() as u8).collect(),
            1 => vec![seed as u8; len],
            _ => {
                let mut trained = bytes(&like_trained(len.div_ceil(2), seed));
                trained.truncate(len);
                trained
            }
        };
        (element_type, shape, elements)
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(cases(60)))]

    #[test]
    fn every_tensor_comes_back((element_type, shape, elements) in tensors(), codec in codecs()) {
        let options = EncodeOptions::new().codec(codec);
        let bytes = options.encode(element_type, &shape, &elements).unwrap();
        let frame = Frame::new(&bytes).unwrap();
        let header = frame.header();
        prop_assert_eq!((header.element_type(), header.shape().collect::<Vec<_>>()), (element_type, shape.clone()));
        prop_assert!(bytes.len() <= elements.len() + 1024 + 48 * header.blocks());
        prop_assert_eq!(&decode(&bytes).unwrap(), &elements);

        // The reference writes the same and reads it.
        let tensor = reference::Tensor { element_type: element_type.number(), shape: shape.clone(), elements: elements.clone() };
        let is_coded = header.codec() != Codec::Raw;
        prop_assert!(!is_coded || header.codec() == codec);
        prop_assert!(reference::encode(&tensor, number(header.codec())).unwrap() == bytes);
        prop_assert_eq!(&reference::decode(&bytes).unwrap(), &tensor);
        // The other choice of codec can be read as well.
        let other = reference::encode(&tensor, if is_coded { 0 } else { number(codec) }).unwrap();
        prop_assert_eq!(&decode(&other).unwrap(), &elements);

        // In parts, on every level.
        let counts = if is_coded { counts(element_type, &elements) } else { [0; 256] };
        for level in Level::all() {
            let mut encoder = options.encoder(element_type, &shape, &counts).unwrap().at_level(level);
            let mut streamed = encoder.header();
            for some in elements.chunks(3 * BLOCK * element_type.bytes()) {
                streamed.extend_from_slice(encoder.blocks(some).unwrap());
            }
            streamed.extend(encoder.finish().unwrap());
            prop_assert!(streamed == bytes, "{}", level.name());
        }

        // A reader that streams finds each block without the directory.
        let (header, mut at) = Header::parse(&bytes).unwrap();
        if header.codec() == Codec::Dictionary {
            return Ok(());
        }
        for block in 0..header.blocks() {
            at += header.block_bytes(block, bytes[at..].first_chunk().unwrap()).unwrap();
        }
        prop_assert_eq!(at + ENTRY_BYTES * header.blocks() + TRAILER_BYTES, bytes.len());
    }

    #[test]
    fn every_prefix_is_truncated_and_nothing_may_follow((element_type, shape, elements) in tensors(), codec in codecs(), cut in any::<prop::sample::Index>()) {
        let bytes = EncodeOptions::new().codec(codec).encode(element_type, &shape, &elements).unwrap();
        prop_assert!(decode(&bytes[..cut.index(bytes.len())]).is_err());
        prop_assert!(decode(&[&bytes[..], &[0]].concat()).is_err());
        let (_, header) = Header::parse(&bytes).unwrap();
        let error = Header::parse(&bytes[..cut.index(header)]).unwrap_err();
        prop_assert_eq!(error.kind(), ErrorKind::Truncated);
    }
}

/// The codecs that code.
fn codecs() -> impl Strategy<Value = Codec> {
    prop::sample::select(&[Codec::Rans, Codec::Dictionary][..])
}

fn number(codec: Codec) -> u8 {
    match codec {
        Codec::Rans => 1,
        Codec::Dictionary => 3,
        _ => 0,
    }
}

fn counts(element_type: ElementType, elements: &[u8]) -> [u64; 256] {
    let mut counts = [0; 256];
    for element in elements.chunks(element_type.bytes()) {
        let coded = match element_type {
            ElementType::Bf16 | ElementType::F32 => {
                let [.., low, high] = *element else { panic!("too short") };
                high << 1 | low >> 7
            }
            _ => *element.last().unwrap(),
        };
        counts[usize::from(coded)] += 1;
    }
    counts
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(cases(1000)))]

    #[test]
    fn core_and_reference_agree_on_what_checksums_cannot_tell(
        // All samples except the one of several blocks, for which the reference takes a second.
        which in 1usize..SAMPLES,
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>(), any::<u8>()), 1..4),
    ) {
        static ALL: LazyLock<Vec<(Vec<u8>, Vec<u8>)>> = LazyLock::new(samples);
        let mut sample = FrameSample::new(ALL[which].0.clone());
        let (len, header) = (sample.frame.len(), sample.header);
        for (part, at, value) in damage {
            // Headers of frames and blocks and the trailer, more often than their bulk.
            let mut ranges = vec![0..32, 0..header, len - 24..len];
            ranges.extend(sample.blocks.iter().map(|&start| start..len.min(start + 150)));
            ranges.extend(sample.groups.clone());
            let range = ranges.swap_remove(part.index(ranges.len()));
            sample.put(range.start + at.index(range.len()), &[value]);
        }
        let damaged = sample.repair();
        match (decode(&damaged), reference::decode(&damaged)) {
            (Ok(found), Ok(expected)) => prop_assert_eq!(found, expected.elements),
            (Err(_), Err(_)) => {}
            (found, expected) => prop_assert!(false, "{:?} {:?}", found.map(|_| ()), expected.map(|_| ())),
        }
    }
}

#[test]
fn every_bit_pattern_of_every_type_comes_back() {
    for element_type in ElementType::ALL {
        let patterns = 0..=if element_type.bytes() == 1 { 0xff } else { 0xffff_u32 };
        let elements: Vec<u8> = patterns
            .flat_map(|bits| {
                (bits.wrapping_mul(if element_type.bytes() == 4 { 65537 } else { 1 })).to_le_bytes()
                    [..element_type.bytes()]
                    .to_vec()
            })
            .collect();
        // The elements alone, which no codec makes smaller, and among many others, which all codecs
        // make smaller.
        let many = [&elements[..], &vec![0; 8 * elements.len() + 70_000 * element_type.bytes()]].concat();
        for codec in [Codec::Rans, Codec::Dictionary] {
            for (elements, expected) in [(&elements, None), (&many, Some(codec))] {
                let n = (elements.len() / element_type.bytes()) as u64;
                let bytes = EncodeOptions::new().codec(codec).encode(element_type, &[n], elements).unwrap();
                let found = Frame::new(&bytes).unwrap().header().codec();
                assert!(expected.is_none_or(|codec| codec == found), "{element_type:?} {codec:?}");
                assert_eq!(&decode(&bytes).unwrap(), elements, "{element_type:?}");
            }
        }
    }
}

/// How many frames [`samples`] makes.
const SAMPLES: usize = 12;

/// Frames of several blocks, of one, raw, and empty, and with dictionaries.
fn samples() -> Vec<(Vec<u8>, Vec<u8>)> {
    let trained = bytes(&like_trained(2 * BLOCK + 1000, 1));
    let some = |element_type: ElementType, elements: &[u8]| {
        let n = (elements.len() / element_type.bytes()) as u64;
        (frame::encode(element_type, &[n], elements).unwrap(), elements.to_vec())
    };
    let with = |element_type: ElementType, block: usize, elements: &[u8]| {
        let options = EncodeOptions::new().codec(Codec::Dictionary).block_len(block);
        let n = (elements.len() / element_type.bytes()) as u64;
        let bytes = options.encode(element_type, &[n], elements).unwrap();
        assert_eq!(Frame::new(&bytes).unwrap().header().codec(), Codec::Dictionary);
        (bytes, elements.to_vec())
    };
    let samples = vec![
        some(ElementType::Bf16, &trained),
        some(ElementType::Bf16, &trained[..4000]),
        some(ElementType::F16, &trained[..9000]),
        some(ElementType::F32, &trained[..8000]),
        some(ElementType::U8, &trained[..50]),
        some(ElementType::F8E5M2, &[]),
        with(ElementType::Bf16, BLOCK, &trained[..4000]),
        with(ElementType::Bf16, BLOCK, &trained[..2 * 9000]),
        with(ElementType::Bf16, 4096, &trained[..2 * 9000]),
        with(ElementType::F16, BLOCK, &trained[..9000]),
        with(ElementType::F32, 8192, &trained[..4 * 12_300]),
        with(ElementType::U8, 4096, &trained[..9000].iter().map(|byte| byte % 5).collect::<Vec<_>>()),
    ];
    assert_eq!(samples.len(), SAMPLES);
    samples
}

#[test]
fn a_million_damaged_frames_are_noticed_or_harmless() {
    let samples = samples();
    let (large, small) = samples.split_first().unwrap();
    let mut table = Box::new(DecodeTable::new());
    let mut random = Random(7);
    let million = (1_000_000 / 300) * cases(300);
    for i in 0..million {
        // Of several blocks now and then: they take a hundred times as long.
        let (bytes, elements) = if i % 500 == 0 { large } else { &small[i as usize % small.len()] };
        let mut damaged = bytes.clone();
        let mut at = || (random.next() % bytes.len() as u64) as usize;
        let (a, b, c) = (at(), at(), at());
        match i % 5 {
            0 => damaged[a] ^= 1 << (b % 8),
            1 => damaged.truncate(a),
            2 => damaged.swap(a, b),
            // Runs of 16 bytes, where a block could begin.
            3 => (0..16)
                .for_each(|i| damaged.swap((a / 16 * 16 + i) % bytes.len(), (b / 16 * 16 + i) % bytes.len())),
            _ => (damaged[a], damaged[b]) = (c as u8, 0),
        }
        let Ok(frame) = Frame::new(&damaged) else { continue };
        let mut found = vec![0; frame.elements_bytes()];
        if frame.decode_in(&mut table, &mut found).is_ok() {
            assert!(damaged == *bytes && found == *elements, "round {i}: damage went unnoticed");
        }
    }
}

#[test]
fn exchanged_blocks_and_those_of_other_frames_are_noticed() {
    // Blocks of the same length, as raw ones are.
    let elements: Vec<u8> = (0..3 * BLOCK).map(|i| ((i * 37 % 256) ^ (i / 256)) as u8).collect();
    let raw = frame::encode(ElementType::U8, &[elements.len() as u64], &elements).unwrap();
    let (raw_header, raw_start) = Header::parse(&raw).unwrap();
    assert_eq!(raw_header.codec(), Codec::Raw);
    let size = raw_header.block_bytes(0, raw[raw_start..].first_chunk().unwrap()).unwrap();
    let mut exchanged = raw.clone();
    let (first, second) = exchanged[raw_start..raw_start + 2 * size].split_at_mut(size);
    first.swap_with_slice(second);
    assert_eq!(decode(&exchanged).unwrap_err().kind(), ErrorKind::Checksum);

    // A block of another frame, whose own checksum is right.
    let mut other = elements;
    other[5] ^= 1;
    let other = frame::encode(ElementType::U8, &[other.len() as u64], &other).unwrap();
    let mut mixed = raw;
    mixed[raw_start..raw_start + size].copy_from_slice(&other[raw_start..raw_start + size]);
    assert_eq!(decode(&mixed), Err(Error::FrameChecksum { part: FramePart::Block(0) }));
}

#[test]
fn tables_that_are_too_small_or_of_other_frames_are_refused() {
    let trained = bytes(&like_trained(70_000, 1));
    let options = EncodeOptions::new().codec(Codec::Dictionary);
    let large = options.encode(ElementType::Bf16, &[70_000], &trained).unwrap();
    let small = options.encode(ElementType::Bf16, &[9000], &trained[..18_000]).unwrap();
    let rans = encode(ElementType::Bf16, &[9000], &trained[..18_000]).unwrap();
    let [large, small, rans] = [&large, &small, &rans].map(|bytes| Frame::new(bytes).unwrap());
    let mut elements = vec![0; large.elements_bytes()];

    let mut table = Box::new(dictionary::DecodeTable::<4096>::new());
    assert_eq!(large.decode_blocks_into(&table, 0..2, &mut elements), Err(Error::OtherTable));
    assert_eq!(large.decode_in(&mut table, &mut elements), Ok(()));
    assert!(elements == trained);
    assert_eq!(small.decode_block_into(&table, 0, &mut elements[..18_000]), Err(Error::OtherTable));
    let mut table = dictionary::DecodeTable::<256>::new();
    assert_eq!(large.decode_in(&mut table, &mut elements), Err(Error::OtherTable));
    elements.fill(0);
    assert_eq!(small.decode_in(&mut table, &mut elements[..18_000]), Ok(()));
    assert!(elements[..18_000] == trained[..18_000]);
    assert_eq!(rans.decode_in(&mut table, &mut elements[..18_000]), Err(Error::OtherTable));
    let mut table = Box::new(rans::DecodeTable::new());
    assert_eq!(small.decode_in(&mut table, &mut elements[..18_000]), Err(Error::OtherTable));
    assert_eq!(Error::OtherTable.kind(), ErrorKind::InvalidInput);
}

#[test]
fn chunks_are_where_the_layout_says() {
    let trained = bytes(&like_trained(100_000, 1));
    let options = EncodeOptions::new().codec(Codec::Dictionary);
    for element_type in [ElementType::Bf16, ElementType::F32, ElementType::U8] {
        let elements: Vec<u8> = match element_type {
            ElementType::U8 => trained.iter().map(|byte| byte % 5).collect(),
            _ => trained.clone(),
        };
        let n = elements.len() / element_type.bytes();
        let bytes = options.encode(element_type, &[n as u64], &elements).unwrap();
        let frame = Frame::new(&bytes).unwrap();
        let layout = frame.chunks_layout().unwrap();
        let model = frame.header().dictionary().unwrap();
        let mut table = Box::new(dictionary::DecodeTable::<4096>::new());
        table.build(model).unwrap();
        assert!(layout.codes.start.is_multiple_of(16));
        let mut at = layout.codes.start;
        let mut coded = vec![0; n];
        let groups = bytes[layout.groups].as_chunks::<2>().0;
        assert_eq!(groups.len(), n.div_ceil(dictionary::CHUNK));
        for (chunk, groups) in coded.chunks_mut(dictionary::CHUNK).zip(groups) {
            let end = at + usize::from(u16::from_le_bytes(*groups)) * model.width().group_bytes();
            table.decode_into(&bytes[at..end], chunk).unwrap();
            at = end;
        }
        assert_eq!(at, layout.codes.end);
        assert!(counts(element_type, &elements)[usize::from(coded[0])] > 0);
        let planes = layout.planes.map(|plane| {
            assert!(plane.is_multiple_of(256));
            &bytes[plane..]
        });
        for (i, element) in elements.chunks(element_type.bytes()).enumerate() {
            let found = match element_type {
                ElementType::Bf16 => {
                    let (c, r) = (u16::from(coded[i]), u16::from(planes[0][i]));
                    (r >> 7 << 15 | c << 7 | r & 0x7f).to_le_bytes().to_vec()
                }
                ElementType::F32 => {
                    let (c, high) = (u32::from(coded[i]), u32::from(planes[2][i]));
                    let low = u32::from(planes[1][i]) << 8 | u32::from(planes[0][i]);
                    (high >> 7 << 31 | c << 23 | (high & 0x7f) << 16 | low).to_le_bytes().to_vec()
                }
                _ => vec![coded[i]],
            };
            assert_eq!(found, element);
        }
    }
    let rans = encode(ElementType::Bf16, &[100_000], &trained).unwrap();
    let error = Frame::new(&rans).unwrap().chunks_layout().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
}

#[test]
fn a_dimension_of_zero_makes_no_elements_wherever_it_stands() {
    for shape in [[0, 1 << 63, 4], [1 << 63, 4, 0], [1 << 63, 0, 4]] {
        let bytes = frame::encode(ElementType::F32, &shape, &[]).unwrap();
        assert_eq!(decode(&bytes), Ok(vec![]));
        assert_eq!(reference::decode(&bytes).unwrap().shape, shape);
    }
}

#[test]
fn what_could_not_be_encoded_leaves_no_trace() {
    let sound: Vec<u8> = (0..8 * BLOCK).map(|i| 60 + (i % 5 * (i % 5) % 5) as u8).collect();
    let mut other = sound.clone();
    other[5 * BLOCK + 9] = 77;
    let n = sound.len() as u64;
    let mut encoder = Encoder::new(ElementType::U8, &[n], &counts(ElementType::U8, &sound)).unwrap();
    let mut bytes = encoder.header();
    assert_eq!(encoder.blocks(&other).unwrap_err(), Error::NoFrequency { symbol: 77, index: 9 });
    assert!(encoder.clone().finish().is_err());
    bytes.extend_from_slice(encoder.blocks(&sound).unwrap());
    bytes.extend(encoder.finish().unwrap());
    assert!(bytes == frame::encode(ElementType::U8, &[n], &sound).unwrap());
}

#[test]
fn blocks_that_are_not_there_are_refused() {
    let (bytes, _) = samples().swap_remove(1);
    let frame = Frame::new(&bytes).unwrap();
    for block in [1, usize::MAX] {
        let error = frame.decode_block_into(&rans::DecodeTable::new(), block, &mut []).unwrap_err();
        assert!(matches!(error, Error::RangeOutOfBounds { .. }), "{error}");
    }
}

#[test]
fn what_is_not_known_is_unsupported_and_what_cannot_be_is_refused() {
    let (bytes, _) = samples().swap_remove(1);
    let with = |at: usize, value: u8| {
        let mut changed = bytes.clone();
        changed[at] = value;
        decode(&changed).unwrap_err()
    };
    assert_eq!(with(0, 0), Error::NotAFrame);
    for (at, value, field) in
        [(8, 2, "version"), (9, 6, "element type"), (10, 2, "codec"), (10, 4, "codec"), (11, 3, "model")]
    {
        let error = with(at, value);
        assert_eq!(error, Error::FrameUnsupported { field, number: value });
        assert_eq!((error.kind(), error.clause()), (ErrorKind::Unsupported, Some("F-1.3")));
    }
    assert_eq!(with(14, 1).clause(), Some("F-1.2"));
    assert_eq!(with(13, 33), Error::FrameField { clause: "F-3.1", field: "rank", value: 33 });
    let too_many = [1 << 32, 1 << 32];
    assert!(matches!(frame::encode(ElementType::F32, &too_many, &[]), Err(Error::InvalidArgument { .. })));
    assert!(frame::encode(ElementType::F32, &[3], &[0; 11]).is_err());
    assert!(frame::encode(ElementType::F32, &[0; 33], &[]).is_err());
}
