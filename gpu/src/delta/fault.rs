//! What kernels found wrong.

use super::{ALL_RIGHT, Placed};

/// The number of bits of a status that say what is wrong; the others are the number of the block.
pub(super) const FAULT_BITS: u32 = 4;

/// A fault that kernels found in a delta or its base.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct DeltaFault {
    /// The block of the delta, the first one if there are several; 0 where it has none.
    pub block: usize,
    /// The broken clause of DELTA.md or RANS.md.
    pub clause: &'static str,
    /// Whether elements are lost. If not, the base is another than the delta was made against, and
    /// nothing has been changed.
    pub is_lost: bool,
}

/// `WRONG_BASE` and `WRONG_RESULT` of `delta_block.cuh`.
const WRONG_BASE: u32 = 8;
const WRONG_RESULT: u32 = 7;

/// The broken clause for each lower fault code of `delta_apply`.
const CLAUSES: [&str; 6] = ["R-5.3", "R-5.4", "R-5.4", "R-5.5", "B-5.8", "B-5.8"];

impl DeltaFault {
    /// Decodes a status of a delta.
    #[must_use]
    pub fn of(status: u32, delta: &Placed) -> Option<Self> {
        if status == ALL_RIGHT {
            return None;
        }
        let (block, code) = ((status >> FAULT_BITS) as usize, status & ((1 << FAULT_BITS) - 1));
        let clause = match code {
            WRONG_BASE => delta.clause(false),
            WRONG_RESULT => delta.clause(delta.common == 0),
            _ => CLAUSES.get((code as usize).wrapping_sub(1)).copied().unwrap_or("B-5.8"),
        };
        Some(DeltaFault { block, clause, is_lost: code != WRONG_BASE })
    }
}
