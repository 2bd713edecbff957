//! Small archives of dietgpu, thousands a second: never a panic, nothing read outside of them.
//! `dietgpu` encodes, too.
#![no_main]
use std::cell::RefCell;

use df11::dietgpu::{Archive, FloatArchive};
use df11::hazmat::rans::DecodeTable;
use libfuzzer_sys::fuzz_target;

/// The most bytes of elements that are decoded.
const MOST: usize = 1 << 13;

thread_local! {
    static MEMORY: RefCell<(Vec<u8>, Box<DecodeTable>)> = RefCell::new((Default::default(), Box::new(DecodeTable::new())));
}

fuzz_target!(|data: &[u8]| {
    MEMORY.with_borrow_mut(|(elements, table)| {
        if let Ok(archive) = Archive::new(data) {
            assert!(archive.archive_len() <= data.len());
            if archive.len() <= MOST {
                elements.resize(archive.len(), 0);
                let _ = archive.decode_in(table, elements);
            }
        } else if let Ok(archive) = FloatArchive::new(data) {
            assert!(archive.archive_len() <= data.len());
            let bytes = archive.len().saturating_mul(archive.element_type().bytes());
            if bytes <= MOST {
                elements.resize(bytes, 0);
                let _ = archive.decode_in(table, elements);
            }
        }
    });
});
