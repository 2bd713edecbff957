//! Inputs of encoders, and inputs that they must refuse.

use df11::bf16;
use df11_judge::vectors::Outcome;

use super::cases::{Cases, about, two_bits};
use crate::weights::{fibonacci_exponents, like_trained, with_exponents};

pub(super) fn encoder_cases(cases: &mut Cases) {
    let refuse = |error| (Outcome::Invalid, Some(error));
    for (id, weight) in [
        ("encode-exponent-240", 0x7800u16),
        ("encode-largest", 0x7f7f),
        ("encode-infinity", 0x7f80),
        ("encode-negative-infinity", 0xff80),
        ("encode-quiet-nan", 0x7fc0),
        ("encode-signalling-nan", 0xff81),
    ] {
        let mut weights = like_trained(300, 4);
        weights[123] = weight;
        let (result, error) = refuse("Unsupported");
        let about =
            about(id, "one weight has an exponent of 240 or more", &["Unrepresentable"], &["D-4.1", "D-1.3"]);
        cases.encoder(about, &[weights], result, error);
    }
    let (result, error) = refuse("Unsupported");
    cases.encoder(
        about("encode-nothing", "no elements", &["Unrepresentable"], &["D-3.4", "D-1.3"]),
        &[vec![]],
        result,
        error,
    );
    let (result, error) = refuse("Unsupported");
    let about_all = about("encode-alphabet-256", "every exponent", &["Unrepresentable"], &["D-4.1", "D-1.3"]);
    cases.encoder(about_all, &[with_exponents(0..=255, 1)], result, error);
    let slowly = (0..240u32).flat_map(|e| std::iter::repeat_n(e as u8, 1 + (240 - e as usize) / 8));
    for (id, comment, tensors) in [
        ("encode-one", "one element", vec![vec![0x3f80]]),
        ("encode-constant", "one exponent", vec![vec![0xbf80; 33_000]]),
        ("encode-zeros", "signed zeros", vec![vec![0, 0x8000, 0, 0, 0x8000]]),
        ("encode-two-tensors", "two tensors", vec![like_trained(500, 1), like_trained(300, 2)]),
        (
            "encode-empty-tensor",
            "an empty tensor between others",
            vec![like_trained(50, 1), vec![], like_trained(30, 2)],
        ),
        ("encode-block", "exactly one block", vec![two_bits(16_384)]),
        ("encode-block-and-one", "one block and one element", vec![two_bits(16_385)]),
        ("encode-alphabet-240", "every symbol", vec![with_exponents(0..240, 1)]),
        ("encode-many-tables", "a best code of more than 17 tables", vec![with_exponents(slowly, 1)]),
        ("encode-fibonacci", "long codewords", vec![with_exponents(fibonacci_exponents(60, 17, 1), 1)]),
        ("encode-normal", "values spread like trained weights", vec![like_trained(10_000, 3)]),
        (
            "encode-patterns",
            "bit patterns of every exponent below 240",
            vec![(0..=u16::MAX).step_by(7).filter(|w| bf16::exponent(*w) < 240).collect()],
        ),
    ] {
        let many = if id == "encode-many-tables" { &["D-11.5"][..] } else { &[] };
        cases.encoder(
            about(id, comment, &[], &[&["D-1.3", "D-11.2", "D-11.4"], many].concat()),
            &tensors,
            Outcome::Valid,
            None,
        );
    }
}
