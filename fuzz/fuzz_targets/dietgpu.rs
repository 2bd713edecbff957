//! Any bytes as archives of dietgpu, and good ones that were damaged: no panic, and decoding gives
//! what was encoded.
#![no_main]
use df11::dietgpu::{self, Archive, FloatArchive};
use df11::frame::ElementType;
use df11::hazmat::rans::DecodeTable;
use libfuzzer_sys::fuzz_target;

/// More elements than this are not decoded: a few bytes may promise many.
const MOST: usize = 1 << 24;

/// The elements of an archive, if the bytes are one.
fn decode(bytes: &[u8]) -> Option<Vec<u8>> {
    let mut table = Box::new(DecodeTable::new());
    if let Ok(archive) = Archive::new(bytes) {
        assert!(archive.archive_len() <= bytes.len());
        let mut out = vec![0; Some(archive.len()).filter(|&len| len <= MOST)?];
        return archive.decode_in(&mut table, &mut out).ok().map(|()| out);
    }
    let archive = FloatArchive::new(bytes).ok()?;
    assert!(archive.archive_len() <= bytes.len());
    let mut out = vec![0; Some(archive.len()).filter(|&len| len <= MOST)? * archive.element_type().bytes()];
    archive.decode_in(&mut table, &mut out).ok().map(|()| out)
}

fuzz_target!(|data: &[u8]| {
    decode(data);
    let [kind, bits, rest @ ..] = data else { return };
    let (scale_bits, checksum) = (9 + bits % 3, bits & 8 > 0);
    let floats =
        [ElementType::F16, ElementType::Bf16, ElementType::F32].get(usize::from(kind % 4).wrapping_sub(1));
    let (elements, made) = match floats {
        None => (rest, dietgpu::encode(rest, scale_bits, checksum.into())),
        Some(&element_type) => {
            let whole = &rest[..rest.len() / element_type.bytes() * element_type.bytes()];
            (whole, dietgpu::encode_floats(element_type, whole, scale_bits, checksum.into()))
        }
    };
    let Ok(made) = made else { return };
    assert_eq!(decode(&made).as_deref(), Some(elements));
    let mut damaged = made;
    for edit in rest.as_chunks::<4>().0.iter().take(4) {
        let at = usize::from(u16::from_le_bytes([edit[0], edit[1]])) % damaged.len();
        damaged[at] = damaged[at].wrapping_add(edit[2]);
        if edit[3] & 1 > 0 {
            damaged.truncate((damaged.len() - usize::from(edit[3]).min(damaged.len())).max(1));
        }
    }
    decode(&damaged);
});
