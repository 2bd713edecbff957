//! Counts of the work that a kernel does.

/// The counts of one launch, or the sums of several. They depend only on the kernel and its data.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// PTX instructions, counted once for each group of lanes of a warp that runs them.
    pub warp_instructions: u64,
    /// PTX instructions, counted once for each lane. Divided by 32 times
    /// [`warp_instructions`](Self::warp_instructions), this is the share of active lanes.
    pub lane_instructions: u64,
    /// Sectors of 32 bytes of global memory that instructions read.
    pub load_sectors: u64,
    /// Sectors of 32 bytes of global memory that instructions wrote.
    pub store_sectors: u64,
    /// Accesses of shared memory by warps.
    pub shared_accesses: u64,
    /// Shared-memory wavefronts for these accesses. Each of the 32 banks of 4 bytes delivers one
    /// word per wavefront.
    pub shared_wavefronts: u64,
    /// Wavefronts above the minimum: those caused by bank conflicts.
    pub shared_conflicts: u64,
    /// For each line of the PTX text, from 1 on: the number of times that warps ran its
    /// instruction.
    pub by_line: Vec<u64>,
}

impl Counters {
    /// Returns the share of active lanes, from 0 to 1.
    #[must_use]
    pub fn lane_efficiency(&self) -> f64 {
        self.lane_instructions as f64 / (32 * self.warp_instructions).max(1) as f64
    }

    /// Adds the counts of another launch.
    pub fn add(&mut self, other: &Counters) {
        self.warp_instructions += other.warp_instructions;
        self.lane_instructions += other.lane_instructions;
        self.load_sectors += other.load_sectors;
        self.store_sectors += other.store_sectors;
        self.shared_accesses += other.shared_accesses;
        self.shared_wavefronts += other.shared_wavefronts;
        self.shared_conflicts += other.shared_conflicts;
        if self.by_line.len() < other.by_line.len() {
            self.by_line.resize(other.by_line.len(), 0);
        }
        self.by_line.iter_mut().zip(&other.by_line).for_each(|(sum, count)| *sum += count);
    }

    /// Counts an access of shared memory: `addresses` are those of the lanes, each for `size`
    /// bytes.
    pub(crate) fn shared(&mut self, addresses: &[u64], size: u64) {
        // Accesses of 8 and 16 bytes are served by half and quarter warps.
        let together = (128 / size.max(4)) as usize;
        self.shared_accesses += 1;
        for lanes in addresses.chunks(together) {
            let mut words: Vec<u64> =
                lanes.iter().flat_map(|address| (address / 4)..(address + size).div_ceil(4)).collect();
            words.sort_unstable();
            words.dedup();
            let mut banks = [0u64; 32];
            words.iter().for_each(|word| banks[(word % 32) as usize] += 1);
            let wavefronts = banks.into_iter().max().unwrap_or(0);
            self.shared_wavefronts += wavefronts;
            self.shared_conflicts += wavefronts - (words.len() as u64).div_ceil(32);
        }
    }

    /// Counts the distinct sectors that an access of global memory touches.
    pub(crate) fn sectors(addresses: &[u64], size: u64) -> u64 {
        let mut sectors: Vec<u64> =
            addresses.iter().flat_map(|address| address / 32..=(address + size - 1) / 32).collect();
        sectors.sort_unstable();
        sectors.dedup();
        sectors.len() as u64
    }
}
