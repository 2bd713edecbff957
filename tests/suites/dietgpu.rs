//! dietgpu's archives: the vectors of the specification, and laws.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests")]

use df11::dietgpu::{self, Archive, FloatArchive};
use df11::frame::ElementType;
use df11::{Error, ErrorKind};
use df11_tests::archive_vectors::generated;
use df11_tests::cases;
use df11_tests::spec_text;
use half::{bf16, f16};
use proptest::prelude::*;
use sha2::{Digest, Sha256};

const TYPES: [ElementType; 3] = [ElementType::F16, ElementType::Bf16, ElementType::F32];

fn decode(bytes: &[u8]) -> Result<Vec<u8>, Error> {
    let archive = Archive::new(bytes)?;
    let mut out = vec![0xaa; archive.len()];
    archive.decode_into(&mut out).map(|()| out)
}

fn decode_floats(bytes: &[u8]) -> Result<Vec<u8>, Error> {
    let archive = FloatArchive::new(bytes)?;
    let mut out = vec![0xaa; archive.len() * archive.element_type().bytes()];
    archive.decode_into(&mut out).map(|()| out)
}

#[test]
fn archives_are_those_of_appendix_a() {
    let text = std::fs::read_to_string(spec_text::path().with_file_name("DIETGPU.md")).unwrap();
    let cells = |line: &str| line.split('|').map(|cell| cell.trim().to_owned()).collect::<Vec<_>>();
    let mut found = 0;
    for line in text.lines().filter(|line| line.starts_with('|')) {
        let cells = cells(line);
        let Some(hash) = cells.iter().find(|cell| cell.len() == 64) else { continue };
        let archive = match cells[1].as_str() {
            "F16" | "BF16" | "F32" => {
                let values = [1.0f32, -2.5, 0.15625, -0.0, 300.0];
                let bytes = |value: f32| match cells[1].as_str() {
                    "F16" => f16::from_f32(value).to_le_bytes().to_vec(),
                    "BF16" => bf16::from_f32(value).to_le_bytes().to_vec(),
                    _ => value.to_le_bytes().to_vec(),
                };
                let element_type =
                    TYPES.into_iter().find(|element_type| element_type.name() == cells[1]).unwrap();
                let elements: Vec<u8> = values.into_iter().flat_map(bytes).collect();
                let archive =
                    dietgpu::encode_floats(element_type, &elements, 10, dietgpu::Checksum::Stated).unwrap();
                assert_eq!(decode_floats(&archive), Ok(elements), "{line}");
                assert_eq!(archive.len().to_string(), cells[2], "{line}");
                archive
            }
            len => {
                let bytes = generated(len.parse().unwrap());
                let archive =
                    dietgpu::encode(&bytes, cells[2].parse().unwrap(), dietgpu::Checksum::Stated).unwrap();
                assert_eq!(decode(&archive), Ok(bytes), "{line}");
                assert_eq!(archive.len().to_string(), cells[3], "{line}");
                archive
            }
        };
        assert_eq!(hex::encode(Sha256::digest(&archive)), *hash, "{line}");
        found += 1;
    }
    assert_eq!(found, 16);
}

#[test]
fn frequencies_are_those_of_dietgpu() {
    let frequencies = |counts: &[u32], bits: u8| {
        let mut all = [0; 256];
        all[..counts.len()].copy_from_slice(counts);
        dietgpu::normalise(&all, bits).unwrap()
    };
    let first = |counts: &[u32], bits: u8| frequencies(counts, bits).as_array()[..counts.len()].to_vec();
    assert_eq!(first(&[1, 1, 1], 10), [342, 341, 341]);
    assert_eq!(first(&[5000, 3, 3, 3, 2, 2, 2, 1], 9), [505, 1, 1, 1, 1, 1, 1, 1]);
    assert_eq!(first(&[(1 << 27) + 3, (1 << 26) + 1, 7], 10), [682, 341, 1]);
    let table = |count: &dyn Fn(u32) -> u32, bits: u8| {
        let counts: Vec<u32> = (0..256).map(count).collect();
        let table: Vec<u8> =
            frequencies(&counts, bits).as_array().iter().flat_map(|f| f.to_le_bytes()).collect();
        hex::encode(Sha256::digest(table))
    };
    // Exact, raised, lowered.
    assert_eq!(table(&|i| i + 1, 10), "f3aad469a3dd77a1110ba62e75bb7641b57f41b814fd96443c9dcccd6e56602b");
    assert_eq!(table(&|i| i * i, 11), "600935c7b38462f1cce444d699bbe2c811e83ec6459b79adf85302f10ddf7a08");
    let some = |i: u32| if i.is_multiple_of(5) { 1000 } else { 1 };
    assert_eq!(table(&some, 9), "f34ae19249aaf3ac41251c543068295ffb5752cd63bc8a7c6475b3c7b15ef57c");
}

