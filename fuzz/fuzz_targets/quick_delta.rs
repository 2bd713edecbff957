//! Small deltas against one base, thousands a second: never a panic, and ranges and elements in
//! place are what the whole is. The first byte says whether checksums are made right first.
//! `delta_decode` compares every way of decoding, with the reference, too.
#![no_main]
use std::cell::RefCell;

use df11::delta::{DecodeTable, Delta};
use df11_fuzz::deltas::{base, repair};
use libfuzzer_sys::fuzz_target;

/// The most bytes of elements that are decoded, and the bytes of the base.
const MOST: usize = 1 << 13;

struct Memory {
    base: Vec<u8>,
    bytes: Vec<u8>,
    whole: Vec<u8>,
    part: Vec<u8>,
    table: Box<DecodeTable>,
}

thread_local! {
    static MEMORY: RefCell<Memory> = RefCell::new(Memory {
        base: base(MOST),
        bytes: Vec::new(),
        whole: Vec::new(),
        part: Vec::new(),
        table: Box::new(DecodeTable::new()),
    });
}

fuzz_target!(|data: &[u8]| {
    let [how, data @ ..] = data else { return };
    MEMORY.with_borrow_mut(|Memory { base, bytes, whole, part, table }| {
        bytes.clear();
        bytes.extend_from_slice(data);
        if how % 4 > 0 {
            repair(bytes, base, how % 4 > 1);
        }
        let Ok(delta) = Delta::new(bytes) else { return };
        let size = delta.element_type().bytes();
        if delta.len() > MOST / size {
            return;
        }
        whole.resize(delta.len() * size, 0);
        let applied = delta.apply_in(table, base, whole);
        // What is restored over the base.
        let common = delta.common() * size;
        part.clear();
        part.extend_from_slice(&base[..common]);
        part.resize(whole.len(), 0);
        let in_place = delta.apply_in_place(table, part);
        assert!(applied.is_ok() == in_place.is_ok() && (applied.is_err() || part == whole));
        let cut = delta.len() * usize::from(*how) / 256;
        for range in [0..cut, cut..delta.len()] {
            part.resize(range.len() * size, 0);
            let decoded = delta.apply_range_in(table, base, range.clone(), part);
            let expected = &whole[range.start * size..range.end * size];
            assert!(applied.is_err() || (decoded.is_ok() && part == expected));
        }
    });
});
