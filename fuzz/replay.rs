//! Replays units without a fuzzer, for measuring coverage: `replay DIRECTORY ...`.

use df11::{Unit, encode};
use df11_fuzz::{Parts, exercise, verdict};

fn main() {
    let mut count = 0;
    for directory in std::env::args().skip(1) {
        for entry in std::fs::read_dir(directory).expect("a directory of units") {
            let data = std::fs::read(entry.expect("an entry").path()).expect("a unit");
            let parts = Parts::parse(&data);
            if let Some(weights) = verdict(parts.tensors()) {
                let encoded = encode(&weights).expect("weights that were in a unit fit one");
                assert_eq!(verdict(encoded.as_slices()), Some(weights));
            }
            match Unit::new(parts.tensors()) {
                Ok(unit) => exercise(&unit, data.len() as u32 / 3, data.len() as u32),
                Err(error) => assert!(error.clause().is_some()),
            }
            count += 1;
        }
    }
    println!("{count} units");
}
