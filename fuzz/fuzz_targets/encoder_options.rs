//! Any weights under any options, and under any code lengths: what encodes comes back; what does
//! not is an error.
#![no_main]
use df11::bf16;
use df11::hazmat::huffman::CodeLengths;
use df11::{EncodeOptions, Plan};
use df11_fuzz::{encodes_alike, representable, verdict};
use libfuzzer_sys::fuzz_target;

/// Weights, the least and the greatest length, lengths by symbol, and other weights.
type Input = (Vec<u16>, u8, u8, Vec<(u8, u8)>, Vec<u16>);

fuzz_target!(|input: Input| {
    let (weights, least, max, lengths, other) = input;
    let all = representable(&weights);
    let mut frequencies = [0; 256];
    bf16::add_to_histogram(&all, &mut frequencies).unwrap();
    let mut table = [0; 256];
    for (symbol, length) in lengths {
        table[usize::from(symbol)] = length % 40;
    }
    let options = EncodeOptions::new().least_code_length(least % 12).max_code_length(max % 40);
    let plans = [
        Plan::new(&[&all], &options),
        CodeLengths::new(&table).and_then(|lengths| Plan::with_lengths(&frequencies, 1, &lengths)),
    ];
    for plan in plans.into_iter().flatten() {
        let encoded = plan.encode(&[&all]).unwrap();
        encodes_alike(&plan, &[&all], 1 + usize::from(least), &encoded);
        assert_eq!(encoded.as_slices().sign_mantissa.len(), plan.sizes().sign_mantissa);
        assert_eq!(verdict(encoded.as_slices()).as_ref(), Some(&all));
        assert_eq!(plan.largest_block(&[&all]).unwrap(), encoded.as_unit().largest_block());
        // Other weights than were planned: an error, or a sound unit.
        let other = representable(&other);
        if let Ok(encoded) = plan.encode(&[&other]) {
            assert_eq!(verdict(encoded.as_slices()), Some(other));
        }
    }
});
