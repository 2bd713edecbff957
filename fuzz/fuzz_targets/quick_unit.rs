//! Small units, thousands a second: never a panic, and the strict decoder, the plain one and one
//! range agree. `unit_decode` compares every way of decoding.
#![no_main]
use std::cell::RefCell;

use df11::Unit;
use df11_fuzz::quick;
use libfuzzer_sys::fuzz_target;

/// From so many weights on, tables of many symbols are built, which takes longer than all else.
const FEW: usize = 1000;

/// The expanded parts, and room for weights: strictly decoded, plainly, and a range.
type Memory = ([Vec<u8>; 2], [Vec<u8>; 3]);

thread_local! {
    static MEMORY: RefCell<Memory> = RefCell::default();
}

fuzz_target!(|data: &[u8]| {
    MEMORY.with_borrow_mut(|(parts, [strict, plain, part])| {
        let Ok(unit) = Unit::new(quick::unit(data, parts)) else { return };
        if unit.len() > FEW {
            return;
        }
        [&mut *strict, plain].into_iter().for_each(|weights| weights.resize(2 * unit.len(), 0));
        let verdict = unit.verify_blocks_into(0..unit.blocks(), strict);
        let decoded = unit.decode_into(plain);
        if verdict.is_ok() {
            // Plain decoding leaves rules out, and adds none.
            assert!(decoded.is_ok() && strict == plain);
            let (a, b) = (data.len() % (unit.len() + 1), data.len() / 3 % (unit.len() + 1));
            let range = a.min(b)..a.max(b);
            part.resize(2 * range.len(), 0);
            assert!(unit.decode_range_into(range.clone(), part).is_ok());
            assert!(*part == plain[2 * range.start..2 * range.end]);
        }
    });
});
