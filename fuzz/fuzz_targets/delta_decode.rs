//! Any bytes as a delta, and deltas with any damage, with or without their checksums made right
//! again: never a panic, nothing to speak of allocated, every way of decoding and the reference
//! agree, and what is written is what the reference writes.
#![no_main]
use allocation_counter::measure;
use df11::delta::{DecodeTable, Delta, EncodeOptions, Method};
use df11::frame::ElementType;
use df11_fuzz::deltas::{MOST, layout, repair, verdict};
use df11_fuzz::frames::repeated;
use df11_fuzz::{cut, settings};
use df11_reference::delta as reference;
use libfuzzer_sys::fuzz_target;

/// Bytes of an edit: how, where, with what.
const EDIT: usize = 6;

/// The most elements of a delta that is written here.
const ELEMENTS: usize = 9000;

/// The most that the reference writes again.
const REFERENCE: usize = 3000;

/// Reads without an allocator.
fn is_modest(bytes: &[u8], base: &[u8]) {
    let read = measure(|| {
        let _ = Delta::new(bytes);
    });
    assert_eq!(read.bytes_total, 0);
    let Ok(delta) = Delta::new(bytes) else { return };
    let len = delta.len().saturating_mul(delta.element_type().bytes());
    if len <= MOST && delta.method() != Method::Frame && delta.common() == delta.len() {
        let (mut table, mut out) = (Box::new(DecodeTable::new()), vec![0; len]);
        let applied = measure(|| {
            let _ = delta.apply_in(&mut table, base, &mut out);
        });
        assert_eq!(applied.bytes_total, 0);
    }
}

/// A delta, its base and its elements, as the settings say: of the base, `steps` change elements,
/// each how far from the one before and by how much.
fn write(settings: [u8; 12], pattern: &[u8], steps: &[u8]) -> (Vec<u8>, Vec<u8>, Vec<u8>) {
    let [_, element_type, method, raw, b, flags, n0, n1, c0, c1, mask, far] = settings;
    let element_type = ElementType::ALL[usize::from(element_type) % ElementType::ALL.len()];
    let size = element_type.bytes();
    let of = |low, high| usize::from(u16::from_le_bytes([low, high])) % ELEMENTS;
    let (n, c) = (of(n0, n1), of(c0, c1));
    let base = repeated(pattern, mask, c * size);
    // What has grown has other elements there.
    let mut new = [&base[..], &repeated(steps, !mask, (n.max(c) - c) * size)].concat();
    new.truncate(n * size);
    let mut at = 0;
    for step in steps.as_chunks::<2>().0 {
        at += usize::from(step[0]) << (far % 8);
        let Some(element) = new.get_mut(at * size..(at + 1) * size) else { break };
        let low = element[0].wrapping_add(step[1]);
        let is_carried = low < element[0];
        element[0] = low;
        if let (true, Some(next)) = (is_carried, element.get_mut(1)) {
            *next = next.wrapping_add(1);
        }
        at += 1;
    }
    let raw = usize::from(raw) % size;
    let (map, escapes) = (flags & 1 > 0, flags & 2 > 0);
    let block = 4096 + 64 * (usize::from(b) % 80);
    let methods = [None, Some(Method::List), Some(Method::Coded), Some(Method::Coded), Some(Method::Frame)];
    let method = methods[usize::from(method) % methods.len()];
    let mut options = EncodeOptions::new().block(block).map(map).escapes(escapes).low_part(raw);
    if let Some(method) = method {
        options = options.method(method);
    }
    let bytes = options.encode(element_type, &new, &base).expect("what can be written");
    let delta = Delta::new(&bytes).expect("a delta that was written");
    if new.len() <= REFERENCE {
        let theirs = match delta.method() {
            Method::Same => reference::Method::Same,
            Method::List => reference::Method::List,
            Method::Coded => reference::Method::Coded { m: raw, block, map: delta.has_map(), escapes },
            // Which codec it takes is the frame's affair.
            _ => return (bytes, base, new),
        };
        let common = delta.common();
        if common == delta.len() {
            let theirs = reference::encode(element_type.number(), &new, &base, common, theirs);
            assert!(theirs.is_ok_and(|theirs| theirs == bytes), "the reference writes something else");
        }
    }
    (bytes, base, new)
}

