//! Addresses that are unaligned, of another device, or out of reach.

use df11::frame::{self, ElementType};
use df11_gpu::{Batch, Error, Item, RawUnit};

use crate::support::{adopt, bf16_frame, dictionary_frame, encoded, open, place, upload, weights};

#[test]
fn parts_are_adopted_at_any_address() {
    let gpu = open(7);
    let weights = weights(9000);
    let (rans, dictionary) = (bf16_frame(&weights), dictionary_frame(&weights));
    for skipped in [[0; 5], [8, 5, 15, 3, 1], [1, 2, 3, 4, 5], [7, 9, 11, 13, 15]] {
        let (_memory, unit) = adopt(&gpu, &encoded(&weights), skipped);
        let found = gpu.decode_to_host(Item::Unit(&unit));
        assert!(found.unwrap() == weights, "{skipped:?}");
        for bytes in [&rans, &dictionary] {
            let (_memory, address) = place(&gpu, bytes, skipped[1]);
            // SAFETY: the address has the bytes of the frame, in memory that stays.
            let adopted = unsafe { gpu.adopt_frame(&frame::Frame::new(bytes).unwrap(), address) }.unwrap();
            let found = gpu.decode_to_host(Item::Frame(&adopted));
            assert!(found.unwrap() == weights, "{skipped:?}");
        }
    }
}

#[test]
fn addresses_of_another_device_and_sizes_that_cannot_be_are_refused() {
    let (gpu, other) = (open(8), open(9));
    let address = other.copy(&[0; 64]).unwrap();
    let raw = RawUnit {
        luts: address.address(),
        codes: address.address(),
        sign_mantissa: address.address(),
        output_positions: address.address(),
        gaps: address.address(),
        tables: 2,
        code_bytes: 10,
        elements: 10,
    };
    let refused = |raw: RawUnit| {
        // SAFETY: the call refuses it before it reads anything.
        unsafe { gpu.adopt(raw) }.unwrap_err()
    };
    assert!(matches!(refused(raw), Error::OtherDevice { expected: 8, found: 9 }));
    for raw in [
        RawUnit { elements: 0, ..raw },
        RawUnit { elements: usize::MAX, ..raw },
        RawUnit { code_bytes: usize::MAX, ..raw },
        RawUnit { code_bytes: 1, ..raw },
    ] {
        assert!(matches!(refused(raw), Error::Invalid(_)), "{raw:?}");
    }
    assert!(gpu.allocate(1).is_ok());
}

#[test]
fn outputs_that_a_card_cannot_write_to_are_refused_and_the_device_lives_on() {
    let gpu = open(10);
    let weights = weights(4000);
    let floats = frame::encode(ElementType::F32, &[2000], &weights).unwrap();
    let bytes = frame::encode(ElementType::U8, &[8000], &weights).unwrap();
    let unit = upload(&gpu, &weights);
    let [floats, bytes] =
        [&floats, &bytes].map(|bytes| gpu.upload_frame(&frame::Frame::new(bytes).unwrap()).unwrap());
    let outputs = gpu.allocate(weights.len() + 16).unwrap();
    for (item, alignment) in [(Item::Unit(&unit), 2), (Item::Frame(&floats), 4), (Item::Frame(&bytes), 1)] {
        for skipped in [0u64, 1, 2, 3, 4, 6] {
            // The address is unaligned through the offset, or through the base address.
            for (offset, base) in [(skipped, outputs.address()), (0, outputs.address() + skipped)] {
                let batch = Batch::new(&gpu, &[(item, offset)]).unwrap();
                // SAFETY: the memory has room for the outputs, and the stream is waited for.
                let enqueued = unsafe { batch.enqueue(gpu.stream().as_raw(), base) };
                if skipped % alignment != 0 {
                    let Err(Error::Alignment { item: 0, alignment: found, .. }) = enqueued else {
                        panic!("{skipped}: {enqueued:?}");
                    };
                    assert_eq!(found, alignment);
                    continue;
                }
                enqueued.unwrap();
                // SAFETY: the stream is the device's own.
                unsafe { batch.check(gpu.stream().as_raw()).unwrap() };
                let found = outputs.to_host().unwrap();
                assert!(found[skipped as usize..][..weights.len()] == weights, "{skipped}");
            }
        }
    }
}
