//! The bytes of headers.

use alloc::vec::Vec;

use super::pad;
use crate::frame::header::Model;
use crate::frame::{ALIGNMENT, Header, MAGIC, VERSION, crc};

impl Header {
    /// The bytes of the header.
    pub(super) fn to_bytes(&self) -> Vec<u8> {
        let Header { element_type, block, len, rank, model, .. } = self;
        let mut bytes = Vec::with_capacity(256);
        bytes.extend(MAGIC);
        let (codec, number, bits) = model.numbers();
        bytes.extend([VERSION, element_type.number(), codec.number(), number, bits, *rank as u8, 0, 0]);
        bytes.extend((*len as u64).to_le_bytes());
        bytes.extend((block.get() as u32).to_le_bytes());
        bytes.extend([0; 4]);
        self.shape().for_each(|dimension| bytes.extend(dimension.to_le_bytes()));
        match model {
            Model::None => {}
            Model::Frequencies(frequencies) => {
                let all = frequencies.as_array();
                bytes.extend(alphabet(|symbol| all[symbol] > 0));
                let used = all.iter().filter(|frequency| **frequency > 0);
                used.for_each(|frequency| bytes.extend(frequency.to_le_bytes()));
            }
            Model::Dictionary(model) => {
                let costs = [model.first_costs(), model.following_costs()];
                bytes.extend(alphabet(|symbol| costs[0][symbol] > 0));
                bytes.extend(costs.into_iter().flatten().filter(|cost| **cost > 0));
                bytes.extend(model.limit().to_le_bytes());
                bytes.extend(model.remainder().to_le_bytes());
            }
        }
        pad(&mut bytes, 4);
        bytes.extend(crc(0, &bytes).to_le_bytes());
        pad(&mut bytes, ALIGNMENT);
        bytes
    }
}

/// The marks of symbols (F-3.1).
fn alphabet(is_in: impl Fn(usize) -> bool) -> [u8; 32] {
    core::array::from_fn(|byte| (0..8).fold(0, |bits, i| bits | u8::from(is_in(8 * byte + i)) << i))
}
