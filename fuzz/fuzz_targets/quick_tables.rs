//! Small codes and tables, thousands a second: tables of lengths lead back to their codewords, and
//! any bytes as tables never panic. `tables` looks up many more.
#![no_main]
use std::cell::RefCell;

use df11::hazmat::huffman::{CodeLengths, Codewords, PrefixTables, PrefixTablesBuf};
use df11_fuzz::{cut, quick};
use libfuzzer_sys::fuzz_target;

/// The most symbols whose codewords are looked up.
const FEW: usize = 16;

thread_local! {
    static MEMORY: RefCell<Vec<u8>> = RefCell::default();
}

fuzz_target!(|data: &[u8]| {
    let [lengths, windows, luts] = cut(data);
    let mut table = [0; 256];
    for [symbol, length] in lengths.as_chunks::<2>().0 {
        table[usize::from(*symbol)] = length % 34;
    }
    let windows = windows.as_chunks::<4>().0.iter().take(8).map(|window| u32::from_le_bytes(*window));
    if let Ok(code) = CodeLengths::new(&table).and_then(|lengths| Codewords::canonical(&lengths))
        && let Ok(tables) = PrefixTablesBuf::build(&code)
    {
        for symbol in (0..240).filter(|&symbol| code.len(symbol) > 0).take(FEW) {
            let free = 32 - u32::from(code.len(symbol));
            let low = windows.clone().next().unwrap_or(0).checked_shr(32 - free).unwrap_or(0);
            let code_bits = code.bits(symbol) << free | low;
            assert_eq!(tables.view().decode(code_bits, 0), Ok((symbol, code.len(symbol))));
        }
    }
    MEMORY.with_borrow_mut(|bytes| {
        quick::lengthen(luts, bytes);
        if let Ok(tables) = PrefixTables::new(bytes) {
            for window in windows {
                if let Ok((symbol, length)) = tables.decode(window, 0) {
                    assert!(symbol < 240 && (1..=32).contains(&length));
                }
            }
        }
    });
});
