//! Small frames, thousands a second: never a panic, and block by block gives what the whole gives.
//! The first byte says whether checksums are made right first. `frame_decode` compares every way of
//! decoding, with the reference, too.
#![no_main]
use std::cell::RefCell;

use df11::frame::{DecodeTable, Frame};
use df11_fuzz::frames::repair;
use libfuzzer_sys::fuzz_target;

/// The most bytes of elements that are decoded.
const MOST: usize = 1 << 13;

/// The frame, its elements, those of a block, and the table.
type Memory = ([Vec<u8>; 3], Box<DecodeTable>);

thread_local! {
    static MEMORY: RefCell<Memory> = RefCell::new((Default::default(), Box::new(DecodeTable::new())));
}

fuzz_target!(|data: &[u8]| {
    let [how, data @ ..] = data else { return };
    MEMORY.with_borrow_mut(|([bytes, elements, part], table)| {
        bytes.clear();
        bytes.extend_from_slice(data);
        if how % 4 > 0 {
            repair(bytes, how % 4 > 2);
        }
        let Ok(frame) = Frame::new(bytes) else { return };
        if frame.elements_bytes() > MOST {
            return;
        }
        elements.resize(frame.elements_bytes(), 0);
        let whole = frame.decode_in(table, elements);
        let (header, size) = (frame.header(), frame.header().element_type().bytes());
        for block in 0..header.blocks() {
            let range = header.block_range(block);
            part.resize(range.len() * size, 0);
            let decoded = frame.decode_block_into(table, block, part);
            let expected = &elements[range.start * size..range.end * size];
            assert!(whole.is_err() || (decoded.is_ok() && part == expected));
        }
    });
});
