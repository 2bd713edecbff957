//! Any bytes as a frame, and frames with any damage, with or without their checksums made right
//! again: never a panic, nothing to speak of allocated, every way of decoding agrees, and what is
//! taken is what a writer writes.
#![no_main]
use allocation_counter::measure;
use df11::frame::{DecodeTable, ElementType, Frame, Header};
use df11::hazmat::rans::Frequencies;
use df11_fuzz::frames::{
    EDIT, Parameters, Written, counts, edit, header_checksum, repair, repeated, verdict,
};
use df11_fuzz::{cut, settings};
use libfuzzer_sys::fuzz_target;

/// Bytes that a decoder may need for itself: the coded bytes of four blocks.
const MOST: u64 = 4 << 16;

/// The most bytes of a frame of which every field is edited.
const SMALL: usize = 4096;

/// A frame with the parameters that the settings say, and its elements.
fn write(settings: [u8; 12], pattern: &[u8]) -> (Written, Vec<u8>) {
    let [_, element_type, codec, scale_bits, b0, b1, n0, n1, n2, shape, mask, large] = settings;
    let element_type = ElementType::ALL[usize::from(element_type) % ElementType::ALL.len()];
    let block = 4096 + 64 * (usize::from(u16::from_le_bytes([b0, b1])) % 961);
    let n = u32::from_le_bytes([n0, n1, n2, 0]);
    // Decoded past the caches only if they are large, which takes long.
    let n = if large == 0xa5 { n % 3_000_000 } else { n % 20_500 };
    let elements = repeated(pattern, mask, n as usize * element_type.bytes());
    let n = u64::from(n);
    let shape = match shape % 5 {
        0 if n == 1 => vec![],
        1 => [vec![1; 1 + usize::from(shape) % 31], vec![n]].concat(),
        2 if n.is_multiple_of(2) => vec![n / 2, 2],
        3 if n == 0 => vec![u64::MAX, u64::MAX, 0, u64::MAX],
        _ => vec![n],
    };
    let mut counts = counts(element_type, &elements);
    // The model may know symbols that do not occur.
    match codec % 8 {
        0 => counts.fill(0),
        1 => counts.iter_mut().for_each(|count| *count += 1),
        2 => counts.iter_mut().for_each(|count| *count *= *count),
        3 => counts[usize::from(mask)] += 1,
        _ => {}
    }
    let model = Frequencies::normalise(&counts, 9 + scale_bits % 4).ok();
    let frequencies = model.filter(|_| n > 0 && codec % 8 > 0);
    (Parameters { element_type, block, shape, frequencies }.write(&elements), elements)
}

/// Reads without an allocator, or nearly.
fn is_modest(bytes: &[u8]) {
    let read = measure(|| {
        let _ = Header::parse(bytes);
        let _ = Frame::new(bytes);
    });
    assert_eq!(read.bytes_total, 0);
    if let Ok(frame) = Frame::new(bytes)
        && frame.elements_bytes() <= 64 * bytes.len()
    {
        let mut table = Box::new(DecodeTable::new());
        let mut elements = vec![0; frame.elements_bytes()];
        let decoded = measure(|| {
            let _ = frame.decode_in(&mut table, &mut elements);
        });
        assert!(decoded.bytes_max <= MOST, "{} bytes were allocated", decoded.bytes_max);
    }
}

fuzz_target!(|data: &[u8]| {
    let [control, body, edits] = cut(data);
    let settings = settings(control);
    let [is_raw, repairs, links, is_everywhere] = [1, 2, 4, 8].map(|bit| settings[0] & bit > 0);
    let (written, elements) = if is_raw {
        let mut bytes = body.to_vec();
        if repairs {
            repair(&mut bytes, links);
        }
        let elements = verdict(&bytes);
        (Written { bytes, places: Vec::new(), blocks: Vec::new() }, elements)
    } else {
        let (written, elements) = write(settings, body);
        assert!(verdict(&written.bytes).as_ref() == Some(&elements), "a frame is refused");
        (written, Some(elements))
    };
    is_modest(&written.bytes);

    let edits = &edits.as_chunks::<EDIT>().0[..(edits.len() / EDIT).min(8)];
    if let ([[kind, _, how @ ..]], true) = (edits, is_everywhere && written.bytes.len() <= SMALL) {
        // At every field, with checksums that fit.
        for place in 0..written.places.len() as u8 {
            let mut damaged = written.bytes.clone();
            let mut change = [kind & 0x3f, place, 0, 0, 0, 0, 0, 0];
            change[2..].copy_from_slice(how);
            edit(&mut damaged, &written, change);
            repair(&mut damaged, links);
            verdict(&damaged);
        }
    }
    let mut damaged = written.bytes.clone();
    edits.iter().for_each(|change| edit(&mut damaged, &written, *change));
    if damaged == written.bytes {
        return;
    }
    // One edit breaks a checksum. Several may write others that fit, with some luck, but not
    // without changing these two.
    let fits = |at: Option<usize>| {
        let old = at.and_then(|at| written.bytes.get(at..at + 4));
        old.is_some() && old == at.and_then(|at| damaged.get(at..at + 4))
    };
    let is_noticed = edits.len() == 1
        || (fits(header_checksum(&written.bytes)) && written.bytes.last_chunk::<4>() == damaged.last_chunk());
    is_modest(&damaged);
    let found = verdict(&damaged);
    if elements.is_some() && is_noticed {
        assert!(found.is_none(), "damage goes unnoticed");
    }
    if repairs {
        repair(&mut damaged, links);
        is_modest(&damaged);
        verdict(&damaged);
    }
});
