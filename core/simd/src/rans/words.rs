//! Which lanes take words, and which give them: tables for byte shuffles, eight lanes at a time.

/// For each mask of eight lanes: the bytes of the words that each lane takes, if those in the mask
/// take one each, in order; for the others, what no shuffle finds a byte for.
pub(crate) static EXPAND: [[u8; 16]; 256] = {
    let mut table = [[0x80; 16]; 256];
    let mut mask = 0;
    while mask < 256 {
        let (mut lane, mut next) = (0, 0);
        while lane < 8 {
            if mask >> lane & 1 == 1 {
                (table[mask][2 * lane], table[mask][2 * lane + 1]) = (next, next + 1);
                next += 2;
            }
            lane += 1;
        }
        mask += 1;
    }
    table
};

/// For each mask of eight lanes: the bytes of the words of the lanes in it, in order.
pub(crate) static COMPRESS: [[u8; 16]; 256] = {
    let mut table = [[0; 16]; 256];
    let mut mask = 0;
    while mask < 256 {
        let (mut lane, mut next) = (0, 0);
        while lane < 8 {
            if mask >> lane & 1 == 1 {
                (table[mask][next], table[mask][next + 1]) = (2 * lane, 2 * lane + 1);
                next += 2;
            }
            lane += 1;
        }
        mask += 1;
    }
    table
};
