//! Tables built from any lengths lead back to their codewords; any bytes as tables never panic.
#![no_main]
use df11::hazmat::huffman::{CodeLengths, Codewords, PrefixTables, PrefixTablesBuf};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (Vec<(u8, u8)>, Vec<u32>, &[u8])| {
    let (lengths, windows, luts) = input;
    let mut table = [0; 256];
    for (symbol, length) in lengths {
        table[usize::from(symbol)] = length % 34;
    }
    if let Ok(code) = CodeLengths::new(&table).and_then(|lengths| Codewords::canonical(&lengths))
        && let Ok(tables) = PrefixTablesBuf::build(&code)
    {
        assert_eq!(Codewords::from_tables(&tables.view()), code);
        assert!(PrefixTables::new(tables.as_bytes()).is_ok());
        for symbol in (0..240).filter(|&symbol| code.len(symbol) > 0) {
            for window in &windows {
                let free = 32 - u32::from(code.len(symbol));
                let low = window.checked_shr(32 - free).unwrap_or(0);
                let code_bits = code.bits(symbol) << free | low;
                assert_eq!(tables.view().decode(code_bits, 0), Ok((symbol, code.len(symbol))));
            }
        }
    }
    if let Ok(tables) = PrefixTables::new(luts) {
        let _ = Codewords::from_tables(&tables);
        for window in windows {
            if let Ok((symbol, length)) = tables.decode(window, 0) {
                assert!(symbol < 240 && (1..=32).contains(&length));
            }
        }
    }
});