/// Changes a delta.
fn edit(bytes: &mut Vec<u8>, places: &[usize], [kind, low, high, rest @ ..]: [u8; EDIT]) {
    if bytes.is_empty() {
        return;
    }
    let near = usize::from(u16::from_le_bytes([low, high]));
    let at = match places.get(near % places.len().max(1)) {
        Some(place) if kind < 0x80 => place + usize::from(rest[2] % 4),
        _ => near,
    };
    let at = at % bytes.len();
    let value = u32::from_le_bytes([rest[0], rest[1], 0, 0]);
    match kind % 8 {
        0..=2 => bytes[at] ^= 1 << (value % 8),
        3 => bytes[at] = rest[0],
        4 => {
            if let Some(field) = bytes.get_mut(at..at + 4) {
                let old = u32::from_le_bytes([field[0], field[1], field[2], field[3]]);
                let by = i32::from(value as u16 as i16) as u32;
                field.copy_from_slice(&old.wrapping_add(by).to_le_bytes());
            }
        }
        5 => bytes.truncate(at),
        6 => drop(bytes.splice(at..at, std::iter::repeat_n(rest[0], 1 + usize::from(rest[1] % 8)))),
        _ => drop(bytes.drain(at..(at + 1 + usize::from(rest[1] % 8)).min(bytes.len()))),
    }
}

fuzz_target!(|data: &[u8]| {
    let [control, body, pattern, edits] = cut(data);
    let settings = settings(control);
    let [is_raw, repairs, elements, is_wrong] = [1, 2, 4, 8].map(|bit| settings[0] & bit > 0);
    let (bytes, base, expected) = if is_raw {
        let mut bytes = body.to_vec();
        let base = repeated(pattern, settings[10], 1 << 14);
        if repairs {
            repair(&mut bytes, &base, elements);
        }
        let found = verdict(&bytes, &base);
        (bytes, base, found)
    } else {
        let (bytes, base, new) = write(settings, pattern, body);
        assert!(verdict(&bytes, &base).as_ref() == Some(&new), "a delta is refused");
        (bytes, base, Some(new))
    };
    is_modest(&bytes, &base);
    let delta = Delta::new(&bytes);
    let common = delta.as_ref().map_or(0, |delta| delta.common() * delta.element_type().bytes());
    if let (true, Some(_), 1..) = (is_wrong, &expected, common) {
        // Another base, by one bit.
        let mut wrong = base.clone();
        let at = usize::from(u16::from_le_bytes([settings[10], settings[11]])) % common;
        wrong[at] ^= 1 << (settings[9] % 8);
        assert!(verdict(&bytes, &wrong).is_none(), "another base goes unnoticed");
    }

    let mut damaged = bytes.clone();
    let edits = &edits.as_chunks::<EDIT>().0[..(edits.len() / EDIT).min(8)];
    let found = layout(&bytes).unwrap_or_default();
    let of_blocks = found.blocks.iter().flat_map(|(entry, start, end)| {
        let fields = (0..7).map(move |field| entry + 4 * field);
        fields.chain([*start, start + 124, start + 128, (start + end) / 2, end.saturating_sub(4)])
    });
    let front = [8, 9, 10, 11, 12, 13, 14, 16, 24, 32, 36, 40, 44, 45, 46, found.header];
    let places: Vec<usize> = front.into_iter().chain(of_blocks).collect();
    edits.iter().for_each(|change| edit(&mut damaged, &places, *change));
    if damaged == bytes {
        return;
    }
    is_modest(&damaged, &base);
    let result = verdict(&damaged, &base);
    // The digest of a frame is not what decoding compares (F-6.3).
    let has_frame = delta.is_ok_and(|delta| delta.method() == Method::Frame || delta.common() < delta.len());
    if edits.len() == 1 && expected.is_some() && !has_frame {
        assert!(result.is_none(), "damage goes unnoticed");
    }
    if repairs {
        repair(&mut damaged, &base, elements);
        is_modest(&damaged, &base);
        verdict(&damaged, &base);
    }
});