/// Returns where dietgpu leaves bytes undefined in an ANS archive that begins at `start`.
fn undefined(archive: &[u8], start: usize) -> Vec<usize> {
    let field =
        |at: usize| u32::from_le_bytes(archive[start + at..start + at + 4].try_into().unwrap()) as usize;
    let (blocks, len, checksum) = (field(4), field(8), field(16) & 16 != 0);
    let mut places: Vec<usize> = [17, 18, 19].into();
    places.extend(24..32);
    places.extend((20..24).filter(|_| !checksum));
    places.extend((32..544).filter(|_| len == 0));
    let directory = 544 + 128 * blocks;
    let words = directory + 8 * blocks.next_multiple_of(2);
    places.extend(directory + 8 * blocks..words);
    for block in 0..blocks {
        let number = field(directory + 8 * block) & 0xffff;
        let first = words + 2 * field(directory + 8 * block + 4);
        places.extend(first + 2 * number..first + 2 * number.next_multiple_of(8));
    }
    places.into_iter().map(|place| start + place).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(cases(100)))]

    #[test]
    fn bytes_come_back_whatever_stands_where_nothing_is_defined(
        bytes in prop_oneof![prop::collection::vec(any::<u8>(), 0..20_000), prop::collection::vec(100u8..110, 0..20_000)],
        bits in 9u8..=11,
        checksum: bool,
        junk: u8,
    ) {
        let mut archive = dietgpu::encode(&bytes, bits, checksum.into()).unwrap();
        prop_assert_eq!(Archive::new(&archive).unwrap().archive_len(), archive.len());
        for place in undefined(&archive, 0) {
            archive[place] = if place == 16 { archive[place] } else { junk };
        }
        archive.push(junk);
        prop_assert_eq!(decode(&archive), Ok(bytes));
    }

    #[test]
    fn floats_come_back(
        which in 0usize..3,
        elements in prop_oneof![
            prop::collection::vec(any::<u32>(), 0..5000),
            prop::collection::vec((-1.0f32..1.0).prop_map(f32::to_bits), 0..5000),
        ],
        checksum: bool,
    ) {
        let element_type = TYPES[which];
        let from = 4 - element_type.bytes();
        let elements: Vec<u8> = elements.iter().flat_map(|bits| bits.to_le_bytes()[from..].to_vec()).collect();
        let archive = dietgpu::encode_floats(element_type, &elements, 10, checksum.into()).unwrap();
        prop_assert_eq!(FloatArchive::new(&archive).unwrap().archive_len(), archive.len());
        prop_assert_eq!(decode_floats(&archive), Ok(elements));
    }

    #[test]
    fn damage_never_panics_and_a_prefix_is_truncated(
        at: prop::sample::Index,
        bit in 0u8..8,
        cut: prop::sample::Index,
        float: bool,
    ) {
        let bytes = generated(9000);
        let archive = match float {
            true => dietgpu::encode_floats(ElementType::Bf16, &bytes, 10, dietgpu::Checksum::Stated),
            false => dietgpu::encode(&bytes, 10, dietgpu::Checksum::Stated),
        };
        let archive = archive.unwrap();
        let mut damaged = archive.clone();
        damaged[at.index(archive.len())] ^= 1 << bit;
        let decode = |bytes: &[u8]| if float { decode_floats(bytes) } else { decode(bytes) };
        // The checksum has at most 8 bits, so damage may go undetected, but it never does harm.
        let _ = decode(&damaged);
        let error = decode(&archive[..cut.index(archive.len())]).unwrap_err();
        prop_assert_eq!(error.kind(), ErrorKind::Truncated);
    }
}

#[test]
fn coded_bytes_of_floats_have_no_checksum_of_their_own() {
    let coded = dietgpu::encode(&[0x7f], 10, dietgpu::Checksum::Stated).unwrap();
    let mut archive =
        dietgpu::encode_floats(ElementType::F16, &[0, 0x7f], 10, dietgpu::Checksum::Stated).unwrap();
    archive.truncate(32);
    archive.extend(coded);
    assert!(matches!(FloatArchive::new(&archive), Err(Error::ArchiveField { value: 1, .. })));
}

#[test]
fn what_cannot_be_written_is_refused() {
    assert_eq!(dietgpu::encode(&[1], 12, dietgpu::Checksum::Stated), Err(Error::ScaleBits { bits: 12 }));
    assert_eq!(dietgpu::encode(&[], 8, dietgpu::Checksum::Stated), Err(Error::ScaleBits { bits: 8 }));
    let error = Error::InvalidArgument { argument: "float type of an archive", value: 0 };
    assert_eq!(dietgpu::encode_floats(ElementType::U8, &[1], 10, dietgpu::Checksum::Stated), Err(error));
    let error = Error::InvalidArgument { argument: "number of bytes of an archive", value: 3 };
    assert_eq!(
        dietgpu::encode_floats(ElementType::F16, &[1, 2, 3], 10, dietgpu::Checksum::Stated),
        Err(error)
    );
    assert_eq!(Archive::new(b"\x01\x00\x0f\xf0").unwrap_err(), Error::NotAnArchive);
}
