//! What kernels that multiply matrices with vectors are given: see `gpu/kernels/gemv.cuh`, which
//! also says in which order they sum up.

use std::ops::Range;

use crate::kernels::WARPS;

/// The number of elements of a segment, which a warp multiplies.
pub const SEGMENT: usize = 1024;

/// The number of elements of a block of a launch, which a thread block multiplies at a time.
pub const BLOCK_ELEMENTS: usize = SEGMENT * WARPS as usize;

/// The largest number of vectors of a launch.
pub const MOST_VECTORS: usize = 8;

/// The largest number of elements of a matrix.
pub const MOST_ELEMENTS: usize = 1 << 31;

/// Returns the number of vectors that the kernel for this many has room for: 1, 2, 4 or 8. It is
/// the end of the kernel's name.
///
/// ```
/// assert_eq!(df11_gpu::gemv::room(3), 4);
/// ```
#[must_use]
pub const fn room(vectors: usize) -> usize {
    match vectors {
        0 | 1 => 1,
        2 => 2,
        3 | 4 => 4,
        _ => MOST_VECTORS,
    }
}

/// Returns the blocks of a unit that have the elements of a range, from the unit's output
/// positions. The range must not be empty, and positions must not decrease.
///
/// ```
/// let positions: Vec<u8> = [0u32, 100, 200, 300].into_iter().flat_map(u32::to_le_bytes).collect();
/// assert_eq!(df11_gpu::gemv::unit_blocks(&positions, 100..201), 1..3);
/// ```
#[must_use]
pub fn unit_blocks(positions: &[u8], elements: Range<usize>) -> Range<u32> {
    // The last entry is the number of elements, which some units lack.
    let positions = positions.as_chunks::<4>().0;
    let at = |entry: &[u8; 4]| u32::from_le_bytes(*entry) as usize;
    let begin = positions.partition_point(|entry| at(entry) <= elements.start);
    let end = positions.partition_point(|entry| at(entry) < elements.end);
    begin.saturating_sub(1) as u32..end as u32
}

/// A product of a matrix with a batch of vectors, but for the matrix: `struct Product` of
/// `gemv.cuh`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Product {
    /// The vectors' offset in bytes from the address that a launch is given.
    pub x: u64,
    /// The results' offset in bytes from the address that a launch is given.
    pub y: u64,
    /// The address of a bias for each row; 0 for none.
    pub bias: u64,
    /// The offset of what is added to the results, where they are, from the address of results;
    /// `None` for nothing.
    pub residual: Option<u64>,
    /// The address of [`piece_bytes`](Self::piece_bytes) that a launch uses.
    pub pieces: u64,
    /// The address of [`counter_bytes`](Self::counter_bytes), which are 0 between launches.
    pub arrived: u64,
    /// The number of elements from one vector to the next.
    pub x_stride: u64,
    /// The number of elements from the results of one vector to those of the next.
    pub y_stride: u64,
    /// The number of rows.
    pub rows: u32,
    /// The number of columns.
    pub columns: u32,
    /// The number of the product's first block among all blocks of a launch.
    pub first_block: u32,
    /// The number of its blocks.
    pub blocks: u32,
    /// Whether results are F32; otherwise they are BF16.
    pub is_wide: bool,
}

impl Product {
    /// Returns the number of elements of the matrix.
    #[must_use]
    pub const fn elements(&self) -> usize {
        self.rows as usize * self.columns as usize
    }

    /// Returns the number of blocks of 8,192 elements.
    #[must_use]
    pub const fn even_blocks(&self) -> u32 {
        self.elements().div_ceil(BLOCK_ELEMENTS) as u32
    }

    /// Returns the number of bytes of sums of pieces, for this many vectors.
    #[must_use]
    pub const fn piece_bytes(&self, vectors: usize) -> usize {
        4 * vectors * (self.elements().div_ceil(SEGMENT) + self.rows as usize)
    }

    /// Returns the number of bytes of counters of pieces, for this many vectors.
    #[must_use]
    pub const fn counter_bytes(&self, vectors: usize) -> usize {
        4 * vectors * self.rows as usize
    }

    /// Returns the description in the form of the kernels.
    #[must_use]
    pub fn describe(&self) -> [u64; 12] {
        let pair = |low: u32, high: u32| u64::from(low) | u64::from(high) << 32;
        let has_residual = self.residual.is_some();
        [
            self.x,
            self.y,
            self.bias,
            self.residual.unwrap_or(0),
            self.pieces,
            self.arrived,
            self.x_stride,
            self.y_stride,
            pair(self.rows, self.columns),
            pair(self.first_block, self.blocks),
            u64::from(self.is_wide) | u64::from(has_residual) << 1,
            0,
        ]
    }
}
