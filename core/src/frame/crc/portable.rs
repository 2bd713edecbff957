//! CRC-32 (section 8) for machines without instructions for it, where a library's tables would take
//! most of the room: 4 KiB of tables instead of 16, for as many instructions.
//!
//! The algorithm takes a byte at a time; here are four at a time: each byte's part of the state is
//! shifted by a table that knows how many bytes follow it.

/// The state that a byte leaves behind after as many zeros as the table's number.
static TABLES: [[u32; 256]; 4] = {
    let mut tables = [[0; 256]; 4];
    let mut byte = 0;
    while byte < 256 {
        let mut state = byte as u32;
        let mut bit = 0;
        while bit < 8 {
            state = state >> 1 ^ (0xedb8_8320 & (state & 1).wrapping_neg());
            bit += 1;
        }
        tables[0][byte] = state;
        byte += 1;
    }
    let mut table = 1;
    while table < 4 {
        let mut byte = 0;
        while byte < 256 {
            let before: u32 = tables[table - 1][byte];
            tables[table][byte] = before >> 8 ^ tables[0][before as usize & 0xff];
            byte += 1;
        }
        table += 1;
    }
    tables
};

/// CRC-32, continued from `seed`.
pub(super) fn crc(seed: u32, bytes: &[u8]) -> u32 {
    let [t0, t1, t2, t3] = &TABLES;
    let (words, rest) = bytes.as_chunks();
    let mut state = !seed;
    for word in words {
        let [a, b, c, d] = (state ^ u32::from_le_bytes(*word)).to_le_bytes().map(usize::from);
        state = t3[a] ^ t2[b] ^ t1[c] ^ t0[d];
    }
    for byte in rest {
        state = state >> 8 ^ t0[usize::from(state as u8 ^ byte)];
    }
    !state
}

#[cfg(test)]
mod tests {
    #[test]
    fn agrees_with_the_library_at_every_length_and_from_every_seed() {
        let bytes: [u8; 67] = core::array::from_fn(|i| (i as u8).wrapping_mul(151).wrapping_add(7));
        for len in 0..=bytes.len() {
            for seed in [0, 1, 0x8000_0000, u32::MAX] {
                let mut hasher = crc32fast::Hasher::new_with_initial(seed);
                hasher.update(&bytes[..len]);
                assert_eq!(super::crc(seed, &bytes[..len]), hasher.finalize(), "{len} {seed}");
            }
        }
    }
}
